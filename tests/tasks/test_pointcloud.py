import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crispdepth.geometry.backproject import camera_of_view, place
from crispdepth.tasks.pointcloud import flying_pixels, point_cloud
from crispdepth.types import DepthMap, Float32Map, LayerPair

SIZE = 40, 50
CAMERA = camera_of_view(SIZE, 60)
PHOTO = np.random.default_rng(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8)


def step(width: float) -> Float32Map:
    """1 / z from 0.05 at the left to 0.5 at the right, in a ramp of ``width`` pixels."""
    x = np.arange(SIZE[1], dtype=np.float32) - 24.5
    return np.broadcast_to(0.05 + 0.45 * np.clip(x / width + 0.5, 0, 1), SIZE).copy()


def everywhere() -> np.ndarray:
    return np.ones(SIZE, bool)


def test_every_valid_pixel_is_a_point_of_its_colour() -> None:
    values = np.full(SIZE, 2, np.float32)
    values[3:6] = np.nan
    depth = DepthMap(values, "depth", "m")
    cloud = point_cloud(PHOTO, depth, [], CAMERA, place(depth, 1, 2))
    assert cloud.points.shape == cloud.colours.shape == (37 * 50, 3)
    np.testing.assert_array_equal(cloud.colours, PHOTO[depth.usable])
    np.testing.assert_allclose(cloud.points[:, 2], 2, rtol=1e-6)
    assert not cloud.flying.any()


slope = st.floats(-0.004, 0.004)


@settings(max_examples=20, deadline=None)
@given(a=slope, b=slope)
def test_a_plane_has_no_flying_pixels(a: float, b: float) -> None:
    y, x = np.indices(SIZE)
    inverse = (0.5 + a * (x - 25) + b * (y - 20)).astype(np.float32)
    assert not flying_pixels(inverse, everywhere(), CAMERA).any()


def test_a_crisp_step_has_no_flying_pixels_and_a_soft_one_has_its_ramp() -> None:
    assert not flying_pixels(step(1e-3), everywhere(), CAMERA).any()
    flying = flying_pixels(step(6), everywhere(), CAMERA)
    assert flying[:, 23:26].all()
    assert not flying[:, :21].any()
    assert not flying[:, 30:].any()


def test_the_score_does_not_depend_on_the_unit_of_length() -> None:
    flying = flying_pixels(step(6), everywhere(), CAMERA)
    np.testing.assert_array_equal(flying_pixels(step(6) * 16, everywhere(), CAMERA), flying)


def test_points_without_neighbours_are_flying() -> None:
    valid = np.zeros(SIZE, bool)
    valid[5, 5] = valid[20:30, 20:30] = True
    flying = flying_pixels(np.full(SIZE, 0.5, np.float32), valid, CAMERA)
    assert np.argwhere(flying).tolist() == [[5, 5]]


def test_a_soft_border_puts_no_point_between_the_layers() -> None:
    ramp = np.clip((np.arange(SIZE[1], dtype=np.float32) - 21) / 8, 0, 1)
    alpha = np.broadcast_to(ramp.astype(np.float32), SIZE).copy()
    near, far = np.full(SIZE, 0.5, np.float32), np.full(SIZE, 0.05, np.float32)
    depth = DepthMap(alpha * near + (1 - alpha) * far, "inverse_depth", "m")
    red, blue = np.array([250, 0, 0]), np.array([0, 0, 250])
    image = np.where(alpha[..., None] >= 0.5, red, blue).astype(np.uint8)
    pair = LayerPair("a", alpha, near, far)
    placement = place(depth, 1, 2)
    cloud = point_cloud(image, depth, [pair], CAMERA, placement)
    assert set(np.unique(np.rint(cloud.points[:, 2] * 1000))) == {2000, 20000}
    assert not cloud.flying.any()
    assert point_cloud(image, depth, [], CAMERA, placement).flying.mean() > 0.05


def test_a_camera_of_another_size_is_refused() -> None:
    depth = DepthMap(np.ones(SIZE, np.float32), "depth")
    with pytest.raises(ValueError, match="camera is for"):
        point_cloud(PHOTO, depth, [], CAMERA.resized((20, 25)), place(depth, 1, 2))
