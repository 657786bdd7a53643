"""Pixels at depth edges, whose depth is often that of neither side."""

import numpy as np
from numpy.typing import NDArray

from crispdepth.types import BoolMap

_GRAZING = 0.2
"""Sine of the angle to a surface, 11 degrees, below which a pixel shows five times its size."""


def depth_edges(
    points: NDArray[np.float32],
    normals: NDArray[np.float32],
    valid: BoolMap,
    *,
    jump: float = 0.03,
    bend_deg: float = 5.0,
) -> BoolMap:
    """Where depth jumps and the surface bends, (h, w): a band of one pixel on each side of edges.

    Both are looked for among the eight pixels around one (spec 2.24, after MapAnything). Depth
    jumps where a neighbour's is not that of the pixel's tangent plane there: counted from the
    pixel's own depth, round things that are a few dozen pixels large would be nothing but edges.

    Args:
        points: (h, w, 3) in the camera's frame.
        normals: (h, w, 3), unit vectors, to the camera.
        valid: (h, w): other pixels are no neighbours.
        jump: difference of depths, as a share of the pixel's own, from which on it is an edge.
        bend_deg: angle between normals, degrees.
    """
    height, width = valid.shape
    z = np.where(valid, points[..., 2], 1)
    rays = points / z[..., None]
    offset = np.einsum("hwc,hwc->hw", normals, points)  # of the tangent planes, < 0
    padding = ((1, 1), (1, 1), (0, 0))
    around, rays_around = np.pad(normals, padding), np.pad(rays, padding)
    z_around, known = np.pad(z, 1), np.pad(valid, 1)
    jumps, bends = np.zeros(valid.shape, bool), np.zeros(valid.shape, bool)
    for dy, dx in ((dy, dx) for dy in range(3) for dx in range(3) if (dy, dx) != (1, 1)):
        window = slice(dy, dy + height), slice(dx, dx + width)
        facing = np.einsum("hwc,hwc->hw", normals, rays_around[window])
        # On the far side of the horizon of a plane it has no depth, so any depth is a jump.
        expected = offset / np.minimum(facing, -1e-6)
        jumps |= known[window] & (np.abs(z_around[window] - expected) > jump * z)
        cosine = np.einsum("hwc,hwc->hw", around[window], normals)
        bends |= known[window] & (cosine < np.cos(np.deg2rad(bend_deg)))
    # A pixel halfway between two surfaces makes a steep plane with both of its neighbours.
    distance = np.linalg.norm(points, axis=-1)
    jumps |= -offset < _GRAZING * distance
    edges: BoolMap = valid & jumps & bends
    return edges
