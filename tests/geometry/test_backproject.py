import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crispdepth.geometry.backproject import backproject, camera_of_view, pixel_rays, place
from crispdepth.types import Camera, DepthMap, Kind, Unit

SIZE = 12, 18
CAMERA = Camera(np.array([[20.0, 0, 8.7], [0, 22.0, 6.1], [0, 0, 1]]), SIZE)

slope = st.floats(-0.01, 0.01)


@given(a=slope, b=slope, c=st.floats(0.3, 2))
def test_inverse_depth_that_is_a_plane_becomes_a_plane_in_space(
    a: float, b: float, c: float
) -> None:
    y, x = np.indices(SIZE) + 0.5
    inverse = (a * x + b * y + c).astype(np.float32)
    # 1 / z = n . (x, y, 1) means n . K (X, Y, Z) = 1.
    normal = np.array([a, b, c]) @ CAMERA.K
    points = backproject(inverse, CAMERA).astype(np.float64)
    np.testing.assert_allclose(points @ normal, 1, rtol=1e-5)


def test_points_project_to_the_pixel_centres_they_come_from() -> None:
    rng = np.random.default_rng(0)
    points = backproject(rng.uniform(0.1, 3, SIZE).astype(np.float32), CAMERA)
    pixels = points.astype(np.float64) @ CAMERA.K.T
    y, x = np.indices(SIZE) + 0.5
    np.testing.assert_allclose(pixels[..., 0] / pixels[..., 2], x, atol=1e-4)
    np.testing.assert_allclose(pixels[..., 1] / pixels[..., 2], y, atol=1e-4)


@pytest.mark.parametrize("size", [(300, 400), (400, 300)])
def test_the_angle_of_view_is_that_of_the_longer_side(size: tuple[int, int]) -> None:
    camera = camera_of_view(size, 90)
    rays = pixel_rays(camera)
    longer = 1 if size[1] > size[0] else 0
    edge = np.moveaxis(rays, longer, 0)[-1, ..., 0 if longer == 1 else 1]
    np.testing.assert_allclose(edge, 1, atol=1 / 200)  # half a pixel inside 45 degrees


@given(st.floats(-50, 50), st.floats(1, 50))
def test_relative_inverse_depth_is_placed_from_near_to_far(low: float, span: float) -> None:
    values = np.linspace(low, low + span, 12, dtype=np.float32).reshape(3, 4)
    placed = place(DepthMap(values, "inverse_depth"), 2, 8).apply(values)
    np.testing.assert_allclose(1 / placed.flat[[0, -1]], [8, 2], rtol=1e-4)
    steps = np.diff(placed.ravel())
    np.testing.assert_allclose(steps, steps.mean(), atol=1e-4)  # it stays a plane


@pytest.mark.parametrize(
    ("kind", "unit"), [("depth", "relative"), ("depth", "m"), ("inverse_depth", "m")]
)
def test_what_has_a_place_keeps_it(kind: Kind, unit: Unit) -> None:
    inverse = np.array([[0.1, 0.5], [1, 4]], np.float32)
    values = inverse if kind == "inverse_depth" else np.reciprocal(inverse)
    depth = DepthMap(values, kind, unit)
    placement = place(depth, 2, 8)
    np.testing.assert_allclose(placement.apply(inverse), inverse, rtol=1e-6)
    assert (placement.near, placement.far) == pytest.approx((0.25, 10))


def test_a_constant_map_is_placed_at_the_far_distance() -> None:
    depth = DepthMap(np.full((2, 2), 3, np.float32), "inverse_depth")
    np.testing.assert_allclose(place(depth, 2, 8).apply(depth.values), 1 / 8)


def test_an_infinite_sky_is_far_but_somewhere() -> None:
    values = np.array([[0, 1]], np.float32)
    assert np.isfinite(1 / place(DepthMap(values, "inverse_depth", "m"), 1, 2).apply(values)).all()


def test_mistakes_are_refused() -> None:
    depth = DepthMap(np.ones((2, 2), np.float32), "inverse_depth")
    with pytest.raises(ValueError, match="near 5 and far 5"):
        place(depth, 5, 5)
    with pytest.raises(ValueError, match="no valid pixel"):
        place(DepthMap(np.zeros((2, 2), np.float32), "depth"), 1, 2)
    with pytest.raises(ValueError, match="between 1 and 170 degrees, got 180"):
        camera_of_view(SIZE, 180)
