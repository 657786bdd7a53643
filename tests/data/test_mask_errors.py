"""Wrong masks are masks still, and wrong by a little."""

import cv2
import numpy as np

from crispdepth.data.mask_errors import spoiled
from crispdepth.types import Float32Map


def disc() -> Float32Map:
    return np.asarray(cv2.circle(np.zeros((64, 80), np.float32), (40, 32), 20, 1.0, -1))


def test_a_spoiled_mask_is_a_little_wrong_and_in_range() -> None:
    areas = []
    for seed in range(40):
        mask = spoiled(disc(), np.random.default_rng(seed))
        assert mask.dtype == np.float32
        assert mask.min() >= 0
        assert mask.max() <= 1
        overlap = np.minimum(mask, disc()).sum() / np.maximum(mask, disc()).sum()
        assert 0.5 < overlap < 1
        areas.append(mask.mean() / disc().mean())
    assert min(areas) < 0.9
    assert max(areas) > 1.1


def test_a_mask_of_ones_stays_one() -> None:
    for seed in range(10):
        ones = np.ones((20, 30), np.float32)
        np.testing.assert_array_equal(spoiled(ones, np.random.default_rng(seed)), ones)
