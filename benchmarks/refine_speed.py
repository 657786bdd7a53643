"""The speed table of the README: time and memory of refinement, 0.3 to 12 megapixels.

    python benchmarks/refine_speed.py

In memory, without reading and writing files: the shipped network (crispdepth), the classical
completer and two peers. Every case runs in a process of
its own, whose peak memory is then its own too. Writes refine_speed.md and refine_speed.json.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import tyro
from numpy.typing import NDArray

from crispdepth.cli.batch import peak_rss_mb
from crispdepth.evaluation.baselines import BASELINES
from crispdepth.geometry.depth import resize_depth
from crispdepth.io.atomic import write_text
from crispdepth.io.depths import read_depth
from crispdepth.io.images import read_image
from crispdepth.io.masks import read_masks
from crispdepth.models.classical import ClassicalCompleter
from crispdepth.models.learned import LearnedCompleter
from crispdepth.ops.masks import resize_masks
from crispdepth.tasks.refine import refine_depth
from crispdepth.types import DepthMap, LayerCompleter, MaskSet, Size

OURS = "crispdepth"
METHODS = (OURS, "classical", "guided-filter", "fast-bilateral-solver")
TILED = 1280  # pixels of the longer side at which tiles are completed
COMPLETERS: dict[str, Callable[[], LayerCompleter]] = {
    OURS: cache(LearnedCompleter),
    "crispdepth-tiled": cache(partial(LearnedCompleter, resolution=TILED, tiled=True)),
    "classical": ClassicalCompleter,
}
MEGAPIXELS = (0.3, 3.0, 12.0)
MASKS = (1, 5)
RUNS = 3
ENOUGH = 15.0  # seconds: after so long a case is not run again
LIMIT = 120.0  # seconds for one case, its start included
EXAMPLE = Path(__file__).parents[1] / "examples"


@dataclass(frozen=True)
class Case:
    """One method on one size and number of masks, and what was measured."""

    method: str
    megapixels: float
    masks: int
    size: Size  # (height, width)
    runs: int = 0  # 0: stopped at the limit
    seconds: float = 0.0  # median of the runs, wall clock
    cpu_seconds: float = 0.0  # median of the runs, all threads
    inputs_mb: float = 0.0  # photo, depth, validity and masks
    held_mb: float = 0.0  # peak RSS of the process before the first run: program and inputs
    peak_mb: float = 0.0  # peak RSS of the process


@dataclass(frozen=True)
class Options:
    """Measure time and memory of refinement, ours and two peers'."""

    photo: Path = EXAMPLE / "parrots.jpg"
    """The photo, resized to each number of pixels."""

    depth: Path = EXAMPLE / "parrots_depth.png"
    """Its rough depth, in the shape of the photo."""

    mask: Path = EXAMPLE / "parrots_mask.png"
    """Its mask, in the shape of the photo."""

    out: Path = Path(__file__).parent / "results"
    """Where refine_speed.md and refine_speed.json go."""

    methods: tuple[str, ...] = METHODS
    """What to measure."""

    megapixels: tuple[float, ...] = MEGAPIXELS
    """At which sizes."""

    case: tuple[str, Path] | None = None
    """Measure one method on one file of inputs, and print it as JSON: what the script asks of the
    processes it starts."""


def main(options: Options) -> None:
    if options.case is not None:
        print(json.dumps(measure(*options.case)))
        return
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        for megapixels in options.megapixels:
            for masks in MASKS:
                inputs = Path(folder) / "inputs.npz"
                size = make_inputs(options, megapixels, masks, inputs)
                for method in options.methods:
                    cases.append(run(Case(method, megapixels, masks, size), inputs))
                    print(_row(cases[-1], cases), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / "refine_speed.md", table(cases))
    report = {"machine": machine(), "cases": [asdict(case) for case in cases]}
    write_text(options.out / "refine_speed.json", json.dumps(report, indent=1) + "\n")


