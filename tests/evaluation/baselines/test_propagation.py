from typing import Any

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from crispdepth.evaluation.baselines.propagation import (
    KERNEL,
    layered_propagation,
    merge_by_change,
)
from crispdepth.types import Float32Map, MaskSet

maps = arrays(np.float32, (3, 4), elements=st.integers(-5, 5).map(float))


def test_a_step_blurred_no_wider_than_the_kernel_becomes_the_ideal_step(case: Any) -> None:
    refined = layered_propagation(case.image, case.rough, case.masks)
    np.testing.assert_allclose(refined, case.truth, atol=1e-3)


def test_pixels_away_from_the_mask_edge_are_kept_exactly(case: Any) -> None:
    rough = case.rough + np.linspace(0, 1, case.rough.size, dtype=np.float32).reshape(28, 36)
    refined = layered_propagation(case.image, rough, case.masks)
    inside = case.inside.astype(np.uint8)
    kept = (cv2.erode(inside, KERNEL) > 0) | (cv2.dilate(inside, KERNEL) == 0)
    np.testing.assert_array_equal(refined[kept], rough[kept])


def test_a_layer_without_a_trusted_pixel_keeps_the_depth(case: Any) -> None:
    full = MaskSet(np.ones((1, *case.rough.shape), np.uint8) * np.uint8(255))
    np.testing.assert_array_equal(layered_propagation(case.image, case.rough, full), case.rough)
    thin = np.zeros_like(case.inside)
    thin[14, 3:30] = True  # erosion leaves nothing of it
    refined = layered_propagation(case.image, case.rough, MaskSet(thin[None]))
    np.testing.assert_array_equal(refined[thin], case.rough[thin])


def test_the_range_of_the_depth_is_never_left(case: Any) -> None:
    refined = layered_propagation(case.image, case.rough, case.masks)
    assert refined.min() >= case.rough.min() - 1e-4
    assert refined.max() <= case.rough.max() + 1e-4


@given(maps, st.lists(maps, max_size=4))
def test_merging_takes_at_every_pixel_the_largest_change(
    initial: Float32Map, refinements: list[Float32Map]
) -> None:
    merged = merge_by_change(initial, iter(refinements))
    change = np.abs(merged - initial)
    largest = np.max([np.zeros_like(initial), *(np.abs(r - initial) for r in refinements)], axis=0)
    np.testing.assert_array_equal(change, largest)
    candidates = np.stack([initial, *refinements])
    assert (candidates == merged).any(axis=0).all()


@given(maps, st.lists(maps, min_size=2, max_size=4))
def test_merging_does_not_depend_on_the_order_but_for_ties(
    initial: Float32Map, refinements: list[Float32Map]
) -> None:
    forwards = merge_by_change(initial, refinements)
    backwards = merge_by_change(initial, refinements[::-1])
    np.testing.assert_array_equal(np.abs(forwards - initial), np.abs(backwards - initial))


def test_of_equal_changes_the_first_is_taken() -> None:
    initial = np.zeros((1, 1), np.float32)
    assert merge_by_change(initial, [initial + 2, initial - 2]) == 2
