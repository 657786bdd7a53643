"""Layered depth refinement: two completed layers, composited with the full-resolution mask."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crispdepth.types import DepthMap, LayerCompleter, MaskSet, RefinedDepth


@dataclass(frozen=True)
class RefineConfig:
    """How to composite; how to complete is the completer's business."""

    # A mask counts when it covers more than this share of the photo (label maps only).
    min_share: float = 0.01
    # Composite with the mask thresholded at 0.5: no depths between the layers (for geometry).
    hard_masks: bool = False
    # Keep every mask's layer pair in the result; without them memory does not grow with masks.
    keep_layers: bool = True


def refine_depth(
    image: NDArray[np.uint8] | NDArray[np.uint16],  # (h, w, 3), sRGB
    depth: DepthMap,  # (h, w)
    masks: MaskSet,  # (n, h, w)
    *,
    completer: LayerCompleter | None = None,  # None: the classical completer
    config: RefineConfig = RefineConfig(),
) -> RefinedDepth:
    """The depth map with crisp boundaries where the masks have theirs.

    Raises:
        ValueError: sizes differ, or the depth is empty or constant.
    """
    raise NotImplementedError
