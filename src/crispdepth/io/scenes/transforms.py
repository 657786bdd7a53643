"""``transforms.json`` of nerfstudio and instant-ngp, and the NeRF synthetic scenes it grew from.

A frame's ``transform_matrix`` is world from camera in OpenGL axes (x right, y up, z backward);
intrinsics stand at the top or, per frame, override it. The world stays that of the file. Poses
that were scaled from metres by ``applied_scale`` are scaled back; ``applied_transform`` says how
the file's world came from another one, and changes nothing here.
https://docs.nerf.studio/quickstart/data_conventions.html
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crispdepth.io.images import read_header
from crispdepth.io.ply import read_ply_points
from crispdepth.io.scenes.lens import Lens
from crispdepth.io.scenes.poses import OPENCV_FROM_OPENGL, inverse_pose
from crispdepth.io.scenes.source import DepthFile, NoPhotoError, Source, SourceView
from crispdepth.types import PointCloud

SPLITS = ("train", "val", "test")
"""NeRF's synthetic scenes have a ``transforms_train.json`` and so on."""

_SUFFIXES = (".png", ".jpg", ".jpeg", ".JPG", ".PNG")  # Blender's exporters leave it out
_PERSPECTIVE = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE")
_DEPTH_STEP = 1e-3  # nerfstudio's depth_unit_scale_factor if none is stated: millimetres


def read_transforms(path: Path, photos: Path | None) -> Source:
    """The photos of a ``transforms.json``, or of a ``transforms_train.json``.

    Args:
        path: the file.
        photos: a folder to take the photos from instead, such as one of smaller copies.

    Raises:
        OSError: a file cannot be read.
        ValueError: it is malformed, or its camera model is not supported.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        frames = content["frames"]
        files = [_photo(path.parent, str(frame["file_path"])) for frame in frames]
        poses = [frame["transform_matrix"] for frame in frames]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is no transforms.json ({error!r}): it needs a list of frames, each with "
            "file_path and transform_matrix."
        ) from error
    if not frames:
        raise ValueError(f"{path} has no frames.")
    root = Path(os.path.commonpath([file.parent for file in files]))
    if photos is not None:
        files, root = [photos / file.relative_to(root) for file in files], photos
    scale = _positive(content, "applied_scale", path)
    step = _positive(content, "depth_unit_scale_factor", path, _DEPTH_STEP)
    lenses = _lenses(path, content, frames, files)
    views = []
    for frame, file, pose, lens in zip(frames, files, poses, lenses, strict=True):
        cam_from_world = OPENCV_FROM_OPENGL @ inverse_pose(pose, f"{file.name} in {path}")
        cam_from_world[:3, 3] /= scale
        depth, mask = frame.get("depth_file_path"), frame.get("mask_path")
        views.append(
            SourceView(
                photo=file,
                lens=lens,
                cam_from_world=cam_from_world,
                mask=path.parent / mask if mask else None,
                depth=DepthFile(path.parent / depth, step) if depth else None,
            )
        )
    notes = []
    others = [name for name in SPLITS if (path.parent / f"transforms_{name}.json").is_file()]
    if path.stem.startswith("transforms_") and len(others) > 1:
        notes.append(f"only {path.name} is read; there are the splits {', '.join(others)}")
    has_depth = any(view.depth for view in views)
    if has_depth:
        notes.append("poses are taken to be in metres, as the depth maps are")
    return Source(
        name=path.resolve().parent.name,
        photo_root=root,
        views=tuple(views),
        unit="m" if has_depth else "relative",
        points=_points(path, content, scale),
        source_scale=scale,
        notes=tuple(notes),
    )


def _photo(folder: Path, name: str) -> Path:
    path = Path(os.path.normpath(os.path.abspath(folder / name.replace("\\", "/"))))
    if not path.is_file():
        with_suffix = (path.with_name(path.name + suffix) for suffix in _SUFFIXES)
        return next((file for file in with_suffix if file.is_file()), path)
    return path


def _positive(content: Mapping[str, Any], key: str, path: Path, default: float = 1.0) -> float:
    value = content.get(key, default)
    if not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
        raise ValueError(f"{path}: {key} must be a number above 0, got {value!r}.")
    return float(value)


def _lenses(
    path: Path, content: Mapping[str, Any], frames: Sequence[Mapping[str, Any]], files: list[Path]
) -> list[Lens]:
    """The lens of each frame; a photo's size is looked up where the file does not state it."""
    fallback: tuple[int, int] | None = None
    lenses = []
    for frame, file in zip(frames, files, strict=True):
        facts = {**content, **frame}
        if "w" in facts and "h" in facts:
            size = int(facts["h"]), int(facts["w"])
        else:
            if fallback is None:
                there = next((file for file in files if file.is_file()), None)
                if there is None:
                    raise NoPhotoError(
                        f"None of the {len(files)} photos of {path} is there, the first would be "
                        f"{files[0]}. Give their folder (--photos)."
                    )
                fallback = read_header(there).size
            size = read_header(file).size if file.is_file() else fallback
        try:
            lenses.append(_lens(facts, size))
        except (ValueError, TypeError, KeyError) as error:
            problem = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{path}, camera of {file.name}: {problem}") from error
    return lenses


def _lens(facts: Mapping[str, Any], size: tuple[int, int]) -> Lens:
    height, width = size
    if "fl_x" in facts:
        fx = float(facts["fl_x"])
    elif "camera_angle_x" in facts:
        fx = width / 2 / math.tan(float(facts["camera_angle_x"]) / 2)
    else:
        raise ValueError("there is neither fl_x nor camera_angle_x.")
    fy = fx
    if "fl_y" in facts:
        fy = float(facts["fl_y"])
    elif "fl_x" not in facts and "camera_angle_y" in facts:
        fy = height / 2 / math.tan(float(facts["camera_angle_y"]) / 2)
    model = str(facts.get("camera_model", "OPENCV")).upper()
    if facts.get("is_fisheye"):  # instant-ngp
        model = "OPENCV_FISHEYE"
    if model not in (*_PERSPECTIVE, "OPENCV_FISHEYE"):
        raise ValueError(
            f"the camera model {model} is not supported; supported are "
            f"{', '.join((*_PERSPECTIVE, 'OPENCV_FISHEYE'))}."
        )
    fisheye = model == "OPENCV_FISHEYE"
    order = "k1 k2 k3 k4" if fisheye else "k1 k2 p1 p2 k3"
    return Lens(
        fx,
        fy,
        float(facts.get("cx", width / 2)),
        float(facts.get("cy", height / 2)),
        size,
        "fisheye" if fisheye else "perspective",
        tuple(float(facts.get(name, 0.0)) for name in order.split()),
    )


def _points(path: Path, content: Mapping[str, Any], scale: float) -> PointCloud | None:
    name = content.get("ply_file_path")
    if not name or not (path.parent / name).is_file():
        return None
    cloud = read_ply_points(path.parent / name)
    return PointCloud((cloud.points / np.float32(scale)).astype(np.float32), cloud.colours)
