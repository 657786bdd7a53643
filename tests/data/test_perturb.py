from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crispdepth.data.perturb import (
    PAPER,
    Perturbations,
    absorb,
    bleed,
    blur,
    coarsen,
    drift,
    fill_holes,
    holes,
    morphology,
    perturb,
    thin_parts,
    wander,
)
from crispdepth.data.strokes import Mask
from crispdepth.types import Float32Map

COUNTS = [(d, e, first) for d in range(1, 6) for e in range(1, 6) for first in (True, False)]
ALL = Perturbations(*[1.0] * 9)
NONE = Perturbations(*[0.0] * 9)


def strip(first: int, last: int, width: int = 120) -> Float32Map:
    """Near (1) from column ``first`` to ``last``, far (0) elsewhere."""
    depth = np.zeros((5, width), np.float32)
    depth[:, first:last] = 1
    return depth


def ring_mask(size: int = 64) -> Mask:
    """A thick ring with an island in its hole."""
    mask = np.zeros((size, size), np.uint8)
    for radius, value in ((26, 1), (16, 0), (5, 1)):
        cv2.circle(mask, (size // 2, size // 2), radius, value, cv2.FILLED)
    return mask


def scene(rng: np.random.Generator) -> tuple[Float32Map, Mask]:
    """A ring before a bumpy background."""
    mask = ring_mask()
    noise = cv2.GaussianBlur(rng.uniform(0, 5, mask.shape).astype(np.float32), (0, 0), 3)
    return np.where(mask == 1, np.float32(7), noise).astype(np.float32), mask


Operator = Callable[[Float32Map], Float32Map]
OPERATORS: dict[str, Operator] = {
    "morphology": lambda d: morphology(d, 3, 2, True),
    "blur": lambda d: blur(d, 2.3),
    "fill_holes": lambda d: fill_holes(d, d, holes(ring_mask()), (0, 1), fresh()),
    "absorb": lambda d: absorb(d, ring_mask(), ring_mask(), 0.4),
    "bleed": lambda d: bleed(d, 1.0, 3.0, -2, fresh()),
    "wander": lambda d: wander(d, 1.5, 10.0, fresh()),
    "coarsen": lambda d: coarsen(d, 2.7),
    "paper": lambda d: perturb(d, ring_mask(), True, fresh(), PAPER),
    "everything": lambda d: perturb(d, ring_mask(), True, fresh(), ALL),
}


def fresh() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize("name", OPERATORS)
def test_every_error_leaves_a_constant_map_as_it_is(name: str) -> None:
    flat = np.full((64, 64), 6.7, np.float32)
    np.testing.assert_allclose(OPERATORS[name](flat), flat, atol=1e-5)


@pytest.mark.parametrize("name", OPERATORS)
def test_every_error_commutes_with_affine_maps(name: str, rng: np.random.Generator) -> None:
    depth, _ = scene(rng)
    moved = OPERATORS[name](3 * depth + 2)
    np.testing.assert_allclose(moved, 3 * OPERATORS[name](depth) + 2, atol=1e-4)


@pytest.mark.parametrize("name", OPERATORS)
def test_every_error_stays_within_the_range_of_the_depths_and_does_something(
    name: str, rng: np.random.Generator
) -> None:
    depth, _ = scene(rng)
    rough = OPERATORS[name](depth)
    assert rough.dtype == np.float32
    assert depth.min() - 1e-5 <= rough.min()
    assert rough.max() <= depth.max() + 1e-5
    assert np.abs(rough - depth).max() > 0.5


@pytest.mark.parametrize(("dilations", "erosions", "first"), COUNTS)
def test_the_near_side_of_a_step_grows_by_twice_the_difference(
    dilations: int, erosions: int, first: bool
) -> None:
    moved = morphology(strip(60, 120), dilations, erosions, first)
    np.testing.assert_array_equal(moved, strip(60 - 2 * (dilations - erosions), 120))


@pytest.mark.parametrize(("dilations", "erosions", "first"), COUNTS)
def test_near_bars_vanish_up_to_the_width_of_the_closed_form(
    dilations: int, erosions: int, first: bool
) -> None:
    if first:
        widest = 4 * erosions - 2 * dilations
    else:
        widest = max(2 * erosions, 4 * (erosions - dilations))
    for width in range(1, 25):
        left = morphology(strip(50, 50 + width), dilations, erosions, first)
        assert left.any() == (width > widest)


@pytest.mark.parametrize(("dilations", "erosions", "first"), COUNTS)
def test_far_gaps_close_up_to_the_width_of_the_closed_form(
    dilations: int, erosions: int, first: bool
) -> None:
    if first:
        widest = max(2 * dilations, 4 * (dilations - erosions))
    else:
        widest = 4 * dilations - 2 * erosions
    for width in range(1, 25):
        left = morphology(1 - strip(50, 50 + width), dilations, erosions, first)
        assert (left == 0).any() == (width > widest)


@pytest.mark.parametrize("sigma", [1.0, 2.5, 5.0])
def test_a_blurred_step_is_as_wide_as_its_sigma_says(sigma: float) -> None:
    profile = blur(strip(60, 120), sigma)[2, 20:100]
    rise = np.interp((0.1, 0.9), profile, np.arange(80.0))
    assert rise[1] - rise[0] == pytest.approx(2.563 * sigma, rel=0.06)


def test_a_blur_of_no_width_changes_nothing(rng: np.random.Generator) -> None:
    depth, _ = scene(rng)
    np.testing.assert_array_equal(blur(depth, 0.0), depth)


def test_a_disk_in_a_disk_is_one_hole_and_an_island_in_it_is_none() -> None:
    mask = ring_mask()
    (hole,) = holes(mask)
    assert hole[32, 18] == 1
    assert hole[32, 32] == 0  # the island
    assert not (hole & mask).any()


def test_masks_without_an_enclosed_gap_have_no_hole() -> None:
    disk, open_ring = np.zeros((2, 64, 64), np.uint8)
    cv2.circle(disk, (32, 32), 20, 1, cv2.FILLED)
    open_ring[:] = ring_mask()
    open_ring[:32, 31:34] = 0
    assert holes(disk) == []
    assert holes(open_ring) == []
    assert holes(np.zeros((8, 8), np.uint8)) == []


def test_holes_come_largest_first() -> None:
    mask = np.ones((40, 60), np.uint8)
    mask[5:10, 5:10] = mask[5:30, 20:50] = 0
    areas = [int(hole.sum()) for hole in holes(mask)]
    assert areas == [25 * 30, 25]


@given(seed=st.integers(0, 999))
def test_a_filled_hole_has_one_value_between_its_own_and_that_around_it(seed: int) -> None:
    mask = ring_mask()
    depth = np.where(mask == 1, np.float32(7), np.float32(2))
    (hole,) = holes(mask)
    rough = fill_holes(depth, depth, [hole], (0, 1), np.random.default_rng(seed))
    values = np.unique(rough[hole == 1])
    assert len(values) == 1
    assert 2 <= values[0] <= 7
    np.testing.assert_array_equal(rough[hole == 0], depth[hole == 0])


def test_the_share_of_the_surroundings_decides_the_value_of_a_hole() -> None:
    mask = np.ones((60, 60), np.uint8)
    mask[25:35, 25:35] = 0
    depth = np.where(mask == 1, np.float32(7), np.float32(2))
    for share, value in ((0.0, 2.0), (1.0, 7.0), (0.5, 4.5)):
        rough = fill_holes(depth, depth, holes(mask), (share, share), fresh())
        assert rough[30, 30] == pytest.approx(value, abs=1e-5)


def test_what_is_around_a_hole_ends_ten_pixels_from_it() -> None:
    depth = np.zeros((60, 60), np.float32)
    depth[14:46, 14:46] = 9  # 11 pixels about a hole of 10: all that counts
    mask = np.ones((60, 60), np.uint8)
    mask[25:35, 25:35] = 0
    rough = fill_holes(depth, depth, holes(mask), (1, 1), fresh())
    assert rough[30, 30] == 9


@pytest.mark.parametrize("width", [3, 5, 9])
def test_a_bar_is_thin_if_no_disk_fits_in_it(width: int) -> None:
    mask = np.zeros((60, 90), np.uint8)
    mask[:, 20:23] = mask[:, 40:45] = mask[:, 60:69] = 1
    thin = thin_parts(mask, width - 1)
    for bar, columns in ((3, slice(20, 23)), (5, slice(40, 45)), (9, slice(60, 69))):
        assert thin[30, columns].all() == (bar < width)
        assert thin[30, columns].any() == (bar < width)


@given(kept=st.floats(0, 1))
def test_an_absorbed_part_keeps_its_share_of_the_contrast(kept: float) -> None:
    depth = strip(50, 56)
    mask = depth.astype(np.uint8)
    rough = absorb(depth + 3, mask, mask, kept)
    np.testing.assert_allclose(rough, 3 + kept * depth, atol=1e-5)


def test_only_the_part_is_absorbed(rng: np.random.Generator) -> None:
    depth, mask = scene(rng)
    part = mask.copy()
    part[:40] = 0
    rough = absorb(depth, part, mask, 0.0)
    np.testing.assert_array_equal(rough[part == 0], depth[part == 0])
    assert rough[part == 1].max() < 5


@pytest.mark.parametrize("lean", [-2, 0, 2])
def test_a_bleeding_edge_leans_to_the_side_it_is_told(lean: int) -> None:
    step = np.tile(strip(60, 120)[:1], (120, 1))
    rough = bleed(step, 1.0, 3.0, lean, fresh())
    added = float((rough - step)[:, 30:90].sum(1).mean())  # pixels that the near side gained
    assert np.sign(round(added, 1)) == np.sign(lean)


def test_outlines_wander_by_about_the_amplitude(rng: np.random.Generator) -> None:
    ramp = np.tile(np.arange(200, dtype=np.float32), (200, 1))
    moved = wander(ramp, 1.5, 10.0, rng)[20:-20, 20:-20] - ramp[20:-20, 20:-20]
    assert moved.std() == pytest.approx(1.5, rel=0.35)


def test_a_coarse_map_has_lost_what_is_finer_than_its_pixels() -> None:
    checks = (np.indices((48, 48)).sum(0) % 2).astype(np.float32)
    np.testing.assert_allclose(coarsen(checks, 4.0), 0.5, atol=1e-6)
    np.testing.assert_array_equal(coarsen(checks, 1.0), checks)


def test_drift_is_smooth_and_in_proportion_to_the_range_of_the_depths(
    rng: np.random.Generator,
) -> None:
    depth, _ = scene(rng)
    gain, offset = drift(depth, fresh())
    _, doubled = drift(2 * depth, fresh())
    np.testing.assert_allclose(doubled, 2 * offset, rtol=1e-5)
    assert gain.min() >= 0.5
    assert gain.max() <= 1.5
    assert np.abs(np.diff(offset, axis=1)).max() < 0.02 * np.ptp(depth)


def test_errors_without_a_chance_do_not_happen(rng: np.random.Generator) -> None:
    depth, mask = scene(rng)
    np.testing.assert_array_equal(perturb(depth, mask, True, rng, NONE), depth)


def test_the_paper_fills_holes_of_people_only(rng: np.random.Generator) -> None:
    depth, mask = scene(rng)
    only_holes = replace(NONE, human_holes=1.0)
    np.testing.assert_array_equal(perturb(depth, mask, False, rng, only_holes), depth)
    changed = perturb(depth, mask, True, rng, only_holes) != depth
    np.testing.assert_array_equal(changed, holes(mask)[0] == 1)


@settings(max_examples=20)
@given(seed=st.integers(0, 9999))
def test_the_same_draw_gives_the_same_errors_and_leaves_the_truth_alone(seed: int) -> None:
    depth, mask = scene(np.random.default_rng(seed))
    before = depth.copy()
    first, second = (
        perturb(depth, mask, True, np.random.default_rng(seed), Perturbations()) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(depth, before)
