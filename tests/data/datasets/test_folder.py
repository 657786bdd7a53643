from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crispdepth.data.datasets.folder import open_folder
from crispdepth.io.depths import write_depth
from crispdepth.types import Camera, DepthMap

Save = Callable[[Path, Any], Path]

SIZE = (8, 12)
HALF = np.where(np.arange(12) < 6, 1, 0) * np.ones((8, 1), int)  # the left half


def write(root: Path, save: Save, names: tuple[str, ...] = ("a", "b")) -> Path:
    for index, name in enumerate(names):
        save(root / f"images/{name}.jpg", np.full((*SIZE, 3), 40 * index, np.uint8))
        save(root / f"depth/{name}.png", np.full(SIZE, 1000 + index, np.uint16))
    return root


def test_photos_and_depths_meet_by_name(tmp_path: Path, save: Save) -> None:
    frames = open_folder(write(tmp_path, save, ("x/2", "x/10", "a")))
    assert [frame.name for frame in frames] == ["a", "x/2", "x/10"]
    depths = [frame.depth.values[0, 0] for frame in frames]
    np.testing.assert_allclose(depths, [1.002, 1.0, 1.001])
    assert all(frame.instances is None for frame in frames)


def test_other_files_and_hidden_ones_are_no_photos(tmp_path: Path, save: Save) -> None:
    write(tmp_path, save, ("a",))
    save(tmp_path / "images/readme.txt", "hello")
    save(tmp_path / "images/.cache/a.png", np.zeros((*SIZE, 3), np.uint8))
    assert len(open_folder(tmp_path)) == 1


def test_a_sidecar_says_what_depth_means_and_brings_the_camera(tmp_path: Path, save: Save) -> None:
    save(tmp_path / "images/a.png", np.zeros((*SIZE, 3), np.uint8))
    camera = Camera(np.array([[9.0, 0, 6], [0, 9, 4], [0, 0, 1]]), SIZE)
    inverse = np.full(SIZE, 0.5, np.float32)
    inverse[0], inverse[1] = 0, 1e-45  # infinitely far, and too far for a float
    (tmp_path / "depth").mkdir()
    write_depth(tmp_path / "depth/a.exr", DepthMap(inverse, "inverse_depth", "m", camera=camera))
    depth = open_folder(tmp_path)[0].depth
    assert (depth.kind, depth.unit) == ("depth", "m")
    np.testing.assert_array_equal(depth.values[:, 0], [0, 0] + [2] * 6)
    assert depth.camera is not None
    np.testing.assert_array_equal(depth.camera.K, camera.K)


def test_relative_inverse_depth_is_no_truth(tmp_path: Path, save: Save) -> None:
    write(tmp_path, save, ("a",))
    save(tmp_path / "depth/a.png", np.full(SIZE, 65000, np.uint16))
    with pytest.raises(ValueError, match=r"a\.png was taken for relative inverse depth.*scale"):
        open_folder(tmp_path)[0]


def test_id_maps_keep_their_ids(tmp_path: Path, save: Save) -> None:
    write(tmp_path, save)
    save(tmp_path / "instances/a.png", (300 * HALF).astype(np.uint16))
    with_ids, without = open_folder(tmp_path)
    assert with_ids.instances is not None
    np.testing.assert_array_equal(with_ids.instances, 300 * HALF)
    assert without.instances is None


def test_every_mask_is_an_instance_and_the_later_one_lies_above(tmp_path: Path, save: Save) -> None:
    write(tmp_path, save, ("a",))
    soft = np.linspace(0, 255, 12).astype(np.uint8) * np.ones((8, 1), np.uint8)
    save(tmp_path / "masks/a.chair.png", (255 * HALF).astype(np.uint8))
    save(tmp_path / "masks/a.lamp.png", soft[:, ::-1])
    save(tmp_path / "masks/a.sofa.png", soft)
    (frame,) = open_folder(tmp_path)
    assert frame.instances is not None
    np.testing.assert_array_equal(frame.instances[0], [2] * 6 + [3] * 6)


def test_what_is_missing_is_named(tmp_path: Path, save: Save) -> None:
    with pytest.raises(FileNotFoundError, match=r"should hold a folder images.*it holds nothing"):
        open_folder(tmp_path)
    write(tmp_path, save)
    (tmp_path / "depth/b.png").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"1 of 2 photos have no depth.*b\.jpg is the first"
    ):
        open_folder(tmp_path)
    for photo in (tmp_path / "images").iterdir():
        photo.write_bytes(b"no picture")
    with pytest.raises(FileNotFoundError, match="no photo in"):
        open_folder(tmp_path)
