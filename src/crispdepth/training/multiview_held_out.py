"""How good depth of several views is on samples that a network was not trained on."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from crispdepth.data.multiview_samples import KINDS
from crispdepth.training.multiview_batch import MultiviewBatch
from crispdepth.training.multiview_losses import outline

BAND = 3
"""Pixels from the outline of the mask inwards that are looked at apart."""

DELTA = 1.25


def held_out_figures(answers: Iterable[tuple[Tensor, MultiviewBatch]]) -> dict[str, float]:
    """Figures of predicted inverse depths (B, V, H, W), each with its truth.

    For each kind of sample (`KINDS`): ``KIND_abs_rel`` and ``KIND_delta1`` (spec 4.1), inside the
    mask where there is one, and ``KIND_band``, the AbsRel up to `BAND` pixels inside its outline.
    They are means over views of means over pixels; views with nothing to measure are left out.
    ``error`` is the mean of the kinds' AbsRel, bands included.

    Raises:
        ValueError: there was nothing to measure.
    """
    found: dict[str, list[Tensor]] = {}
    for inverse_depth, truth in answers:
        depth, alpha = truth.depth, truth.alpha[:, :, 0]
        predicted = 1 / inverse_depth.float().clamp(min=1e-9)
        valid = (depth > 0) & (alpha >= 0.5)
        known = torch.where(valid, depth, 1.0)
        error = (predicted - known).abs() / known
        close = torch.maximum(predicted / known, known / predicted) < DELTA
        band = valid & (outline(truth.alpha, BAND)[:, :, 0] > 0.5)
        for number, name in enumerate(KINDS):
            of_kind = truth.kind == number
            for figure, values, where in (
                ("abs_rel", error, valid),
                ("delta1", close.float(), valid),
                ("band", error, band),
            ):
                parts = _means(values[of_kind], where[of_kind])
                found.setdefault(f"{name}_{figure}", []).append(parts)
    figures = {name: float(torch.cat(parts).mean()) for name, parts in found.items()}
    figures = {name: value for name, value in figures.items() if math.isfinite(value)}
    errors = [value for name, value in figures.items() if not name.endswith("delta1")]
    if not errors:
        raise ValueError(
            "In the held-out samples no depth was measured: hold out other scenes, or more."
        )
    return {"error": sum(errors) / len(errors), **figures}


def _means(values: Tensor, where: Tensor) -> Tensor:
    """Means over the chosen pixels of the views that have some, (n,)."""
    count = where.sum(dim=(-2, -1))
    total = (values * where).sum(dim=(-2, -1))
    return total[count > 0] / count[count > 0]
