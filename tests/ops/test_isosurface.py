"""Surfaces of the field: where they should be, closed where they are, and nowhere else."""

import numpy as np
import pytest
import torch

from crispdepth.ops.isosurface import extract_mesh
from crispdepth.ops.tsdf import TsdfVolume
from crispdepth.types import Camera, Float32Map, Mesh
from tests.analytic import around, box_depth, looking_at, plane_depth, sphere_depth

CPU = torch.device("cpu")


def fused(
    cameras: list[Camera], depths: list[Float32Map], voxel: float, max_memory: int | None = None
) -> TsdfVolume:
    volume = TsdfVolume(voxel, 3 * voxel, device=CPU, max_memory=max_memory)
    for camera, depth in zip(cameras, depths, strict=True):
        value = torch.from_numpy(depth)
        colour = torch.full((*depth.shape, 3), 90, dtype=torch.uint8)
        volume.integrate(value, (value > 0).float(), colour, camera)
    return volume


def edge_counts(mesh: Mesh) -> np.ndarray:
    """How many faces each edge has."""
    edges = np.sort(mesh.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    return np.unique(edges, axis=0, return_counts=True)[1]


def volume_of(mesh: Mesh) -> float:
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces].astype(np.float64), 1, 0)
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


@pytest.mark.parametrize("max_memory", [None, 100 * 14 * 512])
def test_a_sphere_over_many_pieces_is_watertight(max_memory: int | None) -> None:
    """0.03 makes about 70 voxels across: the sphere lies on the borders of eight pieces."""
    cameras = around(20, 4.0, size=(128, 128))
    volume = fused(cameras, [sphere_depth(c) for c in cameras], 0.03, max_memory)
    mesh = extract_mesh(volume)
    assert (edge_counts(mesh) == 2).all()  # no boundary, nothing but a surface
    edges = len(edge_counts(mesh))
    assert len(mesh.vertices) - edges + len(mesh.faces) == 2  # Euler: a sphere
    radius = np.linalg.norm(mesh.vertices, axis=1)
    assert np.abs(radius - 1).max() < 0.03 / 2
    assert np.abs(radius - 1).mean() < 0.03 / 12
    assert volume_of(mesh) == pytest.approx(4 / 3 * np.pi, rel=0.01)  # outside is outside
    assert mesh.colours is not None
    assert (mesh.colours == 90).all()


def test_a_box_is_closed_and_has_its_size() -> None:
    cameras = around(24, 4.0, size=(128, 128))
    half = np.array([0.5, 0.8, 0.3])
    mesh = extract_mesh(fused(cameras, [box_depth(c, half) for c in cameras], 0.04))
    assert (edge_counts(mesh) == 2).all()
    assert volume_of(mesh) == pytest.approx(8 * half.prod(), rel=0.03)


def test_no_surface_appears_where_knowledge_ends() -> None:
    """One view of a plane gives the plane, without walls at the end of the band."""
    camera = looking_at(np.zeros(3), np.array([0.0, 1, 0]), (80, 80), 60)
    depth = plane_depth(camera, np.array([0.0, 1, 0]), 3.0)
    mesh = extract_mesh(fused([camera], [depth], 0.05))
    assert np.abs(mesh.vertices[:, 1] - 3).max() < 1e-3
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces].astype(np.float64), 1, 0)
    normal = np.cross(b - a, c - a)
    assert (normal[:, 1] < 0).all()  # counter-clockwise from the camera
    area = np.linalg.norm(normal, axis=1).sum() / 2
    assert area == pytest.approx(4.0**2, rel=0.06)  # 3 * 80 / 60 wide


def test_badly_seen_voxels_are_left_out() -> None:
    camera = looking_at(np.zeros(3), np.array([0.0, 1, 0]), (80, 80), 60)
    depth = plane_depth(camera, np.array([0.0, 1, 0]), 3.0)
    volume = fused([camera], [depth], 0.05)
    assert len(extract_mesh(volume, min_weight=0.9).faces)
    assert not len(extract_mesh(volume, min_weight=1.0).faces)


def test_an_empty_field_gives_an_empty_mesh() -> None:
    mesh = extract_mesh(TsdfVolume(0.1, 0.3, device=CPU))
    assert mesh.vertices.shape == (0, 3)
    assert mesh.faces.shape == (0, 3)
