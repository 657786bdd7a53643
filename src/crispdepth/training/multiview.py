"""How the multi-view network is trained.

Inverse depth as a share of the stated range, of all predictions from coarse to fine; cross entropy
of the coarse planes; gradient matching weighted along the masks' outlines; what the Gaussians
show, where there are any. Samples grow from stage to stage of a curriculum.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.multiview_config import MultiviewSampleConfig
from crispdepth.data.multiview_samples import MultiviewSample, MultiviewSampler
from crispdepth.data.posed_scenes import with_views
from crispdepth.models.multiview.adopt import adopt
from crispdepth.models.multiview.config import MultiviewNetworkConfig
from crispdepth.models.multiview.network import MultiviewNetwork, MultiviewPrediction
from crispdepth.models.weights import load_multiview
from crispdepth.training.checkpoint import read_weights
from crispdepth.training.config import FitConfig, MultiviewObjective, MultiviewStage
from crispdepth.training.fit import BEST, LAST, Progress, fit
from crispdepth.training.multiview_batch import MultiviewBatch, collate, first_views
from crispdepth.training.multiview_held_out import held_out_figures
from crispdepth.training.multiview_losses import (
    coarse_truth,
    gradient_matching,
    inverse_depth_loss,
    outline,
    pair_loss,
    plane_loss,
    scale_shift_loss,
)
from crispdepth.training.multiview_rendering import rendering_losses

HELD_OUT_SEED = 2**31 - 1
"""Seed of the held-out samples; no training should use it."""


@dataclass(frozen=True)
class MultiviewTraining:
    """Everything that decides what a training makes of its data.

    ``network`` is that of the preset, or what was made of it. The batch of ``fit`` is that of the
    largest stage.

    Raises:
        ValueError: there is no stage, the batch is another one, or the network would be shown a
            single view of a sample.
    """

    preset: str
    network: MultiviewNetworkConfig
    samples: MultiviewSampleConfig
    stages: tuple[MultiviewStage, ...]
    objective: MultiviewObjective
    fit: FitConfig
    only: tuple[str, ...] = ()  # parts of the network that learn; none: all

    def __post_init__(self) -> None:
        largest = max((stage.batch for stage in self.stages), default=0)
        if largest != self.fit.batch:
            raise ValueError(
                f"The batch must be that of the largest stage, {largest}, got {self.fit.batch}."
            )
        fewest = min(stage.views[0] for stage in self.stages)
        if fewest - self.objective.held_back < 2:
            raise ValueError(
                f"Of samples of {fewest} views {self.objective.held_back} cannot be held back: the "
                "network needs two or more. Draw samples of more views (--curriculum), or lower "
                "--held-back."
            )

    def stage(self, step: int) -> MultiviewStage:
        """The stage that a step (from 0) is part of."""
        ends = [*accumulate(stage.share for stage in self.stages)]
        number = bisect_right(ends, step / self.fit.steps * ends[-1])
        return self.stages[min(number, len(ends) - 1)]

    def views(self, step: int) -> int:
        """How many views the samples of a step have."""
        fewest, most = self.stage(step).views
        words = [self.fit.seed, step]
        return int(np.random.default_rng(words).integers(fewest, most + 1))


def train(
    training: MultiviewTraining,
    frames: Sequence[RgbdFrame],
    held_out: Sequence[RgbdFrame],
    run: Path,
    *,
    init: Path | None = None,
    sources: Mapping[str, Any] | None = None,
    held_out_samples: int = 48,
    report: Callable[[Progress], None] = lambda progress: None,
    stop: Callable[[], bool] = lambda: False,
) -> Progress:
    """Train a network in the folder ``run``, or continue the training begun there.

    Args:
        training: what to train, and how.
        frames: what samples are made of.
        held_out: what the samples for evaluation are made of; of other scenes.
        run: folder for the results, see `crispdepth.training.fit`.
        init: folder of a run whose best weights to start from, or name or folder of weights; parts
            that only one of the two networks has, such as those of masks, start anew or are left
            out.
        sources: JSON values that say what ``frames`` are; kept with the weights, and a run is
            continued only with the same.
        held_out_samples: how many to evaluate on, of the last stage's size.
        report: see `fit`.
        stop: see `fit`.

    Raises:
        OSError: a file of ``run`` or ``init`` cannot be read or written.
        ValueError: see `fit`; or no scene has as many posed views as a stage asks for, ``init`` is
            of another network, or the network has not the parts that are to learn.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.fit.seed)
        model = MultiviewNetwork(training.network)
    if init is not None and not (run / LAST).is_file():
        adopt(model, _weights_of(init), surplus=True)
    _let_learn(model, training.only)
    sampler = MultiviewSampler(frames, training.samples)
    most = max(stage.views[1] for stage in training.stages)
    with_views(sampler.scenes, most)  # now, not in a worker
    tests = MultiviewSampler(held_out, training.samples.faultless())
    last = training.stages[-1]
    views = min(last.views[1], max(map(len, tests.scenes)))
    recipe = MultiviewRecipe(
        sampler,
        training,
        [tests.draw(HELD_OUT_SEED, index, last.size, views) for index in range(held_out_samples)],
    )
    settings = {
        "preset": training.preset,
        "network": asdict(training.network),
        "samples": asdict(training.samples),
        "stages": [asdict(stage) for stage in training.stages],
        "objective": asdict(training.objective),
        "only": training.only,
        "init": init.name if init else None,
        "frames": len(frames),
        "sources": dict(sources or {}),
    }
    return fit(
        model,
        recipe,
        training.fit,
        run,
        settings=settings,
        batch_at=lambda step: training.stage(step).batch,
        report=report,
        stop=stop,
    )


