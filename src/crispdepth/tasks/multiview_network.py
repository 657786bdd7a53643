"""Depth of a view by the multi-view network: photos, cameras and masks to tensors and back."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from crispdepth.models.multiview.cost import Rig
from crispdepth.models.multiview.network import STRIDE, Look, MultiviewNetwork
from crispdepth.models.multiview.pyramid import Levels
from crispdepth.types import Camera, Float32Map, Size

MARGIN = 12
"""Pixels about a mask that the network sees of the photo."""


SMALLEST = 256
"""Longer side, pixels, to about which the largest photo of a scene (what its mask keeps of it) is
enlarged if it is smaller."""

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


class Seen(NamedTuple):
    """A view in the network: what it sees of the photo, and what it knows of that."""

    window: Sighting  # sides are multiples of `STRIDE`
    corner: tuple[int, int] | None  # (top, left) of it in the photo; None: it is all of the photo
    enlarged: int  # how many times the photo was
    size: Size  # of the photo before that
    look: Look


def enlargement(photos: Iterable[Sighting]) -> int:
    """How many times the photos of a scene are enlarged, if they, or what their masks keep, are
    small: of a thing of few cells the network sees little."""
    sides = [max(_box(photo)[2:]) for photo in photos if photo.weight is None or photo.weight.any()]
    return _times(max(sides)) if sides else 1


def _times(side: int) -> int:
    return max(1, round(SMALLEST / side))


@torch.inference_mode()
def look_at(
    network: MultiviewNetwork,
    photo: Sighting,
    near: float,
    far: float,
    device: torch.device,
    enlarged: int = 1,
) -> Seen:
    """A view alone; `listen` then tells it what others see.

    Args:
        network: in evaluation mode, on ``device``.
        photo: at working size.
        near, far: the range of depth, in the unit of the camera.
        device: where to compute.
        enlarged: how many times, see `enlargement`; less if the photo is large enough.
    """
    enlarged = min(enlarged, _times(max(_box(photo)[2:])))
    window, corner = cut_to_mask(_enlarged(photo, enlarged))
    image = tensor(window.rgb.transpose(2, 0, 1), device) / 255
    mask = None if window.weight is None else tensor(window.weight[None], device)
    K, pose = (tensor(part, device) for part in (window.camera.K, window.camera.cam_from_world))
    rig = Rig(K, pose, K.new_tensor([near]), K.new_tensor([far]))
    look = network.look(image, mask, rig)
    return Seen(window, corner, enlarged, photo.camera.size, look)


@torch.inference_mode()
def listen(network: MultiviewNetwork, own: Seen, others: Sequence[Seen]) -> Seen:
    """A view after one block more of the network's attention, in which it hears others."""
    return own._replace(look=network.listen(own.look, [other.look for other in others]))


@torch.inference_mode()
def predict(network: MultiviewNetwork, views: Sequence[Seen], near: float, far: float) -> Predicted:
    """Depth of the first view, matched with the others.

    Args:
        network: in evaluation mode, on the device of the views.
        views: the reference, then its sources, after all blocks.
        near, far: the range of depth, in the unit of the cameras.
    """
    own, device = views[0], views[0].look.rig.K.device
    masked = [view.window for view in views if view.window.weight is not None]
    shown = of_one_size([view.window for view in views])
    images = np.stack([photo.rgb for photo in shown]).transpose(0, 3, 1, 2)
    weights = [photo.weight for photo in shown if photo.weight is not None]
    full = shown[0].camera.size
    prediction = network(
        tensor(images, device) / 255,
        tensor(np.stack([photo.camera.K for photo in shown]), device),
        tensor(np.stack([photo.camera.cam_from_world for photo in shown]), device),
        torch.full((1, len(shown)), near, device=device),
        torch.full((1, len(shown)), far, device=device),
        tensor(np.stack(weights)[:, None], device) if weights else None,
        references=1,
        carve=bool(masked) and all(photo.carves for photo in masked),
        maps=Levels(
            *(
                torch.cat([_grown(view.look.maps[level], full, level + 1) for view in views])
                for level in range(len(Levels._fields))
            )
        ),
    )
    inverse, probability, evidence = (
        part[0, 0].float().cpu().numpy()
        for part in (prediction.inverse_depth, prediction.probability, prediction.evidence)
    )
    probability = cv2.resize(probability, full[::-1], interpolation=cv2.INTER_LINEAR)
    seen = cv2.resize(evidence, full[::-1], interpolation=cv2.INTER_NEAREST) > 0
    rows, columns = own.window.camera.size
    found = [part[:rows, :columns] for part in (inverse, (probability * seen).clip(LEAST_SURE, 1))]
    if own.corner is None:
        return Predicted(*(_nearest(part, own.size) for part in found))
    size = (own.enlarged * own.size[0], own.enlarged * own.size[1])
    values = np.full(size, 1 / far, np.float32), np.zeros(size, np.float32)
    top, left = own.corner
    there = slice(max(top, 0), top + rows), slice(max(left, 0), left + columns)
    for target, part in zip(values, found, strict=True):
        cut = target[there]
        cut[:] = part[max(-top, 0) :, max(-left, 0) :][: cut.shape[0], : cut.shape[1]]
    return Predicted(*(_nearest(part, own.size) for part in values))


