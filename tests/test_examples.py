"""The examples and the commands of the README are run as a reader would run them."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import crispdepth
from crispdepth.geometry.depth import inverse_depth
from crispdepth.types import Float32Map

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def run(command: list[str], folder: Path) -> str:
    """What a command prints; it must succeed."""
    scripts = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def blocks(language: str) -> list[str]:
    """The fenced code of the README in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with the examples, as the README supposes."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    return tmp_path


def test_the_five_lines_write_a_result(tmp_path: Path) -> None:
    script = ROOT / "examples" / "refine_in_five_lines.py"
    printed = run([sys.executable, str(script), "out"], tmp_path)
    assert "kind and unit from the sidecar" in printed
    assert (tmp_path / "out" / "depth.exr").is_file()
    assert (tmp_path / "out" / "layers.exr").is_file()


def test_the_commands_of_the_readme_run_one_after_the_other(clone: Path) -> None:
    lines = "".join(blocks("sh")).replace("\\\n", "").splitlines()
    commands = [words for line in lines if (words := shlex.split(line, comments=True))]
    assert len(commands) == 6
    for command in commands:
        run(command, clone)
    for name in ("bokeh.jpg", "parrots.ply", "parrots.webp"):
        assert (clone / "refined" / name).is_file()
    assert (clone / "compare.html").is_file()


def test_the_python_of_the_readme_runs(clone: Path) -> None:
    (code,) = blocks("python")
    run([sys.executable, "-c", code], clone)


def test_the_example_becomes_crisper_at_its_mask_and_stays_the_same_elsewhere() -> None:
    parrots = ROOT / "examples" / "parrots"
    refined = crispdepth.refine(f"{parrots}.jpg", f"{parrots}_depth.png", f"{parrots}_mask.png")
    kept = ~refined.changed
    assert 0.5 < kept.mean() < 1
    np.testing.assert_array_equal(refined.depth.values[kept], refined.initial.values[kept])
    mask = refined.masks[0]
    before, after = (step(inverse_depth(d), mask) for d in (refined.initial, refined.depth))
    assert after > 1.5 * before


def step(inverse: Float32Map, mask: Float32Map) -> float:
    """How much nearer the pixels just inside a mask are than those just outside, on average."""
    inside = (mask >= 0.5).astype(np.uint8)
    square = np.ones((3, 3), np.uint8)
    inner = (inside - cv2.erode(inside, square)) > 0
    outer = (cv2.dilate(inside, square) - inside) > 0
    return float(inverse[inner].mean() - inverse[outer].mean())
