"""The quality table of the README: every refinement method on rooms, settings and gqcnn.

    python benchmarks/refine_quality.py --data DIR

``DIR`` holds the three dataset folders. Writes refine_quality.md and refine_quality.json.
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from crispdepth.data.datasets.scene_json import open_scenes
from crispdepth.evaluation.benchmark import METHODS, run_benchmark, table, to_json
from crispdepth.geometry.align import TargetNorm
from crispdepth.io.atomic import write_text


@dataclass(frozen=True)
class Run:
    """One dataset and how it is measured."""

    dataset: str
    gt_norm: TargetNorm
    first: int = 0
    every: int = 1


# Frames halfway between those on which constants and parameters were chosen (0, 4, 8 ... of rooms
# and 0, 6 of settings), of the same scenes.
RUNS = (
    Run("rooms", "max", first=2, every=4),
    Run("settings", "max", first=3, every=6),
    # A bin seen from above: all true inverse depths lie within a few percent of each other, and
    # by their maximum no error would reach the threshold of R3.
    Run("gqcnn", "minmax"),
)


@dataclass(frozen=True)
class Options:
    """Measure every refinement method on rooms, settings and gqcnn."""

    data: Path
    """Folder with the dataset folders rooms, settings and gqcnn."""

    out: Path = Path(__file__).parent / "results"
    """Where refine_quality.md and refine_quality.json go."""

    methods: tuple[str, ...] = tuple(METHODS)
    """Methods to measure."""


def main(options: Options) -> None:
    methods = {name: METHODS[name] for name in options.methods}
    benchmarks = []
    for run in RUNS:
        samples = open_scenes(options.data / run.dataset, first=run.first, every=run.every)
        benchmarks.append(run_benchmark(run.dataset, samples, methods, gt_norm=run.gt_norm))
        print(f"## {run.dataset}\n\n{table(benchmarks[-1])}\n", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    sections = (f"## {benchmark.dataset}\n\n{table(benchmark)}\n" for benchmark in benchmarks)
    write_text(options.out / "refine_quality.md", "\n".join(sections))
    write_text(options.out / "refine_quality.json", to_json(benchmarks))


if __name__ == "__main__":
    main(tyro.cli(Options))
