"""What was saved is loaded bit for bit, and nothing else is taken for it."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from crispdepth.training.checkpoint import (
    load_checkpoint,
    load_weights,
    save_checkpoint,
    save_weights,
)

Trained = tuple[nn.Module, torch.optim.AdamW]


def fresh(seed: int, channels: int = 3) -> Trained:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(2, channels, 3), nn.BatchNorm2d(channels))
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model, torch.optim.AdamW(model.parameters(), 0.1)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    torch.manual_seed(steps)
    for _ in range(steps):
        model(torch.randn(2, 2, 8, 8)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def values(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.state_dict())


def test_training_goes_on_as_if_it_had_not_been_saved(tmp_path: Path) -> None:
    model, optimizer = fresh(1)
    train(model, optimizer, 3)
    save_checkpoint(tmp_path / "last", {"model": model}, optimizer, {"step": 3, "best": 0.1})
    again, its_optimizer = fresh(2)
    facts = load_checkpoint(tmp_path / "last", {"model": again}, its_optimizer)
    assert facts == {"step": 3, "best": 0.1}
    for trained in ((model, optimizer), (again, its_optimizer)):
        train(*trained, 2)
    torch.testing.assert_close(values(again), values(model), rtol=0, atol=0)


def test_the_state_keeps_the_memory_format_of_the_parameters(tmp_path: Path) -> None:
    model, optimizer = fresh(1)
    train(model, optimizer, 1)
    save_checkpoint(tmp_path / "last", {"model": model}, optimizer, {})
    load_checkpoint(tmp_path / "last", {"model": model}, optimizer)
    weight = next(model.parameters())
    assert optimizer.state[weight]["exp_avg"].stride() == weight.stride()


def test_a_file_of_weights_holds_nothing_else(tmp_path: Path) -> None:
    model, _ = fresh(1)
    save_weights(tmp_path / "best", model, {"step": 7})
    again, _ = fresh(2)
    assert load_weights(tmp_path / "best", again) == {"step": 7}
    torch.testing.assert_close(values(again), values(model), rtol=0, atol=0)
    assert (tmp_path / "best").stat().st_mode & 0o777 == _mode_of_new_files(tmp_path)


def _mode_of_new_files(folder: Path) -> int:
    (folder / "new").touch()
    return (folder / "new").stat().st_mode & 0o777


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    save_weights(tmp_path / "best", fresh(1, channels=4)[0], {})
    with pytest.raises(ValueError, match=r"another model.*size mismatch"):
        load_weights(tmp_path / "best", fresh(1)[0])


@pytest.mark.parametrize("damage", [b"", b"no safetensors", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "best"
    path.write_bytes(damage)
    with pytest.raises(ValueError, match="is no checkpoint of this program, or damaged"):
        load_weights(path, fresh(1)[0])


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint .*best"):
        load_weights(tmp_path / "best", fresh(1)[0])


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    model, _ = fresh(1)
    save_weights(tmp_path / "best", model, {"step": 1})
    twice = nn.ModuleDict({"a": model, "b": model})  # safetensors refuses shared memory
    with pytest.raises(RuntimeError, match="share memory"):
        save_weights(tmp_path / "best", twice, {"step": 2})
    assert load_weights(tmp_path / "best", fresh(2)[0]) == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
