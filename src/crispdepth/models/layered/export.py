"""A trained network as a folder of weights that needs no code to be read (see `models.weights`)."""

import copy
import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save
from torch import Tensor, nn

from crispdepth.geometry.depth import COMPLETER_RANGE
from crispdepth.models.layered.network import LayeredNet
from crispdepth.models.presets import LAYERED
from crispdepth.models.weights import CONFIG, ONNX, SAFETENSORS

INPUTS = ("inverse_depth", "rgb", "mask")
OUTPUTS = ("layer", "gate")
OPSET = 17

FULL = "head."
"""The part that decides on values and gates is small, and never rounded."""

TOLERANCE = 1e-3
"""By how much the ONNX file may differ from the same weights in torch, as a share of the range."""

ROUNDING = 1e-2
"""By how much the rounded weights may differ from the trained ones on noise, which opens gates half
where photos leave them closed."""


def write_weights(
    model: LayeredNet,
    preset: str,
    folder: str | Path,
    *,
    half: bool = True,
    about: Mapping[str, Any] = {},
) -> None:
    """Write ``model.onnx``, ``model.safetensors`` and ``config.json`` into ``folder``.

    Both files hold the same numbers. The config comes last, with their checksums: a folder that
    was left half written is refused when it is loaded.

    Args:
        model: a trained network; it is not changed.
        preset: its name in `crispdepth.models.presets`.
        folder: made if need be.
        half: store weights, but those of `FULL`, as float16, half the size; what is computed stays
            float32.
        about: more facts for the config, JSON values.

    Raises:
        ValueError: the preset is unknown, or the exported network differs from the model.
        OSError: a file cannot be written.
    """
    if preset not in LAYERED:
        raise ValueError(f"There is no preset {preset!r}; choose one of {', '.join(LAYERED)}.")
    model = copy.deepcopy(model).cpu().float().eval()
    dtype = torch.float16 if half else torch.float32
    tensors = {
        name: x.to(torch.float32 if name.startswith(FULL) else dtype).contiguous()
        for name, x in model.state_dict().items()
    }
    stored = copy.deepcopy(model)
    stored.load_state_dict(tensors)  # as float32
    files = {ONNX: to_onnx(stored), SAFETENSORS: save(tensors)}
    for reference, tolerance in ((stored, TOLERANCE), (model, ROUNDING)):
        difference = largest_difference(files[ONNX], reference)
        if not difference <= tolerance:
            advice = "export it with half=False" if half else "check that its weights are finite"
            raise ValueError(
                f"The exported network differs from the model by {difference:.2g} of the range, "
                f"more than {tolerance:g}; {advice}."
            )
    config = {
        **about,
        "preset": preset,
        "architecture": asdict(LAYERED[preset]),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "storage": str(dtype).removeprefix("torch."),
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


class _Network(nn.Module):
    """The outputs that inference uses."""

    def __init__(self, model: LayeredNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, inverse_depth: Tensor, rgb: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        output = self.model(inverse_depth, rgb, mask)
        return output.layer, output.gate


def to_onnx(model: LayeredNet) -> bytes:
    """The network as one ONNX file of any batch, height and width (multiples of 32).

    Weights that float16 holds exactly are stored as float16 and cast when the file is loaded.
    """
    axes = {0: "batch", 2: "height", 3: "width"}
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        file = Path(folder) / ONNX
        # Of torch's two exporters the older one, which traces, takes 2 s here. Its successor
        # follows symbolic shapes, takes a minute, and what it writes computes the same.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            _Network(model).eval(),
            _example(batch=2, size=(64, 96)),
            file,
            input_names=INPUTS,
            output_names=OUTPUTS,
            dynamic_axes=dict.fromkeys((*INPUTS, *OUTPUTS), axes),
            opset_version=OPSET,
            dynamo=False,
        )
        network = onnx.load_model(file)
    _store_half_where_exact(network.graph)
    onnx.checker.check_model(network)
    return bytes(network.SerializeToString())


def largest_difference(onnx_file: bytes, model: LayeredNet) -> float:
    """How far the file is from the model on noise of two sizes.

    Returns:
        The largest difference of a layer as a share of `COMPLETER_RANGE`, or of a gate; NaN if
        one of the two computes NaN.
    """
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    apart = []
    for batch, size in ((1, (32, 128)), (3, (96, 64))):
        example = _example(batch, size)
        found = session.run(
            OUTPUTS, {name: x.numpy() for name, x in zip(INPUTS, example, strict=True)}
        )
        with torch.inference_mode():
            expected = model(*example)
        for name, scale, values in zip(OUTPUTS, (COMPLETER_RANGE, 1.0), found, strict=True):
            apart.append(np.abs(values - getattr(expected, name).numpy()).max() / scale)
    return float(np.max(apart))  # unlike the built-in one it lets no NaN pass


def _example(batch: int, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    depth, red, green, blue, mask = torch.rand(5, batch, 1, *size, generator=generator)
    return COMPLETER_RANGE * depth, torch.cat([red, green, blue], dim=1), mask.round()


def _store_half_where_exact(graph: onnx.GraphProto) -> None:
    """Replace float32 tensors of the graph by float16 ones and casts, where that loses nothing."""
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.array_equal(half, values):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
