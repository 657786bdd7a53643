"""The loss of signed distances that a volumetric network regresses (B.5)."""

import torch
from torch import Tensor


def log_transform(tsdf: Tensor) -> Tensor:
    """``sign(x) log(1 + |x|)``: errors near the surface count more than those far off.

    Odd, rising, and of slope 1 at 0.
    """
    return tsdf.sign() * torch.log1p(tsdf.abs())


def supervised_voxels(observed: Tensor) -> Tensor:
    """Voxels that teach something, (..., X, Y, Z) bool.

    Those that were observed, and whole columns along z of which nothing was: as in Atlas, they
    are outside of the room, and the field is -1 there.
    """
    return observed | ~observed.any(dim=-1, keepdim=True)


def tsdf_loss(prediction: Tensor, tsdf: Tensor, counts: Tensor, *, log: bool = False) -> Tensor:
    """Mean absolute difference over the voxels that count; 0 if there is none.

    Args:
        prediction: (..., X, Y, Z) in [-1, 1].
        tsdf: the truth, of the same shape and sign.
        counts: of the same shape, bool; other voxels have no gradient.
        log: of both after `log_transform`.
    """
    if log:
        prediction, tsdf = log_transform(prediction), log_transform(tsdf)
    difference = torch.where(counts, prediction - tsdf, 0.0).abs()
    return difference.sum() / counts.sum().clamp(min=1)
