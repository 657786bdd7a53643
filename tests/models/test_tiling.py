import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from crispdepth.models.tiling import complete_tiled
from crispdepth.types import BoolMap, Completion, Float32Map, Size

TILE, MARGIN = 48, 5


def local(image: NDArray[np.float32], depth: Float32Map, mask: Float32Map) -> Completion:
    """The same everywhere, and it sees `MARGIN` pixels around and no more."""
    window = (2 * MARGIN + 1,) * 2
    layer = cv2.blur(depth * mask + image[..., 0], window, borderType=cv2.BORDER_REFLECT_101)
    gate = cv2.blur(mask, window, borderType=cv2.BORDER_REFLECT_101).clip(0, 1)
    return Completion(np.asarray(layer, np.float32), np.asarray(gate, np.float32))


def scene(size: Size, seed: int) -> tuple[NDArray[np.float32], Float32Map, Float32Map]:
    rng = np.random.default_rng(seed)
    blobs = cv2.GaussianBlur(rng.random(size, dtype=np.float32), (0, 0), 9)
    mask = (blobs > np.median(blobs)).astype(np.float32)
    return rng.random((*size, 3), dtype=np.float32), rng.random(size, dtype=np.float32), mask


def boundary(mask: Float32Map) -> BoolMap:
    edges = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    return np.asarray(edges > 0, bool)


@settings(max_examples=25, deadline=None)
@given(height=st.integers(20, 150), width=st.integers(20, 150), seed=st.integers(0, 99))
def test_tiles_of_a_local_completer_are_parts_of_one_call(
    height: int, width: int, seed: int
) -> None:
    inputs = scene((height, width), seed)
    whole = local(*inputs)
    tiled = complete_tiled(local, *inputs, whole, tile=TILE, margin=MARGIN)
    for found, expected in zip(tiled, whole, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(height=st.integers(20, 150), width=st.integers(20, 150), seed=st.integers(0, 99))
@example(height=145, width=146, seed=0)  # ramps there add up to a little less than 1
def test_at_the_boundary_only_tiles_count(height: int, width: int, seed: int) -> None:
    inputs = scene((height, width), seed)
    nothing = np.full((height, width), 1e3, np.float32)
    tiled = complete_tiled(local, *inputs, Completion(nothing, nothing), tile=TILE, margin=MARGIN)
    at = boundary(inputs[2])
    for found, expected in zip(tiled, local(*inputs), strict=True):
        np.testing.assert_allclose(found[at], expected[at], atol=1e-5)


def test_away_from_the_boundary_no_tile_is_computed() -> None:
    image, depth, mask = scene((48, 480), 0)
    mask[:] = 0
    mask[:, :20] = 1
    calls: list[Size] = []

    def counting(*inputs: NDArray[np.float32]) -> Completion:
        calls.append((inputs[2].shape[0], inputs[2].shape[1]))
        return local(*inputs)

    whole = Completion(np.zeros_like(depth), np.zeros_like(depth))
    tiled = complete_tiled(counting, image, depth, mask, whole, tile=TILE, margin=MARGIN)
    assert calls == [(48, 48)]
    assert not tiled.layer[:, 48:].any()


def test_blending_leaves_no_seam_in_a_constant() -> None:
    def constant(*inputs: NDArray[np.float32]) -> Completion:
        return Completion(np.full_like(inputs[1], 3), np.full_like(inputs[1], 0.5))

    image, depth, mask = scene((130, 170), 3)
    whole = constant(image, depth, mask)
    tiled = complete_tiled(constant, image, depth, mask, whole, tile=TILE, margin=MARGIN)
    np.testing.assert_allclose(tiled.layer, 3, rtol=1e-6)
    np.testing.assert_allclose(tiled.gate, 0.5, rtol=1e-6)


@pytest.mark.parametrize("size", [(20, 20), (48, 48), (30, 100)])
def test_frames_smaller_than_a_tile_are_one_call(size: Size) -> None:
    inputs = scene(size, 1)
    whole = local(*inputs)
    tiled = complete_tiled(local, *inputs, whole, tile=TILE, margin=MARGIN)
    np.testing.assert_allclose(tiled.layer, whole.layer, atol=1e-6)
