"""The memory of a long batch: 300 small photos through one ``crispdepth refine``.

    python benchmarks/batch_memory.py

Whether the peak after the last photo is that after the first says whether anything is kept from
photo to photo. Writes batch_memory.md and batch_memory.json.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tyro
from numpy.typing import NDArray

from crispdepth.geometry.depth import resize_depth
from crispdepth.io.atomic import write_text
from crispdepth.io.depths import read_depth, write_depth
from crispdepth.io.images import read_image, write_image
from crispdepth.io.masks import read_masks
from crispdepth.types import DepthMap

EXAMPLE = Path(__file__).parents[1] / "examples/parrots"
SIZE = (120, 160)  # (height, width) of a photo
SEED = 0


@dataclass(frozen=True)
class Options:
    """Measure the memory of a long batch."""

    photos: int = 300
    """How many photos."""

    out: Path = Path(__file__).parent / "results"
    """Where batch_memory.md and batch_memory.json go."""


def main(options: Options) -> None:
    with tempfile.TemporaryDirectory() as folder:
        make_photos(Path(folder), options.photos)
        start = time.perf_counter()
        records = refine(Path(folder))
        seconds = time.perf_counter() - start
    report = {
        "photos": len(records),
        "size": SIZE,
        "seconds": round(seconds, 2),  # the start of the program included
        "photos_per_second": round(len(records) / seconds, 2),
        "peak_rss_mb": [record["peak_rss_mb"] for record in records],
    }
    text = table(report)
    print(text)
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / "batch_memory.md", text)
    write_text(options.out / "batch_memory.json", json.dumps(report) + "\n")


def make_photos(folder: Path, count: int) -> None:
    """Cuts of the example, each at its own place, with their depth maps and masks."""
    rng = np.random.default_rng(SEED)
    photo = read_image(f"{EXAMPLE}.jpg").rgb
    (mask,) = read_masks([Path(f"{EXAMPLE}_mask.png")], layout="soft").masks.values
    depth = resize_depth(read_depth(f"{EXAMPLE}_depth.png").depth, mask.shape)
    for name in ("photos", "depths", "masks"):
        (folder / name).mkdir()
    for index in range(count):
        rows, columns = _cut(rng, mask)
        part = DepthMap(depth.values[rows, columns], depth.kind, depth.unit)
        write_image(folder / f"photos/{index:04}.png", _small(photo[rows, columns]))
        write_image(folder / f"masks/{index:04}.png", _small(mask[rows, columns]))
        write_depth(folder / f"depths/{index:04}.png", resize_depth(part, SIZE))


def _cut(rng: np.random.Generator, mask: NDArray[Any]) -> tuple[slice, slice]:
    """A part of the photo in the shape of `SIZE` with some of the object and some background."""
    while True:
        height = int(rng.integers(mask.shape[0] // 2, mask.shape[0]))
        width = height * SIZE[1] // SIZE[0]
        top = int(rng.integers(mask.shape[0] - height))
        left = int(rng.integers(mask.shape[1] - width))
        cut = slice(top, top + height), slice(left, left + width)
        if 0.1 < (mask[cut] > np.iinfo(mask.dtype).max / 2).mean() < 0.9:
            return cut


def _small(image: NDArray[Any]) -> NDArray[Any]:
    return cv2.resize(image, SIZE[::-1], interpolation=cv2.INTER_AREA)


def refine(folder: Path) -> list[dict[str, Any]]:
    """Refine ``photos`` in one process; the manifest's lines of what is done."""
    command = [sys.executable, "-m", "crispdepth", "refine", str(folder / "photos")]
    places = ["--depth", "depths", "--mask", "masks", "--out", "refined"]
    subprocess.run(
        [*command, *places, "--quiet"], cwd=folder, check=True, stdout=subprocess.DEVNULL
    )
    lines = (folder / "refined/manifest.jsonl").read_text("utf-8").splitlines()
    return [record for record in map(json.loads, lines) if record["status"] == "done"]


def table(report: dict[str, Any]) -> str:
    peaks = report["peak_rss_mb"]
    height, width = report["size"]
    shown = [1, *(n for n in (50, 100, 200) if n < len(peaks)), len(peaks)]
    return "\n".join(
        [
            f"{report['photos']} photos of {width} x {height} pixels in {report['seconds']:.1f} s, "
            f"{report['photos_per_second']:.1f} per second, files read and written.",
            "",
            "| after photo | peak MB |",
            "|---:|---:|",
            *(f"| {n} | {peaks[n - 1]} |" for n in shown),
            "",
        ]
    )


if __name__ == "__main__":
    main(tyro.cli(Options))
