"""Pixels at depth edges, whose depth is often that of neither side."""

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.types import BoolMap, Float32Map

_CROSS = np.ones((3, 3), np.uint8)


def depth_edges(
    depth: Float32Map,
    normals: NDArray[np.float32],
    valid: BoolMap,
    *,
    jump: float = 0.03,
    bend_deg: float = 5.0,
) -> BoolMap:
    """Where depth jumps and the surface bends, (h, w): a band of one pixel on each side of edges.

    Both are looked for among the eight pixels around one (spec 2.24, as MapAnything does): a
    plane that is seen at a grazing angle jumps, but does not bend.

    Args:
        depth: (h, w), z > 0 where valid.
        normals: (h, w, 3) unit vectors.
        valid: (h, w): other pixels are no neighbours.
        jump: difference of depths, as a share of the pixel's own, from which on it is an edge.
        bend_deg: angle between normals, degrees.
    """
    far = cv2.dilate(np.where(valid, depth, 0).astype(np.float32), _CROSS)
    near = cv2.erode(np.where(valid, depth, np.float32(3e38)).astype(np.float32), _CROSS)
    jumps = valid & (far - near > jump * depth)
    height, width = valid.shape
    around = np.pad(normals, ((1, 1), (1, 1), (0, 0)), mode="edge")
    known = np.pad(valid, 1)
    least = np.ones(valid.shape, np.float32)  # of the cosines
    for dy, dx in ((dy, dx) for dy in range(3) for dx in range(3) if (dy, dx) != (1, 1)):
        window = slice(dy, dy + height), slice(dx, dx + width)
        cosine = np.einsum("hwc,hwc->hw", around[window], normals)
        np.minimum(least, np.where(known[window], cosine, 1), out=least)
    edges: BoolMap = jumps & (least < np.cos(np.deg2rad(bend_deg)))
    return edges
