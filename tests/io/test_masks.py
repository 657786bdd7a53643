import io
import tracemalloc
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from crispdepth.io.masks import Layout, masks_from_alpha, read_masks
from crispdepth.types import MaskRole, MaskSet

WHITES: tuple[Literal["keep", "ignore"], ...] = ("keep", "ignore")
SOFT = np.array([[0, 3, 40, 128, 128], [254, 255, 255, 9, 7], [0, 0, 0, 1, 0]], np.uint8)
LABELS = np.array([[0, 1, 1, 1, 1], [0, 2, 2, 7, 0], [0, 0, 2, 7, 7]], np.uint8)

same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def save(path: Path, array: NDArray[Any], palette: Sequence[int] = ()) -> Path:
    """Write a picture as it is; a palette of RGB triples makes it a palette picture."""
    picture = Image.fromarray(array)
    if palette:
        picture.putpalette(palette)
    picture.save(path)
    return path


def values(path: Path, layout: Layout = "auto") -> NDArray[Any]:
    """The stored numbers of the only mask of a file."""
    (mask,) = read_masks([path], layout=layout).masks.values
    return np.asarray(mask)


def expect_labels(masks: MaskSet, names: Sequence[str], ids: Sequence[int]) -> None:
    assert masks.names == tuple(names)
    np.testing.assert_array_equal(masks.values, [255 * (i == LABELS) for i in ids])


@same_folder
@given(seed=st.integers(0, 10**6), deep=st.booleans(), role=st.sampled_from(get_args(MaskRole)))
def test_soft_masks_come_back_bit_for_bit_and_inverted_exactly(
    tmp_path: Path, seed: int, deep: bool, role: MaskRole
) -> None:
    dtype, full = (np.uint16, 65535) if deep else (np.uint8, 255)
    stored = np.random.default_rng(seed).integers(0, full + 1, (5, 7)).astype(dtype)
    stored[0, 0] = full  # a soft mask reaches full coverage somewhere
    path = save(tmp_path / "mask.png", stored)
    for white in WHITES:
        for invert in (False, True):
            read = read_masks([path], role=role, white=white, invert=invert)
            flipped = ((white == "keep") != (role == "object")) != invert
            assert read.masks.values.dtype == dtype
            assert (read.masks.role, read.masks.names, read.notes) == (role, ("mask0",), ())
            np.testing.assert_array_equal(
                read.masks.values[0], full - stored if flipped else stored
            )


@pytest.mark.parametrize("suffix", ["png", "tiff", "webp", "bmp"])
def test_lossless_formats_agree(tmp_path: Path, suffix: str) -> None:
    colours = np.repeat(SOFT[..., None], 3, axis=2)
    picture = Image.fromarray(colours)
    picture.save(tmp_path / f"mask.{suffix}", lossless=True)
    np.testing.assert_array_equal(values(tmp_path / f"mask.{suffix}"), SOFT)


def test_grey_colours_are_grey_in_every_kind_of_picture(tmp_path: Path) -> None:
    ramp = [level for i in range(256) for level in (255 - i,) * 3]  # a palette may be any order
    for path in (
        save(tmp_path / "grey.png", SOFT),
        save(tmp_path / "rgb.png", np.repeat(SOFT[..., None], 3, axis=2)),
        save(tmp_path / "palette.png", 255 - SOFT, ramp),
        save(tmp_path / "opaque.png", np.dstack([SOFT, SOFT, SOFT, np.full_like(SOFT, 255)])),
        save(tmp_path / "opaque_grey.png", np.dstack([SOFT, np.full_like(SOFT, 255)])),
    ):
        np.testing.assert_array_equal(values(path), SOFT, err_msg=path.name)


def test_a_jpeg_mask_keeps_its_noise(tmp_path: Path) -> None:
    disk = (np.hypot(*np.ogrid[-20:20, -20:20]) < 12).astype(np.uint8) * np.uint8(255)
    Image.fromarray(disk).save(tmp_path / "mask.jpg", quality=90)
    np.testing.assert_array_equal(
        values(tmp_path / "mask.jpg"), np.asarray(Image.open(tmp_path / "mask.jpg"))
    )


