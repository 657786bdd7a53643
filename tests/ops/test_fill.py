from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from crispdepth.ops.fill import pull_push
from crispdepth.types import Float32Map

sizes = st.tuples(st.integers(1, 33), st.integers(1, 33))


def random_problem(
    size: tuple[int, int], seed: int, *channels: int
) -> tuple[NDArray[np.float32], Float32Map]:
    rng = np.random.default_rng(seed)
    values = rng.normal(3, 10, (*size, *channels)).astype(np.float32)
    weights = np.round(rng.random(size) * 1.6 - 0.6, 1).clip(0, 1).astype(np.float32)
    weights.flat[rng.integers(weights.size)] = 1
    return values, weights


@given(size=sizes, seed=st.integers(0, 10**6))
def test_pixels_of_full_weight_keep_their_value_exactly(size: tuple[int, int], seed: int) -> None:
    values, weights = random_problem(size, seed)
    filled = pull_push(values, weights)
    np.testing.assert_array_equal(filled[weights == 1], values[weights == 1])


@given(
    size=sizes,
    seed=st.integers(0, 10**6),
    constant=st.floats(-1e6, 1e6, width=32),
)
def test_a_constant_stays_that_constant_exactly(
    size: tuple[int, int], seed: int, constant: float
) -> None:
    _, weights = random_problem(size, seed)
    filled = pull_push(np.full(size, constant, np.float32), weights)
    np.testing.assert_array_equal(filled, np.float32(constant))


@given(size=sizes, seed=st.integers(0, 10**6))
def test_values_of_weight_zero_do_not_matter(size: tuple[int, int], seed: int) -> None:
    values, weights = random_problem(size, seed)
    poisoned = np.where(weights > 0, values, np.float32(np.nan))
    np.testing.assert_array_equal(pull_push(poisoned, weights), pull_push(values, weights))


@given(size=sizes, seed=st.integers(0, 10**6))
def test_the_fill_stays_within_the_range_of_the_weighted_values(
    size: tuple[int, int], seed: int
) -> None:
    values, weights = random_problem(size, seed)
    filled = pull_push(values, weights)
    seen = values[weights > 0]
    assert filled.min() >= seen.min() - 1e-4
    assert filled.max() <= seen.max() + 1e-4


def test_channels_are_filled_one_by_one() -> None:
    values, weights = random_problem((21, 34), 0, 3)
    filled = pull_push(values, weights)
    for channel in range(3):
        np.testing.assert_array_equal(
            filled[..., channel], pull_push(values[..., channel], weights)
        )


@pytest.mark.parametrize("flip", [np.flipud, np.fliplr, np.transpose])
def test_the_fill_turns_with_the_image(
    flip: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> None:
    values, weights = random_problem((32, 32), 1)
    np.testing.assert_allclose(
        pull_push(flip(values), flip(weights)), flip(pull_push(values, weights)), atol=1e-4
    )


def test_a_weight_between_zero_and_one_blends_value_and_fill() -> None:
    values = np.zeros((32, 32), np.float32)
    weights = np.ones((32, 32), np.float32)
    values[16, 16], weights[16, 16] = 1, 0.25
    # Its neighbours are all 0, so the fill there is nearly 0 and the value counts by its weight.
    assert pull_push(values, weights)[16, 16] == pytest.approx(0.25, abs=0.08)
    weights[16, 16] = 0.75
    assert pull_push(values, weights)[16, 16] == pytest.approx(0.75, abs=0.08)


def test_a_hole_takes_the_values_around_it_not_the_far_ones() -> None:
    values = np.zeros((64, 64), np.float32)
    values[:, 32:] = 1
    weights = np.ones((64, 64), np.float32)
    weights[28:34, 6:12] = 0
    weights[28:34, 50:56] = 0
    filled = pull_push(values, weights)
    np.testing.assert_allclose(filled[28:34, 6:12], 0, atol=1e-6)
    np.testing.assert_allclose(filled[28:34, 50:56], 1, atol=1e-6)


def test_a_hole_in_a_smooth_image_is_filled_smoothly() -> None:
    y, x = np.mgrid[:64, :64].astype(np.float32) / 64
    plane = (x + 2 * y).astype(np.float32)
    weights = np.ones((64, 64), np.float32)
    weights[20:44, 20:44] = 0
    filled = pull_push(np.where(weights > 0, plane, -9).astype(np.float32), weights)
    assert np.abs(filled - plane).max() < 0.25  # the plane spans 3
    steps = max(np.abs(np.diff(filled, axis=axis)).max() for axis in (0, 1))
    assert steps < 0.25


def test_the_inputs_are_left_alone() -> None:
    values, weights = random_problem((20, 20), 2)
    copies = values.copy(), weights.copy()
    pull_push(values, weights)
    np.testing.assert_array_equal(values, copies[0])
    np.testing.assert_array_equal(weights, copies[1])


def test_one_sample_fills_a_large_image_of_odd_size() -> None:
    weights = np.zeros((501, 333), np.float32)
    values = np.zeros((501, 333), np.float32)
    weights[77, 200], values[77, 200] = 1, 0.1
    np.testing.assert_array_equal(pull_push(values, weights), np.float32(0.1))


def test_filling_reproduces_a_blurred_photo_from_a_tenth_of_its_pixels() -> None:
    rng = np.random.default_rng(3)
    noise = rng.random((96, 96), dtype=np.float32)
    image = np.asarray(cv2.GaussianBlur(noise, (0, 0), 12), np.float32)
    weights = (rng.random((96, 96)) < 0.1).astype(np.float32)
    error = np.abs(pull_push(image, weights) - image)
    assert error.max() < 0.35 * np.ptp(image)
    assert error.mean() < 0.05 * np.ptp(image)


@pytest.mark.parametrize(
    ("values", "weights", "message"),
    [
        (np.ones((4, 4)), np.zeros((4, 4)), "nothing to fill from"),
        (np.ones((4, 4)), np.full((4, 4), 1.5), r"\[0, 1\]"),
        (np.ones((4, 4)), np.full((4, 4), np.nan), r"\[0, 1\]"),
        (np.ones((4, 4)), np.ones((4, 5)), r"got \(4, 4\) and \(4, 5\)"),
        (np.ones(4), np.ones(4), r"got \(4,\)"),
    ],
)
def test_unusable_input_is_refused(
    values: NDArray[np.float64], weights: NDArray[np.float64], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pull_push(values.astype(np.float32), weights.astype(np.float32))
