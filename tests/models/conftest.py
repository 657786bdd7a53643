"""A small network with every part, inputs for it, and its weights on disk."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from crispdepth.models import presets
from crispdepth.models.layered.export import write_weights
from crispdepth.models.layered.network import LayeredNet
from crispdepth.models.presets import LayeredConfig, build_layered

TINY = LayeredConfig(
    dims=(8, 8, 10, 16),
    depths=(1, 1, 2, 1),
    rgb_depth=1,
    features=8,
    low_level=(4, 4),
    head=(8, 4),
    detail=4,
    gated=True,
    anchored=True,
)

Inputs = tuple[Tensor, Tensor, Tensor]


@pytest.fixture(scope="session", autouse=True)
def _tiny_preset() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets.LAYERED, "tiny", TINY)
        yield


@pytest.fixture
def tiny() -> LayeredNet:
    torch.manual_seed(0)
    return build_layered(TINY).eval()


@pytest.fixture
def noise() -> Callable[[int, tuple[int, int]], Inputs]:
    """Makes inverse depth, photo and mask of a batch and a size; the mask is the left half."""

    def make(batch: int, size: tuple[int, int]) -> Inputs:
        generator = torch.Generator().manual_seed(1)
        depth = 10 * torch.rand(batch, 1, *size, generator=generator)
        rgb = torch.rand(batch, 3, *size, generator=generator)
        mask = torch.zeros_like(depth)
        mask[..., : size[1] // 2] = 1
        return depth, rgb, mask

    return make


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory, _tiny_preset: None) -> Path:
    """A folder of weights of the small network; tests that change it copy it first."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    write_weights(build_layered(TINY), "tiny", folder, about={"licence": "CC0"})
    return folder
