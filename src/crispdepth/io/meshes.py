"""Triangle meshes as files: PLY and OBJ as they are, GLB upright.

**PLY** (binary, little-endian): ``x y z`` float32, ``red green blue`` uint8 (sRGB) if the mesh
has colours, and triangles as lists of int32. **OBJ**: text, colours behind the positions in
[0, 1], as many programs read them. Both keep the frame of the world.

**GLB** (glTF 2.0): that standard's y points up, so the world is turned to have it so; colours are
scene-linear there, float32.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispdepth.io.atomic import read_bytes, write_bytes
from crispdepth.io.glb import glb
from crispdepth.ops.colour import linear_from_srgb
from crispdepth.types import Mesh

SUFFIXES = (".ply", ".glb", ".obj")

OPENCV_UP = (0.0, -1.0, 0.0)
"""Up in a world whose axes are those of an upright camera: y points down there."""

_FACE = np.dtype([("count", "u1"), ("corners", "<i4", 3)])
_PLY_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">"}


def write_mesh(path: str | Path, mesh: Mesh, *, up: tuple[float, float, float] = OPENCV_UP) -> None:
    """Write a mesh, atomically; the suffix chooses PLY, GLB or OBJ.

    Args:
        path: the file.
        mesh: with one face at least.
        up: the direction in the world that points up; only GLB asks for it.

    Raises:
        ValueError: another suffix, no face, too many vertices for GLB, or no direction up.
        OSError: the file cannot be written.
    """
    path = Path(path)
    check_suffix(path)
    if not len(mesh.faces):
        raise ValueError(f"There is no surface to write to {path}.")
    suffix = path.suffix.lower()
    if suffix == ".glb":
        write_bytes(path, _glb(mesh, np.asarray(up, np.float64)))
    else:
        write_bytes(path, _ply(mesh) if suffix == ".ply" else _obj(mesh))


def check_suffix(path: Path) -> None:
    """Raise a ValueError if a mesh cannot be written to a file of that name."""
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"Cannot write {path}: a mesh is {', '.join(SUFFIXES)}.")


def read_mesh(path: str | Path) -> Mesh:
    """The mesh in a PLY file, ASCII or binary; polygons are cut into fans of triangles.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no PLY, is cut short, or its faces name vertices there are not.
    """
    path = Path(path)
    data = read_bytes(path)
    try:
        return _parse_ply(data)
    except (ValueError, KeyError, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"Cannot read {path} as a PLY mesh: {error}") from error


def _ply(mesh: Mesh) -> bytes:
    fields: list[tuple[Any, ...]] = [("xyz", "<f4", 3)]
    properties = [f"property float {name}" for name in "xyz"]
    if mesh.colours is not None:
        fields.append(("rgb", "u1", 3))
        properties += [f"property uchar {name}" for name in ("red", "green", "blue")]
    vertices = np.empty(len(mesh.vertices), np.dtype(fields))
    vertices["xyz"] = mesh.vertices
    if mesh.colours is not None:
        vertices["rgb"] = mesh.colours
    faces = np.empty(len(mesh.faces), _FACE)
    faces["count"], faces["corners"] = 3, mesh.faces
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(vertices)}"]
    lines += [*properties, f"element face {len(faces)}"]
    lines += ["property list uchar int vertex_indices", "end_header\n"]
    return "\n".join(lines).encode() + vertices.tobytes() + faces.tobytes()


def _obj(mesh: Mesh) -> bytes:
    columns: NDArray[Any] = mesh.vertices
    if mesh.colours is not None:
        columns = np.concatenate([mesh.vertices, mesh.colours / 255], axis=1)
    line = "v" + " %.7g" * 3 + " %.4f" * (columns.shape[1] - 3) + "\n"
    text: str = (line * len(columns)) % tuple(columns.ravel().tolist())
    corners = tuple((mesh.faces + 1).ravel().tolist())
    return (text + ("f %d %d %d\n" * len(mesh.faces)) % corners).encode()


def _glb(mesh: Mesh, up: NDArray[np.float64]) -> bytes:
    length = float(np.linalg.norm(up))
    if not 0 < length < np.inf:
        raise ValueError(f"{up.tolist()} is no direction that could point up.")
    position = mesh.vertices @ _upright(up / length).T.astype(np.float32)
    attributes = {"POSITION": position}
    if mesh.colours is not None:
        attributes["COLOR_0"] = linear_from_srgb(mesh.colours)
    return glb(4, attributes, mesh.faces.ravel().astype(np.uint32))


def _upright(up: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3): the shortest turn after which ``up`` is y; of an upside-down world, about x."""
    y = np.array([0.0, 1, 0])
    if up[1] < -1 + 1e-9:
        return np.diag([1.0, -1, -1])
    axis = np.cross(up, y)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turn: NDArray[np.float64] = np.eye(3) + cross + cross @ cross / (1 + up[1])
    return turn


