from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crispdepth.data.datasets.scannet import open_scannet

Save = Callable[[Path, Any], Path]

SIZE = (12, 16)
K = np.array([[14.0, 0, 7.5, 0], [0, 14, 5.5, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
POSE = np.array([[0.0, 0, 1, 1], [-1, 0, 0, 2], [0, -1, 0, 1.5], [0, 0, 0, 1]])


def text(matrix: Any) -> str:
    """As `np.savetxt` of the exporter writes it."""
    return "".join(" ".join(f"{value:f}" for value in row) + "\n" for row in matrix)


def write(root: Path, save: Save, frames: tuple[int, ...] = (0,)) -> Path:
    scene = root / "scene0000_00"
    depth = np.full(SIZE, 1500, np.uint16)
    depth[0] = 0
    for index in frames:
        colour = np.full((24, 32, 3), 10 * index, np.uint8)
        save(scene / f"color/{index}.jpg", colour)
        save(scene / f"depth/{index}.png", depth)
        save(scene / f"pose/{index}.txt", text(POSE))
    save(scene / "intrinsic/intrinsic_depth.txt", text(K))
    return scene


def test_frames_are_in_order_at_the_size_of_the_depth(tmp_path: Path, save: Save) -> None:
    write(tmp_path, save, (0, 2, 10))
    frames = open_scannet(tmp_path)
    assert [frame.name for frame in frames] == [f"scene0000_00/{index}" for index in (0, 2, 10)]
    assert frames[2].image.shape == (*SIZE, 3)
    np.testing.assert_allclose(frames[2].image, 100, atol=1)


def test_millimetres_become_metres_and_zero_is_not_measured(tmp_path: Path, save: Save) -> None:
    (frame,) = open_scannet(write(tmp_path, save))
    np.testing.assert_allclose(frame.depth.values[1:], 1.5)
    assert frame.depth.unit == "m"
    assert not frame.depth.usable[0].any()


def test_the_camera_is_the_exported_one(tmp_path: Path, save: Save) -> None:
    camera = open_scannet(write(tmp_path, save))[0].depth.camera
    assert camera is not None
    np.testing.assert_allclose(camera.K, [[14, 0, 8], [0, 14, 6], [0, 0, 1]])
    np.testing.assert_allclose(camera.cam_from_world @ POSE, np.eye(4), atol=1e-9)


def test_a_frame_whose_tracking_was_lost_has_no_camera(tmp_path: Path, save: Save) -> None:
    scene = write(tmp_path, save)
    save(scene / "pose/0.txt", text(np.full((4, 4), -np.inf)))
    assert open_scannet(scene)[0].depth.camera is None


def test_instances_are_brought_to_the_size_of_the_depth(tmp_path: Path, save: Save) -> None:
    scene = write(tmp_path, save)
    assert open_scannet(scene)[0].instances is None
    ids = np.zeros((24, 32), np.uint8)
    ids[:, 20:] = 17
    save(scene / "instance-filt/0.png", ids)
    instances = open_scannet(scene)[0].instances
    assert instances is not None
    np.testing.assert_array_equal(instances, ids[::2, ::2])


def test_a_missing_pose_is_named(tmp_path: Path, save: Save) -> None:
    scene = write(tmp_path, save)
    (scene / "pose/0.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"No such file: .*pose.0\.txt"):
        open_scannet(scene)[0]
