"""The identities that hold whatever completes the layers, and what a user may hand in."""

import re
import tracemalloc
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import DTypeLike, NDArray

from crispdepth.geometry.depth import inverse_depth
from crispdepth.models.classical import ClassicalCompleter
from crispdepth.tasks.refine import OPAQUE, RefineConfig, refine_depth
from crispdepth.types import (
    BoolMap,
    Camera,
    Completion,
    DepthMap,
    Float32Map,
    Kind,
    LayerCompleter,
    MaskSet,
    RefinedDepth,
    Size,
    Unit,
)

SIZE = (48, 64)
KINDS: list[tuple[Kind, Unit]] = [
    ("depth", "m"),
    ("depth", "relative"),
    ("inverse_depth", "m"),
    ("inverse_depth", "relative"),
]


@dataclass
class Fake:
    """A completer that is nothing but its signature: smooth in its inputs, different per side.

    Checks what it is promised, and counts.
    """

    resolution: int = 1024
    name: str = "fake"
    sizes: list[Size] = field(default_factory=list)

    def __call__(
        self, image: NDArray[np.float32], inverse_depth: Float32Map, mask: Float32Map
    ) -> Completion:
        assert image.shape == (*mask.shape, 3)
        assert inverse_depth.shape == mask.shape
        assert max(mask.shape) <= self.resolution
        for value, high in ((image, 1), (inverse_depth, 10), (mask, 1)):
            assert value.dtype == np.float32
            assert np.isfinite(value).all()
            assert value.min() >= -1e-5
            assert value.max() <= high + 1e-5
        self.sizes.append(mask.shape)
        soft = cv2.GaussianBlur(mask, (0, 0), 3)
        layer = cv2.GaussianBlur(inverse_depth, (0, 0), 2) + 2 * soft * image[..., 0]
        gate = np.clip(4 * soft * (1 - soft) - np.float32(0.2), 0, 1)
        return Completion(np.asarray(layer, np.float32), np.asarray(gate, np.float32))


@dataclass(frozen=True)
class TwoConstants:
    """Layers of constant depth: 8 for the side that holds the middle of the image, else 2."""

    resolution: int
    name: str = "two constants"

    def __call__(
        self, image: NDArray[np.float32], inverse_depth: Float32Map, mask: Float32Map
    ) -> Completion:
        value = 8 if mask[mask.shape[0] // 2, mask.shape[1] // 2] >= 0.5 else 2
        return Completion(np.full_like(mask, value), np.ones_like(mask))


COMPLETERS = [
    pytest.param(Fake(), id="fake"),
    pytest.param(Fake(resolution=16), id="fake at 16"),
    pytest.param(ClassicalCompleter(), id="classical"),
    pytest.param(ClassicalCompleter(resolution=32), id="classical at 32"),
]
any_completer = pytest.mark.parametrize("completer", COMPLETERS)
any_kind = pytest.mark.parametrize(("kind", "unit"), KINDS)


def disk(centre: tuple[float, float] = (24, 30), radius: float = 14, size: Size = SIZE) -> BoolMap:
    y, x = np.indices(size) + 0.5
    inside: BoolMap = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
    return inside


def soft(inside: BoolMap) -> Float32Map:
    blurred = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 1)
    return np.asarray(blurred.clip(0, 1), np.float32)


def photo(inside: BoolMap) -> NDArray[np.uint8]:
    colours = np.where(inside[..., None], [200, 80, 30], [40, 90, 160])
    noise = np.random.default_rng(0).integers(-8, 9, (*inside.shape, 3))
    return (colours + noise).astype(np.uint8)


def blurred_step(inside: BoolMap) -> Float32Map:
    """Inverse depth of a near and a far plane, out of focus."""
    y, x = np.indices(inside.shape)
    sharp = np.where(inside, 6 + 0.01 * x - 0.005 * y, 2 + 0.008 * y)
    return np.asarray(cv2.GaussianBlur(sharp, (0, 0), 2), np.float32)


