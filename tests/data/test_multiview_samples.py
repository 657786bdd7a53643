"""Samples of several views: one world in all of them, and what each kind of sample shows."""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.multiview_config import MultiviewSampleConfig
from crispdepth.data.multiview_samples import (
    KINDS,
    MultiviewSample,
    MultiviewSampler,
)
from crispdepth.types import DepthMap
from tests.posed import ball_frames

SIZE = (32, 64)
PLAIN = MultiviewSampleConfig(masked_objects=1, masked_others=0, rgba=0).faultless()


@pytest.fixture(scope="module")
def frames() -> list[RgbdFrame]:
    return [*ball_frames("room"), *ball_frames("table", masks=True)]


def draw(
    frames: Sequence[RgbdFrame], config: MultiviewSampleConfig, count: int = 12, views: int = 3
) -> list[MultiviewSample]:
    sampler = MultiviewSampler(frames, config)
    return [sampler.draw(0, index, SIZE, views) for index in range(count)]


def seen_elsewhere(
    sample: MultiviewSample, view: int, other: int
) -> tuple[NDArray[np.bool_], NDArray[np.intp], NDArray[np.float64]]:
    """Pixels of a view that land in another, where they land (n, 2: row, column), their z there."""
    height, width = SIZE
    y, x = np.mgrid[:height, :width] + 0.5
    rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ np.linalg.inv(sample.K[view]).T
    points = rays * sample.depth[view][..., None]
    pose = sample.cam_from_world[other] @ np.linalg.inv(sample.cam_from_world[view])
    there = points @ pose[:3, :3].T + pose[:3, 3]
    pixels = there @ sample.K[other].T
    column, row = np.floor(pixels[..., :2] / np.maximum(pixels[..., 2:], 1e-6)).astype(int).T
    column, row = column.T, row.T
    lands = (sample.depth[view] > 0) & (there[..., 2] > 0)
    lands &= (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return lands, np.stack([row, column], axis=-1)[lands], there[..., 2][lands]


def smooth(depth: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where a depth map is known and no edge is near."""
    low, high = (how(depth, np.ones((3, 3))) for how in (cv2.erode, cv2.dilate))
    return np.asarray((low > 0) & (high < 1.1 * low))


def test_a_sample_is_decided_by_its_numbers(frames: list[RgbdFrame]) -> None:
    config = MultiviewSampleConfig()
    first, again = draw(frames, config), draw(frames, config)
    for a, b in zip(first, again, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)
    assert len({sample.images.tobytes() for sample in first}) == len(first)


@pytest.mark.parametrize("mirrored", [0.0, 1.0])
def test_all_views_show_one_world(frames: list[RgbdFrame], mirrored: float) -> None:
    for sample in draw(frames, replace(PLAIN, mirrored=mirrored, object_range=0)):
        np.testing.assert_allclose(sample.cam_from_world[0], np.eye(4), atol=1e-6)
        assert np.linalg.det(sample.cam_from_world[1]) == pytest.approx(1, abs=1e-5)
        lands, places, z = seen_elsewhere(sample, 0, 1)
        rows, columns = places.T
        found = sample.depth[1, rows, columns]
        visible = smooth(sample.depth[1])[rows, columns] & smooth(sample.depth[0])[lands]
        visible &= z < 1.05 * found  # not behind the ball
        assert visible.sum() > 150
        assert np.mean(np.abs(z / found - 1)[visible] < 0.05) > 0.96
        here, there = sample.images[0][lands][visible], sample.images[1, rows, columns][visible]
        assert np.abs(here.astype(float) - there).mean() < 10
        inside = (sample.alpha[0, 0][lands] > 0.9)[visible]
        assert np.mean(sample.alpha[1, 0, rows, columns][visible][inside] > 0.5) > 0.9


def test_cameras_differ_between_views(frames: list[RgbdFrame]) -> None:
    different = [len(np.unique(sample.K, axis=0)) > 1 for sample in draw(frames, PLAIN, 8)]
    assert np.mean(different) > 0.7


def test_depths_lie_in_the_stated_range(frames: list[RgbdFrame]) -> None:
    for sample in draw(frames, MultiviewSampleConfig(), 30):
        near, far = sample.near[:, None, None], sample.far[:, None, None]
        known = sample.depth > 0
        assert known.any()
        assert ((sample.depth >= near) & (sample.depth <= far))[known].all()
        assert (sample.near > 0).all()
        assert (sample.far > 1.05 * sample.near).all()


def test_a_sample_without_a_mask_has_ones(frames: list[RgbdFrame]) -> None:
    for sample in draw(frames[:6], PLAIN, 4):
        assert KINDS[int(sample.kind)] == "scene"
        assert (sample.masks == 1).all()
        assert (sample.alpha == 1).all()


def test_instances_are_masks_where_a_scene_has_no_object(frames: list[RgbdFrame]) -> None:
    for sample in draw(frames[:6], replace(PLAIN, masked_others=1), 4):
        assert KINDS[int(sample.kind)] == "object"
        assert 0.01 < sample.alpha.mean() < 0.9
        assert ((sample.alpha > 0.1) & (sample.alpha < 0.9)).any()  # the border is soft
        np.testing.assert_array_equal(sample.masks, sample.alpha)


def test_rgba_shows_nothing_but_the_object(frames: list[RgbdFrame]) -> None:
    backgrounds = set()
    for sample in draw(frames, replace(PLAIN, rgba=1, masked_others=1), 24):
        assert KINDS[int(sample.kind)] == "rgba"
        outside = sample.alpha[:, 0] == 0
        colours = np.unique(sample.images[outside], axis=0)
        assert len(colours) == 1
        backgrounds.add(tuple(colours[0].tolist()))
        assert (sample.depth[sample.alpha[:, 0] < 0.2] == 0).all()
        assert (sample.depth[sample.alpha[:, 0] == 1] > 0).mean() > 0.95
    assert {(0, 0, 0), (255, 255, 255)} < backgrounds


def test_the_range_of_an_object_is_its_own(frames: list[RgbdFrame]) -> None:
    alone = draw(frames[6:], replace(PLAIN, object_range=1))
    whole = draw(frames[6:], replace(PLAIN, object_range=0))
    assert np.mean([sample.far.max() for sample in alone]) < 0.8 * np.mean(
        [sample.far.max() for sample in whole]
    )


def test_masks_can_be_untold_missing_and_wrong(frames: list[RgbdFrame]) -> None:
    table = frames[6:]
    for sample in draw(table, replace(PLAIN, untold=1), 3):
        assert (sample.masks == 1).all()
        assert (sample.alpha < 1).any()
    told = np.concatenate(
        [
            (sample.masks != 1).any(axis=(1, 2, 3))
            for sample in draw(table, replace(PLAIN, incomplete=1, missing=0.5))
        ]
    )
    assert 0.2 < told.mean() < 0.8
    for sample in draw(table, replace(PLAIN, wrong=1), 6):
        assert 0.002 < np.abs(sample.masks - sample.alpha).mean() < 0.2


def test_colours_change_alike_in_all_views(frames: list[RgbdFrame]) -> None:
    config = replace(PLAIN, mirrored=0)
    plain, changed = draw(frames, config, 8), draw(frames, replace(config, colour=1), 8)
    shifts = []
    for a, b in zip(plain, changed, strict=True):
        np.testing.assert_array_equal(a.depth, b.depth)
        shifts.append(b.images.mean(axis=(1, 2, 3)) - a.images.mean(axis=(1, 2, 3)))
    assert np.std(shifts, axis=1).mean() < 0.5 * np.std(shifts, axis=0).mean()


def test_without_depth_the_range_is_that_of_the_masks(frames: list[RgbdFrame]) -> None:
    table = frames[6:]
    nothing = np.zeros(table[0].depth.size, np.float32)
    blind = [
        replace(frame, depth=DepthMap(nothing, "depth", camera=frame.depth.camera))
        for frame in table
    ]
    config = replace(PLAIN, rgba=1)
    for seen, unseen in zip(draw(table, config), draw(blind, config), strict=True):
        assert (unseen.depth == 0).all()
        known = np.where(seen.depth > 0, seen.depth, np.nan)
        nearest, farthest = np.nanmin(known, axis=(1, 2)), np.nanmax(known, axis=(1, 2))
        assert (unseen.near <= 1.02 * nearest).all()
        assert (unseen.near >= 0.3 * nearest).all()
        assert (unseen.far >= farthest).all()
        assert (unseen.far <= 4 * farthest).all()


def test_objects_are_told_apart_and_are_the_same_in_all_views(frames: list[RgbdFrame]) -> None:
    def parted(frame: RgbdFrame, *, strange: bool) -> RgbdFrame:
        """The ball, 40, the left of the floor, 7, and in one frame alone another part of it, 9."""
        assert frame.instances is not None
        ids = np.where(frame.instances == 1, 40, 0)
        ids[:, :20][ids[:, :20] == 0] = 7
        ids[-12:][ids[-12:] == 0] = 9 * strange
        return replace(frame, instances=ids.astype(np.int32))

    room = [parted(frame, strange=number == 0) for number, frame in enumerate(frames[:6])]
    config = replace(PLAIN, masked_others=1, zoom=1)
    both = 0
    for sample in draw(room, config):
        assert sample.objects.dtype == np.uint8
        assert sample.objects.max() <= 2
        both += {*np.unique(sample.objects)} == {0, 1, 2}
        inside = sample.alpha[:, 0] > 0.9
        chosen = np.unique(sample.objects[inside])  # one or both
        assert chosen.min() > 0
        assert not np.isin(sample.objects[sample.alpha[:, 0] == 0], chosen).any()
    assert both > 6
    for untold in (replace(each, instances=None) for each in room[:1]):
        for sample in draw([untold, *room[1:]], config, 4, views=6):
            assert not sample.objects.any()


def test_more_views_than_any_scene_has_are_refused(frames: list[RgbdFrame]) -> None:
    with pytest.raises(ValueError, match="No scene has 7 posed views, the most are 6"):
        draw(frames, PLAIN, 1, views=7)


def test_chances_are_between_0_and_1() -> None:
    with pytest.raises(ValueError, match="wrong must be between 0 and 1, got 2"):
        MultiviewSampleConfig(wrong=2)
    with pytest.raises(ValueError, match="zoom"):
        MultiviewSampleConfig(zoom=0)
