"""The numbers in depth files: bytes to an array and back. What they mean: `crispdepth.io.depths`.

Every format is recognised by its first bytes, so a wrong suffix does no harm.
"""

import io
import math
import re
import zipfile
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import IO, Any, NamedTuple

import numpy as np
import OpenEXR
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from crispdepth.io.images import check_pixels, is_picture, read_image, read_raw
from crispdepth.types import BoolMap, Float32Map

FORMATS = "PNG, TIFF, EXR, PFM, NPY, NPZ or COLMAP .bin"

_PFM = re.compile(rb"P([Ff])\s+(\d{1,9})\s+(\d{1,9})\s+([-+.\deE]{1,32})(?:\r\n|\s)")
_COLMAP = re.compile(rb"(\d{1,9})&(\d{1,9})&(\d{1,9})&")
_PREFIX = "crispdepth."  # of our header attributes


class Stored(NamedTuple):
    """What a depth file holds, before anybody says what it means."""

    values: NDArray[Any]  # (h, w), integers or floats as stored
    format: str  # "picture", "EXR", "PFM", "NPY", "NPZ" or "COLMAP"
    header: Mapping[str, str] = {}  # the facts that `encode_exr` or `encode_png` wrote
    visible: BoolMap | None = None  # (h, w), False where a picture is fully transparent


def decode(data: bytes, label: str) -> Stored:
    """The numbers in a depth file; ``label`` is what errors call it.

    Raises:
        ValueError: the bytes are not a whole file of one of the `FORMATS` with one depth map.
    """
    if is_picture(data):
        return _decode_picture(data, label)
    decoders = {
        b"\x76\x2f\x31\x01": _decode_exr,
        b"\x93NUMPY": _decode_npy,
        b"PK\x03\x04": _decode_npz,
        b"Pf": _decode_pfm,
        b"PF": _decode_pfm,
    }
    decoder = next((found for magic, found in decoders.items() if data.startswith(magic)), None)
    if decoder is None and _COLMAP.match(data):
        decoder = _decode_colmap
    if decoder is None:
        raise ValueError(f"{label} is not a depth file; supported are {FORMATS}.")
    try:
        return decoder(data)
    except Exception as error:  # on malformed bytes a decoder may raise anything
        raise ValueError(f"{label} cannot be read as a depth map: {error}") from error


def encode_exr(values: Float32Map, channel: str, facts: Mapping[str, str]) -> bytes:
    """A scanline EXR with one float32 channel and the facts as string attributes."""
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    header |= {_PREFIX + key: value for key, value in facts.items()}
    stream = io.BytesIO()
    with OpenEXR.File(header, {channel: np.ascontiguousarray(values)}) as file:
        file.write(stream)
    return stream.getvalue()


def encode_png(steps: NDArray[np.uint16], facts: Mapping[str, str]) -> bytes:
    """A 16-bit grey PNG with the facts as text chunks."""
    text = PngImagePlugin.PngInfo()
    for key, value in facts.items():
        text.add_text(_PREFIX + key, value)
    stream = io.BytesIO()
    # Stronger compression takes three times as long and saves a tenth.
    Image.fromarray(steps).save(stream, "PNG", pnginfo=text, compress_level=1)
    return stream.getvalue()


def encode_npy(values: Float32Map) -> bytes:
    """A NumPy file."""
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def encode_pfm(values: Float32Map) -> bytes:
    """A grey little-endian PFM, bottom row first."""
    height, width = values.shape
    return b"Pf\n%d %d\n-1.0\n" % (width, height) + values[::-1].astype("<f4").tobytes()


