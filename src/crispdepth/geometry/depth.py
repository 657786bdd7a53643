"""Depth, inverse depth and the [0, 10] scale that layer completers work in."""

from typing import NamedTuple

import cv2
import numpy as np

from crispdepth.types import DepthMap, Float32Map, Size

COMPLETER_RANGE = 10.0
"""Completers see inverse depth in [0, COMPLETER_RANGE] (the scaling of LeReS)."""


OUTLYING = 1e-3
"""Share of the pixels at either end of the range that may be outliers."""


class Scaled(NamedTuple):
    """An inverse depth map brought to [0, 10], and the affine map that did it."""

    values: Float32Map  # (h, w) in [0, 10]
    gain: float
    offset: float  # scaled = (inverse_depth - offset) * gain
    outliers: int = 0  # pixels whose values were clipped

    def restore(self, scaled: Float32Map) -> Float32Map:
        """From the [0, 10] scale back to inverse depth."""
        return scaled / np.float32(self.gain) + np.float32(self.offset)


def inverse_depth(depth: DepthMap) -> Float32Map:
    """The map as inverse depth, (h, w), in 1/unit; 0 where it is invalid."""
    if depth.kind == "inverse_depth":
        return depth.values
    return np.divide(
        np.float32(1), depth.values, out=np.zeros_like(depth.values), where=depth.usable
    )


def from_inverse_depth(values: Float32Map, like: DepthMap) -> Float32Map:
    """Inverse depth (h, w) as values of the kind of ``like``.

    A depth is at most 2e6 times the nearest valid depth of ``like``: an inverse depth of zero
    or below has no depth.
    """
    if like.kind == "inverse_depth":
        return values
    nearest = like.values[like.usable].min(initial=np.inf)
    floor = np.float32(0.5e-6 / nearest) if np.isfinite(nearest) else np.float32(1e-6)
    return np.reciprocal(np.maximum(values, floor))


def scale_to_completer(inverse: Float32Map, valid: np.ndarray) -> Scaled:
    """Min-max scale inverse depth to [0, 10] over its valid pixels.

    Min-max rather than max: an initial prediction has an arbitrary shift too, and this makes
    refinement equivariant to it. Outliers do not take part, else a single one would
    leave no contrast to the rest: values farther beyond the middle 99.8 % of the pixels than
    these are wide are clipped.

    Raises:
        ValueError: there is no valid pixel, or the valid pixels are all equal.
    """
    low = float(inverse.min(where=valid, initial=np.inf))
    high = float(inverse.max(where=valid, initial=-np.inf))
    if low > high:
        raise ValueError(
            "The depth map has no valid pixel (all zero, NaN or infinite); "
            "check the file, or state its kind with --depth-kind."
        )
    if not high - low > 1e-6 * max(abs(low), abs(high)):
        raise ValueError(
            f"The depth map is constant (inverse depth {high:g} everywhere): "
            "there is nothing to refine. Check that this is the depth file you meant."
        )
    sample = inverse[valid]
    quantiles = np.quantile(sample[:: 1 + sample.size // 2**18], (OUTLYING, 1 - OUTLYING))
    lowest, highest = (float(value) for value in quantiles)
    span = highest - lowest
    outliers = 0
    if span and (low < lowest - span or high > highest + span):
        low, high = max(low, lowest - span), min(high, highest + span)
        outliers = int(np.count_nonzero((sample < low) | (sample > high)))
    gain = COMPLETER_RANGE / (high - low)
    scaled = (inverse - np.float32(low)) * np.float32(gain)
    return Scaled(scaled.clip(0, COMPLETER_RANGE, out=scaled), gain, low, outliers)


def resize_depth(depth: DepthMap, size: Size) -> DepthMap:
    """The same map, camera included, sampled at ``size`` (height, width).

    Inverse depth is what is linear across an image of a plane, so it is what is interpolated:
    by area where the map shrinks, else linearly between pixel centres. The result is normalised
    by the share of valid pixels behind each value, so invalid ones have no influence; a pixel
    is valid where that share is at least one half.
    """
    if size == depth.size:
        return depth
    shrinks = size[0] <= depth.size[0] and size[1] <= depth.size[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    share = cv2.resize(depth.usable.astype(np.float32), size[::-1], interpolation=how)
    inverse = cv2.resize(inverse_depth(depth), size[::-1], interpolation=how)  # invalid is 0
    valid = share >= 0.5
    inverse = np.divide(inverse, share, out=np.zeros_like(inverse), where=valid)
    values = from_inverse_depth(inverse.astype(np.float32, copy=False), like=depth)
    # An average lies between what it averages; rounding must not push it out.
    within = depth.values[depth.usable]
    values = np.clip(values, within.min(initial=np.inf), within.max(initial=-np.inf))
    camera = depth.camera.resized(size) if depth.camera else None
    return DepthMap(values, depth.kind, depth.unit, valid, camera)
