"""`crispdepth scene info` and `crispdepth scene convert`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crispdepth.cli.main import main
from crispdepth.io.scenes import read_scene

SIZE = (24, 32)


def make_scene(folder: Path, masks: bool = True) -> Path:
    """A scene.json of three photos; the object covers a quarter of each."""
    poses = []
    for number in range(3):
        for part in ("images", "depth", "masks")[: 3 if masks else 2]:
            (folder / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((*SIZE, 3), 40 * number, np.uint8)).save(
            folder / f"images/{number:04d}.png"
        )
        Image.fromarray(np.full(SIZE, 2000, np.uint16)).save(folder / f"depth/{number:04d}.png")
        if masks:
            mask = np.zeros(SIZE, np.uint8)
            mask[:12, :16] = 255
            Image.fromarray(mask).save(folder / f"masks/{number:04d}.png")
        pose = np.eye(4)
        pose[0, 3] = -0.5 * number
        poses.append(pose.tolist())
    content = {
        "K": [[30, 0, 16], [0, 30, 12], [0, 0, 1]],
        "size": [32, 24],
        "n_frames": 3,
        "image_pattern": "images/%04d.png",
        "cam_from_world": poses,
        "depth_unit_m": 0.001,
        "near": 1,
        "far": 3,
    }
    (folder / "scene.json").write_text(json.dumps(content))
    return folder


def words(*arguments: object) -> list[str]:
    return [str(argument) for argument in arguments]


def test_info_is_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words("scene", "info", make_scene(tmp_path / "room"))) == 0
    text = capsys.readouterr().out
    for line in (
        "scene     room (scene.json)",
        "views     3, 32x24, angle of view 56.1 degrees",
        "masks     3 of 3 views, role object, covering 25.0 %",
        "depth     3 of 3 views, 2 m, 100.0 % valid",
        "bounds    1 to 3 m",
        "note      masks: 3/3 photos matched",
    ):
        assert line in text


def test_info_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_scene(tmp_path / "room", masks=False)
    assert main(words("scene", "info", folder, "--json", "--longest", "16")) == 0
    facts: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (facts["format"], facts["unit"], facts["median_step"]) == ("scene.json", "m", 0.5)
    assert [view["size"] for view in facts["views"]] == [[16, 12]] * 3
    assert facts["views"][0]["masks"] is None
    assert facts["views"][0]["depth"]["range"] == [2, 2]


@pytest.mark.parametrize("to", ["colmap", "nerfstudio"])
def test_convert_writes_a_folder_that_is_read_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], to: str
) -> None:
    scene, out = make_scene(tmp_path / "room"), tmp_path / "made/here"
    assert main(words("scene", "convert", scene, "-o", out, "--to", to)) == 0
    assert capsys.readouterr().out.strip() == str(out)
    again, first = read_scene(out), read_scene(scene)
    for ours, theirs in zip(again.cameras, first.cameras, strict=True):
        np.testing.assert_allclose(ours.cam_from_world, theirs.cam_from_world, atol=1e-14)
    assert again[1].masks is not None
    assert [path.name for path in out.parent.iterdir()] == ["here"]  # nothing is left behind


def test_a_full_folder_is_only_replaced_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene, out = make_scene(tmp_path / "room"), tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("")
    command = words("scene", "convert", scene, "-o", out, "--to", "colmap", "--text")
    assert main(command) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (out / "mine.txt").is_file()
    assert main([*command, "--overwrite"]) == 0
    assert not (out / "mine.txt").exists()
    assert (out / "sparse/0/images.txt").is_file()


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    scene, out = make_scene(tmp_path / "room"), tmp_path / "out"
    command = words("scene", "convert", scene, "-o", out, "--to", "colmap", "--overwrite")
    assert main(command) == 0
    before = (out / "sparse/0/images.bin").read_bytes()
    (scene / "images/0002.png").write_bytes((scene / "images/0002.png").read_bytes()[:50])
    assert main(command) == 1
    assert (out / "sparse/0/images.bin").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "room"]


def test_mistakes_are_usage_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = make_scene(tmp_path / "room")
    wrong = [
        (["info", scene, "--longest", "0"], "--longest"),
        (["convert", scene, "-o", scene, "--to", "colmap"], "holds the scene itself"),
        (["convert", scene, "-o", tmp_path, "--to", "colmap"], "holds the scene itself"),
        (["convert", scene, "-o", "a", "--to", "nerfstudio", "--text"], "--text is for"),
        (["convert", scene, "-o", "a", "--to", "colmap", "--only-object"], "for --sfm"),
        (["convert", scene, "-o", "a", "--to", "colmap", "--sfm", "--format", "tum"], "--format"),
        (["convert", scene, "-o", scene / "scene.json", "--to", "colmap"], "is a file"),
    ]
    for arguments, message in wrong:
        assert main(words("scene", *arguments)) == 2
        assert message in capsys.readouterr().err
    assert main(words("scene", "info", tmp_path / "nothing")) == 1
    assert "check the path" in capsys.readouterr().err