def _parse_ply(data: bytes) -> Mesh:
    end = data.find(b"end_header")
    if not data.startswith(b"ply") or end < 0:
        raise ValueError("it has no PLY header.")
    start = data.index(b"\n", end) + 1
    lines = [line.split() for line in data[:end].decode("ascii").splitlines()]
    order = next(line[1] for line in lines if line[:1] == ["format"])
    elements: list[tuple[str, int, list[list[str]]]] = []
    for line in lines:
        if line[:1] == ["element"]:
            elements.append((line[1], int(line[2]), []))
        elif line[:1] == ["property"]:
            elements[-1][2].append(line[1:])
    tables: dict[str, Any] = {}
    body: Any = data[start:].split() if order == "ascii" else memoryview(data)[start:]
    for name, count, properties in elements:
        listed = any(p[0] == "list" for p in properties)
        if listed and (len(properties) != 1 or name != "face"):
            if "vertex" in tables and "face" in tables:
                break
            raise ValueError(f"lists are understood in faces only, and alone, not in {name!r}.")
        read = _ascii_table if order == "ascii" else _binary_table
        tables[name], used = read(body, count, properties, _ORDERS.get(order, ""))
        body = body[used:]
    table = tables["vertex"]
    vertices = np.stack([table[axis] for axis in "xyz"], axis=1).astype(np.float32)
    colours = None
    if "red" in table.dtype.names:
        colours = np.stack([table[c] for c in ("red", "green", "blue")], 1).astype(np.uint8)
    return Mesh(vertices, tables.get("face", np.zeros((0, 3), np.int32)), colours)


def _ascii_table(
    words: list[bytes], count: int, properties: list[list[str]], order: str
) -> tuple[Any, int]:
    if properties[0][0] == "list":
        numbers = np.array(words, np.float64).astype(np.int64)
        return _triangles(numbers, count)
    used = count * len(properties)
    values = np.array(words[:used], np.float64).reshape(count, len(properties))
    table = np.zeros(count, [(p[1], "f8") for p in properties])
    for column, p in enumerate(properties):
        table[p[1]] = values[:, column]
    return table, used


def _binary_table(
    body: memoryview, count: int, properties: list[list[str]], order: str
) -> tuple[Any, int]:
    if not order:
        raise ValueError("its format is neither ascii nor binary.")
    if properties[0][0] != "list":
        kind = np.dtype([(p[1], order + _PLY_TYPES[p[0]]) for p in properties])
        return np.frombuffer(body, kind, count), count * kind.itemsize
    length, number = (np.dtype(order + _PLY_TYPES[name]) for name in properties[0][1:3])
    kind = np.dtype([("count", length), ("corners", number, 3)])
    if len(body) >= count * kind.itemsize:
        faces = np.frombuffer(body, kind, count)
        if (faces["count"] == 3).all():
            return faces["corners"].astype(np.int32), count * kind.itemsize
    numbers, used = [], 0
    for _ in range(count):  # polygons of different sizes: only walking finds where they start
        corners = int(np.frombuffer(body, length, 1, used)[0])
        numbers += [corners, *np.frombuffer(body, number, corners, used + length.itemsize)]
        used += length.itemsize + corners * number.itemsize
    return _triangles(np.array(numbers, np.int64), count)[0], used


def _triangles(numbers: NDArray[np.int64], count: int) -> tuple[NDArray[np.int32], int]:
    """Fans of polygons given as count, corner, corner, ...; and how many numbers that took."""
    starts, used = [], 0
    for _ in range(count):
        starts.append(used)
        used += int(numbers[used]) + 1
    if used > len(numbers):
        raise ValueError("it is cut short.")
    start = np.array(starts, np.int64)
    fans = numbers[start] - 2 if count else start
    first = np.repeat(start + 1, fans)
    step = np.arange(int(fans.sum())) - np.repeat(np.cumsum(fans) - fans, fans)
    corners = np.stack([first, first + step + 1, first + step + 2], axis=1)
    return numbers[corners].astype(np.int32), used
