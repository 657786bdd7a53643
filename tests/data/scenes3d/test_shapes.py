import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crispdepth.data.scenes3d.shapes import (
    Mesh,
    ball,
    bezier,
    box,
    cylinder,
    merge,
    placed,
    quad,
    ring,
    rod,
    rotation,
)

coordinate = st.floats(-2, 2)
point = st.tuples(coordinate, coordinate, coordinate)


def volume(mesh: Mesh) -> float:
    """Of a closed mesh whose faces are counter-clockwise from outside: divergence theorem."""
    a, b, c = mesh.vertices[mesh.faces].swapaxes(0, 1)
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


@given(st.floats(0.1, 3), st.floats(0.1, 3), st.floats(0.1, 3))
def test_a_box_is_closed_faces_outwards_and_stands_on_the_origin(
    x: float, y: float, z: float
) -> None:
    mesh = box(x, y, z)
    assert volume(mesh) == pytest.approx(x * y * z)
    np.testing.assert_allclose(mesh.vertices.min(axis=0), [-x / 2, -y / 2, 0])
    np.testing.assert_allclose(mesh.vertices.max(axis=0), [x / 2, y / 2, z])


def test_round_shapes_are_closed_and_face_outwards() -> None:
    n = 64  # corners of the circles: a polygon's area is 1 - O(1 / n^2) of the circle's
    assert volume(cylinder(0.5, 2, n)) == pytest.approx(np.pi * 0.25 * 2, rel=0.01)
    assert volume(ball(0.5, n)) == pytest.approx(4 / 3 * np.pi / 8, rel=0.01)
    hexagon = 1.5 * np.sqrt(3) * 0.1**2  # the section of a wire
    assert volume(ring(1, 0.1, n)) == pytest.approx(2 * np.pi * hexagon, rel=0.01)


@given(point, point, st.floats(0.01, 0.1), st.floats(0.01, 0.1))
def test_a_rod_reaches_from_point_to_point(
    start: tuple[float, float, float], end: tuple[float, float, float], radius: float, tip: float
) -> None:
    along = np.subtract(end, start)
    length = float(np.linalg.norm(along))
    if length < 0.01:
        return
    mesh = rod(start, end, radius, tip)
    t = (mesh.vertices - start) @ along / length**2
    across = mesh.vertices - start - t[:, None] * along
    assert t.min() == pytest.approx(0, abs=1e-6)
    assert t.max() == pytest.approx(1, abs=1e-6)
    assert np.linalg.norm(across, axis=1).max() == pytest.approx(max(radius, tip), rel=1e-6)
    heptagon = 3.5 * np.sin(2 * np.pi / 7)
    frustum = heptagon * length * (radius**2 + radius * tip + tip**2) / 3
    assert volume(mesh) == pytest.approx(frustum, rel=1e-6)


def test_a_picture_on_a_quad_is_upright_and_keeps_its_aspect() -> None:
    mesh = quad([(0, 0, 1), (2, 0, 1), (0, 0, 0), (2, 0, 0)])
    top_left, bottom_right = np.argmin(mesh.uv.sum(axis=1)), np.argmax(mesh.uv.sum(axis=1))
    np.testing.assert_allclose(mesh.vertices[top_left], [0, 0, 1])
    np.testing.assert_allclose(mesh.vertices[bottom_right], [2, 0, 0])
    np.testing.assert_allclose(mesh.uv[bottom_right], [1, 0.5])


def test_merged_meshes_keep_their_triangles() -> None:
    first, second = box(1, 1, 1), ball(0.5).at(0, 0, 3)
    both = merge([first, second])
    triangles = np.concatenate([mesh.vertices[mesh.faces] for mesh in (first, second)])
    np.testing.assert_array_equal(both.vertices[both.faces], triangles)
    assert len(merge([]).faces) == 0


@given(point, st.floats(-4, 4))
def test_a_rotation_keeps_lengths_and_its_axis(
    axis: tuple[float, float, float], angle: float
) -> None:
    if np.linalg.norm(axis) < 0.01:
        return
    matrix = rotation(axis, angle)[:3, :3]
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(matrix @ axis, axis, atol=1e-9)
    assert np.trace(matrix) == pytest.approx(1 + 2 * np.cos(angle))


def test_a_quarter_turn_takes_x_to_y() -> None:
    turned = box(2, 0.2, 0.2).moved(placed(5, 0, 1, np.pi / 2))
    np.testing.assert_allclose(np.ptp(turned.vertices, axis=0), [0.2, 2, 0.2])
    np.testing.assert_allclose(turned.vertices.mean(axis=0), [5, 0, 1.1])


def test_a_bezier_curve_begins_and_ends_at_its_outer_points() -> None:
    path = bezier([(0, 0, 0), (0, 0, 2), (4, 0, 2)], 5)
    np.testing.assert_allclose(path[[0, 2, 4]], [(0, 0, 0), (1, 0, 1.5), (4, 0, 2)])
