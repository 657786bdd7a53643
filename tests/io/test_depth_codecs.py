"""Bytes to numbers: which channel, which order of rows, and what is refused."""

import zipfile
from collections.abc import Callable
from io import BytesIO
from typing import Any

import cv2
import numpy as np
import OpenEXR
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from crispdepth.io import images
from crispdepth.io.depth_codecs import (
    decode,
    encode_exr,
    encode_npy,
    encode_pfm,
    encode_png,
)

DEPTH = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
OTHER = np.full_like(DEPTH, 7)


def exr(*parts: tuple[str, dict[str, NDArray[Any]]], **header: Any) -> bytes:
    stream = BytesIO()
    header = {"type": OpenEXR.scanlineimage, **header}
    written = [OpenEXR.Part(dict(header), channels, name) for name, channels in parts]
    with OpenEXR.File(written) as file:
        file.write(stream)
    return stream.getvalue()


def window(left: int, top: int, right: int, bottom: int) -> Any:
    return np.array([left, top], np.int32), np.array([right, bottom], np.int32)


def picture(array: NDArray[Any], suffix: str = ".png") -> bytes:
    return bytes(cv2.imencode(suffix, array)[1].tobytes())


def npz(**named: NDArray[Any]) -> bytes:
    stream = BytesIO()
    np.savez_compressed(stream, **named)  # type: ignore[arg-type]
    return stream.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        exr(("", {"Z": DEPTH})),
        exr(("", {"R": DEPTH})),
        exr(("", {"Y": DEPTH})),
        exr(("", {"V": DEPTH})),
        exr(("", {"Z": DEPTH, "R": OTHER, "G": OTHER, "B": OTHER, "A": OTHER})),
        exr(("", {"R": DEPTH, "G": DEPTH, "B": DEPTH})),
        exr(("", {"ViewLayer.Depth.Z": DEPTH, "ViewLayer.Combined.R": OTHER})),
        exr(("", {"Depth.V": DEPTH, "Combined.R": OTHER, "Combined.G": OTHER})),
        exr(("beauty", {"R": OTHER, "G": OTHER, "B": OTHER}), ("depth", {"V": DEPTH})),
        exr(("beauty", {"R": OTHER, "G": OTHER}), ("data", {"Z": DEPTH}), ("back", {"Z": OTHER})),
        exr(("", {"Z": DEPTH.astype(np.float16)})),
        exr(("", {"Z": DEPTH.astype(np.uint32)})),
        encode_exr(DEPTH, "Z", {}),
        encode_exr(np.asfortranarray(DEPTH), "Y", {"kind": "inverse_depth"}),
    ],
)
def test_the_depth_channel_of_an_exr_is_found(data: bytes) -> None:
    stored = decode(data, "a.exr")
    assert stored.format == "EXR"
    np.testing.assert_array_equal(stored.values, DEPTH)


def test_a_cropped_exr_lies_where_it_belongs_in_its_frame() -> None:
    data = exr(("", {"Z": DEPTH}), dataWindow=window(2, -1, 5, 1), displayWindow=window(0, 0, 4, 5))
    expected = np.full((6, 5), np.nan, np.float32)
    expected[:2, 2:] = DEPTH[1:, :3]
    np.testing.assert_array_equal(decode(data, "a.exr").values, expected)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (exr(("", {"R": DEPTH, "G": OTHER, "B": DEPTH})), "colour"),
        (exr(("", {"A": DEPTH, "ZBack": DEPTH})), "Z, R, Y or V"),
        (exr(("", {"Z": DEPTH}), displayWindow=window(9, 9, 10, 10)), "outside"),
    ],
)
def test_an_exr_without_one_depth_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=rf"a\.exr.*{message}"):
        decode(data, "a.exr")


def test_header_facts_come_back_and_those_of_others_do_not() -> None:
    facts = {"kind": "depth", "camera": '{"K": [1]}', "photo": "深"}
    assert decode(encode_exr(DEPTH, "Z", facts), "a").header == facts
    assert decode(encode_png(DEPTH.astype(np.uint16), facts), "a").header == facts
    assert decode(exr(("", {"Z": DEPTH}), comments="kind"), "a").header == {}


