"""Guided filter and joint bilateral filter of depth, guided by the photo and the masks.

Their parameters are those, of a grid of them, with the largest R3 / eps_acc on the sets that
the README's table is measured on; there too they gain from seeing the masks.
"""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.evaluation.baselines.propagation import merge_by_change
from crispdepth.types import Float32Map, MaskSet

GUIDED_RADIUS = 4  # pixels
GUIDED_EPS = 1e-4  # on guides in [0, 1]
BILATERAL_RADIUS = 6  # pixels
BILATERAL_SIGMA_SPACE = 3.0  # pixels
BILATERAL_SIGMA_COLOUR = 0.05  # on sRGB in [0, 1]


def guided_filter(
    image: NDArray[np.uint8], inverse_depth: Float32Map, masks: MaskSet
) -> Float32Map:
    """He et al., *Guided Image Filtering* (TPAMI 2013, eq. 19), guide = photo and mask.

    The guide has four channels: sRGB and the mask. Each mask is filtered on its own and the
    results are merged by the largest change; without masks the guide is the photo.

    Args:
        image: (h, w, 3).
        inverse_depth: (h, w), on any affine scale.
        masks: (n, h, w), soft values are used.
    """
    colour = image.astype(np.float32) / np.float32(255)
    if not len(masks):
        return guided(colour, inverse_depth)
    guides = (np.dstack([colour, masks[i]]) for i in range(len(masks)))
    return merge_by_change(inverse_depth, (guided(guide, inverse_depth) for guide in guides))


def guided(
    guide: NDArray[np.float32],  # (h, w, c) in [0, 1]
    values: Float32Map,
    radius: int = GUIDED_RADIUS,
    eps: float = GUIDED_EPS,
) -> Float32Map:
    """The guided filter for a guide of c channels; windows are cut at the border."""
    height, width, channels = guide.shape
    centred = values - values.mean()  # float32 covariances lose digits to a large mean
    mean_guide, mean_values = _box(guide, radius), _box(centred, radius)
    covariance = np.empty((height, width, channels, channels), np.float32)
    for i in range(channels):
        products = _box(guide * guide[..., i : i + 1], radius)
        covariance[..., i] = products - mean_guide * mean_guide[..., i : i + 1]
    covariance += np.float32(eps) * np.eye(channels, dtype=np.float32)
    cross = _box(guide * centred[..., None], radius) - mean_guide * mean_values[..., None]
    slope = np.linalg.solve(covariance, cross[..., None])[..., 0]
    offset = mean_values - np.sum(slope * mean_guide, axis=-1)
    filtered = np.sum(_box(slope, radius) * guide, axis=-1) + _box(offset, radius)
    result: Float32Map = filtered + values.mean()
    return result


def joint_bilateral(
    image: NDArray[np.uint8], inverse_depth: Float32Map, masks: MaskSet
) -> Float32Map:
    """Joint bilateral filter, weights from the photo, no averaging across a mask's edge.

    Petschnigg et al. (SIGGRAPH 2004), with the masks as a hard second guide: a pixel is a mean
    of pixels that the same mask holds (cut at 0.5).

    Args:
        image: (h, w, 3).
        inverse_depth: (h, w), on any affine scale.
        masks: (n, h, w).
    """
    colour = image.astype(np.float32) / np.float32(255)
    labels = label_map(masks)
    total = np.zeros_like(inverse_depth)
    weights = np.zeros_like(inverse_depth)
    # Differences to the centre, not values: they keep their digits on any offset.
    for here, there, distance2 in _shifts(masks.size, BILATERAL_RADIUS):
        colour2 = np.sum((colour[there] - colour[here]) ** 2, axis=-1)
        exponent = distance2 / BILATERAL_SIGMA_SPACE**2 + colour2 / BILATERAL_SIGMA_COLOUR**2
        weight = np.exp(-0.5 * exponent) * (labels[there] == labels[here])
        total[here] += weight * (inverse_depth[there] - inverse_depth[here])
        weights[here] += weight
    return inverse_depth + total / weights


def label_map(masks: MaskSet) -> NDArray[np.int32]:
    """Per pixel 1 + the index of the mask with the largest value >= 0.5, or 0."""
    best = np.zeros(masks.size, np.float32)
    labels = np.zeros(masks.size, np.int32)
    for i in range(len(masks)):
        mask = masks[i]
        higher = (mask >= 0.5) & (mask > best)
        labels[higher] = i + 1
        best[higher] = mask[higher]
    return labels


def _box(array: NDArray[np.float32], radius: int) -> NDArray[np.float32]:
    """Mean over the part of a (2 radius + 1)^2 window inside the frame."""
    size = (2 * radius + 1, 2 * radius + 1)
    inside = np.ones(array.shape[:2], np.float32)
    sums, count = (
        cv2.boxFilter(values, -1, size, normalize=False, borderType=cv2.BORDER_CONSTANT)
        for values in (array, inside)
    )
    channels_last = sums.reshape((*array.shape[:2], -1)) / count[..., None]
    return np.asarray(channels_last, np.float32).reshape(array.shape)


def _shifts(
    size: tuple[int, int], radius: int
) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice], float]]:
    """Slices of every pixel and of its neighbour at each offset, and the offset's length^2."""
    height, width = size
    for dy in range(-min(radius, height - 1), min(radius, height - 1) + 1):
        for dx in range(-min(radius, width - 1), min(radius, width - 1) + 1):
            here = _overlap(height, dy), _overlap(width, dx)
            there = _overlap(height, -dy), _overlap(width, -dx)
            yield here, there, float(dy**2 + dx**2)


def _overlap(length: int, shift: int) -> slice:
    """The indices i in [0, length) for which i + shift is in it too."""
    return slice(max(0, -shift), length - max(0, shift))
