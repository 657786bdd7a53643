import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from crispdepth.ops import defocus as module
from crispdepth.ops.defocus import defocus
from crispdepth.types import Float32Map

Values = NDArray[np.float32]


def constant(radius: float, size: tuple[int, int]) -> Float32Map:
    return np.full(size, radius, np.float32)


def point(size: int) -> Values:
    values = np.zeros((size, size, 1), np.float32)
    values[size // 2, size // 2] = 1
    return values


def moment(spread: Values) -> float:
    """Mean squared distance of the light from the middle."""
    middle = spread.shape[0] // 2
    y, x = np.indices(spread.shape[:2]) - middle
    return float((spread[..., 0] * (x**2 + y**2)).sum() / spread.sum())


def smooth_radii(rng: np.random.Generator, size: tuple[int, int], largest: float) -> Float32Map:
    y, x = np.indices(size) / max(size)
    a, b, c = rng.uniform(-1, 1, 3)
    wave = np.sin(3 * a * x + 5 * b * y + 6 * c)
    return np.asarray(largest * wave, np.float32)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), largest=st.floats(0, 25))
def test_a_constant_stays_that_constant_whatever_the_radii(seed: int, largest: float) -> None:
    rng = np.random.default_rng(seed)
    values = np.broadcast_to(np.array([0.2, 0.7], np.float32), (50, 61, 2)).copy()
    spread = defocus(values, smooth_radii(rng, (50, 61), largest))
    np.testing.assert_allclose(spread, values, rtol=1e-4)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_radii_within_a_pixel_change_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.random((20, 30, 3), np.float32)
    np.testing.assert_array_equal(
        defocus(values, rng.uniform(-0.5, 0.5, (20, 30)).astype(np.float32)), values
    )


@pytest.mark.parametrize("radius", [2.0, 3.7, 5.0, 9.0, 20.0, -2.0, -13.0])
def test_a_point_becomes_a_disc_of_its_radius_and_keeps_its_energy(radius: float) -> None:
    spread = defocus(point(97), constant(radius, (97, 97)))
    assert spread.sum() == pytest.approx(1, abs=1e-4)
    # A disc of radius r has r^2 / 2, and a pixel 1 / 6.
    assert moment(spread) == pytest.approx(radius**2 / 2 + 1 / 6, rel=0.05)
    area = 1 / np.square(spread).sum()  # that of a uniform disc
    assert area == pytest.approx(np.pi * radius**2, rel=0.26)
    assert float(spread[48, 48, 0]) == pytest.approx(1 / (np.pi * radius**2), rel=0.2)


def test_a_sharp_disc_is_even_and_ends_at_its_radius() -> None:
    spread = defocus(point(21), constant(3.5, (21, 21)))[..., 0]
    y, x = np.indices((21, 21)) - 10
    distance = np.hypot(x, y)
    np.testing.assert_allclose(spread[distance < 2.7], spread[10, 10], rtol=1e-5)
    assert (spread[distance > 4.3] == 0).all()


@pytest.mark.parametrize("radius", [1.5, 2.6, 7.3, 17.0])
def test_between_two_levels_the_spread_is_between_theirs(radius: float) -> None:
    """A field of both radii has levels beyond its own; they are shared linearly."""
    radii = constant(radius, (151, 151))
    radii[:, :20] = 0
    radii[:, -20:] = 2 * radius
    values = np.zeros((151, 151, 1), np.float32)
    values[75, 75] = 1
    assert moment(defocus(values, radii)) == pytest.approx(
        radius**2 / 2 + 1 / 6, rel=0.08, abs=0.25
    )


def test_more_aperture_blurs_more() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((64, 64, 1), np.float32)
    radii = smooth_radii(rng, (64, 64), 1) + 1
    contrast = [float(defocus(values, radii * k).std()) for k in (0, 1, 2, 4, 8)]
    assert (np.diff(contrast) < 0).all()


def test_what_is_in_focus_is_not_veiled_by_what_is_blurred_behind_it() -> None:
    values = np.zeros((60, 60, 1), np.float32)
    values[:, 30:] = 1  # sharp, white, before a black blur
    radii = np.where(np.arange(60) < 30, np.float32(-8), np.float32(0))
    spread = defocus(values, np.broadcast_to(radii, (60, 60)).copy())
    np.testing.assert_allclose(spread[:, 30:], 1, atol=1e-6)
    np.testing.assert_allclose(spread[:, :30], 0, atol=1e-6)  # nor does it spread


def test_what_is_blurred_before_the_focus_covers_its_edge_by_half() -> None:
    values = np.zeros((61, 60, 1), np.float32)
    values[:, 30:] = 1
    radii = np.where(np.arange(60) < 30, np.float32(0), np.float32(4))
    spread = defocus(values, np.broadcast_to(radii, (61, 60)).copy())[30, :, 0]
    assert spread[29] == pytest.approx(0.45, abs=0.06)  # half a pixel outside
    assert spread[24] == 0
    np.testing.assert_allclose(spread[34:], 1, atol=1e-5)


def test_tiles_leave_no_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    values = rng.random((150, 180, 2), np.float32)
    radii = smooth_radii(rng, (150, 180), 14)
    whole = defocus(values, radii)
    monkeypatch.setattr(module, "_TILE", 64)
    np.testing.assert_allclose(defocus(values, radii), whole, atol=2e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 2)])
def test_images_smaller_than_a_disc_are_blurred(size: tuple[int, int]) -> None:
    values = np.ones((*size, 3), np.float32)
    np.testing.assert_allclose(defocus(values, constant(12, size)), values, rtol=1e-4)
