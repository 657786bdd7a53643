import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from crispdepth.io.layers import (
    part_names,
    read_layered_photo,
    read_layers_exr,
    read_layers_npz,
    write_layers_exr,
    write_layers_npz,
)
from crispdepth.ops.colour import linear_from_srgb
from crispdepth.types import Camera, DepthMap, Float32Map, Kind, LayerPair, MaskSet, RefinedDepth

SIZE = 11, 14
CAMERA = Camera(np.diag([20.0, 20.0, 1.0]), SIZE)

same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)


def refined(
    image: NDArray[Any] | None = None,
    alpha: Float32Map | None = None,
    names: tuple[str, ...] = ("mask0",),
    kind: Kind = "depth",
) -> RefinedDepth:
    """A result with one layer pair for each name; only what the writers look at is meaningful."""
    rng = np.random.default_rng(0)
    if image is None:
        image = rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    if alpha is None:
        alpha = rng.random(SIZE, np.float32)
    depth = DepthMap(rng.random(SIZE, np.float32) + 1, kind, "m", camera=CAMERA)
    layers = tuple(
        LayerPair(name, alpha, *(rng.random((2, *SIZE), np.float32) * 9 + 1)) for name in names
    )
    masks = MaskSet(np.stack([alpha] * len(names)), names)
    return RefinedDepth(image, depth, depth, masks, layers, alpha, alpha)


def parts(path: Path) -> list[Any]:
    """The file as somebody else's program sees it."""
    return list(OpenEXR.File(str(path), separate_channels=True).parts)


def colours(part: Any) -> NDArray[np.float64]:
    """(h, w, 3), multiplied with alpha."""
    return np.stack([part.channels[name].pixels for name in "RGB"], axis=-1).astype(np.float64)


def alpha_of(part: Any) -> NDArray[np.float64]:
    return np.asarray(part.channels["A"].pixels, np.float64)


@same_folder
@given(seed=st.integers(0, 10**6), deep=st.booleans())
def test_foreground_over_background_is_the_linear_photo(
    tmp_path: Path, seed: int, deep: bool
) -> None:
    rng = np.random.default_rng(seed)
    dtype = np.uint16 if deep else np.uint8
    image = rng.integers(0, int(np.iinfo(dtype).max) + 1, (*SIZE, 3)).astype(dtype)
    alpha = (rng.random(SIZE, np.float32) * 3 - 1).clip(0, 1)
    write_layers_exr(tmp_path / "layers.exr", refined(image, alpha))
    background, foreground = parts(tmp_path / "layers.exr")
    over = colours(foreground) + (1 - alpha_of(foreground))[..., None] * colours(background)
    # Three roundings to the 11 bits of half floats, each of a value up to 1.
    np.testing.assert_allclose(over, linear_from_srgb(image), atol=3 * 2**-12)


