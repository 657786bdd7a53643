"""Small scenes on disk, and the command as a real process."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SIZE = 24, 32
Run = Callable[..., subprocess.CompletedProcess[str]]
Scene = Callable[..., None]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`crispdepth` with these arguments, in the test's folder."""

    def start(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "crispdepth", *arguments],
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            timeout=120,
        )
        texts = (stream.decode("utf-8", "surrogateescape") for stream in (done.stdout, done.stderr))
        return subprocess.CompletedProcess(done.args, done.returncode, *texts)

    return start


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """Write photos/NAME.png, depths/NAME.npy and masks/NAME.png, different for every name."""

    def write(*names: str, suffix: str = ".png") -> None:
        x = np.arange(SIZE[1])
        for name in names:
            number = sum(map(ord, name)) % 97
            photo, depth, mask = (tmp_path / kind / name for kind in ("photos", "depths", "masks"))
            for path in (photo, depth, mask):
                path.parent.mkdir(parents=True, exist_ok=True)
            colours = np.where((x > 15)[None, :, None], [200, 80, number], [40, 90, 160])
            pixels = np.broadcast_to(colours, (*SIZE, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(f"{photo}{suffix}")
            rough = 2 + number / 100 + np.clip((x - 11) / 8, 0, 1)
            np.save(f"{depth}.npy", np.broadcast_to(rough, SIZE).astype(np.float32))
            inside = np.broadcast_to(np.where(x > 15, 255, 0), SIZE).astype(np.uint8)
            Image.fromarray(inside).save(f"{mask}.png")

    return write
