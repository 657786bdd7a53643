"""Weights on disk: found by name, checked, loaded strictly, never unpickled.

A folder of weights holds ``model.safetensors`` (for torch), for layered refinement also
``model.onnx`` (for onnxruntime), and ``config.json``, which says what they are: the preset, its
architecture, the checksums of the files. `crispdepth.training.export` makes such folders. Finding
and checking need no torch.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from torch import nn

    from crispdepth.models.layered.network import LayeredNet
    from crispdepth.models.multiview.network import MultiviewNetwork
    from crispdepth.models.volume.network import VolumeNetwork
    from crispdepth.models.volume.stereo import StereoNetwork

    Model = TypeVar("Model", bound=nn.Module)
    Build = Callable[[str], Model]

CONFIG = "config.json"
ONNX = "model.onnx"
SAFETENSORS = "model.safetensors"

DEFAULT = "layered-small"
"""The shipped weights that layered refinement uses."""

DEFAULT_MULTIVIEW = "multiview-small"
"""The shipped weights that depth from several views uses."""

DEFAULT_VOLUME = "volume-small"
"""The shipped weights that learned fusion uses; their stereo was not trained."""

DEFAULT_STEREO = "volume-stereo-small"
"""The shipped weights that the stereo of learned fusion uses; their fusion was not trained."""

VolumePart = Literal["stereo", "fusion"]

_SHIPPED = Path(__file__).resolve().parent.parent / "weights"


def find(name_or_path: str | Path) -> Path:
    """The folder of the shipped weights of that name, or the folder itself.

    Raises:
        FileNotFoundError: there is neither.
    """
    for folder in (_SHIPPED / name_or_path, Path(name_or_path)):
        if (folder / CONFIG).is_file():
            return folder
    shipped = sorted(config.parent.name for config in _SHIPPED.glob(f"*/{CONFIG}"))
    raise FileNotFoundError(
        f"There are no weights {str(name_or_path)!r}: give one of the shipped ones "
        f"({', '.join(shipped) or 'none in this installation'}) or a folder with a {CONFIG}."
    )


def read_config(name_or_path: str | Path) -> dict[str, Any]:
    """What ``config.json`` says about the weights.

    Raises:
        FileNotFoundError: there are no such weights.
        OSError: the file cannot be read.
        ValueError: it does not describe weights.
    """
    return _read_config(find(name_or_path))


def read_onnx(name_or_path: str | Path) -> bytes:
    """The checked ONNX file, for onnxruntime.

    Raises:
        FileNotFoundError: there are no such weights, or no ONNX file among them.
        OSError: a file cannot be read.
        ValueError: a file is damaged, or not the one that ``config.json`` describes.
    """
    folder = find(name_or_path)
    return _checked(folder, ONNX, _read_config(folder))


def require_whole(name_or_path: str | Path) -> int:
    """Check all files of the weights, for torch or not; how many bytes they have together.

    Raises:
        FileNotFoundError: there are no such weights, or a file is missing.
        OSError: a file cannot be read.
        ValueError: a file is damaged, or not the one that ``config.json`` describes.
    """
    folder = find(name_or_path)
    config = _read_config(folder)
    return sum(len(_checked(folder, name, config)) for name in config["sha256"])


def load_model(name_or_path: str | Path) -> "LayeredNet":
    """The network with its weights: float32, on the CPU, in evaluation mode.

    Raises:
        FileNotFoundError: there are no such weights, or no safetensors file among them.
        OSError: a file cannot be read.
        ValueError: a file is damaged, the preset is unknown or has changed since, or the weights
            are not exactly those of the preset.
        ImportError: torch or safetensors is not installed.
    """
    try:
        from crispdepth.models.presets import LAYERED, build
    except ImportError as error:
        raise _needs(error) from error
    return _load(name_or_path, LAYERED, build)


def load_multiview(name_or_path: str | Path = DEFAULT_MULTIVIEW) -> "MultiviewNetwork":
    """The multi-view network with its weights; see `load_model`."""
    try:
        import torch
        from torch import nn

        from crispdepth.models.presets import MULTIVIEW, build_multiview
    except ImportError as error:
        raise _needs(error) from error
    network = _load(name_or_path, MULTIVIEW, build_multiview)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):  # a fifth faster on a CPU
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def load_volume(
    name_or_path: str | Path = DEFAULT_VOLUME, *, part: VolumePart | None = "fusion"
) -> "VolumeNetwork":
    """The network of volumetric fusion with its weights.

    See `load_model`; weights whose training has left out the ``part`` are refused, too. None: it is
    to be trained.
    """
    try:
        from crispdepth.models.presets import VOLUME, build_volume
    except ImportError as error:
        raise _needs(error) from error
    network = _load(name_or_path, VOLUME, build_volume)
    training = read_config(name_or_path).get("training", {})
    stage = training.get("objective", {}).get("stage", "both")
    if part is not None and stage not in (part, "both"):
        raise ValueError(
            f"The weights in {find(name_or_path)} are of a training with --stage {stage}, which "
            f"did not teach the {part}; take some of --stage {part} or --stage both."
        )
    return network


def load_stereo(name_or_path: str | Path = DEFAULT_STEREO) -> "StereoNetwork":
    """The stereo of the network of volumetric fusion with its weights; see `load_volume`."""
    return load_volume(name_or_path, part="stereo").stereo


def _load(
    name_or_path: str | Path, presets: "Mapping[str, DataclassInstance]", build: "Build[Model]"
) -> "Model":
    """The network of a preset with its weights, as `load_model` says."""
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load
    except ImportError as error:
        raise _needs(error) from error
    folder = find(name_or_path)
    config = _read_config(folder)
    preset = config["preset"]
    if preset not in presets:
        raise ValueError(
            f"The weights in {folder} are of the preset {preset!r}, which is not one of "
            f"{', '.join(presets)}; choose weights for this task."
        )
    model = build(preset)
    # JSON has no tuples: both sides go through it.
    architecture = json.loads(json.dumps(asdict(presets[preset])))
    if not agrees(config["architecture"], architecture):
        raise ValueError(
            f"The weights in {folder} are for another version of the preset {preset!r}: "
            f"{config['architecture']} instead of {architecture}. Take weights that were exported "
            "with this version of crispdepth, or export them again."
        )
    try:
        tensors = load(_checked(folder, SAFETENSORS, config))
        model.load_state_dict(tensors, strict=True)  # copies, so half precision becomes float32
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(
            f"{folder / SAFETENSORS} does not hold exactly the weights of the preset "
            f"{preset!r}: {' '.join(str(error).split())} Export them again."
        ) from error
    return model.eval()


def agrees(recorded: Any, now: Any) -> bool:
    """Whether all that was recorded of a config is so now; what came later is at its rest."""
    if isinstance(recorded, dict) and isinstance(now, dict):
        return all(name in now and agrees(value, now[name]) for name, value in recorded.items())
    return bool(recorded == now)


def _needs(error: ImportError) -> ImportError:
    return ImportError(f'Loading a network needs {error.name}: pip install "crispdepth[torch]"')


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); copy or export it again.") from error
    needed = {"preset": str, "architecture": dict, "sha256": dict}
    for key, kind in needed.items():
        if not isinstance(config, dict) or not isinstance(config.get(key), kind):
            raise ValueError(
                f"{path} does not describe weights: it has no {key!r}. Export them again."
            )
    assert isinstance(config, dict)
    return config


def _checked(folder: Path, name: str, config: dict[str, Any]) -> bytes:
    """The bytes of a file whose checksum is the one in ``config``."""
    path = folder / name
    if name not in config["sha256"]:
        raise ValueError(
            f"The weights in {folder} (preset {config['preset']!r}) have no {name}: they are not "
            "for this task."
        )
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {name}; copy the whole folder of the weights.")
    data = path.read_bytes()
    found, expected = hashlib.sha256(data).hexdigest(), config["sha256"].get(name)
    if found != expected:
        raise ValueError(
            f"{path} is damaged or was replaced: its SHA-256 is {found}, {CONFIG} says {expected}. "
            "Copy the whole folder again."
        )
    return data