def test_alpha_that_varies_is_the_mask(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (*SOFT.shape, 3)).astype(np.uint8)
    for path in (
        save(tmp_path / "rgba.png", np.dstack([colours, SOFT])),
        save(tmp_path / "rgba.webp", np.dstack([colours, SOFT])),
        save(tmp_path / "grey.png", np.dstack([colours[..., 0], SOFT])),
    ):
        if path.suffix == ".webp":
            Image.fromarray(np.dstack([colours, SOFT])).save(path, lossless=True, exact=True)
        np.testing.assert_array_equal(values(path), SOFT, err_msg=path.name)


def test_faint_alpha_is_no_label_map(tmp_path: Path) -> None:
    faint = SOFT // 4
    path = save(tmp_path / "glass.png", np.dstack([SOFT, SOFT, SOFT, faint]))
    np.testing.assert_array_equal(values(path), faint)


@pytest.mark.parametrize("level", [1, 2, 38, 127])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_two_values_below_half_are_black_and_white(
    tmp_path: Path, level: int, dtype: type[np.generic]
) -> None:
    binary = (SOFT > 100).astype(np.uint8)
    np.save(tmp_path / "mask.npy", (binary * level).astype(dtype))
    np.testing.assert_array_equal(values(tmp_path / "mask.npy"), 255 * binary)


def test_bilevel_pictures_and_bool_arrays_are_black_and_white(tmp_path: Path) -> None:
    binary = SOFT > 100
    save(tmp_path / "mask.png", binary)
    np.save(tmp_path / "mask.npy", binary)
    for name in ("mask.png", "mask.npy"):
        np.testing.assert_array_equal(values(tmp_path / name), 255 * binary)


def test_a_mask_of_zeros_and_ones_is_black_and_white_even_if_called_soft(tmp_path: Path) -> None:
    binary = (SOFT > 100).astype(np.uint8)
    path = save(tmp_path / "mask.png", binary)
    np.testing.assert_array_equal(values(path, "soft"), 255 * binary)


@pytest.mark.parametrize("role", get_args(MaskRole))
def test_empty_full_and_one_pixel_masks_are_masks(tmp_path: Path, role: MaskRole) -> None:
    one = np.zeros((9, 9), np.uint8)
    one[4, 4] = 255
    for array in (one, np.zeros_like(one), np.full_like(one, 255)):
        path = save(tmp_path / "mask.png", array)
        read = read_masks([path], role=role)
        np.testing.assert_array_equal(
            read.masks.values[0], array if role == "object" else 255 - array
        )


PALETTE = [0, 0, 0, 200, 0, 0, 0, 200, 0, *[9, 9, 90] * 253]


