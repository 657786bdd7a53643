"""Errors that matching makes in depth, drawn at random: for learning to fuse what is not right.

All are errors of inverse depth, in steps of a sweep of planes, for that is where matching makes
them: surfaces that undulate by parts of a step, outlines that the foreground outgrows, patches
that matched something else, holes. Confidence knows of them, but not for sure.
"""

from typing import NamedTuple

import cv2
import numpy as np

from crispdepth.data.strokes import Rng, smooth_noise
from crispdepth.types import Float32Map

PLANES = (64, 160)
"""Planes between the nearest and the farthest depth: one step is the unit of the errors."""

WAVES = ((3.0, 0.35), (12.0, 0.5), (48.0, 0.5))
"""Wavelengths (pixels of a frame 320 wide) and largest deviations (steps) of undulation."""

OUTGROWN = 3
"""Pixels by which the foreground outgrows its outline at most."""

MISMATCHED, MISMATCH = 0.12, 12.0
"""Largest share of a frame that matched something else, and how far off that is, in steps."""

HOLES = 0.6
"""Largest share of a frame without depth."""


class RoughDepth(NamedTuple):
    """What matching knows of a view."""

    depth: Float32Map  # (h, w) z-depth, 0 = none
    confidence: Float32Map  # (h, w) in [0, 1], 0 where there is no depth


def with_errors(depth: Float32Map, strength: float, rng: Rng) -> RoughDepth:
    """Depth as matching might have found it.

    Args:
        depth: (h, w) true z-depth, 0 where not measured.
        strength: of all errors; 0: the depth as it is, 1: as bad as they get.
        rng: the draw.
    """
    measured = depth > 0
    if strength == 0 or np.count_nonzero(measured) < 10:
        return RoughDepth(depth, measured.astype(np.float32))
    inverse = np.where(measured, 1 / np.where(measured, depth, 1), 0).astype(np.float32)
    low, high = np.quantile(inverse[measured], (0.01, 0.99))
    step = np.float32(max(high - low, 0.05 * high) / rng.uniform(*PLANES))
    found = inverse
    if grown := int(strength * rng.integers(0, OUTGROWN + 1)):
        disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * grown + 1,) * 2)
        found = np.asarray(cv2.dilate(found, disk), np.float32)
    scale = max(depth.shape) / 320
    for length, most in WAVES:
        noise = smooth_noise(rng, depth.shape, length * scale)
        found = found + noise * np.float32(strength * rng.uniform(0, most)) * step
    share = strength * rng.uniform(0, MISMATCHED)
    wrong = _patches(share, 10 * scale, depth.shape, rng)
    off = smooth_noise(rng, depth.shape, 16 * scale) * np.float32(MISMATCH * strength) * step
    found = np.where(wrong, found + off, found)
    kept = measured & ~_patches(strength * rng.uniform(0, HOLES), 14 * scale, depth.shape, rng)
    kept &= found > 0.2 * low
    error = np.abs(found - inverse) / step
    doubt = error * rng.uniform(0, 1) + np.abs(smooth_noise(rng, depth.shape, 8 * scale))
    confidence = np.where(kept, 1 / (1 + np.float32(rng.uniform(0.2, 1)) * doubt), 0)
    rough = np.where(kept, 1 / np.where(kept, found, 1), 0)
    return RoughDepth(rough.astype(np.float32), confidence.astype(np.float32))


def _patches(
    share: float, length: float, shape: tuple[int, int], rng: Rng
) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Patches of about ``length`` pixels that cover a share of a frame."""
    noise = smooth_noise(rng, shape, length)
    return np.asarray(noise > np.quantile(noise, 1 - share) if share > 0 else np.zeros(shape, bool))
