"""Losses of layered refinement: depth, and what the gate should let through.

*Layered Depth Refinement with Mask Guidance* (CVPR 2022), sec. 3.3. All maps are (B, 1, H, W)
float; depths are inverse, on the network's scale; a ``weight`` of 0 marks what was not measured.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

STAKES = (0.05, 0.5)
"""How much a pixel counts in the gate's loss at least, and the difference of the errors of layer
and input, on the scale of 0 to 10, from which it counts in full (what R3 counts)."""

Stencil = Literal["forward", "central2"]
"""Which pixels a gradient compares: neighbours (MiDaS), or those two apart (MegaDepth)."""

SCALES = 4
"""Sub-samplings of the residual, by strides 1, 2, 4, 8, that the gradient loss sums over."""


def depth_loss(
    prediction: Tensor,
    target: Tensor,
    weight: Tensor,
    *,
    stencil: Stencil = "forward",
) -> Tensor:
    """L1 + L2 + multi-scale gradient loss, each with weight 1.

    Every term is a weighted mean per image, then the mean over the batch, so that an image with
    few measured pixels counts as much as one with many. Images without any count as 0.

    Args:
        prediction: inverse depth.
        target: the true inverse depth; anything where ``weight`` is 0.
        weight: at least 0; 0 takes a pixel, and every pair it is part of, out of the loss.
        stencil: see `gradient_loss`.
    """
    residual = _residual(prediction, target, weight)
    values = residual.abs() + residual.square()
    pixels = (weight * values).sum(dim=(1, 2, 3)) / _total(weight)
    return (pixels + gradient_loss(residual, weight, stencil=stencil)).mean()


def gradient_loss(
    residual: Tensor,
    weight: Tensor,
    *,
    stencil: Stencil = "forward",
) -> Tensor:
    """Multi-scale gradient matching (Li & Snavely, MegaDepth, CVPR 2018).

    ``sum_k 1/n_k sum_i |d_x R_k| + |d_y R_k|``, R_k being every 2^k-th pixel of the residual and
    n_k the weight of the pixels at that scale (MiDaS). A pair weighs what its lesser member does.

    Args:
        residual: prediction - target, finite.
        weight: at least 0.
        stencil: ``forward`` R[i+1] - R[i], ``central2`` R[i+2] - R[i].

    Returns:
        (B,), one loss for each image.
    """
    reach = {"forward": 1, "central2": 2}[stencil]
    loss = residual.new_zeros(len(residual))
    for k in range(SCALES):
        r, w = residual[..., :: 2**k, :: 2**k], weight[..., :: 2**k, :: 2**k]
        for dim in (2, 3):
            count = max(r.shape[dim] - reach, 0)
            pair = torch.minimum(w.narrow(dim, 0, count), w.narrow(dim, -count, count))
            slope = (r.narrow(dim, -count, count) - r.narrow(dim, 0, count)).abs()
            loss = loss + (pair * slope).sum(dim=(1, 2, 3)) / _total(w)
    return loss


def gate_loss(
    logit: Tensor,
    layer: Tensor,
    rough: Tensor,
    target: Tensor,
    weight: Tensor,
    *,
    tolerance: float,
) -> Tensor:
    """Binary cross entropy of the gate against where the layer improves on the input.

    That is not where the input is wrong (`must_change`): where the layer is as wrong, the input
    stays. Pixels count by what is to gain or to lose there, `STAKES`. No gradient reaches the
    layer. Weighted mean per image, then over the batch, as in `depth_loss`.
    """
    gain = (rough - target).abs() - (layer.detach() - target).abs()
    entropy = F.binary_cross_entropy_with_logits(
        logit, (gain > tolerance).to(logit.dtype), reduction="none"
    )
    entropy = (gain.abs() / STAKES[1]).clamp(STAKES[0], 1) * entropy
    return ((weight * entropy).sum(dim=(1, 2, 3)) / _total(weight)).mean()


def harm(
    refined: Tensor,
    rough: Tensor,
    target: Tensor,
    weight: Tensor,
) -> Tensor:
    """By how much the refined map is farther from the truth than the rough one was.

    Weighted mean per image of ``max(|refined - target| - |rough - target|, 0)``, then over the
    batch. Beside the depth losses, which reward an improvement as much as they punish a loss, it
    makes a change worth its risk only where it is likely to be right.
    """
    added = F.relu((refined - target).abs() - (rough - target).abs())
    return ((weight * added).sum(dim=(1, 2, 3)) / _total(weight)).mean()


def must_change(rough: Tensor, target: Tensor, tolerance: float) -> Tensor:
    """Where the input is further than ``tolerance`` from the layer it should become, bool."""
    return (rough - target).abs() > tolerance


def blend(
    rough: Tensor,
    layer: Tensor,
    gate: Tensor,
) -> Tensor:
    """The layer as it is used: ``layer`` where the gate is 1, the input where it is 0."""
    return rough + gate * (layer - rough)


def near_boundary(mask: Tensor, width: int) -> Tensor:
    """Pixels within ``width`` pixels (in x and y) of the other side of the mask, bool."""
    share = (mask > 0.5).float()
    for across in ((1, 0), (0, 1)):  # one axis after the other: far faster than a square
        window, padding = (
            [1 + 2 * width * side for side in across],
            [width * side for side in across],
        )
        share = F.avg_pool2d(share, window, stride=1, padding=padding, count_include_pad=False)
    return (share > 1e-5) & (share < 1 - 1e-5)


def _residual(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """prediction - target, 0 where the target was not measured."""
    return torch.where(weight > 0, prediction - target, 0)


def _total(weight: Tensor) -> Tensor:
    """The weight of each image, (b,); 1 where it is 0, because 0 / 1 is a loss and 0 / 0 is not."""
    total = weight.sum(dim=(1, 2, 3))
    return torch.where(total > 0, total, 1)
