"""Hypersim: photo-real renderings of furnished rooms (Roberts et al., ICCV 2021).

The format is described in the README of https://github.com/apple/ml-hypersim: below
``ai_VVV_NNN/images``, ``scene_cam_XX_geometry_hdf5/frame.IIII.depth_meters.hdf5`` holds the
*Euclidean distance* to the camera's centre in metres (NaN: no surface) and
``….semantic_instance.hdf5`` the object ids (-1: none), the array of each file being called
``dataset``. The photo is ``scene_cam_XX_final_preview/frame.IIII.tonemap.jpg`` or, where previews
were not downloaded, the linear ``scene_cam_XX_final_hdf5/frame.IIII.color.hdf5``, tone-mapped as
the authors' ``scene_generate_images_tonemap.py`` does.

Poses in ``_detail/cam_XX`` are world from camera, in units of ``_detail/metadata_scene.csv``, with
y up and z backwards; they are turned to OpenCV's axes.

Cameras see 60 degrees across, but for scenes with other or tilt-shift lenses. What these see is in
``contrib/mikeroberts3000/metadata_camera_parameters.csv`` of the authors' repository: for each
scene the matrix ``M_cam_from_uv``, by which (u, v, 1), u from -1 at the left to 1 at the right edge
and v from -1 at the bottom to 1 at the top, is the ray through that point, in the camera's axes. It
is used where that file lies in the dataset's folder or in one above it.
"""

import csv
import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.datasets.files import (
    LazyFrames,
    camera_at,
    find_files,
    open_hdf5,
    read_photo,
)
from crispdepth.geometry.backproject import pixel_rays
from crispdepth.io.atomic import read_bytes
from crispdepth.types import Camera, DepthMap, Float32Map, Size

CAMERAS = "metadata_camera_parameters.csv"
OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0])

# Of the authors' tone mapping: the brightness of which percentile becomes which display value.
PERCENTILE, DISPLAYED_AS, GAMMA = 90, 0.8, 2.2
LUMA = np.array([0.3, 0.59, 0.11], np.float32)


def open_hypersim(root: str | Path) -> Sequence[RgbdFrame]:
    """The frames of Hypersim, of one of its scenes or of several.

    An instance has its id in the dataset plus one, so that 0 means none. Where ``_detail`` was not
    downloaded, world and camera coincide. Depth and camera of a tilted lens are those of the
    camera without tilt that takes the same picture: only then is 1 / z of a plane linear.

    Raises:
        FileNotFoundError: there is no frame below the folder.
        ValueError: the table of the cameras is damaged.
    """
    pattern = "**/images/scene_cam_*_geometry_hdf5/frame.*.depth_meters.hdf5"
    files = find_files(root, pattern, "Hypersim")
    folder = Path(root).resolve()
    tables = (place / CAMERAS for place in (folder, *folder.parents))
    table = next((path for path in tables if path.is_file()), None)
    return LazyFrames(files, partial(_read, _rays_by_scene(table) if table else {}), _name)


def planar_depth(distance: Float32Map, K: NDArray[np.float64]) -> Float32Map:
    """z-depth (h, w) from distance to the camera's centre: ``z = distance / |K^-1 (u, v, 1)|``."""
    length = np.linalg.norm(pixel_rays(Camera(K, distance.shape)), axis=-1)
    return np.asarray(distance / length, np.float32)


def upright(cam_from_uv: NDArray[np.float64], size: Size) -> tuple[NDArray[Any], NDArray[Any]]:
    """The pinhole camera of a scene: K (3, 3), and the rotation (3, 3) from it to the stored one.

    Args:
        cam_from_uv: (3, 3), see above.
        size: (height, width).
    """
    height, width = size
    uv_from_pixel = np.array([[2 / width, 0, -1], [0, -2 / height, 1], [0, 0, 1]])
    rotation, rays = np.linalg.qr(OPENGL_FROM_OPENCV @ cam_from_uv @ uv_from_pixel)
    signs = np.sign(np.diag(rays))
    rays = signs[:, None] * rays  # upper triangular: K^-1, to scale
    return np.linalg.inv(rays / rays[2, 2]), rotation * signs


