"""TartanAir, version 1: drone flights through rendered worlds (Wang et al., IROS 2020).

The format is described in ``data_type.md`` of https://github.com/castacks/tartanair_tools:
``ENVIRONMENT/Easy/P000`` holds ``image_left/000000_left.png``,
``depth_left/000000_left_depth.npy`` (float z-depth in metres; the sky is a sphere some 10 km
away), ``seg_left/000000_left_seg.npy`` (uint8, a number for each mesh) and ``pose_left.txt``, a
line ``tx ty tz qx qy qz qw`` for each frame: world from camera, x forward, y right, z down (NED).

Images are 640 x 480 with a view of 90 degrees about their very middle, which is (320, 240) where
the centre of the top-left pixel is (0.5, 0.5).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.datasets.files import LazyFrames, camera_at, find_files, read_photo
from crispdepth.io.atomic import read_bytes
from crispdepth.io.depth_codecs import decode
from crispdepth.io.depths import read_depth

SIZE = (480, 640)
K = np.array([[320.0, 0.0, 320.0], [0.0, 320.0, 240.0], [0.0, 0.0, 1.0]])
NED_FROM_OPENCV = np.array([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])


def open_tartanair(root: str | Path) -> Sequence[RgbdFrame]:
    """The left frames of TartanAir, of one of its environments or of one trajectory.

    An instance has its mesh's number plus one, because 0 is a mesh too. The world of the cameras
    is the dataset's, its z axis down.

    Raises:
        FileNotFoundError: there is no frame below the folder.
    """
    files = find_files(root, "**/depth_left/*_left_depth.npy", "TartanAir")
    return LazyFrames(files, _read, _name)


def _name(path: Path) -> str:
    number = path.name.removesuffix("_left_depth.npy")
    return "/".join((*path.parents[1].parts[-3:], number))


def _read(path: Path) -> RgbdFrame:
    trajectory = path.parents[1]
    number = path.name.removesuffix("_left_depth.npy")
    depth = read_depth(path, kind="depth", unit="m").depth
    ids = trajectory / "seg_left" / f"{number}_left_seg.npy"
    pose = _world_from_cam(trajectory / "pose_left.txt", int(number))
    return RgbdFrame(
        name=_name(path),
        image=read_photo(trajectory / "image_left" / f"{number}_left.png"),
        depth=replace(depth, camera=camera_at(K, SIZE, pose)),
        instances=_mesh_ids(ids) if ids.is_file() else None,
    )


def _mesh_ids(path: Path) -> NDArray[np.int32]:
    return decode(read_bytes(path), str(path)).values.astype(np.int32) + np.int32(1)


def _world_from_cam(path: Path, frame: int) -> NDArray[np.float64]:
    """The pose of a frame as a 4x4 matrix, OpenCV axes on the camera's side."""
    lines = read_bytes(path).splitlines()
    words = lines[frame].split() if frame < len(lines) else []
    try:
        x, y, z, *quaternion = (float(word) for word in words)
        world_from_ned = np.eye(4)
        world_from_ned[:3, :3] = rotation(np.array(quaternion))
        world_from_ned[:3, 3] = x, y, z
    except ValueError as error:
        raise ValueError(
            f"Line {frame + 1} of {path} should be the pose `tx ty tz qx qy qz qw`: {error}."
        ) from error
    return np.asarray(world_from_ned @ NED_FROM_OPENCV, np.float64)


def rotation(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    """The (3, 3) rotation of a quaternion ``x, y, z, w``, which need not have length one.

    Raises:
        ValueError: it does not have four numbers.
    """
    *axis, w = quaternion / np.linalg.norm(quaternion)
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turned: NDArray[np.float64] = np.eye(3) + 2 * (w * cross + cross @ cross)
    return turned
