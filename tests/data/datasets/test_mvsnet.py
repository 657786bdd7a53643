from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crispdepth.data.datasets.mvsnet import open_blendedmvs, open_dtu, read_camera
from crispdepth.data.posed_scenes import posed_scenes
from crispdepth.io.depth_codecs import encode_pfm

Save = Callable[[Path, Any], Path]

POSE = np.array([[0.0, 1, 0, 100], [-1, 0, 0, -50], [0, 0, 1, 600], [0, 0, 0, 1]])
SIZE = (8, 10)  # of depth maps


def camera_text(K: np.ndarray, pose: np.ndarray) -> str:
    """As it is in the files."""
    rows = ["extrinsic", *(" ".join(map(str, row)) for row in pose), "", "intrinsic"]
    rows += [*(" ".join(map(str, row)) for row in K), "", "425.0 2.5"]
    return "\n".join(rows) + "\n"


def write_dtu(root: Path, save: Save, cameras: str = "Cameras/train") -> Path:
    K = np.array([[90.0, 0, 4.25], [0, 90, 3.5], [0, 0, 1]])
    for view in range(2):
        pose = POSE.copy()
        pose[0, 3] += 40 * view
        save(root / cameras / f"{view:08d}_cam.txt", camera_text(K, pose))
        depth = np.full(SIZE, 600 + view, np.float32)
        depth[0] = 0
        folder = root / "Depths" / "scan9_train"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"depth_map_{view:04d}.pfm").write_bytes(encode_pfm(depth))
        trusted = np.full(SIZE, 255, np.uint8)
        trusted[:, 0] = 0
        save(folder / f"depth_visual_{view:04d}.png", trusted)
        photo = np.full((4 * SIZE[0], 4 * SIZE[1], 3), 10 + view, np.uint8)
        save(root / f"Rectified/scan9_train/rect_{view + 1:03d}_3_r5000.png", photo)
    return root


@pytest.mark.parametrize("cameras", ["Cameras/train", "Cameras"])
def test_frames_of_dtu_are_in_metres_at_the_size_of_the_depth(
    tmp_path: Path, save: Save, cameras: str
) -> None:
    frames = open_dtu(write_dtu(tmp_path, save, cameras))
    assert [frame.name for frame in frames] == ["scan9/0000", "scan9/0001"]
    frame = frames[1]
    assert frame.image.shape == (*SIZE, 3)
    assert (frame.image == 11).all()
    assert frame.depth.unit == "m"
    np.testing.assert_allclose(frame.depth.values[frame.depth.usable], 0.601)
    assert frame.depth.usable.sum() == (SIZE[0] - 1) * (SIZE[1] - 1)  # measured and trusted
    camera = frame.depth.camera
    assert camera is not None
    np.testing.assert_allclose(camera.cam_from_world[:3, 3], [0.14, -0.05, 0.6])
    np.testing.assert_allclose(camera.K[:2, 2], [(4 * 4.25 + 0.5) / 4, (4 * 3.5 + 0.5) / 4])
    assert camera.K[0, 0] == 90


def test_dtu_is_a_scene_of_posed_views(tmp_path: Path, save: Save) -> None:
    (scene,) = posed_scenes(open_dtu(write_dtu(tmp_path, save)))
    assert scene.name == "scan9"
    assert len(scene) == 2


def test_frames_of_blendedmvs_have_the_cameras_of_their_files(tmp_path: Path, save: Save) -> None:
    K = np.array([[12.0, 0, 4.5], [0, 12, 3.5], [0, 0, 1]])
    scene = tmp_path / "5a3ca9cb270f0e3f14d0eddb"
    for view in range(3):
        save(scene / f"cams/{view:08d}_cam.txt", camera_text(K, POSE))
        save(scene / f"blended_images/{view:08d}.jpg", np.full((*SIZE, 3), 40 * view, np.uint8))
        (scene / "rendered_depth_maps").mkdir(exist_ok=True)
        depth = np.full(SIZE, 3.25, np.float32)
        depth[:, 2] = 0
        (scene / f"rendered_depth_maps/{view:08d}.pfm").write_bytes(encode_pfm(depth))
    frames = open_blendedmvs(tmp_path)
    assert [frame.name for frame in frames] == [f"{scene.name}/{view:08d}" for view in range(3)]
    frame = frames[2]
    assert frame.depth.unit == "relative"
    assert not frame.depth.usable[:, 2].any()
    np.testing.assert_allclose(frame.depth.values[:, 3:], 3.25)
    assert frame.depth.camera is not None
    np.testing.assert_allclose(frame.depth.camera.K, [[12, 0, 5], [0, 12, 4], [0, 0, 1]])
    np.testing.assert_allclose(frame.depth.camera.cam_from_world, POSE)
    np.testing.assert_allclose(frame.image, 80, atol=1)


def test_a_camera_file_of_something_else_is_named(tmp_path: Path, save: Save) -> None:
    path = save(tmp_path / "00000000_cam.txt", "extrinsic\n1 2 3\n")
    with pytest.raises(ValueError, match=r"00000000_cam\.txt should hold `extrinsic` and a 4x4"):
        read_camera(path)
