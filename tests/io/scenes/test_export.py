"""Scenes written, and read again by this program and by COLMAP."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crispdepth.io.scenes import open_scene, read_scene, write_colmap, write_transforms
from crispdepth.types import (
    Camera,
    DepthMap,
    MaskRole,
    MaskSet,
    PointCloud,
    Scene,
    View,
    scene_of_views,
)

from .conftest import SIZE, K, orbit, photo, same_poses
from .test_transforms import write as write_nerfstudio

POINTS = np.array([[0.1, 0.2, 0.3], [-1.0, 0.5, 0.25]], np.float32)
COLOURS = np.array([[255, 0, 10], [1, 2, 3]], np.uint8)


def soft_mask(number: int) -> np.ndarray:
    mask = np.zeros((1, *SIZE), np.uint8)
    mask[:, : 4 + number], mask[:, 4 + number] = 255, 77
    return mask


def make_scene(role: MaskRole = "object", scale: float = 1.0, depth: float = 2.0) -> Scene:
    """Three views with masks and depth, one without; cameras of two kinds; points."""
    views = []
    for number, pose in enumerate(orbit()):
        focal = K if number < 3 else np.diag([1.1, 1.2, 1]) @ K
        camera = Camera(focal, SIZE, pose)
        values = np.full(SIZE, depth + number, np.float32)
        values[0] = 0
        known = number != 1
        views.append(
            View(
                photo(number),
                f"cam_a/{number}.png",
                camera,
                DepthMap(values, "depth", "m", camera=camera) if known else None,
                MaskSet(soft_mask(number), role=role) if known else None,
            )
        )
    return replace(
        scene_of_views(views),
        points=PointCloud(POINTS, COLOURS),
        source_from_world=np.diag([scale, scale, scale, 1.0]),
    )


def same_views(read: Scene, scene: Scene, depths: bool) -> None:
    assert read.names == scene.names
    for ours, theirs in zip(read, scene, strict=True):
        np.testing.assert_array_equal(ours.image, theirs.image)
        assert ours.camera is not None
        assert theirs.camera is not None
        np.testing.assert_allclose(ours.camera.K, theirs.camera.K, rtol=1e-15)
        if theirs.masks is not None:
            assert ours.masks is not None
            np.testing.assert_allclose(ours.masks[0], theirs.masks[0], atol=1e-6)
        assert (ours.depth is not None) == (depths and theirs.depth is not None)
        if ours.depth is not None and theirs.depth is not None:
            np.testing.assert_allclose(ours.depth.values, theirs.depth.values, atol=1e-6)


@pytest.mark.parametrize("role", ["object", "ignore"])
@pytest.mark.parametrize("text", [True, False])
def test_colmap_comes_back(tmp_path: Path, text: bool, role: MaskRole) -> None:
    scene = make_scene(role)
    write_colmap(scene, tmp_path / "out", text=text)
    found = open_scene(tmp_path / "out", mask_role=role)
    assert found.format == "colmap"
    same_poses(found.scene, orbit(), atol=1e-15 * 10)
    same_views(found.scene, scene, depths=False)
    assert found.scene[1].masks is None  # unknown stays unknown
    assert found.scene.points is not None
    np.testing.assert_array_equal(found.scene.points.points, POINTS)
    np.testing.assert_array_equal(found.scene.points.colours, COLOURS)


@pytest.mark.parametrize("text", [True, False])
def test_colmap_reads_what_we_write(tmp_path: Path, text: bool) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    scene = make_scene()
    write_colmap(scene, tmp_path / "out", text=text)
    model = pycolmap.Reconstruction(str(tmp_path / "out/sparse/0"))
    images = sorted(model.images.values(), key=lambda image: str(image.name))
    assert tuple(image.name for image in images) == scene.names
    for image, camera in zip(images, scene.cameras, strict=True):
        pose = image.cam_from_world().matrix()
        np.testing.assert_allclose(pose, camera.cam_from_world[:3], atol=1e-14)
        np.testing.assert_allclose(image.camera.calibration_matrix(), camera.K, rtol=1e-15)
    assert len(model.cameras) == 2
    xyz = np.array([point.xyz for _, point in sorted(model.points3D.items())])
    np.testing.assert_array_equal(xyz.astype(np.float32), POINTS)


@pytest.mark.parametrize("role", ["object", "ignore"])
def test_nerfstudio_comes_back(tmp_path: Path, role: MaskRole) -> None:
    scene = make_scene(role)
    write_transforms(scene, tmp_path / "out")
    found = open_scene(tmp_path / "out", mask_role=role)
    assert (found.format, found.scene.unit) == ("nerfstudio", "m")
    same_poses(found.scene, orbit(), atol=1e-14)
    same_views(found.scene, scene, depths=True)
    white = found.scene[1].masks  # nerfstudio wants a mask for all photos
    assert white is not None
    assert (white[0] == (1 if role == "object" else 0)).all()
    assert found.scene.points is not None
    np.testing.assert_array_equal(found.scene.points.points, POINTS)


@pytest.mark.parametrize("scale", [0.25, 7.0])
def test_what_is_written_has_the_frame_and_scale_of_the_source(
    tmp_path: Path, scale: float
) -> None:
    scene = make_scene(scale=scale)
    write_colmap(scene, tmp_path / "colmap")
    write_transforms(scene, tmp_path / "nerfstudio")
    scaled = read_scene(tmp_path / "colmap")
    assert scaled.points is not None
    np.testing.assert_allclose(scaled.points.points, scale * POINTS, rtol=1e-6)
    for camera, pose in zip(scaled.cameras, orbit(), strict=True):
        expected = pose.copy()
        expected[:3, 3] *= scale
        np.testing.assert_allclose(camera.cam_from_world, expected, atol=1e-13)
    # nerfstudio's file states the scale, so that it is metric again when it is read.
    written = json.loads((tmp_path / "nerfstudio/transforms.json").read_text())
    assert written["applied_scale"] == pytest.approx(scale)
    metric = read_scene(tmp_path / "nerfstudio")
    same_poses(metric, orbit(), atol=1e-13)
    same_views(metric, scene, depths=True)


def test_a_transforms_file_is_written_as_it_was_read(folder: Path, tmp_path: Path) -> None:
    before = write_nerfstudio(folder, applied_scale=3.0)
    write_transforms(read_scene(folder), tmp_path / "again")
    after = json.loads((tmp_path / "again/transforms.json").read_text())
    for frame, again in zip(before["frames"], after["frames"], strict=True):
        assert frame["file_path"] == again["file_path"]
        np.testing.assert_allclose(again["transform_matrix"], frame["transform_matrix"], atol=1e-13)
    assert all(after[key] == before[key] for key in ("fl_x", "fl_y", "cx", "cy", "w", "h"))


def test_untouched_photos_are_copied_to_the_byte(folder: Path, tmp_path: Path) -> None:
    write_nerfstudio(folder)
    found = open_scene(folder)
    write_colmap(found.scene, tmp_path / "out", untouched=found.untouched)
    for name in found.scene.names:
        assert (tmp_path / "out/images" / name).read_bytes() == (
            folder / "images" / name
        ).read_bytes()
    assert open_scene(folder, longest=16).untouched == {}
    write_nerfstudio(folder, k1=-0.1)
    assert open_scene(folder).untouched == {}


def test_far_depth_becomes_invalid_where_millimetres_end(tmp_path: Path) -> None:
    write_transforms(make_scene(depth=64.0), tmp_path / "out")
    scene = read_scene(tmp_path / "out")
    near, far = scene[0].depth, scene[2].depth
    assert near is not None
    assert far is not None
    np.testing.assert_allclose(near.values[1:], 64)
    assert not far.usable.any()


def test_depth_in_the_unit_of_a_scene_without_metres_keeps_its_numbers(tmp_path: Path) -> None:
    scene = make_scene()

    def relative(index: int) -> View:
        view = scene[index]
        return view if view.depth is None else replace(view, depth=_unitless(view.depth))

    write_transforms(replace(scene, read=relative, unit="relative"), tmp_path / "out")
    for number, view in enumerate(read_scene(tmp_path / "out")):
        if number != 1:
            assert view.depth is not None
            np.testing.assert_allclose(view.depth.values[1:], 2 + number)


def _unitless(depth: DepthMap) -> DepthMap:
    return replace(depth, unit="relative")


def test_a_rare_photo_format_becomes_png(tmp_path: Path) -> None:
    (view,) = list(make_scene())[:1]
    write_colmap(scene_of_views([replace(view, name="a.tif")]), tmp_path / "out")
    assert read_scene(tmp_path / "out").names == ("a.tif.png",)


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    view = make_scene()[0]
    skewed = K.copy()
    skewed[0, 1] = 0.5
    writers: list[Any] = [write_colmap, write_transforms]
    for write in writers:
        with pytest.raises(ValueError, match=r"skew 0\.5 px"):
            write(
                scene_of_views([replace(view, camera=Camera(skewed, SIZE), depth=None)]),
                tmp_path / "out",
            )
        with pytest.raises(ValueError, match="outside the photo folder"):
            write(scene_of_views([replace(view, name="../a.png")]), tmp_path / "out")
    with pytest.raises(ValueError, match=r"name with spaces in text: my photo\.png"):
        write_colmap(scene_of_views([replace(view, name="my photo.png")]), tmp_path, text=True)
    assert not list(tmp_path.iterdir())