@pytest.mark.parametrize("kind", ["palette", "grey", "deep", "int64", "rgb"])
def test_label_maps_give_one_mask_for_each_id(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "labels.png"
    names = ["1", "2", "7"]
    match kind:
        case "palette":
            save(path, LABELS, PALETTE)
        case "grey":
            save(path, LABELS)
        case "deep":
            save(path, LABELS.astype(np.uint16))
        case "int64":
            path = tmp_path / "labels.npy"
            np.save(path, LABELS.astype(np.int64))
        case "rgb":
            save(path, np.array(PALETTE, np.uint8).reshape(-1, 3)[LABELS])
            # Colours have no order of their own: they go by their hexadecimal code.
            expect_labels(read_masks([path]).masks, ["#00c800", "#09095a", "#c80000"], [2, 7, 1])
            return
    read = read_masks([path])
    expect_labels(read.masks, names, [1, 2, 7])
    guessed = kind != "palette"
    assert [f"{path.name}: read as a label map with ids 1, 2, 7" in n for n in read.notes] == (
        [True] if guessed else []
    )


def test_ids_of_more_than_eight_bits_are_labels_only_in_wide_integers(tmp_path: Path) -> None:
    ids = LABELS.astype(np.int32) * 1000
    np.save(tmp_path / "ids.npy", ids)
    expect_labels(read_masks([tmp_path / "ids.npy"]).masks, ["1000", "2000", "7000"], [1, 2, 7])
    deep = save(tmp_path / "ids.png", ids.astype(np.uint16))
    assert len(read_masks([deep]).masks) == 1
    expect_labels(read_masks([deep], layout="labels").masks, ["1000", "2000", "7000"], [1, 2, 7])


def test_negative_ids_are_no_ids(tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", np.where(LABELS == 0, -1, LABELS.astype(np.int16)))
    expect_labels(read_masks([tmp_path / "ids.npy"]).masks, ["1", "2", "7"], [1, 2, 7])


def test_the_layout_overrules_the_guess(tmp_path: Path) -> None:
    path = save(tmp_path / "mask.png", LABELS)
    np.testing.assert_array_equal(values(path, "soft"), LABELS)
    path = save(tmp_path / "mask.png", LABELS * 30)
    np.testing.assert_array_equal(values(path), LABELS * 30)
    expect_labels(read_masks([path], layout="labels").masks, ["30", "60", "210"], [1, 2, 7])


def test_small_labels_are_left_out_and_named(tmp_path: Path) -> None:
    labels = np.zeros((20, 20), np.uint8)
    labels[:10], labels[15, :4], labels[16, :5], labels[17, 0] = 1, 2, 3, 4
    path = save(tmp_path / "labels.png", labels)
    read = read_masks([path])  # 1 % are 4 pixels
    assert read.masks.names == ("1", "3")
    assert (
        "2 of 4 labels cover too little of the photo for a mask and go to their neighbours: 2, 4."
        in read.notes[-1]
    )
    assert read_masks([path], min_share=0).masks.names == ("1", "2", "3", "4")
    assert len(read_masks([path], min_share=1).masks) == 0


def test_a_label_that_is_alone_is_never_too_small(tmp_path: Path) -> None:
    labels = np.zeros((20, 20), np.uint8)
    labels[3, 3] = 200
    path = save(tmp_path / "labels.png", labels)
    assert read_masks([path], layout="labels").masks.names == ("200",)


@pytest.mark.parametrize(
    ("role", "white", "invert"),
    [("ignore", "keep", False), ("object", "ignore", False), ("object", "keep", True)],
)
def test_the_opposite_of_a_label_map_is_what_no_label_covers(
    tmp_path: Path, role: MaskRole, white: Literal["keep", "ignore"], invert: bool
) -> None:
    path = save(tmp_path / "labels.png", LABELS)
    read = read_masks([path], role=role, white=white, invert=invert, min_share=1)
    np.testing.assert_array_equal(read.masks.values, 255 * (LABELS == 0)[None])


def test_ignored_labels_stay_apart(tmp_path: Path) -> None:
    path = save(tmp_path / "labels.png", LABELS)
    read = read_masks([path], role="ignore", white="ignore")
    expect_labels(read.masks, ["1", "2", "7"], [1, 2, 7])


def test_files_are_named_after_what_tells_them_apart(tmp_path: Path) -> None:
    def names(*files: str) -> tuple[str, ...]:
        return read_masks([save(tmp_path / file, SOFT) for file in files]).masks.names

    assert names("012.person.png", "012.car.png") == ("person", "car")
    assert names("012.person.png", "013.person.png") == ("012.person", "013.person")
    assert names("Kätzchen.png", "hund.png") == ("Kätzchen", "hund")
    assert names("012.person.png") == ("mask0",)


def test_labels_of_several_files_are_named_after_both(tmp_path: Path) -> None:
    files = [save(tmp_path / "1.a.png", SOFT), save(tmp_path / "1.b.png", LABELS)]
    assert read_masks(files).masks.names == ("a", "b.1", "b.2", "b.7")


def test_files_of_several_types_are_kept_in_the_finest(tmp_path: Path) -> None:
    files = [
        save(tmp_path / "1.a.png", SOFT),
        save(tmp_path / "1.b.png", SOFT.astype(np.uint16) * 257),
    ]
    masks = read_masks(files).masks
    assert masks.values.dtype == np.uint16
    np.testing.assert_array_equal(masks.values[0], masks.values[1])
    np.save(tmp_path / "1.c.npy", SOFT / 255)
    masks = read_masks([*files, tmp_path / "1.c.npy"]).masks
    assert masks.values.dtype == np.float32
    np.testing.assert_allclose(masks.values, np.stack([SOFT / 255] * 3), atol=1e-7)


def test_the_opposite_of_several_files_is_what_none_of_them_covers(tmp_path: Path) -> None:
    other = SOFT[::-1].copy()
    files = [save(tmp_path / "1.a.png", SOFT), save(tmp_path / "1.b.png", other)]
    read = read_masks(files, role="ignore", white="keep")
    assert read.masks.names == ("outside",)
    np.testing.assert_array_equal(read.masks.values[0], 255 - np.maximum(SOFT, other))
    inverted = read_masks(files, invert=True).masks
    np.testing.assert_array_equal(inverted.values, [255 - SOFT, 255 - other])


def test_files_of_different_sizes_are_refused_by_name(tmp_path: Path) -> None:
    files = [save(tmp_path / "1.a.png", SOFT), save(tmp_path / "1.b.png", SOFT.T.copy())]
    with pytest.raises(ValueError, match=r"1\.a\.png is \(3, 5\) and .*1\.b\.png is \(5, 3\)"):
        read_masks(files)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_arrays_are_one_mask_or_a_stack(
    tmp_path: Path, suffix: str, dtype: type[np.floating[Any]]
) -> None:
    path = tmp_path / f"mask.{suffix}"
    coverage = (SOFT / 255).astype(dtype)
    for array, names in ((coverage, ("mask0",)), (np.stack([coverage] * 2), ("mask0", "mask1"))):
        if suffix == "npy":
            np.save(path, array)
        else:
            np.savez(path, masks=array, scores=np.ones(3))
        masks = read_masks([path]).masks
        assert masks.names == names
        assert masks.values.dtype == np.float32
        np.testing.assert_array_equal(
            masks.values, array.reshape(-1, *SOFT.shape).astype(np.float32)
        )


def test_a_stack_of_integers_is_a_stack_of_masks(tmp_path: Path) -> None:
    np.save(tmp_path / "mask.npy", np.stack([SOFT, 255 - SOFT]))
    np.testing.assert_array_equal(
        read_masks([tmp_path / "mask.npy"]).masks.values, [SOFT, 255 - SOFT]
    )
    np.save(tmp_path / "mask.npy", np.stack([LABELS == 1, LABELS == 2]).astype(np.int64))
    np.testing.assert_array_equal(
        read_masks([tmp_path / "mask.npy"]).masks.values, [255 * (LABELS == 1), 255 * (LABELS == 2)]
    )


def test_many_colours_are_no_mask(tmp_path: Path) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (30, 30, 3)).astype(np.uint8)
    with pytest.raises(ValueError, match=r"photo\.png has \d+ colours.*Is it a photo"):
        read_masks([save(tmp_path / "photo.png", photo)])


def test_a_coloured_picture_is_no_soft_mask(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.array(PALETTE, np.uint8).reshape(-1, 3)[LABELS])
    with pytest.raises(ValueError, match="is coloured, so it is no soft mask"):
        read_masks([path], layout="soft")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (SOFT.astype(np.float32), r"floats from 0 to 255; a float mask is in"),
        (np.array([[np.nan, 1]]), r"float mask is in"),
        (np.array([[-0.1, 1]]), r"float mask is in"),
        (np.zeros(4), r"has shape \(4,\)"),
        (np.zeros((2, 3, 5, 4)), r"has shape \(2, 3, 5, 4\)"),
        (np.zeros((2, 0, 3)), r"announces an impossible size of 3 x 0 pixels"),
        (np.array([[1j, 0]]), r"holds complex128 values"),
        (np.array([["a"]]), r"holds <U1 values"),
        (np.array([[None]]), r"holds object values"),
    ],
)
def test_arrays_that_are_no_masks_are_refused(
    tmp_path: Path, array: NDArray[Any], message: str
) -> None:
    np.save(tmp_path / "mask.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=rf"mask\.npy.*{message}"):
        read_masks([tmp_path / "mask.npy"])


def test_several_arrays_need_one_called_masks(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=SOFT, y=SOFT)
    with pytest.raises(ValueError, match=r"\['x', 'y'\]; call the one meant 'masks'"):
        read_masks([tmp_path / "a.npz"])


@same_folder
@given(data=st.binary(min_size=1, max_size=200), suffix=st.sampled_from(["npy", "npz", "png"]))
def test_bytes_that_are_no_mask_end_in_an_error_that_names_the_file(
    tmp_path: Path, data: bytes, suffix: str
) -> None:
    magic = {"npy": b"\x93NUMPY\x01\x00", "npz": b"PK\x03\x04", "png": b"\x89PNG\r\n\x1a\n"}[suffix]
    path = tmp_path / f"mask.{suffix}"
    path.write_bytes(magic + data)
    with pytest.raises(ValueError, match="mask"):
        read_masks([path])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        read_masks([tmp_path / "none.png"])


Meaning = Literal["soft", "deep", "ones", "labels", "bool", "grey rgb", "colours", "alpha"]
MEANINGS: dict[Meaning, NDArray[Any]] = {
    "soft": SOFT,
    "deep": SOFT.astype(np.uint16) * 200,
    "ones": (SOFT > 100).astype(np.uint8),
    "labels": LABELS,
    "bool": SOFT > 100,
    "grey rgb": np.dstack([SOFT] * 3),
    "colours": np.array(PALETTE, np.uint8).reshape(-1, 3)[LABELS],
    "alpha": np.dstack([LABELS, SOFT, LABELS, SOFT]),
}


@pytest.mark.parametrize("layout", get_args(Layout))
@pytest.mark.parametrize("meaning", get_args(Meaning))
def test_an_array_means_what_its_files_mean(
    tmp_path: Path, meaning: Meaning, layout: Layout
) -> None:
    array = MEANINGS[meaning]
    picture, numbers = save(tmp_path / "mask0.png", array), tmp_path / "mask0.npy"
    np.save(numbers, array)
    sources: list[Any] = [picture.read_bytes(), numbers, numbers.read_bytes(), array]
    if (meaning, layout) == ("colours", "soft"):
        for source in (picture, *sources):
            with pytest.raises(ValueError, match=r"mask0.* is coloured"):
                read_masks([source], layout=layout)
        return
    expected = read_masks([picture], layout=layout)
    for source in sources:
        found = read_masks([source], layout=layout)
        np.testing.assert_array_equal(found.masks.values, expected.masks.values)
        assert found.masks.names == expected.masks.names
        assert len(found.notes) == len(expected.notes)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint64, ">u2", np.int8])
