"""Pictures of every kind become upright sRGB arrays, or a clear error."""

import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, PngImagePlugin, TiffImagePlugin

from crispdepth.io import images
from crispdepth.io.images import (
    Photo,
    RawImage,
    read_header,
    read_image,
    read_raw,
    write_image,
)

LOSSLESS = ("PNG", "TIFF", "WEBP", "BMP")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def colours(channels: int, dtype: Any = np.uint8, size: tuple[int, int] = (5, 7)) -> NDArray[Any]:
    shape = (*size, channels) if channels > 1 else size
    return np.random.default_rng(1).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def pillow(image: Image.Image | NDArray[Any], kind: str, **options: Any) -> bytes:
    stream = BytesIO()
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image)
    lossless = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    image.save(stream, kind, **lossless, **options)
    return stream.getvalue()


def opencv(array: NDArray[Any], suffix: str) -> bytes:
    """A 16-bit or float file; the array has OpenCV's channel order, B G R A, reversed here."""
    if array.ndim == 3:
        array = array[..., [2, 1, 0, 3][: array.shape[2]]]
    return bytes(cv2.imencode(suffix, array)[1].tobytes())


def assert_photo(photo: Photo, rgb: NDArray[Any], alpha: NDArray[Any] | None = None) -> None:
    assert photo.rgb.dtype == rgb.dtype
    np.testing.assert_array_equal(photo.rgb, rgb)
    if alpha is None:
        assert photo.alpha is None
        return
    assert photo.alpha is not None
    assert photo.alpha.dtype == np.float32
    np.testing.assert_allclose(photo.alpha, alpha, atol=1e-6)


