"""What holds for every format: names, sizes, masks, distortion, mistakes."""

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crispdepth.io.depths import write_depth
from crispdepth.io.images import write_image
from crispdepth.io.pointclouds import write_points
from crispdepth.io.scenes import open_scene, read_scene
from crispdepth.io.scenes.lens import Lens, pinhole_camera, pixel_rays, undistort
from crispdepth.types import DepthMap
from tests.analytic import sphere_depth

from .conftest import FOCAL, SIZE, orbit, photo, save
from .test_transforms import matrix

DISTORTION: dict[str, Any] = {"k1": -0.15, "k2": 0.02, "p1": 0.003, "p2": -0.002}


def write(folder: Path, size: tuple[int, int] = SIZE, names: str = "{}.png", **facts: Any) -> None:
    """A transforms.json: the format that states most."""
    frames = []
    for number, pose in enumerate(orbit()):
        save(folder / "images" / names.format(number), photo(number, size))
        path = f"images/{names.format(number)}"
        frames.append({"file_path": path, "transform_matrix": matrix(pose)})
    f = FOCAL * size[1] / SIZE[1]
    content = {"fl_x": f, "fl_y": f, "w": size[1], "h": size[0], "frames": frames, **facts}
    (folder / "transforms.json").write_text(json.dumps(content))


def test_only_headers_are_read_before_a_view_is_asked_for(folder: Path) -> None:
    write(folder)
    path = folder / "images/2.png"
    path.write_bytes(path.read_bytes()[:60])  # header whole, pixels gone
    scene = read_scene(folder)
    scene[1]
    with pytest.raises(ValueError, match=r"2\.png is truncated"):
        scene[2]


def test_a_scene_can_be_sent_to_another_process(folder: Path) -> None:
    write(folder)
    scene = pickle.loads(pickle.dumps(read_scene(folder)))
    np.testing.assert_array_equal(scene[1].image, photo(1))


