"""Filling the holes of a sparse image from what surrounds them."""

import cv2
import numpy as np

from crispdepth.types import Float32Map


def pull_push(values: Float32Map, weights: Float32Map) -> Float32Map:
    """The image with every pixel of weight 0 filled smoothly from the nearest weighted pixels.

    The pull-push algorithm (Gortler et al., *The Lumigraph*, 1996, section 3.4): weighted averages
    are pulled down a pyramid until every pixel has full weight, then pushed back up to fill what
    is missing. A pixel of weight 1 keeps its value bit for bit, a weight between blends value
    and fill, a constant stays that constant, and the time is linear in the number of pixels.

    Args:
        values: (h, w) or (h, w, c) float32; ignored, even when not finite, where the weight is 0.
        weights: (h, w) float32 in [0, 1].

    Returns:
        An array of the shape of ``values``, within the range of its weighted pixels.

    Raises:
        ValueError: the shapes do not fit, a weight is outside [0, 1], or all weights are 0.
    """
    if values.ndim not in (2, 3) or values.shape[:2] != weights.shape:
        raise ValueError(
            f"pull_push needs (h, w) or (h, w, c) values and (h, w) weights, "
            f"got {values.shape} and {weights.shape}."
        )
    if not (weights.min(initial=0) >= 0 and weights.max(initial=0) <= 1):
        raise ValueError("Fill weights must be in [0, 1]; scale them first.")
    if not weights.any():
        raise ValueError("All fill weights are 0: there is nothing to fill from.")
    pyramid = _weight_pyramid(weights)
    if values.ndim == 2:
        return _fill(values, pyramid)
    filled = np.empty(values.shape, np.float32)
    for channel in range(values.shape[2]):  # one at a time: planes are faster and need less room
        filled[..., channel] = _fill(np.ascontiguousarray(values[..., channel]), pyramid)
    return filled


def _weight_pyramid(weights: Float32Map) -> list[Float32Map]:
    """Weights at full, half, quarter ... size, until all are 1 or one pixel is left."""
    pyramid = [weights]
    while pyramid[-1].size > 1 and pyramid[-1].min() < 1:
        # Summed, not averaged: one full-weight pixel is enough to know its coarse pixel.
        pyramid.append(np.minimum(4 * _halve(pyramid[-1]), 1))
    return pyramid


def _fill(values: Float32Map, pyramid: list[Float32Map]) -> Float32Map:
    """Pull one plane (h, w) down the pyramid of weights and push it up again."""
    weights = pyramid[0]
    known = weights > 0
    # Relative to one of the values, so that rounding cannot move a constant.
    origin = values[np.unravel_index(known.argmax(), known.shape)]
    level = np.where(known, values - origin, np.float32(0))
    levels = [level]
    for weights in pyramid[:-1]:
        total = _halve(weights)
        level = _halve(level * weights)
        np.divide(level, total, out=level, where=total > 0)
        levels.append(level)

    filled = levels.pop()
    for weights in pyramid[-2::-1]:
        level = levels.pop()
        filled = cv2.resize(filled, level.shape[::-1], interpolation=cv2.INTER_LINEAR)
        level -= filled
        level *= weights
        filled += level
    filled += origin
    np.copyto(filled, values, where=pyramid[0] == 1)
    return filled


def _halve(plane: Float32Map) -> Float32Map:
    """Area average to half the size, rounded up; both images cover the same extent."""
    height, width = plane.shape
    half = ((width + 1) // 2, (height + 1) // 2)
    return np.asarray(cv2.resize(plane, half, interpolation=cv2.INTER_AREA), np.float32)
