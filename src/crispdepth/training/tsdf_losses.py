"""The loss of signed distances that a volumetric network regresses (B.5)."""

import torch
from torch import Tensor

OUTSIDE = 0.1
"""What all the columns that nobody saw weigh beside all the voxels that were seen."""


def log_transform(tsdf: Tensor) -> Tensor:
    """``sign(x) log(1 + |x|)``: errors near the surface count more than those far off.

    Odd, rising, and of slope 1 at 0.
    """
    return tsdf.sign() * torch.log1p(tsdf.abs())


def tsdf_weights(observed: Tensor) -> Tensor:
    """How much each voxel teaches, (..., X, Y, Z).

    The voxels that were observed weigh 1 together; whole columns along z in which none was weigh
    `OUTSIDE` together: as in Atlas, they are outside of the room, and the field is -1 there. They
    are most of a box, and a mean over all voxels alike teaches -1 everywhere and nothing else.
    """
    outside = (~observed.any(dim=-1, keepdim=True)).expand_as(observed)
    space = (-3, -2, -1)
    seen, unseen = (
        part.to(torch.float32) / part.sum(space, keepdim=True).clamp(min=1)
        for part in (observed, outside)
    )
    return seen + OUTSIDE * unseen


def tsdf_loss(prediction: Tensor, tsdf: Tensor, weights: Tensor, *, log: bool = False) -> Tensor:
    """Weighted mean absolute difference over voxels; 0 if none counts.

    Args:
        prediction: (..., X, Y, Z) in [-1, 1].
        tsdf: the truth, of the same shape and sign.
        weights: of the same shape, >= 0; voxels of weight 0 have no gradient.
        log: of both after `log_transform`.
    """
    if log:
        prediction, tsdf = log_transform(prediction), log_transform(tsdf)
    difference = torch.where(weights > 0, prediction - tsdf, 0.0).abs() * weights
    total = weights.sum()
    return difference.sum() / torch.where(total > 0, total, 1.0)
