"""Captures with a depth sensor, in their true layouts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crispdepth.geometry.rigid import quaternion_from_matrix
from crispdepth.io.scenes import open_scene, read_scene

from .conftest import SIZE, orbit, photo, same_poses, save

VGA = (480, 640)


def write_matrix(path: Path, matrix: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, matrix)


def millimetres(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    depth = np.full(size, 1000 + number, np.uint16)
    depth[0] = 0
    return depth


def write_scannet(folder: Path, lost: int | None = None) -> None:
    """Colour twice as large as depth, with lenses of their own; numbers without zeros in front."""
    for number, pose in zip((0, 20, 100, 1000), orbit(), strict=True):
        save(folder / f"color/{number}.jpg", photo(number % 7, (48, 64)))
        save(folder / f"depth/{number}.png", millimetres(number))
        world_from_cam = np.linalg.inv(pose)
        gone = np.full((4, 4), -np.inf)
        write_matrix(folder / f"pose/{number}.txt", gone if number == lost else world_from_cam)
    for name, f, cx, cy in (("color", 60, 31.5, 23.5), ("depth", 33, 15.5, 11.5)):
        K = np.array([[f, 0, cx, 0], [0, f, cy, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
        write_matrix(folder / f"intrinsic/intrinsic_{name}.txt", K)


def test_scannet_is_read_in_the_order_of_its_numbers(folder: Path) -> None:
    write_scannet(folder)
    found = open_scene(folder)
    scene = found.scene
    assert (found.format, scene.unit) == ("scannet", "m")
    assert scene.names == ("0.jpg", "20.jpg", "100.jpg", "1000.jpg")
    same_poses(scene, orbit())
    np.testing.assert_array_equal(scene.cameras[0].K, [[60, 0, 32], [0, 60, 24], [0, 0, 1]])


def test_depth_is_looked_up_through_the_depth_cameras_own_lens(folder: Path) -> None:
    write_scannet(folder)
    ramp = np.arange(1000, 1000 + SIZE[1], dtype=np.uint16)
    save(folder / "depth/0.png", np.broadcast_to(ramp, SIZE).copy())
    depth = read_scene(folder)[0].depth
    assert depth is not None
    column = np.arange(64) + 0.5
    expected = np.floor(33 * (column - 32) / 60 + 16)  # depth pixel that sees the same ray
    inside = (expected >= 0) & (expected < SIZE[1])
    np.testing.assert_allclose(depth.values[24, inside], (1000 + expected[inside]) / 1000)
    np.testing.assert_array_equal(depth.usable[24], inside)


def test_a_lost_pose_is_left_out_and_told(folder: Path) -> None:
    write_scannet(folder, lost=100)
    scene = read_scene(folder)
    assert scene.names == ("0.jpg", "20.jpg", "1000.jpg")
    assert any("1 of 4 views have no finite pose" in n and "100.jpg" in n for n in scene.notes)
    np.testing.assert_allclose(scene[2].depth.values.max(), 2.0)  # type: ignore[union-attr]


def test_if_all_poses_are_lost_there_is_no_scene(folder: Path) -> None:
    write_scannet(folder)
    for path in (folder / "pose").iterdir():
        write_matrix(path, np.full((4, 4), np.nan))
    with pytest.raises(ValueError, match="None of the 4 poses is finite"):
        read_scene(folder)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("stated", [True, False])
def test_sevenscenes_is_read(folder: Path, suffix: str, stated: bool) -> None:
    for number, pose in enumerate(orbit()):
        frame = folder / f"frame-{number:06d}"
        save(frame.with_suffix(f".color{suffix}"), photo(number, VGA))
        save(frame.with_suffix(".depth.png"), millimetres(number, VGA))
        write_matrix(frame.with_suffix(".pose.txt"), np.linalg.inv(pose))
    if stated:
        write_matrix(
            folder / "camera-intrinsics.txt", np.array([[500.0, 0, 300], [0, 501, 200], [0, 0, 1]])
        )
    found = open_scene(folder)
    scene = found.scene
    assert (found.format, scene.unit) == ("sevenscenes", "m")
    same_poses(scene, orbit())
    assert scene.cameras[0].K[0, 0] == (500 if stated else 585)
    assert any("no camera-intrinsics.txt" in note for note in scene.notes) != stated
    assert not any("no pose" in note for note in scene.notes)
    view = scene[3]
    assert view.depth is not None
    np.testing.assert_allclose(view.depth.values[1:], 1.003)
    assert not view.depth.usable[0].any()


def write_tum(folder: Path) -> None:
    """Photo, depth and pose each have a clock of their own; the last photo has no pose."""
    rgb, depth, truth = ["# color images"], ["# depth maps"], ["# timestamp tx ty tz qx qy qz qw"]
    for number, pose in enumerate([*orbit(), orbit()[0]]):
        time = 100 + number / 4
        save(folder / f"rgb/{time:.6f}.png", photo(number, VGA))
        save(folder / f"depth/{time + 0.01:.6f}.png", 5 * millimetres(number, VGA))
        rgb.append(f"{time:.6f} rgb/{time:.6f}.png")
        depth.append(f"{time + 0.01:.6f} depth/{time + 0.01:.6f}.png")
        world_from_cam = np.linalg.inv(pose)
        w, x, y, z = quaternion_from_matrix(world_from_cam[:3, :3])
        numbers = " ".join(repr(float(v)) for v in (*world_from_cam[:3, 3], x, y, z, w))
        if number < 4:
            truth.append(f"{time - 0.004:.4f} {numbers}")
            truth.append(f"{time - 0.1:.4f} 9 9 9 0 0 0 1")  # another moment's
    for name, lines in (("rgb", rgb), ("depth", depth), ("groundtruth", truth)):
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")


def test_tum_is_associated_by_time(folder: Path) -> None:
    write_tum(folder)
    found = open_scene(folder)
    scene = found.scene
    assert (found.format, scene.unit) == ("tum", "m")
    same_poses(scene, orbit(), atol=1e-11)
    np.testing.assert_array_equal(scene.cameras[0].K, [[525, 0, 320], [0, 525, 240], [0, 0, 1]])
    assert any("1 photos without a pose within 20 ms" in note for note in scene.notes)
    assert any("Kinect's default" in note for note in scene.notes)
    view = scene[2]
    assert view.depth is not None
    np.testing.assert_allclose(view.depth.values[1:], 1.002, rtol=1e-6)
    np.testing.assert_array_equal(view.image, photo(2, VGA))


def test_the_camera_of_a_tum_sequence_goes_by_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "rgbd_dataset_freiburg1_desk"
    write_tum(folder)
    scene = read_scene(folder)
    assert scene.cameras[0].K[0, 0] == 517.3
    assert any("published ones of freiburg1" in note for note in scene.notes)
    assert any("perspective distortion is removed" in note for note in scene.notes)
    assert scene[0].depth is not None


@pytest.mark.parametrize("corrected", [True, False])
def test_polycam_is_read(folder: Path, corrected: bool) -> None:
    prefix = "corrected_" if corrected else ""
    for number, pose in enumerate(orbit()):
        world_from_cam = np.linalg.inv(pose) @ np.diag([1.0, -1, -1, 1])
        camera = {"fx": 60.0, "fy": 60.0, "cx": 32.0, "cy": 24.0, "width": 64, "height": 48}
        camera |= {
            f"t_{row}{column}": float(world_from_cam[row, column])
            for row in range(3)
            for column in range(4)
        }
        keyframes = folder / "keyframes"
        save(keyframes / f"{prefix}images/{10**number}.jpg", photo(number, (48, 64)))
        save(keyframes / f"depth/{10**number}.png", millimetres(number))
        path = keyframes / f"{prefix}cameras/{10**number}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(camera))
    found = open_scene(folder)
    assert (found.format, found.scene.unit) == ("polycam", "m")
    same_poses(found.scene, orbit())
    assert any("not corrected" in note for note in found.scene.notes) != corrected
    depth = found.scene[2].depth
    assert depth is not None
    np.testing.assert_allclose(depth.values[2:], 1.002)  # as large as the photo
    assert not depth.usable[:2].any()


def test_what_is_wrong_with_a_capture_is_said(folder: Path) -> None:
    write_tum(folder)
    (folder / "groundtruth.txt").write_text("1 2 3\n")
    with pytest.raises(ValueError, match="a time and 7 words are needed"):
        read_scene(folder)
    (folder / "groundtruth.txt").write_text("1 0 0 0 0 0 0 1\n")
    with pytest.raises(ValueError, match=r"has no posed photo.*same clock"):
        read_scene(folder)
    (folder / "groundtruth.txt").write_text("1 0 0 zero 0 0 0 1\n")
    with pytest.raises(ValueError, match="tx ty tz qx qy qz qw"):
        read_scene(folder)
    other = folder.parent / "polycam"
    (other / "keyframes/cameras").mkdir(parents=True)
    (other / "keyframes/cameras/1.json").write_text("{}")
    with pytest.raises(ValueError, match="no Polycam camera"):
        read_scene(other)
