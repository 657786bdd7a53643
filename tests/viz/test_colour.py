import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from crispdepth.viz.colour import (
    BETTER,
    INVALID,
    WORSE,
    change_map,
    colour_depth,
    colour_range,
    overlay_mask,
    signed_map,
)

maps = arrays(np.float32, (5, 7), elements=st.floats(-100, 100, width=32))


@given(maps)
def test_equal_values_have_equal_colours(values: np.ndarray) -> None:
    rgb = colour_depth(np.hstack([values, values]), low=-10, high=10)
    assert rgb.dtype == np.uint8
    assert np.array_equal(rgb[:, :7], rgb[:, 7:])


def test_nearer_is_never_darker() -> None:
    ramp = np.linspace(-1, 11, 1000, dtype=np.float32)[None]
    rgb = colour_depth(ramp, low=0, high=10).astype(float)
    luminance = (rgb @ (0.2126, 0.7152, 0.0722))[0]
    assert (np.diff(luminance) > -2).all()
    assert luminance[0] < 5
    assert luminance[-1] > 200


def test_colours_do_not_depend_on_scale_and_shift_when_the_range_follows() -> None:
    values = np.random.default_rng(0).random((40, 50)).astype(np.float32)
    everywhere = np.ones(values.shape, bool)
    pictures = []
    for scaled in (values, 8 * values - 3):
        low, high = colour_range(scaled, everywhere)
        pictures.append(colour_depth(scaled, low=low, high=high).astype(int))
    assert np.abs(pictures[0] - pictures[1]).max() <= 8  # one level of the map apart, by rounding


def test_the_range_ignores_outliers_and_invalid_pixels() -> None:
    values = np.tile(np.linspace(1, 2, 1000, dtype=np.float32), (100, 1))
    valid = np.ones(values.shape, bool)
    values[0, :9] = 1e6
    values[1:3], valid[1:3] = -1e6, False
    low, high = colour_range(values, valid)
    assert low == pytest.approx(1.01, abs=0.005)
    assert high == pytest.approx(1.99, abs=0.005)


def test_a_map_without_valid_pixels_still_has_a_range_and_a_picture() -> None:
    nothing = np.zeros((4, 4), np.float32)
    low, high = colour_range(nothing, nothing > 0)
    rgb = colour_depth(nothing, nothing > 0, low=low, high=high)
    assert low < high
    assert (rgb == INVALID).all()


def test_a_constant_map_has_one_colour() -> None:
    constant = np.full((4, 4), 3, np.float32)
    low, high = colour_range(constant, constant > 0)
    assert len(np.unique(colour_depth(constant, low=low, high=high).reshape(-1, 3), axis=0)) == 1


def test_grey_means_invalid_and_nothing_else() -> None:
    ramp = np.linspace(-1, 1, 2000, dtype=np.float32)[None]
    for rgb in (colour_depth(ramp, low=-1, high=1), signed_map(ramp, 1)):
        assert not (rgb == INVALID).all(-1).any()


def test_no_change_is_white_and_the_limits_are_the_two_colours() -> None:
    values = np.array([[0, -2, 2, -5, 5]], np.float32)
    assert signed_map(values, 2)[0].tolist() == [
        [255, 255, 255],
        *map(list, (BETTER, WORSE, BETTER, WORSE)),
    ]


@given(maps)
def test_turning_better_into_worse_swaps_red_and_blue(values: np.ndarray) -> None:
    assert np.array_equal(signed_map(-values, 10), signed_map(values, 10)[..., ::-1])


@given(maps)
def test_the_change_map_darkens_with_the_change(values: np.ndarray) -> None:
    change = np.sort(np.abs(values).ravel())[None]
    assert (np.diff(change_map(change, 50).astype(int), axis=1) <= 0).all()


def test_invalid_pixels_are_grey_in_every_map() -> None:
    values, valid = np.zeros((3, 4), np.float32), np.arange(12).reshape(3, 4) % 2 == 0
    for rgb in (
        colour_depth(values, valid, low=0, high=1),
        signed_map(values, 1, valid),
        change_map(values, 1, valid),
    ):
        assert np.array_equal((rgb == INVALID).all(-1), ~valid)


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_a_limit_that_is_not_positive_is_refused(limit: float) -> None:
    values = np.zeros((2, 2), np.float32)
    with pytest.raises(ValueError, match="must be positive"):
        signed_map(values, limit)
    with pytest.raises(ValueError, match="must be positive"):
        change_map(values, limit)


def test_the_outline_runs_along_the_mask_and_leaves_the_rest_alone() -> None:
    photo = np.full((60, 80, 3), 90, np.uint8)
    mask = np.zeros((60, 80), np.float32)
    mask[20:40, 20:60] = 1
    mask[28:32, 38:42] = 0  # a hole has an outline too
    painted = (overlay_mask(photo, mask) != photo).any(-1)
    assert painted[20, 20:60].all()
    assert painted[28, 38:42].all()
    assert not painted[:16].any()
    assert not painted[24, 26:34].any()
    assert (photo == 90).all()  # the photo itself is not drawn on


def test_an_empty_mask_has_no_outline() -> None:
    photo = np.full((6, 8, 3), 90, np.uint8)
    assert np.array_equal(overlay_mask(photo, np.zeros((6, 8), bool)), photo)
