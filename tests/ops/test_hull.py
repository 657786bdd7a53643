"""The hull holds the object, and is what the silhouettes leave; rays of masks meet the solid."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from crispdepth.ops.blocks import EDGE, unpack
from crispdepth.ops.hull import (
    Silhouette,
    depth_in_hull,
    hull_blocks,
    restore_rays,
    signed_distance,
)
from crispdepth.ops.isosurface import extract_mesh
from crispdepth.ops.rasterise import rasterise
from crispdepth.ops.tsdf import TsdfVolume
from crispdepth.types import Camera, Float32Map
from tests.analytic import around, sphere_depth

CPU = torch.device("cpu")
VOXEL = 0.08
BOX = np.array([[-1.3] * 3, [1.3] * 3])


def coverage(camera: Camera, radius: float = 1.0) -> Float32Map:
    """How much of each pixel a sphere covers."""
    height, width = camera.size
    fine = sphere_depth(camera.resized((8 * height, 8 * width)), radius) > 0
    return np.asarray(fine.reshape(height, 8, width, 8).mean(axis=(1, 3)), np.float32)


def of_spheres(cameras: Sequence[Camera]) -> list[Silhouette]:
    return [Silhouette(camera, signed_distance(coverage(camera))) for camera in cameras]


def field(silhouettes: Sequence[Silhouette]) -> TsdfVolume:
    """Nothing but silhouettes."""
    keys = hull_blocks(silhouettes, BOX, VOXEL, CPU)
    volume = TsdfVolume(VOXEL, 3 * VOXEL, device=CPU, coloured=False, hull=keys)
    for camera, outside in silhouettes:
        nothing = torch.zeros(camera.size)
        volume.integrate(nothing, nothing, None, camera, silhouette=torch.from_numpy(outside))
    return volume


@pytest.mark.parametrize("edge", [10.0, 10.25, 10.5, 10.9])
def test_the_distance_to_a_straight_border_is_exact(edge: float) -> None:
    mask = np.broadcast_to(np.clip(edge - np.arange(24), 0, 1), (16, 24)).astype(np.float32)
    distance = np.arange(24) + 0.5 - edge
    np.testing.assert_allclose(signed_distance(mask)[8], distance, atol=0.03)
    np.testing.assert_allclose(signed_distance(1 - mask)[8], -distance, atol=0.03)


def test_masks_without_a_border_are_infinitely_far_from_one() -> None:
    for value, distance in ((0, np.inf), (1, -np.inf)):
        mask = np.full((4, 5), value, np.float32)
        assert (signed_distance(mask) == distance).all()


def test_blocks_hold_the_object_and_little_else() -> None:
    silhouettes = of_spheres(around(20, 4.0))
    keys = hull_blocks(silhouettes, BOX, VOXEL, CPU)
    assert (keys.diff() > 0).all()
    centres = (unpack(keys).numpy() + 0.5) * EDGE * VOXEL
    assert np.linalg.norm(centres, axis=1).max() < 1 + 0.5 * 3**0.5 * EDGE * VOXEL + 0.4
    points = np.random.default_rng(0).normal(size=(500, 3))
    points *= 0.98 / np.linalg.norm(points, axis=1, keepdims=True)
    blocks = np.floor(points / VOXEL / EDGE).astype(int)
    there = {tuple(block) for block in unpack(keys).tolist()}
    assert all(tuple(block) in there for block in blocks.tolist())


def test_silhouettes_alone_make_a_closed_surface_about_the_object_that_fills_them() -> None:
    silhouettes = of_spheres(around(20, 4.0))
    volume = field(silhouettes)
    volume.close(1.0)
    mesh = extract_mesh(volume)
    radius = np.linalg.norm(mesh.vertices, axis=1)
    assert radius.min() > 1 - VOXEL / 4
    assert radius.max() < 1.15
    edges = np.sort(mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
    for camera, outside in silhouettes:
        shown = rasterise(mesh, camera).depth > 0
        assert not (shown & (outside > 0.3)).any()
        assert not (~shown & (outside < -0.3)).any()


def test_the_order_of_views_does_not_matter() -> None:
    silhouettes = of_spheres(around(6, 4.0))
    one, other = field(silhouettes), field(silhouettes[::-1])
    places = unpack(one.store.keys) * EDGE + 3
    torch.testing.assert_close(one.values(places)[1], other.values(places)[1])


def test_depth_carves_where_it_is_trusted_more_than_the_hull() -> None:
    cameras = around(20, 4.0)
    surfaces: list[NDArray[np.float32]] = []
    for trust in (1e-3, 1e3):
        volume = field(of_spheres(cameras))
        for camera in cameras:  # a sphere of .8 is in there
            depth = torch.from_numpy(sphere_depth(camera, 0.8))
            seen = depth > 0
            volume.integrate(depth, seen.float(), None, camera, carve=seen)
        volume.close(trust)
        surfaces.append(np.linalg.norm(extract_mesh(volume).vertices, axis=1))
    assert np.median(surfaces[0]) == pytest.approx(0.8, abs=0.02)
    assert np.median(surfaces[1]) == pytest.approx(1.0, abs=0.03)


def test_rays_that_miss_the_solid_meet_it_afterwards_and_nothing_leaves_the_hull() -> None:
    silhouettes = of_spheres(around(12, 4.0))
    volume = field(silhouettes)
    volume.close(1.0)
    data = volume.store.data
    data["tsdf"] = torch.maximum(data["tsdf"], data["outside"] - 1 + 0.4)  # all around too little
    hull = data["outside"] - 1

    def missed() -> list[NDArray[np.intp]]:
        mesh = extract_mesh(volume)
        return [np.argwhere((o <= -0.5) & (rasterise(mesh, c).depth == 0)) for c, o in silhouettes]

    before = missed()
    for (camera, _), pixels in zip(silhouettes, before, strict=True):
        restore_rays(volume, camera, pixels)
    assert sum(map(len, before)) > 1000
    assert sum(map(len, missed())) < 0.02 * sum(map(len, before))
    assert (data["tsdf"] >= hull.clamp(-1, 1) - 1e-6).all()


def test_how_deep_points_lie_in_the_hull() -> None:
    cameras = around(40, 3.0)
    silhouettes = of_spheres(cameras)
    direction = np.random.default_rng(0).normal(size=(200, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    deep = [depth_in_hull(silhouettes, radius * direction) for radius in (0.0, 0.8, 1.0, 1.2)]
    pixels = cameras[0].K[0, 0] / 3  # of one unit, in the middle
    np.testing.assert_allclose(deep[0], deep[0][0])
    assert 0.95 * pixels < deep[0][0] < 1.1 * pixels  # a ball covers a little more than a disc
    assert 0.1 * pixels < deep[1].min() < deep[1].max() < 0.6 * pixels
    assert (deep[2] < 0.1 * pixels).all()
    assert (deep[3] < 0).all()
    behind = depth_in_hull(silhouettes[:1], np.array([[0.0, 0, 0], [0, 0, 50]]))
    assert np.isinf(behind).tolist() == [False, True]  # the first looks down
