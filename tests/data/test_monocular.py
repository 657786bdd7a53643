"""Laws of the truth on the drifting scale of a network."""

import numpy as np
import pytest

from crispdepth.data.monocular import MAX_CHANGE, drift_of
from crispdepth.types import BoolMap, Float32Map

SIZE = (96, 128)


def scene(seed: int = 0) -> Float32Map:
    """True inverse depth: a slope with boxes before it."""
    rng = np.random.default_rng(seed)
    true = np.linspace(1, 3, SIZE[0])[:, None] * np.ones(SIZE)
    for _ in range(8):
        top, left = rng.integers(0, 70, 2)
        true[top : top + 25, left : left + 20] += rng.uniform(0.5, 3)
    return true.astype(np.float32)


EVERYWHERE: BoolMap = np.ones(SIZE, bool)


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (0.2, 3.0), (7.0, -4.0)])
def test_one_affine_map_of_the_truth_is_found(gain: float, offset: float) -> None:
    true = scene()
    drift = drift_of(np.float32(gain) * true + np.float32(offset), true, EVERYWHERE)
    np.testing.assert_allclose(drift.gain, gain, rtol=1e-3)
    np.testing.assert_allclose(drift.offset, offset, atol=2e-3 * gain)
    assert drift.correlation == pytest.approx(1)


def test_it_commutes_with_affine_maps_of_the_rough_depth() -> None:
    true = scene()
    rough = true + np.random.default_rng(1).normal(0, 0.3, SIZE).astype(np.float32)
    first, second = drift_of(rough, true, EVERYWHERE), drift_of(3 * rough - 5, true, EVERYWHERE)
    np.testing.assert_allclose(second.gain, 3 * first.gain, rtol=1e-3)
    np.testing.assert_allclose(second.offset, 3 * first.offset - 5, atol=1e-2)


def test_a_bent_scene_stays_bent() -> None:
    true = scene()
    x = np.linspace(-1, 1, SIZE[1], dtype=np.float32)
    rough = (1 + 0.2 * x) * true + 0.5 * x
    drift = drift_of(rough, true, EVERYWHERE)
    left = np.abs(drift.gain * true + drift.offset - rough).mean()
    stiff = np.abs(np.polyval(np.polyfit(true.ravel(), rough.ravel(), 1), true) - rough).mean()
    assert left < 0.35 * stiff


def test_without_the_bend_the_truth_is_on_one_scale() -> None:
    true = scene()
    x = np.linspace(-1, 1, SIZE[1], dtype=np.float32)
    rough = (1 + 0.2 * x) * true + 0.5 * x
    drift = drift_of(rough, true, EVERYWHERE)
    straight = drift.gain * true + drift.offset + drift.bend
    fit = np.polyfit(true.ravel(), rough.ravel(), 1)
    np.testing.assert_allclose(straight, np.polyval(fit, true), atol=1e-3)


def test_a_lost_part_comes_back() -> None:
    true = scene()
    rough = true.copy()
    true[20:80, 60:62] += 2  # a pole that the network does not see
    drift = drift_of(rough, true, EVERYWHERE)
    mapped = drift.gain * true + drift.offset
    step = (mapped[30:70, 60:62].mean(1) - mapped[30:70, 57]) - (
        rough[30:70, 60] - rough[30:70, 57]
    )
    assert step.mean() == pytest.approx(2, rel=0.2)


def test_unmeasured_pixels_have_no_influence() -> None:
    true = scene()
    rough = true + np.random.default_rng(1).normal(0, 0.3, SIZE).astype(np.float32)
    valid = EVERYWHERE.copy()
    valid[:30, 40:90] = False
    first = drift_of(rough, true, valid)
    true[~valid], rough[~valid] = 1e4, -1e4
    for a, b in zip(first, drift_of(rough, true, valid), strict=True):
        np.testing.assert_array_equal(a, b)


def test_flat_maps_have_finite_answers() -> None:
    flat = np.full(SIZE, 2, np.float32)
    assert drift_of(flat, scene(), EVERYWHERE).correlation == pytest.approx(0, abs=1e-3)
    for drift in (drift_of(flat, flat, EVERYWHERE), drift_of(scene(), flat, EVERYWHERE)):
        assert np.isfinite([drift.gain, drift.offset]).all()
        assert np.isfinite(drift.correlation)


def test_noise_neither_turns_depth_over_nor_breaks_it() -> None:
    noise = np.random.default_rng(2).normal(0, 1, SIZE).astype(np.float32)
    drift = drift_of(scene() + 4 * noise, scene(), EVERYWHERE)
    assert np.isfinite(drift.gain).all()
    assert drift.gain.max() <= drift.gain.min() * MAX_CHANGE**2
    assert drift_of(noise, scene(), EVERYWHERE).correlation < 0.5
