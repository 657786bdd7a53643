"""Small scenes with exact depth, and a network small enough to train in a second."""

import cv2
import numpy as np
import pytest

from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.masks import DrawnMask
from crispdepth.models.presets import LAYERED, LayeredConfig
from crispdepth.types import DepthMap

FRAME_SIZE = (72, 96)


class Disks:
    """Disks of any place and radius as masks."""

    def draw(self, rng: np.random.Generator, size: int) -> DrawnMask:
        x, y = (int(value) for value in rng.integers(size // 4, 3 * size // 4, 2))
        radius = int(rng.integers(size // 8, size // 3))
        mask = cv2.circle(np.zeros((size, size), np.uint8), (x, y), radius, 1, -1)
        return DrawnMask(np.asarray(mask, np.uint8), "object")


def disk_frame(number: int) -> RgbdFrame:
    """Disks of all colours before a slanted wall."""
    rng = np.random.default_rng(number)
    slant = rng.uniform(0, 2) * np.linspace(-1, 1, FRAME_SIZE[1])
    z = np.broadcast_to(5 + slant, FRAME_SIZE).astype(np.float32)
    image = np.full((*FRAME_SIZE, 3), rng.integers(60, 120), np.uint8)
    ids = np.zeros(FRAME_SIZE, np.int32)
    for instance in range(1, 5):
        mask = Disks().draw(rng, FRAME_SIZE[0]).values.astype(bool)
        inside = np.roll(np.pad(mask, ((0, 0), (0, 24))), int(rng.integers(24)), axis=1)
        z[inside], image[inside], ids[inside] = rng.uniform(1, 4), rng.integers(0, 255, 3), instance
    return RgbdFrame(f"disks/{number:04}", image, DepthMap(z, "depth", "m"), ids)


@pytest.fixture(scope="session")
def frames() -> list[RgbdFrame]:
    return [disk_frame(number) for number in range(24)]


@pytest.fixture
def masks() -> Disks:
    return Disks()


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a preset with everything that `small` has, in miniature."""
    config = LayeredConfig(
        dims=(8, 16, 20, 32),
        depths=(1, 1, 1, 1),
        features=8,
        low_level=(4, 4),
        head=(8, 8),
        detail=4,
        gated=True,
        anchored=True,
    )
    monkeypatch.setitem(LAYERED, "tiny", config)
    return "tiny"
