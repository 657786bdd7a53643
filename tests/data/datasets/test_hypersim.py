from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from crispdepth.data.datasets.hypersim import open_hypersim, tone_mapped

pytest.importorskip("h5py")

Save = Callable[[Path, Any], Path]

SIZE = HEIGHT, WIDTH = 12, 16
FOCAL_PX = 886.81 * WIDTH / 1024  # as the authors state it for 1024 pixels

TURNED = cv2.Rodrigues(np.array([0.3, -1.1, 0.7]))[0]  # world from camera, as it is stored
POSITION = np.array([100.0, 200, 30])  # asset units
METRES_PER_UNIT = 0.0254


def rays() -> NDArray[np.float64]:
    """(h, w, 3) rays through the pixels' centres with z = 1, OpenCV axes."""
    v, u = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    return np.stack([(u - WIDTH / 2) / FOCAL_PX, (v - HEIGHT / 2) / FOCAL_PX, np.ones(SIZE)], -1)


def write(root: Path, save: Save, z: Any, frames: tuple[int, ...] = (0,)) -> Path:
    """A scene in which every frame has the given z-depth, NaN where it is 0."""
    scene = root / "ai_001_002"
    geometry = scene / "images/scene_cam_00_geometry_hdf5"
    distance = np.where(z > 0, z * np.linalg.norm(rays(), axis=-1), np.nan).astype(np.float16)
    ids = np.full(SIZE, -1, np.int16)
    ids[:3], ids[3:5] = 0, 41
    for index in frames:
        save(geometry / f"frame.{index:04d}.depth_meters.hdf5", distance)
        save(geometry / f"frame.{index:04d}.semantic_instance.hdf5", ids)
        colour = np.full((*SIZE, 3), 0.5 * (index + 1), np.float16)
        save(scene / f"images/scene_cam_00_final_hdf5/frame.{index:04d}.color.hdf5", colour)
    detail = scene / "_detail"
    save(detail / "cam_00/camera_keyframe_orientations.hdf5", np.stack([np.eye(3), TURNED]))
    save(detail / "cam_00/camera_keyframe_positions.hdf5", np.stack([0 * POSITION, POSITION]))
    save(
        detail / "metadata_scene.csv",
        f"parameter_name,parameter_value\nmeters_per_asset_unit,{METRES_PER_UNIT}\n",
    )
    return scene


def test_distances_to_the_camera_become_planar_depth(tmp_path: Path, save: Save) -> None:
    z = np.full(SIZE, 3.0)
    z[:, 8:] = 5
    z[0] = 0
    (frame,) = open_hypersim(write(tmp_path, save, z))
    assert (frame.depth.kind, frame.depth.unit) == ("depth", "m")
    np.testing.assert_array_equal(frame.depth.usable, z > 0)
    np.testing.assert_allclose(frame.depth.values, z, rtol=1e-3)  # the files have 11 bits


def test_the_camera_sees_sixty_degrees_across(tmp_path: Path, save: Save) -> None:
    (frame,) = open_hypersim(write(tmp_path, save, np.ones(SIZE)))
    assert frame.depth.camera is not None
    K = frame.depth.camera.K
    left, right = (np.linalg.inv(K) @ [u, HEIGHT / 2, 1] for u in (0, WIDTH))
    assert np.degrees(np.arctan2(right[0], 1) - np.arctan2(left[0], 1)) == pytest.approx(60)
    np.testing.assert_allclose([K[0, 0], K[1, 1]], FOCAL_PX, rtol=1e-5)


def test_poses_turn_from_opengl_axes_and_asset_units(tmp_path: Path, save: Save) -> None:
    (frame,) = open_hypersim(write(tmp_path, save, np.ones(SIZE), frames=(1,)))
    assert frame.depth.camera is not None
    stored_point = np.array([0.3, 0.2, -4])  # in the dataset's camera: right, up, 4 m ahead
    world = TURNED @ stored_point + POSITION * METRES_PER_UNIT
    seen = frame.depth.camera.cam_from_world @ [*world, 1]
    np.testing.assert_allclose(seen, [0.3, -0.2, 4, 1], atol=1e-6)


def test_every_instance_keeps_its_own_id_and_none_is_zero(tmp_path: Path, save: Save) -> None:
    (frame,) = open_hypersim(write(tmp_path, save, np.ones(SIZE)))
    assert frame.instances is not None
    assert [frame.instances[row, 0] for row in (0, 4, 8)] == [1, 42, 0]


def test_the_preview_is_taken_before_the_linear_colours(tmp_path: Path, save: Save) -> None:
    scene = write(tmp_path, save, np.ones(SIZE), frames=(0, 1))
    preview = scene / "images/scene_cam_00_final_preview/frame.0001.tonemap.jpg"
    save(preview, np.full((*SIZE, 3), 77, np.uint8))
    linear, shown = open_hypersim(tmp_path)
    np.testing.assert_array_equal(linear.image, round(0.8 * 255))  # as bright as its percentile
    np.testing.assert_allclose(shown.image.astype(int), 77, atol=1)


def test_tone_mapping_does_not_depend_on_the_light_level(rng: np.random.Generator) -> None:
    colour = rng.uniform(0.1, 2, (6, 8, 3)).astype(np.float32)
    surface = np.ones((6, 8), bool)
    np.testing.assert_array_equal(tone_mapped(colour, surface), tone_mapped(8 * colour, surface))
    dark = tone_mapped(0 * colour, surface)
    np.testing.assert_array_equal(dark, 0)