def test_longest_shrinks_photo_masks_camera_and_depth_alike(folder: Path) -> None:
    write(folder, depth_unit_scale_factor=0.001)
    content = json.loads((folder / "transforms.json").read_text())
    depth = np.full(SIZE, 2000, np.uint16)
    depth[::2] = 0  # of each 2x2 block half is measured
    depth[8:16, :8] = 0
    for number, frame in enumerate(content["frames"]):
        mask = np.zeros(SIZE, np.uint8)
        mask[:, :13] = 255
        save(folder / f"masks/{number}.png", mask)
        save(folder / f"depth/{number}.png", depth)
        frame["depth_file_path"] = f"depth/{number}.png"
    (folder / "transforms.json").write_text(json.dumps(content))
    view = read_scene(folder, longest=16)[1]
    assert view.image.shape == (12, 16, 3)
    assert view.camera is not None
    assert view.masks is not None
    assert view.depth is not None
    np.testing.assert_allclose(view.camera.K, [[15, 0, 8], [0, 15, 6], [0, 0, 1]])
    blocks = photo(1).reshape(12, 2, 16, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(view.image, blocks, atol=0.51)
    assert view.masks[0][3, :8].tolist() == pytest.approx([1] * 6 + [0.5, 0], abs=2 / 255)
    np.testing.assert_allclose(view.depth.values[view.depth.usable], 2)
    assert not view.depth.usable[5:7, :3].any()
    assert view.depth.usable[:, 5:].all()


def test_a_larger_limit_than_the_photo_changes_nothing(folder: Path) -> None:
    write(folder)
    np.testing.assert_array_equal(read_scene(folder, longest=500)[0].image, photo(0))
    with pytest.raises(ValueError, match="1 or more, got 0"):
        read_scene(folder, longest=0)


def test_photo_mask_and_depth_are_undistorted_together(folder: Path) -> None:
    """A disc seen through a lens; without the lens it is where a pinhole sees it, in all three."""
    size = (120, 160)
    write(folder, size, **DISTORTION)
    lens = Lens(150, 150, 80, 60, size, distortion=tuple(DISTORTION.values()))
    rays = pixel_rays(lens.K, size)
    x, y = undistort(lens, rays[..., 0].ravel(), rays[..., 1].ravel())

    def disc(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.asarray((x + 0.3) ** 2 + (y + 0.15) ** 2 < 0.15**2)  # near a corner

    seen = disc(x, y).reshape(size)
    content = json.loads((folder / "transforms.json").read_text())
    for number, frame in enumerate(content["frames"]):
        save(
            folder / f"images/{number}.png",
            np.repeat(255 * seen[..., None], 3, -1).astype(np.uint8),
        )
        save(folder / f"masks/{number}.png", (255 * seen).astype(np.uint8))
        save(folder / f"depth/{number}.png", np.where(seen, 1000, 3000).astype(np.uint16))
        frame |= {"mask_path": f"masks/{number}.png", "depth_file_path": f"depth/{number}.png"}
    (folder / "transforms.json").write_text(json.dumps(content))
    scene = read_scene(folder)
    view = scene[0]
    assert any("distortion is removed from 4 photos: 160x120 become" in n for n in scene.notes)
    assert view.masks is not None
    assert view.depth is not None
    assert view.camera is not None
    np.testing.assert_array_equal(view.camera.K, pinhole_camera(lens, np.eye(4)).K)
    rays = pixel_rays(view.camera.K, view.camera.size)
    expected = disc(rays[..., 0], rays[..., 1])
    np.testing.assert_allclose(view.image[..., 0] / 255, view.masks[0], atol=1e-6)
    inside = view.masks[0] >= 0.5
    assert np.mean(inside != expected) < 0.002  # pixels on the rim
    assert np.mean((view.depth.values < 2) != expected) < 0.002
    rays = pixel_rays(lens.K, size)
    assert np.mean(seen != disc(rays[..., 0], rays[..., 1])) > 0.004  # the test can tell


def test_masks_of_every_convention_come_with_their_polarity(folder: Path) -> None:
    write(folder, names="{}.jpg")
    inside = np.zeros(SIZE, np.uint8)
    inside[:6] = 255
    for number in range(4):
        save(folder / f"elsewhere/dynamic_mask_{number}.png", inside)
    scene = read_scene(folder, masks=folder / "elsewhere")
    assert any("dynamic_mask_stem.png (white = ignore)" in note for note in scene.notes)
    masks = scene[0].masks
    assert masks is not None
    np.testing.assert_array_equal(masks[0], 1 - inside / 255)
    inverted = read_scene(folder, masks=folder / "elsewhere", invert_masks=True)[0].masks
    ignore = read_scene(folder, masks=folder / "elsewhere", mask_role="ignore")[0].masks
    assert inverted is not None
    assert ignore is not None
    np.testing.assert_array_equal(inverted[0], inside / 255)
    assert ignore.role == "ignore"
    np.testing.assert_array_equal(ignore[0], inside / 255)


def test_a_view_without_mask_is_unknown_and_told(folder: Path) -> None:
    write(folder)
    for number in (0, 2, 3):
        save(folder / f"masks/{number}.png", np.full(SIZE, 255, np.uint8))
    scene = read_scene(folder)
    assert [view.masks is None for view in scene] == [False, True, False, False]
    assert "masks: 1/4 photos without a match: 1.png" in scene.notes


def test_a_label_map_is_told(folder: Path) -> None:
    write(folder)
    labels = np.zeros(SIZE, np.uint8)
    labels[:8], labels[8:16] = 1, 2
    for number in range(4):
        save(folder / f"masks/{number}.png", labels)
    scene = read_scene(folder)
    assert any("read as a label map with ids 1, 2" in note for note in scene.notes)
    masks = scene[0].masks
    assert masks is not None
    assert masks.names == ("1", "2")


def test_masks_of_another_size_fit_if_the_aspect_does(folder: Path) -> None:
    write(folder)
    mask = np.zeros((48, 64), np.uint8)
    mask[:24] = 255
    for number in range(4):
        save(folder / f"masks/{number}.png", mask)
    masks = read_scene(folder)[0].masks
    assert masks is not None
    assert masks.size == SIZE
    assert (masks[0][:12] == 1).all()
    save(folder / "masks/3.png", np.zeros((10, 64), np.uint8))
    with pytest.raises(ValueError, match=r"masks/3\.png: .*different aspect"):
        read_scene(folder)[3]


def test_alpha_lends_no_colour_when_photos_shrink(folder: Path) -> None:
    write(folder)
    rgba = np.zeros((*SIZE, 4), np.uint8)
    rgba[:, :15] = (200, 100, 50, 255)  # the rest is black and transparent
    for number in range(4):
        save(folder / f"images/{number}.png", rgba)
    view = read_scene(folder, longest=16)[0]
    assert view.image[:, :8].reshape(-1, 3).tolist() == [[200, 100, 50]] * 96
    assert view.masks is not None
    assert view.masks[0][0, 6:9].tolist() == pytest.approx([1, 0.5, 0], abs=2 / 255)


@pytest.mark.parametrize(("alpha", "expected"), [(255, None), (0, 0.0)])
def test_constant_alpha_is_unknown_or_absent(
    folder: Path, alpha: int, expected: float | None
) -> None:
    """Opaque everywhere says nothing; transparent everywhere: the object is not in the picture."""
    write(folder)
    rgba = np.dstack([photo(0), np.full(SIZE, 255, np.uint8)])
    for number in range(4):
        rgba[..., 3] = alpha if number == 1 else 255
        rgba[0, 0, 3] = 255 if number == 1 and alpha else 0 if number != 1 else alpha
        save(folder / f"images/{number}.png", rgba)
    masks = read_scene(folder)[1].masks
    assert (masks is None) == (expected is None)
    assert masks is None or masks[0].max() == expected


def test_missing_and_extra_photos_are_told(folder: Path) -> None:
    write(folder)
    (folder / "images/1.png").unlink()
    save(folder / "images/unposed.png", photo(9))
    save(folder / "images/2_depth.png", photo(9))  # no photo: it is named after one
    scene = read_scene(folder)
    assert scene.names == ("0.png", "2.png", "3.png")
    assert any("1 of 4 photos are missing" in note and "1.png" in note for note in scene.notes)
    assert "1 photos have no pose and are left out: unposed.png" in scene.notes


def test_if_no_photo_is_there_the_first_is_named(folder: Path) -> None:
    write(folder)
    for number in range(4):
        (folder / f"images/{number}.png").rename(folder / f"{number}.png")
    with pytest.raises(FileNotFoundError, match=r"None of the 4 photos .*0\.png.*--photos"):
        read_scene(folder)
    assert len(read_scene(folder, photos=folder)) == 4


def test_photos_of_another_shape_than_the_camera_are_refused(folder: Path) -> None:
    write(folder)
    save(folder / "images/2.png", photo(2, (24, 24)))
    with pytest.raises(ValueError, match=r"2\.png is 24x24, but its camera is for 32x24, another"):
        read_scene(folder)


def test_a_photo_that_exif_turns_away_from_its_camera_is_explained(folder: Path) -> None:
    write(folder, names="{}.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo(0)).save(folder / "images/0.jpg", exif=exif)
    with pytest.raises(ValueError, match=r"EXIF orientation .6. turns it.*exiftool"):
        read_scene(folder)


def test_identical_cameras_are_allowed(folder: Path) -> None:
    write(folder)
    content = json.loads((folder / "transforms.json").read_text())
    for frame in content["frames"]:
        frame["transform_matrix"] = content["frames"][0]["transform_matrix"]
    (folder / "transforms.json").write_text(json.dumps(content))
    assert len(read_scene(folder)) == 4


def test_scaled_rotations_are_told_and_left_handed_ones_refused(folder: Path) -> None:
    write(folder)
    content = json.loads((folder / "transforms.json").read_text())
    for frame in content["frames"]:
        pose = np.array(frame["transform_matrix"])
        pose[:3, :3] *= 0.5
        frame["transform_matrix"] = pose.tolist()
    (folder / "transforms.json").write_text(json.dumps(content))
    scene = read_scene(folder)
    assert any("rotations of 4 poses were scaled by 2 to 2" in note for note in scene.notes)
    np.testing.assert_allclose(scene.cameras[1].cam_from_world, orbit()[1], atol=1e-12)
    for frame in content["frames"]:
        pose = np.array(frame["transform_matrix"])
        pose[:3, 0] *= -1
        frame["transform_matrix"] = pose.tolist()
    (folder / "transforms.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"0\.png is left-handed"):
        read_scene(folder)


def test_an_unknown_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"transforms\.json.*cameras and images.*holds nothing"):
        read_scene(tmp_path)
    save(tmp_path / "images/a.jpg", photo(0))
    with pytest.raises(ValueError, match=r"scene convert --sfm"):
        read_scene(tmp_path)
    write(tmp_path / "room")
    with pytest.raises(ValueError, match=r"folders in it are scenes: room"):
        read_scene(tmp_path)
    with pytest.raises(FileNotFoundError, match="no scene"):
        read_scene(tmp_path / "nothing")
    with pytest.raises(ValueError, match="a scene is a folder"):
        read_scene(tmp_path / "images/a.jpg")
    with pytest.raises(ValueError, match=r"Looked for: tum: rgb\.txt"):
        read_scene(tmp_path / "room", format="tum")
    with pytest.raises(ValueError, match="format must be one of"):
        read_scene(tmp_path, format="gltf")  # type: ignore[arg-type]


def test_a_folder_of_two_formats_says_so(folder: Path) -> None:
    write(folder)
    (folder / "rgb.txt").write_text("")
    (folder / "groundtruth.txt").write_text("")
    found = open_scene(folder)
    assert found.format == "nerfstudio"
    assert any("--format tum" in note for note in found.scene.notes)
    assert open_scene(folder / "transforms.json").format == "nerfstudio"


def test_scenes_need_none_of_the_extras() -> None:
    heavy = ("torch", "trimesh", "skimage", "scipy", "pycolmap")
    code = f"""
import sys, crispdepth.io.scenes, crispdepth.io.scenes.sfm, crispdepth.cli.scene_convert
print([name for name in {heavy} if name in sys.modules])"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Depth from a folder


def with_depths(folder: Path, *, points: bool, kind: str = "relative") -> list[Any]:
    """A ball of radius 1 whose depth maps lie in ``rough``; gives the true ones."""
    size = (72, 96)
    write(folder, size, **({"ply_file_path": "points.ply"} if points else {}))
    if points:
        ball = np.random.default_rng(0).normal(size=(3000, 3))
        ball /= np.linalg.norm(ball, axis=1, keepdims=True)
        write_points(folder / "points.ply", ball.astype(np.float32), np.zeros((3000, 3), np.uint8))
    true = [sphere_depth(camera) for camera in read_scene(folder).cameras]
    (folder / "rough").mkdir()
    for number, depth in enumerate(true):
        inverse = np.divide(5, depth, out=np.zeros_like(depth), where=depth > 0)
        inverse -= np.float32(0.4)
        found = {
            "relative": DepthMap(inverse, "inverse_depth", "relative", depth > 0),
            "own unit": DepthMap(depth, "depth", "relative"),
            "metres": DepthMap(40 * depth, "depth", "m"),
        }[kind]
        write_depth(folder / f"rough/{number}.exr", found)
    return true


@pytest.mark.parametrize("kind", ["relative", "metres"])
def test_depth_of_another_scale_is_aligned_to_the_sparse_points(folder: Path, kind: str) -> None:
    true = with_depths(folder, points=True, kind=kind)
    scene = read_scene(folder, depths=folder / "rough")
    assert "depths: 4/4 photos matched by rule" in " ".join(scene.notes)
    for view, depth in zip(scene, true, strict=True):
        assert view.depth is not None
        assert (view.depth.kind, view.depth.unit) == ("depth", "relative")
        np.testing.assert_array_equal(view.depth.usable, depth > 0)
        np.testing.assert_allclose(view.depth.values[depth > 0], depth[depth > 0], rtol=0.03)
    smaller = read_scene(folder, depths=folder / "rough", longest=48)[0]
    assert smaller.depth is not None
    middle = smaller.depth.values[18, 24]
    assert middle == pytest.approx(true[0][36, 48], rel=0.03)


def test_depth_in_the_unit_of_the_scene_stays_as_it_is(folder: Path) -> None:
    true = with_depths(folder, points=False, kind="own unit")
    (folder / "rough/3.exr").unlink()
    opened = open_scene(folder, depths=folder / "rough")
    assert [view.depth is not None for view in opened.files] == [True, True, True, False]
    found = opened.scene[2].depth
    assert found is not None
    np.testing.assert_array_equal(found.values, true[2])


def test_what_the_confidence_beside_a_depth_does_not_vouch_for_is_no_depth(folder: Path) -> None:
    """As of the depths that `crispdepth multiview` writes: what it only filled is not measured."""
    true = with_depths(folder, points=False, kind="own unit")
    steps = np.zeros(true[0].shape, np.uint16)
    steps[:40] = 300
    write_image(folder / "rough/0.confidence.png", steps)
    first, second, *_ = read_scene(folder, depths=folder / "rough")
    assert first.depth is not None
    assert second.depth is not None
    np.testing.assert_array_equal(first.depth.usable, (true[0] > 0) & (steps > 0))
    np.testing.assert_array_equal(second.depth.usable, true[1] > 0)
    write_image(folder / "rough/0.confidence.png", steps[1:])
    first = read_scene(folder, depths=folder / "rough")[0]  # of something else
    assert first.depth is not None
    np.testing.assert_array_equal(first.depth.usable, true[0] > 0)


def test_relative_depth_without_points_says_what_is_missing(folder: Path) -> None:
    with_depths(folder, points=False)
    scene = read_scene(folder, depths=folder / "rough")
    with pytest.raises(
        ValueError, match=r"0\.exr holds inverse depth, relative, .* no sparse points"
    ):
        scene[0]
    with pytest.raises(FileNotFoundError):
        read_scene(folder, depths=folder / "nowhere")


def test_depth_that_has_nothing_to_do_with_the_points_is_refused(folder: Path) -> None:
    true = with_depths(folder, points=True)
    upside_down = DepthMap(true[1] * (true[1] > 0), "inverse_depth", "relative", true[1] > 0)
    write_depth(folder / "rough/1.exr", upside_down)
    square = DepthMap(np.ones((30, 30), np.float32), "inverse_depth", "relative")
    write_depth(folder / "rough/2.exr", square)
    scene = read_scene(folder, depths=folder / "rough")
    with pytest.raises(
        ValueError, match=r"1\.exr, aligned to the sparse points: The scale would be"
    ):
        scene[1]
    with pytest.raises(ValueError, match=r"2\.exr is 30x30, another aspect ratio"):
        scene[2]
