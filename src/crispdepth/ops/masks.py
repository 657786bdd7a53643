"""Operations on masks."""

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.ops.resample import same_aspect
from crispdepth.types import BoolMap, MaskSet, Size

MIN_SHARE = 0.01
"""An instance counts when it covers more than this share of its map (Layered Depth Refinement
with Mask Guidance)."""

_BLOCK = 1 << 20  # pixels that are counted at once; NumPy takes 8 bytes for each


class Instances(NamedTuple):
    """The instances of a label map, one mask each."""

    masks: NDArray[np.uint8]  # (n, h, w), 255 inside, 0 outside
    ids: tuple[int, ...]  # of the masks, ascending
    too_small: tuple[int, ...]  # ids that were left out


def instances_from_labels(labels: NDArray[Any], min_share: float = MIN_SHARE) -> Instances:
    """One mask for each id above 0 that covers more than ``min_share`` of the map.

    What is left out goes to whatever is nearest to it, another instance or none: as a hole in a
    mask it would be taken for background, which keys on a table are not.

    Args:
        labels: (h, w) integers; 0 and below is no instance.
        min_share: in [0, 1].
    """
    ids, counts = count_labels(labels)
    is_large = counts > min_share * labels.size
    if 0 < np.count_nonzero(is_large) < len(ids):
        labels = _filled(labels, np.isin(labels, ids[~is_large]))
    masks = np.zeros((np.count_nonzero(is_large), *labels.shape), np.uint8)
    for mask, instance in zip(masks, ids[is_large], strict=True):
        mask[labels == instance] = 255
    return Instances(masks, tuple(ids[is_large].tolist()), tuple(ids[~is_large].tolist()))


def _filled(labels: NDArray[Any], holes: BoolMap) -> NDArray[Any]:
    """The labels (h, w) with those in ``holes``, not everywhere, replaced by the nearest others."""
    _, number = cv2.distanceTransformWithLabels(
        holes.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    of_number = np.zeros(int(number.max()) + 1, labels.dtype)
    of_number[number[~holes]] = labels[~holes]
    return np.where(holes, of_number[number], labels)


def count_labels(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """The different integers above 0, ascending, and how often each occurs."""
    if labels.dtype not in (np.uint8, np.uint16):
        ids, counts = np.unique(labels, return_counts=True)
        return ids[ids > 0], counts[ids > 0]
    flat = labels.ravel()
    counts = np.zeros(np.iinfo(labels.dtype).max + 1, np.intp)
    for start in range(0, flat.size, _BLOCK):
        counts += np.bincount(flat[start : start + _BLOCK], minlength=counts.size)
    ids = np.flatnonzero(counts)
    return ids[ids > 0], counts[ids[ids > 0]]


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
