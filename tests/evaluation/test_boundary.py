import math
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage import feature

from crispdepth.evaluation.boundary import (
    RATIO_THRESHOLDS,
    RATIO_WEIGHTS,
    BoundaryErrors,
    EdgeVariant,
    boundary_f1,
    boundary_scores,
    depth_boundary_errors,
    edges,
    mask_boundary_error,
    mask_boundary_errors,
    mask_recall,
)

SIZE = (48, 64)
EVERYWHERE = np.ones(SIZE, bool)
VARIANTS: tuple[EdgeVariant, ...] = ("current", "v0.9", "paper")

Map = NDArray[np.float64]
Mask = NDArray[np.bool_]


def random_map(seed: int = 0, size: tuple[int, int] = SIZE) -> Map:
    return np.random.default_rng(seed).uniform(0.1, 1.0, size)


def rectangle(top: int, bottom: int, left: int, right: int) -> Mask:
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = True
    return mask


MASKS = (rectangle(8, 22, 6, 26), rectangle(26, 42, 36, 56))


def scene() -> Map:
    """Depth with two rectangles in front of a background."""
    return np.select(MASKS, [np.float64(1), np.float64(2)], np.float64(4))


def step(*columns: int) -> Map:
    """Inverse depth that rises by one at each of the columns, half of it on the column itself.

    A hard step lies between two pixels and rounding decides which of them Canny takes.
    """
    x = np.arange(SIZE[1])
    rises = [np.heaviside(x - column, 0.5) for column in columns]
    return np.tile(np.sum(rises, axis=0), (SIZE[0], 1))


def test_a_perfect_prediction_has_no_error_and_full_scores() -> None:
    depth = scene()
    assert mask_boundary_error(1 / depth, 1 / depth, EVERYWHERE, MASKS) == 0
    for variant in VARIANTS:
        errors = depth_boundary_errors(1 / depth, 1 / depth, EVERYWHERE, variant=variant)
        assert errors == BoundaryErrors(0, 0)
    assert tuple(boundary_scores(depth, depth, EVERYWHERE)) == pytest.approx((1, 1, 1))
    assert mask_recall(depth, MASKS[0]) == pytest.approx(1)


# Mask boundary error


def bands(erosion: int = 3) -> list[Mask]:
    return [
        ndimage.binary_dilation(
            mask & ~ndimage.binary_erosion(mask, np.ones((erosion, erosion))), np.ones((5, 5))
        )
        for mask in MASKS
    ]


@pytest.mark.parametrize("erosion", [3, 5])
def test_mbe_depends_on_the_union_of_the_bands_only(erosion: int) -> None:
    prediction, target = random_map(0), random_map(1)
    expected = mask_boundary_error(prediction, target, EVERYWHERE, MASKS, erosion=erosion)
    union = np.logical_or.reduce(bands(erosion))
    outside = np.where(union, prediction, random_map(2))
    assert mask_boundary_error(outside, target, EVERYWHERE, MASKS, erosion=erosion) == expected
    for pixel in np.argwhere(union)[::37]:
        inside = prediction.copy()
        inside[tuple(pixel)] += 1
        assert mask_boundary_error(inside, target, EVERYWHERE, MASKS, erosion=erosion) != expected


@given(offset=st.floats(-10, 10))
def test_an_offset_in_one_band_of_n_costs_its_nth_part(offset: float) -> None:
    target = random_map()
    prediction = target + offset * bands()[1]
    errors = mask_boundary_errors(prediction, target, EVERYWHERE, MASKS)
    np.testing.assert_allclose(errors, [0, abs(offset)], atol=1e-12)
    error = mask_boundary_error(prediction, target, EVERYWHERE, MASKS)
    assert error == pytest.approx(abs(offset) / 2, abs=1e-12)


def test_instances_without_a_boundary_are_skipped() -> None:
    prediction, target = random_map(0), random_map(1)
    empty, full = np.zeros(SIZE, bool), np.ones(SIZE, bool)
    errors = mask_boundary_errors(prediction, target, EVERYWHERE, [empty, MASKS[0], full])
    np.testing.assert_array_equal(np.isnan(errors), [True, False, True])
    with_them = mask_boundary_error(prediction, target, EVERYWHERE, [empty, MASKS[0], full])
    assert with_them == mask_boundary_error(prediction, target, EVERYWHERE, [MASKS[0]])
    assert math.isnan(mask_boundary_error(prediction, target, EVERYWHERE, [empty, full]))
    assert math.isnan(mask_boundary_error(prediction, target, EVERYWHERE, []))


