"""Scenes of posed frames, and which of their views go together."""

from dataclasses import replace

import numpy as np
import pytest

from crispdepth.data.posed_scenes import (
    choose_views,
    depth_bounds,
    joint_bounds,
    posed_scenes,
    with_views,
)
from tests.posed import ball_frames


def test_a_scene_is_what_the_names_begin_with() -> None:
    frames = [*ball_frames("a/b", 3), *ball_frames("a/c", 2), *ball_frames("lonely", 1)]
    scenes = posed_scenes(frames)
    assert [(scene.name, scene.indices) for scene in scenes] == [
        ("a/b", (0, 1, 2)),
        ("a/c", (3, 4)),
    ]
    for scene in scenes:
        near, far = scene.bounds
        values = np.concatenate([frames[i].depth.values.ravel() for i in scene.indices])
        assert values[values > 0].min() <= near < far <= values.max()


def test_frames_whose_tracking_was_lost_are_left_out() -> None:
    frames = ball_frames("a", 3)
    frames[1] = replace(frames[1], depth=replace(frames[1].depth, camera=None))
    (scene,) = posed_scenes(frames)
    assert scene.indices == (0, 2)
    with pytest.raises(ValueError, match="None of the 2 frames is one of two or more posed"):
        posed_scenes(frames[:2])


def test_outliers_are_no_bounds() -> None:
    depth = np.linspace(2, 3, 4000, dtype=np.float32).reshape(40, 100)
    depth[0, :3], depth[-1, -1], depth[1, :5] = 0.01, 900, 0
    near, far = depth_bounds(depth) or (0, 0)
    assert 1.99 < near < 2.1
    assert 2.9 < far < 3.01
    assert depth_bounds(depth, np.zeros(depth.shape, bool)) is None
    assert joint_bounds([None, (1.0, 2.0), (0.5, 1.5)]) == (0.5, 2.0)
    assert joint_bounds([None]) is None


def test_views_are_different_ones_that_see_the_same() -> None:
    (scene,) = posed_scenes(ball_frames("a", 12))
    rng = np.random.default_rng(0)
    gaps = []
    for _ in range(40):
        views = choose_views(scene, 3, rng)
        assert len({*views}) == 3
        gaps.append(max(views) - min(views))
    assert np.mean(gaps) < 6  # of any three out of 12: 6.5
    assert len({*gaps}) > 1
    assert sorted(choose_views(scene, 12, rng)) == [*range(12)]
    with pytest.raises(ValueError, match="Scene a has 12 views, not 13"):
        choose_views(scene, 13, rng)


def test_frames_of_one_name_are_not_taken_for_one_place() -> None:
    frames = ball_frames("a", 3)
    with pytest.raises(ValueError, match=f"Two frames are called {frames[0].name}"):
        posed_scenes([*frames, frames[0]])


def test_scenes_with_too_few_views_are_left_out() -> None:
    frames = ball_frames("a", 3)
    (scene,) = scenes = posed_scenes(frames)
    assert with_views(scenes, len(scene)) == [scene]
    with pytest.raises(ValueError, match=f"No scene has {len(scene) + 1} posed views"):
        with_views(scenes, len(scene) + 1)
