"""Errors of rough depth: none without strength, in the right places, and known to confidence."""

import numpy as np
import pytest

from crispdepth.data.depth_errors import with_errors


@pytest.fixture
def depth() -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    values = np.full((96, 128), 3.0, np.float32)
    values[30:60, 40:90] = 1.5
    values[:8] = 0
    return values


def test_without_strength_depth_stays_as_it_is(
    depth: np.ndarray[tuple[int, int], np.dtype[np.float32]], rng: np.random.Generator
) -> None:
    rough = with_errors(depth, 0.0, rng)
    np.testing.assert_array_equal(rough.depth, depth)
    np.testing.assert_array_equal(rough.confidence, depth > 0)


def test_errors_grow_with_strength_and_nothing_appears_where_nothing_was_measured(
    depth: np.ndarray[tuple[int, int], np.dtype[np.float32]],
) -> None:
    errors = []
    for strength in (0.1, 0.4, 1.0):
        found = []
        for seed in range(8):
            rough = with_errors(depth, strength, np.random.default_rng(seed))
            kept = rough.depth > 0
            assert np.isfinite(rough.depth).all()
            assert not kept[:8].any()
            assert ((rough.confidence > 0) == kept).all()
            assert rough.confidence.max() <= 1
            found.append(np.abs(rough.depth - depth)[kept].mean())
        errors.append(np.mean(found))
    assert errors[0] < errors[1] < errors[2] < 0.6


def test_confidence_knows_of_errors_but_not_for_sure(
    depth: np.ndarray[tuple[int, int], np.dtype[np.float32]],
) -> None:
    ranks = []
    for seed in range(12):
        rough = with_errors(depth, 0.8, np.random.default_rng(seed))
        kept = rough.depth > 0
        error = np.abs(1 / rough.depth[kept] - 1 / depth[kept])
        ranks.append(np.corrcoef(error, rough.confidence[kept])[0, 1])
    assert -0.9 < np.mean(ranks) < -0.2


def test_a_map_without_depth_has_no_errors(rng: np.random.Generator) -> None:
    rough = with_errors(np.zeros((32, 32), np.float32), 1.0, rng)
    assert not rough.depth.any()
    assert not rough.confidence.any()
