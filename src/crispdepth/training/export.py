"""From a training run to weights that can be used without it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from crispdepth.models import export as safetensors_export
from crispdepth.models.layered.export import write_weights
from crispdepth.models.presets import MULTIVIEW, VOLUME, build, build_multiview, build_volume
from crispdepth.models.weights import agrees
from crispdepth.training.checkpoint import load_part, load_weights
from crispdepth.training.fit import BEST, CONFIG, LAST, LOG


def export_run(
    run: Path,
    folder: Path,
    *,
    last: bool = False,
    half: bool = True,
    gate_threshold: float = 0.5,
    gate_sharpness: float = 1.0,
) -> None:
    """Write the best weights of a run as a folder of weights (see `crispdepth.models.weights`).

    Of layered refinement, or of the multi-view network or volumetric fusion, which are stored in
    half precision and have no gate. Its ``config.json`` says what was learned (``variant``,
    ``stage``), from what (``sources``), how well (``held_out``, after ``step`` steps), and all
    settings (``training``).

    Args:
        run: folder of a training that was evaluated at least once.
        folder: made if need be.
        last: the averaged weights of the last step, not those with the least held-out error.
        half: see `write_weights`.
        gate_threshold, gate_sharpness: see `LayeredNet.calibrate_gate`.

    Raises:
        OSError: the run cannot be read, or the folder not written.
        ValueError: the run is damaged, its preset has changed since, the exported network differs
            from the trained one, or it would be used otherwise than it was trained.
    """
    settings = json.loads((run / CONFIG).read_text("utf-8"))
    preset = settings["preset"]
    if preset in MULTIVIEW or preset in VOLUME:
        _export_views(run, folder, settings, last=last)
        return
    model = build(preset)
    facts = _trained(run, model, last=last)
    model.calibrate_gate(gate_threshold, gate_sharpness)
    about = {
        "variant": facts["objective"]["variant"],
        "stage": facts["samples"]["stage"],
        **{name: facts.pop(name) for name in ("step", "held_out", "sources")},
        "gate": {"threshold": gate_threshold, "sharpness": gate_sharpness},
        "training": facts,
    }
    write_weights(model, preset, folder, half=half, about=about)


def _export_views(run: Path, folder: Path, settings: dict[str, Any], *, last: bool) -> None:
    preset = settings["preset"]
    model = build_multiview(preset) if preset in MULTIVIEW else build_volume(preset)
    if not agrees(settings["network"], json.loads(json.dumps(asdict(model.config)))):
        raise ValueError(
            f"The network of {run} is not that of the preset {preset!r}: it was trained with "
            "other switches (--network), or the preset has changed since. Weights are exported of "
            "presets alone."
        )
    if not settings["objective"].get("trust", True):
        raise ValueError(
            f"{run} was trained to fuse all depths alike (--no-trust), but in use depths count by "
            "their confidence. Such a run is for comparisons alone; train without --no-trust."
        )
    facts = _trained(run, model, last=last)
    about = {name: facts.pop(name) for name in ("step", "held_out", "sources")}
    safetensors_export.write_weights(model, preset, folder, {**about, "training": facts})


def _trained(run: Path, model: nn.Module, *, last: bool) -> dict[str, Any]:
    """Load what a run has learned; returns its facts."""
    if not last:
        return load_weights(run / BEST, model)
    facts = load_part(run / LAST, "ema.module", model)
    del facts["best"]
    lines = map(json.loads, (run / LOG).read_text("utf-8").splitlines())
    # A run that was stopped between two evaluations has none of its last step.
    found = [line["held_out"] for line in lines if line["step"] == facts["step"]]
    return facts | {"held_out": found[-1] if found else {}}
