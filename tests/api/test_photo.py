"""`crispdepth.refine` takes what the caller holds, and `save` writes what is asked for."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
from numpy.typing import NDArray
from onnx import helper
from PIL import ExifTags, Image, ImageOps

import crispdepth
from crispdepth.api import DEFAULT_FORMATS, FORMATS, estimate_depth, refine, save, write_files
from crispdepth.io.depths import read_depth
from crispdepth.models.classical import ClassicalCompleter
from crispdepth.models.learned import LearnedCompleter
from crispdepth.models.monocular import load_depth_model
from crispdepth.types import Camera, DepthMap, Kind, MaskSet, RefinedDepth

HEIGHT, WIDTH = 24, 32
Array = NDArray[Any]


@pytest.fixture
def image() -> Array:
    x = np.arange(WIDTH)
    colours = np.where((x > 15)[:, None], [200, 80, 30], [40, 90, 160])
    return np.broadcast_to(colours, (HEIGHT, WIDTH, 3)).astype(np.uint8)


@pytest.fixture
def rough() -> Array:
    """Depth that climbs over eight pixels where the mask has its edge."""
    x = np.arange(WIDTH)
    return np.broadcast_to(2 + np.clip((x - 11) / 8, 0, 1), (HEIGHT, WIDTH)).astype(np.float32)


@pytest.fixture
def mask() -> Array:
    return np.broadcast_to(np.arange(WIDTH) > 15, (HEIGHT, WIDTH)).astype(np.uint8) * 255


@pytest.fixture
def refined(image: Array, rough: Array, mask: Array) -> RefinedDepth:
    return refine(image, DepthMap(rough, "depth", "m"), mask)


def values(refined: RefinedDepth) -> Array:
    return refined.depth.values


def test_files_arrays_pil_images_and_values_give_the_same(
    image: Array, rough: Array, mask: Array, tmp_path: Path
) -> None:
    Image.fromarray(image).save(tmp_path / "photo.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    np.save(tmp_path / "rough.npy", rough)
    depth = DepthMap(rough, "depth")
    expected = values(refine(image, depth, MaskSet(mask[None])))
    photo_file, depth_file, mask_file = (
        tmp_path / name for name in ("photo.png", "rough.npy", "mask.png")
    )
    found = [
        refine(str(photo_file), str(depth_file), str(mask_file)),
        refine(photo_file, depth_file, [mask_file]),
        refine(Image.open(photo_file), rough, Image.open(mask_file), kind="depth"),
        refine(image, Image.fromarray(rough), [mask > 0], kind="depth"),
        refine(image.astype(np.uint16) * 257, depth, (mask / 255)[None]),
    ]
    for result in found[:4]:
        np.testing.assert_array_equal(values(result), expected)
    np.testing.assert_allclose(values(found[4]), expected, rtol=1e-4)


LABELS = np.zeros((HEIGHT, WIDTH), np.uint8)
LABELS[:, 16:], LABELS[4:20, 4:12], LABELS[0, 0] = 1, 2, 3
STEP = np.where(LABELS == 1, 255, LABELS).astype(np.uint8)  # 255, and a few faint pixels
PALETTE = bytes([0, 0, 0, 200, 0, 0, 0, 200, 0, 0, 0, 250])


def palette_image(indices: Array, **info: Any) -> Image.Image:
    image = Image.fromarray(indices, "L")
    image.putpalette(PALETTE)
    image.info.update(info)
    return image


def same(a: RefinedDepth, b: RefinedDepth) -> None:
    """The same numbers, names and meanings; notes may call files by their names."""
    for found, expected in (
        (a.depth.values, b.depth.values),
        (a.depth.usable, b.depth.usable),
        (a.initial.values, b.initial.values),
        (a.image, b.image),
        (a.confidence, b.confidence),
    ):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    assert (a.depth.kind, a.depth.unit) == (b.depth.kind, b.depth.unit)
    assert (a.masks.names, a.masks.role) == (b.masks.names, b.masks.role)
    assert [layer.name for layer in a.layers] == [layer.name for layer in b.layers]
    for i in range(len(a.masks)):
        np.testing.assert_array_equal(a.masks[i], b.masks[i])


MASK_IMAGES: dict[str, Image.Image] = {
    "soft": Image.fromarray(STEP),
    "zeros and ones": Image.fromarray((LABELS == 1).astype(np.uint8)),
    "label map": Image.fromarray(LABELS),
    "bilevel": Image.fromarray(LABELS == 1),
    "16 bit": Image.fromarray(STEP.astype(np.uint16) * 257),
    "32 bit labels": Image.fromarray(LABELS.astype(np.int32) * 1000),
    "float": Image.fromarray((STEP / 255).astype(np.float32)),
    "grey in colours": Image.fromarray(np.dstack([STEP] * 3)),
    "coloured labels": palette_image(LABELS).convert("RGB"),
    "alpha": Image.fromarray(np.dstack([LABELS, LABELS, LABELS, STEP])),
    "grey and alpha": Image.fromarray(np.dstack([LABELS, STEP]), "LA"),
    "opaque": Image.fromarray(np.dstack([STEP, STEP, STEP, np.full_like(STEP, 255)])),
    "palette": palette_image(LABELS),
    "palette of one object": palette_image((LABELS == 1).astype(np.uint8)),
    "transparent palette": palette_image(LABELS, transparency=0),
    "opaque palette": palette_image(LABELS, transparency=200),
}
LABEL_MAPS = ("label map", "32 bit labels", "coloured labels", "palette", "opaque palette")


@pytest.mark.parametrize("kind", MASK_IMAGES)
def test_a_mask_means_the_same_as_file_pil_image_and_array(
    kind: str, image: Array, rough: Array, tmp_path: Path
) -> None:
    mask, path = MASK_IMAGES[kind], tmp_path / "mask.png"
    if mask.mode in ("I", "F"):
        path = path.with_suffix(".tiff")
    mask.save(path)
    expected = refine(image, DepthMap(rough, "depth"), path)
    assert len(expected.layers) == (2 if kind in LABEL_MAPS else 1)
    masks: list[Any] = [mask, Image.open(path)]
    if mask.mode != "P":  # an array has no palette
        masks.append(np.asarray(mask))
    if mask.mode == "L":  # 16-bit coverage in more bits would be labels
        masks += [np.asarray(mask).astype(dtype) for dtype in (np.int64, ">u4")]
    if np.asarray(mask).ndim == 2 and mask.mode != "P":
        masks.append(np.asarray(mask)[..., None])
    for given in masks:
        same(refine(image, DepthMap(rough, "depth"), given), expected)
        same(refine(image, DepthMap(rough, "depth"), [given]), expected)


def depth_image(kind: str, rough: Array) -> Image.Image:
    bytes_ = np.rint(rough * 80).astype(np.uint8)
    match kind:
        case "8 bit":
            return Image.fromarray(bytes_)
        case "16 bit":
            return Image.fromarray(np.rint(rough * 1000).astype(np.uint16))
        case "32 bit":
            return Image.fromarray(np.rint(rough * 1000).astype(np.int32))
        case "grey in colours":
            return Image.fromarray(np.dstack([bytes_] * 3))
        case "transparent":
            seen = np.where(LABELS == 3, 0, 255).astype(np.uint8)
            return Image.fromarray(np.dstack([bytes_, bytes_, bytes_, seen]))
        case _:
            return Image.fromarray(rough)


@pytest.mark.parametrize("kind", ["depth", "inverse_depth"])
@pytest.mark.parametrize(
    "stored", ["8 bit", "16 bit", "32 bit", "float", "grey in colours", "transparent"]
)
def test_depth_means_the_same_as_file_pil_image_and_array(
    stored: str, kind: Kind, image: Array, rough: Array, mask: Array, tmp_path: Path
) -> None:
    depth, path = depth_image(stored, rough), tmp_path / "rough.tiff"
    depth.save(path)
    array = np.asarray(depth)
    np.save(tmp_path / "rough.npy", array)
    expected = refine(image, path, mask, kind=kind)
    given: list[Any] = [depth, Image.open(path), array]
    if array.ndim == 2:
        given += [
            tmp_path / "rough.npy",
            array[..., None],
            array.astype(array.dtype.newbyteorder()),
        ]
    for other in given:
        same(refine(image, other, mask, kind=kind), expected)


@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_pil_images_are_turned_as_their_files_are(
    orientation: int, image: Array, rough: Array, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    turned = np.rot90(image) if orientation > 4 else image
    rough, labels = (np.rot90(a) if orientation > 4 else a for a in (rough, LABELS))
    parts = {"photo": turned, "depth": np.rint(rough * 1000).astype(np.uint16), "mask": labels}
    files = [tmp_path / f"{name}.png" for name in parts]
    for path, array in zip(files, parts.values(), strict=True):
        Image.fromarray(array).save(path, exif=exif)
    opened = [Image.open(path) for path in files]
    expected = refine(files[0], files[1], files[2], kind="depth")
    same(refine(opened[0], opened[1], opened[2], kind="depth"), expected)
    upright = [np.asarray(ImageOps.exif_transpose(picture)) for picture in opened]
    same(refine(upright[0], upright[1], upright[2], kind="depth"), expected)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA", "CMYK", "1", "YCbCr"])
def test_a_photo_is_the_same_as_file_and_pil_image(
    mode: str, image: Array, rough: Array, mask: Array, tmp_path: Path
) -> None:
    photo = Image.fromarray(image).convert(mode)
    photo.save(tmp_path / "photo.tiff")
    depth = DepthMap(rough, "depth")
    same(refine(photo, depth, mask), refine(tmp_path / "photo.tiff", depth, mask))
    if mode in ("L", "RGB", "RGBA"):
        same(refine(np.asarray(photo), depth, mask), refine(photo, depth, mask))


def test_files_pil_images_and_arrays_may_be_mixed(
    image: Array, rough: Array, mask: Array, tmp_path: Path
) -> None:
    Image.fromarray(mask).save(tmp_path / "cat.png")
    masks = [tmp_path / "cat.png", Image.fromarray(LABELS), LABELS == 2]
    result = refine(image, DepthMap(rough, "depth"), masks)
    assert result.masks.names == ("cat", "mask1.1", "mask1.2", "mask2")


def test_small_instances_of_an_array_are_left_out_and_noted(image: Array, rough: Array) -> None:
    result = refine(image, DepthMap(rough, "depth"), LABELS.astype(np.int64))
    assert result.masks.names == ("1", "2")
    assert any("1 of 3 labels cover too little of the photo" in note for note in result.notes)


def test_what_a_file_was_taken_for_is_noted(
    image: Array, rough: Array, mask: Array, tmp_path: Path
) -> None:
    np.save(tmp_path / "rough.npy", rough)
    stated = read_depth(tmp_path / "rough.npy").stated
    assert stated in refine(image, tmp_path / "rough.npy", mask).notes


def test_kind_and_unit_are_the_callers(image: Array, rough: Array, mask: Array) -> None:
    result = refine(image, 1 / rough, mask, kind="inverse_depth", unit="m").depth
    assert (result.kind, result.unit) == ("inverse_depth", "m")
    assert refine(image, rough, mask, kind="depth").depth.unit == "relative"


def test_an_array_without_a_kind_is_refused(image: Array, rough: Array, mask: Array) -> None:
    for depth in (rough, Image.fromarray(rough)):
        with pytest.raises(ValueError, match="kind='depth'"):
            refine(image, depth, mask)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1"])
def test_pil_images_of_every_mode_are_photos(
    mode: str, image: Array, rough: Array, mask: Array
) -> None:
    result = refine(Image.fromarray(image).convert(mode), rough, mask, kind="depth")
    assert result.image.shape == (HEIGHT, WIDTH, 3)


def test_a_grey_photo_is_three_equal_channels(image: Array, rough: Array, mask: Array) -> None:
    for grey in (image[..., 0], image[..., :1]):
        result = refine(grey, rough, mask, kind="depth")
        np.testing.assert_array_equal(result.image, np.dstack([image[..., 0]] * 3))


def test_without_masks_the_transparency_is_the_mask(
    image: Array, rough: Array, mask: Array
) -> None:
    cut_out = np.dstack([image, mask])
    expected = values(refine(image, rough, mask, kind="depth"))
    for photo in (cut_out, Image.fromarray(cut_out)):
        np.testing.assert_array_equal(values(refine(photo, rough, kind="depth")), expected)
    with pytest.raises(ValueError, match="give masks"):
        refine(image, rough, kind="depth")
    opaque = np.dstack([image, np.full_like(mask, 255)])
    for photo in (opaque, Image.fromarray(opaque)):
        with pytest.raises(ValueError, match="opaque everywhere"):
            refine(photo, rough, kind="depth")


def test_several_masks_are_several_layers(image: Array, rough: Array, mask: Array) -> None:
    together = refine(image, rough, np.stack([mask, mask[:, ::-1]]), kind="depth")
    listed = refine(image, rough, [mask, Image.fromarray(mask[:, ::-1].copy())], kind="depth")
    assert len(together.masks) == 2
    np.testing.assert_array_equal(values(together), values(listed))


@pytest.mark.parametrize("factor", [1, 3])
def test_depth_and_masks_of_the_photos_aspect_are_resized_and_noted(
    factor: int, image: Array, rough: Array, mask: Array
) -> None:
    ones = np.ones((factor, factor), np.uint8)
    photo = np.kron(image, ones[..., None])
    camera = Camera(np.array([[50.0, 0, 16], [0, 50, 12], [0, 0, 1]]), (HEIGHT, WIDTH))
    result = refine(photo, DepthMap(rough, "depth", "m", camera=camera), mask)
    assert result.depth.size == result.masks.size == (HEIGHT * factor, WIDTH * factor)
    assert result.depth.camera is not None
    assert result.depth.camera.K[0, 0] == 50 * factor
    resized = [note for note in result.notes if "resized from 32 x 24" in note]
    assert len(resized) == (0 if factor == 1 else 2)


@pytest.mark.parametrize("what", ["depth map", "mask"])
def test_another_aspect_is_refused_with_both_sizes(
    what: str, image: Array, rough: Array, mask: Array
) -> None:
    cut = np.s_[:, :-4]
    depth, masks = (rough[cut], mask) if what == "depth map" else (rough, mask[cut])
    with pytest.raises(ValueError, match=f"{what} is 28 x 24 and the photo 32 x 24"):
        refine(image, depth, masks, kind="depth")


@pytest.mark.parametrize("size", [(25, 33), (23, 31), (12, 17), (7, 10)])
def test_a_rounded_size_has_the_same_aspect(
    size: tuple[int, int], image: Array, rough: Array, mask: Array
) -> None:
    small = np.asarray(Image.fromarray(rough).resize(size[::-1]))
    assert refine(image, small, mask, kind="depth").depth.size == (HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"image": np.zeros((24, 32, 3), np.float32)}, "uint8 or uint16"),
        ({"image": np.zeros((24, 32, 5), np.uint8)}, r"\(24, 32, 5\)"),
        ({"depth": np.zeros((24, 32, 3), np.float32)}, r"\(24, 32, 3\)"),
        ({"masks": []}, "at least one"),
        ({"masks": np.zeros(5)}, r"\(5,\)"),
        ({"depth": np.zeros((24, 32), complex)}, "complex128"),
        ({"depth": np.zeros((24, 32), object)}, "Object arrays"),
        ({"masks": [np.zeros((24, 32)), np.zeros((12, 16))]}, "one size"),
        ({"masks": np.full((24, 32), 2.0)}, r"\[0, 1\]"),
    ],
)
def test_mistakes_are_explained(
    wrong: dict[str, Any], message: str, image: Array, rough: Array, mask: Array
) -> None:
    right: dict[str, Any] = {"image": image, "depth": rough, "masks": mask, "kind": "depth"}
    with pytest.raises(ValueError, match=message):
        refine(**{**right, **wrong})


def test_an_engine_is_chosen_by_name(
    image: Array, rough: Array, mask: Array, learned_weights: Path
) -> None:
    depth = DepthMap(rough, "depth")
    classical = refine(image, depth, mask, engine="classical")
    learned = refine(image, depth, mask, engine="learned", weights=learned_weights, resolution=32)
    assert (values(classical) != values(learned)).any()
    completer = LearnedCompleter(learned_weights)
    np.testing.assert_array_equal(
        values(refine(image, depth, mask, completer=completer)), values(learned)
    )


@pytest.mark.parametrize(
    "options", [{"engine": "classical"}, {"weights": "w"}, {"resolution": 32}, {"tiled": True}]
)
def test_an_engine_and_a_completer_contradict_each_other(
    image: Array, rough: Array, mask: Array, options: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="or a completer, not both"):
        refine(image, rough, mask, kind="depth", completer=ClassicalCompleter(), **options)


def test_the_word_auto_is_a_mask_that_a_network_finds(
    image: Array, rough: Array, tmp_path: Path, fake_rembg: Callable[..., list[str]]
) -> None:
    loaded = fake_rembg()
    found = refine(image, rough, "auto", kind="depth")
    assert loaded == ["u2net"]
    np.testing.assert_array_equal(found.masks.values[0], image[..., 0])
    np.testing.assert_array_equal(
        values(refine(image, rough, image[..., 0], kind="depth")), values(found)
    )
    with pytest.raises(FileNotFoundError):
        refine(image, rough, Path("auto"), kind="depth")


def test_a_depth_model_makes_what_refine_takes(
    image: Array, mask: Array, tmp_path: Path, write_onnx: Callable[..., Path]
) -> None:
    grey = helper.make_node("ReduceMean", ["image"], ["depth"], axes=[1])
    path = write_onnx(tmp_path / "n.onnx", [grey], {"image": [1, 3, 16, 16]}, ["depth"])
    depth = estimate_depth(image, path, pixels="byte")
    assert (depth.size, depth.kind) == ((HEIGHT, WIDTH), "inverse_depth")
    assert refine(image, depth, mask).depth.kind == "inverse_depth"
    loaded = load_depth_model(path, "byte")
    np.testing.assert_array_equal(estimate_depth(image, loaded).values, depth.values)
    with pytest.raises(ValueError, match="when loading it"):
        estimate_depth(image, loaded, pixels="byte")
    assert crispdepth.estimate_depth is estimate_depth


FILES = {
    "exr": ["depth.exr", "depth.exr.json"],
    "png": ["depth.png", "depth.png.json"],
    "npy": ["depth.npy", "depth.npy.json"],
    "pfm": ["depth.pfm", "depth.pfm.json"],
    "layers": ["layers.exr"],
    "npz": ["layers.npz"],
    "masks": ["mask_0.png"],
    "confidence": ["confidence.png"],
    "preview": ["preview.png"],
}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_writes_its_files_and_no_others(
    name: str, refined: RefinedDepth, tmp_path: Path
) -> None:
    assert save(refined, tmp_path / "new" / "folder", [name]) == tmp_path / "new" / "folder"
    assert names(tmp_path / "new" / "folder") == set(FILES[name])


def test_saved_depth_comes_back(refined: RefinedDepth, tmp_path: Path) -> None:
    save(refined, tmp_path, ["exr", "npy", "pfm", "png"])
    for name in ("exr", "npy", "pfm"):
        found = read_depth(tmp_path / f"depth.{name}").depth
        assert (found.kind, found.unit) == ("depth", "m")
        np.testing.assert_array_equal(found.values, values(refined))
    np.testing.assert_allclose(
        read_depth(tmp_path / "depth.png").depth.values, values(refined), atol=0.00051
    )


def test_saved_masks_and_confidence_come_back(refined: RefinedDepth, tmp_path: Path) -> None:
    save(refined, tmp_path, ["masks", "confidence"])
    mask = np.asarray(Image.open(tmp_path / "mask_0.png"))
    np.testing.assert_array_equal(mask, refined.masks.values[0])
    confidence = np.asarray(Image.open(tmp_path / "confidence.png")) / 255
    np.testing.assert_allclose(confidence, refined.confidence, atol=0.5 / 255 + 1e-6)


def test_float_masks_are_saved_in_16_bits(
    image: Array, rough: Array, mask: Array, tmp_path: Path
) -> None:
    soft = np.clip(mask / 255.0, 0.25, 0.75)
    save(refine(image, rough, soft, kind="depth"), tmp_path, ["masks"])
    stored = np.asarray(Image.open(tmp_path / "mask_0.png"))
    np.testing.assert_allclose(stored / 65535, soft, atol=1e-5)


def test_layers_have_two_parts_for_each_mask(refined: RefinedDepth, tmp_path: Path) -> None:
    save(refined, tmp_path, ["layers"])
    assert len(OpenEXR.File(str(tmp_path / "layers.exr")).parts) == 2


def test_the_default_is_everything_once(refined: RefinedDepth, tmp_path: Path) -> None:
    assert refined.save(str(tmp_path / "a")) == tmp_path / "a"
    save(refined, tmp_path / "b")
    assert names(tmp_path / "b") == {file for name in DEFAULT_FORMATS for file in FILES[name]}


@pytest.mark.parametrize("name", ["a.exr", "b.npy", "c.pfm", "d.PNG"])
def test_the_name_of_a_depth_file_is_that_file(
    name: str, refined: RefinedDepth, tmp_path: Path
) -> None:
    path = tmp_path / "new" / name
    assert refined.save(path) == path
    assert names(path.parent) == {name, f"{name}.json"}
    np.testing.assert_allclose(read_depth(path).depth.values, values(refined), atol=0.00051)


def test_a_folder_may_be_called_like_a_depth_file(refined: RefinedDepth, tmp_path: Path) -> None:
    save(refined, tmp_path / "asked.exr", ["npy"])
    assert names(tmp_path / "asked.exr") == {*FILES["npy"]}
    save(refined, tmp_path / "asked.exr")
    assert {*FILES["exr"]} < names(tmp_path / "asked.exr")


@pytest.mark.parametrize("formats", [["exr", "tiff"], [], "exr"])
def test_unknown_formats_are_refused_with_the_list(
    formats: Any, refined: RefinedDepth, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=", ".join(FORMATS)):
        save(refined, tmp_path / "none", formats)
    assert not (tmp_path / "none").exists()


@pytest.fixture
def far(image: Array, rough: Array, mask: Array) -> RefinedDepth:
    """Metric depth beyond the 65.535 m that fit 16 bits of millimetres."""
    return refine(image, DepthMap(rough * 100, "depth", "m"), mask)


def test_a_png_that_was_asked_for_and_cannot_be_raises_after_the_rest_is_written(
    far: RefinedDepth, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="The other files are in"):
        save(far, tmp_path, ["png", "exr", "masks"])
    assert names(tmp_path) == {*FILES["exr"], *FILES["masks"]}


def test_a_png_that_was_not_asked_for_is_left_out(far: RefinedDepth, tmp_path: Path) -> None:
    save(far, tmp_path)
    assert "depth.png" not in names(tmp_path)
    assert "preview.png" in names(tmp_path)


@pytest.mark.parametrize("outlier", [1.0, 1e6])
def test_a_png_that_an_outlier_makes_coarse_is_noted(
    outlier: float, image: Array, rough: Array, mask: Array, tmp_path: Path
) -> None:
    near = 1 / rough
    near[0, 0] = outlier
    written = write_files(
        refine(image, near, mask, kind="inverse_depth", engine="classical"), tmp_path
    )
    notes = [note for note in written.notes if "depth.png has only 0 steps" in note]
    assert len(notes) == (outlier > 1)


def test_a_constant_map_loses_nothing_in_a_png(refined: RefinedDepth, tmp_path: Path) -> None:
    flat = replace(refined, depth=DepthMap(np.ones_like(refined.depth.values), "depth"))
    assert write_files(flat, tmp_path, ["png"]).notes == ()


def test_without_layers_the_rest_is_saved(image: Array, rough: Array, tmp_path: Path) -> None:
    nothing = refine(image, rough, MaskSet(np.zeros((0, HEIGHT, WIDTH), np.uint8)), kind="depth")
    save(nothing, tmp_path, ["exr", "layers"])
    assert names(tmp_path) == set(FILES["exr"])


def test_the_package_exports_refine() -> None:
    assert crispdepth.refine is refine
