import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from crispdepth.data.compose import RgbdPatch, compose, filled, place_before, soften

Map = NDArray[np.float32]
MAPS = hnp.arrays(np.float32, (6, 7), elements=st.floats(0, 10, width=32))
MASKS = hnp.arrays(np.uint8, (6, 7), elements=st.integers(0, 1))


@given(inside=MAPS, outside=MAPS, mask=MASKS)
def test_a_composite_holds_each_layer_bit_for_bit_on_its_side(
    inside: Map, outside: Map, mask: NDArray[np.uint8]
) -> None:
    composite = compose(inside, outside, mask)
    np.testing.assert_array_equal(composite[mask == 1], inside[mask == 1])
    np.testing.assert_array_equal(composite[mask == 0], outside[mask == 0])


@given(inside=MAPS, outside=MAPS, mask=MASKS)
def test_swapping_the_layers_and_the_sides_changes_nothing(
    inside: Map, outside: Map, mask: NDArray[np.uint8]
) -> None:
    composite = compose(inside, outside, mask)
    np.testing.assert_array_equal(composite, compose(outside, inside, 1 - mask))


def test_images_are_composed_like_maps(rng: np.random.Generator) -> None:
    inside, outside = rng.integers(0, 256, (2, 8, 9, 3)).astype(np.uint8)
    mask = rng.integers(0, 2, (8, 9)).astype(np.uint8)
    composite = compose(inside, outside, mask)
    for channel in range(3):
        plane = compose(inside[..., channel], outside[..., channel], mask)
        np.testing.assert_array_equal(composite[..., channel], plane)


def test_soft_edges_mix_the_two_sides_only_near_the_outline() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[:, 10:] = 1
    inside, outside = np.full((20, 20, 3), 200, np.uint8), np.full((20, 20, 3), 50, np.uint8)
    composite = compose(inside, outside, mask)
    soft = soften(composite, inside, outside, mask, 1.0)
    changed = np.flatnonzero((soft != composite).any(axis=(0, 2)))
    assert set(changed) == {8, 9, 10, 11}
    assert np.all(np.diff(soft[10, :, 0].astype(int)) >= 0)


def test_unmeasured_pixels_are_continued_from_measured_ones(rng: np.random.Generator) -> None:
    inverse = rng.uniform(3, 4, (16, 16)).astype(np.float32)
    valid = rng.random((16, 16)) < 0.5
    inverse[~valid] = 0
    image = np.zeros((16, 16, 3), np.uint8)
    whole = filled(RgbdPatch(image, inverse, valid))
    np.testing.assert_array_equal(whole[valid], inverse[valid])
    assert whole.min() >= 3
    assert whole.max() <= 4


def test_a_patch_without_a_measurement_stays_at_zero() -> None:
    nothing = np.zeros((4, 4), bool)
    patch = RgbdPatch(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.float32), nothing)
    assert not filled(patch).any()


@settings(max_examples=30)
@given(span=st.floats(0.05, 1), gap=st.floats(0.1, 3), seed=st.integers(0, 99))
def test_a_layer_is_placed_before_the_other_by_the_gap(span: float, gap: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    front, back = rng.uniform(4, 6, (12, 12)), rng.uniform(1, 3, (12, 12))
    mask = np.zeros((12, 12), np.uint8)
    mask[3:9, 3:9] = 1
    inside = mask == 1
    placed = place_before(front.astype(np.float32), back.astype(np.float32), mask, span, gap)
    assert placed[inside].mean() - back[inside].mean() == pytest.approx(gap, abs=1e-4)
    assert placed[inside].std() == pytest.approx(span * front[inside].std(), rel=1e-3)


def test_a_placed_layer_never_leaves_the_range(rng: np.random.Generator) -> None:
    front, back = rng.uniform(0, 10, (2, 12, 12)).astype(np.float32)
    mask = np.eye(12, dtype=np.uint8)
    placed = place_before(front, back + 5, mask, 1.0, 8.0)
    assert placed.min() >= 0
    assert placed.max() <= 10
