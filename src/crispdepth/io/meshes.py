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

from crispdepth.io.atomic import atomic_path, write_bytes
from crispdepth.io.glb import glb
from crispdepth.io.ply import ply_colours, ply_points, ply_triangles, read_ply_rows
from crispdepth.ops.colour import linear_from_srgb
from crispdepth.types import Mesh

SUFFIXES = (".ply", ".glb", ".obj")

OPENCV_UP = (0.0, -1.0, 0.0)
"""Up in a world whose axes are those of an upright camera: y points down there."""

_FACE = np.dtype([("count", "u1"), ("corners", "<i4", 3)])


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
    if suffix == ".ply":
        _write_ply(path, mesh)
    else:
        write_bytes(path, _obj(mesh) if suffix == ".obj" else _glb(mesh, np.asarray(up, float)))


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
    rows = read_ply_rows(path)
    try:
        return Mesh(ply_points(rows), ply_triangles(rows), ply_colours(rows))
    except ValueError as error:
        raise ValueError(f"Cannot read {path} as a PLY mesh: {error}") from error


def _write_ply(path: Path, mesh: Mesh) -> None:
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
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write("\n".join(lines).encode())
        file.write(vertices.data)
        file.write(faces.data)


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
