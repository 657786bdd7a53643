"""Rough depth from a photo alone, by a network of somebody else: an ONNX file or Hugging Face.

ONNX files run on the plain install; names and folders of Hugging Face need the extra ``auto``.
"""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from crispdepth.geometry.depth import resize_depth
from crispdepth.models.onnx_graph import takes_bytes
from crispdepth.ops.images import eight_bit
from crispdepth.types import DepthMap, Float32Map, Kind, Size, Unit

Pixels = Literal["byte", "unit", "imagenet"]
"""What a network wants to be given: 0..255, 0..1, or 0..1 less the mean of ImageNet over its
standard deviation."""

SHORT_SIDE = 448
"""Shorter side in pixels of what a network of no fixed size is given; a multiple of `MULTIPLES`."""

MULTIPLES = (14, 32)
"""Sides are multiples of the patch of a vision transformer, or of the stride of a pyramid. A
pyramid refuses sides that are not; a transformer would silently cut them, so it is tried first."""

METRIC_TYPES = ("depth_pro", "glpn", "zoedepth")
"""Architectures of transformers that give metres without saying so in their configuration."""

_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
_NUMBER_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class Estimate(NamedTuple):
    """A depth map of the size of the photo, and one sentence on what its numbers mean."""

    depth: DepthMap
    stated: str


class DepthModel(ABC):
    """A network, loaded; it may be called for many photos."""

    name: str
    facts: dict[str, object]  # what decides its answers, JSON values
    _kind: Kind = "inverse_depth"
    _unit: Unit = "relative"
    _on_word = "assumed, as most networks give it"

    def __call__(
        self,
        image: NDArray[Any],  # (h, w, 3) uint8 or uint16, sRGB
        *,
        kind: Kind | None = None,
        unit: Unit | None = None,
    ) -> Estimate:
        """The rough depth of a photo, resized to it.

        Args:
            image: the photo.
            kind, unit: what the network gives; None: what is known of it, else relative inverse
                depth. Metres without a kind are depth.

        Raises:
            ValueError: the network refuses the photo, or gives no map.
        """
        on_word = self._on_word if kind is None and unit is None else "as stated"
        kind = kind or ("depth" if unit == "m" else self._kind)
        unit = unit or (self._unit if kind == self._kind else "relative")
        depth = DepthMap(self._estimate(eight_bit(image)), kind, unit)
        noun = f"{'relative ' * (unit == 'relative')}{kind.replace('_', ' ')}"
        noun += {"depth": " in metres", "inverse_depth": " in 1/metres"}[kind] * (unit == "m")
        stated = f"{noun} from {self.name} ({on_word}){self._remark()}"
        return Estimate(resize_depth(depth, (image.shape[0], image.shape[1])), stated)

    @abstractmethod
    def _estimate(self, image: NDArray[np.uint8]) -> Float32Map:
        """The output for a photo (h, w, 3), of any size."""

    def _remark(self) -> str:
        return ""


def load_depth_model(model: str | Path, pixels: Pixels | None = None) -> DepthModel:
    """The depth model in an ONNX file, in a folder of transformers, or of a name on Hugging Face.

    Args:
        model: the file, the folder, or a name such as
            ``depth-anything/Depth-Anything-V2-Small-hf``.
        pixels: what an ONNX file wants to be given. None: 0..255 if it begins by dividing by 255,
            else "imagenet".

    Raises:
        OSError: there is no such model, or it cannot be read or fetched.
        ValueError: it is no depth model, or ``pixels`` is unknown or not for an ONNX file.
        ImportError: transformers is needed and not installed.
    """
    if pixels is not None and pixels not in get_args(Pixels):
        raise ValueError(f"A network takes pixels as {get_args(Pixels)}; got {pixels!r}.")
    path = Path(model)
    if path.is_file():
        return OnnxDepthModel(path, pixels)
    if not path.is_dir() and (
        path.suffix == ".onnx" or not re.fullmatch(r"[\w.-]+/[\w.-]+", str(model))
    ):
        raise FileNotFoundError(
            f"There is no depth model {str(model)!r}: give an ONNX file, or a name on Hugging "
            "Face, such as depth-anything/Depth-Anything-V2-Small-hf."
        )
    if pixels is not None:
        raise ValueError(f"{model} says itself how it takes pixels; {pixels!r} is for ONNX files.")
    return HuggingFaceDepthModel(str(model))


