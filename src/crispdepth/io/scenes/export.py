"""Scenes as other programs read them, in the frame and scale that the scene came in.

Both writers make a folder that opens as it is: photos in ``images``, masks in ``masks`` as
``<photo>.png`` where black is ignored, cameras and points beside them. Distortion is gone, so
all cameras are pinholes. A photo that is shown unchanged is copied byte for byte.
"""

import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispdepth.geometry.rigid import (
    camera_in_frame,
    quaternion_from_matrix,
    scale_of,
    transform_points,
)
from crispdepth.io.atomic import make_folder, write_bytes, write_text
from crispdepth.io.depths import write_depth
from crispdepth.io.images import write_image
from crispdepth.io.pointclouds import write_points
from crispdepth.io.scenes.poses import OPENCV_FROM_OPENGL
from crispdepth.ops.images import eight_bit
from crispdepth.types import Camera, DepthMap, MaskSet, PointCloud, Scene, View

Array = NDArray[np.float64]

_WRITABLE = (".jpg", ".jpeg", ".png", ".webp")
_MILLIMETRE = 1e-3
_FARTHEST_M = 65.535  # that 16 bits of millimetres hold
_PINHOLE = 1  # COLMAP's number of the model
_GREY = 128  # of points without colours


def write_colmap(
    scene: Scene,
    folder: str | Path,
    *,
    text: bool = False,
    untouched: Mapping[str, Path] = {},
    advance: Callable[[], object] = lambda: None,
) -> None:
    """Write ``images``, ``masks`` and the model ``sparse/0`` (without 2-D points and tracks).

    Args:
        scene: its masks become the ones COLMAP ignores features by, and its points the points.
        folder: made if it is not there.
        text: write .txt instead of .bin.
        untouched: photo files, by the names of their views, that show exactly the view.
        advance: is called after each view.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: a camera is skewed, which a COLMAP pinhole cannot be, or a name has spaces,
            which COLMAP does not read in text.
    """
    folder = Path(folder)
    _refuse_skew(scene.cameras)
    names = _file_names(scene, untouched)
    spaced = next((name for name in names if text and len(name.split()) > 1), None)
    if spaced is not None:
        raise ValueError(f"COLMAP reads no name with spaces in text: {spaced}; write it as binary.")
    _write_views(scene, folder, names, untouched, depths=False, advance=advance)
    cameras, of_view = _distinct(scene.cameras)
    poses = [camera_in_frame(c.cam_from_world, scene.source_from_world) for c in scene.cameras]
    points = _points_in_source(scene)
    model = folder / "sparse" / "0"
    make_folder(model)
    if text:
        files: Mapping[str, bytes] = _text_model(cameras, of_view, poses, names, points)
    else:
        files = _binary_model(cameras, of_view, poses, names, points)
    for name, data in files.items():
        write_bytes(model / name, data)


