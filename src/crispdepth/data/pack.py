"""Packs: the frames of a dataset in two files that training reads fast, from many processes.

``frames.bin`` holds the pixels of all frames one after the other, ``index.json`` what they mean.
A raw pack is mapped into memory, and processes that read it share that memory; a compact one holds
JPEG and PNG files instead, for the way to another machine.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.datasets.files import LazyFrames
from crispdepth.io.atomic import atomic_path, read_bytes, write_text
from crispdepth.ops.resample import shrink
from crispdepth.types import Camera, DepthMap, Float32Map

PIXELS, INDEX = "frames.bin", "index.json"
VERSION = 3
READABLE = (2, VERSION)  # version 2 had no masks
STEPS = 65535
"""Inverse depth is stored as 1 to STEPS parts of the frame's largest; 0: not measured."""

JPEG_QUALITY = 95
MAX_INSTANCES = 255

KINDS = (np.uint8, np.uint16, np.uint8, np.uint16, np.uint8)
"""Number types of the planes of a frame, see `Entry.lengths`."""

Plane = NDArray[np.uint8] | NDArray[np.uint16]


class Entry(NamedTuple):
    """One frame of a pack as its index describes it; the fields are JSON values."""

    name: str
    size: tuple[int, int]  # (height, width)
    start: int  # first byte in the file
    lengths: tuple[int, ...]  # bytes of photo, inverse depth, instances, rough, mask; 0: none
    unit: str
    nearest: float  # smallest depth, whose inverse is the largest; 0: nothing was measured
    ids: tuple[int, ...]  # what the stored numbers 1, 2, ... of the instances stand for
    camera: tuple[list[list[float]], list[list[float]]] | None  # K, cam_from_world


def pack_frames(
    frames: Iterable[RgbdFrame],
    folder: str | Path,
    *,
    longest: int | None = None,
    compact: bool = False,
) -> None:
    """Write frames into a pack; one that is there is replaced when all frames are read.

    Photos, ids and masks are kept exactly (photos of a compact pack as JPEG of quality 95), depth
    to 1/65535 of the largest inverse depth of its frame, which is also the smallest that is
    stored, rough depth to 1/65535 of its range, which alone has a meaning.
    Of more than 255 instances in a frame the smallest are dropped.

    Args:
        frames: read one at a time.
        folder: made if it does not exist.
        longest: longer side in pixels to which larger frames are shrunk; photos and masks by area
            average, depth and ids to the nearest pixel, which makes no values between two surfaces.
        compact: encode the pixels: several times smaller, and slower to read.

    Raises:
        OSError: a file cannot be written.
        ValueError: there is no frame, or ``longest`` is below 1.
    """
    if longest is not None and longest < 1:
        raise ValueError(f"longest must be 1 or more pixels, got {longest}.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    entries: list[Entry] = []
    with atomic_path(folder / PIXELS) as temporary, temporary.open("wb") as file:
        for frame in frames:
            small = _shrunk(frame, longest)
            planes, entry = _planes(small, file.tell())
            parts = [_stored(plane, compact) for plane in planes]
            for part in parts:
                file.write(part)
            entries.append(entry._replace(lengths=tuple(len(part) for part in parts)))
        if not entries:
            raise ValueError("There is no frame to pack; check the dataset folder.")
        (folder / INDEX).unlink(missing_ok=True)  # the old one does not fit the new pixels
    index = {"version": VERSION, "compact": compact, "byte_order": sys.byteorder}
    write_text(folder / INDEX, json.dumps({**index, "frames": entries}))


def open_pack(folder: str | Path) -> Sequence[RgbdFrame]:
    """The frames of a pack, decoded when they are asked for.

    Raises:
        FileNotFoundError: the folder holds no pack.
        ValueError: the pack is damaged, or of another version or kind of machine.
    """
    folder = Path(folder)
    if not is_pack(folder):
        raise FileNotFoundError(
            f"{folder} holds no pack ({INDEX} and {PIXELS}); make one with `crispdepth train pack`."
        )
    try:
        index = json.loads(read_bytes(folder / INDEX))
        if index["version"] not in READABLE or index["byte_order"] != sys.byteorder:
            raise ValueError(f"it is of version {index['version']}, {index['byte_order']} endian")
        entries = tuple(_entry(fields) for fields in index["frames"])
        end = max(entry.start + sum(entry.lengths) for entry in entries)
        if (folder / PIXELS).stat().st_size != end:
            raise ValueError(f"{PIXELS} does not have the {end} bytes that {INDEX} tells of")
        return LazyFrames(entries, _Reader(folder, bool(index["compact"])), attrgetter("name"))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"Cannot use the pack {folder}: {error}. Make it again.") from error


def is_pack(folder: str | Path) -> bool:
    """Whether a folder holds a pack."""
    return all((Path(folder) / name).is_file() for name in (INDEX, PIXELS))


