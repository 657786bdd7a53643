"""Depth of a view by the multi-view network: photos, cameras and masks to tensors and back."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crispdepth.models.multiview.network import STRIDE, MultiviewNetwork
from crispdepth.types import Camera, Float32Map, Size

MARGIN = 12
"""Pixels about a mask that the network sees of the photo."""


SMALLEST = 256
"""Longer side, pixels, to about which smaller photos (what masks keep of them) are enlarged."""

LEAST_SURE = 0.01
"""Of pixels that no source shows, too, there is a depth: what the photo alone suggests."""


class Sighting(NamedTuple):
    """A photo at working size."""

    camera: Camera
    rgb: NDArray[np.uint8]  # (h, w, 3)
    weight: Float32Map | None  # (h, w) in [0, 1]: how much a pixel may say; None: all are evidence
    carves: bool = True  # whether beside the weight the object is not; else anything may be there


class Predicted(NamedTuple):
    """Depth of a reference."""

    inverse: Float32Map  # (h, w), > 0
    probability: Float32Map  # (h, w) in [0, 1]; `LEAST_SURE` where no source shows what is there


@torch.inference_mode()
def predict(
    network: MultiviewNetwork,
    photos: Sequence[Sighting],
    near: float,
    far: float,
    device: torch.device,
) -> Predicted:
    """Depth of the first photo, matched with the others.

    Args:
        network: in evaluation mode, on ``device``.
        photos: the reference, then its sources; of about the same detail.
        near, far: the range of depth, in the unit of the cameras.
        device: where to compute.
    """
    size = photos[0].camera.size
    photos = _large_enough(photos)
    shown, region = windows(photos)
    masked = region is not None
    images = np.stack([photo.rgb for photo in shown]).transpose(0, 3, 1, 2)
    weights = [photo.weight for photo in shown if photo.weight is not None]
    views = len(shown)
    prediction = network(
        tensor(images, device) / 255,
        tensor(np.stack([photo.camera.K for photo in shown]), device),
        tensor(np.stack([photo.camera.cam_from_world for photo in shown]), device),
        torch.full((1, views), near, device=device),
        torch.full((1, views), far, device=device),
        tensor(np.stack(weights)[:, None], device) if masked else None,
        references=1,
        carve=all(photo.carves for photo in photos if photo.weight is not None),
    )
    inverse, probability, evidence = (
        part[0, 0].float().cpu().numpy()
        for part in (prediction.inverse_depth, prediction.probability, prediction.evidence)
    )
    full = inverse.shape[1], inverse.shape[0]
    probability = cv2.resize(probability, full, interpolation=cv2.INTER_LINEAR)
    seen = cv2.resize(evidence, full, interpolation=cv2.INTER_NEAREST) > 0
    found = inverse, (probability * seen).clip(LEAST_SURE, 1)
    if region is None:
        return Predicted(*(_nearest(part, size) for part in found))
    whole = photos[0].camera.size
    values = np.full(whole, 1 / far, np.float32), np.zeros(whole, np.float32)
    (top, left), (rows, columns) = region, inverse.shape
    there = slice(max(top, 0), top + rows), slice(max(left, 0), left + columns)
    for target, part in zip(values, found, strict=True):
        cut = target[there]
        cut[:] = part[max(-top, 0) :, max(-left, 0) :][: cut.shape[0], : cut.shape[1]]
    return Predicted(*(_nearest(part, size) for part in values))


def windows(photos: Sequence[Sighting]) -> tuple[list[Sighting], tuple[int, int] | None]:
    """Photos in one size that the network takes, cut to their masks where any has one.

    Then all have masks, and the second value is the (top, left) corner of the first window in its
    photo; else it is None.
    """
    if any(photo.weight is not None for photo in photos):
        return _cut_to_masks(photos)
    return of_one_size(photos), None


def _large_enough(photos: Sequence[Sighting]) -> Sequence[Sighting]:
    """The photos, enlarged a whole number of times if they, or what their masks keep, are small.

    Of a thing of few cells the network sees little.
    """
    factor = round(SMALLEST / max(max(_box(photo)[2:]) for photo in photos))
    if factor <= 1:
        return photos
    larger = []
    for photo in photos:
        height, width = (side * factor for side in photo.camera.size)
        rgb = cv2.resize(photo.rgb, (width, height), interpolation=cv2.INTER_CUBIC)
        weight = photo.weight
        if weight is not None:
            grown = cv2.resize(weight, (width, height), interpolation=cv2.INTER_LINEAR)
            weight = np.asarray(grown, np.float32)
        camera = _stretched(photo.camera, (height, width))
        larger.append(Sighting(camera, rgb.astype(np.uint8), weight, photo.carves))
    return larger


def _nearest(values: Float32Map, size: Size) -> Float32Map:
    """A map at another size, no value of which is new: depth between two surfaces is none."""
    if values.shape == size:
        return values
    return np.asarray(cv2.resize(values, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT))


def of_one_size(photos: Sequence[Sighting]) -> list[Sighting]:
    """Photos in the size of the first, rounded to what the network takes; each keeps its view."""
    height, width = size = _sides(photos[0].camera.size, round)
    shown = []
    for photo in photos:
        if photo.camera.size != size:
            rgb = cv2.resize(photo.rgb, (width, height), interpolation=cv2.INTER_AREA)
            photo = Sighting(_stretched(photo.camera, size), rgb.astype(np.uint8), None)
        shown.append(photo)
    return shown


def _cut_to_masks(photos: Sequence[Sighting]) -> tuple[list[Sighting], tuple[int, int]]:
    """Windows of one size about what the masks keep, and where that of the first begins.

    Beyond a frame the photo is continued, and its mask is 0.
    """
    boxes = [_box(photo) for photo in photos]
    needed = max(box[2] for box in boxes), max(box[3] for box in boxes)
    height, width = _sides(needed, np.ceil)
    shown, corners = [], []
    for photo, (top, left, rows, columns) in zip(photos, boxes, strict=True):
        top, left = top - (height - rows) // 2, left - (width - columns) // 2
        frame_height, frame_width = photo.camera.size
        weight = np.ones(photo.camera.size, np.float32) if photo.weight is None else photo.weight
        y = np.arange(top, top + height).clip(0, frame_height - 1)
        x = np.arange(left, left + width).clip(0, frame_width - 1)
        inside = np.zeros((height, width), np.float32)
        kept = (
            slice(max(-top, 0), frame_height - top),
            slice(max(-left, 0), frame_width - left),
        )
        inside[kept] = weight[np.ix_(y, x)][kept]
        shift = np.array([[1.0, 0, -left], [0, 1, -top], [0, 0, 1]])
        camera = replace(photo.camera, K=shift @ photo.camera.K, size=(height, width))
        shown.append(Sighting(camera, photo.rgb[np.ix_(y, x)], inside, photo.carves))
        corners.append((top, left))
    return shown, corners[0]


def _box(photo: Sighting) -> tuple[int, int, int, int]:
    """(top, left, height, width) of what is evidence with a margin, within the frame."""
    weight, (height, width) = photo.weight, photo.camera.size
    if weight is None or not weight.any():
        return 0, 0, height, width
    left, top, columns, rows = cv2.boundingRect((weight > 0).astype(np.uint8))
    first = max(top - MARGIN, 0), max(left - MARGIN, 0)
    last = min(top + rows + MARGIN, height), min(left + columns + MARGIN, width)
    return *first, last[0] - first[0], last[1] - first[1]


def _sides(size: tuple[int, int], rounding: Any) -> Size:
    """Height and width as multiples of the network's stride."""
    height, width = (STRIDE * max(int(rounding(side / STRIDE)), 2) for side in size)
    return height, width


def _stretched(camera: Camera, size: Size) -> Camera:
    """The same view in pixels of another shape."""
    scale = np.array([size[1] / camera.size[1], size[0] / camera.size[0], 1.0])
    return replace(camera, K=scale[:, None] * camera.K, size=size)


def tensor(values: NDArray[Any], device: torch.device) -> Tensor:
    """Float32 on the device, with a batch of 1 before it."""
    return torch.as_tensor(values.astype(np.float32), device=device)[None]