def write_transforms(
    scene: Scene,
    folder: str | Path,
    *,
    untouched: Mapping[str, Path] = {},
    advance: Callable[[], object] = lambda: None,
) -> None:
    """Write ``images``, ``masks``, ``depth`` and nerfstudio's ``transforms.json``.

    Depth, where the views have it, is written as 16-bit millimetres; what is farther than
    65.535 m becomes invalid. nerfstudio wants a mask for every photo or none, so a view without
    one gets a white mask, which says as little.

    Args:
        scene: its points become ``sparse_pc.ply``.
        folder: made if it is not there.
        untouched: photo files, by the names of their views, that show exactly the view.
        advance: is called after each view.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: a camera is skewed, which nerfstudio's cannot be.
    """
    folder = Path(folder)
    _refuse_skew(scene.cameras)
    names = _file_names(scene, untouched)
    written = _write_views(scene, folder, names, untouched, depths=True, advance=advance)
    has_masks = any(mask for mask, _ in written)
    frames = []
    for camera, name, (mask, depth) in zip(scene.cameras, names, written, strict=True):
        if has_masks and not mask:
            white = np.full(camera.size, 255, np.uint8)
            _write(folder / "masks" / f"{name}.png", white)
        pose = camera_in_frame(camera.cam_from_world, scene.source_from_world)
        frame: dict[str, Any] = {
            "file_path": f"images/{name}",
            "transform_matrix": np.linalg.inv(OPENCV_FROM_OPENGL @ pose).tolist(),
            **_intrinsics(camera),
        }
        if has_masks:
            frame["mask_path"] = f"masks/{name}.png"
        if depth:
            frame["depth_file_path"] = f"depth/{name}.png"
        frames.append(frame)
    content: dict[str, Any] = {"camera_model": "PINHOLE"}
    shared = _intrinsics(scene.cameras[0])
    if all(_intrinsics(camera) == shared for camera in scene.cameras):
        content |= shared
        frames = [{k: v for k, v in frame.items() if k not in shared} for frame in frames]
    scale = scale_of(scene.source_from_world)
    if not math.isclose(scale, 1, rel_tol=1e-12):
        content["applied_scale"] = scale
    if any(depth for _, depth in written):
        content["depth_unit_scale_factor"] = _MILLIMETRE
    points = _points_in_source(scene)
    if points is not None and len(points):
        assert points.colours is not None  # `_points_in_source` has seen to it
        write_points(folder / "sparse_pc.ply", points.points, points.colours)
        content["ply_file_path"] = "sparse_pc.ply"
    content["frames"] = frames
    write_text(folder / "transforms.json", json.dumps(content, indent=1) + "\n")


def _refuse_skew(cameras: Sequence[Camera]) -> None:
    for camera in cameras:
        if abs(camera.K[0, 1]) > 1e-9 * camera.K[0, 0]:
            raise ValueError(
                f"A camera has the skew {camera.K[0, 1]:g} px; neither COLMAP's pinhole nor "
                "nerfstudio's camera has one."
            )


def _file_names(scene: Scene, untouched: Mapping[str, Path]) -> list[str]:
    """The names of the photos; what must be encoded anew in a rare format becomes PNG."""
    names = [
        name if name in untouched or name.lower().endswith(_WRITABLE) else f"{name}.png"
        for name in scene.names
    ]
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"The photo {name} lies outside the photo folder; give it (--photos).")
    return names


def _write_views(
    scene: Scene,
    folder: Path,
    names: Sequence[str],
    untouched: Mapping[str, Path],
    *,
    depths: bool,
    advance: Callable[[], object],
) -> list[tuple[bool, bool]]:
    """Write photos, masks and depths; whether each view has a mask, and a depth."""
    written = []
    for index, name in enumerate(names):
        view = scene[index]
        photo = folder / "images" / name
        source = untouched.get(scene.names[index])
        if source is not None:
            make_folder(photo.parent)
            write_bytes(photo, source.read_bytes())
        else:
            _write(photo, _encodable(view, photo))
        if view.masks is not None:
            _write(folder / "masks" / f"{name}.png", _kept(view.masks))
        if depths and view.depth is not None:
            path = folder / "depth" / f"{name}.png"
            make_folder(path.parent)
            write_depth(path, _in_reach(view.depth))
        written.append((view.masks is not None, depths and view.depth is not None))
        advance()
    return written


def _encodable(view: View, path: Path) -> NDArray[Any]:
    return view.image if path.suffix.lower() == ".png" else eight_bit(view.image)


def _write(path: Path, image: NDArray[Any]) -> None:
    make_folder(path.parent)
    write_image(path, image)


def _kept(masks: MaskSet) -> NDArray[np.uint8]:
    """White where something is to be kept: in any object, in nothing to ignore."""
    covered = np.zeros(masks.size, np.float32)
    for index in range(len(masks)):
        np.maximum(covered, masks[index], out=covered)
    if masks.role == "ignore":
        covered = 1 - covered
    return np.rint(255 * covered).astype(np.uint8)


def _in_reach(depth: DepthMap) -> DepthMap:
    """What 16-bit millimetres hold; nerfstudio takes the unit of a scene for a metre."""
    return replace(depth, unit="m", valid=depth.usable & (depth.values <= _FARTHEST_M))