def test_labels_may_be_integers_of_any_width(dtype: str) -> None:
    expect_labels(read_masks([LABELS.astype(dtype)]).masks, ["1", "2", "7"], [1, 2, 7])


def test_a_single_channel_is_no_stack_of_columns() -> None:
    (mask,) = read_masks([SOFT[..., None]]).masks.values
    np.testing.assert_array_equal(mask, SOFT)


def test_files_bytes_and_arrays_may_be_mixed(tmp_path: Path) -> None:
    path = save(tmp_path / "012.cat.png", SOFT)
    masks = read_masks([path, SOFT / 255, path.read_bytes(), LABELS]).masks
    assert masks.names == ("cat", "mask1", "mask2", "mask3.1", "mask3.2", "mask3.7")
    np.testing.assert_allclose(masks.values[:3], np.stack([SOFT / 255] * 3), atol=1e-7)


def write_npz_bomb(path: Path, shape: tuple[int, ...]) -> None:
    """An NPZ of a few kilobytes with an array ``masks`` that announces far more zeros."""
    header = io.BytesIO()
    facts = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, facts)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("masks.npy", header.getvalue() + bytes(1 << 22))


@pytest.mark.parametrize("shape", [(50_000, 50_000), (1000, 1000, 1000)])
def test_an_npz_that_announces_too_much_is_refused_before_it_is_unpacked(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    write_npz_bomb(tmp_path / "mask.npz", shape)
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"mask\.npz.*announces.*300 million"):
        read_masks([tmp_path / "mask.npz"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_only_the_masks_of_an_npz_are_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "mask.npz"
    np.savez_compressed(path, masks=SOFT, image=np.zeros((3000, 3000), np.uint8))
    tracemalloc.start()
    np.testing.assert_array_equal(values(path), SOFT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3000 * 3000 / 2


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_an_alpha_channel_that_is_constant_is_no_mask(level: float) -> None:
    with pytest.raises(ValueError, match=r"No mask was given, and .* opaque everywhere"):
        masks_from_alpha(np.full((3, 5), level, np.float32))


def test_the_alpha_of_a_photo_is_its_mask() -> None:
    alpha = (SOFT / 255).astype(np.float32)
    masks = masks_from_alpha(alpha)
    assert (masks.role, masks.names) == ("object", ("alpha",))
    np.testing.assert_array_equal(masks[0], alpha)
    ignored = masks_from_alpha(alpha, "ignore")
    assert ignored.role == "ignore"
    np.testing.assert_array_equal(ignored[0], 1 - alpha)
