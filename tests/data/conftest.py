"""Small frames with known depth."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from crispdepth.data.datasets import RgbdFrame
from crispdepth.types import DepthMap

FrameMaker = Callable[[int], RgbdFrame]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def make_frame() -> FrameMaker:
    """A slanted floor with a box, instance 1, before it; textured by noise."""

    def make(seed: int) -> RgbdFrame:
        rng = np.random.default_rng(seed)
        depth = np.linspace(6, 2, 60, dtype=np.float32)[:, None] * np.ones((1, 80), np.float32)
        instances: NDArray[np.int32] = np.zeros((60, 80), np.int32)
        top, left = rng.integers(5, 20, 2)
        box = (slice(top, top + 30), slice(left, left + 24))
        depth[box], instances[box] = 1.5, 1
        image = rng.integers(0, 256, (60, 80, 3)).astype(np.uint8)
        return RgbdFrame(f"frame{seed}", image, DepthMap(depth, "depth", "m"), instances)

    return make