def _weights_of(init: Path) -> Mapping[str, Tensor]:
    """The best weights of a run, or those that were exported."""
    if (init / BEST).is_file():
        return read_weights(init / BEST)
    return load_multiview(init).state_dict()


def _let_learn(model: nn.Module, only: Sequence[str]) -> None:
    """Freeze all parts but those named; the frozen ones stay bit for bit as they are.

    Raises:
        ValueError: the network has no such part.
    """
    if not only:
        return
    parts = [name for name, part in model.named_children() if any(True for _ in part.parameters())]
    if unknown := [name for name in only if name not in parts]:
        raise ValueError(
            f"--only {' '.join(unknown)}: the network has no such part. It has "
            f"{', '.join(parts)}; a part that is off is switched on with --network."
        )
    model.requires_grad_(False)
    for name in only:
        model.get_submodule(name).requires_grad_(True)


class SampleStream(Dataset[MultiviewSample]):
    """The samples of a training by number; each step has its size and number of views."""

    def __init__(self, sampler: MultiviewSampler, training: MultiviewTraining) -> None:
        """Item ``i`` belongs to step ``i // batch``."""
        self._sampler, self._training = sampler, training

    def __getitem__(self, index: int) -> MultiviewSample:
        training = self._training
        step = index // training.fit.batch
        size, views = training.stage(step).size, training.views(step)
        return self._sampler.draw(training.fit.seed, index, size, views)


class MultiviewRecipe:
    """The training of a `crispdepth.models.multiview.network.MultiviewNetwork`, for `fit`."""

    def __init__(
        self,
        sampler: MultiviewSampler,
        training: MultiviewTraining,
        held_out: Sequence[MultiviewSample],
    ) -> None:
        """Trained on the sampler's samples, evaluated on ``held_out``, which are of one size."""
        self._sampler, self._training, self._held_out = sampler, training, held_out

    def dataset(self) -> Dataset[MultiviewSample]:
        """The samples of the seed."""
        return SampleStream(self._sampler, self._training)

    def collate(self, samples: list[MultiviewSample]) -> MultiviewBatch:
        """Samples as one batch of CPU tensors."""
        return collate(samples)

    def losses(self, model: nn.Module, batch: MultiviewBatch) -> dict[str, Tensor]:
        """The loss of one step and its parts, each with its weight."""
        objective = self._training.objective
        shown = first_views(batch, batch.depth.shape[1] - objective.held_back)
        render = objective.rendering > 0 or objective.objects > 0
        prediction = predict(model, shown, objective.references or None, gaussians=render)
        losses = depth_losses(prediction, shown, objective)
        if objective.pairs and not prediction.pairs:
            raise ValueError(
                f"--pairs {objective.pairs:g}: the network of the preset {self._training.preset} "
                "does not ask how sure a source is; switch that on with --network "
                "uncertainty=true."
            )
        if prediction.dead is not None:
            losses["dead_rows"] = prediction.dead
        if render:
            for name, loss in self._rendered(prediction, batch).items():
                weight = objective.objects if name == "render_objects" else objective.rendering
                losses[name] = weight * loss
                losses["loss"] = losses["loss"] + losses[name]
        return losses

    def _rendered(
        self, prediction: MultiviewPrediction, batch: MultiviewBatch
    ) -> dict[str, Tensor]:
        """Losses of what the Gaussians show, see `rendering_losses`, without their weights."""
        objective = self._training.objective
        if not prediction.gaussians:
            asked = "rendering" if objective.rendering else "objects"
            raise ValueError(
                f"--{asked} {getattr(objective, asked):g}: the network of the preset "
                f"{self._training.preset} makes no Gaussians; switch their head on with "
                "--network gaussians=true."
            )
        background = torch.rand(3, device=batch.depth.device)
        return rendering_losses(
            prediction.gaussians,
            batch,
            background,
            objective.rendered_views,
            objects=objective.objects > 0,
        )

    def evaluate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """See `held_out_figures`; with ``rendering`` also what the Gaussians lose.

        Figures are of views that are not held back; all are rendered that a step would render,
        before grey. ``error`` is the depth's plus ``rendering`` times the losses.
        """
        objective, size = self._training.objective, self._training.stages[-1].batch
        answers: list[tuple[Tensor, MultiviewBatch]] = []
        lost: list[Tensor] = []
        with torch.no_grad():
            for start in range(0, len(self._held_out), size):
                parts = collate(self._held_out[start : start + size])
                batch = MultiviewBatch(*(part.to(device) for part in parts))
                shown = first_views(batch, batch.depth.shape[1] - objective.held_back)
                found = predict(model, shown, gaussians=objective.rendering > 0)
                answers.append((found.inverse_depth, shown))
                if found.gaussians:
                    grey = torch.full((3,), 0.5, device=device)
                    losses = rendering_losses(
                        found.gaussians, batch, grey, objective.rendered_views
                    )
                    lost.append(torch.stack([*losses.values()]) * len(batch.kind))
            figures = held_out_figures(answers)
        if lost:
            mean = torch.stack(lost).sum(dim=0) / len(self._held_out)
            figures |= dict(zip(losses, mean.tolist(), strict=True))
            figures["error"] += objective.rendering * float(mean.sum())
        return figures


