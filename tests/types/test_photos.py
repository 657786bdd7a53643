"""The values that travel say what is wrong when they are built, and stay what they were."""

from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import DTypeLike, NDArray

from crispdepth.types import (
    BoolMap,
    Camera,
    DepthMap,
    Float32Map,
    Kind,
    LayerPair,
    MaskSet,
    RefinedDepth,
    Unit,
    View,
)

SIZE = (6, 8)
K = np.array([[50.0, 0.5, 4], [0, 40, 3], [0, 0, 1]])
PHOTO = np.zeros((*SIZE, 3), np.uint8)
ONES = np.ones(SIZE, np.float32)
KINDS: list[tuple[Kind, Unit]] = [
    ("depth", "m"),
    ("depth", "relative"),
    ("inverse_depth", "m"),
    ("inverse_depth", "relative"),
]


def can_be_a_distance(values: Float32Map, kind: Kind, unit: Unit) -> BoolMap:
    if kind == "depth":
        return np.isfinite(values) & (values >= np.finfo(np.float32).tiny)
    return np.isfinite(values) & ((values >= 0) | (unit == "relative"))


# Camera


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"K": np.eye(4)}, r"K must be a finite \(3, 3\)"),
        ({"K": np.full((3, 3), np.nan)}, r"K must be a finite \(3, 3\)"),
        ({"K": np.diag([50.0, 50, 0])}, "invertible"),
        ({"cam_from_world": np.eye(3)}, r"cam_from_world must be a finite \(4, 4\)"),
        ({"cam_from_world": np.full((4, 4), np.inf)}, r"cam_from_world must be a finite"),
        ({"size": (0, 8)}, r"positive \(height, width\), got \(0, 8\)"),
        ({"size": (6, -1)}, "positive"),
    ],
)
def test_a_camera_refuses(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Camera(**{"K": K, "size": SIZE, **change})


@given(
    st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
    st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.1, 10)),
)
def test_a_resized_camera_sees_every_point_at_the_same_place_of_the_image(
    size: tuple[int, int], point: tuple[float, float, float]
) -> None:
    camera = Camera(K, SIZE)
    resized = camera.resized(size)
    before, after = camera.K @ point, resized.K @ point
    share = before[:2] / before[2] / SIZE[::-1]
    np.testing.assert_allclose(after[:2] / after[2] / size[::-1], share, rtol=1e-9, atol=1e-9)
    assert resized.size == size
    np.testing.assert_allclose(resized.resized(SIZE).K, K, rtol=1e-12)


def test_resizing_a_camera_leaves_it_where_it_stands() -> None:
    pose = np.eye(4)
    pose[:3, 3] = 1, 2, 3
    np.testing.assert_array_equal(Camera(K, SIZE, pose).resized((12, 4)).cam_from_world, pose)


# DepthMap


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "disparity"}, "kind must be one of .*'disparity'"),
        ({"unit": "mm"}, "unit must be one of .*'mm'"),
        ({"values": np.ones(8)}, r"\(h, w\) array, got \(8,\)"),
        ({"values": np.ones((6, 8, 1))}, r"\(h, w\) array, got \(6, 8, 1\)"),
        ({"values": np.ones((0, 8))}, "non-empty"),
        ({"valid": np.ones((8, 6), bool)}, r"valid is \(8, 6\), the depth map is \(6, 8\)"),
        ({"camera": Camera(K, (12, 16))}, r"\(12, 16\), the depth map is \(6, 8\).*resized"),
    ],
)
def test_a_depth_map_refuses(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DepthMap(**{"values": ONES, "kind": "depth", **change})


@given(
    hnp.arrays(np.float32, SIZE, elements=st.floats(width=32)),
    hnp.arrays(bool, SIZE),
    st.sampled_from(KINDS),
)
def test_a_value_is_valid_if_it_may_be_and_can_be_a_distance(
    values: Float32Map, valid: BoolMap, meaning: tuple[Kind, Unit]
) -> None:
    depth = DepthMap(values, *meaning, valid)
    np.testing.assert_array_equal(depth.usable, valid & can_be_a_distance(values, *meaning))
    np.testing.assert_array_equal(depth.values[depth.usable], values[depth.usable])
    assert not depth.values[~depth.usable].any()
    everywhere = DepthMap(values, *meaning)
    np.testing.assert_array_equal(everywhere.usable, can_be_a_distance(values, *meaning))


@given(
    hnp.arrays(np.float32, SIZE, elements=st.floats(width=32)),
    st.sampled_from(KINDS),
)
def test_building_a_depth_map_again_changes_nothing(
    values: Float32Map, meaning: tuple[Kind, Unit]
) -> None:
    once = DepthMap(values, *meaning)
    again = DepthMap(once.values, *meaning, once.valid)
    np.testing.assert_array_equal(again.values, once.values)
    np.testing.assert_array_equal(again.usable, once.usable)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.uint16, np.int32])
def test_depth_of_any_number_type_becomes_float32(dtype: DTypeLike) -> None:
    depth = DepthMap(np.full(SIZE, 3, dtype), "depth", "m")
    assert depth.values.dtype == np.float32
    assert (depth.values == 3).all()
    assert depth.size == SIZE


def test_a_distance_too_large_for_float32_is_invalid() -> None:
    values: NDArray[Any] = np.ones(SIZE)
    values[0, 0] = 1e300
    assert np.count_nonzero(~DepthMap(values, "depth").usable) == 1


