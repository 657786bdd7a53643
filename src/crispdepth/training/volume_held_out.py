"""How good volumetric fusion is on samples that it was not trained on."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from crispdepth.training.volume_batch import VolumeBatch
from crispdepth.training.volume_learner import VolumeAnswer


def held_out_figures(answers: Iterable[tuple[VolumeAnswer, VolumeBatch]]) -> dict[str, float]:
    """Figures of answers, each with its truth: means over samples.

    ``l1`` is the mean absolute error of signed distances over observed voxels, in truncations,
    ``l1_near`` over those within the truncation of a surface; ``l1_fused`` and ``l1_near_fused``
    are those of the depths' fused signed distance, from which a residual network starts.
    ``abs_rel`` is the error of the stereo's depths. ``error`` is
    ``l1 + l1_near``, or ``abs_rel`` where there is stereo alone.

    Raises:
        ValueError: there was nothing to measure.
    """
    found: dict[str, list[Tensor]] = {}

    def note(name: str, error: Tensor, where: Tensor) -> None:
        for values, counted in zip(error, where, strict=True):
            if counted.any():
                found.setdefault(name, []).append(values[counted].mean())

    for answer, batch in answers:
        near = batch.observed & (batch.tsdf.abs() < 1)
        fields = {"": answer.tsdf[-1] if answer.tsdf else None, "_fused": answer.fused}
        for suffix, field in fields.items():
            if field is not None:
                error = (field.float() - batch.tsdf).abs()
                note(f"l1{suffix}", error, batch.observed)
                note(f"l1_near{suffix}", error, near)
        if answer.stereo is not None:
            known = batch.depth > 0
            safe = torch.where(known, batch.depth, 1.0)
            note("abs_rel", (answer.stereo.depth - safe).abs() / safe, known)
    figures = {name: float(torch.stack(parts).mean()) for name, parts in found.items()}
    whole = figures.get("l1", math.nan) + figures.get("l1_near", math.nan)
    if math.isnan(whole):
        whole = figures.get("abs_rel", math.nan)
    if math.isnan(whole):
        raise ValueError(
            "In the held-out samples nothing was observed: hold out other scenes, or more."
        )
    return {"error": whole, **figures}
