"""Poses as files give them."""

from pathlib import Path

import numpy as np
import pytest

from crispdepth.io.scenes.poses import (
    from_integer_centres,
    inverse_pose,
    make_rigid,
    read_matrix,
)

from .conftest import orbit

POSE = orbit()[1]


def test_a_rigid_pose_is_left_alone() -> None:
    rigid = make_rigid(POSE, "a")
    np.testing.assert_array_equal(rigid.cam_from_world, POSE)
    assert rigid.scale == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("scale", [0.01, 0.9999, 1.2, 40])
def test_a_scale_is_taken_out_and_the_picture_stays(scale: float) -> None:
    scaled = POSE.copy()
    scaled[:3] *= scale
    rigid = make_rigid(scaled, "a")
    assert rigid.scale == pytest.approx(scale)
    np.testing.assert_allclose(rigid.cam_from_world, POSE, atol=1e-12)


@pytest.mark.parametrize("scale", [0.5, 3])
def test_a_camera_that_is_scaled_in_the_world_keeps_its_place(scale: float) -> None:
    """World from camera is [s R | c], as some trackers write it."""
    world_from_cam = np.linalg.inv(POSE)
    world_from_cam[:3, :3] *= scale
    rigid = make_rigid(inverse_pose(world_from_cam, "a"), "a")
    np.testing.assert_allclose(rigid.cam_from_world, POSE, atol=1e-12)


def test_rounded_rotations_become_rotations_about_the_same_place() -> None:
    rounded = POSE.copy()
    rounded[:3, :3] = rounded[:3, :3].round(3)
    pose = make_rigid(rounded, "a").cam_from_world
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(pose[:3, :3], POSE[:3, :3], atol=1e-3)
    centre = -np.linalg.solve(rounded[:3, :3], rounded[:3, 3])
    np.testing.assert_allclose(-pose[:3, :3].T @ pose[:3, 3], centre, atol=1e-12)


def test_what_is_no_rotation_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"photo 7 is left-handed .*determinant -1"):
        make_rigid(POSE @ np.diag([1.0, 1, -1, 1]), "photo 7")
    with pytest.raises(ValueError, match="sheared or scaled unevenly"):
        make_rigid(POSE @ np.diag([1.0, 1.2, 1, 1]), "a")
    flat = POSE.copy()
    flat[:3, :3] = 0
    with pytest.raises(ValueError, match="singular"):
        make_rigid(flat, "a")


def test_inverse_pose_takes_what_files_hold() -> None:
    world_from_cam = np.linalg.inv(POSE)
    for given in (world_from_cam, world_from_cam[:3], world_from_cam.tolist()):
        np.testing.assert_allclose(inverse_pose(given, "a"), POSE, atol=1e-14)
    lost = np.full((4, 4), -np.inf)
    assert np.isnan(inverse_pose(lost, "a")).all()
    with pytest.raises(ValueError, match="transposed"):
        inverse_pose(world_from_cam.T, "a")
    with pytest.raises(ValueError, match="3x4 or 4x4"):
        inverse_pose(np.eye(3), "a")
    with pytest.raises(ValueError, match="singular"):
        inverse_pose(np.diag([1.0, 0, 1, 1]), "a")
    with pytest.raises(ValueError, match="no matrix"):
        inverse_pose([[1, 2], [3]], "a")


def test_integer_centres_move_by_half_a_pixel() -> None:
    K = np.array([[100.0, 0, 10], [0, 100, 20], [0, 0, 1]])
    ray = np.linalg.inv(K) @ [12, 34, 1]
    np.testing.assert_allclose(from_integer_centres(K) @ ray, [12.5, 34.5, 1])


@pytest.mark.parametrize("text", ["1 2 3", "a " * 16])
def test_a_broken_matrix_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pose.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"pose\.txt should hold a 4x4 matrix"):
        read_matrix(path)
