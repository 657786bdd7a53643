from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crispdepth.data.datasets.sevenscenes import open_sevenscenes

Save = Callable[[Path, Any], Path]

SIZE = (480, 640)
POSE = np.array([[0.0, 0, 1, 1], [-1, 0, 0, 2], [0, -1, 0, 1.5], [0, 0, 0, 1]])


def write(root: Path, save: Save, suffix: str = ".png") -> Path:
    sequence = root / "chess" / "seq-01"
    depth = np.full(SIZE, 1234, np.uint16)
    depth[0], depth[1] = 0, 65535
    for index in range(2):
        frame = f"frame-{index:06d}"
        save(sequence / f"{frame}.color{suffix}", np.full((*SIZE, 3), 50 + index, np.uint8))
        save(sequence / f"{frame}.depth.png", depth)
        rows = ("\t ".join(f"{value:.7e}" for value in row) for row in POSE)
        save(sequence / f"{frame}.pose.txt", "\t \n".join(rows))
    return sequence


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_sequence_is_read_whichever_way_its_photos_are_stored(
    tmp_path: Path, save: Save, suffix: str
) -> None:
    write(tmp_path, save, suffix)
    frames = open_sevenscenes(tmp_path)
    assert [frame.name for frame in frames] == [f"chess/seq-01/frame-00000{i}" for i in range(2)]
    np.testing.assert_allclose(frames[1].image, 51, atol=1)


def test_millimetres_become_metres_and_two_values_are_not_measured(
    tmp_path: Path, save: Save
) -> None:
    depth = open_sevenscenes(write(tmp_path, save))[0].depth
    assert not depth.usable[:2].any()
    np.testing.assert_allclose(depth.values[2:], 1.234, rtol=1e-6)


def test_the_pose_is_world_from_camera(tmp_path: Path, save: Save) -> None:
    camera = open_sevenscenes(write(tmp_path, save))[0].depth.camera
    assert camera is not None
    np.testing.assert_allclose(camera.cam_from_world @ POSE, np.eye(4), atol=1e-6)
    np.testing.assert_array_equal(camera.K, [[585, 0, 320], [0, 585, 240], [0, 0, 1]])


def test_a_resized_copy_is_refused(tmp_path: Path, save: Save) -> None:
    sequence = write(tmp_path, save)
    save(sequence / "frame-000000.depth.png", np.full((240, 320), 1000, np.uint16))
    with pytest.raises(
        ValueError, match=r"camera is for \(480, 640\), the depth map is \(240, 320"
    ):
        open_sevenscenes(sequence)[0]