def test_mbe_skips_invalid_pixels() -> None:
    prediction, target, valid = random_map(0), random_map(1), random_map(2) > 0.4
    expected = mask_boundary_errors(prediction, target, valid, MASKS)
    by_hand = [np.sqrt(np.mean((prediction - target)[band & valid] ** 2)) for band in bands()]
    np.testing.assert_allclose(expected, by_hand)
    target[~valid] = np.nan
    np.testing.assert_array_equal(mask_boundary_errors(prediction, target, valid, MASKS), expected)
    assert math.isnan(mask_boundary_error(prediction, target, ~EVERYWHERE, MASKS))


@pytest.mark.parametrize("mask", [np.ones(SIZE, np.float32), np.ones((3, 3), bool)])
def test_an_instance_mask_of_another_type_or_size_is_refused(mask: Mask) -> None:
    with pytest.raises(ValueError, match=r"expected \(48, 64\) bool"):
        mask_boundary_error(scene(), scene(), EVERYWHERE, [mask])


@pytest.mark.parametrize("erosion", [0, 1, 4])
def test_an_erosion_kernel_without_a_centre_or_effect_is_refused(erosion: int) -> None:
    with pytest.raises(ValueError, match="odd kernel size"):
        mask_boundary_error(scene(), scene(), EVERYWHERE, MASKS, erosion=erosion)


# Depth boundary errors


@pytest.mark.parametrize("variant", VARIANTS)
@given(shift=st.integers(0, 9))
def test_a_shifted_step_is_as_far_as_it_was_shifted(variant: EdgeVariant, shift: int) -> None:
    errors = depth_boundary_errors(step(20 + shift), step(20), EVERYWHERE, variant=variant)
    assert errors == (shift, shift)


@given(shift=st.integers(0, 9))
def test_an_extra_far_edge_costs_completeness_only(shift: int) -> None:
    prediction, target = step(15 + shift, 45), step(15)
    accuracy, completeness = depth_boundary_errors(prediction, target, EVERYWHERE)
    assert accuracy == shift
    assert completeness == pytest.approx((2 * shift + 10) / 3)  # of 3 edges of equal length


def test_a_missed_edge_costs_at_most_ten_pixels_except_in_v09() -> None:
    prediction, target = step(15), step(15, 45)
    scores = {
        variant: depth_boundary_errors(prediction, target, EVERYWHERE, variant=variant)
        for variant in VARIANTS
    }
    assert {score.accuracy for score in scores.values()} == {0}
    assert scores["current"].completeness == pytest.approx(10 / 3)
    assert scores["paper"].completeness == pytest.approx(10 / 2)
    assert scores["v0.9"].completeness == pytest.approx(30 / 2)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("prediction", [np.ones(SIZE), step(40)])
def test_no_predicted_edge_within_ten_pixels_costs_ten(
    variant: EdgeVariant, prediction: Map
) -> None:
    errors = depth_boundary_errors(prediction, step(20), EVERYWHERE, variant=variant)
    assert errors == (10, 10)


def test_a_target_without_edges_says_nothing() -> None:
    for target, valid in ((np.ones(SIZE), EVERYWHERE), (step(20), ~EVERYWHERE)):
        assert all(math.isnan(error) for error in depth_boundary_errors(step(20), target, valid))


@given(
    scale=st.floats(0.01, 100) | st.floats(-100, -0.01),
    shift=st.floats(-100, 100),
)
def test_depth_boundary_errors_ignore_scale_and_shift(scale: float, shift: float) -> None:
    prediction, target = step(18, 40), step(15, 42)
    expected = depth_boundary_errors(prediction, target, EVERYWHERE)
    changed = depth_boundary_errors(scale * prediction + shift, target, EVERYWHERE)
    assert tuple(changed) == pytest.approx(tuple(expected))


@pytest.mark.parametrize("variant", VARIANTS)
def test_edges_found_once_serve_every_prediction(variant: EdgeVariant) -> None:
    prediction, target, valid = step(18, 40), step(15, 42), random_map() > 0.2
    once = edges(target, valid, variant=variant)
    assert depth_boundary_errors(prediction, once, valid, variant=variant) == depth_boundary_errors(
        prediction, target, valid, variant=variant
    )


@pytest.mark.parametrize("size", [(31, 47), (480, 640)])
def test_the_distance_is_the_euclidean_distance_transform(size: tuple[int, int]) -> None:
    smooth = ndimage.gaussian_filter(random_map(0, size), 3)
    found = edges(smooth, np.ones(size, bool))
    assert found.mask.any()
    expected = ndimage.distance_transform_edt(~found.mask)
    np.testing.assert_allclose(found.distance, expected, rtol=1e-6)


