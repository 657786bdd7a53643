"""The band is as wide as the depth's edge, and lies where the depth has it."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crispdepth.ops.band import REACH, band_widths, signed_distance
from crispdepth.types import BoolMap, Float32Map, Size

SIZE = (40, 400)
HALF_WIDTH = np.sqrt(2 * np.log(5))  # of a Gaussian at a fifth of its peak, in sigmas


def left_half(size: Size, shift: int = 0) -> BoolMap:
    inside: BoolMap = np.broadcast_to(np.arange(size[1]) < size[1] // 2 + shift, size).copy()
    return inside


def disk(size: Size = (96, 128), radius: float = 28) -> BoolMap:
    y, x = np.indices(size) + 0.5
    inside: BoolMap = (y - size[0] / 2) ** 2 + (x - size[1] / 2) ** 2 < radius**2
    return inside


def blurred(inside: BoolMap, sigma: float) -> Float32Map:
    """Inverse depth 8 inside and 2 outside, out of focus."""
    sharp = np.where(inside, np.float32(8), np.float32(2))
    return np.asarray(cv2.GaussianBlur(sharp, (0, 0), sigma), np.float32)


@pytest.mark.parametrize("sigma", [0.8, 1.5, 2.5, 4])
@pytest.mark.parametrize("shift", [-2, -1, 0, 1, 2])
def test_widths_are_those_of_the_blur_plus_or_minus_its_offset(sigma: float, shift: int) -> None:
    depth = blurred(left_half(SIZE, shift), sigma)
    within, without = band_widths(depth, left_half(SIZE))
    half_width = HALF_WIDTH * np.hypot(sigma, 0.6)  # the slope filter blurs too
    assert within == pytest.approx(max(1, half_width - shift), abs=1.6)
    assert without == pytest.approx(max(1, half_width + shift), abs=1.6)


def test_more_blur_makes_a_wider_band() -> None:
    widths = [
        sum(band_widths(blurred(disk((192, 256), 60), s), disk((192, 256), 60))) for s in (1, 2, 3)
    ]
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([-8.0, -1.0, -0.25, 0.125, 0.5, 2.0, 64.0]), st.integers(-50, 50))
def test_scale_sign_and_shift_of_the_depth_do_not_matter(gain: float, shift: int) -> None:
    rng = np.random.default_rng(1)
    noisy = blurred(disk(), 1.7) + rng.normal(0, 0.05, (96, 128)).astype(np.float32)
    depth = (np.round(noisy * 256) / 256).astype(np.float32)  # so that the shift is exact
    moved = (np.float32(gain) * (depth + np.float32(shift))).astype(np.float32)
    assert band_widths(moved, disk()) == band_widths(depth, disk())


@pytest.mark.parametrize("shift", [-2, 0, 2])
def test_swapping_the_sides_swaps_the_widths(shift: int) -> None:
    depth = blurred(left_half(SIZE, shift), 2)
    inside = left_half(SIZE)
    assert band_widths(depth, ~inside) == band_widths(depth, inside)[::-1]
    within, without = band_widths(blurred(disk(), 2), disk())
    swapped = band_widths(blurred(disk(), 2), ~disk())
    np.testing.assert_allclose(swapped, (without, within), atol=1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_band_is_at_least_a_pixel_and_at_most_the_reach(seed: int) -> None:
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0, 10, (48, 64)).astype(np.float32)
    inside = cv2.GaussianBlur(rng.normal(size=(48, 64)), (0, 0), 4) > 0
    for width in band_widths(depth, inside):
        assert 1 <= width <= 2 * max(4, round(REACH * 64))


def test_a_sharp_edge_on_the_border_needs_a_narrow_band() -> None:
    for inside in (disk(), left_half(SIZE)):
        depth = np.where(inside, np.float32(8), np.float32(2))
        assert max(band_widths(depth, inside)) <= 2


def test_where_nothing_differs_the_band_is_a_pixel() -> None:
    assert band_widths(np.full(SIZE, 3, np.float32), left_half(SIZE)) == (1, 1)


def test_the_slant_of_the_surface_is_not_an_edge() -> None:
    """A ramp under the blurred step leaves its width alone."""
    ramp = np.linspace(0, 2, SIZE[1], dtype=np.float32)
    flat = blurred(left_half(SIZE), 2)
    np.testing.assert_allclose(
        band_widths(flat - ramp, left_half(SIZE)), band_widths(flat, left_half(SIZE)), atol=1
    )


def test_the_border_runs_between_the_pixels() -> None:
    np.testing.assert_allclose(signed_distance(left_half((3, 8)))[1], 3.5 - np.arange(8))


@pytest.mark.parametrize("inside", [disk(), left_half((40, 60)), disk() & ~disk(radius=5)])
def test_distances_are_antisymmetric_and_signed_by_side(inside: BoolMap) -> None:
    distance = signed_distance(inside)
    np.testing.assert_array_equal(distance > 0, inside)
    np.testing.assert_array_equal(signed_distance(~inside), -distance)
    assert np.abs(distance).min() == 0.5


def test_the_distance_in_a_disk_is_that_to_its_rim() -> None:
    y, x = np.indices((96, 128)) + 0.5
    rim = 28 - np.hypot(y - 48, x - 64)
    np.testing.assert_allclose(signed_distance(disk()), rim, rtol=0.03, atol=0.8)
