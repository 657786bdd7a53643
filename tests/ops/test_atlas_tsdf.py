"""Ground truth of volumetric networks: laws of the fused field on analytic scenes."""

import numpy as np
import pytest
import torch
from torch import Tensor

from crispdepth.geometry.voxel_grid import VoxelGrid
from crispdepth.ops.atlas_tsdf import AtlasTsdf, atlas_tsdf, field_mesh, scene_grid
from crispdepth.types import Camera
from tests.analytic import around, looking_at, plane_depth, sphere_depth

VOXEL = 0.08
GRID = VoxelGrid(VOXEL, (-16, -16, -16), (33, 33, 33))


def fused(depths: list[Tensor], cameras: list[Camera], grid: VoxelGrid = GRID) -> AtlasTsdf:
    K, poses = (
        torch.stack([torch.from_numpy(np.array(getattr(camera, name))) for camera in cameras])
        for name in ("K", "cam_from_world")
    )
    return atlas_tsdf(torch.stack(depths), K, poses, grid)


@pytest.fixture(scope="module")
def sphere() -> tuple[list[Tensor], list[Camera]]:
    cameras = around(12, 3.0, (256, 256))
    return [torch.from_numpy(sphere_depth(camera)) for camera in cameras], cameras


def test_one_view_of_a_plane_tells_the_distance_along_the_optical_axis() -> None:
    camera = looking_at(np.array([3.0, 0, 0]), np.zeros(3), (128, 128), 150.0)
    normal = np.array([np.cos(0.5), np.sin(0.5), 0.0])
    depth = torch.from_numpy(plane_depth(camera, normal, 0.0))
    tsdf, observed = fused([depth], [camera])
    x, y, z = np.meshgrid(*GRID.axes(), indexing="ij")
    voxel = 3.0 - x  # z-depth; the ray meets the plane where n . (eye + s (p - eye)) = 0
    surface = voxel * (3 * normal[0]) / (3 * normal[0] - (normal[0] * x + normal[1] * y))
    along = surface - voxel
    inside = (np.abs(along) < 2.5 * VOXEL) & (np.hypot(y, z) < 0.8)
    assert observed.numpy()[inside].all()
    error = tsdf.numpy()[inside] * 3 * VOXEL - along[inside]
    # the depth is that of the pixel's centre, which the voxel misses by half a pixel at most
    assert np.abs(error).max() < 0.5 * 3.8 / 150 * np.tan(0.8) + 1e-3


def test_vertices_lie_within_half_a_voxel_of_the_sphere(
    sphere: tuple[list[Tensor], list[Camera]],
) -> None:
    tsdf, observed = (part.numpy() for part in fused(*sphere))
    mesh = field_mesh(tsdf, observed, GRID)
    radius = np.linalg.norm(mesh.vertices, axis=1)
    assert len(mesh.faces) > 1000
    assert np.quantile(np.abs(radius - 1), 0.999) < VOXEL / 2  # few are seen at the rim alone
    corners = mesh.vertices[mesh.faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert ((normal * corners.mean(axis=1)).sum(axis=1) > 0).mean() > 0.99


def test_the_order_of_views_does_not_matter(sphere: tuple[list[Tensor], list[Camera]]) -> None:
    depths, cameras = sphere
    field, again = fused(depths, cameras), fused(depths[::-1], cameras[::-1])
    torch.testing.assert_close(again.tsdf, field.tsdf, rtol=0, atol=1e-6)
    assert torch.equal(again.observed, field.observed)


@pytest.mark.parametrize("near_first", [True, False])
def test_what_is_near_a_surface_overrules_what_looks_free(near_first: bool) -> None:
    camera = looking_at(np.array([3.0, 0, 0]), np.zeros(3), (64, 64), 80.0)
    near = torch.full((64, 64), 3.0)
    depths = [near, near + 0.8]
    tsdf, observed = fused(depths if near_first else depths[::-1], [camera, camera])
    alone, _ = fused([near], [camera])
    band = alone.abs() < 1
    torch.testing.assert_close(tsdf[band], alone[band])
    assert observed[16, 16, 16]
    assert tsdf[16, 16, 16].abs() < 0.1


def test_what_nobody_saw_is_unobserved_and_behind() -> None:
    camera = looking_at(np.array([3.0, 0, 0]), np.zeros(3), (64, 64), 80.0)
    depth = torch.full((64, 64), 3.0)
    depth[:, :16] = 0
    tsdf, observed = fused([depth], [camera])
    assert not observed[:4].any()  # behind
    assert observed[25, 16, 16]
    assert tsdf[25, 16, 16] == 1  # in front
    assert (tsdf[~observed] == -1).all()
    assert not fused([torch.zeros(64, 64)], [camera]).observed.any()


def test_no_surface_where_knowledge_ends(sphere: tuple[list[Tensor], list[Camera]]) -> None:
    tsdf, observed = (part.numpy() for part in fused(*sphere))
    half = observed.copy()
    half[:16] = False
    mesh = field_mesh(tsdf, half, GRID)
    assert len(mesh.faces)
    assert mesh.vertices[:, 0].min() >= 0
    assert np.abs(np.linalg.norm(mesh.vertices, axis=1) - 1).max() < VOXEL / 2
    assert not len(field_mesh(tsdf, np.zeros_like(half), GRID).faces)
    assert not len(field_mesh(np.ones_like(tsdf), observed, GRID).faces)


def test_the_grid_of_a_scene_holds_what_is_seen(
    sphere: tuple[list[Tensor], list[Camera]],
) -> None:
    depths, cameras = sphere
    maps = [depth.numpy() for depth in depths]
    grid = scene_grid(maps, cameras, 0.1, margin=0.5)
    for axis in grid.axes():
        assert -1.7 < axis[0] < -1.4
        assert 1.4 < axis[-1] < 1.7
    with pytest.raises(ValueError, match="No depth"):
        scene_grid([0 * each for each in maps], cameras, 0.1)