def _distinct(cameras: Sequence[Camera]) -> tuple[list[Camera], list[int]]:
    """The cameras that differ but for their pose, and which of them each view has."""
    numbers: dict[tuple[bytes, tuple[int, int]], int] = {}
    distinct, of_view = list[Camera](), []
    for camera in cameras:
        key = camera.K.tobytes(), camera.size
        if key not in numbers:
            numbers[key] = len(distinct)
            distinct.append(camera)
        of_view.append(numbers[key])
    return distinct, of_view


def _points_in_source(scene: Scene) -> PointCloud | None:
    """The points in the source's frame, grey if they have no colours."""
    if scene.points is None:
        return None
    moved = transform_points(scene.source_from_world, scene.points.points).astype(np.float32)
    colours = scene.points.colours
    return PointCloud(moved, np.full(moved.shape, _GREY, np.uint8) if colours is None else colours)


def _parameters(camera: Camera) -> tuple[float, float, float, float]:
    K = camera.K
    return float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2])


def _intrinsics(camera: Camera) -> dict[str, float]:
    height, width = camera.size
    named = zip(("fl_x", "fl_y", "cx", "cy"), _parameters(camera), strict=True)
    return {"w": width, "h": height, **dict(named)}


def _text_model(
    cameras: Sequence[Camera],
    of_view: Sequence[int],
    poses: Sequence[Array],
    names: Sequence[str],
    points: PointCloud | None,
) -> dict[str, bytes]:
    """The three files of a model as text; `repr` of a float is exact."""
    lines = ["# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]"]
    for number, camera in enumerate(cameras, 1):
        numbers = " ".join(map(repr, _parameters(camera)))
        lines.append(f"{number} PINHOLE {camera.size[1]} {camera.size[0]} {numbers}")
    images = ["# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME, and a line of POINTS2D[]"]
    for number, (pose, camera_index, name) in enumerate(zip(poses, of_view, names, strict=True), 1):
        numbers = " ".join(repr(float(value)) for value in _wxyz_xyz(pose))
        images += [f"{number} {numbers} {camera_index + 1} {name}", ""]
    cloud = ["# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[]"]
    if points is not None and points.colours is not None:
        rows = zip(points.points.tolist(), points.colours.tolist(), strict=True)
        for number, (xyz, rgb) in enumerate(rows, 1):
            cloud.append(f"{number} {' '.join(map(repr, xyz))} {' '.join(map(str, rgb))} -1")
    files = {"cameras.txt": lines, "images.txt": images, "points3D.txt": cloud}
    return {
        name: ("\n".join(rows) + "\n").encode("utf-8", "surrogateescape")
        for name, rows in files.items()
    }


def _binary_model(
    cameras: Sequence[Camera],
    of_view: Sequence[int],
    poses: Sequence[Array],
    names: Sequence[str],
    points: PointCloud | None,
) -> dict[str, bytes]:
    """The three files of a model."""
    heads = [
        struct.pack("<iiQQ4d", number, _PINHOLE, *camera.size[::-1], *_parameters(camera))
        for number, camera in enumerate(cameras, 1)
    ]
    images = [
        struct.pack("<I7di", number, *_wxyz_xyz(pose), camera_index + 1)
        + name.encode("utf-8", "surrogateescape")
        + b"\0"
        + struct.pack("<Q", 0)
        for number, (pose, camera_index, name) in enumerate(
            zip(poses, of_view, names, strict=True), 1
        )
    ]
    rows = np.zeros(0 if points is None else len(points), _POINT)
    if points is not None:
        rows["id"] = np.arange(1, len(points) + 1)
        rows["xyz"], rows["rgb"], rows["error"] = points.points, points.colours, -1
    return {
        "cameras.bin": struct.pack("<Q", len(heads)) + b"".join(heads),
        "images.bin": struct.pack("<Q", len(images)) + b"".join(images),
        "points3D.bin": struct.pack("<Q", len(rows)) + rows.tobytes(),
    }


# Of a point without a track.
_POINT = np.dtype(
    [("id", "<u8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8"), ("track", "<u8")]
)


def _wxyz_xyz(pose: Array) -> list[float]:
    return [*quaternion_from_matrix(pose[:3, :3]).tolist(), *pose[:3, 3].tolist()]
