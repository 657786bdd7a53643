from typing import Any

import numpy as np

from crispdepth.evaluation.baselines.filters import (
    BILATERAL_RADIUS,
    BILATERAL_SIGMA_COLOUR,
    BILATERAL_SIGMA_SPACE,
    guided,
    joint_bilateral,
    label_map,
)
from crispdepth.types import MaskSet


def test_the_guided_filter_equals_its_definition_window_by_window() -> None:
    rng = np.random.default_rng(0)
    height, width, radius, eps = 6, 7, 2, 0.01
    guide = rng.random((height, width, 4), np.float32)
    values = rng.random((height, width), np.float32)
    slopes, offsets = np.zeros((height, width, 4)), np.zeros((height, width))
    for y, x in np.ndindex(values.shape):
        window = _window(y, x, radius)
        g, v = guide[window].reshape(-1, 4), values[window].ravel()
        covariance = np.cov(g.T, bias=True) + eps * np.eye(4)
        cross = ((g - g.mean(0)) * (v - v.mean())[:, None]).mean(0)
        slopes[y, x] = np.linalg.solve(covariance, cross)
        offsets[y, x] = v.mean() - slopes[y, x] @ g.mean(0)
    expected = np.zeros_like(values)
    for y, x in np.ndindex(values.shape):
        window = _window(y, x, radius)
        expected[y, x] = slopes[window].reshape(-1, 4).mean(0) @ guide[y, x]
        expected[y, x] += offsets[window].mean()
    np.testing.assert_allclose(guided(guide, values, radius, eps), expected, atol=1e-4)


def _window(y: int, x: int, radius: int) -> tuple[slice, slice]:
    rows, columns = (slice(max(0, c - radius), c + radius + 1) for c in (y, x))
    return rows, columns


def test_the_guided_filter_with_little_regularisation_keeps_what_the_guide_explains() -> None:
    guide = np.random.default_rng(0).random((30, 40, 3), np.float32)
    values = guide @ np.array([2, -1, 0.5], np.float32) + 4
    np.testing.assert_allclose(guided(guide, values, eps=1e-7), values, atol=1e-3)


def test_a_guide_of_one_channel_is_a_guide_too() -> None:
    guide = np.random.default_rng(0).random((20, 21, 1), np.float32)
    np.testing.assert_allclose(
        guided(guide, 3 * guide[..., 0], eps=1e-7), 3 * guide[..., 0], atol=1e-3
    )


def test_the_joint_bilateral_filter_equals_its_definition_at_a_pixel(case: Any) -> None:
    y, x = 18, 22
    colour = case.image / 255
    total = weight_sum = 0.0
    for j, i in np.ndindex(case.rough.shape):
        if (
            max(abs(j - y), abs(i - x)) <= BILATERAL_RADIUS
            and case.inside[j, i] == case.inside[y, x]
        ):
            space = ((j - y) ** 2 + (i - x) ** 2) / BILATERAL_SIGMA_SPACE**2
            tone = np.sum((colour[j, i] - colour[y, x]) ** 2) / BILATERAL_SIGMA_COLOUR**2
            weight = np.exp(-0.5 * (space + tone))
            total += weight * case.rough[j, i]
            weight_sum += weight
    refined = joint_bilateral(case.image, case.rough, case.masks)
    np.testing.assert_allclose(refined[y, x], total / weight_sum, rtol=1e-5)


def test_the_joint_bilateral_filter_does_not_mix_across_a_mask_edge(case: Any) -> None:
    disturbed = np.where(case.inside, case.rough, case.rough + 100)
    refined, again = (
        joint_bilateral(case.image, depth, case.masks) for depth in (case.rough, disturbed)
    )
    np.testing.assert_array_equal(refined[case.inside], again[case.inside])


def test_labels_name_the_strongest_mask_from_one_half_on() -> None:
    masks = MaskSet(np.array([[[0.5, 0.49, 0.6, 0.9]], [[0.0, 0.0, 0.7, 0.9]]], np.float32))
    np.testing.assert_array_equal(label_map(masks), [[1, 0, 2, 1]])
