import numpy as np
import pytest

from crispdepth.geometry.warp import (
    camera_centre,
    in_camera,
    inverse_depth_planes,
    plane_homography,
    sees,
    transfer,
)
from crispdepth.types import Camera

WIDE = np.array([[50.0, 0, 30], [0, 55, 22], [0, 0, 1]])
LONG = np.array([[90.0, 0, 41], [0, 80, 19], [0, 0, 1]])


def turned(angle: float, *translation: float) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = [
        [np.cos(angle), 0, np.sin(angle)],
        [0, 1, 0],
        [-np.sin(angle), 0, np.cos(angle)],
    ]
    pose[:3, 3] = translation
    return pose


REFERENCE = Camera(WIDE, (40, 60), turned(0.1, 0.2, -0.1, 0.3))
SOURCE = Camera(LONG, (50, 70), turned(-0.05, -0.3, 0.05, 0.1))


def through_space(x: np.ndarray, depth: float, first: Camera, second: Camera) -> np.ndarray:
    """Lift a pixel (x, y, 1), move it to the world and project it, the long way."""
    in_first = np.linalg.inv(first.K) @ x * depth
    world = np.linalg.inv(first.cam_from_world) @ np.append(in_first, 1)
    pixel = second.K @ (second.cam_from_world @ world)[:3]
    return np.asarray(pixel / pixel[2])


@pytest.mark.parametrize("depth", [0.7, 2.0, 11.0])
def test_each_view_projects_with_its_own_intrinsics(depth: float) -> None:
    x = np.array([12.5, 31.5, 1.0])
    seen = plane_homography(transfer(REFERENCE, SOURCE), 1 / depth) @ x
    np.testing.assert_allclose(seen / seen[2], through_space(x, depth, REFERENCE, SOURCE))
    # The reference's intrinsics in their place, as published code has it, are far off.
    wrong = Camera(REFERENCE.K, SOURCE.size, SOURCE.cam_from_world)
    mistaken = plane_homography(transfer(REFERENCE, wrong), 1 / depth) @ x
    assert np.abs(mistaken / mistaken[2] - seen / seen[2]).max() > 5


def test_there_and_back_returns_to_the_pixel() -> None:
    x, depth = np.array([40.2, 8.7, 1.0]), 1.7
    there = transfer(REFERENCE, SOURCE)
    seen = there.A @ x + there.b / depth
    depth_there = depth * seen[2]
    back = transfer(SOURCE, REFERENCE)
    again = back.A @ (seen / seen[2]) + back.b / depth_there
    np.testing.assert_allclose(again / again[2], x, atol=1e-10)


def test_one_camera_sees_its_own_pixels_in_place_at_every_depth() -> None:
    pixels = transfer(REFERENCE, REFERENCE)
    for inverse_depth in (0.0, 0.3, 5.0):
        np.testing.assert_allclose(plane_homography(pixels, inverse_depth), np.eye(3), atol=1e-12)


def test_planes_run_from_far_to_near_in_equal_steps_of_inverse_depth() -> None:
    planes = inverse_depth_planes(0.5, 10, 9)
    assert planes[0] == pytest.approx(0.1)
    assert planes[-1] == pytest.approx(2)
    np.testing.assert_allclose(np.diff(planes), np.diff(planes)[0])
    one_hot = np.eye(9)[4]
    assert one_hot @ planes == planes[4]


def test_scaling_the_world_scales_planes_and_moves_no_pixel() -> None:
    def grown(camera: Camera) -> Camera:
        pose = camera.cam_from_world.copy()
        pose[:3, 3] *= 7
        return Camera(camera.K, camera.size, pose)

    x = np.array([3.0, 4.0, 1.0])
    small = plane_homography(transfer(REFERENCE, SOURCE), 1 / 2) @ x
    large = plane_homography(transfer(grown(REFERENCE), grown(SOURCE)), 1 / 14) @ x
    np.testing.assert_allclose(small, large)


@pytest.mark.parametrize(
    ("near", "far", "count"), [(2, 1, 8), (0, 1, 8), (1, np.inf, 8), (1, 2, 1)]
)
def test_impossible_sweeps_are_refused(near: float, far: float, count: int) -> None:
    with pytest.raises(ValueError, match="got"):
        inverse_depth_planes(near, far, count)


def test_a_camera_sees_what_is_in_front_of_it_and_in_its_frame() -> None:
    ahead = np.linalg.inv(SOURCE.cam_from_world) @ [0, 0, 2, 1]
    behind = np.linalg.inv(SOURCE.cam_from_world) @ [0, 0, -2, 1]
    beside = np.linalg.inv(SOURCE.cam_from_world) @ [5, 0, 2, 1]
    world = np.stack([ahead, behind, beside])[:, :3]
    assert sees(SOURCE, in_camera(SOURCE, world)).tolist() == [True, False, False]
    np.testing.assert_allclose(in_camera(SOURCE, camera_centre(SOURCE)[None]), 0, atol=1e-12)
