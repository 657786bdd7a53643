"""How many frames a minute `crispdepth synth` makes: rooms and objects, 320x240, all processors.

    python benchmarks/render_speed.py [--assets DIR] [--photos DIR]

Every case is the command itself, start included, as a process of its own. Prints a table.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import tyro


@dataclass(frozen=True)
class Options:
    """What the scenes are made of, and how many there are."""

    assets: Path | None = None  # models and environment maps
    photos: Path | None = None  # for textures
    scenes: int = 24  # of each case, of three frames each
    jobs: int = os.cpu_count() or 1  # processes
    spp: tuple[int, ...] = (4, 8, 16)  # light paths per pixel


def main(options: Options) -> None:
    print(
        f"{options.jobs} processes, {options.scenes} scenes of 3 frames, 320x240, with the start."
    )
    print("| scenes | spp | variant | frames / min | s / frame | CPU s / frame |")
    print("|---|---:|---|---:|---:|---:|")
    for kind, spp in product(("rooms", "objects"), options.spp):
        seconds, cpu_seconds, frames, variant = measure(options, kind, spp)
        print(
            f"| {kind} | {spp} | {variant} | {60 * frames / seconds:.0f} "
            f"| {seconds / frames:.2f} | {cpu_seconds / frames:.2f} |",
            flush=True,
        )


def measure(options: Options, kind: str, spp: int) -> tuple[float, float, int, str]:
    """Wall and CPU seconds of one run, the frames it made, and Mitsuba's variant."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "crispdepth", "synth", kind, "-o", folder]
        command += ["--count", str(options.scenes), "--spp", str(spp)]
        command += ["--jobs", str(options.jobs), "--quiet", *_folders(options)]
        started, before = time.perf_counter(), os.times()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds, after = time.perf_counter() - started, os.times()
        cpu_seconds = after.children_user - before.children_user
        cpu_seconds += after.children_system - before.children_system
        facts = [json.loads(path.read_text()) for path in Path(folder).glob("*/scene.json")]
        return seconds, cpu_seconds, sum(fact["n_frames"] for fact in facts), facts[0]["variant"]


def _folders(options: Options) -> Iterator[str]:
    for name in ("assets", "photos"):
        folder = getattr(options, name)
        if folder is not None:
            yield from (f"--{name}", str(folder))


if __name__ == "__main__":
    main(tyro.cli(Options))
