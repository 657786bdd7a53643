"""Mesh files come back as they went out, and other programs read them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from crispdepth.io.meshes import read_mesh, write_mesh
from crispdepth.types import Mesh

VERTICES = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]], np.float32)
FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.int32)
COLOURS = np.array([[0, 0, 0], [255, 0, 10], [3, 255, 0], [9, 8, 188]], np.uint8)


@pytest.mark.parametrize("colours", [None, COLOURS])
def test_ply_comes_back_exactly(tmp_path: Path, colours: Any) -> None:
    write_mesh(tmp_path / "a.ply", Mesh(VERTICES, FACES, colours))
    again = read_mesh(tmp_path / "a.ply")
    np.testing.assert_array_equal(again.vertices, VERTICES)
    np.testing.assert_array_equal(again.faces, FACES)
    if colours is None:
        assert again.colours is None
    else:
        np.testing.assert_array_equal(again.colours, colours)


@pytest.mark.parametrize("suffix", [".ply", ".obj"])
def test_another_program_reads_the_same(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_mesh(path, Mesh(VERTICES, FACES, COLOURS))
    other: Any = trimesh.load(path, process=False)
    np.testing.assert_allclose(other.vertices, VERTICES)
    np.testing.assert_array_equal(other.faces, FACES)
    np.testing.assert_array_equal(other.visual.vertex_colors[:, :3], COLOURS)


def test_glb_is_upright_and_linear(tmp_path: Path) -> None:
    for up, expected in (
        ((0.0, -1, 0), VERTICES * [1, -1, -1]),
        ((0.0, 0, 1), VERTICES[:, [0, 2, 1]] * [1, 1, -1]),
        ((0.0, 2, 0), VERTICES),
    ):
        write_mesh(tmp_path / "a.glb", Mesh(VERTICES, FACES, COLOURS), up=up)
        scene: Any = trimesh.load(tmp_path / "a.glb", process=False)
        (mesh,) = scene.geometry.values()
        np.testing.assert_allclose(mesh.vertices, expected, atol=1e-6)
        np.testing.assert_array_equal(mesh.faces, FACES)
        assert mesh.volume == pytest.approx(1, rel=1e-5)  # not mirrored


def test_ply_of_other_programs_is_read(tmp_path: Path) -> None:
    text = """ply
format ascii 1.0
comment a square and a triangle
element vertex 5
property double x
property double y
property double z
property uchar red
property uchar green
property uchar blue
property uchar alpha
element face 2
property list uchar uint vertex_index
end_header
0 0 0 1 2 3 255
1 0 0 1 2 3 255
1 1 0 1 2 3 255
0 1 0 1 2 3 255
0 0 1 9 9 9 255
4 0 1 2 3
3 0 1 4
"""
    path = tmp_path / "a.ply"
    path.write_text(text)
    mesh = read_mesh(path)
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [0, 2, 3], [0, 1, 4]])
    assert mesh.colours is not None
    assert mesh.colours[4].tolist() == [9, 9, 9]
    trimesh.Trimesh(VERTICES, FACES, process=False).export(path)
    np.testing.assert_array_equal(read_mesh(path).faces, FACES)


def test_binary_polygons_and_big_endian_are_read(tmp_path: Path) -> None:
    head = b"""ply
format binary_big_endian 1.0
element vertex 4
property float x
property float y
property float z
element face 2
property list uchar int vertex_indices
end_header
"""
    faces = b"\4" + np.array([0, 1, 2, 3], ">i4").tobytes()
    faces += b"\3" + np.array([3, 2, 0], ">i4").tobytes()
    path = tmp_path / "a.ply"
    path.write_bytes(head + VERTICES.astype(">f4").tobytes() + faces)
    mesh = read_mesh(path)
    np.testing.assert_array_equal(mesh.vertices, VERTICES)
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [0, 2, 3], [3, 2, 0]])


def test_mistakes_are_named(tmp_path: Path) -> None:
    mesh = Mesh(VERTICES, FACES)
    with pytest.raises(ValueError, match=r"\.stl: a mesh is"):
        write_mesh(tmp_path / "a.stl", mesh)
    with pytest.raises(ValueError, match="no surface"):
        write_mesh(tmp_path / "a.ply", Mesh(VERTICES, FACES[:0]))
    with pytest.raises(ValueError, match="no direction"):
        write_mesh(tmp_path / "a.glb", mesh, up=(0, 0, 0))
    write_mesh(tmp_path / "a.ply", mesh)
    data = (tmp_path / "a.ply").read_bytes()
    for broken in (b"obj", data[:-9], data[:40]):
        (tmp_path / "b.ply").write_bytes(broken)
        with pytest.raises(ValueError, match=r"b\.ply"):
            read_mesh(tmp_path / "b.ply")
