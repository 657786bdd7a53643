import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from crispdepth.data.datasets.rendered import open_rendered

Save = Callable[[Path, Any], Path]

SIZE = (6, 10)
K = [[8.0, 0, 5], [0, 8, 3], [0, 0, 1]]
UNIT_M = 0.0002


def pose(shift: float) -> list[list[float]]:
    return [[0, -1, 0, shift], [0, 0, -1, 0], [1, 0, 0, 2], [0, 0, 0, 1]]


def write(scene: Path, save: Save, frames: int = 2) -> Path:
    counts = np.full(SIZE, 10000, np.uint16)
    counts[0] = 0
    for index in range(frames):
        save(scene / f"images/{index:04d}.png", np.full((*SIZE, 3), 30 + index, np.uint8))
        save(scene / f"depth/{index:04d}.png", counts + np.uint16(index) * (counts > 0))
        save(scene / f"instances/{index:04d}.png", np.full(SIZE, 4 + index, np.uint8))
    facts = {
        "K": K,
        "size": SIZE[::-1],
        "n_frames": frames,
        "image_pattern": "images/%04d.png",
        "depth_unit_m": UNIT_M,
        "cam_from_world": [pose(index) for index in range(frames)],
        "instances": {"4": "vase"},
    }
    save(scene / "scene.json", json.dumps(facts))
    return scene


def test_a_rendered_scene_needs_no_rough_depth(tmp_path: Path, save: Save) -> None:
    frames = open_rendered(write(tmp_path / "room", save))
    assert [frame.name for frame in frames] == ["room/0000", "room/0001"]
    frame = frames[1]
    np.testing.assert_array_equal(frame.image, 31)
    np.testing.assert_array_equal(frame.instances, np.full(SIZE, 5))
    np.testing.assert_allclose(frame.depth.values[1:], 10001 * UNIT_M)
    assert not frame.depth.usable[0].any()
    assert frame.rough is None


def test_rough_depth_is_read_where_there_is_any(tmp_path: Path, save: Save) -> None:
    scene = write(tmp_path / "room", save)
    save(scene / "init/0001.png", np.full(SIZE, 700, np.uint16))
    first, second = open_rendered(scene)
    assert first.rough is None
    np.testing.assert_array_equal(second.rough, np.full(SIZE, 700, np.float32))


def test_each_frame_has_its_own_camera(tmp_path: Path, save: Save) -> None:
    for index, frame in enumerate(open_rendered(write(tmp_path / "room", save))):
        assert frame.depth.camera is not None
        np.testing.assert_array_equal(frame.depth.camera.K, K)
        np.testing.assert_array_equal(frame.depth.camera.cam_from_world, pose(index))


def test_all_scenes_of_a_folder_are_one_dataset(tmp_path: Path, save: Save) -> None:
    write(tmp_path / "b", save, 1)
    write(tmp_path / "a", save)
    assert [frame.name for frame in open_rendered(tmp_path)] == ["a/0000", "a/0001", "b/0000"]


def test_a_captured_scene_may_lack_ids_and_cameras(tmp_path: Path, save: Save) -> None:
    scene = write(tmp_path / "bins", save)
    files = {"image": "images/0001.png", "depth": "depth/0001.png"}
    save(scene / "scene.json", json.dumps({"depth_unit_m": UNIT_M, "frames": [files]}))
    (frame,) = open_rendered(scene)
    np.testing.assert_array_equal(frame.image, 31)
    assert (frame.instances, frame.depth.camera) == (None, None)
