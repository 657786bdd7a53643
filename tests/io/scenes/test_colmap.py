"""COLMAP's models, written by it and by hand."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crispdepth.geometry.rigid import quaternion_from_matrix
from crispdepth.io.scenes import open_scene, read_scene

from .conftest import SIZE, K, orbit, photo, same_poses, save

POINTS = np.array([[0.1, 0.2, 0.3], [-1.0, 0.5, 0.25]])
COLOURS = np.array([[255, 0, 10], [1, 2, 3]])


def write_text_model(folder: Path, camera: str = "", names: Any = "{:04d}.png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    camera = camera or f"1 PINHOLE {SIZE[1]} {SIZE[0]} {K[0, 0]} {K[1, 1]} {K[0, 2]} {K[1, 2]}"
    (folder / "cameras.txt").write_text(f"# Camera list\n{camera}\n")
    lines = ["# Image list", "#   POINTS2D[] as (X, Y, POINT3D_ID)"]
    for number, pose in enumerate(orbit()):
        wxyz = quaternion_from_matrix(pose[:3, :3])
        numbers = " ".join(repr(float(value)) for value in [*wxyz, *pose[:3, 3]])
        # One image has 2-D points, the next an empty line.
        lines += [
            f"{number + 1} {numbers} 1 {names.format(number)}",
            "1.5 2.5 1 3 4 -1"[: 16 * (number % 2)],
        ]
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    rows = [
        f"{i + 1} {' '.join(map(repr, xyz))} {' '.join(map(str, rgb))} 0.5 1 0 2 1"
        for i, (xyz, rgb) in enumerate(zip(POINTS.tolist(), COLOURS.tolist(), strict=True))
    ]
    (folder / "points3D.txt").write_text("# 3D points\n" + "\n".join(rows) + "\n")


def write_photos(folder: Path, names: str = "{:04d}.png", size: tuple[int, int] = SIZE) -> None:
    for number in range(4):
        save(folder / names.format(number), photo(number, size))


@pytest.mark.parametrize("place", [".", "sparse/0", "sparse", "dense/sparse", "colmap/sparse/0"])
def test_a_text_model_is_read_wherever_it_lies(folder: Path, place: str) -> None:
    write_text_model(folder / place)
    write_photos(folder / "images")
    found = open_scene(folder)
    scene = found.scene
    assert (found.format, scene.unit, scene.notes) == ("colmap", "relative", ())
    assert scene.names == ("0000.png", "0001.png", "0002.png", "0003.png")
    same_poses(scene, orbit())
    np.testing.assert_array_equal(scene.cameras[0].K, K)
    assert scene.points is not None
    np.testing.assert_allclose(scene.points.points, POINTS, atol=1e-7)
    np.testing.assert_array_equal(scene.points.colours, COLOURS)
    np.testing.assert_array_equal(scene[2].image, photo(2))
    assert scene[2].masks is None
    assert scene[2].depth is None


def test_the_model_folder_itself_finds_the_photos_of_its_project(folder: Path) -> None:
    write_text_model(folder / "sparse/0")
    write_photos(folder / "images")
    assert len(read_scene(folder / "sparse/0")) == 4
    assert read_scene(folder / "sparse/0").name == "scene"


def test_names_with_folders_and_spaces(folder: Path) -> None:
    names = "left cam/a {}.png"
    write_text_model(folder, names=names)
    write_photos(folder / "images", names)
    scene = read_scene(folder)
    assert scene.names[1] == "left cam/a 1.png"
    np.testing.assert_array_equal(scene[1].image, photo(1))


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("model", ["PINHOLE", "SIMPLE_RADIAL", "OPENCV", "OPENCV_FISHEYE"])
def test_a_model_that_colmap_wrote_is_read(folder: Path, text: bool, model: str) -> None:
    """Written with rigs and frames, as COLMAP 3.12 and later do, binary and text."""
    pycolmap = pytest.importorskip("pycolmap")
    values = {"PINHOLE": [30.0, 31, 16, 12], "SIMPLE_RADIAL": [30.0, 16, 12, 0.01]}
    values["OPENCV"] = values["OPENCV_FISHEYE"] = [30.0, 31, 16, 12, 0.01, 0.002, 0.001, 0.0005]
    made = pycolmap.Reconstruction()
    camera = pycolmap.Camera(
        model=model, width=SIZE[1], height=SIZE[0], params=values[model], camera_id=7
    )
    made.add_camera_with_trivial_rig(camera)
    for number, pose in enumerate(orbit()):
        image = pycolmap.Image(name=f"{number:04d}.png", camera_id=7, image_id=10 + number)
        image.points2D = pycolmap.Point2DList([pycolmap.Point2D([1.0, 2.0])] * number)
        made.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pose[:3]))
    for point, (xyz, rgb) in enumerate(zip(POINTS, COLOURS, strict=True)):
        track = pycolmap.Track()
        track.add_element(13, point)
        made.add_point3D(xyz, track, rgb.astype(np.uint8))
    model_folder = folder / "sparse/0"
    model_folder.mkdir(parents=True)
    (made.write_text if text else made.write_binary)(str(model_folder))
    assert (model_folder / f"rigs.{'txt' if text else 'bin'}").is_file()
    write_photos(folder / "images")
    scene = read_scene(folder)
    same_poses(scene, orbit())
    assert scene.points is not None
    np.testing.assert_allclose(scene.points.points, POINTS, atol=1e-7)
    np.testing.assert_array_equal(scene.points.colours, COLOURS)
    assert scene.cameras[0].K[0, 0] == 30
    assert any("distortion is removed" in note for note in scene.notes) == (model != "PINHOLE")


def test_several_models_are_told(folder: Path) -> None:
    for number in "01":
        write_text_model(folder / "sparse" / number)
    write_photos(folder / "images")
    assert any("others: 1" in note for note in read_scene(folder).notes)


def test_what_is_wrong_with_a_model_is_said(folder: Path) -> None:
    write_text_model(folder)
    with pytest.raises(FileNotFoundError, match=r"looked for 0000\.png in .*--photos"):
        read_scene(folder)
    write_photos(folder / "images")
    write_text_model(folder, "1 THIN_PRISM_FISHEYE 32 24 " + "0 " * 12)
    with pytest.raises(ValueError, match=r"camera 1: The camera model THIN_PRISM_FISHEYE is not"):
        read_scene(folder)
    write_text_model(folder, "2 PINHOLE 32 24 30 30 16 12")
    with pytest.raises(ValueError, match="has the camera 1, which is not among"):
        read_scene(folder)
    write_text_model(folder, "1 PINHOLE 32 24 30 thirty 16 12")
    with pytest.raises(ValueError, match="could not convert"):
        read_scene(folder)
    (folder / "images.txt").write_text("# none\n")
    write_text_model(folder / "other")
    (folder / "cameras.txt").write_text("1 PINHOLE 32 24 30 30 16 12\n")
    with pytest.raises(ValueError, match="no registered image"):
        read_scene(folder)


def test_a_truncated_binary_is_named(folder: Path) -> None:
    folder.mkdir()
    (folder / "cameras.bin").write_bytes(struct.pack("<QiiQQ4d", 1, 1, 1, 32, 24, 30, 30, 16, 12))
    (folder / "images.bin").write_bytes(struct.pack("<QI", 1, 1))
    with pytest.raises(ValueError, match=r"images\.bin is damaged .* ends at byte 12"):
        read_scene(folder)
    (folder / "cameras.bin").write_bytes(struct.pack("<QiiQQ", 1, 1, 10, 32, 24))
    with pytest.raises(ValueError, match="THIN_PRISM_FISHEYE is not supported"):
        read_scene(folder)


def test_a_model_of_larger_photos_fits_smaller_copies(folder: Path) -> None:
    write_text_model(folder / "sparse/0", "1 SIMPLE_PINHOLE 64 48 60 33 23")
    write_photos(folder / "images_2")
    scene = read_scene(folder, photos=folder / "images_2")
    np.testing.assert_array_equal(scene.cameras[0].K, K)
    assert scene.notes == ("4 photos are 32x24, their camera is for 64x48: K is rescaled",)
