"""Writing networks of several views as folders of weights; see `crispdepth.models.weights`."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save

from crispdepth.models.multiview.network import MultiviewNetwork
from crispdepth.models.volume.network import VolumeNetwork
from crispdepth.models.weights import CONFIG, SAFETENSORS


def write_weights(
    model: MultiviewNetwork | VolumeNetwork, preset: str, folder: Path, about: Mapping[str, Any]
) -> None:
    """Write the weights, in half precision, and ``config.json``.

    Args:
        model: of the preset.
        preset: its name.
        folder: made if need be.
        about: more facts for the config, JSON values.

    Raises:
        ValueError: a weight is not finite in half precision.
        OSError: a file cannot be written.
    """
    tensors = {
        name: (x.detach().half() if x.is_floating_point() else x).cpu().contiguous()
        for name, x in model.state_dict().items()
    }
    broken = [name for name, x in tensors.items() if not x.isfinite().all()]
    if broken:
        raise ValueError(f"These weights are not finite in half precision: {', '.join(broken)}.")
    data = save(tensors)
    config = {
        **about,
        "preset": preset,
        "architecture": asdict(model.config),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "storage": "float16",
        "sha256": {SAFETENSORS: hashlib.sha256(data).hexdigest()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SAFETENSORS).write_bytes(data)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