# MaskSet


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": np.zeros((6, 8), np.uint8)}, r"\(n, h, w\) array, got \(6, 8\)"),
        ({"values": np.zeros((1, 0, 8), np.uint8)}, r"\(n, h, w\) array"),
        ({"values": np.zeros((1, 6, 8), np.int64)}, "int64"),
        ({"values": np.full((1, 6, 8), 255.0)}, r"in \[0, 1\], got a value of 255"),
        ({"values": np.full((1, 6, 8), -0.1)}, "finite and >= 0"),
        ({"values": np.full((1, 6, 8), np.nan)}, "finite and >= 0"),
        ({"values": np.full((1, 6, 8), np.inf)}, "finite and >= 0"),
        ({"role": "subject"}, "role must be one of .*'subject'"),
        ({"names": ("a",)}, "2 distinct mask names"),
        ({"names": ("a", "a")}, "2 distinct mask names"),
    ],
)
def test_a_mask_set_refuses(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaskSet(**({"values": np.zeros((2, *SIZE), np.uint8)} | change))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.float32, np.float64])
def test_a_mask_runs_from_exactly_0_to_exactly_1(dtype: DTypeLike) -> None:
    full = np.iinfo(np.dtype(dtype)).max if np.dtype(dtype).kind == "u" else 1
    values: NDArray[Any] = np.zeros((1, *SIZE), dtype)
    values[0, 2] = full
    mask = MaskSet(values)[0]
    assert mask.dtype == np.float32
    assert set(np.unique(mask)) == {0.0, 1.0}
    assert (mask[2] == 1).all()


@given(st.integers(0, 255))
def test_both_integer_types_mean_the_same_share(level: int) -> None:
    eight = MaskSet(np.full((1, 2, 2), level, np.uint8))[0]
    sixteen = MaskSet(np.full((1, 2, 2), level * 257, np.uint16))[0]
    np.testing.assert_array_equal(eight, sixteen)
    np.testing.assert_allclose(eight, level / 255, rtol=1e-6)


def test_masks_have_names_a_length_and_a_size() -> None:
    masks = MaskSet(np.zeros((2, *SIZE), np.uint8))
    assert (masks.names, len(masks), masks.size) == (("mask0", "mask1"), 2, SIZE)
    assert len(MaskSet(np.zeros((0, *SIZE), np.uint8))) == 0


# View


@pytest.mark.parametrize("image", [PHOTO[..., 0], PHOTO[..., :2], PHOTO.astype(np.float64)])
def test_a_view_refuses_what_is_not_a_photo(image: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="photo is"):
        View(image)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("camera", Camera(K, (8, 6))),
        ("depth", DepthMap(ONES.T, "depth")),
        ("masks", MaskSet(ONES.T[None])),
    ],
)
def test_a_view_refuses_a_part_of_another_size(part: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"is \(8, 6\), the photo is \(6, 8\)"):
        View(PHOTO, **{part: value})


# All of them


def test_values_refuse_to_be_changed() -> None:
    depth, masks, camera = DepthMap(ONES, "depth"), MaskSet(ONES[None]), Camera(K, SIZE)
    arrays: list[NDArray[Any]] = [depth.values, depth.usable, masks.values, masks[0]]
    arrays += [camera.K, camera.cam_from_world, View(PHOTO).image]
    refined = RefinedDepth(PHOTO, depth, depth, masks, (), np.copy(ONES), np.copy(ONES))
    pair = LayerPair("cat", *(np.copy(ONES) for _ in range(3)))
    arrays += [refined.image, refined.confidence, refined.gate]
    arrays += [pair.alpha, pair.foreground, pair.background]
    for array in arrays:
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    for value, name in ((depth, "values"), (masks, "values"), (camera, "K")):
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, None)


def test_building_a_value_leaves_the_callers_array_writable_and_as_it_was() -> None:
    values = np.array([[1, np.nan], [-1, 2]], np.float32)
    DepthMap(values, "depth")
    np.testing.assert_array_equal(values, [[1, np.nan], [-1, 2]])
    values[0, 0] = 5


def test_large_arrays_are_not_copied() -> None:
    values = np.ones(SIZE, np.float32)
    assert np.shares_memory(DepthMap(values, "depth").values, values)
    assert np.shares_memory(MaskSet(values[None]).values, values)


def test_printing_a_value_says_what_it_is_and_no_pixels() -> None:
    half = np.where(np.arange(8) < 4, 1, 0) * ONES
    depth, masks = DepthMap(half, "depth", "m"), MaskSet(half[None], ("cat",))
    assert repr(depth) == "DepthMap(size=(6, 8), kind='depth', unit='m', valid=50.0%, camera=None)"
    assert repr(masks) == "MaskSet((1, 6, 8) float32, names=('cat',), role='object')"
    pair = LayerPair("cat", half, half, half)
    refined = RefinedDepth(PHOTO, depth, depth, masks, (pair,), half, half, ("odd",))
    assert repr(refined) == (
        f"RefinedDepth(initial={depth!r}, depth={depth!r}, masks={masks!r}, "
        "layers=(LayerPair(name='cat'),), notes=('odd',))"
    )
    assert repr(View(PHOTO, "a")) == "View(name='a', camera=None, depth=None, masks=None)"


def test_what_changed_is_where_the_gate_is_open() -> None:
    gate = np.zeros(SIZE, np.float32)
    gate[1, 2] = 0.1
    depth = DepthMap(ONES, "depth")
    refined = RefinedDepth(PHOTO, depth, depth, MaskSet(ONES[None]), (), ONES, gate)
    np.testing.assert_array_equal(refined.changed, gate > 0)
