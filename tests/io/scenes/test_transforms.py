"""nerfstudio's transforms.json, and NeRF's synthetic scenes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crispdepth.io.pointclouds import write_points
from crispdepth.io.scenes import open_scene, read_scene

from .conftest import FOCAL, SIZE, K, orbit, photo, same_poses, save

FLIP = np.diag([1.0, -1, -1, 1])
INTRINSICS = {"fl_x": FOCAL, "fl_y": FOCAL, "cx": 16.5, "cy": 11.5, "w": 32, "h": 24}


def matrix(pose: Any, scale: float = 1) -> list[list[float]]:
    world_from_cam = np.linalg.inv(pose) @ FLIP
    world_from_cam[:3, 3] *= scale
    return np.asarray(world_from_cam).tolist()  # type: ignore[no-any-return]


def write(folder: Path, name: str = "transforms.json", **facts: Any) -> dict[str, Any]:
    """A folder as `ns-process-data` makes it."""
    frames = []
    for number, pose in enumerate(orbit()):
        save(folder / f"images/frame_{number}.png", photo(number))
        frame = {"file_path": f"images/frame_{number}.png", "transform_matrix": matrix(pose)}
        frames.append(frame)
    content = {"camera_model": "OPENCV", **INTRINSICS, "frames": frames, **facts}
    (folder / name).write_text(json.dumps(content))
    return content


def test_a_nerfstudio_folder_is_read(folder: Path) -> None:
    write(folder)
    found = open_scene(folder)
    assert (found.format, found.scene.unit, found.scene.notes) == ("nerfstudio", "relative", ())
    same_poses(found.scene, orbit())
    np.testing.assert_array_equal(found.scene.cameras[0].K, K)
    assert found.scene.names[0] == "frame_0.png"
    np.testing.assert_array_equal(found.scene[3].image, photo(3))


def test_masks_depth_and_scale(folder: Path) -> None:
    content = write(folder, applied_scale=2.0)
    for number, (frame, pose) in enumerate(zip(content["frames"], orbit(), strict=True)):
        mask = np.zeros(SIZE, np.uint8)
        mask[:, : 4 + number] = 255
        save(folder / f"masks/frame_{number}.png", mask)
        depth = np.full(SIZE, 1500 + number, np.uint16)
        depth[0] = 0
        save(folder / f"depth/frame_{number}.png", depth)
        frame |= {"mask_path": f"masks/frame_{number}.png"}
        frame |= {"depth_file_path": f"depth/frame_{number}.png"}
        frame["transform_matrix"] = matrix(pose, scale=2)
    (folder / "transforms.json").write_text(json.dumps(content))
    scene = read_scene(folder)
    assert scene.unit == "m"
    same_poses(scene, orbit())  # metres, as the depth is
    np.testing.assert_array_equal(scene.source_from_world, np.diag([2, 2, 2, 1]))
    view = scene[1]
    assert view.depth is not None
    assert view.masks is not None
    np.testing.assert_allclose(view.depth.values[1:], 1.501)
    assert not view.depth.usable[0].any()
    np.testing.assert_array_equal(view.masks[0].sum(axis=1), 5)
    assert any("4/4 photos" in note for note in scene.notes)


def test_intrinsics_of_a_frame_override_those_of_the_file(folder: Path) -> None:
    content = write(folder)
    content["frames"][2] |= {"fl_x": 40.0, "fl_y": 41.0, "cx": 15.0, "cy": 12.0}
    (folder / "transforms.json").write_text(json.dumps(content))
    scene = read_scene(folder)
    assert scene.cameras[2].K[[0, 1], [0, 1]].tolist() == [40, 41]
    np.testing.assert_array_equal(scene.cameras[1].K, K)


def test_a_nerf_synthetic_scene_is_read_with_its_alpha(folder: Path) -> None:
    frames = []
    for number, pose in enumerate(orbit()):
        alpha = np.zeros(SIZE, np.uint8)
        alpha[4:-4, 4:-4] = 255
        alpha[4, 4:-4] = 51
        save(folder / f"train/r_{number}.png", np.dstack([photo(number), alpha]))
        frames.append({"file_path": f"./train/r_{number}", "transform_matrix": matrix(pose)})
    angle = 2 * np.arctan(16 / FOCAL)
    for split in ("train", "test"):
        content = {"camera_angle_x": angle, "frames": frames}
        (folder / f"transforms_{split}.json").write_text(json.dumps(content))
    found = open_scene(folder)
    assert found.format == "nerf-synthetic"
    same_poses(found.scene, orbit())
    expected = np.array([[FOCAL, 0, 16], [0, FOCAL, 12], [0, 0, 1]])
    np.testing.assert_allclose(found.scene.cameras[0].K, expected)
    masks = found.scene[0].masks
    assert masks is not None
    assert (masks.role, masks[0].max()) == ("object", 1)
    np.testing.assert_allclose(masks[0][4, 4:-4], 0.2)
    assert "masks: the alpha channels of 4/4 photos" in found.scene.notes
    assert any("splits train, test" in note for note in found.scene.notes)
    ignored = read_scene(folder, mask_role="ignore")[0].masks
    assert ignored is not None
    np.testing.assert_allclose(ignored[0], 1 - masks[0])
    assert read_scene(folder, masks="none")[0].masks is None


@pytest.mark.parametrize("fisheye", [{"camera_model": "OPENCV_FISHEYE"}, {"is_fisheye": True}])
def test_fisheye_and_perspective_distortion_are_told_apart(
    folder: Path, fisheye: dict[str, Any]
) -> None:
    write(folder, k1=0.01, k2=0.001, k3=0.0, k4=0.0, **fisheye)
    assert any("fisheye distortion is removed" in note for note in read_scene(folder).notes)
    write(folder, k1=0.01, k2=0.001, p1=0.0, p2=0.0)
    assert any("perspective distortion is removed" in note for note in read_scene(folder).notes)


def test_sparse_points_come_in_the_unit_of_the_scene(folder: Path) -> None:
    points = np.array([[1.0, 2, 3], [4, 5, 6]])
    write(folder, applied_scale=4.0, ply_file_path="sparse_pc.ply")
    colours = np.zeros((2, 3), np.uint8)
    write_points(folder / "sparse_pc.ply", points.astype(np.float32), colours)
    scene = read_scene(folder)
    assert scene.points is not None
    np.testing.assert_allclose(scene.points.points, points / 4)


def test_what_is_wrong_with_the_file_is_said(folder: Path) -> None:
    content = write(folder)
    path = folder / "transforms.json"
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"camera_model": "EQUIRECTANGULAR"}, "EQUIRECTANGULAR is not supported"),
        ({"applied_scale": 0}, "applied_scale must be a number above 0, got 0"),
        ({"frames": []}, "has no frames"),
        ({"frames": [{"file_path": "a"}]}, "transform_matrix"),
        ({"fl_x": None}, "camera of frame_0.png"),
        ({"fl_x": 0}, "positive focal lengths"),
    ]
    for facts, message in wrong:
        path.write_text(json.dumps(content | facts))
        with pytest.raises(ValueError, match=message):
            read_scene(folder)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"no transforms\.json"):
        read_scene(folder)
    del content["fl_x"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="neither fl_x nor camera_angle_x"):
        read_scene(folder)


def test_a_mask_that_is_named_but_missing_is_an_error(folder: Path) -> None:
    content = write(folder)
    content["frames"][1]["mask_path"] = "masks/nothing.png"
    (folder / "transforms.json").write_text(json.dumps(content))
    with pytest.raises(FileNotFoundError, match=r"nothing\.png for frame_1\.png.*--masks none"):
        read_scene(folder)
    assert len(read_scene(folder, masks="none")) == 4
