"""Bilateral median filters of depth: as published with 3D Photo Inpainting, and the textbook's.

Both work on disparity rescaled as that project does it: minimum subtracted, 3 x 3 box blur,
maximum 3.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from crispdepth.types import BoolMap, Float32Map, MaskSet

WINDOWS = (7, 7, 5, 5, 5)  # pixels, one per iteration
MAX_DISPARITY = 3.0
DISCONTINUITY = 0.04  # in disparity, between neighbours
SIGMA_SPACE = 4.0  # pixels
SIGMA_RANGE = 0.5  # in disparity
BLOCK = 1 << 16  # pixels filtered at once: a window of 7 then needs about 25 MB


class _Disparity(NamedTuple):
    """Disparity in [0, 3], and how to undo the scaling."""

    values: Float32Map
    gain: np.float32
    offset: np.float32

    def restore(self, values: Float32Map) -> Float32Map:
        return values / self.gain + self.offset


def bmf(image: NDArray[np.uint8], inverse_depth: Float32Map, masks: MaskSet) -> Float32Map:
    """The sparse bilateral median filter as the published code runs it.

    Shih et al., *3D Photography using Context-aware Layered Depth Inpainting* (CVPR 2020), with
    its default arguments. In that code the median is taken over the pixels of the window that lie
    on no discontinuity, without weights (its ``sigma_s`` and ``sigma_r`` have no effect), only
    where the window holds a discontinuity; and the result of the last of five filterings is not
    used. Its floor of 0.05 on disparity only serves a division by it and is left out. The method
    has no place for a mask.

    Args:
        image: (h, w, 3), not used.
        inverse_depth: (h, w), on any affine scale.
        masks: not used.
    """
    scaled = _to_disparity(inverse_depth)
    disparity = scaled.values
    for window in WINDOWS[:-1]:
        disparity = _median_off_edges(disparity, window)
    return scaled.restore(disparity)


def bmf_textbook(image: NDArray[np.uint8], inverse_depth: Float32Map, masks: MaskSet) -> Float32Map:
    """The weighted median with bilateral weights that the published parameters describe.

    Ma et al., *Constant Time Weighted Median Filtering for Stereo Matching and Beyond* (ICCV
    2013), weights ``exp(-|p - q|^2 / 2 sigma_s^2 - (D_p - D_q)^2 / 2 sigma_r^2)``, five
    filterings.

    Args:
        image: (h, w, 3), not used.
        inverse_depth: (h, w), on any affine scale.
        masks: not used.
    """
    scaled = _to_disparity(inverse_depth)
    disparity = scaled.values
    for window in WINDOWS:
        disparity = _bilateral_median(disparity, window)
    return scaled.restore(disparity)


def weighted_median(values: NDArray[np.float32], weights: NDArray[np.float32]) -> Float32Map:
    """The lower weighted median along the last axis.

    The smallest value at which the weights up to and including it reach half of their sum; with
    uniform weights the (lower) median. Where all weights are 0 the smallest value is returned.
    """
    order = np.argsort(values, axis=-1)
    cumulated = np.cumsum(np.take_along_axis(weights, order, -1), axis=-1, dtype=np.float64)
    index = np.argmax(cumulated >= cumulated[..., -1:] / 2, axis=-1)[..., None]
    picked = np.take_along_axis(order, index, -1)
    median: Float32Map = np.take_along_axis(values, picked, -1)[..., 0]
    return median


def _to_disparity(inverse_depth: Float32Map) -> _Disparity:
    offset = inverse_depth.min()
    blurred = cv2.blur(inverse_depth - offset, (3, 3))
    gain = np.float32(MAX_DISPARITY) / (blurred.max() or np.float32(1))
    return _Disparity(blurred * gain, gain, offset)


def _discontinuities(disparity: Float32Map) -> BoolMap:
    """Pixels that differ from one of their four neighbours by more than the threshold."""
    over = np.zeros(disparity.shape, bool)
    down = np.abs(np.diff(disparity, axis=0)) > DISCONTINUITY
    right = np.abs(np.diff(disparity, axis=1)) > DISCONTINUITY
    over[1:] |= down
    over[:-1] |= down
    over[:, 1:] |= right
    over[:, :-1] |= right
    return over


def _windows(array: NDArray[Any], size: int) -> NDArray[Any]:
    """The (h, w, size, size) windows around every pixel, border pixels repeated."""
    return sliding_window_view(np.pad(array, size // 2, mode="edge"), (size, size))


def _median_off_edges(disparity: Float32Map, window: int) -> Float32Map:
    edge = _discontinuities(disparity)
    near = cv2.dilate(edge.astype(np.uint8), np.ones((window, window), np.uint8)) > 0
    values, edges = _windows(disparity, window), _windows(edge, window)
    filtered = disparity.copy()
    for rows, columns in _blocks(near):
        weights = (~edges[rows, columns]).reshape(len(rows), -1).astype(np.float32)
        patches = values[rows, columns].reshape(len(rows), -1)
        kept = weights.any(axis=-1)  # a window of edges only keeps its centre
        filtered[rows[kept], columns[kept]] = weighted_median(patches[kept], weights[kept])
    return filtered


def _bilateral_median(disparity: Float32Map, window: int) -> Float32Map:
    y, x = np.mgrid[:window, :window] - window // 2
    spatial = -(x**2 + y**2).ravel().astype(np.float32) / (2 * SIGMA_SPACE**2)
    values = _windows(disparity, window)
    filtered = np.empty_like(disparity)
    for rows, columns in _blocks(np.ones(disparity.shape, bool)):
        patches = values[rows, columns].reshape(len(rows), -1)
        difference = patches - disparity[rows, columns, None]
        weights = np.exp(spatial - difference**2 / (2 * SIGMA_RANGE**2), dtype=np.float32)
        filtered[rows, columns] = weighted_median(patches, weights)
    return filtered


def _blocks(where: BoolMap) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Rows and columns of the true pixels, `BLOCK` at a time, so that memory does not grow."""
    rows, columns = np.nonzero(where)
    for start in range(0, len(rows), BLOCK):
        yield rows[start : start + BLOCK], columns[start : start + BLOCK]
