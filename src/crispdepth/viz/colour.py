"""Depth, signed change and masks as colours: (h, w, 3) uint8 sRGB."""

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.ops.images import eight_bit
from crispdepth.types import BoolMap, Float32Map

Rgb = NDArray[np.uint8]  # (h, w, 3), sRGB
Colour = tuple[int, int, int]

INVALID: Colour = (128, 128, 128)
"""Where nothing was measured: a grey that neither colour map contains."""

BETTER: Colour = (20, 80, 190)
WORSE: Colour = (190, 80, 20)  # BETTER with red and blue swapped: equal amounts look equally strong

_SAMPLES = 1 << 18  # values that are enough for a percentile


class Range(NamedTuple):
    """The values that the two ends of a colour map stand for."""

    low: float
    high: float


def colour_range(
    values: Float32Map,  # (h, w)
    valid: BoolMap,  # (h, w)
    percentiles: tuple[float, float] = (1, 99),
) -> Range:
    """The range between two percentiles of the valid values; (0, 1) when there is none.

    Take it from one map and show every map that is compared with it in the same range: only then
    do equal colours mean equal depths.
    """
    step = max(1, int(np.sqrt(values.size / _SAMPLES)))
    sample = values[::step, ::step][valid[::step, ::step]]
    if sample.size == 0:
        return Range(0.0, 1.0)
    low, high = np.percentile(sample, percentiles)
    return Range(float(low), float(high))


def colour_depth(
    values: NDArray[np.floating[Any]],  # (h, w), inverse depth: near is bright
    valid: BoolMap | None = None,  # (h, w); None: everywhere
    *,
    low: float,
    high: float,
) -> Rgb:
    """Values in [low, high] as the Inferno map, whose lightness rises evenly from end to end.

    Values outside the range take the colour of its nearer end, invalid pixels are grey.
    """
    span = high - low if high > low else 1.0
    level = np.clip((values - low) * (255 / span), 0, 255)
    rgb = _map(np.rint(level).astype(np.uint8))
    if valid is not None:
        rgb[~valid] = INVALID
    return rgb


def signed_map(
    values: NDArray[np.floating[Any]],  # (h, w)
    limit: float,
    valid: BoolMap | None = None,  # (h, w); None: everywhere
) -> Rgb:
    """Signed values as blue (-limit, better), white (0) and red (+limit, worse).

    With values ``|refined - truth| - |initial - truth|`` this is the relative-improvement map of
    *Layered Depth Refinement with Mask Guidance*, Fig. 6.

    Raises:
        ValueError: ``limit`` is not positive.
    """
    _check_limit(limit)
    share = np.clip(values / np.float32(limit), -1, 1)[..., None]
    end = np.where(share < 0, np.array(BETTER, np.float32), np.array(WORSE, np.float32))
    rgb: Rgb = np.rint(255 + (end - 255) * np.abs(share)).astype(np.uint8)
    if valid is not None:
        rgb[~valid] = INVALID
    return rgb


def change_map(
    change: Float32Map,  # (h, w), >= 0
    limit: float,
    valid: BoolMap | None = None,  # (h, w); None: everywhere
) -> Rgb:
    """The size of a change, from white (0) to black (``limit``): it says nothing of the sign.

    Raises:
        ValueError: ``limit`` is not positive.
    """
    _check_limit(limit)
    level = np.rint(255 - np.clip(change * (255 / limit), 0, 255)).astype(np.uint8)
    rgb: Rgb = cv2.cvtColor(level, cv2.COLOR_GRAY2RGB).astype(np.uint8, copy=False)
    if valid is not None:
        rgb[~valid] = INVALID
    return rgb


def overlay_mask(
    image: NDArray[np.uint8] | NDArray[np.uint16],  # (h, w, 3)
    mask: NDArray[Any],  # (h, w), bool or soft in [0, 1]
    colour: Colour = (0, 220, 255),
) -> Rgb:
    """The photo with the outline of ``mask >= 0.5``, dark-edged so that it shows on any ground."""
    rgb = eight_bit(image).copy()
    inside = np.asarray(mask >= 0.5, np.uint8)
    outline, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    width = max(1, round(max(rgb.shape) / 500))
    cv2.drawContours(rgb, outline, -1, (0, 0, 0), width + 2, cv2.LINE_AA)
    cv2.drawContours(rgb, outline, -1, colour, width, cv2.LINE_AA)
    return rgb


def _map(level: NDArray[np.uint8]) -> Rgb:
    bgr = cv2.applyColorMap(level, cv2.COLORMAP_INFERNO)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def _check_limit(limit: float) -> None:
    if not limit > 0:
        raise ValueError(f"The value of the full colour must be positive, got {limit!r}.")
