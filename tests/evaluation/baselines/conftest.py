"""A small photo with a soft depth step at a mask's edge."""

from typing import NamedTuple

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from crispdepth.types import BoolMap, Float32Map, MaskSet


class Case(NamedTuple):
    image: NDArray[np.uint8]
    truth: Float32Map  # an ideal step
    rough: Float32Map  # the step blurred over two pixels either side
    inside: BoolMap
    masks: MaskSet


@pytest.fixture
def case() -> Case:
    inside = np.zeros((28, 36), bool)
    inside[8:20, 10:26] = True
    truth = np.where(inside, np.float32(3), np.float32(1))
    photo = np.random.default_rng(0).integers(0, 40, (28, 36, 3)) + 160 * inside[..., None]
    return Case(
        photo.astype(np.uint8),
        truth,
        cv2.blur(truth, (5, 5)).astype(np.float32),
        inside,
        MaskSet(inside[None]),
    )
