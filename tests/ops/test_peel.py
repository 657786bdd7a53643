import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from crispdepth.ops.colour import linear_from_srgb, srgb_from_linear
from crispdepth.ops.peel import Layer, peel, shrink_layered
from crispdepth.types import DepthMap, Float32Map, Kind, LayerPair

SIZE = 40, 48
RED, BLUE, GREEN = (
    np.array(rgb, np.uint8) for rgb in ([220, 30, 20], [20, 60, 200], [10, 190, 40])
)


def flat(value: float) -> Float32Map:
    return np.full(SIZE, value, np.float32)


def box(top: int, bottom: int, left: int, right: int) -> Float32Map:
    mask = flat(0)
    mask[top:bottom, left:right] = 1
    return mask


def inverse(values: Float32Map) -> DepthMap:
    return DepthMap(values, "inverse_depth")


def over(layers: tuple[Layer, ...]) -> NDArray[np.float32]:
    out = np.zeros((*SIZE, 3), np.float32)
    for layer in layers:
        out = layer.colour + (1 - layer.alpha[..., None]) * out
    return out


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(0, 3))
def test_the_layers_over_each_other_are_the_photo(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    pairs = []
    for index in range(count):
        alpha = (rng.random(SIZE, np.float32) * 3 - 1).clip(0, 1)
        fore, back = rng.random((2, *SIZE), np.float32)
        pairs.append(LayerPair(str(index), alpha, fore, back))
    layers = peel(image, inverse(rng.random(SIZE, np.float32)), pairs)
    assert len(layers) == count + 1
    np.testing.assert_array_equal(srgb_from_linear(over(layers)), image)
    for layer in layers:
        assert 0 <= layer.alpha.min() <= layer.alpha.max() <= 1
        assert layer.colour.min() >= 0
        assert (layer.colour <= layer.alpha[..., None] + 1e-6).all()


def test_a_hard_mask_of_two_colours_comes_apart_cleanly() -> None:
    alpha = box(10, 30, 12, 36)
    image = np.where(alpha[..., None] == 1, RED, BLUE)
    pair = LayerPair("a", alpha, flat(2), flat(1))
    far, near = peel(image, inverse(1 + alpha), [pair])
    np.testing.assert_allclose(far.colour, np.tile(linear_from_srgb(BLUE), (*SIZE, 1)), atol=1e-6)
    np.testing.assert_allclose(near.alpha, alpha, atol=0.02)
    np.testing.assert_array_equal(near.inverse_depth, 2)
    np.testing.assert_array_equal(far.inverse_depth, 1)
    np.testing.assert_array_equal(far.alpha, 1)


def test_a_soft_border_is_separated_into_the_colours_of_its_sides() -> None:
    ramp = np.clip((np.arange(SIZE[1], dtype=np.float32) - 20) / 6, 0, 1)
    alpha = np.broadcast_to(ramp.astype(np.float32), SIZE).copy()
    red, blue = linear_from_srgb(RED), linear_from_srgb(BLUE)
    mixed = alpha[..., None] * red + (1 - alpha[..., None]) * blue
    pair = LayerPair("a", alpha, flat(2), flat(1))
    far, near = peel(srgb_from_linear(mixed), inverse(1 + alpha), [pair])
    clear = alpha > 0.1
    # A step of the photo's 8 bits is up to 0.009 in linear light, divided by alpha 0.1.
    front = near.colour[clear] / near.alpha[clear][:, None]
    np.testing.assert_allclose(front, np.tile(red, (len(front), 1)), atol=0.05)
    np.testing.assert_allclose(far.colour, np.tile(linear_from_srgb(BLUE), (*SIZE, 1)), atol=0.02)


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_mask_that_is_a_pixel_off_leaves_no_ghost(shift: int) -> None:
    truth = box(10, 30, 12, 36)
    image = np.where(truth[..., None] == 1, RED, BLUE)
    pair = LayerPair("a", np.roll(truth, shift, axis=1), flat(2), flat(1))
    far, _ = peel(image, inverse(1 + truth), [pair])
    np.testing.assert_allclose(far.colour, np.tile(linear_from_srgb(BLUE), (*SIZE, 1)), atol=0.01)


def test_layers_come_from_far_to_near_whatever_the_order_of_the_masks() -> None:
    left, right = box(5, 35, 4, 20), box(5, 35, 26, 44)
    image = np.where(left[..., None] == 1, RED, np.where(right[..., None] == 1, GREEN, BLUE))
    depth = inverse(1 + left + 2 * right)
    pairs = [LayerPair("left", left, flat(2), flat(1)), LayerPair("right", right, flat(3), flat(1))]
    for given_order in (pairs, pairs[::-1]):
        far, middle, near = peel(image, depth, given_order)
        np.testing.assert_array_equal(
            [middle.inverse_depth[0, 0], near.inverse_depth[0, 0]], [2, 3]
        )
        blue = np.tile(linear_from_srgb(BLUE), (*SIZE, 1))
        np.testing.assert_allclose(far.colour, blue, atol=2e-3)
        np.testing.assert_array_equal(far.inverse_depth, 1)


def test_an_object_continues_under_the_one_before_it() -> None:
    near, far = box(0, 40, 20, 30), box(0, 40, 0, 20)
    image = np.where(near[..., None] == 1, RED, np.where(far[..., None] == 1, GREEN, BLUE))
    pairs = [
        LayerPair("near", near, flat(3), np.where(far == 1, flat(2), flat(1))),
        LayerPair("far", far, flat(2), flat(1)),
    ]
    _, middle, _ = peel(image, inverse(1 + far + 2 * near), pairs)
    assert middle.alpha[20, 21] == 1  # hidden, beside the object
    assert middle.alpha[20, 29] == 0  # hidden, beside the background


def test_the_inside_of_a_mask_may_be_the_far_side() -> None:
    sky = box(0, 20, 0, 48)
    image = np.where(sky[..., None] == 1, BLUE, GREEN)
    pair = LayerPair("sky", sky, flat(1), flat(4))
    far, near = peel(image, inverse(4 - 3 * sky), [pair])
    np.testing.assert_allclose(near.alpha, 1 - sky, atol=0.02)
    np.testing.assert_array_equal(near.inverse_depth, 4)
    np.testing.assert_allclose(far.colour, np.tile(linear_from_srgb(BLUE), (*SIZE, 1)), atol=1e-6)


@pytest.mark.parametrize("kind", ["depth", "inverse_depth"])
def test_layers_hold_inverse_depth_of_either_kind(kind: Kind) -> None:
    alpha = box(10, 30, 12, 36)
    values = 2 + 2 * alpha if kind == "inverse_depth" else np.reciprocal(2 + 2 * alpha)
    sides = (4.0, 2.0) if kind == "inverse_depth" else (0.25, 0.5)
    pair = LayerPair("a", alpha, flat(sides[0]), flat(sides[1]))
    far, near = peel(np.zeros((*SIZE, 3), np.uint8), DepthMap(values, kind), [pair])
    assert (near.inverse_depth == 4).all()
    assert (far.inverse_depth == 2).all()


def test_depth_that_was_not_measured_is_filled() -> None:
    values = flat(3)
    values[5:9, 5:9] = np.nan
    (layer,) = peel(np.zeros((*SIZE, 3), np.uint8), inverse(values), [])
    np.testing.assert_array_equal(layer.inverse_depth, 3)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="The depth map is"):
        peel(np.zeros((9, 9, 3), np.uint8), inverse(flat(1)), [])


def test_shrinking_keeps_what_fits_and_scales_the_rest() -> None:
    pair = LayerPair("a", box(0, 20, 0, 48), flat(2), flat(1))
    image = np.zeros((*SIZE, 3), np.uint8)
    same = shrink_layered(image, inverse(flat(1)), [pair], 48)
    assert same.image is image
    half = shrink_layered(image, inverse(flat(1)), [pair], 24)
    assert half.image.shape == (20, 24, 3)
    assert half.depth.size == half.pairs[0].alpha.shape == (20, 24)
    np.testing.assert_array_equal(half.pairs[0].alpha[:10], 1)
    np.testing.assert_array_equal(half.pairs[0].foreground, 2)
