"""The training loop: any number of devices, and stopped at any step it resumes to the same result.

What happens at a step is a function of its number alone: which samples it sees, the learning rate,
and the random numbers. So a checkpoint holds tensors and a step, and no random state.
"""

import json
import math
import signal
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import cv2
import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset
from torch.utils.tensorboard import SummaryWriter

from crispdepth import __version__
from crispdepth.io.atomic import write_text
from crispdepth.models.multiview.pretrained import parameter_groups
from crispdepth.training.checkpoint import load_checkpoint, save_checkpoint, save_weights
from crispdepth.training.config import FitConfig
from crispdepth.training.schedule import learning_rate_factor

CONFIG, LAST, BEST, LOG = "config.json", "last.safetensors", "best.safetensors", "log.jsonl"
"""The files of a run: its settings; everything to resume from; the best weights alone; a line per
evaluation."""

FREE = ("every", "workers", "cpu")
"""Settings that may differ between the sessions of a run: they do not change what is learned."""

REPORT_EVERY = 20
"""Steps between reports of progress."""

Batch = TypeVar("Batch", bound=tuple[Tensor, ...])


class Recipe(Protocol[Batch]):
    """What is learned: the part of a training that differs from model to model."""

    def dataset(self) -> Dataset[Any]:
        """Endless: item ``i`` is sample ``i``, the same in every process and every session."""
        ...

    def collate(self, samples: list[Any]) -> Batch:
        """Samples as one batch, a named tuple of CPU tensors."""
        ...

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Scalars by name; ``loss`` is minimised, the others are for the log."""
        ...

    def evaluate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """Figures of a model on held-out samples; the smallest ``error`` is best."""
        ...


class Progress(NamedTuple):
    """How far a run is."""

    step: int
    steps: int
    losses: Mapping[str, float]  # means since the last report
    held_out: Mapping[str, float]  # of the evaluation at this step; empty if there was none
    best: float  # smallest held-out error so far
    steps_per_second: float  # since it was started, evaluations and checkpoints not counted
    samples_per_second: float


def fit(
    model: nn.Module,
    recipe: Recipe[Batch],
    config: FitConfig,
    run: Path,
    *,
    settings: Mapping[str, Any],
    batch_at: Callable[[int], int] | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    stop: Callable[[], bool] = lambda: False,
) -> Progress:
    """Train ``model`` in place, continuing the run in the folder ``run`` if one was begun there.

    Started by torchrun or ``accelerate launch``, every process calls this and gets its share of
    each batch; only the main process reports and writes. The gradients of a step, and with them
    the result, depend on the number of processes by rounding alone.

    Args:
        model: with its first weights, the same in every process.
        recipe: what to learn.
        config: how.
        run: folder for `CONFIG`, `LAST`, `BEST`, `LOG` and the events of tensorboard.
        settings: JSON values that decide the result besides ``config``; written down with it.
        batch_at: how many samples a step (from 0) has, at most ``config.batch``; None: always
            that. Step ``s`` has the samples from ``s * config.batch`` on.
        report: called every `REPORT_EVERY` steps and after every evaluation.
        stop: asked after every step (of several processes: at every report); True saves a
            checkpoint and ends the session.

    Raises:
        OSError: a checkpoint cannot be read or written.
        ValueError: the run was begun with other settings, the batch cannot be shared among the
            processes, or the loss is no number any more.
    """
    accelerator = Accelerator(cpu=config.cpu)
    batch_at = batch_at or (lambda step: config.batch)
    uneven = (n for n in map(batch_at, range(config.steps)) if n % accelerator.num_processes)
    if batch := next(uneven, 0):
        raise ValueError(
            f"A batch of {batch} cannot be shared evenly by {accelerator.num_processes} "
            "processes; choose a multiple of their number."
        )
    facts = _settle(run, {**settings, "fit": asdict(config)}, write=accelerator.is_main_process)
    session = _Session(model, recipe, config, run, accelerator, facts, batch_at)
    with torch.random.fork_rng(), ExitStack() as files:  # the caller keeps its random numbers
        if accelerator.is_main_process:
            session.log = files.enter_context(_Log(run, session.step))
        return session.run_steps(report, stop)


def _settle(run: Path, settings: Mapping[str, Any], *, write: bool) -> dict[str, Any]:
    """Write the settings of a run down, or check that they are those it was begun with."""
    asked = {"version": __version__, **json.loads(json.dumps(settings))}
    if (run / LAST).is_file():
        begun = json.loads((run / CONFIG).read_text("utf-8"))
        before, now = _flat(begun), _flat(asked)
        changed = [
            f"{name} ({before.get(name)} before, {now.get(name)} now)"
            for name in sorted(before.keys() | now.keys())
            if before.get(name) != now.get(name) and name.rpartition(".")[2] not in FREE
        ]
        if changed:
            raise ValueError(
                f"The run in {run} was begun with other settings: {', '.join(changed)}. "
                "Use those again, or name another folder."
            )
    if write:
        run.mkdir(parents=True, exist_ok=True)
        write_text(run / CONFIG, json.dumps(asked, indent=2) + "\n")
    return asked


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= (
            _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        )
    return flat


class _Session:
    """The state of a run in one process, from its start or last checkpoint to its end."""

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe[Any],
        config: FitConfig,
        run: Path,
        accelerator: Accelerator,
        facts: dict[str, Any],
        batch_at: Callable[[int], int],
    ) -> None:
        self.recipe, self.config, self.run, self.facts = recipe, config, run, facts
        self.batch_at = batch_at
        self.accelerator = accelerator
        self.device: torch.device = accelerator.device
        self.model: nn.Module = _channels_last(model.to(self.device))
        self.ema = AveragedModel(self.model, multi_avg_fn=_running_mean(config.ema)).eval()
        self.parameters = [*self.model.parameters()]
        groups = parameter_groups(self.model, config.lr)
        self.rates: list[float] = [group["lr"] for group in groups]
        optimizer = torch.optim.AdamW(
            groups, config.lr, weight_decay=config.weight_decay, fused=True
        )
        self.modules: dict[str, nn.Module] = {"model": self.model, "ema": self.ema}
        self.step, self.best = 0, math.inf
        if (run / LAST).is_file():
            saved = load_checkpoint(run / LAST, self.modules, optimizer)
            self.step, self.best = int(saved["step"]), float(saved["best"])
        self.first_step, self.samples = self.step, 0
        self.parallel, self.optimizer = accelerator.prepare(self.model.train(), optimizer)
        self.log: _Log | None = None  # only in the main process
        self.meter = _Meter()

    def run_steps(self, report: Callable[[Progress], None], stop: Callable[[], bool]) -> Progress:
        """Take the steps that are left, or as many as there are until ``stop`` says True."""
        with closing(self._batches()) as batches:  # whatever happens, the workers end
            return self._run_steps(batches, report, stop)

    def _run_steps(
        self,
        batches: Iterable[Any],
        report: Callable[[Progress], None],
        stop: Callable[[], bool],
    ) -> Progress:
        config, progress = self.config, self._progress({}, {})
        for batch in batches:
            self._take_step(batch)
            ends = self.step == config.steps
            reports = ends or self.step % REPORT_EVERY == 0
            evaluates = ends or self.step % config.every == 0
            stops = self._agreed(stop, reports)
            if reports or evaluates or stops:
                losses = self.meter.means()
                if not all(map(math.isfinite, losses.values())):
                    raise ValueError(
                        f"The loss is no number any more near step {self.step}; start again with "
                        f"a lower --lr than {config.lr:g}."
                    )
                held_out = self._evaluate() if evaluates else {}
                progress = self._progress(losses, held_out)
                if evaluates or stops:
                    self._save(progress)
                if self.log is not None:
                    self.log.write(progress)
                    report(progress)
                self.meter.resume()
            if stops:
                break
        return progress

    def _batches(self) -> Generator[Any, None, None]:
        """The batches of the steps that are left, on the device."""
        loader: DataLoader[Any] = DataLoader(
            self.recipe.dataset(),
            batch_sampler=self._indices(),
            num_workers=self.config.workers,
            collate_fn=self.recipe.collate,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=_start_worker,
        )
        for batch in loader:
            yield type(batch)(*(tensor.to(self.device, non_blocking=True) for tensor in batch))

    def _indices(self) -> Iterator[list[int]]:
        """Of each step that is left, the numbers of this process's samples."""
        for step in range(self.step, self.config.steps):
            share = self.batch_at(step) // self.accelerator.num_processes
            first = step * self.config.batch + self.accelerator.process_index * share
            yield [*range(first, first + share)]

    def _take_step(self, batch: Any) -> None:
        config = self.config
        words = [config.seed, self.step, self.accelerator.process_index]
        torch.manual_seed(int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0]))
        factor = learning_rate_factor(
            self.step, config.steps, warmup=config.warmup, decay=config.decay
        )
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.bf16):
            losses = self.recipe.losses(self.parallel, batch)
        self.accelerator.backward(losses["loss"])
        if config.clip:
            self.accelerator.clip_grad_norm_(self.parameters, config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update_parameters(self.model)
        self.samples += self.batch_at(self.step)
        self.step += 1
        self.meter.add(losses)

    def _agreed(self, stop: Callable[[], bool], reports: bool) -> bool:
        """Whether to stop after this step: if one process stops, all do, and at the same step."""
        if self.accelerator.num_processes == 1:
            return stop()
        if not reports:
            return False
        votes = self.accelerator.reduce(torch.tensor(float(stop()), device=self.device))
        return bool(votes > 0)

    def _evaluate(self) -> dict[str, float]:
        if not self.accelerator.is_main_process:
            return {}
        figures = self.recipe.evaluate(self.ema.module, self.device)
        if figures["error"] < self.best:
            self.best = figures["error"]
            facts = self.facts | {"step": self.step, "held_out": figures}
            save_weights(self.run / BEST, self.ema.module, facts)
        return figures

    def _save(self, progress: Progress) -> None:
        if self.accelerator.is_main_process:
            facts = self.facts | {"step": progress.step, "best": progress.best}
            save_checkpoint(self.run / LAST, self.modules, self.optimizer, facts)

    def _progress(self, losses: Mapping[str, float], held_out: Mapping[str, float]) -> Progress:
        seconds = max(self.meter.seconds, 1e-9)
        return Progress(
            step=self.step,
            steps=self.config.steps,
            losses=losses,
            held_out=held_out,
            best=self.best,
            steps_per_second=(self.step - self.first_step) / seconds,
            samples_per_second=self.samples / seconds,
        )


class _Meter:
    """Means of the losses between reports, and the time that the steps take."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since = time.perf_counter()
        self._count = 0
        self._sums: dict[str, Tensor] = {}

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Add one step's losses without waiting for a GPU to know them."""
        self._count += 1
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach()

    def means(self) -> dict[str, float]:
        """The means since the last call; the clock stands still until `resume`."""
        means = {name: float(total) / self._count for name, total in self._sums.items()}
        self.seconds += time.perf_counter() - self._since
        self._count, self._sums = 0, {}
        return means

    def resume(self) -> None:
        """Let the clock run on."""
        self._since = time.perf_counter()


class _Log:
    """The course of a run, for tensorboard and as one JSON object per line."""

    def __init__(self, run: Path, step: int) -> None:
        """Continue after ``step``: what a session that crashed wrote beyond it is dropped."""
        self._path = run / LOG
        self._lines: list[str] = []
        if self._path.is_file():
            lines = self._path.read_text("utf-8").splitlines()
            self._lines = [line for line in lines if json.loads(line)["step"] <= step]
        self._board = SummaryWriter(run / "tensorboard", purge_step=step)

    def __enter__(self) -> "_Log":
        return self

    def __exit__(self, *error: object) -> None:
        self._board.close()

    def write(self, progress: Progress) -> None:
        for group, values in (("train", progress.losses), ("held_out", progress.held_out)):
            for name, value in values.items():
                self._board.add_scalar(f"{group}/{name}", value, progress.step)
        if progress.held_out:
            entry = {name: progress._asdict()[name] for name in ("step", "losses", "held_out")}
            entry["samples_per_second"] = round(progress.samples_per_second, 2)
            self._lines.append(json.dumps(entry))
            write_text(self._path, "\n".join(self._lines) + "\n")


def _channels_last(model: nn.Module) -> nn.Module:
    """The model, weights of convolutions in the formats in which they are fastest.

    What they compute comes in that format, too. On a CPU the gradients of narrow 3-D ones take
    less than half the time.
    """
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in model.parameters():
        if parameter.dim() in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.dim()])
    return model


def _running_mean(decay: float) -> Callable[[Any, Any, Tensor | int], None]:
    """An exponential moving average that follows closely while there is little to average."""

    def update(averaged: Any, current: Any, count: Tensor | int) -> None:
        young = (1 + int(count)) / (10 + int(count))
        # torch leaves the function without types
        mean = get_ema_multi_avg_fn(min(decay, young))  # type: ignore[no-untyped-call]
        mean(averaged, current, count)

    return update


def _start_worker(index: int) -> None:
    """Signals, which a whole group of processes may get, are for the training process.

    It ends its workers when it has saved; should it die, they notice and end themselves.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    cv2.setNumThreads(0)  # one core per worker
