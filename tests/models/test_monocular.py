"""Depth models: whatever a file wants, what comes out has the photo's size and says its kind."""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from onnx import helper
from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil

from crispdepth.models.monocular import MULTIPLES, SHORT_SIDE, load_depth_model

WriteOnnx = Callable[..., Path]
MEAN = "ReduceMean"


@pytest.fixture
def photo() -> NDArray[np.uint8]:
    """Brightness rises from left to right, and the colours differ."""
    ramp = np.tile(np.linspace(0, 255, 64), (48, 1))
    return np.stack([ramp, ramp / 2, ramp / 4], axis=2).astype(np.uint8)


@pytest.fixture
def brightness(tmp_path: Path, write_onnx: WriteOnnx) -> Callable[..., Path]:
    """Makes a network that gives the mean of the channels of what it is given."""

    def make(shape: list[int | str], name: str = "brightness.onnx", axis: int = 1) -> Path:
        node = helper.make_node(MEAN, ["image"], ["depth"], axes=[axis], keepdims=1)
        return write_onnx(tmp_path / name, [node], {"image": shape}, ["depth"])

    return make


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ([1, 3, 24, 32], 1),
        ([1, 24, 32, 3], 3),
        ([1, 3, 96, 128], 1),
        (["batch", "channels", "height", "width"], 1),
        (["batch", "height", "width", 3], 3),
    ],
)
def test_files_of_every_layout_and_size_take_every_photo(
    brightness: Callable[..., Path], photo: NDArray[np.uint8], shape: list[Any], axis: int
) -> None:
    estimate = load_depth_model(brightness(shape, axis=axis), "byte")
    depth, stated = estimate(photo)
    assert (depth.size, depth.kind, depth.unit) == ((48, 64), "inverse_depth", "relative")
    assert stated.startswith("relative inverse depth from brightness.onnx (assumed")
    np.testing.assert_allclose(depth.values, photo.mean(axis=2), atol=3)
    deep = estimate(photo.astype(np.uint16) * 257).depth
    np.testing.assert_array_equal(deep.values, depth.values)


@pytest.mark.parametrize(
    ("pixels", "low", "high"),
    [("byte", 0, 255), ("unit", 0, 1), ("imagenet", -1.986, 2.44), (None, -1.986, 2.44)],
)
def test_a_file_is_given_the_pixels_it_wants(
    brightness: Callable[..., Path], pixels: Any, low: float, high: float
) -> None:
    black_to_white = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], 48, 0)
    estimate = load_depth_model(brightness([1, 3, 48, 64]), pixels)
    depth, stated = estimate(np.repeat(black_to_white, 3, axis=2))
    assert depth.values.min() == pytest.approx(low, abs=0.01)
    assert depth.values.max() == pytest.approx(high, abs=0.01)
    assert ("--depth-model-input" in stated) == (pixels is None)


def test_a_file_that_divides_by_255_is_given_bytes(
    tmp_path: Path, write_onnx: WriteOnnx, photo: NDArray[np.uint8]
) -> None:
    nodes = [
        helper.make_node("Div", ["image", "c"], ["unit"]),
        helper.make_node(MEAN, ["unit"], ["depth"], axes=[1]),
    ]
    shape = {"image": [1, 3, 48, 64]}
    path = write_onnx(tmp_path / "net.onnx", nodes, shape, ["depth"], {"c": 255.0})
    estimate = load_depth_model(path)
    assert estimate.facts == {
        "depth_model": "net.onnx",
        "depth_model_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "depth_model_input": "byte",
    }
    depth, stated = estimate(photo)
    np.testing.assert_allclose(depth.values, photo.mean(axis=2) / 255, atol=1e-3)
    assert "--depth-model-input" not in stated


@pytest.mark.parametrize("stride", MULTIPLES)
def test_a_file_of_open_size_is_given_sides_that_fit_it(
    tmp_path: Path, write_onnx: WriteOnnx, stride: int
) -> None:
    """The network pools and enlarges, and adds what it was given: that fails on other sides."""
    pooling: dict[str, Any] = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
    nodes = [
        helper.make_node(MEAN, ["image"], ["grey"], axes=[1]),
        helper.make_node("AveragePool", ["grey"], ["small"], **pooling),
        helper.make_node("Resize", ["small", "", "scales"], ["large"], mode="nearest"),
        helper.make_node("Add", ["large", "grey"], ["depth"]),
    ]
    scales = np.array([1, 1, stride, stride], np.float32)
    nodes.insert(
        0,
        helper.make_node("Constant", [], ["scales"], value=helper.make_tensor("v", 1, [4], scales)),
    )
    shape = {"image": [1, 3, "height", "width"]}
    estimate = load_depth_model(write_onnx(tmp_path / "net.onnx", nodes, shape, ["depth"]))
    for size in ((60, 97), (97, 60)):
        assert estimate(np.zeros((*size, 3), np.uint8)).depth.size == size
    assert SHORT_SIDE % stride == 0


