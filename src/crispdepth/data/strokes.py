"""Drawing silhouettes: tapered strokes, smooth noise, irregular outlines."""

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.types import Float32Map, Size

Mask = NDArray[np.uint8]  # (h, w), 0 or 1
Points = NDArray[np.float64]  # (..., 2): x, y
Rng = np.random.Generator

SUBPIXEL = 4
"""Bits of the fractional part of OpenCV's drawing coordinates."""


def draw(mask: Mask, outlines: Points | Iterable[Points]) -> None:
    """Set to 1, in place, what convex outlines enclose, each (n, 2) in pixels.

    OpenCV also fills the pixels that an outline only touches.
    """
    # All at once where they have as many points each: there are many triangles in a mesh.
    fixed = _fixed(outlines) if isinstance(outlines, np.ndarray) else map(_fixed, outlines)
    for outline in fixed:
        cv2.fillConvexPoly(mask, outline, 1, shift=SUBPIXEL)


def draw_lines(mask: Mask, lines: Iterable[Points], thickness: int) -> None:
    """Set to 1, in place, open lines (n, 2) in pixels, ``thickness`` pixels wide."""
    fixed = [_fixed(line) for line in lines]
    cv2.polylines(mask, fixed, False, 1, thickness, shift=SUBPIXEL)


def _fixed(points: Points) -> NDArray[np.int32]:
    # Pixels are addressed by their corners here and by their centres in OpenCV.
    fixed: NDArray[np.int32] = np.rint((points - 0.5) * 2**SUBPIXEL).astype(np.int32)
    return fixed


def capsules(ends: Points, radii: NDArray[np.float64], steps: int = 6) -> Points:
    """Convex outlines (n, 2 steps, 2) of strokes that taper from one radius to another.

    Args:
        ends: (n, 2, 2): first and last point.
        radii: (n, 2), at the first and at the last point.
        steps: points of each round end.
    """
    along = ends[:, 1] - ends[:, 0]
    heading = np.arctan2(along[:, 1], along[:, 0])[:, None, None]
    half = np.linspace(np.pi / 2, 3 * np.pi / 2, steps)
    angle = heading + np.stack([half, half + np.pi])  # (n, 2, steps)
    round_ends = radii[:, :, None, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    outlines: Points = (ends[:, :, None] + round_ends).reshape(len(ends), 2 * steps, 2)
    return outlines


def disk(radius: float) -> Mask:
    """A round structuring element that reaches ``radius`` pixels from its middle, rounded up."""
    width = 2 * int(np.ceil(radius)) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)), np.uint8)


def smooth_noise(rng: Rng, size: Size, wavelength: float) -> Float32Map:
    """Noise of ``size`` (h, w), zero mean and about unit variance, that varies over a length."""
    cells = [int(np.ceil(extent / wavelength)) + 3 for extent in size]
    coarse = rng.standard_normal(cells, dtype=np.float32)
    fine = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray(fine, np.float32)


def wobble(mask: Mask, rng: Rng, amplitude: float, wavelength: float) -> Mask:
    """The mask with its outline shifted irregularly by about ``amplitude`` pixels."""
    height, width = mask.shape
    x, y = (np.float32(amplitude) * smooth_noise(rng, mask.shape, wavelength) for _ in range(2))
    x += np.arange(width, dtype=np.float32)
    y += np.arange(height, dtype=np.float32)[:, None]
    moved = cv2.remap(mask, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8)
