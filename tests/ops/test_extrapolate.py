"""What is trusted is continued: exactly where it is planar, by the photo where it is not."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from crispdepth.ops.extrapolate import extrapolate, fit_planes
from crispdepth.types import BoolMap, Float32Map, Size

SEEDS = st.integers(0, 2**32 - 1)
SLOPES = st.floats(-0.1, 0.1)


def plane(size: Size, slope_x: float, slope_y: float) -> Float32Map:
    y, x = np.indices(size) + 0.5
    values: Float32Map = (5 + slope_x * x + slope_y * y).astype(np.float32)
    return values


def spread(trusted: BoolMap) -> float:
    """Standard deviation in pixels of the trusted pixels along their narrowest direction."""
    points = np.argwhere(trusted)
    centred = points - points.mean(axis=0)
    return float(np.linalg.svd(centred, compute_uv=False)[-1] / np.sqrt(len(points)))


@settings(max_examples=60, deadline=None)
@given(st.tuples(st.integers(8, 60), st.integers(8, 60)), SLOPES, SLOPES, st.floats(0.02, 1), SEEDS)
def test_a_plane_is_continued_exactly_from_any_pixels_that_span_it(
    size: Size, slope_x: float, slope_y: float, share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    trusted = rng.random(size) < share
    assume(np.count_nonzero(trusted) >= 3 and spread(trusted) > 2.5)
    truth = plane(size, slope_x, slope_y)
    garbage = np.where(trusted, truth, rng.uniform(-50, 50, size)).astype(np.float32)
    guide = rng.random(size).astype(np.float32)
    np.testing.assert_allclose(extrapolate(garbage, trusted, guide), truth, atol=2e-3)


@settings(max_examples=60, deadline=None)
@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.floats(-10, 10, width=32), SEEDS)
def test_a_constant_is_continued_from_any_pixel(size: Size, value: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    trusted = rng.random(size) < 0.05
    trusted.flat[rng.integers(trusted.size)] = True
    values = np.where(trusted, value, rng.uniform(-50, 50, size)).astype(np.float32)
    guide = rng.random(size).astype(np.float32)
    found = extrapolate(values, trusted, guide)
    assert found.shape == size
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, value, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.floats(-100, 100), st.floats(-10, 10), SEEDS)
def test_it_is_affine_equivariant_in_the_values(gain: float, shift: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.uniform(0, 10, (32, 40)).astype(np.float32)
    trusted, guide = rng.random((32, 40)) < 0.3, rng.random((32, 40)).astype(np.float32)
    moved = (gain * values.astype(np.float64) + shift).astype(np.float32)
    np.testing.assert_allclose(
        extrapolate(moved, trusted, guide),
        gain * extrapolate(values, trusted, guide) + shift,
        atol=1e-5 * (10 * abs(gain) + abs(shift) + 1),
    )


def test_untrusted_values_have_no_influence() -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(0, 10, (32, 40)).astype(np.float32)
    trusted, guide = rng.random((32, 40)) < 0.3, rng.random((32, 40)).astype(np.float32)
    other = np.where(trusted, values, np.float32(-99))
    np.testing.assert_array_equal(
        extrapolate(values, trusted, guide), extrapolate(other, trusted, guide)
    )


def leaves(width: int) -> tuple[Float32Map, BoolMap, Float32Map]:
    """Bright and near, dark and far, in stripes across a gap that is not trusted."""
    y, x = np.indices((64, 96))
    bright = y // width % 2 == 1
    values = np.where(bright, np.float32(8), np.float32(2))
    guide = np.where(bright, np.float32(0.8), np.float32(0.2))
    return values, np.abs(x - 48) > 10, guide


@pytest.mark.parametrize("width", [1, 2, 3])
def test_two_surfaces_too_fine_for_planes_are_told_apart_by_the_photo(width: int) -> None:
    values, trusted, guide = leaves(width)
    error = np.abs(extrapolate(values, trusted, guide) - values)[~trusted]
    blind = np.abs(extrapolate(values, trusted, np.full_like(guide, 0.5)) - values)[~trusted]
    assert error.mean() < 0.7 * blind.mean()


@pytest.mark.parametrize("gap", [3, 10, 20])
def test_the_fill_between_two_constants_stays_between_them(gap: int) -> None:
    x = np.broadcast_to(np.arange(96), (64, 96))
    values = np.where(x < 48, np.float32(2), np.float32(8))
    filled = extrapolate(values, np.abs(x - 47.5) > gap, np.full((64, 96), 0.5, np.float32))
    assert filled.min() > 2 - 0.3
    assert filled.max() < 8 + 0.3
    across = filled.mean(axis=0)
    assert (np.diff(across) > -0.1).all()


def test_between_two_trusted_surfaces_each_is_continued_locally() -> None:
    """Two planes far apart: near each, the continuation is that plane and not their mean."""
    left, right = plane((64, 256), 0.02, 0.01), plane((64, 256), -0.03, 0)
    x = np.arange(256)
    values = np.where(x < 128, left, right)
    trusted = np.broadcast_to((x < 96) | (x > 160), (64, 256))
    surface = fit_planes(values, trusted)
    np.testing.assert_allclose(surface[:, :90], left[:, :90], atol=0.1)
    np.testing.assert_allclose(surface[:, 166:], right[:, 166:], atol=0.1)
    np.testing.assert_allclose(surface[:, 96:104], left[:, 96:104], atol=0.4)


def test_trusted_pixels_are_fitted_closely_when_the_surface_is_smooth() -> None:
    y, x = np.indices((64, 96)) + 0.5
    bump = (5 + np.sin(x / 15) * np.cos(y / 12)).astype(np.float32)
    trusted = np.ones((64, 96), bool)
    trusted[20:40, 30:50] = False
    fitted = extrapolate(bump, trusted, np.full((64, 96), 0.5, np.float32))
    np.testing.assert_allclose(fitted[trusted], bump[trusted], atol=0.1)
    assert np.abs(fitted - bump)[~trusted].max() < 0.5
