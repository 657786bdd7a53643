"""Rows and points of PLY files, ASCII or binary; for meshes see `crispdepth.io.meshes`."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crispdepth.io.atomic import read_bytes
from crispdepth.types import PointCloud

_TYPES = {
    "char": "i1",
    "uchar": "u1",
    "short": "i2",
    "ushort": "u2",
    "int": "i4",
    "uint": "u4",
    "float": "f4",
    "double": "f8",
    "int8": "i1",
    "uint8": "u1",
    "int16": "i2",
    "uint16": "u2",
    "int32": "i4",
    "uint32": "u4",
    "float32": "f4",
    "float64": "f8",
}
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}


class _Element(NamedTuple):
    """A kind of row that the header announces, lists taken to hold three numbers each."""

    name: str
    length: int  # rows
    fields: list[tuple[str, str]]  # (property, NumPy type)


def read_ply_points(path: str | Path) -> PointCloud:
    """The vertices of a PLY file, with colours where it has red, green and blue.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no whole PLY file with vertices.
    """
    rows = read_ply_rows(path)
    return PointCloud(_points(rows["vertex"]), _colours(rows["vertex"]))


def read_ply_rows(path: str | Path) -> dict[str, NDArray[Any]]:
    """The rows of each element of a PLY file as a structured array; vertices have x, y, z.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no whole PLY file, or has lists that are not of three.
    """
    path = Path(path)
    data = read_bytes(path)
    try:
        order, elements, start = _header(data)
        rows = _binary(data, start, order, elements) if order else _ascii(data[start:], elements)
        if not {"x", "y", "z"} <= set(rows["vertex"].dtype.names or ()):
            raise ValueError("its vertices have no x, y, z")
        return rows
    except (KeyError, IndexError, ValueError) as error:
        problem = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path} cannot be read as PLY: {problem}.") from error


def _header(data: bytes) -> tuple[str, list[_Element], int]:
    """Byte order ("" for ASCII), the elements, and where the rows begin."""
    end = data.find(b"end_header")
    if not data.startswith(b"ply") or end < 0:
        raise ValueError("it has no PLY header")
    start = data.index(b"\n", end) + 1
    order, elements = "", list[_Element]()
    for line in data[:end].decode("ascii", "replace").splitlines()[1:]:
        words = line.split()
        match words[:1]:
            case ["format"]:
                order = _ORDERS[words[1]]
            case ["element"]:
                elements.append(_Element(words[1], int(words[2]), []))
            case ["property"] if words[1] == "list":
                fields = elements[-1].fields
                fields.append((f"#{words[4]}", order + _TYPES[words[2]]))
                fields.append((words[4], f"3{order}{_TYPES[words[3]]}"))
            case ["property"]:
                elements[-1].fields.append((words[2], order + _TYPES[words[1]]))
    return order, elements, start


def _binary(
    data: bytes, start: int, order: str, elements: list[_Element]
) -> dict[str, NDArray[Any]]:
    rows = {}
    for name, count, fields in elements:
        dtype = np.dtype(fields)
        if len(data) < start + count * dtype.itemsize and not _has_lists(fields):
            raise ValueError(f"it ends before the last of its {count} rows of {name}")
        try:
            rows[name] = np.frombuffer(data, dtype, count, start)
        except ValueError as error:
            raise ValueError(f"its rows of {name} are not all triangles, or cut off") from error
        _check_lists(rows[name], name)
        start += count * dtype.itemsize
    return rows


def _ascii(text: bytes, elements: list[_Element]) -> dict[str, NDArray[Any]]:
    words, start = np.array(text.split(), np.float64), 0
    rows = {}
    for name, count, fields in elements:
        dtype = np.dtype(fields)
        width = sum(3 if kind.startswith("3") else 1 for _, kind in fields)
        table = words[start : start + count * width]
        if len(table) < count * width:
            raise ValueError(f"it ends before the last of its {count} rows of {name}")
        rows[name] = np.empty(count, dtype)
        columns, column = table.reshape(count, width), 0
        for field, kind in fields:
            wide = kind.startswith("3")
            rows[name][field] = columns[:, column : column + 3] if wide else columns[:, column]
            column += 3 if wide else 1
        _check_lists(rows[name], name)
        start += count * width
    return rows


def _has_lists(fields: list[tuple[str, str]]) -> bool:
    return any(field.startswith("#") for field, _ in fields)


def _check_lists(rows: NDArray[Any], name: str) -> None:
    for field in rows.dtype.names or ():
        if field.startswith("#") and not (rows[field] == 3).all():
            raise ValueError(f"its rows of {name} are not all triangles; triangulate them")


def _points(vertices: NDArray[Any]) -> NDArray[np.float32]:
    return np.stack([vertices[axis] for axis in "xyz"], axis=1).astype(np.float32)


def _colours(vertices: NDArray[Any]) -> NDArray[np.uint8] | None:
    names = ("red", "green", "blue")
    if not set(names) <= set(vertices.dtype.names or ()):
        return None
    return np.stack([vertices[name] for name in names], axis=1).astype(np.uint8)
