"""How fast the layered network trains on this machine, and what the time goes into.

    python benchmarks/train_speed.py --data rooms.pack

Every case is a short run of the real training loop: sampling in its workers, both passes, the
three losses, optimizer and running mean; the first steps are not counted. Beside it, what one
process makes in samples alone. Writes train_speed.md and train_speed.json.
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
from crispdepth.data.masks import MixedMasks
from crispdepth.data.samples import LayeredSampler, SampleConfig
from crispdepth.data.split import hold_out, open_frames
from crispdepth.io.atomic import write_text
from crispdepth.training.config import FitConfig, LayeredObjective
from crispdepth.training.fit import REPORT_EVERY, Progress
from crispdepth.training.layered import LayeredTraining, train

DRAWS = 50


@dataclass(frozen=True)
class Options:
    """Measure the speed of training."""

    data: Path
    """A pack (`crispdepth train pack`), or a folder of rendered scenes."""

    out: Path = Path(__file__).parent / "results"
    """Where train_speed.md and train_speed.json go."""

    presets: tuple[str, ...] = ("small",)
    """Networks."""

    sizes: tuple[int, ...] = (160, 320)
    """Sides of the samples, pixels."""

    batch: int = 8
    """Samples per step."""

    workers: int = 1
    """Processes that make samples."""

    bf16: tuple[bool, ...] = (False, True)
    """Whether to compute in bfloat16."""


@dataclass(frozen=True)
class Case:
    """One measured configuration."""

    preset: str
    size: int
    batch: int
    workers: int
    bf16: bool
    steps_per_second: float
    samples_per_second: float
    draws_per_second: float  # samples that one process makes, doing nothing else


def main(options: Options) -> None:
    frames, held_out = hold_out([open_frames(options.data, "rendered")], 0.05)
    cases = []
    for size in options.sizes:
        drawn = draws_per_second(frames, size)
        for preset in options.presets:
            for bf16 in options.bf16:
                fit = FitConfig(
                    steps=3 * REPORT_EVERY,
                    every=10**6,
                    batch=options.batch,
                    workers=options.workers,
                    bf16=bf16,
                )
                speed = steps_per_second(preset, size, fit, frames, held_out)
                samples = speed * fit.batch
                cases.append(
                    Case(preset, size, fit.batch, fit.workers, bf16, speed, samples, drawn)
                )
    text = table(cases)
    print(text)
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / "train_speed.md", text)
    write_text(options.out / "train_speed.json", json.dumps([asdict(case) for case in cases]))


def draws_per_second(frames: Sequence[RgbdFrame], size: int) -> float:
    sampler = LayeredSampler(frames, MixedMasks(), SampleConfig(size=size))
    start = time.perf_counter()
    for index in range(DRAWS):
        sampler.draw(0, index)
    return DRAWS / (time.perf_counter() - start)


def steps_per_second(
    preset: str,
    size: int,
    fit: FitConfig,
    frames: Sequence[RgbdFrame],
    held_out: Sequence[RgbdFrame],
) -> float:
    training = LayeredTraining(preset, SampleConfig(size=size), LayeredObjective(), fit)
    clock: dict[int, float] = {}

    def note(progress: Progress) -> None:
        clock.setdefault(progress.step, time.perf_counter())

    with tempfile.TemporaryDirectory() as run:
        train(
            training,
            frames,
            held_out,
            MixedMasks(),
            Path(run),
            held_out_samples=1,
            report=note,
            stop=lambda: 2 * REPORT_EVERY in clock,  # the last evaluation is not part of it
        )
    return REPORT_EVERY / (clock[2 * REPORT_EVERY] - clock[REPORT_EVERY])


def table(cases: Sequence[Case]) -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor()
    rows = [
        f"| {case.preset} | {case.size} | {case.batch} | {'bf16' if case.bf16 else 'fp32'} "
        f"| {case.workers} | {case.steps_per_second:.2f} | {case.samples_per_second:.1f} "
        f"| {case.draws_per_second:.1f} |"
        for case in cases
    ]
    return "\n".join(
        [
            f"torch {torch.__version__}, {device or 'CPU'}, {os.cpu_count()} cores, "
            f"{torch.get_num_threads()} threads.",
            "",
            "| preset | px | batch | | workers | steps/s | samples/s | samples/s of one sampler |",
            "|---|---:|---:|---|---:|---:|---:|---:|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    main(tyro.cli(Options))
