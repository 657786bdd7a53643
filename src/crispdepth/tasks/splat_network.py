"""Gaussians of views by the head of the multi-view network, on depths that were found before.

Views that see the same are looked at together, a few at a time, cut to their masks.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from crispdepth.models.multiview.network import MultiviewNetwork, MultiviewPrediction
from crispdepth.ops.resample import size_within
from crispdepth.ops.splat import Splats
from crispdepth.tasks.multiview_network import Sighting, tensor, windows
from crispdepth.tasks.multiview_photos import prepare
from crispdepth.types import Float32Map, Gaussians, View, ViewDepth

LONGEST = 320
"""Longer side, pixels, of the photos that the network is shown at most."""

TOGETHER = 6
"""Views that are looked at together; the next ones in the order of the scene."""

_LEAST_CONFIDENCE = 0.1  # below it a pixel becomes no Gaussian
_LEAST_OPACITY = 0.02  # and below this one


class Seen(NamedTuple):
    """Views of one size with their depth, and what the network makes of them."""

    photos: list[Sighting]
    found: MultiviewPrediction  # its depth is that of the views, if they have one
    known: Tensor  # (1, V, 1, H, W) in [0, 1]: mask, and whether there is a depth


def network_gaussians(
    network: MultiviewNetwork,
    views: Sequence[tuple[View, ViewDepth]],
    *,
    longer: int = LONGEST,
    device: torch.device | None = None,
) -> list[Gaussians]:
    """The Gaussians of each view, one for each pixel of it at the size that it is looked at.

    Args:
        network: with a head for Gaussians, in evaluation mode, on ``device``.
        views: with cameras and depth; neighbours see the same.
        longer: pixels of the longer side of the photos.
        device: where to compute; None: the CPU.

    Raises:
        ValueError: no view has depth.
    """
    device = device or torch.device("cpu")
    made = []
    for first in range(0, len(views), TOGETHER):
        group = views[first : first + TOGETHER]
        z = np.concatenate([depth.depth.values[depth.depth.usable] for _, depth in group])
        if not z.size:
            continue
        near, far = 0.9 * float(z.min()), 1.1 * float(z.max())
        photos = sightings([view for view, _ in group], longer)
        seen = looked_at(network, photos, near, far, device, [depth for _, depth in group])
        made += gaussians_of(network, seen)
    if not made:
        raise ValueError("No view has a pixel of known depth, so there are no Gaussians of any.")
    return made


def sightings(views: Sequence[View], longer: int) -> list[Sighting]:
    """The photos of views with what their masks say, in windows of one size about these."""
    photos = []
    for view in views:
        assert view.camera is not None
        photo = prepare(view, size_within(longer, view.camera.size))
        inside = photo.evidence.inside is not None
        photos.append(Sighting(photo.camera, photo.seen, photo.evidence.weight, carves=inside))
    return windows(photos)[0]


@torch.inference_mode()
def looked_at(
    network: MultiviewNetwork,
    photos: list[Sighting],
    near: float,
    far: float,
    device: torch.device,
    depths: Sequence[ViewDepth] | None = None,
) -> Seen:
    """What the network makes of photos of one size, all at once.

    Args:
        network: see `network_gaussians`.
        photos: see `sightings`.
        near, far: the range of depth.
        device: where to compute.
        depths: of the same views, in any size; None: that of the network.
    """
    images, K, poses, masks = _inputs(photos, device)
    bounds = torch.full((2, 1, len(photos)), near, device=device)
    bounds[1] = far
    carve = all(photo.carves for photo in photos if photo.weight is not None)
    found = network(images, K, poses, bounds[0], bounds[1], masks, carve=carve)
    known = torch.ones_like(images[:, :, :1]) if masks is None else masks
    if depths is not None:
        given = [_in_window(*pair, far) for pair in zip(photos, depths, strict=True)]
        inverse, sure = (tensor(np.stack(parts), device) for parts in zip(*given, strict=True))
        found = found._replace(inverse_depth=inverse, probability=F.avg_pool2d(sure, 2))
        known = known * (sure >= _LEAST_CONFIDENCE)[:, :, None]
    return Seen(photos, found, known)


@torch.inference_mode()
def gaussians_of(network: MultiviewNetwork, seen: Seen) -> list[Gaussians]:
    """Of each of the views, those that can be seen at all."""
    images, K, poses, _ = _inputs(seen.photos, seen.known.device)
    return [_visible(each) for each in network.splats(images, seen.found, K, poses, seen.known)]


def _visible(splats: Splats) -> Gaussians:
    kept = splats.opacities >= _LEAST_OPACITY
    means, scales, turns, opacities, sh = (part[kept].cpu().numpy() for part in splats[:5])
    return Gaussians(means, scales, turns, opacities, sh)


def _inputs(
    photos: Sequence[Sighting], device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Images in [0, 1], K, poses and masks, each with a batch of 1."""
    weights = [photo.weight for photo in photos if photo.weight is not None]
    images = np.stack([photo.rgb for photo in photos]).transpose(0, 3, 1, 2)
    return (
        tensor(images, device) / 255,
        tensor(np.stack([photo.camera.K for photo in photos]), device),
        tensor(np.stack([photo.camera.cam_from_world for photo in photos]), device),
        tensor(np.stack(weights)[:, None], device) if weights else None,
    )


def _in_window(photo: Sighting, given: ViewDepth, far: float) -> tuple[Float32Map, Float32Map]:
    """Inverse depth in the pixels of a window on the same view, and how sure it is, 0 = unknown."""
    camera = given.depth.camera
    assert camera is not None
    height, width = photo.camera.size
    there_from_here = (camera.K @ np.linalg.inv(photo.camera.K))[:2]
    shifted = there_from_here @ np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
    shifted[:, 2] -= 0.5
    how = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    sure = np.where(given.depth.usable, given.confidence, 0)
    z, sure = (
        cv2.warpAffine(np.asarray(values, np.float32), shifted, (width, height), flags=how)
        for values in (given.depth.values, sure)
    )
    inverse = np.where(sure > 0, 1 / np.where(sure > 0, z, 1), 1 / far)
    return inverse.astype(np.float32), np.asarray(sure, np.float32)
