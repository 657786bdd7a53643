"""``crispdepth fuse``: what is checked before, written, and said."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from crispdepth.api.scene import up_of
from crispdepth.cli.fuse import measured_views
from crispdepth.cli.main import main
from crispdepth.io.meshes import read_mesh
from crispdepth.types import DepthMap, Scene, View, scene_of_views
from tests.analytic import around, looking_at, sphere_depth


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A sphere, as what any folder is read as; one view has no depth."""
    views = []
    for number, camera in enumerate(around(12, 4.0)):
        depth = None if number == 5 else DepthMap(sphere_depth(camera), "depth", "m")
        image = np.full((*camera.size, 3), 80, np.uint8)
        views.append(View(image, f"{number}.png", camera, depth))
    made = scene_of_views(views, "ball")
    module = ModuleType("crispdepth.io.scenes")
    vars(module)["read_scene"] = lambda path: made
    monkeypatch.setitem(sys.modules, "crispdepth.io.scenes", module)
    return made


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".glb"])
def test_a_scene_becomes_a_file(
    scene: Scene, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / f"ball{suffix}"
    assert main(["fuse", str(tmp_path), "--resolution", "32", "-o", str(out)]) == 0
    said = capsys.readouterr()
    assert said.out == f"{out}\n"
    assert "voxels of" in said.err
    if suffix == ".ply":
        assert np.abs(np.linalg.norm(read_mesh(out).vertices, axis=1) - 1).max() < 0.05
    assert main(["fuse", str(tmp_path), "--voxel", "0.1", "-o", str(out)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main(["fuse", str(tmp_path), "--voxel", "0.1", "-o", str(out), "--overwrite"]) == 0


def test_a_wrong_name_is_a_usage_error_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fuse", "nowhere", "-o", str(tmp_path / "a.stl")]) == 2
    assert ".glb" in capsys.readouterr().err
    assert main(["fuse", "nowhere", "-o", str(tmp_path / "no/a.ply")]) == 1
    assert "make it first" in capsys.readouterr().err


def test_a_scene_without_depth_says_what_to_do(scene: Scene) -> None:
    with pytest.raises(ValueError, match="crispdepth reconstruct"):
        list(measured_views(scene.subset([5])))


def test_up_is_the_axis_nearest_to_up_in_the_photos() -> None:
    image = np.zeros((4, 5, 3), np.uint8)
    eye = np.array([3.0, 1, 0.8])
    level = View(image, "a", looking_at(eye, np.zeros(3), (4, 5), 5))
    assert up_of(scene_of_views([level])) == (0, 0, 1)
