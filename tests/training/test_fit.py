"""A run can be stopped anywhere, and what comes out does not show it."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from crispdepth.training.config import FitConfig
from crispdepth.training.fit import BEST, CONFIG, LAST, LOG, Progress, fit

QUICK = FitConfig(steps=12, batch=4, lr=0.1, warmup=2, ema=0.9, every=4, workers=0)
SLOPE = torch.tensor([[2.0, -1.0, 0.5]])


class Points(NamedTuple):
    x: Tensor
    y: Tensor


class Lines(Dataset[Points]):
    """Points of one plane; item ``i`` is always the same."""

    def __getitem__(self, index: int) -> Points:
        x = torch.randn(3, generator=torch.Generator().manual_seed(index))
        return Points(x, SLOPE @ x)


class Regression:
    """Find the slope of a plane; dropout makes every step random."""

    def dataset(self) -> Dataset[Points]:
        return Lines()

    def collate(self, samples: list[Points]) -> Points:
        return Points(*(torch.stack(parts) for parts in zip(*samples, strict=True)))

    def losses(self, model: nn.Module, batch: Points) -> dict[str, Tensor]:
        loss = (model(batch.x) - batch.y).square().mean()
        return {"loss": loss, "root": loss.sqrt()}

    def evaluate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        with torch.no_grad():
            batch = self.collate([Lines()[index] for index in range(-8, 0)])
            return {"error": float(self.losses(model, batch)["loss"])}


class Diverging(Regression):
    def losses(self, model: nn.Module, batch: Points) -> dict[str, Tensor]:
        return {"loss": math.nan * model(batch.x).sum()}


def model(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Dropout(0.2), nn.Linear(3, 1))


def run(folder: Path, config: FitConfig = QUICK, **options: Any) -> Progress:
    return fit(model(), Regression(), config, folder, settings={"model": "line"}, **options)


def run_without_dropout(folder: Path) -> Progress:
    """What a step learns then depends on its samples alone, however they are shared."""
    return fit(model()[1], Regression(), QUICK, folder, settings={})


def after(steps: int) -> Callable[[], bool]:
    """Says True when it is asked for the ``steps``-th time."""
    asked = iter(range(1, 10**6))
    return lambda: next(asked) == steps


def everything(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / LAST)


def log(folder: Path) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in (folder / LOG).read_text("utf-8").splitlines()]
    return [{name: entry[name] for name in ("step", "held_out")} for entry in entries]


def test_training_lowers_the_held_out_error(tmp_path: Path) -> None:
    run(tmp_path, replace(QUICK, steps=100, every=10, lr=0.03))
    first, *_, last = log(tmp_path)
    assert last["held_out"]["error"] < 0.3 * first["held_out"]["error"]


@pytest.mark.parametrize(
    ("layer", "memory_format"),
    [(nn.Conv2d, torch.channels_last), (nn.Conv3d, torch.channels_last_3d)],
)
def test_convolutions_learn_in_the_format_that_is_fastest(
    tmp_path: Path, layer: type[nn.Conv2d | nn.Conv3d], memory_format: torch.memory_format
) -> None:
    sides = (1,) * (2 if layer is nn.Conv2d else 3)
    torch.manual_seed(0)
    filters = layer(3, 1, 3, padding=1)
    made = nn.Sequential(nn.Unflatten(1, (3, *sides)), filters, nn.Flatten())
    seen: list[Progress] = []
    fit(made, Regression(), QUICK, tmp_path, settings={"model": "filters"}, report=seen.append)
    assert filters.weight.is_contiguous(memory_format=memory_format)
    assert seen[-1].held_out["error"] < seen[0].held_out["error"]


@pytest.mark.parametrize("steps", [1, 4, 7])
def test_stopped_and_resumed_it_ends_as_if_it_had_run_through(tmp_path: Path, steps: int) -> None:
    run(tmp_path / "through")
    stopped = run(tmp_path / "resumed", stop=after(steps))
    assert stopped.step == steps
    end = run(tmp_path / "resumed")
    assert end.step == QUICK.steps
    through, resumed = everything(tmp_path / "through"), everything(tmp_path / "resumed")
    assert any(name.startswith("optimizer.") for name in through)
    torch.testing.assert_close(resumed, through, rtol=0, atol=0)
    assert log(tmp_path / "resumed") == log(tmp_path / "through")


def test_a_run_that_was_killed_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    run(tmp_path / "through")

    def crash(progress: Progress) -> None:
        if progress.step == 8:  # after the checkpoint, and the log has its line
            raise OSError("the power went out")

    with pytest.raises(OSError, match="power"):
        run(tmp_path / "killed", report=crash)
    run(tmp_path / "killed")
    assert log(tmp_path / "killed") == log(tmp_path / "through")
    states = [everything(tmp_path / name) for name in ("killed", "through")]
    torch.testing.assert_close(*states, rtol=0, atol=0)


def test_the_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    run(tmp_path / "none")
    run(tmp_path / "two", replace(QUICK, workers=2))
    states = [everything(tmp_path / name) for name in ("none", "two")]
    torch.testing.assert_close(*states, rtol=0, atol=0)


def test_a_finished_run_stays_as_it_is(tmp_path: Path) -> None:
    run(tmp_path)
    before = everything(tmp_path)
    end = run(tmp_path)
    assert end.step == QUICK.steps
    torch.testing.assert_close(everything(tmp_path), before, rtol=0, atol=0)


def test_other_settings_do_not_continue_a_run(tmp_path: Path) -> None:
    run(tmp_path, stop=after(2))
    with pytest.raises(ValueError, match=r"fit\.lr \(0\.1 before, 0\.2 now\)"):
        run(tmp_path, replace(QUICK, lr=0.2))
    run(tmp_path, replace(QUICK, every=6, workers=1))


def test_the_settings_are_written_down(tmp_path: Path) -> None:
    run(tmp_path)
    settings = json.loads((tmp_path / CONFIG).read_text("utf-8"))
    assert settings["model"] == "line"
    assert settings["fit"]["lr"] == QUICK.lr


def test_the_best_weights_are_those_of_the_smallest_error(tmp_path: Path) -> None:
    end = run(tmp_path)
    best = model()
    best.load_state_dict(load_file(tmp_path / BEST))
    error = Regression().evaluate(best.eval(), torch.device("cpu"))["error"]
    assert error == pytest.approx(end.best)
    assert end.best == min(entry["held_out"]["error"] for entry in log(tmp_path))


def test_without_averaging_the_evaluated_weights_are_the_last(tmp_path: Path) -> None:
    run(tmp_path, replace(QUICK, ema=0.0))
    state = everything(tmp_path)
    assert torch.equal(state["ema.module.1.weight"], state["model.1.weight"])


def test_the_average_lags_behind_the_weights(tmp_path: Path) -> None:
    run(tmp_path)
    state = everything(tmp_path)
    assert not torch.equal(state["ema.module.1.weight"], state["model.1.weight"])


def test_random_numbers_of_the_caller_stay_as_they_were(tmp_path: Path) -> None:
    network = model()
    torch.manual_seed(5)
    fit(network, Regression(), QUICK, tmp_path, settings={})
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert drawn == torch.rand(1)


def test_every_report_says_how_far_and_how_fast(tmp_path: Path) -> None:
    reports: list[Progress] = []
    run(tmp_path, report=reports.append)
    assert [report.step for report in reports] == [4, 8, 12]
    assert all(report.samples_per_second > 0 for report in reports)
    assert all({"loss", "root"} == set(report.losses) for report in reports)


def test_tensorboard_gets_the_curves(tmp_path: Path) -> None:
    run(tmp_path)
    # A module of tensorboard's that has no types.
    module = import_module("tensorboard.backend.event_processing.event_accumulator")
    events = module.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("held_out/error")] == [4, 8, 12]
    assert "train/loss" in events.Tags()["scalars"]


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no number any more near step 4.*lower --lr than 0.1"):
        fit(model(), Diverging(), QUICK, tmp_path, settings={})
    assert not (tmp_path / LAST).exists()


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    program = f"""
import sys
sys.path.insert(0, {os.fspath(Path(__file__).parent)!r})
from pathlib import Path
import test_fit
test_fit.run_without_dropout(Path({os.fspath(tmp_path / "two")!r}))
"""
    (tmp_path / "program.py").write_text(program)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*launch, os.fspath(tmp_path / "program.py")], env=environment, timeout=200, check=False
    )
    assert done.returncode == 0
    run_without_dropout(tmp_path / "one")
    states = [everything(tmp_path / name) for name in ("one", "two")]
    torch.testing.assert_close(*states, rtol=1e-4, atol=1e-5)
