"""Public and rendered datasets as streams of samples: one file per dataset format."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crispdepth.types import DepthMap, Float32Map, MaskSet


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
        _require_one_size(
            f"sample {self.name}",
            {
                "image": self.image.shape[:2],
                "initial depth": self.initial.size,
                "true depth": self.depth.size,
                "masks": self.masks.size,
            },
        )


@dataclass(frozen=True, eq=False)
class RgbdFrame:
    """A photo with its true depth and, if there are any, instance ids, rough depth, camera, mask.

    The camera, if known, is that of ``depth``. Every dataset of this package is a
    `collections.abc.Sequence` of these, whose frames are read from disk when they are asked for.

    Raises:
        ValueError: the photo is not (h, w, 3) uint8, the true depth is no z-depth, the ids are
            not int32, the rough depth is not float32, the mask is not uint8, or the sizes differ.
    """

    name: str  # unique in its dataset
    image: NDArray[np.uint8]  # (h, w, 3), sRGB
    depth: DepthMap  # the true z-depth; invalid where it was not measured
    instances: NDArray[np.int32] | None = None  # (h, w) ids, 0 = none
    rough: Float32Map | None = None  # (h, w) relative inverse depth that a network saw in the photo
    mask: NDArray[np.uint8] | None = None  # (h, w), 255 = all of the pixel shows the scene's object

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(
                f"The photo of frame {self.name} must be (h, w, 3) uint8, "
                f"got {self.image.shape} {self.image.dtype}."
            )
        if self.depth.kind != "depth":
            raise ValueError(
                f"The true depth of frame {self.name} must be z-depth (kind depth), "
                f"got {self.depth.kind}."
            )
        sizes = {"image": self.image.shape[:2], "depth": self.depth.size}
        if self.instances is not None:
            if self.instances.dtype != np.int32:
                raise ValueError(
                    f"The instance ids of frame {self.name} must be int32, "
                    f"got {self.instances.dtype}."
                )
            sizes["instances"] = self.instances.shape
        if self.rough is not None:
            if self.rough.dtype != np.float32:
                raise ValueError(
                    f"The rough depth of frame {self.name} must be float32, got {self.rough.dtype}."
                )
            sizes["rough"] = self.rough.shape
        if self.mask is not None:
            if self.mask.dtype != np.uint8:
                raise ValueError(
                    f"The mask of frame {self.name} must be uint8, got {self.mask.dtype}."
                )
            sizes["mask"] = self.mask.shape
        _require_one_size(f"frame {self.name}", sizes)


def _require_one_size(owner: str, sizes: Mapping[str, tuple[int, ...]]) -> None:
    if len(set(sizes.values())) > 1:
        stated = ", ".join(f"{part} {size}" for part, size in sizes.items())
        raise ValueError(f"The parts of {owner} differ in size: {stated}.")
