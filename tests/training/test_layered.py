"""What a layered network is asked, what it loses, and that it learns."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from crispdepth.data.compose import LayeredSample
from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.masks import MaskSource
from crispdepth.data.perturb import PAPER, Perturbations
from crispdepth.data.samples import LayeredSampler, SampleConfig
from crispdepth.models.layered.network import LayerOutput
from crispdepth.training.asked import LayeredBatch, collate, either, refined, refined_task, tasks_of
from crispdepth.training.config import FitConfig, LayeredObjective, Variant
from crispdepth.training.fit import LAST, Progress
from crispdepth.training.held_out import held_out_figures
from crispdepth.training.layered import LayeredRecipe, LayeredTraining, train

CPU = torch.device("cpu")
SAMPLES = SampleConfig(size=64)
EASY = replace(
    SAMPLES, perturbations=PAPER, real_edges=0, in_front=1, drift=0, soft_edges=0, colour=False
)
BLURRED = replace(EASY, perturbations=Perturbations(0, 1, 0, 0, 0, 0, 0, 0, 0))
QUICK = FitConfig(steps=30, batch=4, lr=0.01, warmup=5, ema=0.8, every=10, clip=10.0, workers=0)
Sampler = Callable[..., LayeredSampler]


@pytest.fixture
def sampler(frames: Sequence[RgbdFrame], masks: MaskSource) -> Sampler:
    return lambda **changes: LayeredSampler(frames, masks, replace(SAMPLES, **changes))


class Oracle(nn.Module):
    """Knows the layers of a batch, and where the input is wrong by more than ``tolerance``."""

    def __init__(self, batch: LayeredBatch, tolerance: float = 0.0) -> None:
        super().__init__()
        self.batch, self.tolerance = batch, tolerance

    def forward(self, inverse_depth: Tensor, rgb: Tensor, mask: Tensor) -> LayerOutput:
        layers = []
        for told in mask.chunk(len(mask) // len(self.batch.mask)):
            is_front = (told == self.batch.mask).flatten(1).all(dim=1)[:, None, None, None]
            layers.append(torch.where(is_front, self.batch.front, self.batch.back))
        layer = torch.cat(layers)
        gate = ((layer - inverse_depth).abs() > self.tolerance).float()
        return LayerOutput(layer, gate, 60 * (gate - 0.5))


class Keeper(nn.Module):
    """Changes nothing."""

    def forward(self, inverse_depth: Tensor, rgb: Tensor, mask: Tensor) -> LayerOutput:
        return LayerOutput(inverse_depth + 1, torch.zeros_like(mask), None)


def recipe(sampler: LayeredSampler, variant: Variant = "layered") -> LayeredRecipe:
    return LayeredRecipe(sampler, LayeredObjective(variant, gate_tolerance=0.0), 0, [])


def draw(sampler: LayeredSampler, count: int = 6) -> list[LayeredSample]:
    return [sampler.draw(1, index) for index in range(count)]


def test_a_batch_holds_the_samples_as_they_are(sampler: Sampler) -> None:
    samples = draw(sampler())
    batch = collate(samples)
    assert batch.image.shape == (6, 3, 64, 64)
    assert batch.image.dtype == torch.uint8
    np.testing.assert_array_equal(batch.image[2].permute(1, 2, 0), samples[2].image)
    for name in LayeredSample._fields[1:]:
        part = getattr(batch, name)
        assert part.shape == (6, 1, 64, 64)
        np.testing.assert_array_equal(part[4, 0], getattr(samples[4], name))


def test_the_two_layers_show_every_pixel_once(sampler: Sampler) -> None:
    front, back = tasks_of(collate(draw(sampler())), "layered")
    assert torch.equal(front.own, ~back.own)
    assert torch.equal(front.mask + back.mask, torch.ones_like(front.mask))


def test_true_layers_make_the_true_map(sampler: Sampler) -> None:
    batch = collate(draw(sampler()))
    target = refined_task(batch)
    composite = refined((batch.front, batch.back), batch)
    torch.testing.assert_close(composite[target.valid], target.target[target.valid])


@pytest.mark.parametrize("variant", ["direct-composite", "direct-paired"])
def test_a_baseline_is_asked_for_the_map_itself(sampler: Sampler, variant: Variant) -> None:
    batch = collate(draw(sampler()))
    (task,) = tasks_of(batch, variant)
    assert torch.equal(task.mask, batch.mask)
    assert torch.equal(task.target, batch.composite)


def test_stage_1_asks_for_either_side_of_a_mask(sampler: Sampler) -> None:
    batch = collate(draw(sampler(stage=1), count=32))
    torch.manual_seed(0)
    chosen = either(*tasks_of(batch, "layered"))
    is_front = (chosen.mask == batch.mask).flatten(1).all(dim=1)
    assert 8 <= is_front.sum() <= 24
    for side, target in ((is_front, batch.front), (~is_front, batch.back)):
        assert torch.equal(chosen.target[side], target[side])


@pytest.mark.parametrize("stage", [1, 2])
def test_the_truth_has_no_loss(sampler: Sampler, stage: int) -> None:
    batch = collate(draw(sampler(stage=stage, real_edges=0.0)))
    losses = recipe(sampler(stage=stage)).losses(Oracle(batch), batch)
    assert max(value.item() for value in losses.values()) < 1e-5


def test_stage_2_has_three_depth_losses_and_stage_1_has_one(sampler: Sampler) -> None:
    for stage, names in ((1, ["depth_1"]), (2, ["depth_1", "depth_2", "depth_refined"])):
        batch = collate(draw(sampler(stage=stage)))
        losses = recipe(sampler(stage=stage)).losses(Oracle(batch), batch)
        assert [*losses] == ["loss", *names, "gate"]
        parts = [value for name, value in losses.items() if name != "loss"]
        torch.testing.assert_close(losses["loss"], torch.stack(parts).sum())


def test_a_baseline_has_one_depth_loss(sampler: Sampler) -> None:
    batch = collate(draw(sampler()))
    losses = recipe(sampler(), "direct-composite").losses(Keeper(), batch)
    assert [*losses] == ["loss", "depth_1"]


def test_weights_decide_where_errors_count(sampler: Sampler) -> None:
    batch = collate(draw(sampler()))
    losses = {
        (boundary, hidden): LayeredRecipe(
            sampler(), LayeredObjective(boundary_weight=boundary, hidden_weight=hidden), 0, []
        ).losses(Keeper(), batch)
        for boundary, hidden in ((1.0, 1.0), (4.0, 1.0), (1.0, 0.1))
    }
    plain, boundary, hidden = losses.values()
    # The refined map is wrong along the boundary, a kept layer where the other one hides it.
    assert boundary["depth_refined"] > plain["depth_refined"]
    assert hidden["depth_refined"] == plain["depth_refined"]
    assert hidden["depth_1"] < plain["depth_1"]


def test_the_truth_scores_full_marks(sampler: Sampler) -> None:
    samples = draw(sampler(real_edges=0.0), count=8)
    oracle = Oracle(collate(samples), tolerance=0.1)
    figures = held_out_figures(oracle, samples, LayeredObjective(gate_tolerance=0.1), CPU)
    assert figures["gate_precision"] == figures["gate_recall"] == 1
    assert figures["error"] < 0.1 < figures["error_rough"]
    assert "r3" not in figures  # nothing was made worse


def test_keeping_the_input_scores_as_the_input_does(sampler: Sampler) -> None:
    figures = held_out_figures(Keeper(), draw(sampler(), count=10), LayeredObjective(), CPU)
    assert figures["error"] == figures["error_rough"]
    assert figures["gate_recall"] == 0
    assert {"gate_precision", "r3"}.isdisjoint(figures)


def test_the_figures_do_not_depend_on_how_samples_are_batched(sampler: Sampler) -> None:
    samples = draw(sampler(), count=16)
    whole = held_out_figures(Keeper(), samples, LayeredObjective(), CPU)
    parts = [
        held_out_figures(Keeper(), samples[i : i + 8], LayeredObjective(), CPU) for i in (0, 8)
    ]
    low, high = sorted(part["error"] for part in parts)
    assert low < whole["error"] < high


def test_a_baseline_has_nothing_hidden(sampler: Sampler) -> None:
    objective = LayeredObjective("direct-composite")
    figures = held_out_figures(Keeper(), draw(sampler()), objective, CPU)
    assert "other" not in figures
    assert "other" in held_out_figures(Keeper(), draw(sampler()), LayeredObjective(), CPU)


def test_samples_without_a_measurement_cannot_be_evaluated_on(sampler: Sampler) -> None:
    sample = draw(sampler(), count=1)[0]
    unknown = np.zeros_like(sample.front_valid)
    blind = sample._replace(front_valid=unknown, back_valid=unknown)
    with pytest.raises(ValueError, match="In the 1 held-out samples no depth was measured"):
        held_out_figures(Keeper(), [blind], LayeredObjective(), CPU)


def test_a_baseline_has_no_stage_1() -> None:
    with pytest.raises(ValueError, match="direct-composite has none: train it with stage 2"):
        LayeredTraining(
            "small", SampleConfig(stage=1), LayeredObjective("direct-composite"), FitConfig()
        )


@pytest.fixture
def fit_tiny(
    tiny: str, frames: Sequence[RgbdFrame], masks: MaskSource
) -> Callable[..., list[Progress]]:
    """Train the miniature network; returns the reports of the evaluations."""

    def start(
        run: Path,
        fit: FitConfig = QUICK,
        samples: SampleConfig = EASY,
        variant: Variant = "layered",
        init: Path | None = None,
        stop_at: int = 10**6,
    ) -> list[Progress]:
        reports: list[Progress] = []
        steps = iter(range(1, 10**6))
        train(
            LayeredTraining(
                tiny, samples, LayeredObjective(variant, boundary_weight=4, hidden_weight=0.1), fit
            ),
            frames[:20],
            frames[20:],
            masks,
            run,
            init=init,
            held_out_samples=8,
            report=reports.append,
            stop=lambda: next(steps) == stop_at,
        )
        return [report for report in reports if report.held_out]

    return start


@pytest.mark.parametrize("variant", ["layered", "direct-composite"])
def test_training_lowers_the_held_out_error(
    tmp_path: Path, fit_tiny: Callable[..., list[Progress]], variant: Variant
) -> None:
    reports = fit_tiny(tmp_path, replace(QUICK, steps=60), BLURRED, variant)
    first, *_, last = reports
    assert last.held_out["error"] < 0.9 * first.held_out["error"]
    losses = [report.losses["loss"] for report in reports]
    assert sum(losses[3:]) < sum(losses[:3])
    if variant == "layered":
        assert last.held_out["error"] < 0.8 * last.held_out["error_rough"]


def test_stopped_and_resumed_it_ends_as_if_it_had_run_through(
    tmp_path: Path, fit_tiny: Callable[..., list[Progress]]
) -> None:
    short = replace(QUICK, steps=6, every=3)
    fit_tiny(tmp_path / "through", short)
    fit_tiny(tmp_path / "resumed", short, stop_at=4)
    fit_tiny(tmp_path / "resumed", short)
    states = [load_file(tmp_path / name / LAST) for name in ("through", "resumed")]
    torch.testing.assert_close(*states, rtol=0, atol=0)


def test_stage_2_starts_where_stage_1_ended(
    tmp_path: Path, fit_tiny: Callable[..., list[Progress]]
) -> None:
    fit_tiny(tmp_path / "one", replace(QUICK, steps=20), replace(EASY, stage=1))
    still = replace(QUICK, steps=1, lr=1e-12)  # as good as not trained
    (fresh,) = fit_tiny(tmp_path / "fresh", still)
    (begun,) = fit_tiny(tmp_path / "two", still, init=tmp_path / "one")
    assert begun.held_out["error"] < fresh.held_out["error"]


@pytest.mark.slow
def test_two_minutes_make_the_shipped_preset_better_than_its_input(
    tmp_path: Path, frames: Sequence[RgbdFrame], masks: MaskSource
) -> None:
    fit = FitConfig(steps=300, batch=8, lr=1e-3, warmup=20, ema=0.98, every=100, workers=1)
    training = LayeredTraining("small", SAMPLES, LayeredObjective(), fit)
    end = train(training, frames[:20], frames[20:], masks, tmp_path)
    assert end.held_out["error"] < 0.85 * end.held_out["error_rough"]