@pytest.mark.parametrize(
    ("stated", "kind", "unit"),
    [
        ({"kind": "depth"}, "depth", "relative"),
        ({"unit": "m"}, "depth", "m"),
        ({"kind": "inverse_depth", "unit": "m"}, "inverse_depth", "m"),
    ],
)
def test_the_callers_word_on_what_it_gives_counts(
    brightness: Callable[..., Path],
    photo: NDArray[np.uint8],
    stated: dict[str, Any],
    kind: str,
    unit: str,
) -> None:
    depth, sentence = load_depth_model(brightness([1, 3, 48, 64]), "byte")(photo, **stated)
    assert (depth.kind, depth.unit) == (kind, unit)
    assert "as stated" in sentence


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([1, 4, 48, 64], r"image \[1, 4, 48, 64\], where one image"),
        ([3, 48, 64], "where one image"),
        ([1, 3, 8, 48, 64], "where one image"),
    ],
)
def test_a_file_that_takes_no_photo_is_refused(
    brightness: Callable[..., Path], shape: list[Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load_depth_model(brightness(shape))


def test_a_file_that_gives_no_map_is_refused(
    tmp_path: Path, write_onnx: WriteOnnx, photo: NDArray[np.uint8]
) -> None:
    node = helper.make_node("Identity", ["image"], ["same"])
    path = write_onnx(tmp_path / "net.onnx", [node], {"image": [1, 3, 48, 64]}, ["same"])
    with pytest.raises(ValueError, match=r"net.onnx is no depth model.*\(1, 3, 48, 64\)"):
        load_depth_model(path)(photo)


def test_what_is_no_model_is_told_apart(tmp_path: Path, brightness: Callable[..., Path]) -> None:
    (tmp_path / "depth.png").write_bytes(b"no network")
    with pytest.raises(ValueError, match=r"depth.png is no ONNX file"):
        load_depth_model(tmp_path / "depth.png")
    for name in ("gone.onnx", "here/gone.onnx", "midas", str(tmp_path / "gone")):
        with pytest.raises(FileNotFoundError, match="give an ONNX file, or a name"):
            load_depth_model(name)
    with pytest.raises(ValueError, match="takes pixels as"):
        load_depth_model(brightness([1, 3, 48, 64]), "float")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is for ONNX files"):
        load_depth_model("some/name", "byte")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ValueError, match=f"'{tmp_path}' is no depth model of transformers"):
        load_depth_model(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match=f"'{tmp_path}' is no depth model of transformers"):
        load_depth_model(tmp_path)


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r'pip install "crispdepth\[auto\]"'):
        load_depth_model("some/name")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a Depth Anything of random weights, relative or metric, with its processor."""

    def make(kind: str) -> Path:
        path = tmp_path_factory.mktemp(kind)
        backbone: dict[str, Any] = {
            "hidden_size": 8,
            "num_hidden_layers": 4,
            "num_attention_heads": 2,
            "mlp_ratio": 1,
            "image_size": 28,
            "patch_size": 14,
            "out_features": ["stage1", "stage2", "stage3", "stage4"],
            "reshape_hidden_states": False,
        }
        config = transformers.DepthAnythingConfig(
            backbone_config=transformers.Dinov2Config(**backbone),
            reassemble_hidden_size=8,
            neck_hidden_sizes=[4, 4, 4, 4],
            fusion_hidden_size=4,
            head_hidden_size=4,
            depth_estimation_type=kind,
            max_depth=20,
        )
        torch.manual_seed(0)
        transformers.DepthAnythingForDepthEstimation(config).save_pretrained(path)
        processor = DPTImageProcessorPil(
            size={"height": 28, "width": 28}, keep_aspect_ratio=True, ensure_multiple_of=14
        )
        processor.save_pretrained(path)
        return path

    return make


def test_a_folder_of_transformers_is_loaded_and_says_what_it_gives(
    folder: Callable[[str], Path], photo: NDArray[np.uint8]
) -> None:
    path = folder("relative")
    relative = load_depth_model(path)
    depth, stated = relative(photo)
    assert (depth.size, depth.kind, depth.unit) == ((48, 64), "inverse_depth", "relative")
    assert "assumed" in stated
    assert relative.facts["depth_model"] == path.name
    metric = load_depth_model(str(folder("metric")))
    depth, stated = metric(photo)
    assert (depth.size, depth.kind, depth.unit) == ((48, 64), "depth", "m")
    assert depth.values.max() <= 20
    assert stated.startswith("depth in metres from metric")
    assert metric.facts["depth_model_sha256"] != relative.facts["depth_model_sha256"]


def test_a_name_that_cannot_be_fetched_is_an_error_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match=r"The depth model 'nobody/nothing' cannot be loaded") as e:
        load_depth_model("nobody/nothing")
    assert "\n" not in str(e.value)
