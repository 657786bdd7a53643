"""Point clouds: the pixels of a refined photo in space, without points between the surfaces."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crispdepth.geometry.backproject import Placement, backproject
from crispdepth.geometry.depth import inverse_depth
from crispdepth.ops.colour import srgb_from_linear
from crispdepth.ops.peel import peel
from crispdepth.types import BoolMap, Camera, DepthMap, Float32Map, LayerPair

FLYING_DISTANCE = 5.0
"""How many times the spacing of the samples apart a point is from its surface to be flying. A
plane has points so far apart where it is seen at less than 11 degrees."""

_NEIGHBOURS = 3  # the third: two neighbours may lie on the same depth edge


class PointCloud(NamedTuple):
    """Coloured points, in the camera's frame (OpenCV axes)."""

    points: NDArray[np.float32]  # (n, 3), in the unit of the depth
    colours: NDArray[np.uint8]  # (n, 3), sRGB
    flying: NDArray[np.bool_]  # (n,): the points that hang between surfaces


def point_cloud(
    image: NDArray[Any],
    depth: DepthMap,
    layers: Sequence[LayerPair],
    camera: Camera,
    placement: Placement,
) -> PointCloud:
    """The valid pixels of a photo as points, ``z K^-1 (x, y, 1)``.

    At the soft border of a mask a pixel takes the depth and the colour of the layer that covers
    half of it or more, never a mixture: that would be a point where no surface is.

    Args:
        image: (h, w, 3) uint8 or uint16, sRGB.
        depth: the refined depth (h, w).
        layers: what refinement completed at each mask.
        camera: its pose is not used.
        placement: where the depth map's surfaces are in space.

    Raises:
        ValueError: sizes differ, or no pixel is valid.
    """
    if camera.size != depth.size:
        raise ValueError(f"The camera is for {camera.size}, the depth map is {depth.size}.")
    colours, inverse = _hard(image, depth, layers)
    placed = placement.apply(inverse)
    valid = depth.usable
    return PointCloud(
        backproject(placed, camera)[valid],
        colours[valid],
        flying_pixels(placed, valid, camera)[valid],
    )


def flying_pixels(inverse: Float32Map, valid: BoolMap, camera: Camera) -> BoolMap:
    """The pixels whose points hang between surfaces, (h, w).

    A point is flying if its third nearest neighbour is farther than `FLYING_DISTANCE` times the
    spacing of samples at its depth, z / f (spec A.10). Neighbours are looked for among the eight
    pixels around it, which is where a depth map's neighbours in space are but for folds.

    Args:
        inverse: 1 / z > 0, (h, w).
        valid: (h, w).
        camera: of the map.
    """
    points = backproject(inverse, camera)
    height, width = valid.shape
    far = np.float32(np.inf)
    around = np.pad(points, ((1, 1), (1, 1), (0, 0)))
    known = np.pad(valid, 1)
    nearest = np.full((_NEIGHBOURS, height, width), far, np.float32)  # ascending, squared
    for dy, dx in ((dy, dx) for dy in range(3) for dx in range(3) if (dy, dx) != (1, 1)):
        window = slice(dy, dy + height), slice(dx, dx + width)
        apart = np.square(around[window] - points).sum(axis=-1)
        apart[~known[window]] = far
        for rank in nearest:  # insertion into the sorted few
            larger = np.maximum(rank, apart)
            np.minimum(rank, apart, out=rank)
            apart = larger
    spacing = np.float32(FLYING_DISTANCE / np.sqrt(camera.K[0, 0] * camera.K[1, 1])) / inverse
    flying: BoolMap = valid & (nearest[-1] > np.square(spacing))
    return flying


def _hard(
    image: NDArray[Any], depth: DepthMap, pairs: Sequence[LayerPair]
) -> tuple[NDArray[np.uint8], Float32Map]:
    """Colours (h, w, 3) and inverse depth with every pixel on one layer."""
    colours = image if image.dtype == np.uint8 else (image >> 8).astype(np.uint8)
    inverse = inverse_depth(depth)
    soft = np.zeros(depth.size, bool)
    for pair in pairs:
        soft |= (pair.alpha > 0) & (pair.alpha < 1)
    if not soft.any():
        return colours, inverse
    colours, inverse = colours.copy(), inverse.copy()
    for layer in peel(image, depth, pairs):
        at = np.nonzero(soft & (layer.alpha >= 0.5))
        inverse[at] = layer.inverse_depth[at]
        colours[at] = srgb_from_linear(layer.colour[at] / layer.alpha[at][:, None])
    return colours, inverse
