"""What a mask means to every stage that reconstructs, said once.

* Values are soft, in [0, 1], and stay soft; 1 = inside.
* Role ``object``: what shall be reconstructed; beside it there is nothing of interest.
* Role ``ignore``: pixels that are no evidence for anything; what is there is not known.
* A view without masks is *unknown*, not empty: all of it is evidence, nothing of it is carved.
* A mask of ones is the same as no mask, exactly.
* To shrink a soft mask is to average areas (`crispdepth.ops.masks.resize_masks`), never to pick
  pixels.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from crispdepth.ops.masks import resize_masks
from crispdepth.types import Float32Map, MaskSet, Size


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the masks of one view say about its pixels; None stands for ones everywhere."""

    weight: Float32Map | None = None  # (h, w) in [0, 1]: how much a pixel may say
    # (h, w) in [0, 1]: 0 = known to show nothing of the object; None: the object is unknown
    inside: Float32Map | None = None


def evidence(masks: MaskSet | None, size: Size) -> Evidence:
    """The meaning of a view's masks at ``size`` (height, width).

    Several masks of a role count as their union.

    Raises:
        ValueError: ``size`` has another aspect ratio than the masks.
    """
    if masks is None or not len(masks):
        return Evidence()
    scaled = resize_masks(masks, size)
    union = np.max([scaled[index] for index in range(len(scaled))], axis=0)
    weight = union if masks.role == "object" else 1 - union
    if (weight == 1).all():
        return Evidence()
    return Evidence(weight, weight if masks.role == "object" else None)


def grow(mask: Float32Map, radius: int) -> Float32Map:
    """Grey-scale dilation by a disc: soft borders move outwards by ``radius`` pixels."""
    return mask if radius == 0 else np.asarray(cv2.dilate(mask, _disc(radius)), np.float32)


def erode(mask: Float32Map, radius: int) -> Float32Map:
    """Grey-scale erosion by a disc; the frame is no border, so a mask of ones stays one."""
    return mask if radius == 0 else np.asarray(cv2.erode(mask, _disc(radius)), np.float32)


def depth_inside(mask: Float32Map, softness: float) -> Float32Map:
    """``sigmoid(s / softness)`` of the signed distance s to the border in pixels (spec 2.1 b).

    1/2 at the border where the mask crosses 1/2 and rising inwards; exactly 1 everywhere in a
    mask without a border, and exactly 0 in an empty one.

    Args:
        mask: (h, w) in [0, 1].
        softness: > 0, pixels.
    """
    hard = mask >= 0.5
    if hard.all() or not hard.any():
        return hard.astype(np.float32)
    inner, outer = (
        cv2.distanceTransform(side.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        for side in (hard, ~hard)
    )
    # A pixel beside the border has its centre half a pixel from it.
    signed = np.where(hard, inner - 0.5, 0.5 - outer).astype(np.float32)
    risen: Float32Map = 0.5 + 0.5 * np.tanh(signed / np.float32(2 * softness))
    return risen


def _disc(radius: int) -> np.ndarray:
    across = np.arange(-radius, radius + 1)
    return (across[:, None] ** 2 + across**2 <= radius**2 + radius * 0.5).astype(np.uint8)