def test_the_older_thresholds_find_every_edge_of_the_newer() -> None:
    smooth = ndimage.gaussian_filter(random_map(), 2)
    old = edges(smooth, EVERYWHERE, variant="v0.9").mask
    new = edges(smooth, EVERYWHERE, variant="current").mask
    assert (old >= new).all()
    assert old.sum() > new.sum()


def test_holes_make_no_edges() -> None:
    slope = np.tile(np.linspace(0, 1, SIZE[1]), (SIZE[0], 1))
    hole = rectangle(10, 30, 20, 24)
    slope[hole] = np.nan
    assert not edges(slope, ~hole).mask.any()


def test_a_hole_takes_only_the_edges_on_it() -> None:
    target, hole = step(20), rectangle(20, 25, 10, 40)
    expected = edges(target, EVERYWHERE).mask & ~hole
    target[hole] = np.inf
    np.testing.assert_array_equal(edges(target, ~hole).mask, expected)


def test_an_unknown_variant_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'current', 'v0\.9', 'paper'"):
        depth_boundary_errors(scene(), scene(), EVERYWHERE, variant="v2")  # type: ignore[arg-type]


def test_depth_boundary_errors_name_the_extra_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ImportError, match=r'pip install "crispdepth\[bench\]"'):
        edges(scene(), EVERYWHERE)


# Depth Pro: the slow, obvious twins compare one pair of pixels at a time

DIRECTIONS = ((0, 1), (0, -1), (1, 0), (-1, 0))

Pixel = tuple[int, int]


def ratio_edges(depth: Map, valid: Mask, threshold: float, direction: Pixel) -> dict[Pixel, float]:
    """Ratio by pixel, where the neighbour in the direction is nearer by more than a ratio."""
    found = {}
    for y, x in np.ndindex(depth.shape):
        v, u = y + direction[0], x + direction[1]
        if 0 <= v < depth.shape[0] and 0 <= u < depth.shape[1] and valid[y, x] and valid[v, u]:
            ratio = (1 / max(float(depth[v, u]), 1e-6)) / (1 / max(float(depth[y, x]), 1e-6))
            if ratio > threshold:
                found[y, x] = ratio
    return found


def mask_edges(mask: Mask, direction: Pixel) -> set[Pixel]:
    """Pixels outside the mask whose neighbour in the direction is inside."""
    found = set()
    for y, x in np.ndindex(mask.shape):
        v, u = y + direction[0], x + direction[1]
        inside = 0 <= v < mask.shape[0] and 0 <= u < mask.shape[1] and mask[v, u]
        if inside and not mask[y, x]:
            found.add((y, x))
    return found


def thinned(ratios: dict[Pixel, float], direction: Pixel) -> set[Pixel]:
    """The first largest of each run along the axis of the direction, from left or top."""
    dy, dx = abs(direction[0]), abs(direction[1])
    kept = set()
    for y, x in ratios:
        if (y - dy, x - dx) in ratios:
            continue  # not the start of a run
        run = [(y, x)]
        while (run[-1][0] + dy, run[-1][1] + dx) in ratios:
            run.append((run[-1][0] + dy, run[-1][1] + dx))
        kept.add(max(run, key=lambda pixel: ratios[pixel]))
    return kept


def slow_boundary_f1(prediction: Map, target: Map, valid: Mask) -> float:
    total = 0.0
    for threshold in RATIO_THRESHOLDS:
        precision = recall = 0.0
        for direction in DIRECTIONS:
            found = set(ratio_edges(prediction, valid, threshold, direction))
            true = set(ratio_edges(target, valid, threshold, direction))
            precision += len(found & true) / max(len(found), 1) / 4
            recall += len(found & true) / max(len(true), 1) / 4
        if precision + recall > 0:
            total += threshold * 2 * precision * recall / (precision + recall)
    return float(total / RATIO_THRESHOLDS.sum())


def slow_mask_recall(prediction: Map, mask: Mask) -> float:
    total, valid = 0.0, np.ones(mask.shape, bool)
    for threshold in RATIO_THRESHOLDS:
        for direction in DIRECTIONS:
            ratios = ratio_edges(prediction, valid, threshold, direction)
            true = mask_edges(mask, direction)
            total += threshold * len(thinned(ratios, direction) & true) / max(len(true), 1) / 4
    return float(total / RATIO_THRESHOLDS.sum())


@st.composite
def small_depths(draw: st.DrawFn) -> tuple[Map, Map, Mask]:
    """Two depth maps and a bool map of one small size, with many ties and long runs of edges."""
    size = draw(st.tuples(st.integers(1, 7), st.integers(2, 7)))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    levels = draw(st.sampled_from([1.06, 1.1, 1.3]))
    first, second = levels ** rng.integers(0, 6, (2, *size))
    return first, second, rng.random(size) > 0.3