INSIDE = disk()
HARD = INSIDE.astype(np.float32)
INVERSE = blurred_step(INSIDE)
SPAN = float(np.ptp(INVERSE))
IMAGE = photo(INSIDE)
THREE = np.stack([soft(INSIDE), soft(disk((20, 40), 10)), disk((30, 24), 9).astype(np.float32)])


def refine(
    mask: NDArray[Any],
    inverse: NDArray[Any] = INVERSE,
    completer: LayerCompleter | None = None,
    **options: Any,
) -> RefinedDepth:
    """Refine inverse depth with one mask (h, w) or several (n, h, w)."""
    masks = MaskSet(mask.reshape(-1, *mask.shape[-2:]))
    depth = DepthMap(inverse, "inverse_depth")
    return refine_depth(
        photo(masks[0] > 0.5) if mask.shape[-2:] != SIZE else IMAGE,
        depth,
        masks,
        completer=completer,
        config=RefineConfig(**options),
    )


def as_kind(inverse: Float32Map, kind: Kind) -> Float32Map:
    return inverse if kind == "inverse_depth" else np.reciprocal(inverse)


# Identities of equations 1-3


@any_completer
@pytest.mark.parametrize("mask", [INSIDE.astype(np.float32), soft(INSIDE)], ids=["hard", "soft"])
def test_the_inverted_mask_gives_the_same_depth(
    completer: LayerCompleter, mask: Float32Map
) -> None:
    upright, inverted = refine(mask, completer=completer), refine(1 - mask, completer=completer)
    np.testing.assert_allclose(inverted.depth.values, upright.depth.values, atol=1e-5 * SPAN)
    np.testing.assert_allclose(inverted.gate, upright.gate, atol=1e-5)
    assert upright.changed.any()


@pytest.mark.parametrize("pixels", [1, 2, 3, 4])
def test_the_inverted_mask_gives_the_same_depth_however_small(pixels: int) -> None:
    mask = np.zeros(SIZE, np.float32)
    mask[20, 20 : 20 + pixels] = 1
    inverse = INVERSE + 5 * cv2.GaussianBlur(mask, (0, 0), 1)
    np.testing.assert_allclose(
        refine(1 - mask, inverse).depth.values, refine(mask, inverse).depth.values, atol=1e-4
    )


@any_completer
@any_kind
def test_a_hard_mask_chooses_between_the_layers(
    completer: LayerCompleter, kind: Kind, unit: Unit
) -> None:
    depth = DepthMap(as_kind(INVERSE, kind), kind, unit)
    result = refine_depth(IMAGE, depth, MaskSet(HARD[None]), completer=completer)
    layers = result.layers[0]
    chosen = np.where(INSIDE, layers.foreground, layers.background)
    np.testing.assert_allclose(result.depth.values, chosen, rtol=1e-5)


def test_noise_of_a_matte_leaves_nothing_of_the_front_in_the_layer_behind() -> None:
    @dataclass(frozen=True)
    class Timid(TwoConstants):  # it keeps all of its input
        def __call__(
            self, image: NDArray[np.float32], inverse_depth: Float32Map, mask: Float32Map
        ) -> Completion:
            layer, gate = super().__call__(image, inverse_depth, mask)
            return Completion(layer, np.zeros_like(gate))

    noise = np.random.default_rng(0).integers(248, 256, SIZE) / 255
    mask = np.where(INSIDE, noise, 0).astype(np.float32)
    scaled = DepthMap(10 * (INVERSE - INVERSE.min()) / np.ptp(INVERSE), "inverse_depth")
    result = refine_depth(IMAGE, scaled, MaskSet(mask[None]), completer=Timid(1024))
    left = (result.layers[0].background - 2) / (scaled.values - 2)
    assert np.abs(left[INSIDE & (scaled.values > 3)]).max() < 0.06


