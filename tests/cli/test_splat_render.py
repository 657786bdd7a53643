"""`crispdepth splat` and `crispdepth render` as a person calls them."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from PIL import Image

from crispdepth.cli.main import main
from crispdepth.io.splats import read_splats

Run = Callable[..., CompletedProcess[str]]
SIZE = 32


@pytest.fixture
def ball(tmp_path: Path) -> Path:
    """Four views of a green ball of radius 0.5, as a scene.json with depth and masks."""
    folder = tmp_path / "ball"
    K = np.array([[40.0, 0, 16], [0, 40, 16], [0, 0, 1]])
    poses = []
    for name in ("images", "depth", "masks"):
        (folder / name).mkdir(parents=True)
    for index in range(4):
        angle = index * np.pi / 2
        turn = np.array(
            [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
        )
        pose = np.eye(4)
        pose[:3, :3], pose[2, 3] = turn, 2
        poses.append(pose.tolist())
        x, y = np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5)
        rays = np.stack([(x - 16) / 40, (y - 16) / 40, np.ones_like(x)], axis=-1)
        a, b, c = (rays**2).sum(axis=-1), -2 * rays[..., 2] * 2, 4 - 0.25
        root = b * b - 4 * a * c
        hit = root > 0
        z = np.where(hit, (-b - np.sqrt(np.maximum(root, 0))) / (2 * a), 0)
        pixels = np.where(hit[..., None], [20, 200, 60], 90).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"images/{index:04}.png")
        Image.fromarray((z / 1e-4).round().astype(np.uint16)).save(folder / f"depth/{index:04}.png")
        Image.fromarray((hit * 255).astype(np.uint8)).save(folder / f"masks/{index:04}.png")
    facts = {
        "name": "ball", "K": K.tolist(), "size": [SIZE, SIZE], "n_frames": 4,
        "image_pattern": "images/%04d.png", "depth_unit_m": 1e-4, "near": 1.4, "far": 2.1,
        "cam_from_world": poses, "instances": {"1": "ball"},
    }  # fmt: skip
    (folder / "scene.json").write_text(json.dumps(facts))
    return folder


def test_a_scene_becomes_gaussians_and_these_a_clip(ball: Path, tmp_path: Path) -> None:
    splats = tmp_path / "ball.ply"
    assert main(["splat", str(ball), "-o", str(splats), "--fit.steps", "4", "-q"]) == 0
    found = read_splats(splats)
    np.testing.assert_allclose(np.linalg.norm(found.means, axis=1), 0.5, atol=0.1)
    clip = tmp_path / "turn.gif"
    words = ["--seconds", "0.5", "--fps", "10", "--size", "40", "-q"]
    assert main(["render", str(splats), "-o", str(clip), *words]) == 0
    with Image.open(clip) as picture:
        assert picture.size == (40, 40)
        assert getattr(picture, "n_frames", 1) == 5
    for path, count in (("views", 4), ("through", 5), ("turntable", 5)):
        folder = tmp_path / path
        scene = ["--scene", str(ball), "--path", path]
        assert main(["render", str(splats), *scene, "-o", str(folder), *words]) == 0
        frames = sorted(folder.iterdir())
        assert len(frames) == count
        for frame in frames:
            pixels = np.asarray(Image.open(frame))
            assert pixels[0, 0].tolist() == [255] * 3
            middle = pixels[len(pixels) // 2, len(pixels) // 2].astype(int)
            assert middle[1] > 150 > 100 > middle[0]


def test_both_commands_as_processes_and_spz(ball: Path, tmp_path: Path, run: Run) -> None:
    done = run("splat", "ball", "-o", "ball.spz", "--fit.steps", "0", "--place.cell", "0")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ball.spz\n"
    assert "Gaussians of 4 views" in done.stderr
    assert len(read_splats(tmp_path / "ball.spz")) > 800
    again = run("splat", "ball", "-o", "ball.spz")
    assert again.returncode == 1
    assert "--overwrite" in again.stderr


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["splat", "ball", "-o", "a.obj"], 2, "must end in .ply, .spz"),
        (["splat", "ball", "--fit.degree", "7"], 2, "0 to 3"),
        (["splat", "ball", "-o", "no/a.ply"], 1, "no such folder"),
        (["render", "a.ply", "-o", "a.avi"], 2, ".mp4"),
        (["render", "a.ply", "--path", "views"], 2, "--scene"),
        (["render", "a.ply", "--size", "3"], 2, "16 pixels"),
        (["render", "a.ply"], 1, "No such file"),
    ],
)
def test_mistakes_are_told(
    words: list[str],
    code: int,
    text: str,
    ball: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(ball.parent)
    assert main(words) == code
    assert text in capsys.readouterr().err


def test_a_scene_without_depth_is_told_what_to_do(
    ball: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in (ball / "depth").iterdir():
        file.unlink()
    assert main(["splat", str(ball), "-o", str(tmp_path / "a.ply"), "-q"]) == 1
    assert "depth" in capsys.readouterr().err


def test_without_torch_one_line_says_what_to_install(
    ball: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for words in (["splat", str(ball)], ["render", "a.ply"]):
        monkeypatch.chdir(ball.parent)
        assert main(words) == 1
        assert 'pip install "crispdepth[torch]"' in capsys.readouterr().err


def test_a_mesh_is_drawn_from_the_cameras_of_the_scene(ball: Path, tmp_path: Path) -> None:
    assert (
        main(["fuse", str(ball), "-o", str(tmp_path / "ball.ply"), "-q", "--min-piece", "0"]) == 0
    )
    words = ["render", str(tmp_path / "ball.ply"), "--scene", str(ball), "--path", "views", "-q"]
    assert main([*words, "-o", str(tmp_path / "frames"), "--background", "black"]) == 0
    frames = sorted((tmp_path / "frames").iterdir())
    assert len(frames) == 4
    drawn = np.asarray(Image.open(frames[0])).max(axis=-1) > 0
    mask = np.asarray(Image.open(ball / "masks/0000.png")) > 127
    assert (drawn & mask).sum() / (drawn | mask).sum() > 0.8
