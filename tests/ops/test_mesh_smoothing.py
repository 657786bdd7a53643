"""Noise goes, spheres keep their size, planes and what is held stay."""

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from crispdepth.ops.mesh_smoothing import smooth_mesh
from crispdepth.types import Mesh

RNG = np.random.default_rng(0)


def ball_mesh(count: int = 4000) -> Mesh:
    """A ball of radius 1 with vertices spread evenly."""
    index = np.arange(count) + 0.5
    z = 1 - 2 * index / count
    turn = np.pi * (1 + 5**0.5) * index
    flat = np.sqrt(1 - z**2)
    points = np.stack([flat * np.cos(turn), flat * np.sin(turn), z], axis=1)
    return Mesh(points.astype(np.float32), ConvexHull(points).simplices.astype(np.int32))


def test_noise_goes_and_the_radius_stays() -> None:
    ball = ball_mesh()
    direction = ball.vertices / np.linalg.norm(ball.vertices, axis=1, keepdims=True)
    noise = RNG.normal(0, 0.01, (len(direction), 1)).astype(np.float32)
    rough = Mesh(direction * (1 + noise), ball.faces)
    radius = np.linalg.norm(smooth_mesh(rough, 30).vertices, axis=1)
    assert abs(radius.mean() - 1) < 0.003
    assert radius.std() < 0.35 * noise.std()


def test_none_and_held_vertices_stay_bit_for_bit() -> None:
    ball = ball_mesh()
    assert smooth_mesh(ball, 0) is ball
    held = RNG.random(len(ball.vertices)) < 0.5
    moved = smooth_mesh(ball, 5, (~held).astype(np.float32)).vertices
    np.testing.assert_array_equal(moved[held], ball.vertices[held])
    assert (moved[~held] != ball.vertices[~held]).any(axis=1).mean() > 0.9
    still = smooth_mesh(ball, 5, np.zeros(len(ball.vertices))).vertices
    np.testing.assert_array_equal(still, ball.vertices)


def test_it_moves_with_the_mesh_whatever_the_order_of_the_vertices() -> None:
    ball = ball_mesh()
    turn = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
    there = Mesh((2 * ball.vertices @ turn.T + [1, 2, 3]).astype(np.float32), ball.faces)
    expected = 2 * smooth_mesh(ball, 10).vertices @ turn.T + [1, 2, 3]
    np.testing.assert_allclose(smooth_mesh(there, 10).vertices, expected, atol=1e-5)
    order = RNG.permutation(len(ball.vertices))
    number = np.argsort(order).astype(np.int32)
    mixed = Mesh(ball.vertices[order], number[ball.faces])
    np.testing.assert_allclose(
        smooth_mesh(mixed, 10).vertices, smooth_mesh(ball, 10).vertices[order], atol=1e-6
    )


def test_a_regular_plane_is_already_smooth_and_borders_stay() -> None:
    y, x = np.mgrid[:12, :12].astype(np.float32)
    vertices = np.stack([x, y, 0.5 * x], axis=-1).reshape(-1, 3)
    corner = (np.arange(11)[:, None] * 12 + np.arange(11)).reshape(-1, 1)
    squares = np.array([[0, 1, 12], [1, 13, 12]])
    faces = (corner[:, None] + squares).reshape(-1, 3).astype(np.int32)
    plane = Mesh(vertices, faces, RNG.integers(0, 255, vertices.shape).astype(np.uint8))
    smooth = smooth_mesh(plane, 10)
    np.testing.assert_allclose(smooth.vertices[:, 2], 0.5 * smooth.vertices[:, 0], atol=1e-5)
    np.testing.assert_allclose(smooth.vertices, vertices, atol=1e-5)
    border = ((x == 0) | (x == 11) | (y == 0) | (y == 11)).reshape(-1)
    rough = vertices + RNG.normal(0, 0.1, vertices.shape).astype(np.float32)
    moved = smooth_mesh(Mesh(rough, faces), 10).vertices
    np.testing.assert_array_equal(moved[border], rough[border])
    assert (moved[~border] != rough[~border]).all()
    np.testing.assert_array_equal(smooth.colours, plane.colours)


@pytest.mark.parametrize("faces", [np.zeros((0, 3), np.int32), np.array([[0, 1, 2]], np.int32)])
def test_vertices_without_faces_and_single_faces_are_no_trouble(faces: np.ndarray) -> None:
    mesh = Mesh(RNG.normal(size=(5, 3)).astype(np.float32), faces)
    moved = smooth_mesh(mesh, 100).vertices
    assert np.isfinite(moved).all()
    np.testing.assert_array_equal(moved[3:], mesh.vertices[3:])