class OnnxDepthModel(DepthModel):
    """A network that takes one image, (1, 3, h, w) or (1, h, w, 3), and gives one map first."""

    def __init__(self, path: Path, pixels: Pixels | None = None) -> None:
        """Load it. Raises OSError and ValueError; see `load_depth_model`."""
        self.name = path.name
        data = path.read_bytes()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised
        try:
            # By its path, for its weights may be in a file beside it.
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the runtime has exceptions of its own
            raise ValueError(
                f"{path} is no ONNX file that onnxruntime can load: {error}"
            ) from error
        inputs = self._session.get_inputs()
        shape = inputs[0].shape if len(inputs) == 1 else []
        is_image = len(shape) == 4
        self._channels_last = is_image and shape[3] == 3 and shape[1] != 3
        channels = shape[3 if self._channels_last else 1] if is_image else 0
        if not (channels == 3 or isinstance(channels, str)):  # a word: an export left it open
            found = ", ".join(f"{each.name} {each.shape}" for each in inputs)
            raise ValueError(
                f"{path} is no depth model of one photo: it takes {found}, where one image "
                "[1, 3, height, width] or [1, height, width, 3] was expected."
            )
        if inputs[0].type not in _NUMBER_TYPES:
            raise ValueError(f"{path} takes {inputs[0].type}, and float or float16 was expected.")
        self._input = inputs[0]
        sides = shape[1:3] if self._channels_last else shape[2:4]
        self._fixed: Size | None = (
            (sides[0], sides[1]) if all(isinstance(side, int) for side in sides) else None
        )
        self._multiples: Sequence[int] = MULTIPLES
        self._assumed = False
        if pixels is None:
            self._assumed = not takes_bytes(data, self._input.name)
            pixels = "imagenet" if self._assumed else "byte"
        self._pixels = pixels
        self.facts = {
            "depth_model": self.name,
            "depth_model_sha256": hashlib.sha256(data).hexdigest(),
            "depth_model_input": pixels,
        }

    def _remark(self) -> str:
        if not self._assumed:
            return ""
        return f"; that it takes {self._pixels} pixels is assumed (--depth-model-input states it)"

    def _estimate(self, image: NDArray[np.uint8]) -> Float32Map:
        if self._fixed:
            return self._run(image, self._fixed)
        for multiple in self._multiples:
            try:
                values = self._run(image, _given_size(image, multiple))
            except ValueError:
                if multiple == self._multiples[-1]:
                    raise
            else:
                self._multiples = (multiple,)
                return values
        raise AssertionError

    def _run(self, image: NDArray[np.uint8], size: Size) -> Float32Map:
        given = _pixels(_resized(image, size), self._pixels)
        if not self._channels_last:
            given = given.transpose(2, 0, 1)
        feed = {self._input.name: given[None].astype(_NUMBER_TYPES[self._input.type])}
        options = onnxruntime.RunOptions()
        options.log_severity_level = 4
        try:
            found = self._session.run([self._session.get_outputs()[0].name], feed, options)[0]
        except Exception as error:  # the runtime has exceptions of its own
            raise ValueError(
                f"{self.name} fails on a photo of {size[1]} x {size[0]} pixels: {error}"
            ) from error
        return _map(found, self.name)


class HuggingFaceDepthModel(DepthModel):
    """A depth model of transformers, by its name on Hugging Face or from a folder, on the CPU."""

    def __init__(self, name: str) -> None:
        """Load it. Raises OSError, ValueError and ImportError; see `load_depth_model`."""
        try:
            from transformers import AutoImageProcessor, AutoModelForDepthEstimation
        except ImportError as error:
            raise ImportError(
                'Depth models of Hugging Face need transformers: pip install "crispdepth[auto]"'
            ) from error
        self.name = Path(name).name if Path(name).is_dir() else name
        self.facts = {"depth_model": self.name}
        try:
            self._model = AutoModelForDepthEstimation.from_pretrained(name).eval()
            # Without torchvision, which is no dependency, the other processors only warn.
            load: Any = AutoImageProcessor.from_pretrained  # it has no types
            self._processor = load(name, backend="pil")
        except OSError as error:
            raise OSError(f"The depth model {name!r} cannot be loaded: {_brief(error)}") from error
        except (KeyError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"{name!r} is no depth model of transformers: {_brief(error)}"
            ) from error
        if Path(name).is_dir():
            self.facts["depth_model_sha256"] = _digest(Path(name))
        config = self._model.config
        metric = getattr(config, "depth_estimation_type", "") == "metric"
        if metric or config.model_type in METRIC_TYPES:
            self._kind, self._unit, self._on_word = "depth", "m", "a metric model"

    def _estimate(self, image: NDArray[np.uint8]) -> Float32Map:
        import torch

        with torch.inference_mode():
            output = self._model(**self._processor(images=image, return_tensors="pt"))
            # The size is the wanted one for most processors, and the photo's for the one that pads.
            sizes = [(image.shape[0], image.shape[1])]
            (found,) = self._processor.post_process_depth_estimation(output, sizes)
        return _map(found["predicted_depth"].float().cpu().numpy(), self.name)


def _brief(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in (".json", ".safetensors"):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _given_size(image: NDArray[Any], multiple: int) -> Size:
    height, width = image.shape[:2]
    scale = SHORT_SIDE / min(height, width) / multiple
    return round(height * scale) * multiple, round(width * scale) * multiple


def _resized(image: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    shrinks = size[0] <= image.shape[0] and size[1] <= image.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size[::-1], interpolation=how), np.uint8)


def _pixels(image: NDArray[np.uint8], pixels: Pixels) -> NDArray[np.float32]:
    values = image.astype(np.float32)
    if pixels == "byte":
        return values
    values /= np.float32(255)
    return values if pixels == "unit" else (values - _MEAN) / _DEVIATION


def _map(output: NDArray[Any], name: str) -> Float32Map:
    """The output without the axes of length 1, (h, w)."""
    values = np.squeeze(output)
    if values.ndim != 2:
        raise ValueError(
            f"{name} is no depth model: its first output is {output.shape}, where one map was "
            "expected, such as (1, 1, height, width)."
        )
    return values.astype(np.float32, copy=False)
