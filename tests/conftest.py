"""Networks of a node or two, as the files that programs exchange."""

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image


def _write_onnx(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[int | str]],
    outputs: list[str],
    constants: Mapping[str, float] = {},
) -> Path:
    """A float32 network; a dimension that is a word is dynamic."""
    graph = helper.make_graph(
        nodes,
        "network",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in inputs.items()
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [
            helper.make_tensor(name, TensorProto.FLOAT, [], [value])
            for name, value in constants.items()
        ],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


@pytest.fixture
def write_onnx() -> Callable[..., Path]:
    """Writes a network: path, nodes, shapes of the inputs, names of the outputs, scalars."""
    return _write_onnx


@pytest.fixture(scope="session")
def learned_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the learned engine that move everything inside the mask nearer by 1."""
    folder = tmp_path_factory.mktemp("learned")
    maps: dict[str, list[int | str]] = {
        name: [1, channels, "height", "width"]
        for name, channels in (("inverse_depth", 1), ("rgb", 3), ("mask", 1))
    }
    nodes = [
        helper.make_node("Add", ["inverse_depth", "one"], ["layer"]),
        helper.make_node("Identity", ["mask"], ["gate"]),
    ]
    path = _write_onnx(folder / "model.onnx", nodes, maps, ["layer", "gate"], {"one": 1.0})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    config = {"preset": "made", "architecture": {}, "sha256": {"model.onnx": digest}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def fake_rembg(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Puts a rembg in place whose mask is the red of the photo; gives the networks it loads."""

    def install(error: Exception | None = None) -> list[str]:
        loaded: list[str] = []

        class Session:
            def predict(self, image: Image.Image) -> list[Image.Image]:
                return [image.getchannel("R")]

        def new_session(name: str) -> Session:
            if error is not None:
                raise error
            loaded.append(name)
            return Session()

        package, sessions = ModuleType("rembg"), ModuleType("rembg.sessions")
        vars(package)["new_session"] = new_session
        vars(sessions)["sessions_names_downloadable"] = ["u2net", "u2netp"]
        monkeypatch.setitem(sys.modules, "rembg", package)
        monkeypatch.setitem(sys.modules, "rembg.sessions", sessions)
        return loaded

    return install


@pytest.fixture(scope="session")
def volume_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of learned fusion before any training: it returns the depths' signed distances."""
    from crispdepth.models.export import write_weights
    from crispdepth.models.presets import build_volume

    folder = tmp_path_factory.mktemp("volume")
    write_weights(build_volume("volume-small"), "volume-small", folder, {})
    return folder
