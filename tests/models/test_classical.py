"""What the classical completer promises of the refined map, on scenes with known depth.

Two slanted planes meet at the mask's edge; the depth given is that scene out of focus, moved, or
right. The laws are about `refine_depth` with this completer: errors are in inverse depth.
"""

from time import perf_counter

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from crispdepth.models.classical import ClassicalCompleter
from crispdepth.tasks.refine import refine_depth
from crispdepth.types import BoolMap, DepthMap, Float32Map, MaskSet, RefinedDepth, Size

SIZE = (96, 128)
BLURS_AND_SHIFTS = [(1.0, 0), (1.0, 2), (1.5, -2), (2.0, 0), (2.0, 2), (2.5, 0)]


def disk(radius: float, size: Size = SIZE) -> BoolMap:
    y, x = np.indices(size) + 0.5
    inside: BoolMap = (y - size[0] / 2) ** 2 + (x - size[1] / 2) ** 2 < radius**2
    return inside


def bar(width: int, size: Size = SIZE) -> BoolMap:
    inside = np.zeros(size, bool)
    start = (size[1] - width) // 2
    inside[12:-12, start : start + width] = True
    return inside


def scene(inside: BoolMap) -> Float32Map:
    """Inverse depth: a near plane inside, another, farther, outside."""
    y, x = np.indices(inside.shape) + 0.5
    values = np.where(inside, 6 + 0.01 * x - 0.005 * y, 2 + 0.008 * y)
    return np.asarray(values, np.float32)