def test_frames_go_by_scene_camera_and_number(tmp_path: Path, save: Save) -> None:
    scene = write(tmp_path, save, np.ones(SIZE), frames=(0, 1))
    names = [frame.name for frame in open_hypersim(tmp_path)]
    assert names == ["ai_001_002/cam_00/0000", "ai_001_002/cam_00/0001"]
    assert [frame.name for frame in open_hypersim(scene)] == names


def test_without_ids_and_poses_the_rest_is_read(tmp_path: Path, save: Save) -> None:
    scene = write(tmp_path, save, np.ones(SIZE))
    (scene / "_detail").rename(tmp_path / "away")
    next(scene.rglob("*.semantic_instance.hdf5")).unlink()
    (frame,) = open_hypersim(tmp_path)
    assert frame.instances is None
    assert frame.depth.camera is not None
    np.testing.assert_array_equal(frame.depth.camera.cam_from_world, np.eye(4))


def test_a_frame_without_pose_and_a_scene_without_unit_are_named(
    tmp_path: Path, save: Save
) -> None:
    scene = write(tmp_path, save, np.ones(SIZE), frames=(0, 2))
    with pytest.raises(ValueError, match=r"orientations\.hdf5 has 2 poses, none for frame 2"):
        open_hypersim(scene)[1]
    save(scene / "_detail/metadata_scene.csv", "parameter_name,parameter_value\n")
    with pytest.raises(ValueError, match=r"metadata_scene\.csv should state meters_per_asset"):
        open_hypersim(scene)[0]


# Columns and rows of the authors' table, most columns left out; the second lens is tilted, shifted
# and wider.
TABLE = """scene_name,camera_physical_fov,settings_output_img_width,settings_output_img_height,\
M_cam_from_uv_00,M_cam_from_uv_01,M_cam_from_uv_02,M_cam_from_uv_10,M_cam_from_uv_11,\
M_cam_from_uv_12,M_cam_from_uv_20,M_cam_from_uv_21,M_cam_from_uv_22,M_proj_00
ai_001_001,1.0471975511965976,1024.0,768.0,\
0.5773502691896257,0.0,0.0,0.0,0.4330127018922193,0.0,0.0,0.0,-1.0,1.7320508075688774
ai_001_002,1.2,1024.0,768.0,0.66,0.01,0.05,-0.02,0.51,-0.12,0.015,0.11,-0.97,1.5
"""
TILTED = np.array([[0.66, 0.01, 0.05], [-0.02, 0.51, -0.12], [0.015, 0.11, -0.97]])


def through_a_tilted_lens() -> NDArray[np.float64]:
    """(h, w, 3) rays through the pixels' centres in the dataset's axes, of any length."""
    v, u = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    uv = np.stack([2 * u / WIDTH - 1, 1 - 2 * v / HEIGHT, np.ones(SIZE)], -1)
    return np.asarray(uv @ TILTED.T)


def test_a_point_comes_back_from_every_pixel_of_a_tilted_lens(tmp_path: Path, save: Save) -> None:
    scene = write(tmp_path / "scenes", save, np.ones(SIZE), frames=(1,))
    save(tmp_path / "metadata_camera_parameters.csv", TABLE)
    rays = through_a_tilted_lens()
    # Distances of a slanted plane ahead, normal . point = 1.
    t = 1 / (rays @ [0.02, 0.05, -0.4])
    distance = np.linalg.norm(rays, axis=-1) * t
    file = next(scene.rglob("*.depth_meters.hdf5"))
    file.unlink()
    save(file, distance.astype(np.float32))
    (frame,) = open_hypersim(scene)
    camera = frame.depth.camera
    assert camera is not None
    assert np.array_equal(camera.K, np.triu(camera.K))
    v, u = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    seen = np.stack([u, v, np.ones(SIZE)], -1) * frame.depth.values[..., None]
    points = seen @ np.linalg.inv(camera.K).T - camera.cam_from_world[:3, 3]
    expected = (rays * t[..., None]) @ TURNED.T + POSITION * METRES_PER_UNIT
    np.testing.assert_allclose(points @ camera.cam_from_world[:3, :3], expected, atol=1e-5)
    inverse = 1 / frame.depth.values  # of a plane it is linear
    np.testing.assert_allclose(np.diff(inverse, 2, axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(np.diff(inverse, 2, axis=1), 0, atol=1e-6)


def test_scenes_of_the_standard_lens_and_unlisted_ones_see_sixty_degrees(
    tmp_path: Path, save: Save
) -> None:
    scene = write(tmp_path, save, np.ones(SIZE))
    save(tmp_path / "metadata_camera_parameters.csv", TABLE)
    expected = np.array([[FOCAL_PX, 0, WIDTH / 2], [0, FOCAL_PX, HEIGHT / 2], [0, 0, 1]])
    for name in ("ai_001_001", "ai_009_009"):
        scene = scene.rename(tmp_path / name)
        (frame,) = open_hypersim(tmp_path)
        assert frame.depth.camera is not None
        np.testing.assert_allclose(frame.depth.camera.K, expected, rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(frame.depth.camera.cam_from_world[:3, :3], np.diag([1, -1, -1]))


def test_a_damaged_table_is_named(tmp_path: Path, save: Save) -> None:
    write(tmp_path, save, np.ones(SIZE))
    table = save(tmp_path / "metadata_camera_parameters.csv", TABLE.replace("_cam_", "_"))
    with pytest.raises(ValueError, match=rf"{table.name} should give scene_name"):
        open_hypersim(tmp_path)