@any_completer
@any_kind
def test_a_soft_mask_blends_the_layers_in_inverse_depth(
    completer: LayerCompleter, kind: Kind, unit: Unit
) -> None:
    depth = DepthMap(as_kind(INVERSE, kind), kind, unit)
    result = refine_depth(IMAGE, depth, MaskSet(soft(INSIDE)[None]), completer=completer)
    layers = result.layers[0]
    front, back = (
        inverse_depth(DepthMap(layer, kind, unit))
        for layer in (layers.foreground, layers.background)
    )
    found = inverse_depth(result.depth)
    np.testing.assert_allclose(layers.alpha, soft(INSIDE), atol=1.001 - OPAQUE)
    np.testing.assert_allclose(
        found, layers.alpha * front + (1 - layers.alpha) * back, rtol=1e-5, atol=1e-5
    )
    assert (found >= np.minimum(front, back) - 1e-5).all()
    assert (found <= np.maximum(front, back) + 1e-5).all()


@any_completer
@settings(max_examples=12, deadline=None)
@given(st.floats(-10, 10), st.floats(-20, 20))
def test_refining_commutes_with_scale_and_shift_of_inverse_depth(
    completer: LayerCompleter, log2_gain: float, shift: float
) -> None:
    gain = 2**log2_gain
    shift *= gain * SPAN
    moved = (gain * INVERSE.astype(np.float64) + shift).astype(np.float32)
    expected = gain * refine(INSIDE, completer=completer).depth.values.astype(np.float64) + shift
    found = refine(INSIDE, moved, completer=completer).depth.values
    np.testing.assert_allclose(found, expected, atol=1e-4 * gain * SPAN)


@any_completer
def test_depth_and_inverse_depth_are_refined_alike(completer: LayerCompleter) -> None:
    masks = MaskSet(soft(INSIDE)[None])
    near, far = (
        refine_depth(
            IMAGE, DepthMap(as_kind(INVERSE, kind), kind, "m"), masks, completer=completer
        ).depth.values
        for kind in ("inverse_depth", "depth")
    )
    np.testing.assert_allclose(1 / far, near, rtol=1e-5)


# Kept pixels, invalid pixels


@any_completer
@any_kind
def test_where_the_gate_is_shut_the_input_stays_bit_for_bit(
    completer: LayerCompleter, kind: Kind, unit: Unit
) -> None:
    depth = DepthMap(as_kind(INVERSE, kind), kind, unit)
    result = refine_depth(IMAGE, depth, MaskSet(THREE), completer=completer)
    kept = ~result.changed
    assert kept.any()
    assert not kept.all()
    np.testing.assert_array_equal(result.depth.values[kept], depth.values[kept])
    np.testing.assert_array_equal(result.confidence[kept], 1)
    for share in (result.gate, result.confidence):
        assert share.dtype == np.float32
        assert 0 <= share.min() <= share.max() <= 1


@any_completer
@any_kind
def test_invalid_pixels_stay_invalid_and_have_no_influence(
    completer: LayerCompleter, kind: Kind, unit: Unit
) -> None:
    rng = np.random.default_rng(0)
    valid = rng.random(SIZE) > 0.1
    valid[20:30, 12:20] = False
    results = []
    for garbage in (0, np.nan, np.inf, -1e30, 1e30):
        values = np.where(valid, as_kind(INVERSE, kind), np.float32(garbage))
        depth = DepthMap(values, kind, unit, valid)
        results.append(refine_depth(IMAGE, depth, MaskSet(THREE), completer=completer))
    for result in results:
        np.testing.assert_array_equal(result.depth.usable, valid)
        np.testing.assert_array_equal(result.depth.values, results[0].depth.values)
        np.testing.assert_array_equal(result.gate, results[0].gate)


