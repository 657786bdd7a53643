"""Depth by the multi-view network as it is before any training: a sweep with windows of 4 x 4."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from crispdepth.models.multiview.config import MultiviewNetworkConfig
from crispdepth.models.multiview.network import MultiviewNetwork
from crispdepth.tasks.multiview import estimate_depths
from crispdepth.tasks.multiview_config import MultiviewConfig
from crispdepth.tasks.multiview_network import (
    SMALLEST,
    Predicted,
    Sighting,
    enlargement,
    look_at,
)
from crispdepth.types import Camera, Float32Map, MaskSet, View, scene_of_views
from tests.seen_together import seen_together
from tests.wall_and_ball import FULL, SIZE, WALL, camera, masked, on_ball, row, see

NEAR, FAR = 1.5, 6.0


@pytest.fixture(scope="module")
def network() -> MultiviewNetwork:
    torch.manual_seed(0)
    config = MultiviewNetworkConfig(
        widths=(8, 8, 16), heads=4, planes=(48, 12), unet_width=16, features=8
    )
    return MultiviewNetwork(config).eval()


def sightings(
    views: list[View], weights: Sequence[Float32Map | None] | None = None
) -> list[Sighting]:
    """The middle view, then the others."""
    middle = len(views) // 2
    order = [middle, *(index for index in range(len(views)) if index != middle)]
    given = weights or [None] * len(views)
    found = []
    for index in order:
        seen_by = views[index].camera
        assert seen_by is not None
        found.append(Sighting(seen_by, views[index].image.astype(np.uint8), given[index]))
    return found


def ball_weights(views: list[View]) -> list[Float32Map | None]:
    return [on_ball(view).astype(np.float32) for view in views]


def error(found: Predicted, view: View, where: np.ndarray) -> float:
    """Median relative error."""
    assert view.depth is not None
    return float(np.median(np.abs(1 / found.inverse - view.depth.values)[where] / WALL))


def test_wall_and_ball_are_found_at_a_size_that_is_no_multiple(network: MultiviewNetwork) -> None:
    K, size = np.diag([4, 4, 1.0]) @ FULL, (234, 315)
    places = {f"{x}.png": Camera(K, size, camera(x).cam_from_world) for x in (-0.16, 0, 0.16)}
    views = [see(seen_by, name) for name, seen_by in places.items()]
    found = seen_together(network, sightings(views), NEAR, FAR)
    assert found.inverse.shape == found.probability.shape == size
    assert error(found, views[1], np.ones(size, bool)) < 0.02
    assert found.probability.min() >= 0
    assert found.probability.max() <= 1
    assert (found.inverse >= 1 / FAR - 1e-6).all()
    assert (found.inverse <= 1 / NEAR + 1e-6).all()


def test_what_masks_leave_is_put_where_it_was(network: MultiviewNetwork) -> None:
    views = row()
    weights = ball_weights(views)
    found = seen_together(network, sightings(views, weights), NEAR, FAR)
    inside = on_ball(views[2])
    assert error(found, views[2], inside) < 0.08
    far_away = np.zeros(SIZE, bool)
    far_away[:, :4] = True  # beyond the window about the ball
    assert (found.probability[far_away] == 0).all()


def test_a_mask_may_touch_the_frame_and_exceed_it_with_its_margin(
    network: MultiviewNetwork,
) -> None:
    K = FULL + np.array([[0, 0, -32.0], [0, 0, -22], [0, 0, 0]])  # the ball in the corner
    views = [see(Camera(K, SIZE, camera(x).cam_from_world), f"{x}.png") for x in (-0.16, 0, 0.16)]
    weights = ball_weights(views)
    assert on_ball(views[1])[:, 0].any()
    found = seen_together(network, sightings(views, weights), NEAR, FAR)
    assert error(found, views[1], on_ball(views[1])) < 0.08


def test_what_lies_beyond_the_window_has_no_influence(network: MultiviewNetwork) -> None:
    """The photo may be cut by hand: with its K it is the same view."""
    views = row(3)
    weights = ball_weights(views)
    whole = seen_together(network, sightings(views, weights), NEAR, FAR)
    cut_views, cut_weights = [], []
    for view, weight in zip(views, weights, strict=True):
        assert view.camera is not None
        assert weight is not None
        shifted = view.camera.K - np.array([[0, 0, 2.0], [0, 0, 0], [0, 0, 0]])
        smaller = Camera(shifted, (SIZE[0], SIZE[1] - 2), view.camera.cam_from_world)
        cut_views.append(replace(view, image=view.image[:, 2:], camera=smaller, depth=None))
        cut_weights.append(weight[:, 2:])
    cut = seen_together(network, sightings(cut_views, cut_weights), NEAR, FAR)
    inside = on_ball(views[1])[:, 2:]
    np.testing.assert_allclose(whole.inverse[:, 2:][inside], cut.inverse[inside], atol=1e-5)


def test_scenes_go_through_with_masks_in_some_views_only(network: MultiviewNetwork) -> None:
    views = masked(row())
    views[1] = replace(views[1], masks=None)
    views[3] = replace(views[3], masks=MaskSet(np.zeros((1, *SIZE), np.uint8)))
    config = MultiviewConfig(near=NEAR, far=FAR, sources=4, consistent=1)
    found = dict(estimate_depths(scene_of_views(views), config, network=network))
    assert sorted(found) == list(range(5))
    inside = on_ball(views[2])
    assert found[2].depth.usable[inside].any()
    assert not found[2].depth.usable[~inside].any()
    assert not found[3].depth.usable.any()
    for each in found.values():
        assert np.isfinite(each.depth.values).all()


@pytest.mark.parametrize("with_masks", [False, True])
def test_photos_may_be_of_several_sizes(network: MultiviewNetwork, with_masks: bool) -> None:
    views = row(3)
    tall = Camera(
        FULL + np.array([[0, 0, -8.0], [0, 0, 10], [0, 0, 0]]),
        (80, 64),
        camera(0.16).cam_from_world,
    )
    views[2] = see(tall, "tall.png")
    scene = scene_of_views(masked(views) if with_masks else views)
    config = MultiviewConfig(near=NEAR, far=FAR, consistent=1)
    for index, found in estimate_depths(scene, config, network=network):
        view = views[index]
        assert view.depth is not None
        assert found.depth.size == view.image.shape[:2]
        there = found.depth.usable & on_ball(view) if with_masks else found.depth.usable
        assert there.sum() > 0.5 * (on_ball(view).sum() if with_masks else there.size)
        assert np.median(np.abs(found.depth.values / view.depth.values - 1)[there]) < 0.03


def test_a_wanted_part_equals_the_whole(network: MultiviewNetwork) -> None:
    """Also with masks, one missing and one empty, of which the network hears by others."""
    views = masked(row(7))
    views[1] = replace(views[1], masks=None)
    views[5] = replace(views[5], masks=MaskSet(np.zeros((1, *SIZE), np.uint8)))
    scene = scene_of_views(views)
    config = MultiviewConfig(near=NEAR, far=FAR, sources=1, neighbours=2, corrections=1)
    whole = dict(estimate_depths(scene, config, network=network))
    for index in (0, 3):
        ((_, part),) = estimate_depths(scene, config, indices=[index], network=network)
        np.testing.assert_array_equal(part.depth.values, whole[index].depth.values)
        np.testing.assert_array_equal(part.confidence, whole[index].confidence)


def test_small_things_are_enlarged_and_masks_without_anything_do_not_count() -> None:
    photo, *_ = sightings(row(3))
    masks = np.zeros((3, *SIZE), np.float32)
    masks[0, 25:35, 35:45] = masks[1] = 1
    small, whole, empty = (photo._replace(weight=mask) for mask in masks)
    assert enlargement([small, empty]) == enlargement([small]) > enlargement([whole, empty]) > 1
    assert enlargement([empty]) == 1


def test_a_view_is_not_enlarged_more_than_it_needs(network: MultiviewNetwork) -> None:
    photo, *_ = sightings(row(3))
    cpu = torch.device("cpu")
    nothing = photo._replace(weight=np.zeros(SIZE, np.float32))
    assert max(look_at(network, photo, NEAR, FAR, cpu, 50).window.camera.size) <= 1.5 * SMALLEST
    assert look_at(network, nothing, NEAR, FAR, cpu, 4).window.camera.size == (32, 32)


def test_a_lonely_view_gets_no_depth(network: MultiviewNetwork) -> None:
    views = row(3)
    away = np.eye(4)
    away[2, 3] = 100
    views[0] = replace(views[0], name="away.png", camera=Camera(FULL, SIZE, away), depth=None)
    said: list[str] = []
    config = MultiviewConfig(near=NEAR, far=FAR)
    found = dict(estimate_depths(scene_of_views(views), config, network=network, note=said.append))
    assert not found[0].depth.usable.any()
    assert any("away.png" in line for line in said)
