import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from crispdepth.cli.errors import ExitCode
from crispdepth.cli.main import main
from crispdepth.io.view_depths import depth_path, read_view_depth
from crispdepth.models.weights import read_config
from crispdepth.types import Camera, Scene, View, scene_of_views

SIZE = (40, 52)
K = np.array([[48.0, 0, 26], [0, 48, 20], [0, 0, 1]])


def wall(x: float, name: str) -> View:
    """A painted wall at 2 m, seen from ``x`` metres to the right."""
    pose = np.eye(4)
    pose[0, 3] = -x
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    right, down = (columns - 26) / 48 * 2 + x, (rows - 20) / 48 * 2
    rng = np.random.default_rng(0)
    grey = np.zeros(SIZE)
    for a, b, c in rng.normal(size=(10, 3)) * 9:
        grey += np.sin(a * right + b * down + c)
    image = (127 + 12 * grey).clip(0, 255).astype(np.uint8)
    return View(np.repeat(image[..., None], 3, axis=-1), name, Camera(K, SIZE, pose))


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """What reading any folder as a scene gives."""
    made = scene_of_views([wall(x, f"left/{x:g}.jpg") for x in (0.0, 0.1, 0.2)])
    scenes = ModuleType("crispdepth.io.scenes")
    vars(scenes)["open_scene"] = lambda path, **options: SimpleNamespace(scene=made)
    monkeypatch.setitem(sys.modules, "crispdepth.io.scenes", scenes)
    return made


def test_it_writes_the_depth_of_every_view(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "depths"
    assert main(["multiview", "scene", "-o", str(out), "--near", "1", "--far", "4"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [str(depth_path(out, name)) for name in scene.names]
    assert "3 of 3 views matched" in said.err
    for name, camera in zip(scene.names, scene.cameras, strict=True):
        found = read_view_depth(out, name, camera)
        assert np.median(found.depth.values[found.depth.usable]) == pytest.approx(2, rel=0.02)
    settings = json.loads((out / "multiview.json").read_text())
    assert settings["near"] == 1


def test_it_resumes_where_it_was_stopped(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["multiview", "scene", "-o", str(tmp_path), "--near", "1", "--far", "4"]
    assert main(command) == 0
    paths = [depth_path(tmp_path, name) for name in scene.names]
    before = [path.read_bytes() for path in paths]
    times = [path.stat().st_mtime_ns for path in paths]
    paths[1].unlink()
    capsys.readouterr()
    assert main(command) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [str(paths[1])]
    assert "2 were done before" in said.err
    assert [path.read_bytes() for path in paths] == before
    assert [path.stat().st_mtime_ns for path in paths][::2] == times[::2]


def test_who_finds_nothing_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, scene: Scene, tmp_path: Path
) -> None:
    def read(index: int) -> View:
        raise ValueError("a mask of another shape")

    broken = SimpleNamespace(scene=replace(scene, read=read))
    scenes = sys.modules["crispdepth.io.scenes"]
    monkeypatch.setattr(scenes, "open_scene", lambda path, **options: broken)
    out = tmp_path / "depths"
    assert main(["multiview", "scene", "-q", "-o", str(out), "--near", "1", "--far", "4"]) == 1
    assert not out.exists()


def test_depths_of_two_settings_do_not_mix(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["multiview", "scene", "-q", "-o", str(tmp_path), "--near", "1", "--far"]
    assert main([*command, "4"]) == 0
    assert main([*command, "5"]) == 1
    said = capsys.readouterr().err
    assert "other settings" in said
    assert ": far differ." in said
    assert main([*command, "5", "--overwrite"]) == 0
    assert main([*command, "5", "--mask-role", "ignore"]) == 1


def test_a_wrong_range_is_a_sentence(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["multiview", "scene", "-o", str(tmp_path), "--near", "1"])
    error = capsys.readouterr().err
    assert "neither" in error
    assert "Traceback" not in error


def test_a_single_view_is_refused_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = ModuleType("crispdepth.io.scenes")
    one = SimpleNamespace(scene=scene_of_views([wall(0, "a.png")]))
    vars(scenes)["open_scene"] = lambda path, **options: one
    monkeypatch.setitem(sys.modules, "crispdepth.io.scenes", scenes)
    assert main(["multiview", "scene", "-o", str(tmp_path / "depths")]) == 1
    assert "two or more" in capsys.readouterr().err
    assert not (tmp_path / "depths").exists()


def test_depths_that_would_not_be_read_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["multiview", "scene", "--depths", "mine", "-o", str(tmp_path / "depths")]
    assert main(words) == 2
    assert "from the photos alone" in capsys.readouterr().err
    assert not (tmp_path / "depths").exists()


def test_a_file_in_the_place_of_the_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out.txt").write_text("text")
    assert main(["multiview", "scene", "-o", str(tmp_path / "out.txt")]) == ExitCode.USAGE
    assert "is a file; name a folder" in capsys.readouterr().err
    assert (tmp_path / "out.txt").read_text() == "text"


def test_help_and_files_of_depths_need_no_torch() -> None:
    program = (
        "import sys; from crispdepth.cli.main import main; import crispdepth.io.view_depths\n"
        "try: main(['multiview', '--help'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_the_network_finds_depth_by_the_same_command(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "depths"
    words = [
        "multiview",
        "anywhere",
        "-o",
        str(out),
        "--near",
        "1",
        "--far",
        "4",
        "--consistent",
        "0",
    ]
    assert main([*words, "--method", "multiview", "-q"]) == 0
    found = read_view_depth(out, scene.names[1], scene.cameras[1])
    assert found.depth.usable.all(), "the network has an answer everywhere"
    assert np.median(np.abs(found.depth.values - 2)) < 0.2
    assert "weights" in json.loads((out / "multiview.json").read_text("utf-8"))
    capsys.readouterr()
    assert main([*words, "-q"]) == 1, "classical depths are others"
    assert ": method, weights differ." in capsys.readouterr().err


def test_stereo_finds_depth_by_the_same_command(
    scene: Scene, volume_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "depths"
    words = ["multiview", "anywhere", "-o", str(out), "--near", "1", "--far", "4", "-q"]
    words += ["--consistent", "0", "--method", "stereo"]
    assert main([*words, "--weights", "multiview-small"]) == 1
    assert "choose weights for this task" in capsys.readouterr().err
    assert not out.exists()
    assert main([*words, "--weights", str(volume_weights)]) == 0
    found = read_view_depth(out, scene.names[1], scene.cameras[1])
    assert found.depth.usable.all(), "the network has an answer everywhere"
    settings = json.loads((out / "multiview.json").read_text("utf-8"))
    assert settings["weights"] == read_config(volume_weights)["sha256"]


def test_weights_are_for_the_network(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["multiview", "anywhere", "-o", str(tmp_path / "depths")]
    assert main([*words, "--weights", "mine"]) == 2
    assert "add --method multiview" in capsys.readouterr().err
    assert main([*words, "--method", "multiview", "--weights", "layered-small"]) == 1
    assert "choose weights for this task" in capsys.readouterr().err
    assert not (tmp_path / "depths").exists()