@any_completer
@any_kind
def test_layers_are_sensible_where_the_depth_is_invalid(
    completer: LayerCompleter, kind: Kind, unit: Unit
) -> None:
    values = as_kind(INVERSE, kind).copy()
    values[2:8, 2:8] = values[22:28, 26:32] = np.nan  # in the far and in the near layer
    depth = DepthMap(values, kind, unit)
    for layer in refine_depth(IMAGE, depth, MaskSet(HARD[None]), completer=completer).layers:
        near, far = layer.foreground[22:28, 26:32], layer.background[2:8, 2:8]
        low, high = np.nanmin(values), np.nanmax(values)
        for found in (near, far):
            assert (low / 2 <= found).all()
            assert (found <= 2 * high).all()


@pytest.mark.parametrize("side", [INSIDE, ~INSIDE])
def test_a_side_without_a_valid_pixel_leaves_a_finite_result(side: BoolMap) -> None:
    depth = DepthMap(INVERSE, "inverse_depth", valid=~side)
    result = refine_depth(IMAGE, depth, MaskSet(HARD[None]))
    np.testing.assert_array_equal(result.depth.usable, ~side)
    assert np.isfinite(result.layers[0].foreground).all()
    assert np.isfinite(result.layers[0].background).all()


def test_kind_unit_and_camera_are_those_of_the_input() -> None:
    camera = Camera(np.array([[50.0, 0, 32], [0, 50, 24], [0, 0, 1]]), SIZE)
    depth = DepthMap(np.reciprocal(INVERSE), "depth", "m", camera=camera)
    result = refine_depth(IMAGE, depth, MaskSet(HARD[None]))
    assert (result.depth.kind, result.depth.unit) == ("depth", "m")
    assert result.depth.camera is camera
    assert result.initial is depth


# Several masks


@any_completer
def test_each_pixel_takes_the_mask_that_moves_it_most(completer: LayerCompleter) -> None:
    together = refine(THREE, completer=completer).depth.values
    alone = np.stack([refine(mask, completer=completer).depth.values for mask in THREE])
    moves = np.abs(alone - INVERSE)
    assert (np.abs(together - INVERSE) >= moves.max(axis=0) - 1e-5).all()
    np.testing.assert_array_equal(np.abs(together - alone).min(axis=0), 0)
    assert len(np.unique(moves.argmax(axis=0))) == 3


@any_completer
@pytest.mark.parametrize("order", [(2, 1, 0), (1, 2, 0), (0, 2, 1)])
def test_the_order_of_the_masks_does_not_matter(
    completer: LayerCompleter, order: tuple[int, ...]
) -> None:
    one, other = refine(THREE, completer=completer), refine(THREE[[*order]], completer=completer)
    np.testing.assert_array_equal(other.depth.values, one.depth.values)
    np.testing.assert_array_equal(other.gate, one.gate)


def test_a_mask_given_twice_changes_nothing_more() -> None:
    twice = refine(np.stack([soft(INSIDE)] * 2))
    np.testing.assert_array_equal(twice.depth.values, refine(soft(INSIDE)).depth.values)


def test_memory_does_not_grow_with_the_number_of_masks() -> None:
    size = (120, 160)
    inside = disk((60, 80), 40, size)
    image, depth = photo(inside), DepthMap(blurred_step(inside), "inverse_depth")

    def peak(count: int, keep_layers: bool) -> int:
        values = np.stack([np.roll(inside, 3 * i, 1) for i in range(count)])
        masks = MaskSet(values.astype(np.uint8) * np.uint8(255))
        tracemalloc.start()
        try:
            config = RefineConfig(keep_layers=keep_layers)
            refine_depth(image, depth, masks, completer=Fake(), config=config)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    one_map = 4 * inside.size
    peak(1, False)  # what is allocated once and for all
    assert abs(peak(12, False) - peak(3, False)) < one_map
    assert peak(12, True) - peak(3, True) > 9 * one_map  # so growth would be seen


# Masks that are not quite right


def test_no_mask_leaves_the_input() -> None:
    result = refine_depth(
        IMAGE, DepthMap(INVERSE, "inverse_depth"), MaskSet(np.zeros((0, *SIZE), np.uint8))
    )
    np.testing.assert_array_equal(result.depth.values, INVERSE)
    assert result.layers == ()


