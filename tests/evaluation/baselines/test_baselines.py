from typing import Any

import numpy as np
import pytest

from crispdepth.evaluation.baselines import BASELINES, Baseline
from crispdepth.types import MaskSet

all_baselines = pytest.mark.parametrize("baseline", BASELINES.values(), ids=BASELINES.keys())


@all_baselines
def test_a_baseline_returns_a_new_finite_map_of_the_same_size(
    baseline: Baseline, case: Any
) -> None:
    rough = case.rough.copy()
    refined = baseline(case.image, rough, case.masks)
    assert refined.shape == rough.shape
    assert refined.dtype == np.float32
    assert np.isfinite(refined).all()
    np.testing.assert_array_equal(rough, case.rough)


@all_baselines
# Powers of two: a median jumps where rounding decides whether a step is over the threshold.
@pytest.mark.parametrize(("scale", "shift"), [(256.0, 0.0), (2.0**-7, 0.0), (2.0, 32.0)])
def test_a_baseline_is_equivariant_to_the_scale_and_shift_of_inverse_depth(
    baseline: Baseline, case: Any, scale: float, shift: float
) -> None:
    refined = baseline(case.image, case.rough, case.masks)
    moved = baseline(case.image, np.float32(scale) * case.rough + np.float32(shift), case.masks)
    np.testing.assert_allclose((moved - shift) / scale, refined, atol=1e-3)


@all_baselines
def test_a_constant_map_stays_constant(baseline: Baseline, case: Any) -> None:
    constant = np.full_like(case.rough, 7)
    np.testing.assert_allclose(baseline(case.image, constant, case.masks), 7, rtol=1e-6)


@all_baselines
def test_a_photo_without_masks_is_no_error(baseline: Baseline, case: Any) -> None:
    none = MaskSet(np.zeros((0, *case.rough.shape), np.uint8))
    assert np.isfinite(baseline(case.image, case.rough, none)).all()


@all_baselines
def test_an_image_of_a_single_row_is_no_error(baseline: Baseline, case: Any) -> None:
    row = slice(10, 11)
    masks = MaskSet(case.inside[None, row])
    refined = baseline(case.image[row], case.rough[row], masks)
    assert refined.shape == (1, case.rough.shape[1])
    assert np.isfinite(refined).all()


@pytest.mark.parametrize(
    "name", ["layered-propagation", "guided-filter", "joint-bilateral", "fast-bilateral-solver"]
)
def test_a_baseline_that_sees_the_mask_brings_a_soft_step_nearer_to_the_ideal_one(
    name: str, case: Any
) -> None:
    refined = BASELINES[name](case.image, case.rough, case.masks)
    before, after = (float(np.mean((m - case.truth) ** 2)) for m in (case.rough, refined))
    assert after < 0.8 * before