def _decode_picture(data: bytes, label: str) -> Stored:
    raw = read_raw(data, label)
    array = raw.array
    if raw.mode not in ("L", "LA", "RGB", "RGBA"):  # a palette or other colours
        photo = read_image(data, label)
        array = photo.rgb
        if photo.alpha is not None:
            array = np.dstack([array, np.where(photo.alpha > 0, 255, 0).astype(np.uint8)])
    has_alpha = array.ndim == 3 and array.shape[2] in (2, 4)
    try:
        values = _grey(array[..., :-1] if has_alpha else array)
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from error
    header: dict[str, str] = {}
    if data.startswith(b"\x89PNG"):
        header = _our_facts(PngImagePlugin.PngImageFile(io.BytesIO(data)).info)
    return Stored(values, "picture", header, array[..., -1] > 0 if has_alpha else None)


def _grey(array: NDArray[Any]) -> NDArray[Any]:
    """(h, w) from (h, w) or from (h, w, c) with equal channels."""
    if array.ndim == 2:
        return array
    first = array[..., 0]
    others = (array[..., channel] for channel in range(1, array.shape[2]))
    if not all(np.array_equal(first, other, equal_nan=True) for other in others):
        raise ValueError(
            "this is a coloured picture, and a colour map cannot be undone; give the depth "
            "itself, not its preview"
        )
    return first


def _our_facts(header: Mapping[Any, Any]) -> dict[str, str]:
    return {
        key.removeprefix(_PREFIX): value
        for key, value in header.items()
        if isinstance(key, str) and key.startswith(_PREFIX) and isinstance(value, str)
    }


def _decode_exr(data: bytes) -> Stored:
    # OpenEXR prints its warnings to stdout, which belongs to results; the errors below say as much.
    with redirect_stdout(io.StringIO()):
        with OpenEXR.File(io.BytesIO(data), header_only=True) as file:
            announced = len(file.parts)
            for part in file.parts:
                for window in ("dataWindow", "displayWindow"):
                    left, top, right, bottom = _corners(part.header, window)
                    check_pixels(right - left, bottom - top, "it")
        with OpenEXR.File(io.BytesIO(data), separate_channels=True) as file:
            if len(file.parts) < announced:
                raise ValueError("the EXR file is truncated or damaged")
            part, name = _depth_channel(file.parts)
            values = _in_display_window(part.header, part.channels[name].pixels)
            return Stored(values, "EXR", _our_facts(part.header))


def _depth_channel(parts: list[Any]) -> tuple[Any, str]:
    """The part and channel with the depth: Z, else R, Y or V, best in a layer named depth."""

    def preference(candidate: tuple[Any, str]) -> tuple[bool, bool, int]:
        part, name = candidate
        layer, _, base = f"{part.name()}.{name}".rpartition(".")
        return base != "Z", "depth" not in layer.lower(), "ZRYV".index(base)

    channels = [(part, name) for part in parts for name in part.channels]
    candidates = [c for c in channels if c[1].rpartition(".")[2] in ("Z", "R", "Y", "V")]
    if not candidates:
        names = ", ".join(name for _, name in channels)
        raise ValueError(f"it has the channels {names}; a depth channel is called Z, R, Y or V")
    part, name = min(candidates, key=preference)
    if name.endswith("R"):
        colours = [part.channels.get(name[:-1] + colour) for colour in "RGB"]
        _grey(np.dstack([colour.pixels for colour in colours if colour is not None]))
    return part, name


def _corners(header: Mapping[str, Any], window: str) -> tuple[int, int, int, int]:
    """left, top, right, bottom of an EXR window, the last two exclusive."""
    (left, top), (right, bottom) = header[window]
    return int(left), int(top), int(right) + 1, int(bottom) + 1


def _in_display_window(header: Mapping[str, Any], pixels: NDArray[Any]) -> Float32Map:
    """The stored pixels on the whole frame, NaN where a cropped file stores none."""
    left, top, right, bottom = _corners(header, "dataWindow")
    if np.shape(pixels) != (bottom - top, right - left) or pixels.dtype.kind not in "fu":
        raise ValueError("its depth channel is deep or subsampled; write a flat, full one")
    frame_left, frame_top, frame_right, frame_bottom = _corners(header, "displayWindow")
    frame = np.full((frame_bottom - frame_top, frame_right - frame_left), np.nan, np.float32)
    x0, x1 = max(left, frame_left), min(right, frame_right)
    y0, y1 = max(top, frame_top), min(bottom, frame_bottom)
    if x0 >= x1 or y0 >= y1:
        raise ValueError("its data window lies outside its display window")
    frame[y0 - frame_top : y1 - frame_top, x0 - frame_left : x1 - frame_left] = pixels[
        y0 - top : y1 - top, x0 - left : x1 - left
    ]
    return frame