@pytest.mark.parametrize(
    ("value", "where", "message"),
    [
        (0, np.s_[:], "is empty"),
        (0.4, np.s_[:], "is empty"),
        (1, np.s_[:], "covers the whole photo"),
        (1, np.s_[20, 30], r"only 1 pixel\(s\)"),
        (1, np.s_[20, 30:33], r"only 3 pixel\(s\)"),
    ],
)
def test_a_mask_without_a_border_is_noted_and_not_used(
    value: float, where: Any, message: str
) -> None:
    mask = np.zeros(SIZE, np.float32)
    mask[where] = value
    result = refine(mask)
    np.testing.assert_array_equal(result.depth.values, INVERSE)
    assert len(result.notes) == 1
    assert "'mask0'" in result.notes[0]
    assert re.search(message, result.notes[0])
    both = refine(np.stack([mask, soft(INSIDE)]))
    np.testing.assert_array_equal(both.depth.values, refine(soft(INSIDE)).depth.values)
    assert [layer.name for layer in both.layers] == ["mask1"]


@any_kind
def test_a_mask_of_the_background_is_noted(kind: Kind, unit: Unit) -> None:
    depth = DepthMap(as_kind(INVERSE, kind), kind, unit)
    for mask, wrong in ((HARD, False), (1 - HARD, True)):
        notes = refine_depth(IMAGE, depth, MaskSet(mask[None], ("cat",))).notes
        assert bool(notes) is wrong
        assert all("'cat'" in note and "--invert-mask" in note for note in notes)


@pytest.mark.parametrize("outlier", [-1e6, 1e3, 1e30])
def test_an_outlier_does_not_switch_refinement_off(outlier: float) -> None:
    rough = INVERSE.copy()
    rough[0, 0] = outlier
    result = refine_depth(IMAGE, DepthMap(rough, "inverse_depth"), MaskSet(HARD[None]))
    assert any(note.startswith("1 depth value(s)") for note in result.notes)
    clean = refine(HARD)
    assert result.depth.values[0, 0] == np.float32(outlier)
    moved = np.abs(clean.depth.values - INVERSE)
    assert np.abs(result.depth.values - clean.depth.values)[1:].max() < 0.3 * moved.max()


def test_a_depth_without_an_edge_at_the_mask_is_noted_and_kept() -> None:
    slope = np.linspace(1, 2, INVERSE.size, dtype=np.float32).reshape(SIZE)
    result = refine_depth(IMAGE, DepthMap(slope, "inverse_depth"), MaskSet(HARD[None]))
    np.testing.assert_array_equal(result.depth.values, slope)
    assert len(result.notes) == 1
    assert "Nothing was changed" in result.notes[0]


def test_masks_to_ignore_make_their_pixels_invalid_and_change_no_other() -> None:
    valid = np.ones(SIZE, bool)
    valid[:3] = False
    depth = DepthMap(INVERSE, "inverse_depth", "m", valid)
    masks = MaskSet(np.stack([HARD, soft(disk((20, 50), 8)).round()]), role="ignore")
    result = refine_depth(IMAGE, depth, masks)
    kept = valid & ~(masks[0] + masks[1] > 0)
    np.testing.assert_array_equal(result.depth.usable, kept)
    np.testing.assert_array_equal(result.depth.values, np.where(kept, INVERSE, 0))
    assert result.layers == ()
    assert "ignore" in result.notes[0]


@any_completer
def test_hard_masks_leave_no_depth_between_the_layers(completer: LayerCompleter) -> None:
    result = refine(soft(INSIDE), completer=completer, hard_masks=True)
    as_if = refine(soft(INSIDE) >= 0.5, completer=completer)
    np.testing.assert_array_equal(result.depth.values, as_if.depth.values)
    assert set(np.unique(result.layers[0].alpha)) == {0.0, 1.0}


