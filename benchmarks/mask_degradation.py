"""What worse masks cost: openings and closings of all masks, as in the paper's supplement.

    python benchmarks/mask_degradation.py --data DIR

``DIR`` holds the dataset folders rooms and settings; the frames are those of refine_quality.py.
Only the methods see the degraded masks: errors are measured at the boundaries of the true ones.
Writes mask_degradation.md, mask_degradation.json and mask_degradation.png.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import tyro
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from crispdepth.cli.bench import choose_methods
from crispdepth.evaluation.baselines import Baseline
from crispdepth.evaluation.benchmark import Benchmark, run_benchmark
from crispdepth.io.atomic import write_text
from crispdepth.io.images import write_image
from crispdepth.types import Float32Map, MaskSet
from refine_quality import RUNS

Operation = Literal["opening", "closing"]

OPERATIONS: dict[Operation, int] = {"opening": cv2.MORPH_OPEN, "closing": cv2.MORPH_CLOSE}
KERNELS = (0, 3, 5, 7, 9)  # sides of the square in pixels; 0: the mask as it is
METRICS = {"mbe": "MBE", "rmse": "RMSE"}
DATASETS = ("rooms", "settings")

Curves = dict[str, list[float]]  # method -> its error for each of KERNELS

INK, GRID, PAPER = (30, 30, 30), (222, 222, 222), (255, 255, 255)
COLOURS = ((31, 119, 180), (214, 96, 20), (44, 140, 60), (140, 80, 170), (90, 90, 90))
PANEL = (420, 320)  # width and height in pixels, labels included
MARGIN = (74, 34, 14, 46)  # of a panel: left, top, right, bottom


@dataclass(frozen=True)
class Options:
    """Measure refinement with opened and closed masks."""

    data: Path
    """Folder with the dataset folders rooms and settings."""

    methods: tuple[str, ...] = ("layered-propagation", "classical", "crispdepth")
    """Methods beside initial, which sees no masks."""

    weights: tuple[str, ...] = ()
    """Exported weights that methods may be of, NAME=DIR each."""

    out: Path = Path(__file__).parent / "results"
    """Where mask_degradation.md, .json and .png go."""


def main(options: Options) -> None:
    known = choose_methods(("initial", *options.methods), options.weights)
    methods = {"initial": known.pop("initial")}
    for name, method in known.items():
        methods[_label(name, "opening", 0)] = method  # it is the closing by 0, too
        for operation in OPERATIONS:
            for kernel in KERNELS[1:]:
                label = _label(name, operation, kernel)
                methods[label] = with_degraded_masks(method, operation, kernel)
    benchmarks = []
    for run in RUNS:
        if run.dataset in DATASETS:
            samples = run.open(options.data)
            benchmarks.append(run_benchmark(run.dataset, samples, methods, gt_norm=run.gt_norm))
    text = "\n".join(table(benchmark, options.methods) for benchmark in benchmarks)
    print(text)
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / "mask_degradation.md", text)
    report = [{**each.facts, "kernels": KERNELS, "pooled": _errors(each)} for each in benchmarks]
    write_text(options.out / "mask_degradation.json", json.dumps(report, indent=1) + "\n")
    write_image(options.out / "mask_degradation.png", plot(benchmarks, options.methods))


def with_degraded_masks(method: Baseline, operation: Operation, kernel: int) -> Baseline:
    """The method, told what is left of the masks."""

    def degraded(image: NDArray[np.uint8], inverse: Float32Map, masks: MaskSet) -> Float32Map:
        return method(image, inverse, degrade(masks, operation, kernel))

    return degraded


def degrade(masks: MaskSet, operation: Operation, kernel: int) -> MaskSet:
    """Every mask opened (thin parts vanish) or closed (gaps vanish) with a square."""
    square = np.ones((kernel, kernel), np.uint8)
    changed = masks.values.copy()
    for mask in changed:
        mask[:] = cv2.morphologyEx(mask, OPERATIONS[operation], square)
    return MaskSet(changed, masks.names)


def table(benchmark: Benchmark, methods: Sequence[str]) -> str:
    """The errors by method, operation and kernel."""
    facts = "; ".join(f"{name}: {fact}" for name, fact in benchmark.facts.items())
    lines = [f"## {benchmark.dataset}", "", facts, ""]
    lines += [f"| metric | masks | method | {' | '.join(f'k = {k}' for k in KERNELS)} |"]
    lines += [f"|---|---|---|{'---:|' * len(KERNELS)}"]
    for metric, title in METRICS.items():
        for operation in OPERATIONS:
            for method, errors in curves(benchmark, metric, operation, methods).items():
                cells = " | ".join(f"{error:.4f}" for error in errors)
                lines.append(f"| {title} | {operation} | {method} | {cells} |")
    return "\n".join([*lines, ""])


def curves(
    benchmark: Benchmark, metric: str, operation: Operation, methods: Sequence[str]
) -> Curves:
    pooled = benchmark.pooled()
    errors: Curves = {"initial": [pooled["initial"][metric]] * len(KERNELS)}
    for method in methods:
        labels = (_label(method, operation if k else "opening", k) for k in KERNELS)
        errors[method] = [pooled[label][metric] for label in labels]
    return errors


def plot(benchmarks: Sequence[Benchmark], methods: Sequence[str]) -> NDArray[np.uint8]:
    """A row of panels for each dataset: both errors against k, for openings and closings."""
    width, height = PANEL
    picture = Image.new("RGB", (4 * width, len(benchmarks) * height + 34), PAPER)
    draw = ImageDraw.Draw(picture)
    for row, benchmark in enumerate(benchmarks):
        for half, (metric, title) in enumerate(METRICS.items()):
            # Both operations of an error share their axis: they are to be compared.
            pair = {o: curves(benchmark, metric, o, methods) for o in OPERATIONS}
            values = [v for each in pair.values() for errors in each.values() for v in errors]
            for column, (operation, errors) in enumerate(pair.items()):
                corner = ((2 * half + column) * width, row * height)
                heading = f"{benchmark.dataset}, {operation}"
                _panel(draw, corner, heading, title, errors, (min(values), max(values)))
    left = MARGIN[0]
    for index, method in enumerate(("initial", *methods)):
        y = len(benchmarks) * height + 14
        _line(draw, [(left, y), (left + 40, y)], index)
        _text(draw, (left + 48, y), method, "lm")
        left += 240
    return np.asarray(picture)


def _panel(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    heading: str,
    title: str,
    errors: Curves,
    values: tuple[float, float],
) -> None:
    left, top = corner[0] + MARGIN[0], corner[1] + MARGIN[1]
    right, bottom = corner[0] + PANEL[0] - MARGIN[2], corner[1] + PANEL[1] - MARGIN[3]
    pad = 0.08 * (values[1] - values[0]) or 1e-4
    low, high = values[0] - pad, values[1] + pad

    def place(index: int, value: float) -> tuple[float, float]:
        x = left + (index + 0.5) * (right - left) / len(KERNELS)
        return x, bottom - (value - low) / (high - low) * (bottom - top)

    _text(draw, ((left + right) / 2, top - 14), heading, "mm")
    _text(draw, (left - 8, top - 14), title, "rm")
    for value in np.linspace(low + pad, high - pad, 5):
        _, y = place(0, value)
        draw.line([(left, y), (right, y)], GRID)
        _text(draw, (left - 8, y), f"{value:.4f}", "rm")
    for index, kernel in enumerate(KERNELS):
        x, _ = place(index, low)
        draw.line([(x, bottom), (x, bottom + 5)], INK)
        _text(draw, (x, bottom + 14), str(kernel) if kernel else "none", "mm")
    _text(draw, ((left + right) / 2, bottom + 32), "k, pixels", "mm")
    draw.line([(left, top), (left, bottom), (right, bottom)], INK)
    for number, line in enumerate(errors.values()):
        _line(draw, [place(index, value) for index, value in enumerate(line)], number)


def _line(draw: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], number: int) -> None:
    """The line of a method with its marks; that of the initial depth, number 0, is dashed."""
    if number:
        colour = COLOURS[(number - 1) % len(COLOURS)]
        draw.line(points, colour, width=3)
        for x, y in points:
            draw.ellipse((x - 4, y - 4, x + 4, y + 4), colour)
        return
    (start, y), (end, _) = points[0], points[-1]  # it is level
    for x in np.arange(start, end, 12):
        draw.line([(x, y), (min(x + 7, end), y)], INK, width=2)


def _text(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, anchor: str) -> None:
    draw.text(at, text, INK, ImageFont.load_default(15), anchor=anchor)


def _errors(benchmark: Benchmark) -> dict[str, dict[str, float]]:
    return {
        method: {metric: numbers[metric] for metric in METRICS}
        for method, numbers in benchmark.pooled().items()
    }


def _label(method: str, operation: Operation, kernel: int) -> str:
    return f"{method}, {operation} {kernel}" if kernel else method


if __name__ == "__main__":
    main(tyro.cli(Options))