def photo(inside: BoolMap, noise: float = 5) -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    colours = np.where(inside[..., None], [200, 80, 30], [40, 90, 160])
    noisy = colours + rng.normal(0, noise, (*inside.shape, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def rough(truth: Float32Map, sigma: float, shift: int = 0) -> Float32Map:
    """The map out of focus and ``shift`` pixels to the right of where it should be."""
    padded = np.pad(truth, abs(shift), mode="edge")
    moved = np.roll(padded, shift, axis=1)[abs(shift) :, abs(shift) :][: len(truth)]
    moved = np.ascontiguousarray(moved[:, : truth.shape[1]])
    return np.asarray(cv2.GaussianBlur(moved, (0, 0), sigma), np.float32)


def refined(inverse: Float32Map, inside: BoolMap, image: BoolMap | None = None) -> RefinedDepth:
    depth = DepthMap(inverse, "inverse_depth")
    shown = inside if image is None else image
    return refine_depth(photo(shown), depth, MaskSet(inside[None].astype(np.float32)))


def within(pixels: int, inside: BoolMap) -> BoolMap:
    """Pixels no farther than ``pixels`` from the border of the mask."""
    kernel = np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8)
    marked = inside.astype(np.uint8)
    return np.asarray(cv2.dilate(marked, kernel) > cv2.erode(marked, kernel), bool)


@pytest.mark.parametrize(("sigma", "shift"), BLURS_AND_SHIFTS)
@pytest.mark.parametrize("inside", [disk(28), bar(50)], ids=["disk", "bar"])
def test_the_border_is_much_closer_to_the_truth_and_nothing_else_is_worse(
    inside: BoolMap, sigma: float, shift: int
) -> None:
    truth = scene(inside)
    initial = rough(truth, sigma, shift)
    before = np.abs(initial - truth)
    after = np.abs(refined(initial, inside).depth.values - truth)
    band = within(round(2 * sigma) + abs(shift), inside)
    assert after[band].mean() < 0.5 * before[band].mean()
    assert (after - before)[~band].max() < 0.02 * np.ptp(truth)


@pytest.mark.parametrize(("sigma", "shift"), BLURS_AND_SHIFTS)
def test_behind_the_border_the_blur_is_gone(sigma: float, shift: int) -> None:
    inside = disk(28)
    truth = scene(inside)
    initial = rough(truth, sigma, shift)
    behind = within(2, inside) & ~inside
    after = np.abs(refined(initial, inside).depth.values - truth)[behind]
    assert after.mean() < 0.1 * np.abs(initial - truth)[behind].mean()


@pytest.mark.parametrize("sigma", [1.5, 3.0])
@pytest.mark.parametrize("missing", [np.s_[:40], np.s_[:, 30:60], np.s_[30:36]])
def test_depth_that_is_missing_at_part_of_the_border_costs_only_that_part(
    missing: slice | tuple[slice, slice], sigma: float
) -> None:
    """A sensor's shadow or a hole in its data is no sharp edge that speaks for the others."""
    inside = disk(28)
    truth = scene(inside)
    initial = rough(truth, sigma)
    valid = np.ones(SIZE, bool)
    valid[missing] = False
    depth = DepthMap(initial, "inverse_depth", valid=valid)
    result = refine_depth(photo(inside), depth, MaskSet(inside[None]))
    band = within(round(2 * sigma), inside) & valid
    whole = np.abs(refined(initial, inside).depth.values - truth)[band].mean()
    assert np.abs(result.depth.values - truth)[band].mean() < 1.25 * whole


@pytest.mark.parametrize("inside", [disk(28), ~disk(28), bar(20), bar(3)])
def test_depth_that_is_already_sharp_is_left_alone(inside: BoolMap) -> None:
    truth = scene(inside)
    change = np.abs(refined(truth, inside).depth.values - truth)
    assert change.max() < 0.01 * np.ptp(truth)


@settings(max_examples=15, deadline=None)
@given(st.floats(-0.05, 0.05), st.floats(0.01, 0.05))
def test_where_there_is_no_edge_nothing_changes(slope_x: float, slope_y: float) -> None:
    y, x = np.indices(SIZE) + 0.5
    plane = (9 + slope_x * x - slope_y * y).astype(np.float32)
    result = refined(plane, disk(28))
    np.testing.assert_array_equal(result.depth.values, plane)
    assert not result.changed.any()


@settings(max_examples=15, deadline=None)
@given(st.floats(0.5, 5), st.integers(-6, 6), st.integers(0, 2**32 - 1))
def test_the_result_stays_within_the_range_of_the_input(
    sigma: float, shift: int, seed: int
) -> None:
    inside = disk(28)
    noise = np.random.default_rng(seed).normal(0, 0.1, SIZE).astype(np.float32)
    initial = rough(scene(inside), sigma, shift) + noise
    values = refined(initial, inside).depth.values
    tolerance = 0.01 * np.ptp(initial)
    assert values.min() >= initial.min() - tolerance
    assert values.max() <= initial.max() + tolerance


@settings(max_examples=15, deadline=None)
@given(st.floats(0.5, 4), st.integers(-3, 3))
def test_pixels_move_away_from_the_other_layer_or_not_at_all(sigma: float, shift: int) -> None:
    inside = disk(28)
    initial = rough(scene(inside), sigma, shift)
    moved = refined(initial, inside).depth.values - initial
    assert moved[inside].min() >= -1e-5
    assert moved[~inside].max() <= 1e-5


@pytest.mark.parametrize("noise", [5, 20, 30])
@pytest.mark.parametrize("sigma", [0, 1.5, 4])
def test_a_hole_filled_with_the_depth_around_it_gets_the_depth_behind(
    sigma: float, noise: float
) -> None:
    """The usual failure of a network: it does not see the hole and gives it the object's depth."""
    hole = disk(4)
    inside = disk(38) & ~hole
    closed = scene(inside | hole)
    initial = rough(closed, sigma) if sigma else closed
    truth = scene(inside)
    result = refine_depth(
        photo(inside, noise), DepthMap(initial, "inverse_depth"), MaskSet(inside[None])
    )
    after = np.abs(result.depth.values - truth)[hole]
    assert after.mean() < 0.1 * np.abs(initial - truth)[hole].mean()


def test_a_hole_with_a_depth_of_its_own_keeps_it() -> None:
    hole = disk(6)
    inside = disk(38) & ~hole
    initial = scene(inside)
    np.testing.assert_array_equal(refined(initial, inside).depth.values[hole], initial[hole])


@pytest.mark.parametrize("sigma", [0.8, 1.5])
def test_a_thin_pole_keeps_its_depth_and_loses_its_halo(sigma: float) -> None:
    inside = bar(3)
    truth = scene(inside)
    initial = rough(truth, sigma)
    values = refined(initial, inside).depth.values
    to_pole, to_background = np.abs(values - truth), np.abs(values - scene(np.zeros_like(inside)))
    middle = inside.copy()
    middle[:20] = middle[-20:] = False
    assert (to_pole < to_background)[middle].all()
    halo = within(3, inside) & ~inside
    before = np.abs(initial - truth)
    assert to_pole[halo].mean() < 0.2 * before[halo].mean()
    assert to_pole[inside].mean() <= before[inside].mean()


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_without_a_border_the_gate_stays_shut(value: float) -> None:
    rng = np.random.default_rng(0)
    inverse = rng.uniform(0, 10, SIZE).astype(np.float32)
    image = rng.random((*SIZE, 3)).astype(np.float32)
    layer, gate = ClassicalCompleter()(image, inverse, np.full(SIZE, value, np.float32))
    np.testing.assert_array_equal(layer, inverse)
    assert not gate.any()


@pytest.mark.parametrize("side", [disk(28), ~disk(28)])
def test_a_layer_continues_its_own_side_over_the_other(side: BoolMap) -> None:
    truth = scene(disk(28))
    y, x = np.indices(SIZE) + 0.5
    own = 6 + 0.01 * x - 0.005 * y if side[48, 64] else 2 + 0.008 * y
    image = photo(disk(28)).astype(np.float32) / np.float32(255)
    layer, gate = ClassicalCompleter()(image, rough(truth, 1.5), side.astype(np.float32))
    beyond = within(8, side) & ~side
    assert gate[beyond].min() > 0.9
    # The near layer may fall off towards its outline; the far one has no reason to.
    tolerance = 1.2 if side[48, 64] else 0.1
    np.testing.assert_allclose(layer[beyond], own[beyond], atol=tolerance)
    assert layer.dtype == gate.dtype == np.float32
    assert 0 <= gate.min() <= gate.max() <= 1


def test_a_layer_does_not_overshoot_what_it_continues() -> None:
    """The slope of a small steep thing would leave the range of everything within some pixels."""
    x = np.indices(SIZE)[1] + 0.5
    inside = disk(10)
    steep = np.where(inside, 5 + 0.15 * (x - 64), 2).astype(np.float32)
    image = photo(inside).astype(np.float32) / np.float32(255)
    layer, _ = ClassicalCompleter()(image, steep, inside.astype(np.float32))
    assert layer.max() <= steep[inside].max() + 0.8
    assert layer.min() >= steep[inside].min() - 0.8


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.0])
def test_the_nearer_side_takes_less_than_half_of_its_correction(sigma: float) -> None:
    inside = disk(28)
    image = photo(inside).astype(np.float32) / np.float32(255)
    for side in (inside, ~inside):
        mask = side.astype(np.float32)
        _, gate = ClassicalCompleter()(image, rough(scene(inside), sigma), mask)
        assert (gate[side].max() < 0.5) == side[48, 64]


@pytest.mark.slow
def test_the_time_is_roughly_linear_in_the_number_of_pixels() -> None:
    def seconds(size: Size) -> float:
        inside = disk(0.3 * size[0], size)
        image = photo(inside).astype(np.float32) / np.float32(255)
        inverse, mask = rough(scene(inside), 3), inside.astype(np.float32)
        times = []
        for _ in range(3):
            start = perf_counter()
            ClassicalCompleter()(image, inverse, mask)
            times.append(perf_counter() - start)
        return min(times)

    small, large = (300, 340), (950, 1070)  # 0.1 and 1 megapixels
    assert seconds(large) < 30 * seconds(small)
