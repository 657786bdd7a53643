import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crispdepth.data.scenes3d.cameras import Camera, intrinsics, look_at, orbit_path, smooth_path

coordinate = st.floats(-3, 3)
point = st.tuples(coordinate, coordinate, coordinate)
SIZE = (6, 8)


@given(point, point, st.floats(-0.5, 0.5))
def test_a_camera_looks_at_its_target_from_its_eye(
    eye: tuple[float, float, float], target: tuple[float, float, float], roll: float
) -> None:
    if np.linalg.norm(np.subtract(eye, target)[:2]) < 0.05:
        return  # straight up or down has no upright picture
    pose = look_at(eye, target, roll)
    rotation = pose[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(rotation) == pytest.approx(1)
    np.testing.assert_allclose(pose @ [*eye, 1], [0.0, 0, 0, 1], atol=1e-9)
    distance = float(np.linalg.norm(np.subtract(eye, target)))
    np.testing.assert_allclose(pose @ [*target, 1], [0.0, 0.0, distance, 1.0], atol=1e-9)


def test_up_in_the_world_is_up_in_the_picture() -> None:
    pose = look_at((0, -2, 1), (0, 0, 1))
    np.testing.assert_allclose(pose @ [1, 0, 1, 1], [1, 0, 2, 1], atol=1e-12)  # right is +x
    np.testing.assert_allclose(pose @ [0, 0, 2, 1], [0, -1, 2, 1], atol=1e-12)  # down is +y


def test_rays_go_through_the_pixels_centres() -> None:
    camera = Camera(intrinsics(60, SIZE), look_at((1, 2, 3), (0, 0, 0), 0.1), SIZE)
    eye, ways = camera.rays()
    points = (eye + 2.5 * ways) @ camera.cam_from_world[:3, :3].T + camera.cam_from_world[:3, 3]
    pixels = points @ camera.K.T
    xy = (pixels[:, :2] / pixels[:, 2:]).reshape(*SIZE, 2)
    np.testing.assert_allclose(xy[0, 0], [0.5, 0.5])
    np.testing.assert_allclose(xy[4, 7], [7.5, 4.5])


def test_the_field_of_view_is_that_of_the_width_and_resizing_keeps_it() -> None:
    camera = Camera(intrinsics(90, SIZE), np.eye(4), SIZE)
    assert camera.K[0, 0] == pytest.approx(SIZE[1] / 2)
    small = camera.resized((3, 4))
    np.testing.assert_allclose(small.K, intrinsics(90, (3, 4)))


def test_a_path_starts_at_the_eye_and_does_not_jump() -> None:
    eye, target = np.array([2.0, 1, 1]), np.array([0.0, 0, 0.5])
    for seed in range(10):
        path = smooth_path(np.random.default_rng(seed), eye, target, 12, reach=0.8)
        eyes = np.array([-pose[:3, :3].T @ pose[:3, 3] for pose in path])
        assert len(path) == 12
        np.testing.assert_allclose(eyes[0], eye, atol=0.05)
        steps = np.linalg.norm(np.diff(eyes, axis=0), axis=1)
        assert steps.max() < 0.35
        assert steps.sum() > 0.05
        gaze = np.array([pose[2, :3] for pose in path])
        assert (gaze[1:] * gaze[:-1]).sum(axis=1).min() > np.cos(0.35)


def test_an_orbit_keeps_height_distance_and_target_and_closes() -> None:
    eye, target = np.array([2.0, 1, 1]), np.array([0.0, 0, 0.5])
    path = orbit_path(np.random.default_rng(0), eye, target, 8, 2 * np.pi)
    for pose in path:
        position = -pose[:3, :3].T @ pose[:3, 3]
        assert position[2] == pytest.approx(1)
        assert np.linalg.norm(position - target) == pytest.approx(np.linalg.norm(eye - target))
        np.testing.assert_allclose((pose @ [*target, 1])[:2], 0, atol=1e-9)
    headings = np.sort([np.arctan2(pose[2, 1], pose[2, 0]) for pose in path])
    gaps = np.diff([*headings, headings[0] + 2 * np.pi])
    assert gaps.max() < 1.6 * 2 * np.pi / 8
