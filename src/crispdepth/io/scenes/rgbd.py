"""Captures with a depth sensor: ScanNet, 7-Scenes, TUM RGB-D and Polycam's raw export.

All are metric, and their worlds stay as they are. Depth maps are z-depth, 0 = not measured.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crispdepth.geometry.rigid import matrix_from_quaternion
from crispdepth.io.atomic import read_bytes
from crispdepth.io.scenes.lens import Lens, lens_from_matrix
from crispdepth.io.scenes.poses import (
    OPENCV_FROM_OPENGL,
    from_integer_centres,
    inverse_pose,
    read_matrix,
)
from crispdepth.io.scenes.source import DepthFile, Source, SourceView

Array = NDArray[np.float64]

MILLIMETRE = 0.001
TUM_STEP = 1 / 5000
TUM_APART_S = 0.02
"""Photo, depth and pose of TUM RGB-D belong together if their times differ by no more."""

INTRINSICS = "camera-intrinsics.txt"
"""K, 3x3, beside the photos of a 7-Scenes or TUM RGB-D folder; it need not be there."""

_KINECT = ((585.0, 0.0, 320.0), (0.0, 585.0, 240.0), (0.0, 0.0, 1.0))

# fx, fy, cx, cy (centre of the top-left pixel at (0, 0)) and k1 k2 p1 p2 k3 of the colour cameras
# https://cvg.cit.tum.de/data/datasets/rgbd-dataset/file_formats
_TUM_CAMERAS = {
    "freiburg1": ((517.3, 516.5, 318.6, 255.3), (0.2624, -0.9531, -0.0054, 0.0026, 1.1633)),
    "freiburg2": ((520.9, 521.0, 325.1, 249.7), (0.2312, -0.7849, -0.0033, -0.0001, 0.9172)),
    "freiburg3": ((535.4, 539.2, 320.1, 247.6), ()),
}
_TUM_DEFAULT = (525.0, 525.0, 319.5, 239.5)
_TUM_SIZE = (480, 640)


def read_scannet(folder: Path) -> Source:
    """A scene exported by ScanNet's ``SensReader``: ``color``, ``depth``, ``pose``, ``intrinsic``.

    The depth camera has a ``K`` of its own; depth is looked up through it for each colour pixel.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is damaged.
    """
    colour, depth = (
        read_matrix(folder / "intrinsic" / f"intrinsic_{name}.txt")[:3, :3]
        for name in ("color", "depth")
    )
    lens = lens_from_matrix(from_integer_centres(colour))
    depth_lens = lens_from_matrix(from_integer_centres(depth))
    views = []
    for photo in _numbered(folder / "color", "*.jpg", "*.png"):
        pose = folder / "pose" / f"{photo.stem}.txt"
        if not pose.is_file():
            continue
        file = folder / "depth" / f"{photo.stem}.png"
        found = DepthFile(file, MILLIMETRE, depth_lens) if file.is_file() else None
        views.append(SourceView(photo, lens, _read_pose(pose), depth=found))
    _require(views, folder, "color/*.jpg with pose/*.txt")
    return Source(folder.resolve().name, folder / "color", tuple(views), "m")


def read_sevenscenes(folder: Path) -> Source:
    """A 7-Scenes sequence: ``frame-000000.{color.png|jpg,depth.png,pose.txt}`` in one folder.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is damaged.
    """
    stated = _intrinsics(folder)
    lens = lens_from_matrix(np.array(_KINECT) if stated is None else stated, (480, 640))
    views = []
    for pose in _numbered(folder, "frame-*.pose.txt"):
        frame = pose.name.removesuffix(".pose.txt")
        photo = folder / f"{frame}.color.png"
        file = folder / f"{frame}.depth.png"
        views.append(
            SourceView(
                photo if photo.is_file() else photo.with_suffix(".jpg"),
                lens,
                _read_pose(pose),
                depth=DepthFile(file, MILLIMETRE) if file.is_file() else None,
            )
        )
    _require(views, folder, "frame-*.pose.txt")
    notes = ["colour and depth of 7-Scenes are not registered: they are some pixels apart"]
    if stated is None:
        notes.append(f"no {INTRINSICS}: the focal length is taken to be 585 px, as is usual")
    return Source(folder.resolve().name, folder, tuple(views), "m", notes=tuple(notes))


def read_tum(folder: Path) -> Source:
    """A TUM RGB-D sequence: ``rgb.txt``, ``groundtruth.txt`` and, if there, ``depth.txt``.

    Lines belong together whose times are nearest and differ by at most `TUM_APART_S`.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is damaged.
    """
    lens, note = _tum_lens(folder)
    times, photos = _time_table(folder / "rgb.txt", 1)
    pose_times, rows = _time_table(folder / "groundtruth.txt", 7)
    poses = _tum_poses(rows, folder / "groundtruth.txt")
    depth_times, depths = np.empty(0), list[list[str]]()
    if (folder / "depth.txt").is_file():
        depth_times, depths = _time_table(folder / "depth.txt", 1)
    views, lost = [], 0
    for time, (photo,) in zip(times, photos, strict=True):
        pose, depth = _nearest(pose_times, time), _nearest(depth_times, time)
        if pose is None:
            lost += 1
            continue
        found = None if depth is None else DepthFile(folder / depths[depth][0], TUM_STEP)
        views.append(SourceView(folder / photo, lens, poses[pose], depth=found))
    _require(views, folder, "lines of rgb.txt and groundtruth.txt with times of the same clock")
    notes = [note]
    if lost:
        notes.append(f"{lost} photos without a pose within {1000 * TUM_APART_S:g} ms are left out")
    root = views[0].photo.parent
    return Source(folder.resolve().name, root, tuple(views), "m", notes=tuple(notes))


def read_polycam(folder: Path) -> Source:
    """Polycam's raw export: ``keyframes/{images,cameras,depth}``, the corrected ones if there are.

    The world is ARKit's, y up, metres.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is damaged.
    """
    keyframes = folder / "keyframes"
    corrected = (keyframes / "corrected_cameras").is_dir() and (
        keyframes / "corrected_images"
    ).is_dir()
    prefix = "corrected_" if corrected else ""
    images = keyframes / f"{prefix}images"
    views = []
    for path in _numbered(keyframes / f"{prefix}cameras", "*.json"):
        try:
            facts = json.loads(read_bytes(path))
            pose = [[float(facts[f"t_{row}{column}"]) for column in range(4)] for row in range(3)]
            fx, fy, cx, cy = (float(facts[name]) for name in ("fx", "fy", "cx", "cy"))
            lens = Lens(fx, fy, cx, cy, (int(facts["height"]), int(facts["width"])))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is no Polycam camera ({error!r}): it needs fx, fy, cx, cy, width, "
                "height and t_00 to t_23."
            ) from error
        depth = keyframes / "depth" / f"{path.stem}.png"
        views.append(
            SourceView(
                _with_suffix(images / path.stem),
                lens,
                OPENCV_FROM_OPENGL @ inverse_pose(pose, str(path)),
                depth=DepthFile(depth, MILLIMETRE) if depth.is_file() else None,
            )
        )
    _require(views, folder, f"keyframes/{prefix}cameras/*.json")
    notes = () if corrected else ("poses are those of the phone, not corrected by Polycam",)
    return Source(folder.resolve().name, images, tuple(views), "m", notes=notes)


def _numbered(folder: Path, *patterns: str) -> list[Path]:
    """The files that fit, numbers in their names counting as numbers."""
    files = [path for pattern in patterns for path in folder.glob(pattern)]
    return sorted(files, key=lambda path: _natural(path.name))


def _natural(name: str) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if i % 2 else (0, part) for i, part in enumerate(parts)]


def _read_pose(path: Path) -> Array:
    return inverse_pose(read_matrix(path), str(path))


def _require(views: list[SourceView], folder: Path, what: str) -> None:
    if not views:
        raise ValueError(f"{folder} has no posed photo: looked for {what}.")


def _intrinsics(folder: Path) -> Array | None:
    path = folder / INTRINSICS
    if not path.is_file():
        return None
    try:
        return np.array(read_bytes(path).split(), np.float64).reshape(3, 3)
    except ValueError as error:
        raise ValueError(f"{path} should hold a 3x3 matrix, 9 numbers: {error}.") from error


def _tum_lens(folder: Path) -> tuple[Lens, str]:
    """The lens, and a note on where it is from."""
    stated = _intrinsics(folder)
    if stated is not None:
        return lens_from_matrix(from_integer_centres(stated)), f"K is that of {INTRINSICS}"
    camera = next((name for name in _TUM_CAMERAS if name in str(folder.resolve()).lower()), None)
    (fx, fy, cx, cy), distortion = _TUM_CAMERAS.get(camera or "", (_TUM_DEFAULT, ()))
    lens = Lens(fx, fy, cx + 0.5, cy + 0.5, _TUM_SIZE, distortion=distortion)
    if camera is None:
        return lens, (
            f"K is the Kinect's default: the folder's name has no freiburg1, 2 or 3 in it and "
            f"there is no {INTRINSICS}"
        )
    return lens, f"K and distortion are the published ones of {camera}"


def _time_table(path: Path, columns: int) -> tuple[Array, list[list[str]]]:
    """Times in seconds, ascending, and the words after each."""
    rows = []
    for line in read_bytes(path).decode("utf-8", "replace").splitlines():
        words = line.replace(",", " ").split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) <= columns:
            raise ValueError(f"{path}: a time and {columns} words are needed, got {line[:80]!r}.")
        try:
            rows.append((float(words[0]), words[1 : columns + 1]))
        except ValueError as error:
            raise ValueError(f"{path}: a line begins with its time, got {line[:80]!r}.") from error
    rows.sort(key=lambda row: row[0])
    return np.array([time for time, _ in rows]), [words for _, words in rows]


def _tum_poses(rows: list[list[str]], path: Path) -> list[Array]:
    """``cam_from_world`` of rows tx ty tz qx qy qz qw, the camera's place in the world."""
    try:
        table = np.array(rows, np.float64).reshape(len(rows), 7)
    except ValueError as error:
        raise ValueError(f"{path}: poses are tx ty tz qx qy qz qw: {error}.") from error
    lost = ~np.isfinite(table).all(axis=1)
    table[lost] = (0, 0, 0, 0, 0, 0, 1)
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    poses[:, :3, :3] = matrix_from_quaternion(table[:, [6, 3, 4, 5]]).transpose(0, 2, 1)
    poses[:, :3, 3] = -(poses[:, :3, :3] @ table[:, :3, None])[..., 0]
    poses[lost] = np.nan
    return list(poses)


def _nearest(times: Array, time: float) -> int | None:
    """The index of the nearest time if it is near enough."""
    if not times.size:
        return None
    after = int(np.searchsorted(times, time))
    around = [index for index in (after - 1, after) if 0 <= index < len(times)]
    index = min(around, key=lambda index: abs(times[index] - time))
    return index if abs(times[index] - time) <= TUM_APART_S else None


def _with_suffix(path: Path) -> Path:
    candidates: Iterator[Path] = (path.with_name(path.name + s) for s in (".jpg", ".png", ".jpeg"))
    return next((file for file in candidates if file.is_file()), path.with_name(f"{path.name}.jpg"))
