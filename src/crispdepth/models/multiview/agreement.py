"""What the other views say of the depths of each: whether its pixels are where theirs are."""

import torch
from torch import Tensor

from crispdepth.ops.cost_volume import other_views, pixel_transfer, project, warp
from crispdepth.ops.plane_sweep import EPSILON

SAME, APART = 0.03, 0.1
"""Relative differences of depth: the standard deviation of depths of one surface, and that from
which on two are not one."""

CHANNELS = 5


@torch.no_grad()
def agreement(
    inverse_depth: Tensor, K: Tensor, cam_from_world: Tensor, masks: Tensor | None
) -> Tensor:
    """How the views of a sample see the pixels of each other.

    Means over the other views in whose frame a pixel falls; all 0 where there is none, so one view
    alone has none either. The unit of the scene does not matter.

    Args:
        inverse_depth: (B, R, H, W) > 0.
        K: (B, R, 3, 3), pixels.
        cam_from_world: (B, R, 4, 4).
        masks: (B, R, 1, H, W), 1 = evidence; only there others have a depth. None: ones.

    Returns:
        (B R, 5, H, W): how well others agree, in [0, 1]; how clearly they see through the pixel
        to something farther, in [0, 1]; how clearly it is hidden from them, in [0, 1]; how much
        nearer those have it that agree, in units of `SAME`; how far it is beside their masks, in
        [0, 1].
    """
    batch, views, height, width = inverse_depth.shape
    size = height, width
    rho = inverse_depth.flatten(0, 1)[:, None]
    known = torch.ones_like(rho) if masks is None else masks.flatten(0, 1)
    theirs = torch.cat((rho, known), dim=1)
    K, poses = K.flatten(0, 1), cam_from_world.flatten(0, 1)
    first = views * torch.arange(batch, device=rho.device)[:, None]
    total = rho.new_zeros(batch * views, CHANNELS + 1, *size)
    for turn in other_views(views, rho.device).unbind(1):
        other = (first + turn).flatten()
        where = project(pixel_transfer(K, poses, K[other], poses[other]), rho, size, size)
        found, inside = warp(theirs[other], where)[:, :, 0].unbind(1)
        ours = rho[:, 0] / where.stretch[:, 0].clamp_min(EPSILON)
        nearer = found / ours.clamp_min(EPSILON) - 1
        close = torch.exp(-(nearer / SAME).square() / 2)
        parts = (
            close,
            (-nearer / APART).clamp(0, 1),
            (nearer / APART).clamp(0, 1),
            close * nearer / SAME,
        )
        told = torch.stack((*(inside * part for part in parts), 1 - inside), dim=1)
        seen = where.inside.float()
        total += torch.cat((told * seen, seen), dim=1)
    count = total[:, -1:].clamp_min(1)
    said = total[:, :-1] / count
    # Of those that agree alone: others have nothing to say of where it should be.
    said[:, 3] /= said[:, 0].clamp_min(SAME)
    return said
