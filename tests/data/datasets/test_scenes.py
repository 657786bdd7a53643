import json
from pathlib import Path

import numpy as np
from PIL import Image

from crispdepth.data.datasets.scenes import open_scenes
from crispdepth.data.posed_scenes import posed_scenes

SIZE = (24, 32)


def write(folder: Path, count: int = 3, *, depth: bool = False) -> Path:
    """A NeRF-like scene of RGBA pictures that slides to the right."""
    (folder / "train").mkdir(parents=True)
    frames = []
    for number in range(count):
        picture = np.full((*SIZE, 4), 50 + number, np.uint8)
        picture[:, : SIZE[1] // 2, 3] = 0
        picture[:, SIZE[1] // 2 :, 3] = 255
        Image.fromarray(picture).save(folder / "train" / f"r_{number}.png")
        pose = np.eye(4)
        pose[0, 3] = 0.1 * number
        frame = {"file_path": f"./train/r_{number}", "transform_matrix": pose.tolist()}
        if depth:
            metres = np.full(SIZE, 1500 + 100 * number, np.uint16)
            Image.fromarray(metres).save(folder / "train" / f"d_{number}.png")
            frame["depth_file_path"] = f"train/d_{number}.png"
        frames.append(frame)
    content = {"camera_angle_x": 0.8, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(content))
    return folder


def test_a_scene_of_rgba_pictures_has_masks(tmp_path: Path) -> None:
    frames = open_scenes(write(tmp_path / "chair"))
    assert [frame.name for frame in frames] == [f"chair/r_{number}" for number in range(3)]
    frame = frames[1]
    assert frame.mask is not None
    assert (frame.mask[:, :16] == 0).all()
    assert (frame.mask[:, 16:] == 255).all()
    assert not frame.depth.usable.any()
    assert frame.depth.camera is not None
    np.testing.assert_allclose(frame.depth.camera.cam_from_world[:3, 3], [-0.1, 0, 0])


def test_depth_comes_along(tmp_path: Path) -> None:
    frames = open_scenes(write(tmp_path / "chair", depth=True))
    np.testing.assert_allclose(frames[2].depth.values, 1.7, rtol=1e-6)
    assert frames[2].depth.unit == "m"


def test_all_scenes_of_a_folder_are_opened(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write(tmp_path / name, 2)
    scenes = posed_scenes(open_scenes(tmp_path))
    assert [scene.name for scene in scenes] == ["a", "b"]
    assert [scene.indices for scene in scenes] == [(0, 1), (2, 3)]
