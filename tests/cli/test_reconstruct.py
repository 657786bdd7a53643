"""`crispdepth reconstruct` and `crispdepth bench reconstruct` as a person calls them."""

import json
from pathlib import Path

import numpy as np
import pytest

from crispdepth.cli.bench_reconstruct import NUMBERS, table
from crispdepth.cli.errors import ExitCode
from crispdepth.cli.main import main
from crispdepth.io.depths import write_depth
from crispdepth.io.meshes import read_mesh
from crispdepth.io.scenes import read_scene
from crispdepth.io.scenes.export import write_transforms
from crispdepth.types import DepthMap, MaskSet, View, scene_of_views
from tests.analytic import around, box_depth, rays


@pytest.fixture
def box(tmp_path: Path) -> Path:
    views = []
    for index, camera in enumerate(around(8, 3.0, (48, 48))):
        depth = box_depth(camera, np.array([0.8, 0.6, 0.5]))
        centre, direction = rays(camera)
        points = centre + direction * depth[..., None]
        colours = np.where(depth[..., None] > 0, 128 + 100 * np.sin(5 * points), 0)
        image = colours.clip(0, 255).astype(np.uint8)
        measured = DepthMap(depth, "depth", "m", camera=camera)
        mask = MaskSet((depth > 0).astype(np.float32)[None])
        views.append(View(image, f"{index}.png", camera, measured, mask))
    folder = tmp_path / "scenes" / "box"
    write_transforms(scene_of_views(views), folder)
    return folder


def test_one_command_makes_a_mesh_and_says_how(
    box: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["reconstruct", str(box), "-o", str(out), "--quality", "preview", "--what", "mesh"]
    assert main([*words, "--json"]) == ExitCode.OK
    summary = json.loads(capsys.readouterr().out)
    assert summary["views"] == 8
    assert summary["seconds"]["mesh"] > 0
    assert {path.name for path in out.iterdir()} >= {"mesh.ply", "mesh.glb", "report.html"}
    assert not (out / "splats.ply").exists()
    assert np.abs(read_mesh(out / "mesh.ply").vertices).max() < 1
    assert main([*words, "--voxel", "0.1"]) == ExitCode.FAILURE
    assert "--overwrite" in capsys.readouterr().err
    assert main([*words, "--voxel", "0.1", "--overwrite", "-q"]) == ExitCode.OK
    assert capsys.readouterr().out.strip() == str(out)


def test_depths_from_a_folder_are_taken_though_one_is_missing(box: Path, tmp_path: Path) -> None:
    mine, out = tmp_path / "mine", tmp_path / "out"
    mine.mkdir()
    for view in list(read_scene(box))[1:]:
        assert view.depth is not None
        write_depth(mine / f"{Path(view.name).stem}.exr", view.depth)
    words = ["reconstruct", str(box), "--depths", str(mine), "-o", str(out), "--no-report"]
    assert main([*words, "--quality", "preview", "--what", "mesh", "-q"]) == ExitCode.OK
    assert (out / "mesh.ply").is_file()
    assert not (out / "depth").exists()  # none were matched


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["nowhere"], ExitCode.FAILURE, "nowhere"),
        (["."], ExitCode.FAILURE, "scene.json"),
        ([".", "--longest", "100"], ExitCode.USAGE, "--quality"),
        ([".", "--depths", "mine", "--method", "stereo"], ExitCode.USAGE, "leave one of them"),
        ([".", "-o", "file.txt"], ExitCode.USAGE, "is a file"),
        ([".", "--quality", "best"], ExitCode.USAGE, "quality"),
    ],
)
def test_mistakes_are_explained(
    words: list[str],
    code: ExitCode,
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file.txt").write_text("mine")
    try:
        found = main(["reconstruct", *words])
    except SystemExit as stop:  # by the parser of options
        found = int(stop.code or 0)
    assert found == code
    assert part in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


def test_a_folder_of_scenes_is_measured(
    box: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (box.parent / "empty").mkdir()
    (box.parent / "config.json").write_text("{}")  # as `crispdepth synth` leaves one
    out = tmp_path / "out"
    words = ["bench", "reconstruct", str(box.parent), "-o", str(out), "--what", "mesh", "-q"]
    assert main([*words, "--quality", "preview", "--method", "given"]) == ExitCode.PARTIAL
    printed = capsys.readouterr()
    assert "| mesh: iou |" in printed.out
    assert "empty" in printed.err
    numbers = json.loads((out / NUMBERS).read_text())
    assert numbers["scenes"]["box"]["mesh: iou"] > 0.9
    assert list(numbers["failed"]) == ["empty"]


def test_a_number_that_is_missing_is_a_dash() -> None:
    text = table({"a": {"x": 1.0}, "b": {"x": 3.0, "y": 0.5}})
    assert "| x | 1 | 3 | 2 |" in text
    assert "| y | – | 0.5 | 0.5 |" in text
