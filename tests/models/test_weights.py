import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from crispdepth.models import presets, weights
from crispdepth.models.layered.network import LayeredNet


@pytest.fixture
def folder(tiny_weights: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(tiny_weights, tmp_path / "weights"))


def edit(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_network_comes_back_as_it_was_stored(tiny: LayeredNet, tiny_weights: Path) -> None:
    loaded = weights.load_model(tiny_weights)
    assert not loaded.training
    expected = tiny.state_dict()
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == torch.float32
        rounded = expected[name] if name.startswith("head.") else expected[name].half().float()
        assert torch.equal(tensor, rounded)


def test_shipped_weights_are_found_by_name(
    tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_SHIPPED", tiny_weights.parent)
    assert weights.find(tiny_weights.name) == tiny_weights
    assert weights.read_onnx(tiny_weights.name) == (tiny_weights / "model.onnx").read_bytes()


def test_missing_weights_are_named_beside_those_there_are(
    tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_SHIPPED", tiny_weights.parent)
    with pytest.raises(FileNotFoundError, match=rf"'large'.*{tiny_weights.name}"):
        weights.find("large")


@pytest.mark.parametrize("name", ["model.onnx", "model.safetensors"])
def test_a_file_that_is_missing_or_changed_is_refused(folder: Path, name: str) -> None:
    load = weights.read_onnx if name == "model.onnx" else weights.load_model
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ValueError, match=rf"{name} is damaged or was replaced"):
        load(folder)
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"has no {name}"):
        load(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"preset": "tiny", "architecture": {}}'])
def test_a_config_that_describes_nothing_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json"):
        weights.read_onnx(folder)


def test_an_unknown_preset_is_refused(folder: Path) -> None:
    edit(folder, preset="huge")
    with pytest.raises(ValueError, match=r"'huge'.*paper"):
        weights.load_model(folder)


def test_weights_of_an_older_preset_are_refused(
    tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(presets.LAYERED, "tiny", replace(presets.LAYERED["tiny"], features=16))
    with pytest.raises(ValueError, match="another version of the preset 'tiny'"):
        weights.load_model(tiny_weights)


def test_switches_that_came_after_the_weights_are_at_their_rest(folder: Path) -> None:
    architecture = json.loads((folder / "config.json").read_text())["architecture"]
    older = {name: value for name, value in architecture.items() if name != "gated"}
    assert len(older) == len(architecture) - 1
    edit(folder, architecture=older)
    weights.load_model(folder)
    edit(folder, architecture=older | {"stranger": 1})
    with pytest.raises(ValueError, match="another version of the preset 'tiny'"):
        weights.load_model(folder)


def test_tensors_of_another_shape_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wider = replace(presets.LAYERED["tiny"], features=16)
    monkeypatch.setitem(presets.LAYERED, "tiny", wider)
    architecture = json.loads((folder / "config.json").read_text())["architecture"]
    edit(folder, architecture=architecture | {"features": 16})
    with pytest.raises(ValueError, match=r"exactly the weights.*size mismatch"):
        weights.load_model(folder)


def test_finding_and_running_weights_needs_no_torch() -> None:
    code = (
        "import sys, crispdepth.models.weights, crispdepth.models.learned;"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_weights_of_another_task_say_so() -> None:
    with pytest.raises(ValueError, match=r"have no model\.onnx: they are not for this task"):
        weights.read_onnx("multiview-small")
    with pytest.raises(ValueError, match="choose weights for this task"):
        weights.load_multiview("layered-small")