@given(small_depths())
def test_boundary_f1_equals_its_slow_twin(maps: tuple[Map, Map, Mask]) -> None:
    prediction, target, valid = maps
    score = boundary_f1(np.where(valid, prediction, np.nan), target, valid)
    if math.isnan(score):
        assert slow_boundary_f1(target, target, valid) == 0  # the target has no edge
    else:
        assert score == pytest.approx(slow_boundary_f1(prediction, target, valid))


@given(small_depths())
def test_mask_recall_equals_its_slow_twin(maps: tuple[Map, Map, Mask]) -> None:
    prediction, _, mask = maps
    score = mask_recall(prediction, mask)
    if math.isnan(score):
        assert mask.all() or not mask.any()
    else:
        assert score == pytest.approx(slow_mask_recall(prediction, mask))


@pytest.mark.parametrize("scale", [0.125, 8.0, 1000.0])
def test_depth_pro_scores_ignore_scale(scale: float) -> None:
    prediction, target = random_map(0) + 1, scene()
    expected = boundary_scores(prediction, target, EVERYWHERE)
    assert 0 < expected.f1 < 1
    for maps in ((scale * prediction, target), (prediction, scale * target)):
        assert tuple(boundary_scores(*maps, EVERYWHERE)) == pytest.approx(tuple(expected))
    recall = mask_recall(prediction, MASKS[0])
    assert 0 < recall < 1
    assert mask_recall(scale * prediction, MASKS[0]) == pytest.approx(recall)


def test_a_constant_prediction_finds_no_boundary() -> None:
    assert boundary_scores(np.ones(SIZE), scene(), EVERYWHERE) == (0, 0, 0)
    assert mask_recall(np.ones(SIZE), MASKS[0]) == 0


@given(small_depths())
def test_swapping_prediction_and_target_swaps_precision_and_recall(
    maps: tuple[Map, Map, Mask],
) -> None:
    first, second, valid = maps
    forth, back = boundary_scores(first, second, valid), boundary_scores(second, first, valid)
    if not (math.isnan(forth.f1) or math.isnan(back.f1)):
        assert (forth.precision, forth.recall) == pytest.approx((back.recall, back.precision))
        assert forth.f1 == pytest.approx(back.f1)


def test_threshold_weights_sum_to_one() -> None:
    assert RATIO_WEIGHTS.sum() == pytest.approx(1)
    np.testing.assert_allclose(RATIO_WEIGHTS, RATIO_THRESHOLDS / 11.5)


@pytest.mark.parametrize(("boundary", "recall"), [(1, 0), (2, 1), (3, 0)])
def test_a_blurred_boundary_is_found_only_where_it_is_steepest(boundary: int, recall: int) -> None:
    depth = 1 / np.cumprod([[1, 1.3, 1.5, 1.3]], axis=1)
    mask = np.arange(4)[None] >= boundary
    assert mask_recall(depth, mask) == pytest.approx(recall / 4)  # one direction of four


def test_a_soft_mask_is_inside_above_a_tenth() -> None:
    soft = np.where(MASKS[0], 0.11, 0.1)
    assert mask_recall(scene(), soft) == mask_recall(scene(), MASKS[0])


def test_a_mask_of_integers_is_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        mask_recall(scene(), MASKS[0].astype(np.uint8) * 255)


def test_a_boundary_that_is_not_there_cannot_be_found() -> None:
    assert math.isnan(boundary_f1(scene(), np.ones(SIZE), EVERYWHERE))
    assert math.isnan(boundary_f1(scene(), scene(), ~EVERYWHERE))
    assert math.isnan(mask_recall(scene(), EVERYWHERE))


@pytest.mark.parametrize(
    ("variant", "low", "high"), [("current", 0.15, 0.3), ("v0.9", 0.1, 0.2), ("paper", 0.15, 0.3)]
)
def test_edges_are_those_of_the_published_canny(
    variant: EdgeVariant, low: float, high: float
) -> None:
    smooth = ndimage.gaussian_filter(random_map(7), 2)
    unit = ((smooth - smooth.min()) / np.ptp(smooth)).astype(np.float32)
    canny: Callable[..., Mask] = feature.canny
    expected = canny(unit, sigma=2**0.5, low_threshold=low, high_threshold=high)
    assert expected.any()
    np.testing.assert_array_equal(edges(3 * smooth + 1, EVERYWHERE, variant=variant).mask, expected)
