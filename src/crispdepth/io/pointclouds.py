"""Coloured point clouds to files: PLY for programs that measure, GLB for those that show.

**PLY** (binary, little-endian): ``x y z`` float32 and ``red green blue`` uint8 (sRGB) for each
point, in the frame given, for this program OpenCV's: x right, y down, z forward.

**GLB** (glTF 2.0, one primitive of mode POINTS): the frame of that standard, x right, y up, and
z to the viewer, so y and z change sign; colours are scene-linear there, float32.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispdepth.io.atomic import write_bytes
from crispdepth.ops.colour import linear_from_srgb

SUFFIXES = (".ply", ".glb")

_PLY_POINT = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])
_FLOAT = 5126  # glTF's componentType of float32
_GLB_LIMIT = 2**32  # bytes: its lengths are uint32


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
    linear = linear_from_srgb(colours)
    buffers = [values.astype("<f4").tobytes() for values in (position, linear)]
    accessors: list[dict[str, Any]] = [
        _accessor(0, position)
        | {"min": position.min(axis=0).tolist(), "max": position.max(axis=0).tolist()},
        _accessor(1, linear),
    ]
    offsets = (0, len(buffers[0]))
    document = {
        "asset": {"version": "2.0", "generator": "crispdepth"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"mode": 0, "attributes": {"POSITION": 0, "COLOR_0": 1}}]}],
        "accessors": accessors,
        "bufferViews": [
            {"buffer": 0, "byteOffset": offset, "byteLength": len(data)}
            for offset, data in zip(offsets, buffers, strict=True)
        ],
        "buffers": [{"byteLength": sum(map(len, buffers))}],
    }
    text = json.dumps(document).encode()
    chunks = _chunk(b"JSON", text + b" " * (-len(text) % 4)) + _chunk(b"BIN\0", b"".join(buffers))
    if 12 + len(chunks) >= _GLB_LIMIT:
        raise ValueError(f"{len(points)} points are too many for GLB (4 GB); write .ply.")
    return b"glTF" + np.array([2, 12 + len(chunks)], "<u4").tobytes() + chunks


def _accessor(view: int, values: NDArray[np.float32]) -> dict[str, Any]:
    return {"bufferView": view, "componentType": _FLOAT, "count": len(values), "type": "VEC3"}


def _chunk(name: bytes, data: bytes) -> bytes:
    return np.array([len(data)], "<u4").tobytes() + name + data
