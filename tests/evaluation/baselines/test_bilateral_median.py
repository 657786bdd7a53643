from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from crispdepth.evaluation.baselines import bilateral_median
from crispdepth.evaluation.baselines.bilateral_median import (
    WINDOWS,
    bmf,
    bmf_textbook,
    weighted_median,
)
from crispdepth.types import Float32Map, MaskSet

values = arrays(np.float32, (4, 9), elements=st.integers(-20, 20).map(float))
weights = arrays(np.float32, (4, 9), elements=st.integers(0, 3).map(float))
NO_MASKS = MaskSet(np.zeros((0, 20, 24), np.uint8))
PHOTO = np.zeros((20, 24, 3), np.uint8)


@given(values)
def test_the_weighted_median_with_uniform_weights_is_the_median(v: Float32Map) -> None:
    np.testing.assert_array_equal(weighted_median(v, np.ones_like(v)), np.median(v, axis=-1))


@given(values, weights)
def test_a_whole_weight_counts_like_that_many_copies(v: Float32Map, w: Float32Map) -> None:
    medians = weighted_median(v, w)
    for row_values, row_weights, median in zip(v, w, medians, strict=True):
        copies = np.sort(np.repeat(row_values, row_weights.astype(int)))
        if copies.size:
            assert median == copies[(copies.size - 1) // 2]


@pytest.mark.parametrize("method", [bmf, bmf_textbook])
def test_results_are_values_of_the_rescaled_map(method: Any) -> None:
    rng = np.random.default_rng(1)
    rough = rng.random((20, 24), np.float32)
    before = bilateral_median._to_disparity(rough)
    allowed = before.restore(before.values)
    refined = method(PHOTO, rough, NO_MASKS)
    distance = np.abs(refined[..., None] - allowed.ravel()).min(axis=-1)
    assert distance.max() < 1e-6


def test_a_step_with_one_transition_pixel_becomes_clean() -> None:
    rough = np.ones((20, 24), np.float32)
    rough[:, 12] = 2
    rough[:, 13:] = 3
    refined = bmf(PHOTO, rough, NO_MASKS)
    np.testing.assert_allclose(np.unique(refined.round(5)), [1, 3])


def test_where_no_discontinuity_is_near_only_the_blur_acts() -> None:
    ramp = np.tile(np.linspace(0, 1, 200, dtype=np.float32), (20, 1))  # steps of 0.015 of 3
    refined = bmf(np.zeros((20, 200, 3), np.uint8), ramp, NO_MASKS)
    np.testing.assert_allclose(refined[:, 10:-2], ramp[:, 10:-2], atol=1e-6)


def test_the_median_off_edges_equals_its_definition_pixel_by_pixel() -> None:
    disparity = (3 * np.random.default_rng(2).random((9, 11))).astype(np.float32).round(1)
    disparity[:, 4:] = np.linspace(1, 1.25, 7)  # steps of 0.0417: an edge, but only just
    disparity[:, 8:] = 1  # so that some windows have no edge
    window = 5
    edge = _edges_by_definition(disparity)
    values, edges = (np.pad(a, window // 2, mode="edge") for a in (disparity, edge))
    expected = disparity.copy()
    for y, x in np.ndindex(disparity.shape):
        patch = values[y : y + window, x : x + window]
        on_edge = edges[y : y + window, x : x + window]
        off = np.sort(patch[~on_edge])
        if on_edge.any() and off.size:
            expected[y, x] = off[(off.size - 1) // 2]
    np.testing.assert_array_equal(bilateral_median._median_off_edges(disparity, window), expected)


def _edges_by_definition(disparity: Float32Map) -> Any:
    edge = np.zeros(disparity.shape, bool)
    height, width = disparity.shape
    for y, x in np.ndindex(disparity.shape):
        for j, i in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= j < height and 0 <= i < width:
                edge[y, x] |= abs(disparity[y, x] - disparity[j, i]) > 0.04
    return edge


def test_the_published_code_drops_the_last_filtering(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []

    def record(disparity: Float32Map, window: int) -> Float32Map:
        used.append(window)
        return disparity

    monkeypatch.setattr(bilateral_median, "_median_off_edges", record)
    bmf(PHOTO, np.eye(20, 24, dtype=np.float32), NO_MASKS)
    assert used == [7, 7, 5, 5]
    assert len(WINDOWS) == 5


@pytest.mark.parametrize("method", [bmf, bmf_textbook])
def test_working_in_blocks_changes_nothing(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rough = np.random.default_rng(3).random((20, 24), np.float32)
    whole = method(PHOTO, rough, NO_MASKS)
    monkeypatch.setattr(bilateral_median, "BLOCK", 7)
    np.testing.assert_array_equal(method(PHOTO, rough, NO_MASKS), whole)
