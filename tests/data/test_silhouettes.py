from typing import NamedTuple

import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray

from crispdepth.data.perturb import holes
from crispdepth.data.silhouettes import COVERED, random_view, silhouette, silhouettes

SIDEWAYS = np.diag([1.0, -1.0, -1.0])
"""Level with the mesh, y up."""


class Triangles(NamedTuple):
    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]


def test_a_sphere_is_a_disk_from_everywhere(rng: np.random.Generator) -> None:
    sphere = trimesh.creation.icosphere(subdivisions=4)
    for _ in range(3):
        mask = silhouette(sphere, random_view(rng), 64)
        radius = COVERED * 32 + 0.25  # OpenCV fills what the outline touches, at twice the size
        assert mask.sum() == pytest.approx(np.pi * radius**2, rel=0.02)


def test_many_tiny_triangles_cover_what_few_large_ones_do() -> None:
    coarse = trimesh.creation.box((1, 1, 1))
    fine = coarse
    for _ in range(6):
        fine = fine.subdivide()
    assert len(fine.faces) > 40_000
    assert np.mean(silhouette(coarse, SIDEWAYS, 48) != silhouette(fine, SIDEWAYS, 48)) < 0.02


def test_a_torus_seen_from_its_axis_has_one_hole() -> None:
    torus = trimesh.creation.torus(major_radius=1, minor_radius=0.25)
    (hole,) = holes(silhouette(torus, np.eye(3), 96))
    assert hole[48, 48] == 1


def test_up_is_up_and_right_is_right() -> None:
    corner = Triangles(np.array([[0, 0, 0], [0, 4, 0], [1, 0, 0.0]]), np.array([[0, 1, 2]]))
    mask = silhouette(corner, SIDEWAYS, 64)
    assert mask[48:].sum() > 2 * mask[:16].sum()  # wide at its foot
    columns = np.flatnonzero(mask.any(axis=0))
    assert mask[:, columns[0]].sum() > mask[:, columns[-1]].sum()  # high on its left


def test_views_are_rotations(rng: np.random.Generator) -> None:
    for _ in range(5):
        view = random_view(rng)
        np.testing.assert_allclose(view @ view.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(view) == pytest.approx(1)
        assert view[1, 1] < -0.3  # up in the mesh is up in the picture


def test_every_mesh_is_seen_from_every_view(rng: np.random.Generator) -> None:
    meshes = [trimesh.creation.box((1, 2, 3)), trimesh.creation.cone(1, 2)]
    masks = silhouettes(meshes, 3, 32, rng)
    assert [mask.shape for mask in masks] == [(32, 32)] * 6
    assert len({mask.tobytes() for mask in masks}) == 6


def test_a_mesh_without_extent_is_refused() -> None:
    point = Triangles(np.zeros((3, 3)), np.array([[0, 1, 2]]))
    nothing = Triangles(np.zeros((3, 3)), np.zeros((0, 3), np.int64))
    for mesh in (point, nothing):
        with pytest.raises(ValueError, match="no silhouette"):
            silhouette(mesh, SIDEWAYS, 16)
