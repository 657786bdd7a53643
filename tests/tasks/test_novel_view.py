from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from crispdepth.geometry.backproject import camera_of_view, place
from crispdepth.ops.peel import Layer, peel
from crispdepth.tasks.novel_view import (
    Path,
    camera_path,
    moved_camera,
    placed_layers,
    render_view,
)
from crispdepth.types import DepthMap, Float32Map, LayerPair

SIZE = 48, 64
CAMERA = camera_of_view(SIZE, 60)
FOCAL = float(CAMERA.K[0, 0])
RED, BLUE = np.array([230, 20, 10], np.uint8), np.array([10, 30, 240], np.uint8)
BOX = np.zeros(SIZE, np.float32)
BOX[16:32, 24:40] = 1


def flat(value: float) -> Float32Map:
    return np.full(SIZE, value, np.float32)


def scene(
    image: NDArray[np.uint8], alpha: Float32Map, near: Float32Map, far: Float32Map
) -> tuple[Layer, ...]:
    depth = DepthMap(alpha * near + (1 - alpha) * far, "inverse_depth", "m")
    layers = peel(image, depth, [LayerPair("object", alpha, near, far)])
    return placed_layers(layers, place(depth, 1, 10))


def test_disocclusions_are_filled_by_the_background_alone() -> None:
    image = np.where(BOX[..., None] == 1, RED, BLUE)
    layers = scene(image, BOX, flat(1), flat(0.25))
    step = 8 / FOCAL  # the object moves 8 pixels to the left, the wall 2
    view = render_view(layers, CAMERA, moved_camera(CAMERA, step, 0, 0, focus=0))
    expected = np.where(np.roll(BOX, -8, axis=1)[..., None] == 1, RED, BLUE)
    away = np.abs(np.roll(BOX, -7, 1) - np.roll(BOX, -9, 1)) == 0  # a pixel of edge aside
    np.testing.assert_allclose(view.astype(int)[away], expected[away], atol=3)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_from_the_camera_of_the_photo_it_is_the_photo(seed: int) -> None:
    """Whatever the layers' depths: nothing behind an object is ever seen before it."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    alpha = (rng.random(SIZE, np.float32) * 3 - 1).clip(0, 1)
    near, far = rng.uniform(0.1, 1, (2, *SIZE)).astype(np.float32)
    view = render_view(scene(image, alpha, near, far), CAMERA, CAMERA)
    assert np.abs(view.astype(int) - image).max() <= 1


def test_a_nearer_part_of_the_background_comes_before_the_object() -> None:
    """A table before a person: the camera moves, and the table's edge covers the person."""
    far = flat(0.25)
    far[:, 40:] = 2  # beside the object at 0.5, and nearer
    image = np.where(BOX[..., None] == 1, RED, BLUE)
    layers = scene(image, BOX, flat(0.5), far)
    view = render_view(layers, CAMERA, moved_camera(CAMERA, 6 / FOCAL, 0, 0, focus=0))
    # The object's right edge moves from 40 to 37; the table's from 40 to 28.
    np.testing.assert_allclose(view[24, 31:36].astype(int), np.tile(BLUE, (5, 1)), atol=3)
    np.testing.assert_allclose(view[24, 22:26].astype(int), np.tile(RED, (4, 1)), atol=3)


@pytest.mark.parametrize("hold", [False, True])
@given(right=st.floats(-0.2, 0.2), down=st.floats(-0.2, 0.2), forward=st.floats(0, 0.5))
def test_what_is_in_focus_stays_in_its_place(
    hold: bool, right: float, down: float, forward: float
) -> None:
    focus = 0.7
    moved = moved_camera(CAMERA, right, down, forward, focus, hold=hold)
    for pixel in ((32, 24), (50, 10)) if hold else ((32, 24),):
        point = np.linalg.inv(CAMERA.K) @ (*pixel, 1) / focus
        x, y, z = moved.K @ (moved.cam_from_world @ (*point, 1))[:3]
        np.testing.assert_allclose((x / z, y / z), pixel, atol=1e-6)


@pytest.mark.parametrize("path", get_args(Path))
def test_paths_never_look_beyond_the_photo(path: Path) -> None:
    depth = DepthMap(np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4), "inverse_depth")
    placement = place(depth, 1, 8)
    cameras = camera_path(CAMERA, path, 16, 0.06, placement, focus=0.4)
    assert len({camera.K.tobytes() + camera.cam_from_world.tobytes() for camera in cameras}) > 4
    for camera in cameras:
        for z in (1, 8):
            for corner in ((0, 0), (64, 48)):
                point = z * np.linalg.inv(CAMERA.K) @ (*corner, 1)
                x, y, depth_there = camera.K @ (camera.cam_from_world @ (*point, 1))[:3]
                seen = np.array([x, y]) / depth_there
                outside = seen <= 1e-6 if corner == (0, 0) else seen >= np.array([64, 48]) - 1e-6
                assert outside.all()


def test_the_amount_is_the_way_of_near_against_far_in_shares_of_the_longer_side() -> None:
    depth = DepthMap(np.array([[0, 1]], np.float32), "inverse_depth")
    placement = place(depth, 1, 8)
    cameras = camera_path(CAMERA, "circle", 40, 0.05, placement, focus=0.4)
    parallax = []
    for camera in cameras:
        right = -camera.cam_from_world[0, 3]
        parallax.append(FOCAL * right * (1 - 1 / 8))
    assert max(parallax) - min(parallax) == pytest.approx(0.05 * 64, rel=0.02)


def test_impossible_paths_are_refused() -> None:
    placement = place(DepthMap(np.array([[0, 1]], np.float32), "inverse_depth"), 1, 8)
    with pytest.raises(ValueError, match=r"got 1 and 0\.05"):
        camera_path(CAMERA, "circle", 1, 0.05, placement, 0.5)
    with pytest.raises(ValueError, match=r"up to 0\.2"):
        camera_path(CAMERA, "circle", 9, 0.5, placement, 0.5)
