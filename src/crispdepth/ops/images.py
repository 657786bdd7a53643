"""Operations on photos."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def eight_bit(image: NDArray[Any]) -> NDArray[np.uint8]:
    """The photo or mask, (h, w) or (h, w, c) uint8 or uint16, in 8 bits; 8-bit ones as they are.

    255 * 257 = 65535, so the same share of white in 8 bits is the value / 257, rounded.
    """
    if image.dtype == np.uint8:
        return image
    return np.asarray(cv2.convertScaleAbs(image, alpha=1 / 257), np.uint8)