def tone_mapped(colour: NDArray[np.float32], surface: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Linear radiance (h, w, 3) as sRGB-like values, exposed for the pixels that show a surface."""
    brightness = (colour @ LUMA)[surface]
    bright = np.percentile(brightness, PERCENTILE) if brightness.size else 0.0
    exposure = DISPLAYED_AS**GAMMA / bright if bright > 1e-4 else 0.0  # else nothing is lit
    display = np.clip(colour * exposure, 0, 1) ** (1 / GAMMA)
    return np.rint(display * 255).astype(np.uint8)


def _camera_and_frame(path: Path) -> tuple[str, str]:
    """``cam_XX`` and ``frame.IIII``."""
    camera = path.parent.name.removeprefix("scene_").removesuffix("_geometry_hdf5")
    return camera, path.name.removesuffix(".depth_meters.hdf5")


def _name(path: Path) -> str:
    camera, frame = _camera_and_frame(path)
    return f"{path.parents[2].name}/{camera}/{frame.removeprefix('frame.')}"


def _read(rays: Mapping[str, NDArray[np.float64]], path: Path) -> RgbdFrame:
    images, scene = path.parents[1:3]
    camera, frame = _camera_and_frame(path)
    number = int(frame.removeprefix("frame."))
    distance = _dataset(path).astype(np.float32)
    K, turn = _intrinsics(distance.shape), np.eye(3)
    if scene.name in rays:
        K, turn = upright(rays[scene.name], distance.shape)
    pose = _world_from_cam(scene / "_detail", camera, number, turn)

    preview = images / f"scene_{camera}_final_preview" / f"{frame}.tonemap.jpg"
    if preview.is_file():
        image = read_photo(preview)
    else:
        colour = _dataset(images / f"scene_{camera}_final_hdf5" / f"{frame}.color.hdf5")
        image = tone_mapped(colour.astype(np.float32), np.isfinite(distance))
    ids = path.with_name(f"{frame}.semantic_instance.hdf5")
    return RgbdFrame(
        name=_name(path),
        image=image,
        depth=DepthMap(
            planar_depth(distance, K), "depth", "m", camera=camera_at(K, distance.shape, pose)
        ),
        instances=_dataset(ids).astype(np.int32) + np.int32(1) if ids.is_file() else None,
    )


def _intrinsics(size: Size) -> NDArray[np.float64]:
    """``K`` of most scenes: 60 degrees across, square pixels."""
    height, width = size
    focal_px = width / 2 / math.tan(math.radians(30))
    return np.array([[focal_px, 0, width / 2], [0, focal_px, height / 2], [0, 0, 1]])


def _rays_by_scene(table: Path) -> dict[str, NDArray[np.float64]]:
    """``M_cam_from_uv`` (3, 3) of every scene in the authors' table."""
    columns = [f"M_cam_from_uv_{row}{column}" for row in range(3) for column in range(3)]
    text = read_bytes(table).decode("utf-8-sig", errors="replace")
    try:
        return {
            row["scene_name"]: np.array([float(row[name]) for name in columns]).reshape(3, 3)
            for row in csv.DictReader(text.splitlines())
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{table} should give scene_name and M_cam_from_uv_00 to _22 of each scene "
            f"({error!r}); get it again, or remove it to take the standard camera."
        ) from error


def _world_from_cam(
    detail: Path, camera: str, frame: int, turn: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The pose of a frame in metres, OpenCV axes; the identity where poses are not there.

    Args:
        detail: ``_detail`` of the scene.
        camera: ``cam_XX``.
        frame: its number.
        turn: (3, 3), from the camera that is used to the stored one.
    """
    world_from_cam = np.eye(4)
    if (detail / camera).is_dir():
        orientation = _dataset(detail / camera / "camera_keyframe_orientations.hdf5", frame)
        position = _dataset(detail / camera / "camera_keyframe_positions.hdf5", frame)
        world_from_cam[:3, :3] = orientation @ OPENGL_FROM_OPENCV @ turn
        world_from_cam[:3, 3] = position * _metres_per_unit(detail / "metadata_scene.csv")
    return world_from_cam


def _metres_per_unit(path: Path) -> float:
    text = read_bytes(path).decode(errors="replace")
    match = re.search(r"^meters_per_asset_unit,\s*([-+.\deE]+)", text, re.MULTILINE)
    if match is None:
        raise ValueError(f"{path} should state meters_per_asset_unit; get it again.")
    return float(match[1])


def _dataset(path: Path, index: int | None = None) -> NDArray[Any]:
    """The array of a file, or one row of it."""
    with open_hdf5(path) as file:
        dataset = file["dataset"]
        if index is not None and index >= len(dataset):
            raise ValueError(f"{path} has {len(dataset)} poses, none for frame {index}.")
        return np.asarray(dataset[() if index is None else index])
