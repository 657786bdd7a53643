"""The state of a training run in one safetensors file: complete or not there, never a pickle."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from crispdepth.io.atomic import atomic_path


def save_checkpoint(
    path: str | Path,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    facts: Mapping[str, Any],
) -> None:
    """Write modules, the optimizer's state and ``facts`` (JSON values) so that training resumes.

    Raises:
        OSError: the file cannot be written.
    """
    tensors = {
        f"{prefix}.{name}": tensor
        for prefix, module in modules.items()
        for name, tensor in module.state_dict().items()
    }
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in state.items()}
    _write(path, tensors, facts)


def load_checkpoint(
    path: str | Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Bring modules and optimizer to the state of `save_checkpoint`; returns its ``facts``.

    The learning rate and the other settings of the optimizer are left as they are.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no checkpoint of these modules.
    """
    tensors, facts = _read(path)
    state: dict[int, dict[str, Tensor]] = {}
    for name in [name for name in tensors if name.startswith("optimizer.")]:
        _, number, key = name.split(".", 2)
        state.setdefault(int(number), {})[key] = tensors.pop(name)
    for prefix, module in modules.items():
        names = [name for name in tensors if name.startswith(f"{prefix}.")]
        _load(path, module, {name[len(prefix) + 1 :]: tensors.pop(name) for name in names})
    groups = optimizer.state_dict()["param_groups"]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, values in state.items():  # in the memory format of the parameter: it is faster
        like = parameters[index]
        for key, value in values.items():
            if value.shape == like.shape:
                values[key] = torch.empty_like(like).copy_(value)
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    return facts


def save_weights(path: str | Path, module: nn.Module, facts: Mapping[str, Any]) -> None:
    """Write the weights of a module alone, and ``facts`` (JSON values) about them.

    Raises:
        OSError: the file cannot be written.
    """
    _write(path, module.state_dict(), facts)


def load_part(path: str | Path, prefix: str, module: nn.Module) -> dict[str, Any]:
    """Load the module that `save_checkpoint` knew by ``prefix``, strictly; returns its ``facts``.

    Raises:
        OSError: the file cannot be read.
        ValueError: it does not hold exactly the weights of this module.
    """
    tensors, facts = _read(path)
    start = f"{prefix}."
    own = {name[len(start) :]: part for name, part in tensors.items() if name.startswith(start)}
    _load(path, module, own)
    return facts


def load_weights(path: str | Path, module: nn.Module) -> dict[str, Any]:
    """Load what `save_weights` wrote, strictly; returns its ``facts``.

    Raises:
        OSError: the file cannot be read.
        ValueError: it does not hold exactly the weights of this module.
    """
    tensors, facts = _read(path)
    _load(path, module, tensors)
    return facts


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors that `save_weights` wrote, by name.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged.
    """
    tensors, _ = _read(path)
    return tensors


def _write(path: str | Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    values = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        mode = temporary.stat().st_mode
        save_file(values, temporary, metadata={"facts": json.dumps(facts)})
        temporary.chmod(mode)  # safetensors writes files that only their owner may read


def _read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}.")
    try:
        with safe_open(str(path), framework="pt") as file:
            facts = json.loads((file.metadata() or {})["facts"])
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no checkpoint of this program, or damaged: {error}") from error


def _load(path: str | Path, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    try:
        module.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise ValueError(
            f"{path} holds the weights of another model: {str(error).splitlines()[-1].strip()} "
            "Choose the preset it was trained with."
        ) from error
