import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crispdepth.data.crop import (
    FLAT,
    Square,
    cut,
    cut_frame,
    frame_crop,
    large_instances,
    object_crop,
    stuff_crop,
)
from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.strokes import Mask
from crispdepth.types import DepthMap, Float32Map

SIZES = st.integers(4, 90)


def box_mask(height: int, width: int, top: int, left: int, bottom: int, right: int) -> Mask:
    mask = np.zeros((height, width), np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def frame_of(depth: Float32Map) -> RgbdFrame:
    image = np.zeros((*depth.shape, 3), np.uint8)
    return RgbdFrame("frame", image, DepthMap(depth, "depth", "m"))


@given(
    height=SIZES, width=SIZES, patch=st.integers(2, 64), seed=st.integers(0, 999), data=st.data()
)
def test_an_object_crop_holds_the_whole_object_at_a_useful_size(
    height: int, width: int, patch: int, seed: int, data: st.DataObject
) -> None:
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom = data.draw(st.integers(top + 1, height))
    right = data.draw(st.integers(left + 1, width))
    mask = box_mask(height, width, top, left, bottom, right)
    square = object_crop(mask, patch, np.random.default_rng(seed))
    assert cut(mask, square, square.side, cv2.INTER_NEAREST).sum() == mask.sum()
    longer = max(bottom - top, right - left)
    if longer < patch:
        assert square.side == patch
    else:
        assert longer <= square.side <= 2 * longer
    if square.side <= min(height, width):
        assert square == square.within((height, width))


def test_an_empty_mask_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="empty mask"):
        object_crop(np.zeros((9, 9), np.uint8), 4, rng)


@given(height=SIZES, width=SIZES, seed=st.integers(0, 999))
def test_a_stuff_crop_is_half_to_all_of_the_height(height: int, width: int, seed: int) -> None:
    square = stuff_crop((height, width), np.random.default_rng(seed))
    assert height <= 2 * square.side <= 2 * height
    assert 0 <= square.top <= height - square.side
    if square.side <= width:
        assert 0 <= square.left <= width - square.side
    else:
        assert width - square.side <= square.left <= 0


@given(height=SIZES, width=SIZES, seed=st.integers(0, 999))
def test_a_frame_crop_is_inside_and_at_least_half_of_the_shorter_side(
    height: int, width: int, seed: int
) -> None:
    square = frame_crop((height, width), np.random.default_rng(seed))
    assert square == square.within((height, width))
    assert round(min(height, width) / 2) <= square.side <= min(height, width)


def test_a_square_moves_and_shrinks_into_its_image() -> None:
    assert Square(-3, 8, 5).within((20, 10)) == Square(0, 5, 5)
    assert Square(-3, 8, 50).within((20, 10)) == Square(0, 0, 10)


def test_what_is_cut_beyond_the_array_is_zero() -> None:
    pixels = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
    part = cut(pixels, Square(-1, 2, 4), 4, cv2.INTER_NEAREST)
    np.testing.assert_array_equal(part[1:, :2], pixels[:, 2:])
    assert not part[0].any()
    assert not part[:, 2:].any()


def test_cutting_resizes_images_and_maps_alike(rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (30, 40, 3)).astype(np.uint8)
    square = Square(3, 5, 20)
    part = cut(image, square, 10, cv2.INTER_NEAREST_EXACT)
    assert part.shape == (10, 10, 3)
    for channel in range(3):
        plane = np.ascontiguousarray(image[..., channel])
        np.testing.assert_array_equal(
            part[..., channel], cut(plane, square, 10, cv2.INTER_NEAREST_EXACT)
        )


@pytest.mark.parametrize("patch", [16, 40, 64, 100])
def test_no_depth_appears_between_two_surfaces(patch: int) -> None:
    depth = np.full((64, 64), 4, np.float32)
    depth[20:41, 13:37] = 1
    inverse = cut_frame(frame_of(depth), Square(0, 0, 64), patch, False).inverse
    assert np.minimum(np.abs(inverse - 2.5), np.abs(inverse - 10)).max() < FLAT
    assert {inverse.min(), inverse.max()} == {np.float32(2.5), np.float32(10)}


def test_a_slanted_plane_stays_a_plane_when_enlarged() -> None:
    inverse = np.tile(np.linspace(1, 2, 40, dtype=np.float32), (40, 1))
    patch = cut_frame(frame_of(np.reciprocal(inverse)), Square(0, 0, 40), 80, False).inverse
    slopes = np.diff(patch[40, 4:-4])
    np.testing.assert_allclose(slopes, slopes.mean(), rtol=0.02)


def test_the_nearest_pixel_of_the_whole_frame_is_at_ten() -> None:
    depth = np.full((40, 60), 8, np.float32)
    depth[0, 0] = 2
    far_corner = cut_frame(frame_of(depth), Square(20, 40, 20), 20, False)
    np.testing.assert_allclose(far_corner.inverse, 10 * 2 / 8)
    near_corner = cut_frame(frame_of(depth), Square(0, 0, 20), 20, False)
    assert near_corner.inverse.max() == 10


@pytest.mark.parametrize("invalid_is_far", [True, False])
def test_unmeasured_depth_is_zero_and_valid_only_where_it_means_far(invalid_is_far: bool) -> None:
    depth = np.full((40, 40), 3, np.float32)
    depth[:, 20:] = 0
    patch = cut_frame(frame_of(depth), Square(0, 0, 40), 20, invalid_is_far)
    np.testing.assert_array_equal(patch.inverse[:, 10:], 0)
    np.testing.assert_array_equal(patch.inverse[:, :10], 10)
    assert patch.valid[:, :10].all()
    assert np.all(patch.valid[:, 10:] == invalid_is_far)


def test_a_frame_without_a_measurement_gives_an_invalid_patch() -> None:
    patch = cut_frame(frame_of(np.zeros((20, 20), np.float32)), Square(0, 0, 20), 10, False)
    assert not patch.valid.any()
    assert not patch.inverse.any()


@pytest.mark.parametrize("label", [1, 7, 10**7])
def test_instances_are_large_from_one_percent_on(label: int) -> None:
    instances = np.zeros((100, 100), np.int32)
    instances[:10, :10] = label
    instances[50, :99] = label + 1
    instances[60:80] = -1
    np.testing.assert_array_equal(large_instances(instances), [label])
    np.testing.assert_array_equal(large_instances(instances.clip(0)), [label])
