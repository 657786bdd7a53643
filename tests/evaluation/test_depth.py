import math
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.segmentation import slic

from crispdepth.evaluation.depth import (
    R3Counts,
    Superpixels,
    d3r,
    depth_errors,
    find_superpixels,
    ord_error,
    r3,
    rmse,
    whdr,
)

SIZE = (48, 64)
EVERYWHERE = np.ones(SIZE, bool)

counts = st.builds(R3Counts, st.integers(0, 1000), st.integers(0, 1000))


def random_map(seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).uniform(0.1, 1.0, SIZE)


def scene() -> NDArray[np.float64]:
    """Two objects in front of a sloping floor: inverse depth with steps and slopes."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    scene: NDArray[np.float64] = 0.2 + 0.1 * y / SIZE[0]
    scene[10:30, 8:28] = 0.8
    scene[(y - 30) ** 2 + (x - 46) ** 2 < 100] = 0.6
    return scene


def superpixels() -> Superpixels:
    return find_superpixels(scene(), EVERYWHERE, count=150)


def test_a_perfect_prediction_has_no_error() -> None:
    target = scene()
    assert rmse(target, target, EVERYWHERE) == 0
    assert whdr(target, target, EVERYWHERE) == 0
    assert whdr(target, target, EVERYWHERE, ratio=1.02) == 0
    assert ord_error(target, target, EVERYWHERE, superpixels=superpixels()) == 0
    assert d3r(target, target, EVERYWHERE, superpixels=superpixels()) == 0


@given(offset=st.floats(-10, 10), scale=st.floats(0.1, 10))
def test_rmse_of_an_offset_is_its_size_and_scales_with_the_maps(
    offset: float, scale: float
) -> None:
    target = scale * random_map()
    error = rmse(target + scale * offset, target, EVERYWHERE)
    assert error == pytest.approx(scale * abs(offset), abs=1e-12)


@pytest.mark.parametrize("metric", [rmse, whdr])
def test_without_a_valid_pixel_there_is_no_error_to_speak_of(metric: Callable[..., float]) -> None:
    assert math.isnan(metric(random_map(0), random_map(1), ~EVERYWHERE))


def test_invalid_pixels_are_irrelevant() -> None:
    prediction, target, valid = random_map(0), scene(), random_map(1) > 0.3
    points = superpixels()

    def scores() -> list[float]:
        return [
            rmse(prediction, target, valid),
            r3(prediction, target, target, valid).improved,
            whdr(prediction, target, valid),
            whdr(prediction, target, valid, ratio=1.02),
            ord_error(prediction, target, valid, superpixels=points),
            d3r(prediction, target, valid, superpixels=points),
        ]

    expected = scores()
    assert all(score > 0 for score in expected)
    prediction[~valid] = np.nan
    target[~valid] = 1e9
    assert scores() == expected


def test_refining_nothing_has_no_r3() -> None:
    counted = r3(random_map(0), random_map(0), random_map(1), EVERYWHERE)
    assert counted == R3Counts(0, 0)
    assert math.isnan(counted.ratio)


@given(seed=st.integers(0, 1000))
def test_undoing_a_refinement_inverts_r3(seed: int) -> None:
    initial, refined, target = (random_map(seed + i) for i in range(3))
    forth = r3(initial, refined, target, EVERYWHERE)
    back = r3(refined, initial, target, EVERYWHERE)
    assert (forth.improved, forth.worsened) == (back.worsened, back.improved)
    assert forth.ratio == pytest.approx(1 / back.ratio)


def test_a_change_of_exactly_the_threshold_does_not_count() -> None:
    target = np.zeros((1, 4))
    initial = np.array([[0.5, 0.5, 0.25, 0.25]])
    refined = np.array([[0.25, 0.2499, 0.5, 0.5001]])
    assert r3(initial, refined, target, np.ones((1, 4), bool), threshold=0.25) == R3Counts(1, 1)


def test_refining_to_the_truth_makes_nothing_worse() -> None:
    assert r3(random_map(0), random_map(1), random_map(1), EVERYWHERE).ratio == math.inf


@given(st.lists(counts, max_size=5))
def test_pooled_counts_add_up(images: list[R3Counts]) -> None:
    pooled = sum(images, R3Counts())
    assert pooled.improved == sum(image.improved for image in images)
    assert pooled.worsened == sum(image.worsened for image in images)


def test_pooling_counts_of_parts_gives_the_counts_of_the_whole() -> None:
    initial, refined, target, valid = (*(random_map(i) for i in range(3)), random_map(3) > 0.5)
    parts = [r3(initial, refined, target, part) for part in (valid, ~valid)]
    assert sum(parts, R3Counts()) == r3(initial, refined, target, EVERYWHERE)


@given(seed=st.integers(0, 1000))
def test_whdr_ignores_increasing_transforms(seed: int) -> None:
    target = random_map(seed)
    assert whdr(np.exp(3 * target) - 7, target, EVERYWHERE) == 0


def test_whdr_of_the_reversed_order_is_one_minus_the_share_of_ties() -> None:
    target = np.random.default_rng(0).integers(0, 4, SIZE).astype(float)
    constant = np.zeros(SIZE)  # disagrees with everything but ties
    reversed_order = whdr(-target, target, EVERYWHERE)
    assert reversed_order == whdr(constant, target, EVERYWHERE)
    assert reversed_order == pytest.approx(3 / 4, abs=0.015)


def test_whdr_of_independent_noise_is_a_half() -> None:
    assert whdr(random_map(0), random_map(1), EVERYWHERE) == pytest.approx(0.5, abs=0.015)


def test_whdr_draws_the_same_pairs_for_the_same_seed_only() -> None:
    target = random_map()
    prediction = target + 0.1 * random_map(1)
    scores = [whdr(prediction, target, EVERYWHERE, seed=seed) for seed in (0, 0, 1)]
    assert scores[0] == scores[1] != scores[2]


def test_whdr_never_compares_a_pixel_with_itself() -> None:
    target = np.array([[1.0, 2.0]])
    assert whdr(-target, target, np.ones((1, 2), bool)) == 1


@pytest.mark.parametrize(("change", "expected"), [(1.019, 0.0), (1.021, 1.0)])
def test_whdr_with_a_ratio_ignores_differences_within_the_band(
    change: float, expected: float
) -> None:
    target = np.array([[0.5, 0.5]])
    prediction = np.array([[0.5, 0.5 * change]])
    assert whdr(prediction, target, np.ones((1, 2), bool), ratio=1.02) == expected


def test_ratios_read_every_value_below_zero_as_equally_far() -> None:
    prediction, valid = np.array([[-3.0, -1.0]]), np.ones((1, 2), bool)
    pair = Superpixels(centres=np.array([0, 1]), neighbours=np.array([[0, 1]]))
    assert whdr(prediction, np.array([[0.5, 0.5]]), valid, ratio=1.02) == 0
    assert whdr(prediction, np.array([[0.5, 0.6]]), valid, ratio=1.02) == 1
    assert d3r(prediction, np.array([[0.5, 0.6]]), valid, superpixels=pair) == 1


def test_a_band_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        whdr(scene(), scene(), EVERYWHERE, ratio=0.98)


def test_superpixels_of_a_constant_map_are_a_grid() -> None:
    centres, neighbours = find_superpixels(np.ones((60, 60)), np.ones((60, 60), bool), count=9)
    rows, columns = np.unravel_index(np.sort(centres), (60, 60))
    np.testing.assert_allclose(rows, np.repeat([9, 29, 49], 3), atol=1)
    np.testing.assert_allclose(columns, np.tile([9, 29, 49], 3), atol=1)
    assert len(neighbours) == 12
    assert (neighbours[:, 0] < neighbours[:, 1]).all()


@settings(max_examples=10)
@given(scale=st.floats(1e-3, 1e3))
def test_ordinal_errors_ignore_scale(scale: float) -> None:
    prediction, target, points = random_map(), scene(), superpixels()
    for metric in (ord_error, d3r):
        expected = metric(prediction, target, EVERYWHERE, superpixels=points)
        assert 0 < expected < 2
        assert metric(scale * prediction, target, EVERYWHERE, superpixels=points) == expected
        scaled = metric(scale * prediction, scale * target, EVERYWHERE, superpixels=points)
        assert scaled == pytest.approx(expected)


def test_d3r_is_one_without_an_opinion_and_two_against_the_truth() -> None:
    target = scene()
    assert d3r(np.ones(SIZE), target, EVERYWHERE, superpixels=superpixels()) == 1
    assert d3r(1 / target, target, EVERYWHERE, superpixels=superpixels()) == 2


def test_d3r_looks_only_across_discontinuities() -> None:
    two_sides = Superpixels(centres=np.array([0, 1, 2]), neighbours=np.array([[0, 1], [1, 2]]))
    target = np.array([[1.0, 1.05, 2.0]])  # a slope, then a step
    valid = np.ones((1, 3), bool)
    wrong_slope, wrong_step = np.array([[1.1, 1.0, 2.0]]), np.array([[1.0, 2.0, 1.05]])
    assert d3r(wrong_slope, target, valid, superpixels=two_sides) == 0
    assert d3r(wrong_step, target, valid, superpixels=two_sides) == 2


@pytest.mark.parametrize(("metric", "band"), [(d3r, 1.01), (ord_error, 1.03)])
def test_ordinal_errors_take_a_small_ratio_for_equality(
    metric: Callable[..., float], band: float
) -> None:
    pair = Superpixels(centres=np.array([0, 1]), neighbours=np.array([[0, 1]]))
    target, valid = np.array([[1.0, 2.0]]), np.ones((1, 2), bool)
    for ratio, error in ((band - 0.001, 1), (band + 0.001, 0)):
        assert metric(np.array([[1.0, ratio]]), target, valid, superpixels=pair) == error


@pytest.mark.parametrize("metric", [ord_error, d3r])
def test_a_pair_with_an_invalid_member_does_not_count(metric: Callable[..., float]) -> None:
    two_sides = Superpixels(centres=np.array([0, 2]), neighbours=np.array([[0, 1]]))
    target = np.array([[1.0, 2.0, 3.0]])
    one_invalid = np.array([[True, True, False]])
    assert metric(target, target, one_invalid | True, superpixels=two_sides) == 0
    assert math.isnan(metric(target, target, one_invalid, superpixels=two_sides))


def test_ord_draws_the_same_partners_for_the_same_seed_only() -> None:
    prediction, target, points = random_map(), scene(), superpixels()
    scores = [
        ord_error(prediction, target, EVERYWHERE, superpixels=points, seed=seed)
        for seed in (0, 0, 1)
    ]
    assert scores[0] == scores[1] != scores[2]


@pytest.mark.parametrize("metric", [ord_error, d3r])
def test_a_flat_target_has_no_order_to_get_wrong(metric: Callable[..., float]) -> None:
    flat = np.ones(SIZE)
    assert math.isnan(metric(scene(), flat, EVERYWHERE))


@pytest.mark.parametrize("metric", [ord_error, d3r])
def test_ordinal_errors_name_the_extra_they_need(
    metric: Callable[..., float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(ImportError, match=r'pip install "crispdepth\[bench\]"'):
        metric(scene(), scene(), EVERYWHERE)


def test_ord_is_its_definition_pair_by_pair() -> None:
    """Three random partners a centre, order by a ratio of 1.03, ties of the truth left out."""

    def order(a: float, b: float) -> int:
        return int(a / b > 1.03) - int(b / a > 1.03)

    target, prediction = random_map(1).ravel(), random_map(2).ravel()
    centres = np.arange(0, target.size, 97)
    partners = np.random.default_rng(5).choice(centres, size=(3, centres.size))
    errors = [
        abs(order(target[i], target[j]) - order(prediction[i], prediction[j]))
        for row in partners
        for i, j in zip(centres, row, strict=True)
        if target[i] != target[j]
    ]
    found = ord_error(
        prediction.reshape(SIZE),
        target.reshape(SIZE),
        EVERYWHERE,
        superpixels=Superpixels(centres, np.zeros((0, 2), np.intp)),
        seed=5,
    )
    assert found == pytest.approx(np.mean(errors))


def test_superpixels_are_those_of_slic0() -> None:
    """Compactness 20 on intensities of 0 to 100."""
    target = scene() + 0.02 * random_map(3)
    labels = slic(
        target, n_segments=60, compactness=0.2, slic_zero=True, start_label=0, channel_axis=None
    )
    rows, columns = np.indices(SIZE)
    centres = [
        int(rows[labels == k].mean()) * SIZE[1] + int(columns[labels == k].mean())
        for k in range(labels.max() + 1)
    ]
    found = find_superpixels(target, EVERYWHERE, count=60)
    np.testing.assert_array_equal(found.centres, centres)


def test_depth_errors_in_closed_form() -> None:
    target = np.full((4, 5), 2.0)
    e = depth_errors(1.1 * target, target, np.ones((4, 5), bool))
    assert e.abs_rel == pytest.approx(0.1)
    assert e.abs_diff == pytest.approx(0.2)
    assert e.sq_rel == pytest.approx(0.02)
    assert e.rmse == pytest.approx(0.2)
    assert e.rmse_log == pytest.approx(np.log(1.1))
    assert (e.delta1, e.delta2, e.delta3, e.completeness) == (1, 1, 1, 1)
    far = depth_errors(1.5 * target, target, np.ones((4, 5), bool))
    assert (far.delta1, far.delta2, far.delta3) == (0, 1, 1)


def test_depth_errors_scale_and_count_what_is_there() -> None:
    rng = np.random.default_rng(0)
    target = rng.uniform(1, 5, (20, 30))
    prediction = target * rng.uniform(0.8, 1.2, target.shape)
    valid = rng.random(target.shape) < 0.9
    one = depth_errors(prediction, target, valid)
    ten = depth_errors(10 * prediction, 10 * target, valid)
    for name in ("abs_diff", "rmse", "sq_rel"):
        assert getattr(ten, name) == pytest.approx(10 * getattr(one, name))
    for name in ("abs_rel", "rmse_log", "delta1"):
        assert getattr(ten, name) == pytest.approx(getattr(one, name))
    prediction[:, :15] = 0  # no prediction: no error, but not complete
    half = depth_errors(prediction, target, valid)
    assert half.completeness == pytest.approx(valid[:, 15:].sum() / valid.sum())
    right = valid.copy()
    right[:, :15] = False
    assert half[:-1] == depth_errors(prediction, target, right)[:-1]
    nothing = depth_errors(0 * target, target, valid)
    assert nothing.completeness == 0
    assert np.isnan(nothing.abs_rel)
    with pytest.raises(ValueError, match="must be positive"):
        depth_errors(prediction, 0 * target, valid)
    with pytest.raises(ValueError, match="truth"):
        depth_errors(prediction, target[1:], valid)