def make_inputs(options: Options, megapixels: float, count: int, path: Path) -> Size:
    """Write photo, inverse depth and masks of one size; several masks are the one, shifted."""
    photo = read_image(options.photo).rgb
    scale = (megapixels * 1e6 / (photo.shape[0] * photo.shape[1])) ** 0.5
    size = (round(photo.shape[0] * scale), round(photo.shape[1] * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    depth = resize_depth(read_depth(options.depth).depth, size)
    (mask,) = resize_masks(read_masks([options.mask], layout="soft").masks, size).values
    shifts = (index * size[1] // count for index in range(count))
    np.savez(
        path,
        photo=cv2.resize(photo, size[::-1], interpolation=how),
        depth=depth.values,
        masks=np.stack([np.roll(mask, shift, axis=1) for shift in shifts]),
        kind=depth.kind,
    )
    return size


def run(case: Case, inputs: Path) -> Case:
    """Measure in a new process."""
    command = [sys.executable, __file__, "--case", case.method, str(inputs)]
    try:
        child = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return case
    return replace(case, **json.loads(child.stdout))


def measure(method: str, inputs: Path) -> dict[str, float]:
    """What one process takes; the first, small run loads what is loaded late."""
    with np.load(inputs) as arrays:
        photo: NDArray[np.uint8] = arrays["photo"]
        depth = DepthMap(arrays["depth"], str(arrays["kind"]))  # type: ignore[arg-type]
        masks = MaskSet(arrays["masks"])
    step = max(1, max(depth.size) // 64)
    small = slice(None, None, step)
    refine(
        method,
        photo[small, small],
        DepthMap(depth.values[small, small], depth.kind),
        MaskSet(masks.values[:, small, small]),
    )
    held = peak_rss_mb()
    times: list[float] = []
    cpu_times: list[float] = []
    while len(times) < RUNS and sum(times) < ENOUGH:
        start, cpu_start = time.perf_counter(), time.process_time()
        refine(method, photo, depth, masks)
        times.append(time.perf_counter() - start)
        cpu_times.append(time.process_time() - cpu_start)
    parts = (photo, depth.values, depth.usable, masks.values)
    return {
        "runs": len(times),
        "seconds": round(median(times), 3),
        "cpu_seconds": round(median(cpu_times), 3),
        "inputs_mb": round(sum(part.nbytes for part in parts) / 1e6, 1),
        "held_mb": held or float("nan"),
        "peak_mb": peak_rss_mb() or float("nan"),
    }


def refine(method: str, photo: NDArray[np.uint8], depth: DepthMap, masks: MaskSet) -> None:
    if method in COMPLETERS:
        refine_depth(photo, depth, masks, completer=COMPLETERS[method]())
    else:
        BASELINES[method](photo, depth.values, masks)


def machine() -> dict[str, str | int | None]:
    """Where it was measured, as far as it decides the numbers."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "opencv_threads": cv2.getNumThreads(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }


def table(cases: Sequence[Case]) -> str:
    """All cases as Markdown, with what the columns mean."""
    facts = ", ".join(f"{name} {value}" for name, value in machine().items())
    return "\n".join(
        [
            f"Measured on: {facts}.",
            "",
            f"Seconds are the median of {RUNS} runs (of fewer where these took {ENOUGH:.0f} s; the",
            "JSON file says), CPU seconds are summed over threads. Peak is the resident memory of",
            "the whole process, inputs those of its arrays, and working what the method adds to",
            "the program and its inputs: for crispdepth and classical that includes the result",
            "with its layers. Loading the network is not part of the seconds.",
            "",
            f"| MP | masks | method | seconds | CPU s | s / MP | times {OURS}'s | peak MB "
            "| inputs MB | working MB |",
            "|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|",
            *(_row(case, cases) for case in cases),
            "",
        ]
    )


def _row(case: Case, cases: Sequence[Case]) -> str:
    start = f"| {case.megapixels:g} | {case.masks} | {case.method} "
    if not case.runs:
        return f"{start}| stopped at {LIMIT:.0f} | | | | | | |"
    ours = [
        other.seconds
        for other in cases
        if (other.method, other.megapixels, other.masks) == (OURS, case.megapixels, case.masks)
    ]
    ratio = f"{case.seconds / ours[0]:.1f}" if ours and ours[0] else ""
    return (
        f"{start}| {case.seconds:.2f} | {case.cpu_seconds:.2f} "
        f"| {case.seconds / case.megapixels:.2f} | {ratio} | {case.peak_mb:.0f} "
        f"| {case.inputs_mb:.0f} | {case.peak_mb - case.held_mb:.0f} |"
    )


if __name__ == "__main__":
    main(tyro.cli(Options))
