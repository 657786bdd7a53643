"""How wide the untrustworthy band along a mask's border is, measured on the depth itself."""

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.types import BoolMap, Float32Map

REACH = 0.0375
"""How far from the mask's border a depth edge is looked for, as a share of the longer side."""

EDGE_FLOOR = 0.2
"""Share of its peak slope down to which a depth edge extends."""

SHOULDER = 2.0
"""A band reaches at most this many times as far as the half-peak slope: a smooth surface that
rises towards the border is not the blur of the edge."""

LOPSIDED = 4.0
"""One side of a band is at most this many times as wide as the other: beyond that the slope
belongs to something else."""


def band_widths(depth: Float32Map, inside: BoolMap) -> tuple[float, float]:
    """Width in pixels, (inside, outside), of the band in which the depth edge does its rising.

    The slope of the depth across the border is averaged along the border, by signed distance to
    it, with the clearest edges counting most. A depth edge shows as a bump: its width is the
    blur of the depth, its offset from zero the disagreement with the mask. The band is where the
    bump stands above a fifth of its peak, at least one pixel on either side.

    Args:
        depth: (h, w), any affine scale.
        inside: (h, w), neither empty nor full.
    """
    reach = max(4, round(REACH * max(depth.shape)))
    profile = _slope_profile(depth, inside, reach)
    quiet = np.r_[profile[: reach // 2], profile[-(reach // 2) :]]
    profile = profile - np.median(quiet)
    peak = reach // 2 + int(profile[reach // 2 : reach + reach // 2].argmax())
    if not profile[peak] > 0:
        return 1.0, 1.0
    rises = [_rises(profile, peak, share * profile[peak]) for share in (EDGE_FLOOR, 0.5)]
    (first, last), (half_first, half_last) = rises
    within = min(last - reach + 1, max(SHOULDER * (half_last - reach + 1), 2))
    without = min(reach - first, max(SHOULDER * (reach - half_first), 2))
    within, without = max(1.0, float(within)), max(1.0, float(without))
    return min(within, LOPSIDED * without), min(without, LOPSIDED * within)


def _rises(profile: NDArray[np.float64], peak: int, floor: float) -> tuple[int, int]:
    """First and last index of the run around ``peak`` that stays above ``floor``."""
    below = np.flatnonzero(profile <= floor)
    before, after = below[below < peak], below[below > peak]
    first = int(before[-1]) + 1 if before.size else 0
    last = int(after[0]) - 1 if after.size else len(profile) - 1
    return first, last


def _slope_profile(depth: Float32Map, inside: BoolMap, reach: int) -> NDArray[np.float64]:
    """Mean rise of the depth per pixel towards the inside, by signed distance: (2 reach,).

    Entry ``reach + k`` is the mean at distances k to k + 1 inside the mask. The rise counts
    positive where it agrees in sign with the difference between the two sides nearby, and in
    proportion to the cube of that difference: edges that are there, not the noise where the two
    sides touch.
    """
    distance = signed_distance(inside)
    near = np.abs(distance) < reach
    rise = np.zeros_like(depth)
    for order in ((1, 0), (0, 1)):
        slopes = (cv2.Sobel(values, -1, *order, scale=1 / 8) for values in (distance, depth))
        rise += np.prod(list(slopes), axis=0)
    difference = _mean_near(depth, inside & near, reach / 3) - _mean_near(
        depth, ~inside & near, reach / 3
    )
    weight = difference[near].astype(np.float64) ** 3
    index = np.floor(distance[near] + reach).astype(np.intp)
    total = np.bincount(index, rise[near] * weight, 2 * reach)
    count = np.bincount(index, np.abs(weight), 2 * reach)
    return np.divide(total, count, out=np.zeros(2 * reach), where=count > 0)


def _mean_near(values: Float32Map, where: BoolMap, sigma: float) -> Float32Map:
    """Gaussian mean of the chosen pixels around each pixel, computed at a quarter of the size."""
    height, width = values.shape
    small = (max(1, width // 4), max(1, height // 4))
    weight = where.astype(np.float32)
    total, count = (
        cv2.GaussianBlur(cv2.resize(part, small, interpolation=cv2.INTER_AREA), (0, 0), sigma / 4)
        for part in (values * weight, weight)
    )
    mean = total / (count + np.float32(1e-6))
    return np.asarray(cv2.resize(mean, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def signed_distance(inside: BoolMap) -> Float32Map:
    """Distance in pixels to the border between the sides, (h, w), negative outside.

    The border runs between pixels, so the pixels beside it are at +0.5 and -0.5.
    """
    marked = inside.astype(np.uint8)
    to_outside = cv2.distanceTransform(marked, cv2.DIST_L2, cv2.DIST_MASK_5)
    to_inside = cv2.distanceTransform(1 - marked, cv2.DIST_L2, cv2.DIST_MASK_5)
    signed: Float32Map = np.where(inside, to_outside - 0.5, 0.5 - to_inside).astype(np.float32)
    return signed
