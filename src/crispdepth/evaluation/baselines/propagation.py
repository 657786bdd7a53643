"""Layered propagation: the two-layer composite with Telea inpainting in place of a network."""

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.types import BoolMap, Float32Map, MaskSet

KERNEL = np.ones((5, 5), np.uint8)
TELEA_RADIUS = 3  # pixels; the paper does not state it


def layered_propagation(
    image: NDArray[np.uint8], inverse_depth: Float32Map, masks: MaskSet
) -> Float32Map:
    """Each mask's two layers inpainted from their own side, composited with the mask.

    *Layered Depth Refinement with Mask Guidance*, the baseline "Layered-propagation": the
    background layer is inpainted inside the dilated mask, the foreground layer outside the eroded
    mask (5 x 5). Masks are cut at 0.5, as the paper's are; several are merged as in its
    section on instance maps.

    Args:
        image: (h, w, 3), not used.
        inverse_depth: (h, w), on any affine scale.
        masks: (n, h, w).
    """
    return merge_by_change(
        inverse_depth, (_propagate(inverse_depth, masks[i] >= 0.5) for i in range(len(masks)))
    )


def merge_by_change(initial: Float32Map, refinements: Iterable[Float32Map]) -> Float32Map:
    """Per pixel the refinement that differs most from ``initial`` (the first of equals).

    The paper's rule for several masks; it keeps one map at a time.
    """
    merged = initial.copy()
    for refined in refinements:
        np.copyto(merged, refined, where=np.abs(refined - initial) > np.abs(merged - initial))
    return merged


def _propagate(inverse_depth: Float32Map, mask: BoolMap) -> Float32Map:
    inside = mask.astype(np.uint8)
    background = _telea(inverse_depth, cv2.dilate(inside, KERNEL) > 0)
    foreground = _telea(inverse_depth, cv2.erode(inside, KERNEL) == 0)
    return np.where(mask, foreground, background)


def _telea(values: Float32Map, hole: BoolMap) -> Float32Map:
    """``values`` with the hole inpainted; unchanged where there is nothing to inpaint from.

    The work is done on 16-bit counts because OpenCV adds a gradient term of up to 1.4 counts
    whatever the range of the data: on floats near 1 it would outweigh the depth.
    """
    low, high = float(values.min()), float(values.max())
    if not hole.any() or hole.all() or low == high:
        return values
    step = (high - low) / np.iinfo(np.uint16).max
    counts = np.rint((values - np.float32(low)) / np.float32(step)).astype(np.uint16)
    filled = cv2.inpaint(counts, hole.astype(np.uint8), TELEA_RADIUS, cv2.INPAINT_TELEA)
    restored = filled.astype(np.float32) * np.float32(step) + np.float32(low)
    return np.where(hole, restored, values)
