"""Meshes as cameras see them: depth in closed form, faces in front of others, no cracks."""

import numpy as np
import pytest

from crispdepth.ops.rasterise import interpolate, rasterise, shade
from crispdepth.types import Camera, Mesh
from tests.analytic import around, box_depth, looking_at, plane_depth

HALF = np.array([0.5, 0.8, 0.3])


def box(half: np.ndarray = HALF) -> Mesh:
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * half
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    faces = [[q[0], q[i], q[i + 1]] for q in quads for i in (1, 2)]
    colours = ((corners / half + 1) * 127.5).astype(np.uint8)
    return Mesh(corners.astype(np.float32), np.array(faces, np.int32), colours)


@pytest.mark.parametrize("cull", [False, True])
def test_depth_of_a_box_is_exact_from_everywhere(cull: bool) -> None:
    for camera in around(7, 3.0):
        true, drawn = box_depth(camera, HALF), rasterise(box(), camera, cull=cull)
        both = (true > 0) & (drawn.depth > 0)
        assert ((true > 0) != (drawn.depth > 0)).sum() <= 2  # rays that graze an edge
        np.testing.assert_allclose(drawn.depth[both], true[both], rtol=1e-5)
        assert ((drawn.faces >= 0) == (drawn.depth > 0)).all()


def test_from_inside_culling_leaves_nothing() -> None:
    camera = looking_at(np.zeros(3), np.array([1.0, 0.3, 0.1]), (40, 50), 30)
    drawn = rasterise(box(), camera)
    assert (drawn.depth > 0).all()
    assert not rasterise(box(), camera, cull=True).depth.any()
    direction = np.linalg.inv(camera.K) @ np.array([20.5, 10.5, 1])
    point = camera.cam_from_world[:3, :3].T @ (direction * drawn.depth[10, 20])
    assert np.abs(np.abs(point) / HALF).max() == pytest.approx(1, abs=1e-6)


def test_faces_that_reach_behind_the_camera_are_exact() -> None:
    """A floor of two triangles, one kilometre long, with the camera above its middle."""
    ends = 500.0
    corners = np.array([[-ends, -ends, 0], [ends, -ends, 0], [ends, ends, 0], [-ends, ends, 0]])
    floor = Mesh(corners.astype(np.float32), np.array([[0, 1, 2], [0, 2, 3]], np.int32))
    camera = looking_at(np.array([0, 0, 1.5]), np.array([4.0, 1, 0]), (60, 80), 70)
    true = plane_depth(camera, np.array([0.0, 0, 1]), 0.0, limit=300)
    drawn = rasterise(floor, camera).depth
    np.testing.assert_allclose(drawn[true > 0], true[true > 0], rtol=1e-5)


def test_a_finer_mesh_of_the_same_shape_looks_the_same_without_cracks() -> None:
    """Many faces of about a pixel: no ray slips between two of them."""
    n = 120
    x, y = np.meshgrid(np.linspace(-1, 1, n), np.linspace(-1, 1, n), indexing="ij")
    vertices = np.stack([x, y, 0.2 * np.sin(4 * x)], axis=-1).reshape(-1, 3).astype(np.float32)
    at = np.arange(n * n).reshape(n, n)
    quad = np.stack([at[:-1, :-1], at[1:, :-1], at[1:, 1:], at[:-1, 1:]], -1).reshape(-1, 4)
    faces = np.concatenate([quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]]).astype(np.int32)
    camera = looking_at(np.array([0.2, 0.1, 2.0]), np.zeros(3), (100, 100), 90)
    drawn = rasterise(Mesh(vertices, faces), camera)
    assert (drawn.faces[15:85, 15:85] >= 0).all()


def test_the_nearer_face_is_seen_whatever_the_order() -> None:
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float32)
    planes = [np.c_[square, np.full(4, z, np.float32)] for z in (2.0, 3.0)]
    for order in ((0, 1), (1, 0)):
        vertices = np.concatenate([planes[i] for i in order])
        faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]], np.int32)
        camera = Camera(np.array([[30.0, 0, 20], [0, 30, 20], [0, 0, 1]]), (40, 40))
        assert rasterise(Mesh(vertices, faces), camera).depth[20, 20] == 2


def test_colours_are_interpolated_in_space_and_not_in_the_image() -> None:
    for camera in around(4, 3.0):
        mesh = box()
        raster = rasterise(mesh, camera)
        seen = raster.faces >= 0
        places = interpolate(mesh, raster, camera, mesh.vertices)[seen]
        local = places @ camera.cam_from_world[:3, :3].T + camera.cam_from_world[:3, 3]
        np.testing.assert_allclose(local[:, 2], raster.depth[seen], rtol=1e-5)
        picture = shade(mesh, camera)
        assert (picture[~seen] == 255).all()
        assert picture[seen].std() > 10


def test_an_empty_mesh_shows_nothing() -> None:
    nothing = Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    camera = around(1, 3.0)[0]
    assert not rasterise(nothing, camera).depth.any()
    assert (shade(nothing, camera) == 255).all()