def _decode_npy(data: bytes) -> Stored:
    return Stored(_read_npy(io.BytesIO(data)), "NPY")


def _decode_npz(data: bytes) -> Stored:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        arrays = [name for name in archive.namelist() if name.endswith(".npy")]
        if "depth.npy" in arrays:
            arrays = ["depth.npy"]
        if len(arrays) != 1:
            keys = ", ".join(name.removesuffix(".npy") for name in arrays) or "none"
            raise ValueError(f"an NPZ needs an array `depth` or a single array, found: {keys}")
        with archive.open(arrays[0]) as member:
            return Stored(_read_npy(member), "NPZ")


def _read_npy(stream: IO[bytes]) -> NDArray[Any]:
    """One plane of numbers; its header is checked before anything is allocated or unpickled."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"NPY version {version} is for structured arrays; save a plain (h, w) one")
    if version == (1, 0):
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    else:
        shape, is_fortran, dtype = np.lib.format.read_array_header_2_0(stream)
    if dtype.kind not in "fiu":
        raise ValueError(f"it holds {dtype} values; depth is numbers (float or integer)")
    plane = shape
    while len(plane) > 2 and plane[0] == 1:
        plane = plane[1:]
    if len(plane) == 3 and plane[2] == 1:
        plane = plane[:2]
    if len(plane) != 2:
        raise ValueError(f"it holds an array of shape {shape}; a depth map is (height, width)")
    height, width = plane
    check_pixels(width, height, "it")
    size = height * width * dtype.itemsize
    values = stream.read(size)
    stream.read(1)  # at its end a zip member checks its checksum
    if len(values) < size:
        raise ValueError(f"it is truncated: {len(values)} of {size} bytes of values are there")
    return np.frombuffer(values, dtype).reshape(height, width, order="F" if is_fortran else "C")


def _decode_pfm(data: bytes) -> Stored:
    """http://www.pauldebevec.com/Research/HDR/PFM/: bottom row first, scale < 0: little endian."""
    match = _PFM.match(data)
    if match is None:
        raise ValueError("its PFM header must be `Pf`, width, height and scale")
    width, height, scale = int(match[2]), int(match[3]), float(match[4])
    if scale == 0 or not math.isfinite(scale):
        raise ValueError(f"its PFM scale {scale:g} tells no byte order; it must be -1 or 1")
    channels = 3 if match[1] == b"F" else 1
    values = _floats(data, match.end(), (height, width, channels), "<f4" if scale < 0 else ">f4")
    return Stored(_grey(values)[::-1], "PFM")


def _decode_colmap(data: bytes) -> Stored:
    """COLMAP's dense map: ``width&height&channels&``, then float32, row by row per channel."""
    match = _COLMAP.match(data)
    assert match is not None  # that is how `decode` came here
    width, height, channels = (int(number) for number in match.groups())
    if channels != 1:
        raise ValueError(
            f"it has {channels} channels, like a COLMAP normal map; give one of stereo/depth_maps"
        )
    return Stored(_floats(data, match.end(), (height, width, 1), "<f4")[..., 0], "COLMAP")


def _floats(data: bytes, start: int, shape: tuple[int, int, int], dtype: str) -> NDArray[Any]:
    check_pixels(shape[1], shape[0], "it")
    needed, there = math.prod(shape) * 4, len(data) - start
    if there < needed:
        raise ValueError(f"it is truncated: {there} of {needed} bytes of values are there")
    return np.frombuffer(data, dtype, math.prod(shape), start).reshape(shape)
