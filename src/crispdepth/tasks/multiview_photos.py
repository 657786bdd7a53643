"""Photos at the size at which they are matched, and the part of them that their masks are in."""

from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.ops.fill import pull_push
from crispdepth.ops.mask_contract import Evidence, erode, evidence, grow
from crispdepth.ops.resample import shrink
from crispdepth.types import Camera, Float32Map, Size, View

_GRAZE = 2  # pixels beside the silhouette in which there may still be the object
_THIN = 4  # radius of what is too thin for that: there a silhouette says more than matching


class Photo(NamedTuple):
    """A view at working size."""

    camera: Camera
    seen: NDArray[np.uint8]  # (h, w, 3)
    rgb: NDArray[np.uint8]  # (h, w, 3), continued beyond its mask
    grey: Float32Map  # (h, w) in [0, 1]
    evidence: Evidence
    # How much a pixel says where this is the source of another view, (h, w) in [0, 1]; None: 1.
    source_weight: Float32Map | None


def prepare(view: View, size: Size) -> Photo:
    """A view at working size."""
    assert view.camera is not None  # a scene's views have one
    image = view.image if view.image.dtype == np.uint8 else (view.image >> 8).astype(np.uint8)
    seen, meaning = shrink(image, size), evidence(view.masks, size)
    rgb = seen
    if meaning.weight is not None and meaning.weight.any():
        # Interpolation at the border of the mask must not see what is beside it.
        filled = pull_push(rgb.astype(np.float32), (meaning.weight > 0).astype(np.float32))
        rgb = np.rint(filled).clip(0, 255).astype(np.uint8)
    grey = cv2.cvtColor(rgb.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2GRAY)
    return Photo(view.camera.resized(size), seen, rgb, grey, meaning, _source_weight(meaning))


def _source_weight(meaning: Evidence) -> Float32Map | None:
    """The weight with what grazes the silhouette of an object.

    Cut exactly there, of the errors of matching those towards the camera would be gone, and all
    depth would lie behind. Colours are continued beside the mask.
    """
    if meaning.weight is None or meaning.inside is None:
        return meaning.weight
    thick = grow(erode(meaning.weight, _THIN), _THIN + _GRAZE)
    return np.maximum(meaning.weight, thick)


def crop(photo: Photo) -> tuple[Photo, tuple[slice, slice]]:
    """The part of a photo that its mask is in, with the windows about it, and where that is."""
    weight = photo.evidence.weight
    if weight is None or not weight.any():
        return photo, (slice(None), slice(None))
    ends = []
    for axis, length in ((1, weight.shape[0]), (0, weight.shape[1])):
        there = np.flatnonzero(weight.any(axis=axis))
        ends.append((max(int(there[0]) - 4, 0), min(int(there[-1]) + 5, length)))
    (top, bottom), (left, right) = ends
    region = slice(top, bottom), slice(left, right)
    shift = np.array([[1.0, 0, -left], [0, 1, -top], [0, 0, 1]])
    camera = replace(photo.camera, K=shift @ photo.camera.K, size=(bottom - top, right - left))
    inside = photo.evidence.inside
    cut = Evidence(weight[region], None if inside is None else inside[region])
    seen, rgb, grey = photo.seen[region], photo.rgb[region], photo.grey[region]
    told = photo.source_weight
    return Photo(camera, seen, rgb, grey, cut, None if told is None else told[region]), region
