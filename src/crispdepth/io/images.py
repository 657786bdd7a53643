"""Pictures: files to arrays, upright, and arrays to files."""

import io
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageCms,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from crispdepth.io.atomic import read_bytes, write_bytes
from crispdepth.types import Float32Map

MAX_PIXELS = 300_000_000
"""A file that announces more is refused before it is decoded."""

FORMATS = "JPEG, PNG, TIFF, WebP, BMP or GIF"

_TIFF = TiffImagePlugin.TiffImageFile
_PNG = PngImagePlugin.PngImageFile
_ORIENTATIONS = {  # EXIF: (transposed, step over rows, step over columns), in this order
    2: (False, 1, -1),
    3: (False, -1, -1),
    4: (False, -1, 1),
    5: (True, 1, 1),
    6: (True, 1, -1),
    7: (True, -1, -1),
    8: (True, -1, 1),
}
_PLUGINS: tuple[tuple[tuple[bytes, ...], type[ImageFile.ImageFile]], ...] = (
    ((b"\xff\xd8\xff",), JpegImagePlugin.JpegImageFile),
    ((b"\x89PNG\r\n\x1a\n",), _PNG),
    ((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _TIFF),
    ((b"RIFF",), WebPImagePlugin.WebPImageFile),
    ((b"BM",), BmpImagePlugin.BmpImageFile),
    ((b"GIF8",), GifImagePlugin.GifImageFile),
)


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo in sRGB, upright."""

    rgb: NDArray[np.uint8] | NDArray[np.uint16]  # (h, w, 3), sRGB
    alpha: Float32Map | None = None  # (h, w) in [0, 1], 1 = opaque; None: no transparency stored


class RawImage(NamedTuple):
    """The numbers a picture file stores, upright and otherwise unchanged.

    ``mode`` names the channels as Pillow does, whatever the dtype: "L" grey, "LA", "P" palette
    indices, "RGB", "RGBA", "CMYK", ... A bilevel file is "L" with 0 and 255.
    """

    array: NDArray[Any]  # (h, w) or (h, w, c); uint8, uint16, int16, int32, uint32 or float
    mode: str


class PhotoHeader(NamedTuple):
    """What is known of a photo before it is decoded."""

    size: tuple[int, int]  # (height, width), upright, as `read_image` gives it
    stored: tuple[int, int]  # (height, width) before its EXIF orientation is applied
    orientation: int  # EXIF's, 1 = upright
    has_alpha: bool


def read_image(source: str | Path | bytes, name: str = "") -> Photo:
    """The photo in a file, or in the bytes of one; ``name`` is what errors call it.

    The first frame counts. EXIF orientation is applied. Grey, palette, CMYK and bilevel become
    RGB; an embedded colour profile is converted to sRGB, and ignored if it is broken. 16-bit
    photos stay uint16, except colours in another profile: colour management has 8 bits.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a whole picture in a known format, has more than `MAX_PIXELS`, or
            does not hold 8- or 16-bit colours.
    """
    data, label = _load(source, name)
    header = _read_header(data, label)
    picture = header.picture
    managed = picture is not None and picture.mode.startswith("RGB") and _foreign_profile(picture)
    if header.deep and not managed:
        array = _decode_deep(data, header, label).array
        if array.dtype != np.uint16:
            raise ValueError(
                f"{label} holds {array.dtype} values; a photo has 8 or 16 bits per channel. "
                "Was this meant as the depth map?"
            )
        return _photo(array)
    picture = _decode_shallow(header, label)
    return _photo(_upright(_to_srgb(picture, label), _orientation(picture)))


def read_raw(source: str | Path | bytes, name: str = "") -> RawImage:
    """The stored numbers of a picture: palettes, profiles and units are left to the caller.

    The first frame counts, EXIF orientation is applied. Errors are those of `read_image`, except
    that every number type is accepted.
    """
    data, label = _load(source, name)
    header = _read_header(data, label)
    if header.deep:
        return _decode_deep(data, header, label)
    picture = _decode_shallow(header, label)
    bilevel = picture.mode == "1"
    array = np.asarray(picture.convert("L") if bilevel else picture)
    return RawImage(_upright(array, _orientation(picture)), "L" if bilevel else picture.mode)


def read_header(path: str | Path) -> PhotoHeader:
    """What the beginning of a picture file says, without decoding it.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a picture in a known format, or has more than `MAX_PIXELS`.
    """
    path = Path(path)
    if not path.is_file():
        read_bytes(path)  # raises with the reason
    with path.open("rb") as file:
        plugin = _plugin(file.read(16))
        if plugin is None:
            raise ValueError(f"{path} is not a picture; supported are {FORMATS}.")
        file.seek(0)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                picture = plugin(file)
        except Exception as error:  # on malformed bytes a decoder may raise anything
            raise ValueError(
                f"{path} is damaged or not a supported picture ({FORMATS}): {error}"
            ) from error
        width, height = picture.size
        check_pixels(width, height, str(path))
        orientation = _orientation(picture)
        upright = (
            (width, height) if _ORIENTATIONS.get(orientation, (False,))[0] else (height, width)
        )
        return PhotoHeader(upright, (height, width), orientation, picture.has_transparency_data)


def write_image(path: str | Path, array: NDArray[Any]) -> None:
    """Write a picture; the suffix chooses PNG (8 or 16 bit), JPEG or WebP (8 bit).

    Args:
        path: the file, written atomically.
        array: (h, w) grey, (h, w, 3) sRGB or (h, w, 4) sRGB and alpha; uint8 or uint16.

    Raises:
        ValueError: the suffix, shape or type cannot be written.
        OSError: the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".png", ".jpg", ".jpeg", ".webp"):
        raise ValueError(f"Cannot write {path}: the name must end in .png, .jpg or .webp.")
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] in (3, 4)):
        raise ValueError(
            f"Cannot write {path}: a picture is (h, w), (h, w, 3) or (h, w, 4), got {array.shape}."
        )
    if array.dtype != np.uint8 and not (array.dtype == np.uint16 and suffix == ".png"):
        raise ValueError(
            f"Cannot write {path}: values must be uint8 (or uint16 in .png), got {array.dtype}."
        )
    if suffix in (".jpg", ".jpeg") and array.shape[2:] == (4,):
        raise ValueError(f"Cannot write {path}: JPEG has no transparency; use .png or .webp.")
    try:
        encoded, data = cv2.imencode(suffix, _swap_red_and_blue(array))
    except cv2.error as error:
        raise ValueError(f"Cannot write {path} of shape {array.shape}: {error}") from error
    if not encoded:
        raise ValueError(f"Cannot write {path}: {suffix} cannot hold {array.shape}; use .png.")
    write_bytes(path, data.tobytes())


