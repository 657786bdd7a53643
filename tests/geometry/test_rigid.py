"""Laws of rotations and similarities."""

import numpy as np
import pytest

from crispdepth.geometry.rigid import (
    camera_in_frame,
    matrix_from_quaternion,
    quaternion_from_matrix,
    scale_of,
    transform_points,
)


def rotations(count: int = 50) -> np.ndarray:
    wxyz = np.random.default_rng(0).normal(size=(count, 4))
    half_turns = [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0.6, -0.8, 0], [1, 0, 0, 0]]
    return matrix_from_quaternion(np.concatenate([wxyz, half_turns]))


def test_quaternions_give_rotations() -> None:
    R = rotations()
    np.testing.assert_allclose(
        R @ R.transpose(0, 2, 1), np.tile(np.eye(3), (len(R), 1, 1)), atol=1e-14
    )
    np.testing.assert_allclose(np.linalg.det(R), 1)


def test_matrix_and_quaternion_are_inverse_half_turns_included() -> None:
    R = rotations()
    wxyz = quaternion_from_matrix(R)
    np.testing.assert_allclose(np.linalg.norm(wxyz, axis=1), 1)
    assert (wxyz[:, 0] >= 0).all()
    np.testing.assert_allclose(matrix_from_quaternion(wxyz), R, atol=1e-14)


def test_a_quarter_turn_about_z_takes_x_to_y() -> None:
    R = matrix_from_quaternion(np.array([1.0, 0, 0, 1]))
    np.testing.assert_allclose(R @ [1, 0, 0], [0, 1, 0], atol=1e-15)


def test_a_zero_quaternion_is_refused() -> None:
    with pytest.raises(ValueError, match="length zero"):
        matrix_from_quaternion(np.zeros((1, 4)))


def test_a_camera_sees_the_same_in_a_similar_frame() -> None:
    rng = np.random.default_rng(1)
    frame_from_world, cam_from_world = np.eye(4), np.eye(4)
    frame_from_world[:3, :3] = 2.5 * rotations()[3]
    frame_from_world[:3, 3] = 3, -1, 2
    cam_from_world[:3, :3], cam_from_world[:3, 3] = rotations()[8], (0.1, 0.2, 5)
    assert scale_of(frame_from_world) == pytest.approx(2.5)
    points = rng.normal(size=(20, 3))
    cam_from_frame = camera_in_frame(cam_from_world, frame_from_world)
    np.testing.assert_allclose(
        cam_from_frame[:3, :3] @ cam_from_frame[:3, :3].T, np.eye(3), atol=1e-14
    )
    seen = transform_points(cam_from_frame, transform_points(frame_from_world, points))
    np.testing.assert_allclose(seen, 2.5 * transform_points(cam_from_world, points), atol=1e-12)