def test_our_png_is_16_bit_grey() -> None:
    steps = np.array([[0, 1, 256], [65535, 7, 8]], np.uint16)
    data = encode_png(steps, {})
    assert data[24:26] == bytes([16, 0])  # IHDR: bit depth, colour type
    np.testing.assert_array_equal(decode(data, "a").values, steps)


@pytest.mark.parametrize("endianness", ["<", ">"])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b" "])
@pytest.mark.parametrize("channels", [1, 3])
def test_pfm_is_bottom_up_in_the_byte_order_of_its_scale(
    endianness: str, line_end: bytes, channels: int
) -> None:
    magic = b"Pf" if channels == 1 else b"PF"
    scale = b"-1" if endianness == "<" else b"1.0"
    pixels = np.repeat(DEPTH[::-1, :, None], channels, axis=2).astype(endianness + "f4")
    data = line_end.join([magic, b"4 3", scale, pixels.tobytes()])
    np.testing.assert_array_equal(decode(data, "a.pfm").values, DEPTH)


def test_our_pfm_is_what_another_reader_reads() -> None:
    with Image.open(BytesIO(encode_pfm(DEPTH))) as image:
        np.testing.assert_array_equal(np.asarray(image), DEPTH)


def test_colmap_counts_the_column_fastest() -> None:
    """Written as by COLMAP's own scripts: transposed to (w, h, c), in column-major order."""
    body = np.transpose(DEPTH[..., None], (1, 0, 2)).reshape(-1, order="F").astype("<f4").tobytes()
    np.testing.assert_array_equal(decode(b"4&3&1&" + body, "a.bin").values, DEPTH)


GREY = np.array([[0, 90, 255], [1, 2, 3]], np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_grey_in_equal_channels_is_grey_and_transparent_is_not_visible(
    dtype: type[np.unsignedinteger[Any]], suffix: str, channels: int
) -> None:
    grey = GREY.astype(dtype)
    alpha = (grey > 0).astype(dtype) * np.iinfo(dtype).max
    array = np.dstack([grey, grey, grey, alpha])[..., :channels]
    stored = decode(picture(array, suffix), "a")
    np.testing.assert_array_equal(stored.values, grey)
    assert stored.values.dtype == dtype
    if channels == 4:
        np.testing.assert_array_equal(stored.visible, grey > 0)
    else:
        assert stored.visible is None


def test_a_grey_palette_is_looked_up() -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 0]], np.uint8), "P")
    image.putpalette([200, 200, 200, 9, 9, 9, 30, 30, 30])
    stream = BytesIO()
    image.save(stream, "PNG")
    np.testing.assert_array_equal(decode(stream.getvalue(), "a").values, [[200, 9], [30, 200]])


OBJECTS = np.array([[1, None]], object)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (picture(np.dstack([GREY, GREY, GREY + 1])), "colour map cannot be undone"),
        (b"Pf\n2 2\n-1\n" + bytes(15), "truncated: 15 of 16 bytes"),
        (b"Pf\n2 2\n0\n" + bytes(16), "byte order"),
        (b"Pf\n2 2\nnan\n" + bytes(16), "header must be"),
        (b"Pf\n0 2\n-1\n", "impossible size"),
        (b"PF\n1 1\n-1\n" + np.array([1, 2, 3], "<f4").tobytes(), "coloured"),
        (b"2&2&1&" + bytes(15), "truncated: 15 of 16 bytes"),
        (b"2&2&3&" + bytes(48), "normal map"),
        (encode_npy(OBJECTS), "object values"),
        (encode_npy(DEPTH + 1j), "complex"),  # type: ignore[arg-type]
        (encode_npy(DEPTH > 3), "bool"),  # type: ignore[arg-type]
        (encode_npy(np.array([["near"]])), "values; depth is numbers"),
        (encode_npy(np.ones(5, np.float32)), r"shape \(5,\)"),
        (encode_npy(np.ones((2, 5, 5), np.float32)), r"shape \(2, 5, 5\)"),
        (encode_npy(np.ones((5, 5, 3), np.float32)), r"shape \(5, 5, 3\)"),
        (encode_npy(np.ones((0, 5), np.float32)), "impossible size"),
        (encode_npy(np.ones((3, 5), "f4,f4")), "values; depth is numbers"),
        (npz(a=DEPTH, b=DEPTH), "found: a, b"),
        (npz(), "is not a depth file|found: none"),
        (npz(depth=OBJECTS), "object values"),
        (b"\x89HDF\r\n\x1a\n", "is not a depth file; supported are PNG"),
    ],
)
def test_what_is_no_depth_map_is_refused_with_the_reason(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        decode(data, "label")
    assert str(caught.value).startswith("label")


def announcing(shape: tuple[int, int]) -> bytes:
    """An NPY whose header promises more than is there."""
    stream = BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"Pf\n99999 99999\n-1\n",
        b"99999&99999&1&",
        announcing((99999, 99999)),
        exr(("", {"Z": np.ones((1, 2), np.float32)}), displayWindow=window(0, 0, 99999, 99999)),
    ],
)
def test_a_bomb_is_refused_before_it_is_unpacked(data: bytes) -> None:
    with pytest.raises(ValueError, match="more than the limit of 300 million"):
        decode(data, "a")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 99)
    with pytest.raises(ValueError, match="10 x 10 pixels, more than the limit"):
        decode(npz(depth=np.zeros((10, 10))), "a")


