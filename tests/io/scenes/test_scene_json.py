"""This project's own scenes as posed views; as single photos: tests of data.datasets."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from crispdepth.io.scenes import open_scene, read_scene

from .conftest import SIZE, K, orbit, photo, same_poses, save


def write(folder: Path, masks: bool = True, **facts: Any) -> dict[str, Any]:
    for number in range(4):
        save(folder / f"images/{number:04d}.png", photo(number))
        save(folder / f"depth/{number:04d}.png", np.full(SIZE, 5000 * (number + 1), np.uint16))
        if masks:
            mask = np.zeros(SIZE, np.uint8)
            mask[: number + 1] = 128
            save(folder / f"masks/{number:04d}.png", mask)
    trimesh.creation.box().export(folder / "mesh.ply")
    content = {
        "K": K.tolist(),
        "size": [SIZE[1], SIZE[0]],
        "n_frames": 4,
        "image_pattern": "images/%04d.png",
        "cam_from_world": [pose.tolist() for pose in orbit()],
        "depth_unit_m": 0.0002,
        "near": 1.0,
        "far": 4.5,
        "mesh": "mesh.ply",
        **facts,
    }
    (folder / "scene.json").write_text(json.dumps(content))
    return content


def test_a_rendered_scene_is_read_whole(folder: Path) -> None:
    write(folder)
    found = open_scene(folder)
    scene = found.scene
    assert (found.format, scene.unit, scene.bounds) == ("scene.json", "m", (1.0, 4.5))
    same_poses(scene, orbit(), atol=0)
    assert scene.mesh is not None
    assert len(scene.mesh().faces) == 12
    view = scene[2]
    assert view.depth is not None
    assert view.masks is not None
    np.testing.assert_allclose(view.depth.values, 3)
    assert view.depth.camera is view.camera
    np.testing.assert_allclose(view.masks[0][:3], 128 / 255)
    assert view.masks[0][3:].max() == 0
    np.testing.assert_array_equal(view.image, photo(2))


def test_without_masks_the_object_is_unknown(folder: Path) -> None:
    write(folder, masks=False)
    assert read_scene(folder)[0].masks is None


def test_the_mesh_may_be_described_and_may_be_missing(folder: Path) -> None:
    write(folder, mesh={"file": "mesh.ply", "faces": 12})
    assert read_scene(folder).mesh is not None
    (folder / "mesh.ply").unlink()
    assert read_scene(folder).mesh is None


def test_photos_without_poses_are_no_scene(folder: Path) -> None:
    content = write(folder)
    del content["cam_from_world"]
    (folder / "scene.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"its photos are not posed.*crispdepth refine"):
        read_scene(folder)
