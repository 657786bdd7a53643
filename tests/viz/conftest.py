"""A disc before a slanted wall, its rough depth and a stand-in for a refinement."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from crispdepth.types import DepthMap, LayerPair, MaskSet, RefinedDepth


@pytest.fixture
def disc() -> Callable[[int, int], RefinedDepth]:
    """A refinement of a photo of (height, width): blurred before, two exact layers after."""

    def make(height: int, width: int) -> RefinedDepth:
        y, x = np.mgrid[:height, :width].astype(np.float32)
        radius = min(height, width) / 4
        mask = ((y - height / 2) ** 2 + (x - width / 2) ** 2 < radius**2).astype(np.float32)
        near, far = np.full_like(mask, 0.8), 0.1 + 0.3 * x / width
        after = mask * near + (1 - mask) * far
        before = cv2.GaussianBlur(after, (0, 0), 2).astype(np.float32)
        return RefinedDepth(
            image=np.stack([mask * 200, x % 256, y % 256], -1).astype(np.uint8),
            initial=DepthMap(before, "inverse_depth"),
            depth=DepthMap(after, "inverse_depth"),
            masks=MaskSet(mask[None], names=("disc",)),
            layers=(LayerPair("disc", mask, near, far),),
            confidence=np.ones_like(mask),
            gate=np.ones_like(mask),
        )

    return make