def is_picture(data: bytes) -> bool:
    """Whether the bytes begin like a file that `read_image` and `read_raw` know."""
    return _plugin(data) is not None


def check_pixels(width: int, height: int, label: str) -> None:
    """Refuse a size that is not positive or has more than `MAX_PIXELS` (ValueError)."""
    if min(width, height) < 1:
        raise ValueError(f"{label} announces an impossible size of {width} x {height} pixels.")
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"{label} announces {width} x {height} pixels, more than the limit of "
            f"{MAX_PIXELS // 10**6} million; make it smaller first."
        )


class _Header(NamedTuple):
    """What is known of a picture before it is decoded."""

    size: tuple[int, int]  # (width, height), pixels
    bits: int  # per channel
    channels: int
    deep: bool  # more than the 8 bits per colour that Pillow keeps, or unknown to it
    white_is_zero: bool
    picture: ImageFile.ImageFile | None  # None: a TIFF that Pillow does not know


def _load(source: str | Path | bytes, name: str) -> tuple[bytes, str]:
    if not isinstance(source, bytes):
        return read_bytes(source), name or str(source)
    label = name or "the picture"
    if not source:
        raise ValueError(f"{label} is empty (0 bytes).")
    return source, label


def _plugin(data: bytes) -> type[ImageFile.ImageFile] | None:
    return next((plugin for magic, plugin in _PLUGINS if data.startswith(magic)), None)


def _read_header(data: bytes, label: str) -> _Header:
    plugin = _plugin(data)
    if plugin is None:
        raise ValueError(f"{label} is not a picture; supported are {FORMATS}.")
    try:
        with warnings.catch_warnings():  # about metadata, which is no reason to refuse the pixels
            warnings.simplefilter("ignore", UserWarning)
            # Opened by its plugin, not by Image.open: that has a process-wide limit of its own.
            header = _tiff_header(data) if plugin is _TIFF else _plain_header(data, plugin)
    except Exception as error:  # on malformed bytes a decoder may raise anything
        raise ValueError(
            f"{label} is damaged or not a supported picture ({FORMATS}): {error}"
        ) from error
    check_pixels(*header.size, label)
    return header


def _plain_header(data: bytes, plugin: type[ImageFile.ImageFile]) -> _Header:
    picture = plugin(io.BytesIO(data))
    bits = data[24] if plugin is _PNG else 8  # in the IHDR chunk; Pillow does not tell
    return _Header(picture.size, bits, len(picture.getbands()), bits > 8, False, picture)


def _tiff_header(data: bytes) -> _Header:
    tags = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if data[2] == 43 else 8])  # 43: BigTIFF
    stream = io.BytesIO(data)
    stream.seek(tags.next)
    tags.load(stream)
    size = int(tags[TiffImagePlugin.IMAGEWIDTH]), int(tags[TiffImagePlugin.IMAGELENGTH])
    bits = max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
    channels = int(tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1))
    photometric = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION)
    if bits > 8 and channels > 1 and tags.get(TiffImagePlugin.PLANAR_CONFIGURATION) == 2:
        raise ValueError("channels of more than 8 bits must be interleaved, not planar")
    picture: ImageFile.ImageFile | None
    try:
        picture = _TIFF(io.BytesIO(data))
    except SyntaxError:
        picture = None
    # Only Pillow knows CMYK and colours that are multiplied with their alpha (tag value 1).
    plain = photometric in (0, 1, 2) and 1 not in tags.get(TiffImagePlugin.EXTRASAMPLES, ())
    deep = picture is None or (bits > 8 and plain)
    return _Header(size, bits, channels, deep, photometric == 0, picture)


