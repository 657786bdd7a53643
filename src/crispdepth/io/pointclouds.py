"""Coloured point clouds to files: PLY for programs that measure, GLB for those that show.

**PLY** (binary, little-endian): ``x y z`` float32 and ``red green blue`` uint8 (sRGB) for each
point, in the frame given, for this program OpenCV's: x right, y down, z forward.

**GLB** (glTF 2.0, one primitive of mode POINTS): the frame of that standard, x right, y up, and
z to the viewer, so y and z change sign; colours are scene-linear there, float32.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crispdepth.io.atomic import write_bytes
from crispdepth.io.glb import glb
from crispdepth.ops.colour import linear_from_srgb

SUFFIXES = (".ply", ".glb")

_PLY_POINT = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])


def write_points(path: str | Path, points: NDArray[np.float32], colours: NDArray[np.uint8]) -> None:
    """Write a point cloud, atomically; the suffix chooses PLY or GLB.

    Args:
        path: the file.
        points: (n, 3), OpenCV axes, any unit.
        colours: (n, 3), sRGB.

    Raises:
        ValueError: the suffix is neither, the shapes do not fit, there is no point, a point is
            not finite, or there are too many for GLB.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"Cannot write {path}: a point cloud is {' or '.join(SUFFIXES)}.")
    if points.ndim != 2 or points.shape[1] != 3 or points.shape != colours.shape:
        raise ValueError(
            f"Points and their colours are (n, 3) each, got {points.shape} and {colours.shape}."
        )
    if not len(points):
        raise ValueError(f"There is no point to write to {path}.")
    if not np.isfinite(points).all():
        raise ValueError(f"Points that are not finite cannot be written to {path}.")
    write_bytes(path, (_ply if path.suffix.lower() == ".ply" else _glb)(points, colours))


def _ply(points: NDArray[np.float32], colours: NDArray[np.uint8]) -> bytes:
    table = np.empty(len(points), _PLY_POINT)
    table["xyz"], table["rgb"] = points, colours
    properties = [f"property float {name}" for name in "xyz"]
    properties += [f"property uchar {name}" for name in ("red", "green", "blue")]
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    return "\n".join([*lines, *properties, "end_header\n"]).encode() + table.tobytes()


def _glb(points: NDArray[np.float32], colours: NDArray[np.uint8]) -> bytes:
    position = points * np.array([1, -1, -1], np.float32)
    return glb(0, {"POSITION": position, "COLOR_0": linear_from_srgb(colours)})
