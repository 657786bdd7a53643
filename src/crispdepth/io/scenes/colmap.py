"""COLMAP models: cameras, images and points3D, text or binary.

Poses are read from ``images``, where every version writes ``cam_from_world`` of each photo, those
with rigs and frames (3.12 and later) too; ``rigs`` and ``frames`` add nothing to it.
Formats: https://colmap.github.io/format.html
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crispdepth.geometry.rigid import matrix_from_quaternion
from crispdepth.io.atomic import read_bytes
from crispdepth.io.scenes.lens import Lens
from crispdepth.io.scenes.source import NoPhotoError, Source, SourceView
from crispdepth.types import PointCloud

PLACES = (".", "sparse/0", "sparse", "dense/sparse", "colmap/sparse/0", "colmap/sparse")
"""Where a model lies in a project's folder."""

_MODEL_FOLDERS = ("0", "sparse", "dense", "colmap")

# Model id -> name and parameters.
MODELS = {
    0: ("SIMPLE_PINHOLE", ("f", "cx", "cy")),
    1: ("PINHOLE", ("fx", "fy", "cx", "cy")),
    2: ("SIMPLE_RADIAL", ("f", "cx", "cy", "k1")),
    3: ("RADIAL", ("f", "cx", "cy", "k1", "k2")),
    4: ("OPENCV", ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2")),
    5: ("OPENCV_FISHEYE", ("fx", "fy", "cx", "cy", "k1", "k2", "k3", "k4")),
    6: ("FULL_OPENCV", ("fx", "fy", "cx", "cy", *["k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"])),
    8: ("SIMPLE_RADIAL_FISHEYE", ("f", "cx", "cy", "k1")),
    9: ("RADIAL_FISHEYE", ("f", "cx", "cy", "k1", "k2")),
}
_PARAMETERS = dict(MODELS.values())
# Models that are not read; their names make the refusal clear.
_REFUSED = {
    7: "FOV",
    10: "THIN_PRISM_FISHEYE",
    11: "RAD_TAN_THIN_PRISM_FISHEYE",
    12: "SIMPLE_DIVISION",
    13: "DIVISION",
    14: "SIMPLE_FISHEYE",
    15: "FISHEYE",
}


class _Image(NamedTuple):
    name: str
    camera: int
    wxyz: tuple[float, ...]
    t: tuple[float, ...]


class _Model(NamedTuple):
    lenses: dict[int, Lens]
    images: list[_Image]
    points: PointCloud | None


def find_model(folder: Path) -> Path | None:
    """The folder of the model in a project's folder, or None."""
    return next((folder / place for place in PLACES if _kind(folder / place)), None)


def read_colmap(folder: Path, photos: Path | None) -> Source:
    """The model in a project's folder (or the folder of the model itself).

    Args:
        folder: holds the model at one of the `PLACES`.
        photos: the folder that the names of the photos are relative to; None: the project's
            ``images``, or where else they are found.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is damaged, or a camera model is not supported.
    """
    model = find_model(folder)
    assert model is not None  # `read` has seen to it
    read = _read_binary if _kind(model) == ".bin" else _read_text
    lenses, images, points = read(model)
    if not images:
        raise ValueError(f"{model} has no registered image: its reconstruction failed.")
    root = photos or _photo_root(folder, model, images[0].name)
    rotations = matrix_from_quaternion(np.array([image.wxyz for image in images]))
    views = []
    for image, rotation in zip(images, rotations, strict=True):
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation, image.t
        views.append(SourceView(root / image.name, lenses[image.camera], pose))
    views.sort(key=lambda view: str(view.photo))
    project = (part for part in reversed(folder.resolve().parts) if part not in _MODEL_FOLDERS)
    return Source(next(project, "scene"), root, tuple(views), points=points, notes=_others(model))


def lens_of(model: str, size: tuple[int, int], parameters: tuple[float, ...]) -> Lens:
    """The lens of a COLMAP camera; ``size`` is (height, width).

    Raises:
        ValueError: the model is not supported, or has another number of parameters.
    """
    if model not in _PARAMETERS:
        raise ValueError(
            f"The camera model {model} is not supported; supported are {', '.join(_PARAMETERS)}. "
            "Undistort the photos with `colmap image_undistorter`, and give its output."
        )
    names = _PARAMETERS[model]
    if len(names) != len(parameters):
        raise ValueError(f"{model} has {len(names)} parameters, got {len(parameters)}.")
    of = dict(zip(names, parameters, strict=True))
    fisheye = "FISHEYE" in model
    order = "k1 k2 k3 k4" if fisheye else "k1 k2 p1 p2 k3 k4 k5 k6"
    return Lens(
        of.get("fx", of.get("f", 0.0)),
        of.get("fy", of.get("f", 0.0)),
        of["cx"],
        of["cy"],
        size,
        "fisheye" if fisheye else "perspective",
        tuple(of.get(name, 0.0) for name in order.split()),
    )


def _kind(folder: Path) -> str | None:
    """The suffix of the model in a folder, the binary one where both are there."""
    for suffix in (".bin", ".txt"):
        if all((folder / f"{name}{suffix}").is_file() for name in ("cameras", "images")):
            return suffix
    return None


def _photo_root(folder: Path, model: Path, name: str) -> Path:
    places = [folder, model, *list(model.resolve().parents)[:3]]
    roots = [place / sub for place in places for sub in ("images", ".")]
    root = next((root for root in roots if (root / name).is_file()), None)
    if root is None:
        raise NoPhotoError(
            f"The photos of {model} are not found: looked for {name} in "
            f"{', '.join(dict.fromkeys(str(place) for place in roots))}. Give their folder "
            "(--photos)."
        )
    return root


def _others(model: Path) -> tuple[str, ...]:
    """A note if the reconstruction fell into several models, of which one is read."""
    siblings = [
        path.name for path in sorted(model.parent.glob("[0-9]*")) if path != model and _kind(path)
    ]
    if model.name != "0" or not siblings:
        return ()
    return (
        f"the reconstruction has several models, this is {model}; others: {', '.join(siblings)}",
    )


class _Bytes:
    """The values of a binary file, one after the other."""

    def __init__(self, path: Path) -> None:
        self.path, self.data, self.at = path, read_bytes(path), 0

    def take(self, layout: str) -> tuple[float, ...]:
        """The next values; ``layout`` as in `struct`, little-endian."""
        try:
            values = struct.unpack_from(f"<{layout}", self.data, self.at)
        except struct.error as error:
            raise _damaged(self.path, f"it ends at byte {len(self.data)}") from error
        self.at += struct.calcsize(f"<{layout}")
        return values

    def word(self) -> str:
        """The next zero-terminated name."""
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise _damaged(self.path, "a name has no end")
        start, self.at = self.at, end + 1
        return self.data[start:end].decode("utf-8", "surrogateescape")


def _read_binary(model: Path) -> _Model:
    file = _Bytes(model / "cameras.bin")
    lenses: dict[int, Lens] = {}
    for _ in range(int(file.take("Q")[0])):
        number, kind, width, height = (int(value) for value in file.take("iiQQ"))
        name, parameters = MODELS.get(kind, (_REFUSED.get(kind, f"number {kind}"), ()))
        values = file.take(f"{len(parameters)}d")
        lenses[number] = _lens(file.path, number, name, (height, width), values)
    file = _Bytes(model / "images.bin")
    images = []
    for _ in range(int(file.take("Q")[0])):
        _, *pose, camera = file.take("I7di")
        name = file.word()
        (points,) = file.take("Q")
        file.at += 24 * int(points)  # x, y and the 3-D point of each
        images.append(_image(file.path, name, int(camera), pose, lenses))
    path = model / "points3D.bin"
    return _Model(lenses, images, _binary_points(path) if path.is_file() else None)


def _binary_points(path: Path) -> PointCloud:
    """Rows of different lengths: where they begin is followed, the rest is read at once."""
    data = read_bytes(path)
    head = np.dtype([("id", "<u8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8")])
    try:
        (count,) = struct.unpack_from("<Q", data)
        starts, at = np.empty(count, np.int64), 8
        for row in range(count):
            starts[row] = at
            (length,) = struct.unpack_from("<Q", data, at + head.itemsize)
            at += head.itemsize + 8 + 8 * length
    except (struct.error, MemoryError, OverflowError) as error:
        raise _damaged(path, f"it ends at byte {len(data)}") from error
    if at > len(data):
        raise _damaged(path, f"it ends at byte {len(data)}")
    rows = np.frombuffer(data, np.uint8)[starts[:, None] + np.arange(head.itemsize)]
    table = np.ascontiguousarray(rows).view(head)[:, 0]
    return _cloud(table["xyz"], table["rgb"])


def _read_text(model: Path) -> _Model:
    path = model / "cameras.txt"
    lenses: dict[int, Lens] = {}
    for line in _lines(path):
        number, name, width, height, *values = _words(path, line, 5)
        try:
            size = int(height), int(width)
            lenses[int(number)] = _lens(
                path, int(number), name, size, tuple(float(value) for value in values)
            )
        except ValueError as error:
            raise ValueError(f"{path}: {error} In the line: {line[:80]}") from error
    path = model / "images.txt"
    images = []
    # The line after each image lists its 2-D points, and is empty if it has none.
    for line in _lines(path, keep_empty=True)[::2]:
        _, *numbers, name = _words(path, line, 10)
        try:
            pose, camera = [float(number) for number in numbers[:7]], int(numbers[7])
        except ValueError as error:
            raise ValueError(f"{path}: {error} In the line: {line[:80]}") from error
        images.append(_image(path, name, camera, pose, lenses))
    path = model / "points3D.txt"
    return _Model(lenses, images, _text_points(path) if path.is_file() else None)


def _text_points(path: Path) -> PointCloud:
    rows = [line.split(None, 7)[1:7] for line in _lines(path)]
    try:
        table = np.array(rows, np.float64).reshape(len(rows), 6)
    except ValueError as error:
        raise _damaged(path, f"a line is no point: {error}") from error
    return _cloud(table[:, :3], table[:, 3:].astype(np.uint8))


def _cloud(xyz: NDArray[np.float64], rgb: NDArray[np.uint8]) -> PointCloud:
    finite = np.isfinite(xyz).all(axis=1)
    return PointCloud(xyz[finite].astype(np.float32), np.ascontiguousarray(rgb[finite]))


def _lens(
    path: Path, number: int, model: str, size: tuple[int, int], values: tuple[float, ...]
) -> Lens:
    try:
        return lens_of(model, size, values)
    except ValueError as error:
        raise ValueError(f"{path}, camera {number}: {error}") from error


def _image(
    path: Path, name: str, camera: int, pose: list[float], lenses: dict[int, Lens]
) -> _Image:
    if camera not in lenses:
        raise _damaged(path, f"{name} has the camera {camera}, which is not among the cameras")
    return _Image(name, camera, tuple(pose[:4]), tuple(pose[4:]))


def _lines(path: Path, keep_empty: bool = False) -> list[str]:
    def each() -> Iterator[str]:
        for line in read_bytes(path).decode("utf-8", "surrogateescape").splitlines():
            if not line.startswith("#") and (line.strip() or keep_empty):
                yield line

    lines = list(each())
    while lines and not lines[-1].strip():
        del lines[-1]
    return lines


def _words(path: Path, line: str, least: int) -> list[str]:
    """The words of a line; of an image's, the name, which may hold spaces, is the last."""
    words = line.split(None, 9) if least == 10 else line.split()
    if len(words) < least:
        raise _damaged(path, f"{least} words are needed in the line: {line[:80]!r}")
    return [*words[:-1], words[-1].strip()]


def _damaged(path: Path, problem: str) -> ValueError:
    return ValueError(f"{path} is damaged or no COLMAP file: {problem}.")