def _grown(maps: Tensor, full: Size, level: int) -> Tensor:
    """Maps at 1 / 2^level, continued with nothing to the right and below to those of ``full``."""
    down, right = (side // 2**level - have for side, have in zip(full, maps.shape[2:], strict=True))
    return F.pad(maps, (0, right, 0, down))


def of_one_size(windows: Sequence[Sighting]) -> list[Sighting]:
    """Windows as large as the largest, continued to the right and below, where their masks are 0.

    All get masks if one has any, or if they are not as large as each other.
    """
    sizes = [photo.camera.size for photo in windows]
    height, width = max(size[0] for size in sizes), max(size[1] for size in sizes)
    if len(set(sizes)) == 1 and all(photo.weight is None for photo in windows):
        return list(windows)
    shown = []
    for photo, size in zip(windows, sizes, strict=True):
        weight = np.ones(size, np.float32) if photo.weight is None else photo.weight
        border = (0, height - size[0]), (0, width - size[1])
        shown.append(
            Sighting(
                replace(photo.camera, size=(height, width)),
                np.pad(photo.rgb, (*border, (0, 0)), mode="edge"),
                np.pad(weight, border),
                photo.carves,
            )
        )
    return shown


def cut_to_mask(photo: Sighting) -> tuple[Sighting, tuple[int, int] | None]:
    """The window about what the mask keeps, and its (top, left) corner in the photo.

    Beyond the frame the photo is continued, and its mask is 0. Without a mask it is the whole
    photo, its sides rounded to what the network takes, and no corner.
    """
    if photo.weight is None:
        return whole(photo, photo.camera.size), None
    top, left, rows, columns = _box(photo)
    height, width = _sides((rows, columns), np.ceil)
    top, left = top - (height - rows) // 2, left - (width - columns) // 2
    frame_height, frame_width = photo.camera.size
    y = np.arange(top, top + height).clip(0, frame_height - 1)
    x = np.arange(left, left + width).clip(0, frame_width - 1)
    inside = np.zeros((height, width), np.float32)
    kept = slice(max(-top, 0), frame_height - top), slice(max(-left, 0), frame_width - left)
    inside[kept] = photo.weight[np.ix_(y, x)][kept]
    shift = np.array([[1.0, 0, -left], [0, 1, -top], [0, 0, 1]])
    camera = replace(photo.camera, K=shift @ photo.camera.K, size=(height, width))
    return Sighting(camera, photo.rgb[np.ix_(y, x)], inside, photo.carves), (top, left)


def whole(photo: Sighting, size: Size) -> Sighting:
    """All of a photo in about the given size, its sides multiples of `STRIDE`; without its mask."""
    size = _sides(size, round)
    if size == photo.camera.size:
        return photo._replace(weight=None)
    rgb = cv2.resize(photo.rgb, size[::-1], interpolation=cv2.INTER_AREA)
    return Sighting(_stretched(photo.camera, size), rgb.astype(np.uint8), None)


def _enlarged(photo: Sighting, times: int) -> Sighting:
    if times == 1:
        return photo
    height, width = (side * times for side in photo.camera.size)
    rgb = cv2.resize(photo.rgb, (width, height), interpolation=cv2.INTER_CUBIC)
    weight = photo.weight
    if weight is not None:
        grown = cv2.resize(weight, (width, height), interpolation=cv2.INTER_LINEAR)
        weight = np.asarray(grown, np.float32)
    camera = _stretched(photo.camera, (height, width))
    return Sighting(camera, rgb.astype(np.uint8), weight, photo.carves)


def _box(photo: Sighting) -> tuple[int, int, int, int]:
    """(top, left, height, width) of what is evidence with a margin, within the frame; a pixel if
    nothing is."""
    weight, (height, width) = photo.weight, photo.camera.size
    if weight is None:
        return 0, 0, height, width
    if not weight.any():
        return 0, 0, 1, 1
    left, top, columns, rows = cv2.boundingRect((weight > 0).astype(np.uint8))
    first = max(top - MARGIN, 0), max(left - MARGIN, 0)
    last = min(top + rows + MARGIN, height), min(left + columns + MARGIN, width)
    return *first, last[0] - first[0], last[1] - first[1]


def _nearest(values: Float32Map, size: Size) -> Float32Map:
    """A map at another size, no value of which is new: depth between two surfaces is none."""
    if values.shape == size:
        return values
    return np.asarray(cv2.resize(values, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT))


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
