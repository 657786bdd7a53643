from pathlib import Path

import numpy as np
import pytest

from crispdepth.io.pointclouds import write_points
from crispdepth.ops.colour import srgb_from_linear

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(70, 3)).astype(np.float32)
COLOURS = RNG.integers(0, 256, (70, 3)).astype(np.uint8)


def test_a_ply_file_holds_the_points_bit_for_bit(tmp_path: Path) -> None:
    write_points(tmp_path / "a.ply", POINTS, COLOURS)
    header, _, data = (tmp_path / "a.ply").read_bytes().partition(b"end_header\n")
    assert header.decode().splitlines() == [
        "ply",
        "format binary_little_endian 1.0",
        "element vertex 70",
        *(f"property float {name}" for name in "xyz"),
        *(f"property uchar {name}" for name in ("red", "green", "blue")),
    ]
    table = np.frombuffer(data, [("xyz", "<f4", 3), ("rgb", "u1", 3)])
    np.testing.assert_array_equal(table["xyz"], POINTS)
    np.testing.assert_array_equal(table["rgb"], COLOURS)


@pytest.mark.parametrize("suffix", [".ply", ".glb"])
def test_another_program_reads_the_points(tmp_path: Path, suffix: str) -> None:
    trimesh = pytest.importorskip("trimesh")
    write_points(tmp_path / f"a{suffix}", POINTS, COLOURS)
    loaded = trimesh.load(tmp_path / f"a{suffix}")
    (cloud,) = loaded.geometry.values() if suffix == ".glb" else [loaded]
    turned = POINTS * [1, -1, -1] if suffix == ".glb" else POINTS  # glTF: y up, z to the viewer
    np.testing.assert_array_equal(cloud.vertices, turned.astype(np.float32))
    colours = np.asarray(cloud.colors)[:, :3]
    if suffix == ".glb":  # linear there
        colours = srgb_from_linear((colours / 255).astype(np.float32))
    np.testing.assert_allclose(colours.astype(int), COLOURS, atol=1 if suffix == ".ply" else 12)


def test_glb_lengths_are_those_of_the_standard(tmp_path: Path) -> None:
    write_points(tmp_path / "a.glb", POINTS, COLOURS)
    data = (tmp_path / "a.glb").read_bytes()
    _, version, length, json_length = np.frombuffer(data[:16], "<u4")
    assert (data[:4], version, length) == (b"glTF", 2, len(data))
    assert json_length % 4 == 0
    assert data[16:20] == b"JSON"
    assert data[24 + json_length : 28 + json_length] == b"BIN\0"
    assert len(data) == 28 + json_length + 70 * (12 + 12)


def test_mistakes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.ply or \.glb"):
        write_points(tmp_path / "a.obj", POINTS, COLOURS)
    with pytest.raises(ValueError, match=r"\(70, 3\) and \(9, 3\)"):
        write_points(tmp_path / "a.ply", POINTS, COLOURS[:9])
    with pytest.raises(ValueError, match="no point"):
        write_points(tmp_path / "a.ply", POINTS[:0], COLOURS[:0])
    with pytest.raises(ValueError, match="not finite"):
        write_points(tmp_path / "a.ply", np.full_like(POINTS, np.nan), COLOURS)
    assert not list(tmp_path.iterdir())
