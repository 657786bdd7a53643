import copy
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from crispdepth.models.layered.export import (
    INPUTS,
    OUTPUTS,
    TOLERANCE,
    largest_difference,
    write_weights,
)
from crispdepth.models.layered.network import LayeredNet
from crispdepth.models.weights import load_model

Noise = Callable[[int, tuple[int, int]], tuple[Tensor, Tensor, Tensor]]


@pytest.fixture(scope="module")
def session(tiny_weights: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(tiny_weights / "model.onnx")


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("size", [(32, 32), (96, 64), (160, 224)])
def test_the_file_computes_what_the_network_computes_at_any_size(
    session: onnxruntime.InferenceSession,
    tiny: LayeredNet,
    noise: Noise,
    batch: int,
    size: tuple[int, int],
) -> None:
    inputs = noise(batch, size)
    names = [each.name for each in session.get_inputs()]
    found = session.run(OUTPUTS, {k: x.numpy() for k, x in zip(names, inputs, strict=True)})
    with torch.inference_mode():
        expected = tiny(*inputs)
    np.testing.assert_allclose(found[0], expected.layer.numpy(), atol=10 * TOLERANCE)
    np.testing.assert_allclose(found[1], expected.gate.numpy(), atol=TOLERANCE)


def test_names_and_dynamic_axes_are_what_the_format_says(
    session: onnxruntime.InferenceSession,
) -> None:
    assert [each.name for each in session.get_inputs()] == list(INPUTS)
    assert [each.name for each in session.get_outputs()] == list(OUTPUTS)
    for each, channels in zip(session.get_inputs(), (1, 3, 1), strict=True):
        assert each.shape == ["batch", channels, "height", "width"]


def test_half_storage_halves_the_file_and_changes_no_bit_of_the_weights(tiny_weights: Path) -> None:
    file = (tiny_weights / "model.onnx").read_bytes()
    stored = load_model(tiny_weights)
    parameters = sum(parameter.numel() for parameter in stored.parameters())
    graph = onnx.load_from_string(file).graph
    head = sum(parameter.numel() for parameter in stored.head.parameters())
    size = sum(len(tensor.raw_data) for tensor in graph.initializer)
    assert size < 2.2 * (parameters + head)
    assert largest_difference(file, stored) < 1e-6


def test_the_folder_says_what_it_holds(tiny_weights: Path) -> None:
    config = json.loads((tiny_weights / "config.json").read_text())
    assert config["preset"] == "tiny"
    assert config["storage"] == "float16"
    assert config["licence"] == "CC0"
    assert sorted(path.name for path in tiny_weights.iterdir()) == [
        "config.json",
        "model.onnx",
        "model.safetensors",
    ]


def test_exporting_leaves_the_network_as_it_was(tiny: LayeredNet, tmp_path: Path) -> None:
    tiny.train()
    before = copy.deepcopy(tiny.state_dict())
    write_weights(tiny, "tiny", tmp_path / "new" / "folder")
    assert tiny.training
    for name, tensor in tiny.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_weights_that_half_precision_cannot_hold_are_refused(
    tiny: LayeredNet, tmp_path: Path
) -> None:
    torch.nn.init.constant_(tiny.low_level.second.weight, 1e5)
    with pytest.raises(ValueError, match="half=False"):
        write_weights(tiny, "tiny", tmp_path)
    assert not any(tmp_path.iterdir())


def test_an_unknown_preset_is_refused(tiny: LayeredNet, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'huge'"):
        write_weights(tiny, "huge", tmp_path)
