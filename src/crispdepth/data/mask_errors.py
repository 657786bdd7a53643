"""What is wrong with the masks that people and programs make: size, place, outline."""

import cv2
import numpy as np

from crispdepth.data.strokes import Rng
from crispdepth.ops.mask_contract import erode, grow
from crispdepth.types import Float32Map

RADIUS = 3
"""Most pixels by which a mask is too large or too small."""

SHIFT = 2.0
"""Most pixels by which a mask is out of place along either axis."""

WAVE, WAVELENGTH = 1.8, 8
"""Standard deviation of how far its outline strays, and over how many pixels it comes back."""


def spoiled(mask: Float32Map, rng: Rng) -> Float32Map:
    """The mask (h, w) in [0, 1] with one to three random errors; a mask of ones stays as it is."""
    kinds = rng.permutation(3)[: int(rng.integers(1, 4))]
    if 0 in kinds:
        radius = int(rng.integers(1, RADIUS + 1))
        mask = (grow if rng.integers(2) else erode)(mask, radius)
    offset = rng.uniform(-SHIFT, SHIFT, 2) if 1 in kinds else np.zeros(2)
    waves = rng.normal(0, WAVE, (2, *(2 + side // WAVELENGTH for side in mask.shape)))
    if 2 not in kinds:
        waves[:] = 0
    if not (offset.any() or waves.any()):
        return mask
    y, x = np.indices(mask.shape, np.float32)
    dx, dy = (
        cv2.resize(wave.astype(np.float32), mask.shape[::-1], interpolation=cv2.INTER_CUBIC)
        + np.float32(shift)
        for wave, shift in zip(waves, offset, strict=True)
    )
    moved = cv2.remap(mask, x + dx, y + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.float32)
