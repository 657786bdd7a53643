import numpy as np
import pytest

from crispdepth.geometry.view_selection import disparity_range, select_sources
from crispdepth.types import Camera

K = np.array([[60.0, 0, 40], [0, 60, 30], [0, 0, 1]])
NEAR, FAR = 1.0, 4.0


def at(x: float, y: float = 0, turned: float = 0) -> Camera:
    rotation = np.array(
        [[np.cos(turned), 0, -np.sin(turned)], [0, 1, 0], [np.sin(turned), 0, np.cos(turned)]]
    )
    pose = np.eye(4)
    pose[:3, :3] = rotation
    pose[:3, 3] = -rotation @ [x, y, 0]
    return Camera(K, (60, 80), pose)


def test_a_good_angle_is_preferred_to_a_near_index() -> None:
    # 0.28 m at 2 m is 8 degrees; the next frame in order has hardly moved.
    cameras = [at(0), at(0.005), at(0.28), at(1.9)]
    assert select_sources(cameras, 0, NEAR, FAR, 1).indices == (2,)


def test_a_view_from_the_same_centre_is_never_a_source() -> None:
    cameras = [at(0), at(0), at(0, turned=0.2), at(0.3)]
    for index in (0, 1, 2):
        assert select_sources(cameras, index, NEAR, FAR, 3).indices == (3,)
    # The number of the reference does not matter: it is not taken to be the nearest one.
    assert sorted(select_sources(cameras, 3, NEAR, FAR, 3).indices) == [0, 1, 2]


def test_a_view_that_looks_elsewhere_is_no_source() -> None:
    cameras = [at(0), at(0.3, turned=np.pi), at(0.3, turned=np.pi / 2)]
    assert select_sources(cameras, 0, NEAR, FAR, 3).indices == ()


def test_sources_come_from_both_sides() -> None:
    cameras = [at(0), at(0.28), at(0.30), at(0.26), at(-0.22)]
    assert 4 in select_sources(cameras, 0, NEAR, FAR, 2).indices


def test_scale_and_order_of_the_views_do_not_matter() -> None:
    cameras = [at(0), at(0.1), at(0.3), at(-0.2), at(0, 0.25)]
    chosen = select_sources(cameras, 0, NEAR, FAR, 3)
    grown = []
    for camera in cameras:
        pose = camera.cam_from_world.copy()
        pose[:3, 3] *= 100
        grown.append(Camera(camera.K, camera.size, pose))
    assert select_sources(grown, 0, 100 * NEAR, 100 * FAR, 3).indices == chosen.indices
    order = [3, 1, 4, 0, 2]
    mixed = select_sources([cameras[i] for i in order], 3, NEAR, FAR, 3)
    assert [order[i] for i in mixed.indices] == list(chosen.indices)


def test_disparity_of_a_sideways_pair_is_focal_length_times_baseline() -> None:
    expected = 60 * 0.3 * (1 / NEAR - 1 / FAR)
    assert disparity_range(at(0), [at(0.3), at(0.1)], NEAR, FAR) == pytest.approx(expected)
    assert disparity_range(at(0), [at(0)], NEAR, FAR) == 0
