"""A run becomes weights that say where they come from."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.masks import MaskSource
from crispdepth.data.samples import SampleConfig
from crispdepth.models.learned import LearnedCompleter
from crispdepth.models.weights import load_model, read_config
from crispdepth.training.config import FitConfig, LayeredObjective
from crispdepth.training.export import export_run
from crispdepth.training.layered import LayeredTraining, train


@pytest.fixture
def run(tiny: str, frames: Sequence[RgbdFrame], masks: MaskSource, tmp_path: Path) -> Path:
    """A run of one step."""
    training = LayeredTraining(
        tiny,
        SampleConfig(size=64),
        LayeredObjective("direct-composite"),
        FitConfig(steps=1, batch=2, workers=0),
    )
    sources = {"data": ["disks"]}
    folder = tmp_path / "run"
    train(training, frames[:20], frames[20:], masks, folder, sources=sources, held_out_samples=2)
    return folder


def test_the_weights_are_the_best_of_the_run(run: Path, tmp_path: Path) -> None:
    export_run(run, tmp_path / "weights", half=False)
    LearnedCompleter(tmp_path / "weights")  # the file for onnxruntime is there and whole
    model = load_model(tmp_path / "weights")
    torch.testing.assert_close(dict(model.state_dict()), load_file(run / "best.safetensors"))


def test_the_weights_of_the_last_step_are_its_average(run: Path, tmp_path: Path) -> None:
    export_run(run, tmp_path / "weights", last=True, half=False)
    saved = load_file(run / "last.safetensors")
    start = "ema.module."
    averaged = {name[len(start) :]: t for name, t in saved.items() if name.startswith(start)}
    torch.testing.assert_close(dict(load_model(tmp_path / "weights").state_dict()), averaged)
    config = read_config(tmp_path / "weights")
    line = (run / "log.jsonl").read_text().splitlines()[-1]
    assert config["held_out"] == json.loads(line)["held_out"]


def test_weights_of_a_step_that_was_not_evaluated_have_no_figures_of_another(
    run: Path, tmp_path: Path
) -> None:
    """A run that was stopped between two evaluations."""
    line = json.loads((run / "log.jsonl").read_text())
    (run / "log.jsonl").write_text(json.dumps(line | {"step": 0}) + "\n")
    export_run(run, tmp_path / "weights", last=True)
    config = read_config(tmp_path / "weights")
    assert (config["step"], config["held_out"]) == (1, {})


def test_the_weights_say_what_was_learned_how_well_and_from_what(run: Path, tmp_path: Path) -> None:
    export_run(run, tmp_path / "weights")
    config = read_config(tmp_path / "weights")
    assert (config["preset"], config["variant"], config["stage"]) == ("tiny", "direct-composite", 2)
    assert config["sources"] == {"data": ["disks"]}
    assert config["training"]["fit"]["batch"] == 2
    assert config["training"]["samples"]["size"] == 64
    (line,) = (run / "log.jsonl").read_text().splitlines()
    assert {"step": 1, "held_out": config["held_out"]}.items() <= json.loads(line).items()
    assert config["step"] == 1


def test_what_is_no_run_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        export_run(tmp_path, tmp_path / "weights")
    (run / "best.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        export_run(run, tmp_path / "weights")
    assert not (tmp_path / "weights").exists()
