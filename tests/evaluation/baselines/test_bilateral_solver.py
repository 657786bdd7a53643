import sys
from typing import Any

import numpy as np
import pytest

from crispdepth.evaluation.baselines.bilateral_solver import fast_bilateral_solver
from crispdepth.types import MaskSet


def test_a_level_for_each_mask_is_a_fixed_point(case: Any) -> None:
    refined = fast_bilateral_solver(case.image, case.truth, case.masks)
    np.testing.assert_allclose(refined, case.truth, atol=1e-5)


def test_nothing_crosses_a_mask_edge(case: Any) -> None:
    rng = np.random.default_rng(0)
    rough = case.truth + rng.normal(0, 0.01, case.truth.shape).astype(np.float32)
    disturbed = rough.copy()
    disturbed[1:7, 1:-1] += 0.2
    refined, again = (
        fast_bilateral_solver(case.image, depth, case.masks) for depth in (rough, disturbed)
    )
    assert np.abs(again - refined)[~case.inside].max() > 0.05
    # Not exactly: the conjugate gradients stop early, and their step length is a global number.
    np.testing.assert_allclose(again[case.inside], refined[case.inside], atol=2e-3)


def test_noise_on_a_flat_photo_is_smoothed(case: Any) -> None:
    rng = np.random.default_rng(0)
    noisy = rng.normal(1, 0.001, (40, 40)).astype(np.float32)
    flat = np.full((40, 40, 3), 128, np.uint8)
    refined = fast_bilateral_solver(flat, noisy, MaskSet(np.zeros((0, 40, 40), np.uint8)))
    assert refined.std() < 0.2 * noisy.std()


def test_without_scipy_the_error_names_the_extra(
    case: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ImportError, match=r"crispdepth\[bench\]"):
        fast_bilateral_solver(case.image, case.rough, case.masks)
