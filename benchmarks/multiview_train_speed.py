"""How fast the multi-view network trains on this machine, and how fast its samples are made.

    python benchmarks/multiview_train_speed.py --data rooms.pack objects.pack

Every case is a short run of the real training loop. Beside it, what one process makes in samples
alone. Writes multiview_train_speed.md and multiview_train_speed.json.
"""

import json
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro

from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.multiview_config import MultiviewSampleConfig
from crispdepth.data.multiview_samples import MultiviewSampler
from crispdepth.data.split import hold_out, open_frames
from crispdepth.io.atomic import write_text
from crispdepth.models.presets import MULTIVIEW
from crispdepth.training.config import (
    FitConfig,
    MultiviewObjective,
    MultiviewStage,
    parse_curriculum,
)
from crispdepth.training.fit import REPORT_EVERY, Progress
from crispdepth.training.multiview import MultiviewTraining, train

DRAWS = 40


@dataclass(frozen=True)
class Options:
    """Measure the speed of training the multi-view network."""

    data: tuple[Path, ...]
    """Packs (`crispdepth train pack`), or folders of rendered scenes."""

    out: Path = Path(__file__).parent / "results"
    """Where multiview_train_speed.md and multiview_train_speed.json go."""

    preset: str = "multiview-small"
    """The network."""

    cases: str = "1 128x160 3 4, 1 192x256 3 2, 1 192x256 6 1"
    """What is measured: 1, size, views, samples per step; a comma between cases."""

    workers: int = 1
    """Processes that make samples."""

    bf16: tuple[bool, ...] = (False, True)
    """Whether to compute in bfloat16."""


@dataclass(frozen=True)
class Case:
    """One measured configuration."""

    stage: MultiviewStage
    bf16: bool
    steps_per_second: float
    samples_per_second: float
    draws_per_second: float  # samples that one process makes, doing nothing else


def main(options: Options) -> None:
    datasets = [open_frames(folder, "rendered") for folder in options.data]
    frames, held_out = hold_out(datasets, 0.05)
    cases = []
    for stage in parse_curriculum(options.cases):
        drawn = draws_per_second(frames, stage)
        for bf16 in options.bf16:
            cases.append(measured(options, frames, held_out, stage, bf16, drawn))
            print(table(cases[-1:]).splitlines()[-1], flush=True)
    facts = {"machine": platform.machine(), "cores": os.cpu_count(), "torch": torch.__version__}
    content = facts | {"preset": options.preset, "cases": [asdict(case) for case in cases]}
    write_text(options.out / "multiview_train_speed.json", json.dumps(content, indent=2) + "\n")
    write_text(options.out / "multiview_train_speed.md", table(cases))


def draws_per_second(frames: Sequence[RgbdFrame], stage: MultiviewStage) -> float:
    """Samples that this process makes in a second."""
    sampler = MultiviewSampler(frames, MultiviewSampleConfig())
    began = time.perf_counter()
    for index in range(DRAWS):
        sampler.draw(0, index, stage.size, stage.views[1])
    return DRAWS / (time.perf_counter() - began)


def measured(
    options: Options,
    frames: Sequence[RgbdFrame],
    held_out: Sequence[RgbdFrame],
    stage: MultiviewStage,
    bf16: bool,
    drawn: float,
) -> Case:
    """A run of a few reports, of which the first, where everything starts, does not count."""
    fit = FitConfig(
        steps=3 * REPORT_EVERY, batch=stage.batch, workers=options.workers, bf16=bf16, every=10**6
    )
    training = MultiviewTraining(
        options.preset,
        MULTIVIEW[options.preset],
        MultiviewSampleConfig(),
        (stage,),
        MultiviewObjective(),
        fit,
    )
    reports: list[tuple[float, Progress]] = []
    with tempfile.TemporaryDirectory() as folder:
        train(
            training,
            frames,
            held_out,
            Path(folder),
            held_out_samples=1,
            report=lambda progress: reports.append((time.perf_counter(), progress)),
            stop=lambda: len(reports) == 2,  # before the evaluation at the end
        )
    (began, first), (ended, last) = reports[:2]
    steps = (last.step - first.step) / (ended - began)
    return Case(stage, bf16, steps, steps * stage.batch, drawn)


def table(cases: Sequence[Case]) -> str:
    """The cases as a Markdown table."""
    lines = [
        "| size | views | batch | bf16 | steps/s | samples/s | samples one process makes /s |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        (height, width), stage = case.stage.size, case.stage
        lines.append(
            f"| {height}x{width} | {stage.views[1]} | {stage.batch} "
            f"| {'yes' if case.bf16 else 'no'} "
            f"| {case.steps_per_second:.2f} | {case.samples_per_second:.2f} "
            f"| {case.draws_per_second:.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(tyro.cli(Options))