def threefold(grey: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(grey[..., None], 3, axis=2)


@pytest.mark.parametrize("kind", LOSSLESS)
def test_rgb_is_read_as_it_is(kind: str) -> None:
    rgb = colours(3)
    assert_photo(read_image(pillow(rgb, kind)), rgb)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_rgba_is_split_into_colours_and_alpha(kind: str) -> None:
    rgba = colours(4)
    assert_photo(read_image(pillow(rgba, kind)), rgba[..., :3], rgba[..., 3] / 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_grey_is_the_same_in_all_channels(kind: str) -> None:
    grey = colours(1)
    assert_photo(read_image(pillow(grey, kind)), threefold(grey))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_with_alpha(kind: str) -> None:
    both = colours(2)
    data = pillow(Image.fromarray(both, "LA"), kind)
    assert_photo(read_image(data), threefold(both[..., 0]), both[..., 1] / 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF"])
def test_one_bit_is_black_and_white(kind: str) -> None:
    bits = colours(1) > 100
    photo = read_image(pillow(Image.fromarray(bits), kind))
    assert_photo(photo, threefold(bits.astype(np.uint8) * np.uint8(255)))


PALETTE = np.array([[10, 20, 30], [200, 0, 7], [255, 255, 255]], np.uint8)
INDICES = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)


def palette_image() -> Image.Image:
    image = Image.fromarray(INDICES, "P")
    image.putpalette(PALETTE.tobytes())
    return image


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF"])
def test_a_palette_is_looked_up_and_its_indices_are_the_raw_numbers(kind: str) -> None:
    data = pillow(palette_image(), kind)
    assert_photo(read_image(data), PALETTE[INDICES])
    raw = read_raw(data)
    assert raw.mode == "P"
    np.testing.assert_array_equal(raw.array, INDICES)


@pytest.mark.parametrize(
    ("transparency", "alpha"), [(1, [255, 0, 255]), (b"\0\x80", [0, 128, 255])]
)
def test_a_transparent_palette_entry(transparency: int | bytes, alpha: list[int]) -> None:
    data = pillow(palette_image(), "PNG", transparency=transparency)
    assert_photo(read_image(data), PALETTE[INDICES], np.array(alpha)[INDICES] / 255)


def test_a_transparent_colour() -> None:
    rgb = PALETTE[INDICES]
    data = pillow(rgb, "PNG", transparency=(200, 0, 7))
    assert_photo(read_image(data), rgb, INDICES != 1)


def test_cmyk_without_profile_is_ink_on_white() -> None:
    cmyk = np.zeros((2, 3, 4), np.uint8)
    cmyk[0, 0, 0] = 255  # full cyan
    cmyk[1, 1, 3] = 255  # full black
    expected = np.full((2, 3, 3), 255, np.uint8)
    expected[0, 0] = 0, 255, 255
    expected[1, 1] = 0
    data = pillow(Image.fromarray(cmyk, "CMYK"), "TIFF")
    assert_photo(read_image(data), expected)
    assert read_raw(data).mode == "CMYK"


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_stay_sixteen_bits(suffix: str, channels: int) -> None:
    array = colours(channels, np.uint16)
    data = opencv(array, suffix)
    photo = read_image(data)
    if channels == 1:
        assert_photo(photo, threefold(array))
    elif channels == 3:
        assert_photo(photo, array)
    else:
        assert_photo(photo, array[..., :3], array[..., 3] / 65535)
    raw = read_raw(data)
    assert raw.mode == {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    np.testing.assert_array_equal(raw.array, array)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_other_numbers_are_read_raw_and_are_no_photo(dtype: Any) -> None:
    array = (np.arange(12).reshape(3, 4) * 3000).astype(dtype)
    data = opencv(array, ".tiff")
    raw = read_raw(data)
    assert raw.array.dtype == dtype
    np.testing.assert_array_equal(raw.array, array)
    with pytest.raises(ValueError, match=r"8 or 16 bits per channel\. Was this meant as the depth"):
        read_image(data)


def test_white_is_zero_is_turned_round() -> None:
    for dtype in (np.uint8, np.uint16):
        grey = colours(1, dtype)
        full = np.iinfo(dtype).max
        data = bytearray(pillow(grey, "TIFF"))
        tag = b"\x06\x01\x03\x00\x01\x00\x00\x00"  # PhotometricInterpretation, one SHORT
        data[data.index(tag) + 8] = 0
        assert_photo(read_image(bytes(data)), threefold(full - grey))


def oriented(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """The upright picture of each EXIF orientation."""
    turned: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, 1),
    }
    return turned[orientation](array)


def with_orientation(array: NDArray[Any], kind: str, orientation: int) -> bytes:
    if kind == "TIFF" and array.dtype == np.uint16:
        data = bytearray(opencv(array, ".tiff"))
        return add_tiff_tag(bytes(data), ExifTags.Base.Orientation, orientation)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    if array.dtype == np.uint16:
        data16 = opencv(array, ".png")
        stream = BytesIO()
        PngImagePlugin.putchunk(stream, b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
        return data16[:33] + stream.getvalue() + data16[33:]  # behind IHDR
    if kind == "TIFF":
        return pillow(array, kind, tiffinfo={274: orientation})
    return pillow(array, kind, exif=exif)


def add_tiff_tag(data: bytes, tag: int, value: int) -> bytes:
    """The same TIFF with one more SHORT tag, its directory moved to the end."""
    stream = BytesIO(data)
    directory = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
    stream.seek(directory.next)
    directory.load(stream)
    start = len(data) + len(data) % 2
    entries = int.from_bytes(data[directory.offset : directory.offset + 2], "little")
    raw = data[directory.offset + 2 : directory.offset + 2 + 12 * entries]
    new = b"".join(x.to_bytes(n, "little") for x, n in ((tag, 2), (3, 2), (1, 4), (value, 4)))
    tags = sorted([raw[i : i + 12] for i in range(0, len(raw), 12)] + [new], key=lambda t: t[1::-1])
    body = (entries + 1).to_bytes(2, "little") + b"".join(tags) + bytes(4)
    return data[:4] + start.to_bytes(4, "little") + data[8:].ljust(start - 8, b"\0") + body


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("PNG", np.uint8),
        ("PNG", np.uint16),
        ("TIFF", np.uint8),
        ("TIFF", np.uint16),
        ("WEBP", np.uint8),
    ],
)
def test_every_exif_orientation_is_applied_once(kind: str, orientation: int, dtype: Any) -> None:
    array = colours(4, dtype)
    data = with_orientation(array, kind, orientation)
    expected = oriented(array, orientation)
    photo = read_image(data)
    assert_photo(photo, expected[..., :3], expected[..., 3] / np.iinfo(dtype).max)
    np.testing.assert_array_equal(read_raw(data).array, expected)


def test_a_jpeg_is_turned_upright() -> None:
    """A photo whose left half is white, held on its right side (orientation 6: turn clockwise)."""
    array = np.zeros((16, 32, 3), np.uint8)
    array[:, :16] = 255
    rgb = read_image(with_orientation(array, "JPEG", 6)).rgb
    assert rgb.shape == (32, 16, 3)
    assert rgb[:16].min() > 250
    assert rgb[16:].max() < 5


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_broken_exif_does_not_cost_the_photo(kind: str) -> None:
    rgb = colours(3)
    assert_photo(read_image(pillow(rgb, kind, exif=b"Exif\0\0garbage")), rgb)


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped_profile() -> bytes:
    """sRGB with its red and green primaries exchanged, under another name."""
    data = srgb_profile()
    for old, new in ((b"rXYZ", b"----"), (b"gXYZ", b"rXYZ"), (b"----", b"gXYZ")):
        data = data.replace(old, new)
    return data.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("channels", [3, 4])
def test_a_foreign_profile_is_converted_to_srgb(kind: str, channels: int) -> None:
    array = colours(channels)
    photo = read_image(pillow(array, kind, icc_profile=swapped_profile()))
    np.testing.assert_allclose(photo.rgb, array[..., [1, 0, 2]], atol=2)
    if channels == 4:
        np.testing.assert_allclose(photo.alpha, array[..., 3] / 255, atol=1e-6)  # type: ignore[arg-type]


def test_sixteen_bit_colours_in_a_foreign_profile_are_converted_in_eight_bits() -> None:
    array = colours(3, np.uint16)
    data = opencv(array, ".png")
    stream = BytesIO()
    chunk = pillow(array.astype(np.uint8), "PNG", icc_profile=swapped_profile())
    start = chunk.index(b"iCCP") - 4
    stream.write(chunk[start : start + 12 + int.from_bytes(chunk[start : start + 4], "big")])
    photo = read_image(data[:33] + stream.getvalue() + data[33:])
    assert photo.rgb.dtype == np.uint8
    np.testing.assert_allclose(photo.rgb, array[..., [1, 0, 2]] >> 8, atol=2)


@pytest.mark.parametrize(
    "profile", [srgb_profile(), swapped_profile()[:300], b"garbage", swapped_profile()[::-1]]
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_an_srgb_or_broken_profile_changes_nothing(profile: bytes, mode: str) -> None:
    image = Image.fromarray(colours(3)).convert(mode)
    data = pillow(image, "TIFF", icc_profile=profile)
    assert_photo(read_image(data), np.asarray(image.convert("RGB")))


def test_a_profile_for_other_colours_than_the_files_is_ignored() -> None:
    grey = colours(1)
    assert_photo(read_image(pillow(grey, "PNG", icc_profile=swapped_profile())), threefold(grey))


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_the_first_frame_counts(kind: str) -> None:
    first, second = (Image.new("RGB", (6, 4), colour) for colour in ("red", "blue"))
    data = pillow(first, kind, save_all=True, append_images=[second])
    assert_photo(read_image(data), np.asarray(first))


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
@pytest.mark.parametrize("name", ["photo", "ünï-深度 ☃", "a" * 250])
def test_what_is_written_is_read(
    tmp_path: Path, rng: np.random.Generator, suffix: str, name: str
) -> None:
    path = tmp_path / (name + suffix)
    smooth = cv2.resize(rng.integers(0, 255, (3, 4, 3), np.uint8), (40, 30))
    for array in (smooth, smooth[..., 0]):
        write_image(path, array)
        expected = array if array.ndim == 3 else threefold(array)
        close = {".png": 0, ".webp": 0, ".jpg": 20}[suffix]
        got = read_image(path).rgb
        np.testing.assert_allclose(got.astype(int), expected.astype(int), atol=close)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_keeps_every_bit(tmp_path: Path, channels: int, dtype: Any) -> None:
    array = colours(channels, dtype)
    array.flags.writeable = False
    write_image(tmp_path / "a.png", array)
    np.testing.assert_array_equal(read_raw(tmp_path / "a.png").array, array)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("a.bmp", np.zeros((2, 2), np.uint8), "must end in"),
        ("a", np.zeros((2, 2), np.uint8), "must end in"),
        ("a.jpg", np.zeros((2, 2, 4), np.uint8), "no transparency"),
        ("a.jpg", np.zeros((2, 2), np.uint16), "must be uint8"),
        ("a.png", np.zeros((2, 2)), "float64"),
        ("a.png", np.zeros((2, 2, 2), np.uint8), r"got \(2, 2, 2\)"),
        ("a.png", np.zeros((0, 2), np.uint8), "Cannot write"),
        ("a.webp", np.zeros((1, 20000, 3), np.uint8), "Cannot write"),
    ],
)
def test_what_cannot_be_written_is_refused(
    tmp_path: Path, name: str, array: NDArray[Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_image(tmp_path / name, array)
    assert list(tmp_path.iterdir()) == []


READERS: list[Callable[..., Photo | RawImage]] = [read_image, read_raw]


@pytest.mark.parametrize("read", READERS)
def test_wrong_files_are_named(tmp_path: Path, read: Callable[..., Photo | RawImage]) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        read(tmp_path / "none.png")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        read(tmp_path)
    with pytest.raises(ValueError, match=r"empty\.png is empty"):
        read(tmp_path / "empty.png")
    with pytest.raises(ValueError, match=r"text\.jpg is not a picture; supported are JPEG, PNG"):
        read(str(tmp_path / "text.jpg"))
    with pytest.raises(ValueError, match="stdin is empty"):
        read(b"", name="stdin")


def whole_files() -> dict[str, bytes]:
    noise = colours(3, size=(24, 30))
    deep = colours(3, np.uint16, size=(24, 30))
    files = {kind: pillow(noise, kind) for kind in ("PNG", "TIFF", "WEBP", "BMP", "GIF", "JPEG")}
    files["progressive JPEG"] = pillow(noise, "JPEG", progressive=True)
    files["LZW TIFF"] = pillow(noise, "TIFF", compression="tiff_lzw")
    return files | {"16-bit PNG": opencv(deep, ".png"), "16-bit TIFF": opencv(deep, ".tiff")}


WHOLE = whole_files()


def test_damaged_metadata_is_no_warning() -> None:
    whole = opencv(colours(3, np.uint16), ".tiff")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(ValueError, match="damaged"):
            read_image(whole[: len(whole) // 2])
    assert told == []


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("name", WHOLE)
def test_a_truncated_file_is_never_filled_with_grey(
    name: str, read: Callable[..., Photo | RawImage]
) -> None:
    data = WHOLE[name]
    read(data)
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        with pytest.raises(ValueError, match=r"^it "):
            read(data[: int(share * len(data))], name="it")


def test_a_bomb_is_refused_from_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 700)
    for name, data in WHOLE.items():
        with pytest.raises(ValueError, match=rf"{name} announces 30 x 24 pixels, more than"):
            read_image(data, name)


@pytest.mark.parametrize("name", WHOLE)
def test_what_pillow_warns_of_is_read_without_a_warning(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    assert read_image(WHOLE[name]).rgb.shape == (24, 30, 3)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "16-bit PNG", "16-bit TIFF", "BMP"])
def test_pillows_own_limit_is_not_ours(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read_image(WHOLE[name]).rgb.shape == (24, 30, 3)


def changed(data: bytes, changes: list[tuple[int, int]]) -> bytes:
    copy = bytearray(data)
    for position, value in changes:
        copy[position % len(copy)] = value
    return bytes(copy)


damage = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), min_size=1, max_size=4)
small = [pillow(colours(3), kind) for kind in ("PNG", "TIFF", "WEBP", "BMP", "GIF", "JPEG")]
small += [opencv(colours(4, np.uint16), suffix) for suffix in (".png", ".tiff")]


@settings(deadline=None, max_examples=200)
@given(data=st.builds(changed, st.sampled_from(small), damage))
def test_damaged_bytes_give_a_picture_or_a_clear_error(data: bytes) -> None:
    for read in READERS:
        try:
            read(data, name="fuzz")
        except ValueError as error:
            assert str(error).startswith("fuzz")  # noqa: PT017 -- some examples still are pictures


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_header_says_what_reading_gives(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"a{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(path, exif=exif)
    header = read_header(path)
    assert header.size == read_image(path).rgb.shape[:2]
    assert (header.stored, header.orientation, header.has_alpha) == ((20, 30), orientation, False)


def test_a_header_tells_of_alpha_and_of_mistakes(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((20, 30, 4), np.uint8)).save(tmp_path / "a.png")
    assert read_header(tmp_path / "a.png").has_alpha
    (tmp_path / "b.png").write_text("text")
    with pytest.raises(ValueError, match=r"b\.png is not a picture"):
        read_header(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes()[:20])
    with pytest.raises(ValueError, match=r"c\.png is damaged"):
        read_header(tmp_path / "c.png")
    with pytest.raises(FileNotFoundError, match="No such file"):
        read_header(tmp_path / "d.png")
