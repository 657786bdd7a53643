"""Losses of learned volumetric fusion, and the true overlap masks of its stereo.

Numbers of sections and equations are those of part B of the specification.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from crispdepth.ops.cost_volume import other_views, pixel_transfer, project
from crispdepth.training.config import OverlapLoss

SURE = 1e-7
"""A mask that is wrong by more than all but this is as wrong as if it were this: about the step of
float32 below 1."""

TOLERANCE = 0.05
"""Relative difference of depths up to which two views show the same."""


def overlap_truth(
    depth: Tensor,
    K: Tensor,
    cam_from_world: Tensor,
    references: int | None = None,
) -> Tensor:
    """Where other views show the same as the first R (the true overlap mask, B.2).

    A point does if it lies in the frame of one of the others, in front of it, and the depth that
    this one has in that pixel differs by less than `TOLERANCE`.

    Args:
        depth: (B, V, h, w) true z-depth; 0 = unknown, which overlaps with nothing.
        K: (B, V, 3, 3), pixels of ``depth``.
        cam_from_world: (B, V, 4, 4).
        references: R; None: all.

    Returns:
        (B, R, h, w) bool.
    """
    views, height, width = depth.shape[1:]
    size, count = (height, width), views if references is None else references
    own = depth[:, :count]
    inverse = torch.where(own > 0, 1 / own.clamp_min(1e-9), 0.0).flatten(0, 1)[:, None]
    K_own, pose_own = (part[:, :count].flatten(0, 1) for part in (K, cam_from_world))
    shown = []
    for other in other_views(views, depth.device)[:count].unbind(1):
        theirs, K_other, pose_other = (
            part[:, other].flatten(0, 1) for part in (depth, K, cam_from_world)
        )
        where = project(pixel_transfer(K_own, pose_own, K_other, pose_other), inverse, size, size)
        column, row = where.x.long().clamp(0, width - 1), where.y.long().clamp(0, height - 1)
        found = theirs.flatten(1).gather(1, (row * width + column).flatten(1)).view_as(where.x)
        expected = where.stretch * own.flatten(0, 1)[:, None]
        agrees = (found - expected).abs() < TOLERANCE * expected
        shown.append((where.inside & agrees & (found > 0))[:, 0])
    return torch.stack(shown).any(dim=0).view_as(own) & (own > 0)


def overlap_loss(overlap: Tensor, truth: Tensor, kind: OverlapLoss = "absolute") -> Tensor:
    """L_M, the mean over pixels of ``|overlap - truth|``, or of their cross entropy.

    Args:
        overlap: (...) predicted, in [0, 1].
        truth: (...), see `overlap_truth`.
        kind: see `crispdepth.training.config.VolumeObjective`.
    """
    apart = (overlap - truth.to(overlap)).abs()
    if kind == "absolute":
        return apart.mean()
    return -torch.log((1 - apart).clamp_min(SURE)).mean()


def masked_depth_loss(depth: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """L_Z, the mean of the smooth L1 of depths (beta 1) over the pixels of the mask.

    Args:
        depth: (...) predicted, in the unit of the scene.
        truth: (...); anything where ``mask`` is 0.
        mask: (...) the true overlap mask; a soft one weighs.

    Returns:
        0 where the mask is empty.
    """
    weight = mask.to(depth)
    # An unknown depth times 0 is not 0 if it is infinite, nor is its gradient.
    apart = torch.where(weight > 0, depth - truth, 0.0)
    error = F.smooth_l1_loss(apart, torch.zeros_like(apart), reduction="none")
    return (weight * error).sum() / weight.sum().clamp_min(1e-6)
