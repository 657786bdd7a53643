"""Operations on masks."""

import cv2
import numpy as np

from crispdepth.ops.resample import same_aspect
from crispdepth.types import MaskSet, Size


def resize_masks(masks: MaskSet, size: Size) -> MaskSet:
    """The masks at ``size`` (height, width): area average to shrink, bilinear to grow.

    Names, role and number type stay; soft borders stay soft and hard ones become soft.

    Raises:
        ValueError: ``size`` has another aspect ratio than the masks.
    """
    if size == masks.size:
        return masks
    if not same_aspect(masks.size, size):
        raise ValueError(
            f"The mask is {masks.size[0]} x {masks.size[1]} pixels (height x width) and the photo "
            f"{size[0]} x {size[1]}: they have different aspect ratios. Crop or export the mask "
            "for this photo."
        )
    shrinks = size[0] <= masks.size[0] and size[1] <= masks.size[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    values = np.empty((len(masks), *size), masks.values.dtype)
    for mask, resized in zip(masks.values, values, strict=True):
        cv2.resize(mask, size[::-1], dst=resized, interpolation=interpolation)
    if values.dtype == np.float32:
        values.clip(0, 1, out=values)  # averages may exceed 1 by rounding
    return MaskSet(values, masks.names, masks.role)