class _Reader:
    """Decodes entries; every process maps the file for itself, and they share its memory."""

    def __init__(self, folder: Path, compact: bool) -> None:
        self._folder, self._compact = folder, compact

    def __getstate__(self) -> dict[str, Any]:
        return {"_folder": self._folder, "_compact": self._compact}

    @cached_property
    def _bytes(self) -> NDArray[np.uint8]:
        return np.memmap(self._folder / PIXELS, np.uint8, "r")

    def __call__(self, entry: Entry) -> RgbdFrame:
        planes: list[Any] = []
        start = entry.start
        for index, (length, dtype) in enumerate(zip(entry.lengths, KINDS, strict=True)):
            data = np.asarray(self._bytes[start : start + length])
            start += length
            if not length:
                planes.append(None)
            elif self._compact:
                planes.append(_decode(data))
            else:
                planes.append(
                    data.view(dtype).reshape((*entry.size, 3) if index == 0 else entry.size)
                )
        return _frame(entry, planes)


def _entry(fields: Sequence[Any]) -> Entry:
    name, (height, width), start, lengths, unit, nearest, ids, camera = fields
    lengths = (*lengths, 0)[: len(KINDS)]
    return Entry(name, (height, width), start, lengths, unit, nearest, tuple(ids), camera)


def _shrunk(frame: RgbdFrame, longest: int | None) -> RgbdFrame:
    """The frame with its longer side at most ``longest`` pixels long."""
    height, width = frame.depth.size
    scale = (longest or max(height, width)) / max(height, width)
    if scale >= 1:
        return frame
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp)  # the pixel under the new centre
        for old, new in zip((height, width), size, strict=True)
    )
    nearest = np.ix_(rows, columns)
    depth = frame.depth
    return RgbdFrame(
        name=frame.name,
        image=shrink(frame.image, size),
        depth=DepthMap(
            depth.values[nearest],
            depth.kind,
            depth.unit,
            depth.usable[nearest],
            depth.camera.resized(size) if depth.camera else None,
        ),
        instances=None if frame.instances is None else frame.instances[nearest],
        rough=None if frame.rough is None else shrink(frame.rough, size),
        mask=None if frame.mask is None else shrink(frame.mask, size),
    )


def _planes(frame: RgbdFrame, start: int) -> tuple[list[Plane | None], Entry]:
    """What is stored of a frame, and its entry but for the lengths."""
    depth = frame.depth
    nearest = float(depth.values[depth.usable].min()) if depth.usable.any() else 0.0
    share = np.divide(nearest, depth.values, out=np.zeros(depth.size), where=depth.usable)
    code = np.rint(share * STEPS).clip(depth.usable, STEPS).astype(np.uint16)  # valid is never 0
    numbers, ids = (None, ()) if frame.instances is None else _numbered(frame.instances)
    rough = None if frame.rough is None else _counts(frame.rough)
    planes: list[Plane | None] = [
        np.ascontiguousarray(frame.image),
        code,
        numbers,
        rough,
        frame.mask,
    ]
    camera = depth.camera
    matrices = (camera.K.tolist(), camera.cam_from_world.tolist()) if camera else None
    entry = Entry(frame.name, depth.size, start, (), depth.unit, nearest, ids, matrices)
    return planes, entry


def _numbered(instances: NDArray[np.int32]) -> tuple[NDArray[np.uint8], tuple[int, ...]]:
    """Ids as numbers from 1, 0 staying 0, and the id of each number."""
    found, inverse, counts = np.unique(instances, return_inverse=True, return_counts=True)
    largest = np.argsort(-counts, kind="stable")
    kept = np.sort(largest[found[largest] != 0][:MAX_INSTANCES])
    number = np.zeros(len(found), np.uint8)
    number[kept] = np.arange(1, len(kept) + 1)
    return number[inverse].reshape(instances.shape), tuple(found[kept].tolist())


def _counts(values: Float32Map) -> NDArray[np.uint16]:
    """A map, its range stretched to 0..STEPS."""
    low, high = float(values.min()), float(values.max())
    counts = np.rint((values - low) * np.float32(STEPS / max(high - low, 1e-12)))
    return np.asarray(counts, np.uint16)


def _frame(entry: Entry, planes: Sequence[Any]) -> RgbdFrame:
    image, code, instances, rough, mask = planes
    with np.errstate(divide="ignore", invalid="ignore"):  # 0 becomes infinite, hence invalid
        values = np.float32(entry.nearest * STEPS) / code.astype(np.float32)
    camera = None
    if entry.camera is not None:
        K, cam_from_world = (np.array(matrix) for matrix in entry.camera)
        camera = Camera(K, entry.size, cam_from_world)
    ids = np.array([0, *entry.ids], np.int32)
    return RgbdFrame(
        name=entry.name,
        image=image,
        depth=DepthMap(values, "depth", "m" if entry.unit == "m" else "relative", camera=camera),
        instances=None if instances is None else ids.take(instances, mode="clip"),
        rough=None if rough is None else rough.astype(np.float32),
        mask=mask,
    )


def _stored(plane: Plane | None, compact: bool) -> bytes:
    """A plane as it is, or a photo as JPEG and numbers as PNG; nothing for none."""
    if plane is None:
        return b""
    if not compact:
        return plane.tobytes()
    if plane.ndim == 3:
        options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        encoded, data = cv2.imencode(".jpg", plane[..., ::-1], options)
    else:
        encoded, data = cv2.imencode(".png", plane, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    assert encoded
    return data.tobytes()


def _decode(data: NDArray[np.uint8]) -> NDArray[Any]:
    plane = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if plane is None:
        raise ValueError(f"{PIXELS} of a pack holds damaged pictures; copy the pack again.")
    return cv2.cvtColor(plane, cv2.COLOR_BGR2RGB) if plane.ndim == 3 else plane
