"""Inverse depth and the completer's scale are round trips; `resize_depth` has its own file."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crispdepth.geometry.depth import (
    COMPLETER_RANGE,
    from_inverse_depth,
    inverse_depth,
    scale_to_completer,
)
from crispdepth.types import BoolMap, DepthMap, Float32Map, Kind

SIZE = (4, 5)
DISTANCES = hnp.arrays(np.float32, SIZE, elements=st.floats(2**-10, 2**10, width=32))
SOME = hnp.arrays(bool, SIZE).filter(lambda valid: bool(valid.any()))


@given(DISTANCES, SOME)
def test_inverse_depth_inverts_and_invalid_pixels_hold_0(
    values: Float32Map, valid: BoolMap
) -> None:
    depth = DepthMap(values, "depth", "m", valid)
    inverse = inverse_depth(depth)
    np.testing.assert_allclose(inverse[valid] * values[valid], 1, rtol=1e-6)
    assert not inverse[~valid].any()
    back = from_inverse_depth(inverse, depth)
    np.testing.assert_allclose(back[valid], values[valid], rtol=1e-6)


@given(DISTANCES, SOME)
def test_inverse_depth_is_itself(values: Float32Map, valid: BoolMap) -> None:
    depth = DepthMap(values, "inverse_depth", valid=valid)
    np.testing.assert_array_equal(inverse_depth(depth), depth.values)
    np.testing.assert_array_equal(from_inverse_depth(values, depth), values)


@given(DISTANCES, SOME, st.floats(-1e3, 0, width=32))
def test_an_inverse_depth_without_a_distance_becomes_a_far_but_finite_one(
    values: Float32Map, valid: BoolMap, nothing: float
) -> None:
    depth = DepthMap(values, "depth", "m", valid)
    far = from_inverse_depth(np.full(SIZE, nothing, np.float32), depth)
    nearest = depth.values[depth.usable].min()
    np.testing.assert_allclose(far, 2e6 * nearest, rtol=1e-6)


@given(DISTANCES, SOME, st.floats(-100, 100, width=32))
def test_the_completers_scale_spans_0_to_10_and_restores(
    values: Float32Map, valid: BoolMap, shift: float
) -> None:
    inverse = values + np.float32(shift)
    span = np.ptp(inverse[valid])
    assume(span > 1e-3 * np.abs(inverse[valid]).max())
    scaled = scale_to_completer(inverse, valid)
    assert scaled.values.dtype == np.float32
    assert scaled.values[valid].min() == 0
    assert scaled.values[valid].max() == pytest.approx(COMPLETER_RANGE, rel=1e-5)
    np.testing.assert_allclose(
        scaled.restore(scaled.values)[valid],
        inverse[valid],
        atol=1e-6 * (span + np.abs(inverse[valid]).max()),
    )


@given(DISTANCES, st.floats(2**-10, 2**10), st.floats(-10, 10))
def test_the_completer_sees_the_same_whatever_the_scale_and_shift(
    values: Float32Map, gain: float, shift: float
) -> None:
    assume(np.ptp(values) > 0.1 * values.max())
    everywhere = np.ones(SIZE, bool)
    moved = (gain * (values + shift * np.ptp(values))).astype(np.float32)
    np.testing.assert_allclose(
        scale_to_completer(moved, everywhere).values,
        scale_to_completer(values, everywhere).values,
        atol=1e-4,
    )


@given(DISTANCES, SOME, st.floats(-1e4, 1e4, width=32))
def test_invalid_values_do_not_set_the_scale(
    values: Float32Map, valid: BoolMap, garbage: float
) -> None:
    assume(np.ptp(values[valid]) > 1e-3 * values.max())
    clean = scale_to_completer(values, valid)
    dirty = scale_to_completer(np.where(valid, values, np.float32(garbage)), valid)
    assert (dirty.gain, dirty.offset) == (clean.gain, clean.offset)


@given(st.floats(-1e6, 1e6, width=32), st.floats(-10, 10, width=32), st.integers(0, 2**32 - 1))
def test_an_outlier_leaves_the_others_their_contrast(
    outlier: float, shift: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    values = (rng.random((50, 50)) + shift).astype(np.float32)
    clean = scale_to_completer(values, np.ones(values.shape, bool))
    assert clean.outliers == 0
    values[7, 7] = outlier
    scaled = scale_to_completer(values, np.ones(values.shape, bool))
    assert scaled.outliers == 0 if -0.9 < outlier - shift < 1.9 else scaled.outliers <= 1
    others = np.delete(scaled.values, 7 * 50 + 7)
    assert np.ptp(others) > 0.3 * COMPLETER_RANGE
    assert scaled.values.min() >= 0
    assert scaled.values.max() <= COMPLETER_RANGE


def test_a_map_without_a_valid_pixel_is_refused() -> None:
    with pytest.raises(ValueError, match="no valid pixel"):
        scale_to_completer(np.ones(SIZE, np.float32), np.zeros(SIZE, bool))


@pytest.mark.parametrize("value", [-3.0, 0.0, 1e-20, 7.0, 1e20])
def test_a_constant_map_is_refused_whatever_its_invalid_pixels_hold(value: float) -> None:
    inverse = np.full(SIZE, value, np.float32)
    valid = np.ones(SIZE, bool)
    valid[0], inverse[0] = False, 9
    with pytest.raises(ValueError, match="constant"):
        scale_to_completer(inverse, valid)


@pytest.mark.parametrize("kind", ["depth", "inverse_depth"])
def test_a_map_that_is_all_invalid_still_has_an_inverse(kind: Kind) -> None:
    depth = DepthMap(np.full(SIZE, np.nan, np.float32), kind)
    assert not inverse_depth(depth).any()
    assert np.isfinite(from_inverse_depth(np.zeros(SIZE, np.float32), depth)).all()
