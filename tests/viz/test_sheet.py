from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from crispdepth.types import DepthMap, MaskSet, RefinedDepth
from crispdepth.viz import sheet
from crispdepth.viz.sheet import (
    Tile,
    boundary_closeups,
    fit,
    mask_boundary,
    outlined,
    preview,
)

Disc = Callable[[int, int], RefinedDepth]
scenes = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40).flatmap(
    lambda size: st.tuples(
        arrays(np.float32, size, elements=st.floats(0, 10, width=32)), arrays(bool, size)
    )
)


@given(scenes, st.integers(1, 16), st.integers(0, 4))
def test_closeups_lie_inside_the_image_on_the_boundary_and_apart(
    scene: tuple[np.ndarray, np.ndarray], size: int, count: int
) -> None:
    change, boundary = scene
    windows = boundary_closeups(change, boundary, count, size)
    assert len(windows) <= count
    assert bool(windows) == bool(boundary.any() and count)
    covered = np.zeros(change.shape, int)
    for window in windows:
        assert window.crop(change).shape == (window.size, window.size)
        assert window.crop(boundary).any()
        window.crop(covered)[...] += 1
    assert covered.max() <= 1


def test_the_first_closeup_holds_the_largest_change_and_the_rest_follow_in_order() -> None:
    change = np.zeros((100, 200), np.float32)
    boundary = np.zeros(change.shape, bool)
    for strength, x in ((1, 30), (3, 90), (2, 150)):
        boundary[50, x] = True
        change[50, x] = strength
    windows = boundary_closeups(change, boundary, count=3, size=20)
    assert [float(window.crop(change).max()) for window in windows] == [3, 2, 1]


def test_a_change_away_from_the_boundary_attracts_no_closeup() -> None:
    change, boundary = np.zeros((100, 100), np.float32), np.zeros((100, 100), bool)
    boundary[80, 80], change[10, 10] = True, 5
    (window,) = boundary_closeups(change, boundary, count=3, size=20)
    assert not window.crop(change).any()


def test_the_boundary_is_just_inside_every_mask_and_not_at_the_border_of_the_image() -> None:
    masks = np.zeros((3, 20, 30), np.uint8)
    masks[0, 5:10, 5:10] = masks[1, :, 20:] = masks[2] = 255
    boundary = mask_boundary(MaskSet(masks))
    expected = np.zeros((20, 30), bool)
    expected[5:10, 5:10], expected[6:9, 6:9] = True, False
    expected[:, 20] = True
    assert np.array_equal(boundary, expected)


def test_a_photo_of_another_size_gets_the_outline_of_every_mask() -> None:
    masks = np.zeros((2, 20, 30), np.uint8)
    masks[0, 5:10, 5:10] = masks[1, 12:18, 20:26] = 255
    photo = np.zeros((200, 300, 3), np.uint8)
    painted = np.any(outlined(photo, MaskSet(masks)), axis=-1)
    assert painted[50:100, 50:100].any()
    assert painted[120:180, 200:260].any()
    assert not painted[:40].any()


def test_enlarging_repeats_pixels_and_the_longer_side_fits() -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    assert np.array_equal(fit(image, 36), image.repeat(4, 0).repeat(4, 1))
    assert fit(image, 3).shape == (2, 3, 3)
    assert fit(np.zeros((1, 500, 3), np.uint8), 10).shape == (1, 10, 3)


def test_labels_do_not_run_into_the_next_column() -> None:
    tiles = [Tile(label, np.zeros((100, 100, 3), np.uint8)) for label in ("M" * 200, "")]
    short = [Tile("", tile.image) for tile in tiles]
    differs = (sheet._compose([tiles]) != sheet._compose([short])).any((0, 2))
    assert differs[:108].any()
    assert not differs[108:].any()


@pytest.mark.parametrize("size", [(48, 64), (300, 200), (7, 90)])
def test_the_preview_is_a_picture_within_its_limit_and_always_the_same(
    disc: Disc, size: tuple[int, int]
) -> None:
    refined = disc(*size)
    for limit in (1808, 500):
        picture = preview(refined, limit)
        assert picture.dtype == np.uint8
        assert picture.shape[2] == 3
        assert max(picture.shape) <= limit
    assert np.array_equal(preview(refined), preview(disc(*size)))


def test_the_preview_does_not_depend_on_the_scale_of_the_depth(disc: Disc) -> None:
    refined = disc(96, 128)
    scaled = replace(
        refined,
        initial=DepthMap(refined.initial.values * 8, "inverse_depth"),
        depth=DepthMap(refined.depth.values * 8, "inverse_depth"),
        layers=tuple(
            replace(pair, foreground=pair.foreground * 8, background=pair.background * 8)
            for pair in refined.layers
        ),
    )
    difference = np.abs(preview(scaled).astype(int) - preview(refined))
    assert np.percentile(difference, 99.9) <= 8  # one level of the map apart, by rounding


def test_depth_and_inverse_depth_look_the_same(disc: Disc) -> None:
    refined = disc(96, 128)
    depth = replace(
        refined,
        initial=DepthMap(np.reciprocal(refined.initial.values), "depth", "m"),
        depth=DepthMap(np.reciprocal(refined.depth.values), "depth", "m"),
        layers=tuple(
            replace(
                pair,
                foreground=np.reciprocal(pair.foreground),
                background=np.reciprocal(pair.background),
            )
            for pair in refined.layers
        ),
    )
    difference = np.abs(preview(depth).astype(int) - preview(refined))
    assert np.percentile(difference, 99.9) <= 8


def test_a_preview_needs_neither_layers_nor_masks_nor_valid_depth(disc: Disc) -> None:
    refined = disc(48, 64)
    full = preview(refined)
    no_layers = preview(replace(refined, layers=()))
    no_masks = preview(replace(refined, masks=MaskSet(np.zeros((0, 48, 64), np.uint8)), layers=()))
    assert no_layers.shape == full.shape  # the change stays
    assert no_masks.shape[0] < full.shape[0]  # no boundary: no close-ups
    unmeasured = DepthMap(np.zeros((48, 64), np.float32), "depth")
    assert preview(replace(refined, initial=unmeasured, depth=unmeasured)).shape == full.shape
