"""A first estimate of a layer without any parameter, for a network to correct."""

import torch
from torch import Tensor
from torch.nn import functional as F

CELL = 4
"""Side in pixels of the cells in which a layer is continued; what is continued is smooth."""

LEVELS = 3
"""Times the cells are halved (32 pixels then); above that the mean of the layer fills the rest."""

DISTRUST = 1e-3
"""Trust in cells at the border of the mask, where rough depth mixes the two layers."""


def anchor(inverse_depth: Tensor, mask: Tensor) -> Tensor:
    """The depth of the mask's inside, kept there and continued smoothly over the whole frame.

    Pull-push (see `crispdepth.ops.fill`) on cells, weighted by trust: cells in full surroundings
    are trusted whole, those at the border of the mask hardly at all. There, even inside the mask,
    the values come from farther in, unless the mask is too thin to have an inside.

    Args:
        inverse_depth: (B, 1, H, W), sides multiples of 32.
        mask: (B, 1, H, W) in [0, 1]; 0 everywhere gives 0 everywhere.

    Returns:
        (B, 1, H, W) within the range of the depth where the mask is not 0.
    """
    cells = F.avg_pool2d(mask, CELL)
    fullness = F.avg_pool2d(cells, 3, stride=1, padding=1, count_include_pad=False)
    trust = cells * torch.clamp(2 * fullness - 1, min=DISTRUST)
    value = _ratio(F.avg_pool2d(inverse_depth * mask, CELL), cells)
    pyramid = [(value, trust)]
    for _ in range(LEVELS):
        value, weight = pyramid[-1]
        mean = F.avg_pool2d(weight, 2)
        # Summed, not averaged: one full-weight cell is enough to know its coarse cell.
        pyramid.append((_ratio(F.avg_pool2d(value * weight, 2), mean), (4 * mean).clamp(max=1)))
    value, weight = pyramid[-1]
    filled = _ratio(
        (value * weight).mean(dim=(2, 3), keepdim=True), weight.mean(dim=(2, 3), keepdim=True)
    )
    filled = filled + weight * (value - filled)
    for value, weight in reversed(pyramid[:-1]):
        filled = _enlarged(filled, 2)
        filled = filled + weight * (value - filled)
    filled = _enlarged(filled, CELL)
    return filled + mask * _enlarged(trust, CELL) * (inverse_depth - filled)


def _ratio(total: Tensor, weight: Tensor) -> Tensor:
    return total / weight.clamp(min=1e-9)


def _enlarged(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
