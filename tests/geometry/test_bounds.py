import numpy as np
import pytest

from crispdepth.geometry.bounds import (
    bounds_from_cameras,
    bounds_from_masks,
    bounds_from_points,
    extent,
)
from crispdepth.types import Camera, Float32Map

RADIUS, DISTANCE = 0.5, 3.0


def orbit(count: int) -> list[Camera]:
    """Cameras on a circle that look at the origin."""
    K = np.array([[70.0, 0, 32], [0, 70, 32], [0, 0, 1]])
    cameras = []
    for angle in np.arange(count) * (2 * np.pi / count):
        pose = np.eye(4)
        pose[:3, :3] = [
            [np.cos(angle), 0, -np.sin(angle)],
            [0, 1, 0],
            [np.sin(angle), 0, np.cos(angle)],
        ]
        pose[2, 3] = DISTANCE
        cameras.append(Camera(K, (64, 64), pose))
    return cameras


def ball(camera: Camera) -> Float32Map:
    """The silhouette of a sphere of `RADIUS` at the origin."""
    y, x = np.mgrid[:64, :64] + 0.5
    rays = np.stack([(x - 32) / 70, (y - 32) / 70, np.ones_like(x)], axis=-1)
    cosine = rays[..., 2] / np.linalg.norm(rays, axis=-1)
    return np.asarray(np.sqrt(1 - cosine**2) <= RADIUS / DISTANCE, np.float32)


def test_silhouettes_bound_the_depth_of_a_sphere_tightly() -> None:
    cameras = orbit(10)
    bounds = bounds_from_masks(cameras, [ball(camera) for camera in cameras], 3)
    assert bounds is not None
    near, far = bounds
    assert DISTANCE - 1.7 * RADIUS < near < DISTANCE - RADIUS
    assert DISTANCE + RADIUS < far < DISTANCE + 1.7 * RADIUS


def test_unknown_and_empty_masks_carve_nothing() -> None:
    cameras = orbit(10)
    masks: list[Float32Map | None] = [ball(camera) for camera in cameras]
    whole = bounds_from_masks(cameras, masks, 0)
    masks[5] = np.zeros((64, 64), np.float32)
    masks[7] = None
    some = bounds_from_masks(cameras, masks, 0)
    assert whole is not None
    assert some is not None
    np.testing.assert_allclose(some, whole, rtol=0.2)
    masks[0] = None  # what the view itself shows is bounded by the others
    assert bounds_from_masks(cameras, masks, 0) is not None


def test_one_bad_mask_does_not_carve_the_object() -> None:
    cameras = orbit(12)
    masks: list[Float32Map | None] = [ball(camera) for camera in cameras]
    elsewhere = np.zeros((64, 64), np.float32)
    elsewhere[:8, :8] = 1
    masks[4] = elsewhere
    bounds = bounds_from_masks(cameras, masks, 0)
    assert bounds is not None
    assert bounds[0] < DISTANCE - RADIUS < DISTANCE + RADIUS < bounds[1]


def test_without_masks_or_baseline_there_is_no_hull() -> None:
    cameras = orbit(4)
    assert bounds_from_masks(cameras, [None] * 4, 0) is None
    assert bounds_from_masks(cameras[:1] * 3, [ball(cameras[0])] * 3, 0) is None
    assert bounds_from_masks(cameras, [np.zeros((64, 64), np.float32)] * 4, 0) is None


def test_hull_scales_with_the_world() -> None:
    cameras = orbit(8)
    masks = [ball(camera) for camera in cameras]
    grown = []
    for camera in cameras:
        pose = camera.cam_from_world.copy()
        pose[:3, 3] *= 50
        grown.append(Camera(camera.K, camera.size, pose))
    small, large = (bounds_from_masks(views, masks, 1) for views in (cameras, grown))
    assert small is not None
    assert large is not None
    np.testing.assert_allclose(large, np.multiply(small, 50), rtol=1e-6)


def test_sparse_points_bound_loosely_and_few_points_not_at_all() -> None:
    camera = orbit(1)[0]
    points = np.random.default_rng(0).uniform(-0.3, 0.3, (500, 3)).astype(np.float32)
    bounds = bounds_from_points(camera, points)
    assert bounds is not None
    assert bounds[0] < DISTANCE - 0.3 < DISTANCE + 0.3 < bounds[1]
    assert bounds_from_points(camera, points[:9]) is None


def test_cameras_alone_bound_what_stereo_can_tell() -> None:
    cameras = orbit(12)
    near, far = bounds_from_cameras(cameras, 0)
    assert 0 < near < DISTANCE < far < np.inf
    with pytest.raises(ValueError, match="in one place"):
        bounds_from_cameras(cameras[:1] * 2, 0)
    assert extent(cameras[:1] * 2) == 0