@same_folder
@given(seed=st.integers(0, 10**6))
@example(seed=868)  # a colour whose rounding once added up
def test_the_photo_is_read_back_to_the_byte(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    alpha = (rng.random(SIZE, np.float32) * 3 - 1).clip(0, 1)
    write_layers_exr(tmp_path / "layers.exr", refined(image, alpha, ("a", "b")))
    photo, layers = read_layered_photo(tmp_path / "layers.exr")
    np.testing.assert_array_equal(photo, image)
    assert [pair.name for pair in layers] == ["a", "b"]


def test_colours_are_multiplied_with_alpha_and_the_background_is_opaque(tmp_path: Path) -> None:
    alpha = np.zeros(SIZE, np.float32)
    alpha[3:7, 3:7] = 1
    alpha[:, 9:] = 0.5
    source = refined(alpha=alpha)
    write_layers_exr(tmp_path / "layers.exr", source)
    background, foreground = parts(tmp_path / "layers.exr")
    photo = linear_from_srgb(source.image)
    np.testing.assert_array_equal(alpha_of(background), 1)
    np.testing.assert_array_equal(alpha_of(foreground), alpha)
    assert (colours(foreground) >= -0.021 * alpha[..., None]).all()
    assert (colours(foreground) <= 1.021 * alpha[..., None]).all()
    np.testing.assert_allclose(colours(foreground)[alpha == 1], photo[alpha == 1], rtol=2**-11)
    np.testing.assert_allclose(colours(background)[alpha == 0], photo[alpha == 0], rtol=2**-11)


@pytest.mark.parametrize(
    ("inside", "outside"),
    [(1.0, 0.0), (254 / 255, 0.0), (0.97, 0.02)],
    ids=["hard", "matte", "jpeg"],
)
def test_what_a_mask_hides_is_filled_from_the_background_alone(
    tmp_path: Path, inside: float, outside: float
) -> None:
    alpha = np.full(SIZE, outside, np.float32)
    alpha[3:8, 4:9] = inside
    red, blue = np.array([255, 0, 0]), np.array([0, 0, 255])
    linear = np.where(
        alpha[..., None] > 0.5, alpha[..., None] * red + (1 - alpha[..., None]) * blue, blue
    )
    image = np.rint(255 * (linear / 255) ** (1 / 2.2)).astype(np.uint8)
    write_layers_exr(tmp_path / "layers.exr", refined(image, alpha))
    background, _ = parts(tmp_path / "layers.exr")
    truth = np.broadcast_to([0, 0, 1], image.shape)
    np.testing.assert_allclose(colours(background), truth, atol=0.05 if inside < 1 else 0)


@pytest.mark.parametrize("coverage", [0, 1])
def test_empty_and_full_masks_keep_the_photo_as_background(tmp_path: Path, coverage: int) -> None:
    source = refined(alpha=np.full(SIZE, coverage, np.float32))
    write_layers_exr(tmp_path / "layers.exr", source)
    background, foreground = parts(tmp_path / "layers.exr")
    photo = linear_from_srgb(source.image)
    np.testing.assert_allclose(colours(background), photo, rtol=2**-11)
    np.testing.assert_allclose(colours(foreground), photo * coverage, rtol=2**-11)


def test_other_programs_see_standard_parts_in_one_frame(tmp_path: Path) -> None:
    write_layers_exr(tmp_path / "layers.exr", refined(names=("left", "right")))
    found = parts(tmp_path / "layers.exr")
    assert [part.name() for part in found] == [
        "left.background",
        "left.foreground",
        "right.background",
        "right.foreground",
    ]
    for part in found:
        assert part.type() == OpenEXR.scanlineimage
        assert part.compression() == OpenEXR.ZIP_COMPRESSION
        assert (part.height(), part.width()) == SIZE
        assert "view" not in part.header
        for window in ("dataWindow", "displayWindow"):
            low, high = part.header[window]
            assert (*low, *high) == (0, 0, SIZE[1] - 1, SIZE[0] - 1)
        types = {name: channel.type() for name, channel in part.channels.items()}
        assert types == {**dict.fromkeys("RGBA", OpenEXR.HALF), "depth.Z": OpenEXR.FLOAT}


@pytest.mark.parametrize("kind", ["depth", "inverse_depth"])
def test_every_part_says_what_its_numbers_mean(tmp_path: Path, kind: Kind) -> None:
    write_layers_exr(tmp_path / "layers.exr", refined(kind=kind, names=("a.ä 日",)))
    for part, layer in zip(
        parts(tmp_path / "layers.exr"), ("background", "foreground"), strict=True
    ):
        facts = {k.removeprefix("crispdepth."): v for k, v in part.header.items() if "depth." in k}
        camera = json.loads(facts.pop("camera"))
        assert facts.pop("version")
        assert facts == {"kind": kind, "unit": "m", "mask": "a.ä 日", "layer": layer}
        np.testing.assert_array_equal(camera["K"], CAMERA.K)
        np.testing.assert_array_equal(camera["cam_from_world"], CAMERA.cam_from_world)


def test_a_result_without_a_camera_says_so(tmp_path: Path) -> None:
    source = refined()
    without = replace(source, depth=replace(source.depth, camera=None))
    write_layers_exr(tmp_path / "layers.exr", without)
    for part in parts(tmp_path / "layers.exr"):
        assert part.header["crispdepth.camera"] == "null"


@pytest.mark.parametrize("kind", ["depth", "inverse_depth"])
def test_exr_layers_come_back(tmp_path: Path, kind: Kind) -> None:
    source = refined(kind=kind, names=("a", "b.c", "ä 日"))
    write_layers_exr(tmp_path / "layers.exr", source)
    found = read_layers_exr(tmp_path / "layers.exr")
    for pair, expected in zip(found, source.layers, strict=True):
        assert pair.name == expected.name
        np.testing.assert_array_equal(pair.foreground, expected.foreground)
        np.testing.assert_array_equal(pair.background, expected.background)
        np.testing.assert_allclose(pair.alpha, expected.alpha, rtol=2**-11)
        for array in (pair.alpha, pair.foreground, pair.background):
            assert array.dtype == np.float32


def test_npz_layers_come_back_exactly_and_say_what_they_mean(tmp_path: Path) -> None:
    source = refined(kind="inverse_depth", names=("a", "ä 日"))
    write_layers_npz(tmp_path / "layers.npz", source)
    found = read_layers_npz(tmp_path / "layers.npz")
    for pair, expected in zip(found, source.layers, strict=True):
        assert pair.name == expected.name
        for name in ("alpha", "foreground", "background"):
            np.testing.assert_array_equal(getattr(pair, name), getattr(expected, name))
    with np.load(tmp_path / "layers.npz", allow_pickle=False) as file:
        assert (str(file["kind"]), str(file["unit"])) == ("inverse_depth", "m")
        assert file["alpha"].shape == (2, *SIZE)
        assert file["alpha"].dtype == np.float32


@given(names=st.lists(st.text(max_size=60), max_size=8))
def test_part_names_are_legal_and_all_different(names: list[str]) -> None:
    legal = part_names(names)
    assert len(set(legal)) == len(names)
    for name in legal:
        assert name
        assert name.isprintable()
        assert "." not in name
        assert len(name.encode()) <= 45


def test_plain_names_are_kept() -> None:
    names = ["mask0", "person", "Kätzchen", "日本", "#ff0000", "two words"]
    assert part_names(names) == names


@same_folder
@given(names=st.lists(st.text(max_size=20), min_size=1, max_size=3, unique=True))
def test_any_mask_names_make_a_file_that_can_be_read(tmp_path: Path, names: list[str]) -> None:
    write_layers_exr(tmp_path / "layers.exr", refined(names=tuple(names)))
    assert len(read_layers_exr(tmp_path / "layers.exr")) == len(names)


def test_a_mask_named_after_a_file_that_is_no_unicode_is_written(tmp_path: Path) -> None:
    write_layers_exr(tmp_path / "layers.exr", refined(names=("caf\udce9",)))
    assert read_layers_exr(tmp_path / "layers.exr")[0].name == "caf?"


@pytest.mark.parametrize("write", [write_layers_exr, write_layers_npz])
def test_layers_that_cannot_be_written_leave_the_old_file(tmp_path: Path, write: Any) -> None:
    source = refined()
    path = tmp_path / "layers.any"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="no layers to write"):
        write(path, replace(source, layers=()))
    holed = source.layers[0].background.copy()
    holed[2, 3] = np.nan
    with pytest.raises(ValueError, match="background of mask 'mask0' has values that are not"):
        write(path, replace(source, layers=(replace(source.layers[0], background=holed),)))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("write", "read"),
    [(write_layers_exr, read_layers_exr), (write_layers_npz, read_layers_npz)],
)
def test_a_file_cut_short_anywhere_is_refused_by_name(
    tmp_path: Path, write: Any, read: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "whole", refined(names=("a", "b")))
    data = (tmp_path / "whole").read_bytes()
    cut = tmp_path / "cut"
    for length in {1, 4, 50, *range(100, len(data), len(data) // 20), len(data) - 1}:
        cut.write_bytes(data[:length])
        with pytest.raises(ValueError, match="cut is not a whole"):
            read(cut)
    assert capsys.readouterr().out == ""


def test_an_exr_file_without_layers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.exr"
    with OpenEXR.File({}, {"Z": np.ones(SIZE, np.float32)}) as file:
        file.write(str(path))
    with pytest.raises(ValueError, match="EXR file of layers"):
        read_layers_exr(path)


@pytest.mark.parametrize("read", [read_layers_exr, read_layers_npz])
def test_a_missing_file_is_named(tmp_path: Path, read: Any) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        read(tmp_path / "nothing")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_linear_light_undoes_the_srgb_curve(dtype: type[np.unsignedinteger[Any]]) -> None:
    levels = np.arange(int(np.iinfo(dtype).max) + 1)
    linear = linear_from_srgb(levels.astype(dtype)).astype(np.float64)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(encoded * levels[-1], levels, atol=0.02)
    assert (linear[0], linear[-1]) == (0, 1)
