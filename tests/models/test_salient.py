"""The mask that rembg finds, and what is said where it finds none."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper

from crispdepth.models.salient import SalientMask

FakeRembg = Callable[..., list[str]]


@pytest.fixture
def photo() -> NDArray[np.uint8]:
    """Bright to the right of the middle."""
    ramp = np.tile(np.linspace(0, 255, 64), (48, 1))
    return np.repeat(ramp[..., None], 3, axis=2).astype(np.uint8)


def test_the_mask_is_soft_and_the_network_is_loaded_once(
    fake_rembg: FakeRembg, photo: NDArray[np.uint8]
) -> None:
    loaded = fake_rembg()
    find = SalientMask("u2netp")
    for image in (photo, photo.astype(np.uint16) * 257):
        np.testing.assert_array_equal(find(image), photo[None, ..., 0])
    assert loaded == ["u2netp"]
    assert find.facts == {"mask_model": "u2netp"}


@pytest.mark.parametrize("level", [0, 127, 128, 255])
def test_a_mask_of_nothing_or_of_everything_is_an_error(fake_rembg: FakeRembg, level: int) -> None:
    fake_rembg()
    with pytest.raises(ValueError, match="'u2net' found no object in this photo: give a --mask"):
        SalientMask()(np.full((48, 64, 3), level, np.uint8))


def test_a_network_that_is_not_there_is_named(fake_rembg: FakeRembg) -> None:
    fake_rembg()
    with pytest.raises(ValueError, match="no network 'magic' to run here; it has u2net, u2netp"):
        SalientMask("magic")
    fake_rembg(error=ConnectionError("no route"))
    with pytest.raises(OSError, match=r"put u2net.onnx into .* ConnectionError: no route"):
        SalientMask()


def test_without_rembg_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rembg", None)
    with pytest.raises(ImportError, match=r'pip install "crispdepth\[masks\]"'):
        SalientMask()


@pytest.mark.slow  # rembg compiles itself when it is first imported
@pytest.mark.filterwarnings("default")
def test_rembg_itself_is_understood(
    tmp_path: Path,
    write_onnx: Callable[..., Path],
    photo: NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grey = helper.make_node("ReduceMean", ["image"], ["mask"], axes=[1], keepdims=1)
    write_onnx(tmp_path / "u2netp.onnx", [grey], {"image": [1, 3, 320, 320]}, ["mask"])
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    found = SalientMask("u2netp")(photo)
    np.testing.assert_allclose(found, photo[None, ..., 0], atol=8)
    assert len(np.unique(found)) > 32, "it stays soft"
