"""How good a layered refinement network is on samples that it was not trained on."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from crispdepth.data.compose import LayeredSample
from crispdepth.evaluation.depth import R3Counts, r3
from crispdepth.training.asked import (
    Answers,
    LayeredBatch,
    Task,
    answer,
    collate,
    refined,
    refined_task,
    tasks_of,
)
from crispdepth.training.config import LayeredObjective
from crispdepth.training.losses import must_change, near_boundary

BAND = 8
"""Half-width in pixels of the band along the mask's boundary that is to be refined most."""

R3_THRESHOLD = 0.5
"""Change of an error that R3 counts: the paper's 0.05 on the network's scale of 0 to 10."""

BATCH = 8


@torch.no_grad()
def held_out_figures(
    model: nn.Module,
    samples: Sequence[LayeredSample],
    objective: LayeredObjective,
    device: torch.device,
) -> dict[str, float]:
    """Figures of a model on samples, pooled over all their pixels.

    ``band`` is the mean absolute error of the layers along the mask's boundary; ``own`` that
    elsewhere, where the refined map shows the layer; ``other`` that behind or beside the other
    layer. ``error`` is ``band + own``, and ``error_rough`` what keeping the input would give.
    ``gate_precision`` and ``gate_recall`` are about pixels that the refined map shows; ``r3``
    compares it with the input. Figures that no pixel decides are left out.

    Args:
        model: in eval mode, on ``device``.
        samples: of one size.
        objective: what the model learns.
        device: where to compute.

    Raises:
        ValueError: nothing was measured where the figures are taken.
    """
    totals: dict[str, float] = {}
    counts = R3Counts()
    for start in range(0, len(samples), BATCH):
        parts = collate(samples[start : start + BATCH])
        batch = LayeredBatch(*(part.to(device) for part in parts))
        tasks = tasks_of(batch, objective.variant)
        answers = answer(model, batch, tasks)
        for name, value in _sums(answers, batch, tasks, objective.gate_tolerance).items():
            totals[name] = totals.get(name, 0.0) + float(value)
        counts += _r3(refined(answers.layers, batch), batch)
    if not (totals.get("band_pixels") and totals.get("own_pixels")):
        raise ValueError(
            f"In the {len(samples)} held-out samples no depth was measured along a mask, or none "
            "elsewhere: hold out other frames, or more."
        )
    return _figures(totals, counts)


def _sums(
    answers: Answers, batch: LayeredBatch, tasks: Sequence[Task], tolerance: float
) -> dict[str, Tensor]:
    """Pixels, and errors summed over them, by region; and the hits and misses of the gate."""
    _, target, valid, own = (torch.cat(parts) for parts in zip(*tasks, strict=True))
    layers = torch.cat(answers.layers)
    rough, mask = (part.repeat(len(tasks), 1, 1, 1) for part in (batch.rough, batch.mask))
    band = near_boundary(mask, BAND)
    sums: dict[str, Tensor] = {}
    for name, region in {"band": band, "own": ~band & own, "other": ~band & ~own}.items():
        where = region & valid
        sums[f"{name}_pixels"] = where.sum()
        sums[name] = (layers - target).abs()[where].double().sum()
        sums[f"{name}_rough"] = (rough - target).abs()[where].double().sum()
    shown = own & valid
    wrong = must_change(rough, target, tolerance) & shown
    opened = (answers.output.gate > 0.5) & shown
    return sums | {"hits": (wrong & opened).sum(), "wrong": wrong.sum(), "opened": opened.sum()}


def _figures(totals: Mapping[str, float], counts: R3Counts) -> dict[str, float]:
    def mean(part: str, whole: str) -> float:
        return totals[part] / totals[whole] if totals[whole] else math.nan

    band, own, other = (mean(name, f"{name}_pixels") for name in ("band", "own", "other"))
    figures = {
        "error": band + own,
        "error_rough": mean("band_rough", "band_pixels") + mean("own_rough", "own_pixels"),
        "band": band,
        "own": own,
        "other": other,
        "gate_precision": mean("hits", "opened"),
        "gate_recall": mean("hits", "wrong"),
        "r3": counts.ratio,
    }
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def _r3(refined_map: Tensor, batch: LayeredBatch) -> R3Counts:
    task = refined_task(batch)
    initial, final, target, valid = (
        part.cpu().numpy()
        for part in (batch.rough, refined_map, task.target + batch.bend, task.valid)
    )
    return r3(initial, final, target, valid, R3_THRESHOLD)
