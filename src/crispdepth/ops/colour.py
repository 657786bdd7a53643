"""Between sRGB, which files hold, and scene-linear light, which lenses mix."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispdepth.types import Float32Map

_STEPS = 2**16 - 1  # fine enough that sRGB bytes survive the way to linear and back


def linear_from_srgb(image: NDArray[Any]) -> Float32Map:
    """Scene-linear values in [0, 1] of sRGB uint8 or uint16 of any shape (IEC 61966-2-1)."""
    levels = np.linspace(0, 1, np.iinfo(image.dtype).max + 1)
    curve = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    linear: Float32Map = curve.astype(np.float32)[image]
    return linear


def srgb_from_linear(linear: NDArray[np.float32]) -> NDArray[np.uint8]:
    """sRGB bytes of scene-linear values of any shape; values outside [0, 1] are clipped.

    The inverse of `linear_from_srgb` for uint8.
    """
    steps = np.clip(linear, 0, 1)
    steps *= np.float32(_STEPS)
    return _srgb_bytes()[np.rint(steps, out=steps).astype(np.uint16)]


@cache
def _srgb_bytes() -> NDArray[np.uint8]:
    levels = np.linspace(0, 1, _STEPS + 1)
    curve = np.where(levels <= 0.0031308, levels * 12.92, 1.055 * levels ** (1 / 2.4) - 0.055)
    table: NDArray[np.uint8] = np.rint(curve * 255).astype(np.uint8)
    return table
