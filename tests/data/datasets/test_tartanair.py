from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crispdepth.data.datasets.tartanair import open_tartanair, rotation

Save = Callable[[Path, Any], Path]

SIZE = (480, 640)
POSES = [
    "0 0 0 0 0 0 1",
    # at (1, 2, 3), turned by 90 degrees about z (down), so that it looks along world y
    f"1 2 3 0 0 {np.sqrt(0.5)} {np.sqrt(0.5)}",
]


def write(root: Path, save: Save, frames: int = 2) -> Path:
    trajectory = root / "office" / "Easy" / "P001"
    depth = np.full(SIZE, 2.5, np.float32)
    depth[0] = 10000  # sky
    meshes = np.zeros(SIZE, np.uint8)
    meshes[:, 320:] = 255
    for index in range(frames):
        name = f"{index:06d}_left"
        save(trajectory / f"image_left/{name}.png", np.full((*SIZE, 3), [9, 8, index], np.uint8))
        save(trajectory / f"depth_left/{name}_depth.npy", depth)
        save(trajectory / f"seg_left/{name}_seg.npy", meshes)
    save(trajectory / "pose_left.txt", "\n".join(POSES) + "\n")
    return trajectory


def test_a_frame_is_read_whole(tmp_path: Path, save: Save) -> None:
    write(tmp_path, save)
    frames = open_tartanair(tmp_path)
    assert [frame.name for frame in frames] == [
        "office/Easy/P001/000000",
        "office/Easy/P001/000001",
    ]
    frame = frames[1]
    np.testing.assert_array_equal(frame.image[0, 0], [9, 8, 1])
    assert frame.depth.unit == "m"
    assert frame.depth.usable.all()
    np.testing.assert_array_equal(frame.depth.values[:2, 0], [10000, 2.5])
    assert frame.instances is not None
    np.testing.assert_array_equal(frame.instances[0, [0, 639]], [1, 256])  # no mesh is lost


def test_the_view_is_ninety_degrees_about_the_middle(tmp_path: Path, save: Save) -> None:
    (frame,) = open_tartanair(write(tmp_path, save, frames=1))
    assert frame.depth.camera is not None
    unproject = np.linalg.inv(frame.depth.camera.K)
    np.testing.assert_allclose(unproject @ [0, 240, 1], [-1, 0, 1], atol=1e-12)
    np.testing.assert_allclose(unproject @ [640, 240, 1], [1, 0, 1], atol=1e-12)


def test_poses_turn_from_forward_right_down(tmp_path: Path, save: Save) -> None:
    first, turned = (frame.depth.camera for frame in open_tartanair(write(tmp_path, save)))
    assert first is not None
    assert turned is not None
    # 5 m ahead, 1 m to the right, 2 m down
    np.testing.assert_allclose(first.cam_from_world @ [5, 1, 2, 1], [1, 2, 5, 1], atol=1e-12)
    # looking along y, x is to the left
    seen = turned.cam_from_world @ [1 - 1, 2 + 5, 3 + 2, 1]
    np.testing.assert_allclose(seen, [1, 2, 5, 1], atol=1e-12)


@given(
    axis=st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda axis: np.linalg.norm(axis) > 0.1),
    angle=st.floats(-3, 3),
    length=st.floats(0.5, 2),
)
def test_quaternions_turn_as_rodrigues_does(
    axis: tuple[float, float, float], angle: float, length: float
) -> None:
    unit = np.array(axis) / np.linalg.norm(axis)
    quaternion = length * np.array([*(np.sin(angle / 2) * unit), np.cos(angle / 2)])
    np.testing.assert_allclose(rotation(quaternion), cv2.Rodrigues(angle * unit)[0], atol=1e-9)


def test_a_trajectory_without_segmentation_has_no_instances(tmp_path: Path, save: Save) -> None:
    trajectory = write(tmp_path, save, frames=1)
    (trajectory / "seg_left/000000_left_seg.npy").unlink()
    assert open_tartanair(trajectory)[0].instances is None


@pytest.mark.parametrize("poses", [POSES[0] + "\n", f"{POSES[0]}\n1 2 3\n"])
def test_a_missing_or_short_pose_is_named_by_its_line(
    tmp_path: Path, save: Save, poses: str
) -> None:
    trajectory = write(tmp_path, save)
    save(trajectory / "pose_left.txt", poses)
    frames = open_tartanair(trajectory)
    assert frames[0].depth.camera is not None
    with pytest.raises(ValueError, match=r"Line 2 of .*pose_left\.txt should be the pose"):
        frames[1]
