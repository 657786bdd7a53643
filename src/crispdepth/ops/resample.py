"""Shrinking images, and bringing small maps back to the size of a photo."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.types import BoolMap, Float32Map, Size

RANGE_SIGMA = 0.1
"""Difference of photo values (0..1) at which a neighbour's vote falls to exp(-1/2)."""

STEP = 0.05
"""Second difference, as a share of the map's range, above which an edge is nearby."""

SAME_SURFACE = 0.05
"""Difference of inverse depth, as a share of it, up to which pixels side by side are averaged."""


def same_aspect(a: Size, b: Size) -> bool:
    """Whether two sizes (height, width) are those of one picture at two scales.

    Programs round when they scale, so the larger one, scaled to fit one side of the smaller one,
    may miss the other side by a pixel.
    """
    return abs(a[0] * b[1] - a[1] * b[0]) <= max(*a, *b)


def shrink(image: NDArray[Any], size: Size) -> Any:
    """The image at ``size`` (height, width) by area average; itself if it has that size."""
    if image.shape[:2] == size:
        return image
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)


def size_within(longer: int, size: Size) -> Size:
    """The size (height, width), or if it is larger, the one whose longer side is ``longer``."""
    scale = min(1.0, longer / max(size))
    return (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))


def shrink_depth(
    depth: Float32Map, weight: Float32Map, size: Size
) -> tuple[Float32Map, Float32Map]:
    """A depth map and how far to trust it at a smaller size, with no depth between two surfaces.

    Of the pixels under a larger one, those at about their middle depth count. Inverse depth is
    averaged, so that planes stay planes.

    Args:
        depth: (h, w) z-depth, 0 where there is none.
        weight: (h, w) >= 0.
        size: (height, width) of the results, no larger; those under a pixel are sampled about
            4 by 4.

    Returns:
        z-depth, 0 where there is none, and the mean weight of the pixels under a pixel, where
        those that do not count have none.
    """
    rows, columns = (
        ((np.arange(4 * small) + 0.5) * (large / (4 * small))).astype(np.intp).reshape(small, 4)
        for small, large in zip(size, depth.shape, strict=True)
    )
    under = np.ix_(rows.reshape(-1), columns.reshape(-1))

    def cells(values: Float32Map) -> NDArray[np.float32]:
        parts = values[under].reshape(size[0], 4, size[1], 4)
        return parts.transpose(0, 2, 1, 3).reshape(*size, 16)

    trust, z = cells(weight), cells(depth)
    trust = np.where(z > 0, trust, np.float32(0))
    inverse = 1 / np.where(trust > 0, z, np.float32(np.inf))
    nearest = np.sort(inverse, axis=-1)[..., ::-1]  # those without depth, which are 0, come last
    middle = np.maximum((trust > 0).sum(axis=-1, keepdims=True) - 1, 0) // 2
    middle = np.take_along_axis(nearest, middle, axis=-1)
    counted = (trust > 0) & (np.abs(inverse - middle) <= SAME_SURFACE * middle)
    mean = np.where(counted, inverse, 0).sum(axis=-1) / np.maximum(counted.sum(axis=-1), 1)
    found = np.divide(1, mean, out=np.zeros(size, np.float32), where=mean > 0)
    shared: Float32Map = np.where(counted, trust, np.float32(0)).mean(axis=-1)
    return found, shared


def upsample(values: Float32Map, size: Size) -> Float32Map:
    """The map at ``size`` (height, width), bilinear between pixel centres."""
    resized = cv2.resize(values, size[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, np.float32)


def joint_upsample(
    values: Float32Map,
    small_photo: NDArray[np.float32],
    photo: NDArray[np.uint8],
    where: BoolMap | None = None,
) -> Float32Map:
    """The map (h', w') at the size of ``photo`` (h, w, 3), its edges drawn to those of the photo.

    Bilinear between pixel centres where the four neighbours agree, so planes stay planes. Where
    they do not, an edge of the map runs between them, and each neighbour's weight falls with the
    difference of its photo value from the pixel's: joint bilateral upsampling (Kopf et al. 2007)
    on the four nearest samples.

    Args:
        values: (h', w').
        small_photo: (h', w', 3) in [0, 1], the photo at the size of ``values``.
        photo: (h, w, 3).
        where: (h, w), the pixels that matter; the others are bilinear. None: all.
    """
    size = (photo.shape[0], photo.shape[1])
    smooth = upsample(values, size)
    edge = _is_edge(values, size)
    at = np.flatnonzero(edge if where is None else edge.view(bool) & where)
    if not at.size:
        return smooth
    rows, weights_y = _neighbours(at // size[1], size[0], values.shape[0])
    columns, weights_x = _neighbours(at % size[1], size[1], values.shape[1])
    colour = photo.reshape(-1, 3)[at].astype(np.float32) / np.float32(255)
    total = np.zeros(at.size, np.float32)
    weight_sum = np.full(at.size, 1e-12, np.float32)
    for row, weight_y in zip(rows, weights_y, strict=True):
        for column, weight_x in zip(columns, weights_x, strict=True):
            apart = ((small_photo[row, column] - colour) ** 2).sum(axis=1)
            weight = weight_y * weight_x * np.exp(apart / np.float32(-2 * RANGE_SIGMA**2))
            weight_sum += weight
            total += weight * values[row, column]
    sharp = total / weight_sum
    usable = weight_sum > 1e-6  # a photo unlike all four neighbours decides nothing
    smooth.reshape(-1)[at[usable]] = sharp[usable]
    return smooth


def _is_edge(values: Float32Map, size: Size) -> NDArray[np.uint8]:
    """Pixels of the large image between neighbours that differ by an edge, (h, w)."""
    # Bends, not slopes: a plane, however steep, has no edge.
    bend = np.abs(cv2.Laplacian(values, -1, borderType=cv2.BORDER_REPLICATE))
    bend[[0, -1]] = 0  # a border repeats its pixels, which bends a plane
    bend[:, [0, -1]] = 0
    edge = cv2.dilate((bend > STEP * np.ptp(values)).astype(np.uint8), np.ones((3, 3), np.uint8))
    return np.asarray(cv2.resize(edge, size[::-1], interpolation=cv2.INTER_NEAREST), np.uint8)


def _neighbours(
    index: NDArray[np.intp], length: int, small_length: int
) -> tuple[
    tuple[NDArray[np.intp], NDArray[np.intp]], tuple[NDArray[np.float32], NDArray[np.float32]]
]:
    """The two samples on either side of each pixel along one axis, and their linear weights."""
    position = (index + 0.5) * (small_length / length) - 0.5
    first = np.floor(position).astype(np.intp)
    second_weight = (position - first).astype(np.float32)
    samples = (first.clip(0, small_length - 1), (first + 1).clip(0, small_length - 1))
    return samples, (1 - second_weight, second_weight)
