import cv2
import numpy as np
import pytest

from crispdepth.ops.mask_contract import depth_inside, erode, evidence, grow
from crispdepth.types import Float32Map, MaskSet


def disc(radius: float, size: int = 41) -> Float32Map:
    y, x = np.mgrid[:size, :size] - size // 2
    return np.asarray(np.clip(radius + 0.5 - np.hypot(y, x), 0, 1), np.float32)


def test_no_masks_and_masks_of_ones_mean_the_same() -> None:
    ones = np.ones((1, 8, 8), np.float32)
    empty = MaskSet(np.zeros((1, 8, 8), np.uint8), role="ignore")
    for masks in (None, MaskSet(ones), empty, MaskSet(ones[:0])):
        found = evidence(masks, (8, 8))
        assert found.weight is None
        assert found.inside is None


def test_an_ignored_pixel_is_no_evidence_and_carves_nothing() -> None:
    values = np.zeros((1, 8, 8), np.float32)
    values[0, 2:4] = 0.75
    found = evidence(MaskSet(values, role="ignore"), (8, 8))
    assert found.inside is None
    np.testing.assert_array_equal(found.weight, 1 - values[0])


def test_an_empty_object_mask_is_known_to_be_empty() -> None:
    found = evidence(MaskSet(np.zeros((1, 8, 8), np.uint8)), (8, 8))
    assert found.inside is not None
    assert not found.inside.any()


def test_masks_of_several_objects_unite_and_stay_soft() -> None:
    values = np.zeros((2, 8, 8), np.float32)
    values[0, :4], values[1, 2:] = 0.5, 0.8
    found = evidence(MaskSet(values), (8, 8))
    np.testing.assert_array_equal(found.inside, values.max(axis=0))


def test_shrinking_keeps_the_mean() -> None:
    mask = np.random.default_rng(0).random((1, 32, 48)).astype(np.float32)
    found = evidence(MaskSet(mask), (8, 12))
    assert found.weight is not None
    assert found.weight.mean() == pytest.approx(mask.mean(), abs=1e-5)


def test_distance_confidence_is_exactly_one_without_a_border_and_zero_in_nothing() -> None:
    assert (depth_inside(np.ones((5, 6), np.float32), 1.0) == 1).all()
    assert (depth_inside(np.zeros((5, 6), np.float32), 1.0) == 0).all()


def test_distance_confidence_rises_inwards_about_a_half_at_the_border() -> None:
    mask = disc(12)
    confidence = depth_inside(mask, 1.5)
    row = confidence[20, 20:]
    assert (np.diff(row) <= 1e-6).all()
    assert row[0] > 0.99
    border = (mask >= 0.5) & (cv2.erode(mask, np.ones((3, 3))) < 0.5)
    assert 0.5 < confidence[border].mean() < 0.65


def test_growing_and_eroding_are_opposites_of_one_another() -> None:
    mask = disc(8.5) * np.float32(0.8)
    for radius in (1, 3):
        np.testing.assert_allclose(erode(mask, radius), 1 - grow(1 - mask, radius), atol=1e-6)
        assert (erode(mask, radius) <= mask).all()
        assert (grow(mask, radius) >= mask).all()
    assert (grow(disc(5.5), 3) > 0.5).sum() == pytest.approx((disc(8.5) > 0.5).sum(), rel=0.05)
    ones = np.ones((5, 6), np.float32)
    assert (erode(ones, 2) == 1).all()
    assert erode(mask, 0) is mask
