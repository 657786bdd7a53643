"""How the layered refinement network is trained, and the baselines that it is compared with.

*Layered Depth Refinement with Mask Guidance* (CVPR 2022), sec. 3.3-3.4. Stage 1 completes one layer
of a true composite, on either side of the mask; stage 2 makes both layers of a perturbed one. The
baselines make the refined map at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from crispdepth.data.compose import LayeredSample
from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.masks import MaskSource
from crispdepth.data.samples import LayeredSampler, SampleConfig
from crispdepth.models.presets import build
from crispdepth.training.asked import (
    Answers,
    LayeredBatch,
    Task,
    answer,
    collate,
    either,
    refined,
    refined_task,
    tasks_of,
)
from crispdepth.training.checkpoint import load_weights
from crispdepth.training.config import FitConfig, LayeredObjective
from crispdepth.training.fit import BEST, LAST, Progress, fit
from crispdepth.training.held_out import BAND, held_out_figures
from crispdepth.training.losses import blend, depth_loss, gate_loss, harm, near_boundary

HELD_OUT_SEED = 2**31 - 1
"""Seed of the held-out samples; no training should use it."""


@dataclass(frozen=True)
class LayeredTraining:
    """Everything that decides what a training makes of its data.

    Raises:
        ValueError: a baseline, which has no layers, is to complete layers (stage 1).
    """

    preset: str
    samples: SampleConfig
    objective: LayeredObjective
    fit: FitConfig

    def __post_init__(self) -> None:
        if self.objective.variant != "layered" and self.samples.stage == 1:
            raise ValueError(
                f"Stage 1 completes layers, and {self.objective.variant} has none: "
                "train it with stage 2."
            )


def train(
    training: LayeredTraining,
    frames: Sequence[RgbdFrame],
    held_out: Sequence[RgbdFrame],
    masks: MaskSource,
    run: Path,
    *,
    init: Path | None = None,
    sources: Mapping[str, Any] | None = None,
    held_out_samples: int = 64,
    report: Callable[[Progress], None] = lambda progress: None,
    stop: Callable[[], bool] = lambda: False,
) -> Progress:
    """Train a network in the folder ``run``, or continue the training begun there.

    Args:
        training: what to train, and how.
        frames: what samples are made of.
        held_out: what the samples for evaluation are made of; of other scenes.
        masks: draws the masks of both.
        run: folder for the results, see `crispdepth.training.fit`.
        init: folder of a run whose best weights to start from.
        sources: JSON values that say what ``frames`` and ``masks`` are; kept with the weights, and
            a run is continued only with the same.
        held_out_samples: how many to evaluate on.
        report: see `fit`.
        stop: see `fit`.

    Raises:
        OSError: a file of ``run`` or ``init`` cannot be read or written.
        ValueError: see `fit`; or there is no such preset, or ``init`` is of another one.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.fit.seed)
        model = build(training.preset)
    if init is not None and not (run / LAST).is_file():
        load_weights(init / BEST, model)
    tests = LayeredSampler(held_out, masks, training.samples)
    recipe = LayeredRecipe(
        LayeredSampler(frames, masks, training.samples),
        training.objective,
        training.fit.seed,
        [tests.draw(HELD_OUT_SEED, index) for index in range(held_out_samples)],
    )
    settings = {
        "preset": training.preset,
        "samples": asdict(training.samples),
        "objective": asdict(training.objective),
        "init": init.name if init else None,
        "frames": len(frames),
        "sources": dict(sources or {}),
    }
    return fit(model, recipe, training.fit, run, settings=settings, report=report, stop=stop)


class SampleStream(Dataset[LayeredSample]):
    """The samples of one seed by number, without end."""

    def __init__(self, sampler: LayeredSampler, seed: int) -> None:
        """Item ``i`` is ``sampler.draw(seed, i)``."""
        self._sampler, self._seed = sampler, seed

    def __getitem__(self, index: int) -> LayeredSample:
        return self._sampler.draw(self._seed, index)


class LayeredRecipe:
    """The training of a `crispdepth.models.layered.network.LayeredNet`, for `fit`."""

    def __init__(
        self,
        sampler: LayeredSampler,
        objective: LayeredObjective,
        seed: int,
        held_out: Sequence[LayeredSample],
    ) -> None:
        """The stage is that of the sampler, whose samples of ``seed`` are trained on."""
        self._sampler, self._objective, self._seed = sampler, objective, seed
        self._held_out = held_out

    def dataset(self) -> Dataset[LayeredSample]:
        """The samples of the seed."""
        return SampleStream(self._sampler, self._seed)

    def collate(self, samples: list[LayeredSample]) -> LayeredBatch:
        """Samples as one batch of CPU tensors."""
        return collate(samples)

    def losses(self, model: nn.Module, batch: LayeredBatch) -> dict[str, Tensor]:
        """The loss of one step and its parts; in stage 1 of a random side of each mask."""
        tasks = tasks_of(batch, self._objective.variant)
        if self._sampler.config.stage == 1:
            tasks = (either(*tasks),)
        answers = answer(model, batch, tasks)
        band = near_boundary(batch.mask, BAND)
        weights = [self._weight(task, band) for task in tasks]
        losses = {
            f"depth_{number}": depth_loss(layer, task.target, weight)
            for number, (layer, task, weight) in enumerate(
                zip(answers.raw, tasks, weights, strict=True), start=1
            )
        }
        if self._sampler.config.stage == 2 and (len(tasks) == 2 or answers.logits is not None):
            task = refined_task(batch)
            weight, used, target = self._weight(task, band), answers.layers, task.target
            if answers.gates is not None:
                # Layers follow the bends of rough depth. Whether they are better than it is judged
                # without, and by that the gate learns, not the layers.
                target = target + batch.bend
                used = tuple(
                    blend(batch.rough, layer.detach(), gate)
                    for layer, gate in zip(answers.raw, answers.gates, strict=True)
                )
            composite = refined(used, batch)
            losses["depth_refined"] = depth_loss(composite, target, weight)
            if self._objective.caution:
                losses["harm"] = self._objective.caution * harm(
                    composite, batch.rough, target, weight
                )
        if answers.logits is not None:
            losses["gate"] = self._gate_loss(answers, batch, tasks, weights)
        return {"loss": torch.stack([*losses.values()]).sum(), **losses}

    def evaluate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """See `held_out_figures`."""
        return held_out_figures(model, self._held_out, self._objective, device)

    def _gate_loss(
        self,
        answers: Answers,
        batch: LayeredBatch,
        tasks: Sequence[Task],
        weights: Sequence[Tensor],
    ) -> Tensor:
        assert answers.logits is not None
        losses = [
            gate_loss(
                logit,
                layer,
                batch.rough,
                task.target + batch.bend,
                weight,
                tolerance=self._objective.gate_tolerance,
            )
            for logit, layer, task, weight in zip(
                answers.logits, answers.raw, tasks, weights, strict=True
            )
        ]
        return self._objective.gate_weight * torch.stack(losses).mean()

    def _weight(self, task: Task, band: Tensor) -> Tensor:
        """How much each pixel counts, 0 where the target is unknown."""
        objective, weight = self._objective, torch.ones_like(task.mask)
        weight = weight.masked_fill(~task.own, objective.hidden_weight)
        weight = weight.masked_fill(band, objective.boundary_weight)
        return weight * task.valid
