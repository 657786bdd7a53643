"""PLY files as others write them."""

from pathlib import Path

import numpy as np
import pytest
import trimesh

from crispdepth.io.meshes import read_mesh
from crispdepth.io.ply import read_ply_points
from crispdepth.io.pointclouds import write_points

BOX = trimesh.creation.box(extents=(1, 2, 3))


@pytest.mark.parametrize("encoding", ["ascii", "binary"])
def test_a_mesh_of_another_program_is_read(tmp_path: Path, encoding: str) -> None:
    mesh = BOX.copy()
    mesh.visual.vertex_colors = np.arange(8 * 4, dtype=np.uint8).reshape(8, 4)
    path = tmp_path / "box.ply"
    path.write_bytes(trimesh.exchange.ply.export_ply(mesh, encoding=encoding))
    read = read_mesh(path)
    np.testing.assert_allclose(read.vertices, mesh.vertices, atol=1e-6)
    np.testing.assert_array_equal(read.faces, mesh.faces)
    np.testing.assert_array_equal(read.colours, mesh.visual.vertex_colors[:, :3])


def test_our_points_come_back(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    colours = np.arange(90, dtype=np.uint8).reshape(30, 3)
    write_points(tmp_path / "a.ply", points, colours)
    cloud = read_ply_points(tmp_path / "a.ply")
    np.testing.assert_array_equal(cloud.points, points)
    np.testing.assert_array_equal(cloud.colours, colours)


def test_ascii_big_endian_and_colourless_points(tmp_path: Path) -> None:
    header = "ply\nformat {} 1.0\ncomment made by hand\nelement vertex 2\n"
    header += "property double x\nproperty double y\nproperty double z\nend_header\n"
    values = np.array([[1, 2, 3], [4, 5, 6.5]])
    (tmp_path / "a.ply").write_text(header.format("ascii") + "1 2 3\n4 5 6.5\n")
    big = header.format("binary_big_endian").encode() + values.astype(">f8").tobytes()
    (tmp_path / "b.ply").write_bytes(big)
    for name in ("a.ply", "b.ply"):
        cloud = read_ply_points(tmp_path / name)
        np.testing.assert_array_equal(cloud.points, values)
        assert cloud.colours is None


def test_triangles_may_carry_more_and_strange_lists_may_follow(tmp_path: Path) -> None:
    text = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\n"
    text += "property float z\nelement face 1\nproperty uchar flags\n"
    text += "property list uchar int vertex_indices\nelement strip 1\n"
    text += "property list int int vertex_indices\nend_header\n0 0 0\n1 0 0\n1 1 0\n"
    (tmp_path / "a.ply").write_text(text + "7 3 0 1 2\n5 0 1 2 0 1\n")
    np.testing.assert_array_equal(read_mesh(tmp_path / "a.ply").faces, [[0, 1, 2]])
    assert len(read_ply_points(tmp_path / "a.ply")) == 3


def test_mistakes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    path.write_text("solid nothing")
    for read in (read_mesh, read_ply_points):
        with pytest.raises(ValueError, match="no PLY header"):
            read(path)
    vertices = "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\n"
    vertices += "property float z\n"
    rows = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n"
    path.write_text(f"{vertices}end_header\n0 0 0\n")
    with pytest.raises(ValueError, match="before the last of its 4 rows"):
        read_ply_points(path)
    face = "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    path.write_text(f"{vertices}{face}{rows}4 0 1 2\n")
    for read in (read_mesh, read_ply_points):
        with pytest.raises(ValueError, match="before the last of its 1 rows of face"):
            read(path)
    face = face.replace("end_header", "property float area\nend_header")
    path.write_text(f"{vertices}{face}{rows}4 0 1 2 3 1.5\n")
    with pytest.raises(ValueError, match="not all triangles"):
        read_mesh(path)
    binary = trimesh.exchange.ply.export_ply(BOX, encoding="binary")
    path.write_bytes(binary[:-5])
    for read in (read_mesh, read_ply_points):
        with pytest.raises(ValueError, match=r"a\.ply"):
            read(path)
