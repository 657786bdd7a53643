"""Public and rendered datasets as streams of samples: one file per dataset format."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crispdepth.types import DepthMap, MaskSet


@dataclass(frozen=True, eq=False)
class Sample:
    """A photo with rough depth, masks and the true depth, all of one size.

    Raises:
        ValueError: the sizes differ.
    """

    scene: str
    name: str  # unique in its dataset
    image: NDArray[np.uint8]  # (h, w, 3), sRGB
    initial: DepthMap  # the rough depth to refine
    depth: DepthMap  # the true depth, metres
    masks: MaskSet

    def __post_init__(self) -> None:
        sizes = {
            "image": self.image.shape[:2],
            "initial depth": self.initial.size,
            "true depth": self.depth.size,
            "masks": self.masks.size,
        }
        if len(set(sizes.values())) > 1:
            stated = ", ".join(f"{part} {size}" for part, size in sizes.items())
            raise ValueError(f"The parts of sample {self.name} differ in size: {stated}.")