def test_a_damaged_zip_member_is_noticed() -> None:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("depth.npy", encode_npy(DEPTH))
    data = bytearray(stream.getvalue())
    data[data.index(DEPTH.tobytes()) + 3] ^= 1
    with pytest.raises(ValueError, match="CRC"):
        decode(bytes(data), "a.npz")


WHOLE = {
    "png": encode_png(DEPTH.astype(np.uint16), {"kind": "depth"}),
    "tiff": picture(DEPTH, ".tiff"),
    "exr": encode_exr(DEPTH, "Z", {"kind": "depth"}),
    "two-part exr": exr(("a", {"Z": DEPTH}), ("b", {"Z": DEPTH})),
    "npy": encode_npy(DEPTH),
    "npz": npz(depth=DEPTH),
    "pfm": encode_pfm(DEPTH),
    "colmap": b"4&3&1&" + DEPTH.tobytes(),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_cut_anywhere_is_refused_by_its_name(name: str) -> None:
    data = WHOLE[name]
    np.testing.assert_array_equal(decode(data, "whole").values, DEPTH)
    for cut in {*range(0, len(data) - 16, 7), len(data) - 17}:
        with pytest.raises(ValueError, match=r"^it is cut"):
            decode(data[:cut], "it is cut")


def changed(data: bytes, changes: list[tuple[int, int]]) -> bytes:
    copy = bytearray(data)
    for position, value in changes:
        copy[position % len(copy)] = value
    return bytes(copy)


damage = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4)


@settings(deadline=None, max_examples=150)
@given(data=st.builds(changed, st.sampled_from(sorted(WHOLE.values())), damage))
@example(b"")
def test_damaged_bytes_give_a_map_or_a_clear_error(data: bytes) -> None:
    check_fuzz(lambda: decode(data, "fuzz"))


@settings(deadline=None, max_examples=150)
@given(
    magic=st.sampled_from([data[:cut] for data in WHOLE.values() for cut in (4, 12)]),
    rest=st.binary(max_size=200),
)
def test_random_bytes_give_a_map_or_a_clear_error(magic: bytes, rest: bytes) -> None:
    check_fuzz(lambda: decode(magic + rest, "fuzz"))


def check_fuzz(read: Callable[[], Any]) -> None:
    try:
        assert read().values.ndim == 2
    except ValueError as error:
        assert str(error).startswith("fuzz")  # noqa: PT017 -- most examples raise, some do not


def test_a_damaged_exr_is_an_error_and_nothing_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = exr(("", {"Z": np.random.default_rng(0).random((24, 32), np.float32)}))
    with pytest.raises(ValueError, match=r"a\.exr .* truncated or damaged"):
        decode(whole[: len(whole) // 2], "a.exr")
    assert capsys.readouterr() == ("", "")
