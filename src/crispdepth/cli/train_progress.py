"""What the commands that train have in common: stopping, progress, how they end."""

import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from crispdepth.cli.errors import ExitCode

if TYPE_CHECKING:
    from crispdepth.training.fit import Progress

SHOWN = (
    "error",
    "error_rough",
    "r3",
    "gate_precision",
    "gate_recall",
    "scene_abs_rel",
    "object_abs_rel",
    "object_band",
    "rgba_abs_rel",
    "rgba_band",
    "l1",
    "l1_fused",
    "l1_near",
    "l1_near_fused",
    "abs_rel",
)
"""Held-out figures that are shown; all are in the log."""


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """A function that says whether Ctrl-C was pressed (or SIGTERM came); twice ends at once."""
    asked = False

    def note(number: int, frame: object) -> None:
        nonlocal asked
        asked = True
        signal.signal(number, signal.default_int_handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Watch:
    """Progress on stderr: one line that changes on a terminal, else a line per evaluation."""

    def __init__(self) -> None:
        """Nothing was measured yet."""
        self._held_out: Mapping[str, float] = {}
        self._live = sys.stderr.isatty()

    def show(self, progress: "Progress") -> None:
        """Show one report of `crispdepth.training.fit.fit`."""
        self._held_out = progress.held_out or self._held_out
        left_s = (progress.steps - progress.step) / max(progress.steps_per_second, 1e-9)
        parts = [
            f"step {progress.step}/{progress.steps}",
            f"loss {progress.losses['loss']:.3f}",
            f"{progress.samples_per_second:.1f} samples/s",
            f"{progress.steps_per_second:.2f} steps/s",
        ]
        if self._held_out:
            parts += [f"{k} {self._held_out[k]:.3f}" for k in SHOWN if k in self._held_out]
            parts.append(f"best {progress.best:.3f}")
        parts.append(f"{timedelta(seconds=round(left_s))} left")
        line = "  ".join(parts)
        if self._live:
            end = "\n" if progress.held_out else ""
            print(f"\r\x1b[K{line}", end=end, file=sys.stderr, flush=True)
        elif progress.held_out:
            print(line, file=sys.stderr, flush=True)


def finish(end: "Progress", out: Path) -> int:
    """Say how a session ended and return the exit code; of several processes one speaks."""
    finished = end.step == end.steps
    if int(os.environ.get("RANK", "0")) == 0:
        if finished:
            print(out)
        else:
            command = shlex.join(["crispdepth", *sys.argv[1:]])
            place = f"step {end.step} of {end.steps}"
            print(f"Stopped after {place}; to go on: {command}", file=sys.stderr)
    return ExitCode.OK if finished else ExitCode.INTERRUPTED
