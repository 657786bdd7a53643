from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from crispdepth.data.scenes3d.assets import Assets
from crispdepth.data.scenes3d.cameras import Camera
from crispdepth.data.scenes3d.room import draw_room
from crispdepth.data.scenes3d.scene import Scene
from crispdepth.data.scenes3d.views import Arrangement, choose_views

Seen = list[tuple[NDArray[np.float32], NDArray[np.int32]]]


@pytest.fixture(scope="module")
def scene() -> Scene:
    return draw_room(np.random.default_rng(0), Assets())


def eye(camera: Camera) -> NDArray[np.float64]:
    return camera.rays()[0]


def half_blocked(cameras: Sequence[Camera]) -> Seen:
    """Three things at 2 m, but one thing before the lens of every camera in the half x < 2."""
    seen: Seen = []
    for camera in cameras:
        depth = np.full(camera.size, 2, np.float32)
        ids = np.zeros(camera.size, np.int32)
        ids[:3, :9] = np.repeat([1, 2, 3], 3)
        if eye(camera)[0] < 2:
            depth[:, :6] = 0.1
        seen.append((depth, ids))
    return seen


@pytest.mark.parametrize("arrangement", ["apart", "path", "orbit"])
def test_blocked_views_are_not_chosen(scene: Scene, arrangement: Arrangement) -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        views = choose_views(rng, scene, half_blocked, 3, arrangement, (24, 32))
        assert len(views) == 3
        assert all(eye(view)[0] >= 2 for view in views)
        assert len({view.K[0, 0] for view in views}) == 1
        assert all(view.size == (24, 32) for view in views)


def test_more_views_than_places_are_possible(scene: Scene) -> None:
    count = 2 * len(scene.eyes)
    views = choose_views(np.random.default_rng(0), scene, half_blocked, count, "apart", (24, 32))
    assert len(views) == count
