"""Shrinking and growing keep what is linear; a photo's edge decides where a map's edge lies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import DTypeLike, NDArray

from crispdepth.ops.resample import (
    joint_upsample,
    same_aspect,
    shrink,
    shrink_depth,
    size_within,
    upsample,
)
from crispdepth.types import Float32Map, Size

SIZES = [((12, 16), (96, 128)), ((9, 13), (33, 57)), ((1, 16), (1, 100)), ((7, 5), (7, 5))]
Photo = NDArray[np.uint8]


def plane(size: Size, frame: Size) -> Float32Map:
    """One slanted plane at the pixel centres of a ``size`` view of ``frame``."""
    y = (np.arange(size[0]) + 0.5) * frame[0] / size[0]
    x = (np.arange(size[1]) + 0.5) * frame[1] / size[1]
    return (3 + 0.02 * x[None] - 0.05 * y[:, None]).astype(np.float32)


def noise_photo(size: Size) -> Photo:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)


def halves(size: Size, edge: int) -> Photo:
    """A photo that is dark left of column ``edge`` and bright from there on."""
    photo = np.full((*size, 3), 40, np.uint8)
    photo[:, edge:] = 210
    return photo


def small(photo: Photo, size: Size) -> NDArray[np.float32]:
    reduced: NDArray[np.float32] = shrink(photo, size).astype(np.float32) / np.float32(255)
    return reduced


@pytest.mark.parametrize("longer", [1, 7, 320, 5000])
@pytest.mark.parametrize("size", [(1, 1), (1, 900), (480, 640), (3000, 17)])
def test_a_size_within_a_length_keeps_its_aspect_and_never_grows(longer: int, size: Size) -> None:
    found = size_within(longer, size)
    assert max(found) == min(longer, max(size))
    assert all(1 <= after <= before for after, before in zip(found, size, strict=True))
    assert found == size or min(found) == 1 or same_aspect(found, size)


@pytest.mark.parametrize(("size", "target"), SIZES)
def test_a_constant_stays_a_constant_under_any_photo(size: Size, target: Size) -> None:
    photo = noise_photo(target)
    grown = joint_upsample(np.full(size, 3.7, np.float32), small(photo, size), photo)
    assert grown.shape == target
    assert grown.dtype == np.float32
    np.testing.assert_allclose(grown, 3.7, rtol=1e-6)


@pytest.mark.parametrize(("size", "target"), SIZES)
def test_a_plane_stays_a_plane_under_any_photo(size: Size, target: Size) -> None:
    photo = noise_photo(target)
    grown = joint_upsample(plane(size, target), small(photo, size), photo)
    # Beyond the outermost pixel centres there is nothing to interpolate.
    rows, columns = (
        slice(margin, length - margin)
        for length, margin in zip(
            target,
            (int(np.ceil(target[i] / size[i] / 2)) * (size[i] > 1) for i in (0, 1)),
            strict=True,
        )
    )
    np.testing.assert_allclose(
        grown[rows, columns], plane(target, target)[rows, columns], atol=1e-4
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_under_a_constant_photo_it_is_bilinear(seed: int) -> None:
    values = np.random.default_rng(seed).uniform(0, 10, (9, 12)).astype(np.float32)
    photo = np.full((40, 50, 3), 128, np.uint8)
    np.testing.assert_allclose(
        joint_upsample(values, small(photo, (9, 12)), photo), upsample(values, (40, 50)), atol=1e-4
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_nothing_leaves_the_range_of_the_map(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.uniform(0, 10, (9, 12)).astype(np.float32)
    photo = rng.integers(0, 256, (40, 50, 3), np.uint8)
    grown = joint_upsample(values, small(photo, (9, 12)), photo)
    assert values.min() - 1e-5 <= grown.min()
    assert grown.max() <= values.max() + 1e-5


@pytest.mark.parametrize("edge", range(60, 69))
def test_an_edge_snaps_to_the_photos_edge_between_two_samples(edge: int) -> None:
    """The map's edge is known to a cell of 8 pixels; the photo's to one."""
    target, size, scale = (48, 128), (6, 16), 8
    photo = halves(target, edge)
    sharp = np.where(np.arange(target[1]) < edge, 2, 8)
    values = np.where((np.arange(size[1]) + 0.5) * scale < edge, 2, 8).astype(np.float32)
    values = np.ascontiguousarray(np.broadcast_to(values, size))
    grown = joint_upsample(values, small(photo, size), photo)
    blurred = upsample(values, target)
    error, before = np.abs(grown - sharp), np.abs(blurred - sharp)
    assert error.mean() < 0.5 * before.mean()
    middle = np.abs(np.arange(target[1]) - edge + 0.5) > scale
    assert error[:, middle].max() < 0.1


def test_where_the_map_has_no_edge_the_photos_edges_leave_no_trace() -> None:
    photo = halves((48, 128), 61)
    values = np.tile(np.linspace(0, 10, 16, dtype=np.float32), (6, 1))
    np.testing.assert_allclose(
        joint_upsample(values, small(photo, (6, 16)), photo), upsample(values, (48, 128)), atol=1e-4
    )


def test_where_nobody_looks_it_is_bilinear_and_elsewhere_unchanged() -> None:
    rng = np.random.default_rng(0)
    size = (40, 50)
    photo = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    values = rng.random((9, 12), np.float32)
    where = rng.random(size) > 0.5
    whole = joint_upsample(values, small(photo, (9, 12)), photo)
    part = joint_upsample(values, small(photo, (9, 12)), photo, where)
    np.testing.assert_array_equal(part[where], whole[where])
    np.testing.assert_array_equal(part[~where], upsample(values, size)[~where])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_shrinking_averages_and_the_same_size_is_the_same_image(dtype: DTypeLike) -> None:
    image = np.kron([[0, 100], [200, 40]], np.ones((4, 6))).astype(dtype)
    np.testing.assert_array_equal(shrink(image, (2, 2)), [[0, 100], [200, 40]])
    np.testing.assert_array_equal(shrink(image, (1, 1)), [[85]])
    assert shrink(image, (8, 12)) is image


@given(small=st.tuples(st.integers(1, 500), st.integers(1, 500)), scale=st.floats(1, 12))
def test_a_size_has_the_aspect_of_its_own_scaled_and_rounded_copy(
    small: Size, scale: float
) -> None:
    large = round(small[0] * scale), round(small[1] * scale)
    rounded = round(large[0] / scale), round(large[1] / scale)
    assert same_aspect(large, rounded)
    assert same_aspect(rounded, large)


@given(
    a=st.tuples(st.integers(1, 99), st.integers(1, 99)),
    b=st.tuples(st.integers(1, 99), st.integers(1, 99)),
)
def test_aspect_is_symmetric_and_turns_with_both(a: Size, b: Size) -> None:
    assert same_aspect(a, b) == same_aspect(b, a)
    assert same_aspect(a, b) == same_aspect(a[::-1], b[::-1])


@pytest.mark.parametrize(
    ("a", "b"), [((480, 640), (640, 480)), ((480, 640), (1000, 1000)), ((300, 400), (300, 410))]
)
def test_other_aspects_are_told_apart(a: Size, b: Size) -> None:
    assert not same_aspect(a, b)


def test_depth_shrinks_without_values_between_surfaces_and_keeps_planes() -> None:
    rows, columns = np.mgrid[:48, :64] + 0.5
    near = 1 / (0.4 + 0.001 * columns - 0.002 * rows)  # affine inverse depth: a plane
    depth = np.where(columns < 30.2, near, 5.0).astype(np.float32)
    depth[:8] = 0
    small, weight = shrink_depth(depth, np.full(depth.shape, 0.5, np.float32), (12, 16))
    assert not small[:2].any()
    assert not weight[:2].any()
    y, x = (np.mgrid[:12, :16] + 0.5) * 4
    plane = 1 / (0.4 + 0.001 * x - 0.002 * y)
    np.testing.assert_allclose(small[2:, :7], plane[2:, :7], rtol=1e-6)
    np.testing.assert_array_equal(small[2:, 8:], 5)
    np.testing.assert_allclose(weight[2:, :7], 0.5)
    edge = small[2:, 7]  # columns 28 to 31: a half of each
    assert ((np.abs(edge - plane[2:, 7]) < 0.02) | (edge == 5)).all()
    np.testing.assert_allclose(weight[2:, 7], 0.25)


def test_pixels_without_trust_have_no_say_when_depth_shrinks() -> None:
    depth = np.full((8, 8), 2.0, np.float32)
    depth[:4, :4] = 3
    trust = np.ones((8, 8), np.float32)
    trust[:4, :4] = 0
    trust[:4, 4:] = np.linspace(0, 1, 16).reshape(4, 4)
    small, weight = shrink_depth(depth, trust, (2, 2))
    np.testing.assert_allclose(small, np.array([[0, 2], [2, 2]]))
    np.testing.assert_allclose(weight, np.array([[0, 0.5], [1, 1]]), rtol=1e-6)
