import numpy as np
import pytest
from numpy.typing import NDArray

from crispdepth.tasks.render import (
    Orbit,
    gaussian_renderer,
    look_at,
    orbit_cameras,
    orbit_points,
    path_through,
)
from crispdepth.types import Camera, Gaussians

K = np.array([[50.0, 0, 20], [0, 50, 15], [0, 0, 1]])
SIZE = (30, 40)
UP = np.array([0.0, 0, 1])
ORBIT = Orbit(np.array([0.3, -0.2, 1.0]), UP, 2.5, 30.0)


def eye(camera: Camera) -> NDArray[np.floating]:
    pose = camera.cam_from_world
    return np.asarray(-pose[:3, :3].T @ pose[:3, 3])


def test_a_camera_looks_where_it_should_and_stands_upright() -> None:
    pose = look_at(np.array([3.0, 1, 2]), ORBIT.centre, UP)
    seen = pose @ [*ORBIT.centre, 1]
    np.testing.assert_allclose(seen[:2], 0, atol=1e-12)
    assert seen[2] > 0
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
    assert (pose[:3, :3] @ UP)[0] == pytest.approx(0)  # no roll
    assert (pose[:3, :3] @ UP)[1] < 0  # up in the image, whose y is down
    for target in ([3.0, 1, 2], [3.0, 1, 7]):
        with pytest.raises(ValueError, match="look somewhere"):
            look_at(np.array([3.0, 1, 2]), np.array(target), UP)


def test_an_orbit_is_found_again_from_its_cameras() -> None:
    cameras = ORBIT.cameras(K, SIZE, 9)
    found = orbit_cameras(cameras)
    np.testing.assert_allclose(found.centre, ORBIT.centre, atol=1e-9)
    np.testing.assert_allclose(found.up, UP, atol=1e-9)
    assert found.radius == pytest.approx(2.5)
    assert found.elevation_deg == pytest.approx(30)


def test_the_end_of_an_orbit_is_followed_by_its_beginning() -> None:
    eyes = np.stack([eye(camera) for camera in ORBIT.cameras(K, SIZE, 8)])
    steps = np.linalg.norm(eyes - np.roll(eyes, 1, axis=0), axis=1)
    np.testing.assert_allclose(steps, steps[0])
    np.testing.assert_allclose(np.linalg.norm(eyes - ORBIT.centre, axis=1), 2.5)


def test_cameras_that_look_the_same_way_have_no_orbit() -> None:
    side_by_side = []
    for x in (0.0, 0.5, 1.0):
        pose = np.eye(4)
        pose[0, 3] = x
        side_by_side.append(Camera(K, SIZE, pose))
    with pytest.raises(ValueError, match="--path views"):
        orbit_cameras(side_by_side)
    with pytest.raises(ValueError, match="--path views"):
        orbit_cameras(side_by_side[:1])


def test_points_fill_the_frame_and_stray_ones_do_not_count() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(2000, 3))
    points *= 0.7 / np.linalg.norm(points, axis=1, keepdims=True)
    points[:5] = 100
    orbit = orbit_points(points.astype(np.float32), UP, K, SIZE, 10)
    np.testing.assert_allclose(orbit.centre, 0, atol=0.05)
    for camera in orbit.cameras(K, SIZE, 5):
        pose = camera.cam_from_world
        seen = (points[5:] @ pose[:3, :3].T + pose[:3, 3]) @ K.T
        x, y = (seen[:, :2] / seen[:, 2:]).T
        assert x.min() > 0
        assert x.max() < 40
        assert -0.5 < y.min() < 3
        assert 27 < y.max() < 30.5


def test_a_way_leads_through_the_cameras() -> None:
    cameras = ORBIT.cameras(K, SIZE, 12)[:4]
    way = path_through(cameras, 31)
    for index, camera in zip((0, 10, 20, 30), cameras, strict=True):
        np.testing.assert_allclose(way[index].cam_from_world, camera.cam_from_world, atol=1e-9)
    eyes = np.stack([eye(camera) for camera in way])
    steps = np.linalg.norm(np.diff(eyes, axis=0), axis=1)
    assert steps.max() < 1.7 * steps.min()
    still = path_through([cameras[0], cameras[0]], 3)
    np.testing.assert_allclose(still[1].cam_from_world, cameras[0].cam_from_world, atol=1e-9)
    with pytest.raises(ValueError, match="2 cameras or more"):
        path_through(cameras[:1], 5)


def test_a_renderer_draws_over_the_background() -> None:
    one = Gaussians(
        ORBIT.centre[None].astype(np.float32), np.full((1, 3), 0.3, np.float32),
        np.array([[1, 0, 0, 0]], np.float32), np.array([0.99], np.float32),
        np.full((1, 1, 3), -0.5 / 0.28209479, np.float32),
    )  # fmt: skip
    picture = gaussian_renderer(one, (1, 0.5, 0))(ORBIT.cameras(K, SIZE, 1)[0])
    assert picture.dtype == np.uint8
    assert picture.shape == (30, 40, 3)
    assert picture[0, 0].tolist() == [255, 128, 0]
    assert picture[15, 20].max() < 8  # black
