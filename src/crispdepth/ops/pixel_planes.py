"""Depth maps as planes, one for each pixel: what a truncated distance field takes from a view.

A pixel is not a number but a small plane: its inverse depth and the slope of it, which is exact
for planes seen at any angle (1 / z is affine in the pixel).
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crispdepth.types import Camera

_STRIP = 1 << 15  # pixels at once: the steps between stay in the cache
_UNKNOWN = 1e18  # an inverse depth that differs from every other one by more than an edge
_EMPTY = 1e6  # truncations to the surface of what has none


class PixelPlanes(NamedTuple):
    """What the pixels of one view show: (pixels,) float32 each, with a frame of zeros about them.

    In units of the truncation a point is ``distance - along . p`` before the plane of its pixel,
    with p = z * (u - cx, v - cy, 1) for the z-depth z and the place (u, v) in the image.
    """

    along: tuple[Tensor, Tensor, Tensor]
    distance: Tensor  # of the camera's centre from the plane
    weight: Tensor  # 0 where nothing was measured


def centred(camera: Camera) -> NDArray[np.float64]:
    """(3, 4) from the world to p = z * (u - cx, v - cy, 1)."""
    shift = np.eye(3)
    shift[:2, 2] = -camera.K[:2, 2]
    projection: NDArray[np.float64] = shift @ camera.K @ camera.cam_from_world[:3]
    return projection


def pixel_planes(
    depth: Tensor,
    weight: Tensor,
    camera: Camera,
    truncation: float,
    seen_through: Tensor | None = None,
) -> PixelPlanes:
    """The planes of a depth map.

    Args:
        depth: (h, w) float32 z-depth, 0 where nothing was measured.
        weight: (h, w) float32 >= 0.
        camera: of the map.
        truncation: in the unit of the depth.
        seen_through: (h, w) bool; where nothing was measured because nothing is there: empty as
            far as one can see, with weight 1.
    """
    height, width = depth.shape
    maps = depth.new_zeros((5, height + 2, width + 2))
    rows = max(1, _STRIP // width)
    inverse = torch.full_like(maps[0], _UNKNOWN)
    inverse[1:-1, 1:-1] = depth.clamp(min=1 / _UNKNOWN).reciprocal_()
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        measured = depth[top:bottom].sign()
        out = maps[:, 1 + top : 1 + bottom, 1:-1]
        _strip(inverse[top : bottom + 2], measured, top, camera, truncation, out[:4])
        torch.mul(weight[top:bottom], measured, out=out[4])
        if seen_through is not None:
            empty = seen_through[top:bottom] & (measured == 0)
            out[3].masked_fill_(empty, _EMPTY)
            out[4].masked_fill_(empty, 1)
    x, y, z, distance, trust = maps.reshape(5, -1).unbind(0)
    return PixelPlanes((x, y, z), distance, trust)


def _strip(
    inverse: Tensor, measured: Tensor, top: int, camera: Camera, truncation: float, out: Tensor
) -> None:
    """``along`` and ``distance`` of some rows, (4, rows, w).

    The inverse depth has one pixel more to every side; ``measured`` is 1 or 0.
    """
    inside = inverse[1:-1, 1:-1]
    # From pixel to pixel a surface moves by less than the truncation; what moves more is an edge.
    steepest = inside.square().mul_(truncation)
    slope_x = _slope(inverse[1:-1], steepest, 1)
    slope_y = _slope(inverse[:, 1:-1], steepest, 0)
    x = torch.arange(inside.shape[1], device=inverse.device) + (0.5 - float(camera.K[0, 2]))
    y = torch.arange(inside.shape[0], device=inverse.device) + (top + 0.5 - float(camera.K[1, 2]))
    rest = torch.addcmul(inside, slope_x, x, value=-1).addcmul_(slope_y, y[:, None], value=-1)
    # The plane is A X + B Y + C Z = 1 with (A, B, C) K^-1 = (slope_x, slope_y, rest).
    (a, b), d = camera.K[0, :2].tolist(), float(camera.K[1, 1])
    squares = (slope_x * a).square_()
    squares += (slope_x * b).add_(slope_y, alpha=d).square_()
    distance = squares.addcmul_(rest, rest).rsqrt_().mul_(1 / truncation).mul_(measured)
    for index, part in enumerate((slope_x, slope_y, rest)):
        torch.mul(part, distance, out=out[index])
    out[3] = distance


def _slope(inverse: Tensor, steepest: Tensor, axis: int) -> Tensor:
    """Change of 1 / z per pixel: the smaller of both sides, 0 where both are edges or unknown.

    The smaller one, because at a depth edge the other one is the edge.
    """
    change = inverse.diff(dim=axis)
    length = change.shape[axis] - 1
    before, after = change.narrow(axis, 0, length), change.narrow(axis, 1, length)
    # In place, comparisons give 1 and 0, several times faster than choosing by booleans.
    slope = torch.lerp(before, after, after.abs().lt_(before.abs()))
    return slope.mul_(slope.abs().le_(steepest))
