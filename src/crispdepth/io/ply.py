"""PLY files, ASCII or binary: their rows, with polygons cut into fans of triangles."""

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
    fields: list[tuple[str, str]]  # (property, NumPy type); the length of a list as "#property"

    @property
    def has_lists(self) -> bool:
        return any(field.startswith("#") for field, _ in self.fields)

    @property
    def is_polygons(self) -> bool:
        return len(self.fields) == 2 and self.has_lists


def read_ply_points(path: str | Path) -> PointCloud:
    """The vertices of a PLY file, with colours where it has red, green and blue.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no whole PLY file with vertices.
    """
    rows = read_ply_rows(path)
    return PointCloud(ply_points(rows), ply_colours(rows))


def read_ply_rows(path: str | Path) -> dict[str, NDArray[Any]]:
    """The rows of each element of a PLY file as a structured array; vertices have x, y, z.

    Polygons are cut into triangles, so of these there may be more rows than the file says.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no whole PLY file, or has lists that are neither polygons, that is
            alone in their row, nor of three.
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
    rows = dict[str, NDArray[Any]]()
    for element in elements:
        if {"vertex", "face"} <= rows.keys():
            break  # what comes after may be of any kind
        dtype = np.dtype(element.fields)
        size = element.length * dtype.itemsize
        whole = start + size <= len(data)
        table = np.frombuffer(data, dtype, element.length if whole else 0, start)
        if not whole or not _all_three(table):
            polygons = _walk(data, start, element)
            table, size = _fans(polygons, element), _bytes_of(polygons, element)
        rows[element.name] = table
        start += size
    return rows


def _ascii(text: bytes, elements: list[_Element]) -> dict[str, NDArray[Any]]:
    words, start = np.array(text.split(), np.float64), 0
    rows = dict[str, NDArray[Any]]()
    for element in elements:
        if {"vertex", "face"} <= rows.keys():
            break  # what comes after may be of any kind
        name, count, fields = element
        width = sum(3 if kind.startswith("3") else 1 for _, kind in fields)
        whole = start + count * width <= len(words)
        columns = words[start : start + count * width if whole else start].reshape(-1, width)
        table, column = np.empty(len(columns), np.dtype(fields)), 0
        for field, kind in fields:
            wide = kind.startswith("3")
            table[field] = columns[:, column : column + 3] if wide else columns[:, column]
            column += 3 if wide else 1
        used = count * width
        if not whole or not _all_three(table):
            polygons = _polygons(words, start, element)
            table, used = _fans(polygons, element), sum(len(p) + 1 for p in polygons)
        rows[name] = table
        start += used
    return rows


def _all_three(table: NDArray[Any]) -> bool:
    lengths = [table[name] for name in table.dtype.names or () if name.startswith("#")]
    return all(bool((length == 3).all()) for length in lengths)


def _refuse(element: _Element) -> ValueError:
    if element.has_lists and not element.is_polygons:
        return ValueError(f"its rows of {element.name} are not all triangles, or cut off")
    return ValueError(f"it ends before the last of its {element.length} rows of {element.name}")


def _walk(data: bytes, start: int, element: _Element) -> list[NDArray[Any]]:
    """Polygons of different sizes: only walking finds where they start."""
    if not element.is_polygons:
        raise _refuse(element)
    length, corner = (np.dtype(kind.removeprefix("3")) for _, kind in element.fields)
    polygons = []
    for _ in range(element.length):
        if start + length.itemsize > len(data):
            raise _refuse(element)
        count = int(np.frombuffer(data, length, 1, start)[0])
        start += length.itemsize
        if start + count * corner.itemsize > len(data):
            raise _refuse(element)
        polygons.append(np.frombuffer(data, corner, count, start))
        start += count * corner.itemsize
    return polygons


def _polygons(words: NDArray[np.float64], start: int, element: _Element) -> list[NDArray[Any]]:
    """`_walk` for ASCII."""
    if not element.is_polygons:
        raise _refuse(element)
    polygons = []
    for _ in range(element.length):
        end = start + 1 + int(words[start]) if start < len(words) else start + 1
        if end > len(words):
            raise _refuse(element)
        polygons.append(words[start + 1 : end])
        start = end
    return polygons


def _bytes_of(polygons: list[NDArray[Any]], element: _Element) -> int:
    length, corner = (np.dtype(kind.removeprefix("3")).itemsize for _, kind in element.fields)
    return len(polygons) * length + sum(map(len, polygons)) * corner


def _fans(polygons: list[NDArray[Any]], element: _Element) -> NDArray[Any]:
    """Triangles from the first corner of each polygon to all of its sides."""
    fans = [
        np.stack([polygon[:1].repeat(len(polygon) - 2), polygon[1:-1], polygon[2:]], axis=1)
        for polygon in polygons
        if len(polygon) > 2
    ]
    triangles = np.concatenate(fans or [np.zeros((0, 3))])
    table = np.empty(len(triangles), np.dtype(element.fields))
    (count, _), (name, _) = element.fields
    table[count], table[name] = 3, triangles
    return table


def ply_points(rows: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Positions (n, 3) of the vertices that `read_ply_rows` gave."""
    return np.stack([rows["vertex"][axis] for axis in "xyz"], axis=1).astype(np.float32)


def ply_colours(rows: dict[str, NDArray[Any]]) -> NDArray[np.uint8] | None:
    """Their colours (n, 3), sRGB; None if they have no red, green and blue."""
    names = ("red", "green", "blue")
    if not set(names) <= set(rows["vertex"].dtype.names or ()):
        return None
    return np.stack([rows["vertex"][name] for name in names], axis=1).astype(np.uint8)


def ply_triangles(rows: dict[str, NDArray[Any]]) -> NDArray[np.int32]:
    """The faces (m, 3) that `read_ply_rows` gave; none if the file has none."""
    names = rows["face"].dtype.names or () if "face" in rows else ()
    lists = [name for name in names if f"#{name}" in names]
    corners = rows["face"][lists[0]] if lists else np.zeros((0, 3))
    triangles: NDArray[np.int32] = corners.astype(np.int32)
    return triangles