def _decode_shallow(header: _Header, label: str) -> ImageFile.ImageFile:
    """Decode with Pillow, which knows every kind of picture but keeps 8 bits of a colour."""
    assert header.picture is not None  # else it is deep
    try:
        with warnings.catch_warnings():  # about a size that we have checked and accepted
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            header.picture.load()
    except Exception as error:  # on malformed bytes a decoder may raise anything
        raise ValueError(f"{label} is truncated, damaged or too large: {error}") from error
    return header.picture


def _decode_deep(data: bytes, header: _Header, label: str) -> RawImage:
    """Decode with OpenCV, which keeps 16 bits and floats."""
    try:
        array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ValueError(f"{label} is damaged or cannot be decoded: {error}") from error
    if array is None:
        raise ValueError(f"{label} is truncated, damaged or of a rare kind; save it as PNG.")
    if isinstance(header.picture, _PNG):
        # Keeping the numbers unchanged, OpenCV applies the orientation of TIFF but not of PNG.
        array = _upright(array, _orientation(header.picture))
    elif array.dtype.itemsize * 8 < header.bits or array[0, 0].size != header.channels:
        raise ValueError(
            f"{label} has {header.channels} channels of {header.bits} bits, a kind of TIFF that "
            "cannot be read without loss; save it as PNG."
        )
    if header.white_is_zero and array.dtype == np.uint16:
        array = np.iinfo(np.uint16).max - array
    mode = "L" if array.ndim == 2 else {3: "RGB", 4: "RGBA"}[array.shape[2]]
    return RawImage(_swap_red_and_blue(array), mode)


def _orientation(picture: ImageFile.ImageFile) -> int:
    """The EXIF orientation still to be applied, 1 to 8; Pillow itself turns TIFF when loading."""
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken metadata is no reason to refuse sound pixels
        return 1


def _upright(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Apply an EXIF orientation."""
    transposed, rows, columns = _ORIENTATIONS.get(orientation, (False, 1, 1))
    if transposed:
        array = array.swapaxes(0, 1)
    return np.ascontiguousarray(array[::rows, ::columns])


def _swap_red_and_blue(array: NDArray[Any]) -> NDArray[Any]:
    """OpenCV's channel order to everybody else's, and back."""
    if array.ndim == 2:
        return array
    return np.ascontiguousarray(array[..., [2, 1, 0, 3][: array.shape[2]]])


def _photo(array: NDArray[Any]) -> Photo:
    """Split (h, w), (h, w, 3) or (h, w, 4) integers into colours and alpha."""
    if array.ndim == 2:
        return Photo(np.repeat(array[..., None], 3, axis=2))
    if array.shape[2] == 3:
        return Photo(array)
    full = np.float32(np.iinfo(array.dtype).max)
    return Photo(np.ascontiguousarray(array[..., :3]), array[..., 3].astype(np.float32) / full)


def _to_srgb(picture: ImageFile.ImageFile, label: str) -> NDArray[np.uint8]:
    """A decoded picture as (h, w, 3) or, with transparency, (h, w, 4) sRGB."""
    has_alpha = picture.has_transparency_data
    try:
        plain = picture.convert("RGBA" if has_alpha else "RGB")
    except ValueError as error:
        raise ValueError(f"{label} has colours of kind {picture.mode}; save it as RGB.") from error
    colours, profile = plain.convert("RGB"), _foreign_profile(picture)
    if profile is not None:
        stored = {"CMYK": picture, "L": colours.getchannel(0), "RGB": colours}[_space(picture)]
        with suppress(ImageCms.PyCMSError):  # a broken profile: the plain conversion stands
            converted = ImageCms.profileToProfile(
                stored, profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
            colours = converted or colours
    if has_alpha:
        colours.putalpha(plain.getchannel("A"))
    return np.asarray(colours)


def _foreign_profile(picture: ImageFile.ImageFile) -> ImageCms.ImageCmsProfile | None:
    """The embedded profile, unless it is sRGB, broken or for other colours than the picture's."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(picture.info["icc_profile"]))
        description = ImageCms.getProfileDescription(profile)
    except (KeyError, TypeError, OSError, ImageCms.PyCMSError):
        return None
    space = profile.profile.xcolor_space.strip().replace("GRAY", "L")
    return profile if "sRGB" not in description and space == _space(picture) else None


def _space(picture: ImageFile.ImageFile) -> str:
    """The colour space of the stored numbers as a Pillow mode."""
    return {"1": "L", "L": "L", "LA": "L", "I;16": "L", "CMYK": "CMYK"}.get(picture.mode, "RGB")
