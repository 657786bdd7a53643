import numpy as np
import pytest

from crispdepth.geometry.backproject import pixel_rays
from crispdepth.geometry.normals import normals
from crispdepth.ops.depth_edges import depth_edges
from crispdepth.types import Camera

CAMERA = Camera(np.array([[40.0, 0, 17], [0, 38, 12], [0, 0, 1]]), (24, 32))
RAYS = pixel_rays(CAMERA)
ALL = np.ones(CAMERA.size, bool)


@pytest.mark.parametrize("normal", [(0, 0, -1), (0.5, 0, -1), (-0.3, 0.8, -1), (2, 0, -1)])
def test_a_plane_has_its_normal_everywhere_and_no_edge(normal: tuple[float, float, float]) -> None:
    unit = np.array(normal) / np.linalg.norm(normal)
    points = (RAYS * (-1 / (RAYS @ unit))[..., None] * 2).astype(np.float32)
    facing = RAYS @ unit < 0
    found = normals(points, facing)
    np.testing.assert_allclose(found[facing], np.broadcast_to(unit, found[facing].shape), atol=2e-3)
    assert depth_edges(points, found, facing)[facing].mean() < 0.01


def test_an_edge_does_not_tilt_the_surfaces_beside_it() -> None:
    z = np.where(np.arange(32) < 15, 2.0, 3.0).astype(np.float32)
    points = RAYS * z[None, :, None]
    found = normals(points, ALL)
    np.testing.assert_allclose(found[..., 2], -1, atol=1e-4)


def test_a_step_of_two_slanted_planes_is_a_band_of_one_pixel_on_each_side() -> None:
    slope = np.where(np.arange(32) < 15, 0.4, -0.4)
    z = (np.where(np.arange(32) < 15, 2.0, 3.0) / (1 - slope * RAYS[..., 0])).astype(np.float32)
    points = RAYS * z[..., None]
    edges = depth_edges(points, normals(points, ALL), ALL)
    assert edges[:, 14:16].all()
    assert not edges[:, :14].any()
    assert not edges[:, 16:].any()


def test_a_small_ball_is_more_than_its_edge() -> None:
    a, b = np.square(RAYS).sum(axis=-1), -4 * RAYS[..., 2]
    root = b * b - 4 * a * (4 - 0.25)
    valid = root > 0
    z = np.where(valid, (-b - np.sqrt(np.maximum(root, 0))) / (2 * a), 0).astype(np.float32)
    points = RAYS * z[..., None]
    found = normals(points, valid)
    assert np.count_nonzero(depth_edges(points, found, valid)) < 0.3 * np.count_nonzero(valid)
    outward = points - np.array([0, 0, 2])
    inner = np.square(outward[..., :2]).sum(axis=-1) < 0.09
    np.testing.assert_allclose(found[inner & valid], 2 * outward[inner & valid], atol=0.12)


def test_what_has_no_neighbour_faces_the_camera() -> None:
    valid = np.zeros(CAMERA.size, bool)
    valid[5, 6] = True
    points = RAYS * 2
    found = normals(points, valid)
    back = -RAYS[5, 6] / np.linalg.norm(RAYS[5, 6])
    np.testing.assert_allclose(found[5, 6], back, atol=1e-6)
    assert not depth_edges(points, found, valid).any()
    assert np.isfinite(normals(points * 0, ~ALL)).all()
