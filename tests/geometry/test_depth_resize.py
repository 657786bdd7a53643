"""`resize_depth`: half-pixel centres, inverse depth, and nothing from invalid pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crispdepth.geometry.depth import resize_depth
from crispdepth.types import Camera, DepthMap, Float32Map, Kind, Size

SIZES = st.tuples(st.integers(1, 24), st.integers(1, 24))
KINDS: tuple[Kind, ...] = ("depth", "inverse_depth")


def inverse_plane(size: Size, frame: Size) -> Float32Map:
    """Inverse depth of one slanted plane, at the pixel centres of a ``size`` view of ``frame``."""
    y = (np.arange(size[0]) + 0.5) * frame[0] / size[0]
    x = (np.arange(size[1]) + 0.5) * frame[1] / size[1]
    return (1 + 0.02 * x[None] + 0.05 * y[:, None]).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(SIZES, SIZES, st.sampled_from(KINDS), st.floats(2**-10, 2**10, width=32))
def test_a_constant_stays_exactly_the_same(
    size: Size, target: Size, kind: Kind, value: float
) -> None:
    resized = resize_depth(DepthMap(np.full(size, value, np.float32), kind), target)
    assert resized.size == target
    assert resized.usable.all()
    assert (resized.values == np.float32(value)).all()


@settings(max_examples=60, deadline=None)
@given(SIZES, SIZES, st.integers(0, 2**32 - 1), st.sampled_from(KINDS))
def test_invalid_pixels_never_bleed(size: Size, target: Size, seed: int, kind: Kind) -> None:
    rng = np.random.default_rng(seed)
    valid = rng.random(size) < 0.6
    values = np.where(valid, rng.uniform(3, 4, size), np.nan).astype(np.float32)
    resized = resize_depth(DepthMap(values, kind, "m"), target)
    inside = resized.values[resized.usable]
    assert ((inside >= 3) & (inside <= 4)).all()
    assert (resized.values[~resized.usable] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", [(40, 60), (10, 15), (7, 11)])
def test_a_plane_stays_where_it_is(kind: Kind, target: Size) -> None:
    frame = (20, 30)
    inverse = inverse_plane(frame, frame)
    depth = DepthMap(inverse if kind == "inverse_depth" else np.reciprocal(inverse), kind, "m")
    resized = resize_depth(depth, target)
    found = resized.values if kind == "inverse_depth" else 1 / resized.values
    # Beyond the outermost pixel centres there is nothing to interpolate; and an area average
    # over parts of pixels takes each pixel as flat.
    inner, rtol = np.s_[2:-2, 2:-2], 1e-3 if target == (7, 11) else 1e-5
    np.testing.assert_allclose(found[inner], inverse_plane(target, frame)[inner], rtol=rtol)


def test_the_same_size_is_the_same_map() -> None:
    depth = DepthMap(np.ones((3, 4), np.float32), "depth")
    assert resize_depth(depth, (3, 4)) is depth


def test_the_camera_is_resized_too() -> None:
    camera = Camera(np.array([[50.0, 0, 8], [0, 50, 6], [0, 0, 1]]), (12, 16))
    depth = DepthMap(np.ones((12, 16), np.float32), "depth", "m", camera=camera)
    resized = resize_depth(depth, (24, 32)).camera
    assert resized is not None
    assert resized.size == (24, 32)
    np.testing.assert_allclose(resized.K, [[100, 0, 16], [0, 100, 12], [0, 0, 1]])


def test_a_map_without_a_valid_pixel_stays_without_one() -> None:
    assert not resize_depth(DepthMap(np.zeros((4, 4), np.float32), "depth"), (9, 9)).usable.any()


def test_negative_relative_inverse_depth_survives() -> None:
    values = np.linspace(-2, 2, 8 * 8, dtype=np.float32).reshape(8, 8)
    resized = resize_depth(DepthMap(values, "inverse_depth"), (16, 16))
    assert resized.usable.all()
    assert resized.values.min() == pytest.approx(-2)