def test_layers_are_kept_only_on_request() -> None:
    kept, dropped = refine(THREE), refine(THREE, keep_layers=False)
    assert [pair.name for pair in kept.layers] == ["mask0", "mask1", "mask2"]
    assert dropped.layers == ()
    np.testing.assert_array_equal(dropped.depth.values, kept.depth.values)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integer_masks_are_the_shares_they_stand_for(dtype: DTypeLike) -> None:
    full = np.iinfo(np.dtype(dtype)).max
    counted = np.round(soft(INSIDE) * full).astype(dtype)
    np.testing.assert_array_equal(
        refine(counted).depth.values, refine(MaskSet(counted[None])[0]).depth.values
    )


# Sizes and resolutions


@pytest.mark.parametrize("size", [(1, 40), (40, 1), (2, 2), (3, 5), (33, 57), (57, 33), (2, 90)])
@pytest.mark.parametrize("resolution", [16, 1024])
def test_any_size_gives_a_finite_result_within_range(size: Size, resolution: int) -> None:
    inside = np.add(*np.indices(size)) * 2 >= size[0] + size[1] - 2
    inverse = np.where(inside, np.float32(5), np.float32(1)) + np.indices(size)[1].astype("f4") / 99
    for completer in (ClassicalCompleter(resolution=resolution), Fake(resolution=resolution)):
        result = refine(inside, inverse, completer)
        assert result.depth.size == size
        assert np.isfinite(result.depth.values).all()
        if isinstance(completer, ClassicalCompleter):
            assert result.depth.values.min() >= inverse.min() - 0.05
            assert result.depth.values.max() <= inverse.max() + 0.05


@pytest.mark.parametrize("resolution", [16, 40, 64, 1024])
def test_completers_see_small_images_and_each_side_of_each_mask(resolution: int) -> None:
    completer = Fake(resolution)
    refine(THREE, completer=completer)
    assert len(completer.sizes) == 2 * len(THREE)
    for height, width in completer.sizes:
        assert width == min(resolution, SIZE[1])
        assert height == round(SIZE[0] * width / SIZE[1])


