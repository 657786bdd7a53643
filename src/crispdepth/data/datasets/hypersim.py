"""Hypersim: photo-real renderings of furnished rooms (Roberts et al., ICCV 2021).

The format is described in the README of https://github.com/apple/ml-hypersim: below
``ai_VVV_NNN/images``, ``scene_cam_XX_geometry_hdf5/frame.IIII.depth_meters.hdf5`` holds the
*Euclidean distance* to the camera's centre in metres (NaN: no surface) and
``….semantic_instance.hdf5`` the object ids (-1: none), the array of each file being called
``dataset``. The photo is ``scene_cam_XX_final_preview/frame.IIII.tonemap.jpg`` or, where previews
were not downloaded, the linear ``scene_cam_XX_final_hdf5/frame.IIII.color.hdf5``, tone-mapped as
the authors' ``scene_generate_images_tonemap.py`` does.

Cameras see 60 degrees across. The tilt-shift lenses of some scenes, known only from a table in the
authors' repository, are not modelled. Poses in ``_detail/cam_XX`` are world from camera, in units
of ``_detail/metadata_scene.csv``, with y up and z backwards; they are turned to OpenCV's axes.
"""

import math
import re
from collections.abc import Sequence
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
from crispdepth.io.atomic import read_bytes
from crispdepth.types import DepthMap, Float32Map, Size

OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0])

# Of the authors' tone mapping: the brightness of which percentile becomes which display value.
PERCENTILE, DISPLAYED_AS, GAMMA = 90, 0.8, 2.2
LUMA = np.array([0.3, 0.59, 0.11], np.float32)


def open_hypersim(root: str | Path) -> Sequence[RgbdFrame]:
    """The frames of Hypersim, of one of its scenes or of several.

    An instance has its id in the dataset plus one, so that 0 means none. Where ``_detail`` was not
    downloaded, world and camera coincide.

    Raises:
        FileNotFoundError: there is no frame below the folder.
    """
    pattern = "**/images/scene_cam_*_geometry_hdf5/frame.*.depth_meters.hdf5"
    return LazyFrames(find_files(root, pattern, "Hypersim"), _read, _name)


def planar_depth(distance: Float32Map, K: NDArray[np.float64]) -> Float32Map:
    """z-depth (h, w) from distance to the camera's centre: ``z = distance / |K^-1 (u, v, 1)|``."""
    height, width = distance.shape
    x = (np.arange(width) + 0.5 - K[0, 2]) / K[0, 0]
    y = (np.arange(height) + 0.5 - K[1, 2]) / K[1, 1]
    length = np.sqrt(x**2 + y[:, None] ** 2 + 1)
    return np.asarray(distance / length, np.float32)


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


def _read(path: Path) -> RgbdFrame:
    images, scene = path.parents[1:3]
    camera, frame = _camera_and_frame(path)
    number = frame.removeprefix("frame.")
    distance = _dataset(path).astype(np.float32)
    height, width = distance.shape
    K = _intrinsics((height, width))
    pose = _world_from_cam(scene / "_detail", camera, int(number))

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
    """``K`` of every image without tilt-shift: 60 degrees across, square pixels."""
    height, width = size
    focal_px = width / 2 / math.tan(math.radians(30))
    return np.array([[focal_px, 0, width / 2], [0, focal_px, height / 2], [0, 0, 1]])


def _world_from_cam(detail: Path, camera: str, frame: int) -> NDArray[np.float64]:
    """The pose of a frame in metres, OpenCV axes; the identity where poses are not there."""
    world_from_cam = np.eye(4)
    if (detail / camera).is_dir():
        orientation = _dataset(detail / camera / "camera_keyframe_orientations.hdf5", frame)
        position = _dataset(detail / camera / "camera_keyframe_positions.hdf5", frame)
        world_from_cam[:3, :3] = orientation @ OPENGL_FROM_OPENCV
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