def predict(
    model: nn.Module,
    batch: MultiviewBatch,
    references: int | None = None,
    *,
    gaussians: bool = False,
) -> MultiviewPrediction:
    """What the network makes of a batch, for its first ``references`` views or as many as there
    are; None: for all."""
    if references is not None:
        references = min(references, batch.images.shape[1])
    prediction: MultiviewPrediction = model(
        batch.images.float() / 255,
        batch.K,
        batch.cam_from_world,
        batch.near,
        batch.far,
        batch.masks,
        references,
        gaussians=gaussians,
    )
    return prediction


def depth_losses(
    prediction: MultiviewPrediction, batch: MultiviewBatch, objective: MultiviewObjective
) -> dict[str, Tensor]:
    """The loss of the depths that were predicted, and its parts, each with its weight.

    ``depth`` is of the finest prediction, ``coarse_1``, ``coarse_2``, ... of the others.
    """
    count = prediction.inverse_depth.shape[1]
    depth, alpha = batch.depth[:, :count], batch.alpha[:, :count, 0]
    near, far = batch.near[:, :count], batch.far[:, :count]
    valid = depth > 0
    target = torch.where(valid, 1 / torch.where(valid, depth, 1.0), 0.0)
    span = 1 / near - 1 / far
    edges = outline(batch.alpha[:, :count], objective.edge_radius)[:, :, 0]
    counts = alpha + objective.outside * (1 - alpha)
    weight = valid * counts * (1 + objective.edge * edges)
    final = prediction.inverse_depth.float()
    losses = {
        "depth": objective.depth * inverse_depth_loss(final, target, weight, span),
        "gradient": objective.gradient * gradient_matching(final, target, weight, span),
    }
    if objective.scale_shift:
        shape = scale_shift_loss(final, target, weight, span)
        losses["scale_shift"] = objective.scale_shift * shape
    for number, coarse in enumerate(prediction.coarse, start=1):
        stride = depth.shape[-1] // coarse.shape[-1]
        truth, known = coarse_truth(target, valid, stride)
        share = known * nn.functional.avg_pool2d(counts, stride)
        factor = objective.gamma ** (len(prediction.coarse) - number + 1)
        error = inverse_depth_loss(coarse.float(), truth, share, span)
        losses[f"coarse_{number}"] = objective.depth * factor * error
        if objective.pairs and len(prediction.pairs) >= number:
            said = [
                pair_loss(each, truth.flatten(0, 1), share.flatten(0, 1))
                for each in prediction.pairs[number - 1]
            ]
            losses[f"pairs_{number}"] = objective.pairs * factor * torch.stack(said).mean()
        if number == 1 and objective.planes:
            entropy = plane_loss(prediction.logits.float(), truth, share, near, far)
            losses["planes"] = objective.planes * entropy
    return {"loss": torch.stack([*losses.values()]).sum(), **losses}