@pytest.mark.parametrize("scale", [1, 3])
def test_what_a_layer_hides_is_the_completers_whatever_its_gate(scale: int) -> None:
    size = (20 * scale, 30 * scale)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    rough = DepthMap(
        np.linspace(1, 2, size[0] * size[1], dtype=np.float32).reshape(size), "inverse_depth"
    )
    mask = np.zeros((1, *size), np.float32)
    mask[0, :, : size[1] // 2] = 1

    class Shut:
        name, resolution = "shut", 30

        def __call__(self, image: Any, inverse_depth: Any, mask: Any) -> Completion:
            return Completion(np.full_like(inverse_depth, 5), np.zeros_like(inverse_depth))

    found = refine_depth(image, rough, MaskSet(mask), completer=Shut())
    np.testing.assert_array_equal(found.depth.values, rough.values)
    (pair,) = found.layers
    inside = mask[0] == 1
    for layer, own in ((pair.foreground, inside), (pair.background, ~inside)):
        np.testing.assert_array_equal(layer[own], rough.values[own])
        np.testing.assert_allclose(layer[~own], 1.5, atol=1e-5)


@pytest.mark.parametrize("size", [(48, 64), (33, 57), (95, 127)])
@pytest.mark.parametrize("resolution", [8, 16, 1024])
def test_the_edge_of_the_result_is_that_of_the_full_resolution_mask(
    size: Size, resolution: int
) -> None:
    y, x = np.indices(size)
    inside = np.hypot(y - size[0] / 2, x - size[1] / 2) < size[0] / 3 + 3 * np.sin(x / 2)
    inverse = (10 * x / (size[1] - 1)).astype(np.float32)
    result = refine(inside, inverse, TwoConstants(resolution))
    np.testing.assert_allclose(result.depth.values, np.where(inside, 8, 2), atol=1e-4)


@pytest.mark.parametrize("resolution", [32, 48, 64, 100])
def test_a_sharp_depth_larger_than_the_completers_resolution_is_left_sharp(
    resolution: int,
) -> None:
    inside = disk((48, 64), 28, (96, 128))
    sharp = np.where(inside, np.float32(6), np.float32(2))
    values = refine(inside, sharp, ClassicalCompleter(resolution=resolution)).depth.values
    np.testing.assert_allclose(values, sharp, atol=0.05)


# What a photo may be, and what is refused


def test_a_photo_of_16_bits_is_refined_like_its_8_bit_copy() -> None:
    depth, masks = DepthMap(INVERSE, "inverse_depth"), MaskSet(HARD[None])
    deep = refine_depth(IMAGE.astype(np.uint16) * 257, depth, masks)
    np.testing.assert_array_equal(deep.depth.values, refine(INSIDE).depth.values)


@pytest.mark.parametrize("resolution", [32, 1024])
@pytest.mark.parametrize(
    "view", [np.s_[::-1], np.s_[:, ::-1], np.s_[::2, ::2]], ids=["flipped", "mirrored", "strided"]
)
def test_views_of_arrays_are_as_good_as_copies(view: Any, resolution: int) -> None:
    arrays = IMAGE[view], INVERSE[view], soft(INSIDE)[view]
    results = [
        refine_depth(
            image,
            DepthMap(inverse, "inverse_depth"),
            MaskSet(mask[None]),
            completer=ClassicalCompleter(resolution=resolution),
        )
        for image, inverse, mask in (arrays, map(np.ascontiguousarray, arrays))
    ]
    assert results[0].changed.any()
    np.testing.assert_array_equal(results[0].depth.values, results[1].depth.values)


def test_inputs_are_not_written_to_and_may_be_read_only() -> None:
    image, inverse, mask = IMAGE.copy(), INVERSE.copy(), soft(INSIDE)
    copies = image.copy(), inverse.copy(), mask.copy()
    arrays: tuple[NDArray[Any], ...] = (image, inverse, mask)
    for array in arrays:
        array.flags.writeable = False
    result = refine_depth(image, DepthMap(inverse, "inverse_depth"), MaskSet(mask[None]))
    for after, before in zip((image, inverse, mask), copies, strict=True):
        np.testing.assert_array_equal(after, before)
    with pytest.raises(ValueError, match="read-only"):
        result.depth.values[...] = 0


@pytest.mark.parametrize(
    "image", [IMAGE.astype(np.float64), IMAGE[..., 0], np.dstack([IMAGE, IMAGE[..., :1]])]
)
def test_what_is_not_a_photo_is_refused(image: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match=r"photo is \(h, w, 3\) uint8 or uint16"):
        refine_depth(image, DepthMap(INVERSE, "inverse_depth"), MaskSet(HARD[None]))


def test_other_sizes_are_refused_with_both_sizes() -> None:
    depth, masks = DepthMap(INVERSE, "inverse_depth"), MaskSet(HARD[None])
    with pytest.raises(ValueError, match=r"depth map is \(64, 48\).*photo \(48, 64\)"):
        refine_depth(IMAGE, replace(depth, values=INVERSE.T, valid=None), masks)
    with pytest.raises(ValueError, match=r"mask is \(64, 48\).*photo \(48, 64\)"):
        refine_depth(IMAGE, depth, MaskSet(HARD.T[None]))


@pytest.mark.parametrize(("value", "message"), [(3, "constant"), (np.nan, "no valid pixel")])
@any_kind
def test_a_depth_without_anything_to_refine_is_refused(
    value: float, message: str, kind: Kind, unit: Unit
) -> None:
    depth = DepthMap(np.full(SIZE, value, np.float32), kind, unit)
    with pytest.raises(ValueError, match=message):
        refine_depth(IMAGE, depth, MaskSet(HARD[None]))
