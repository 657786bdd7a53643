"""Depth of single views of a posed scene: a sweep or a network of small photos, then refined.

Classically a view is swept with planes, aggregated semi-globally without crossing the borders of
masks and refined at full resolution: the untrained baseline.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d

from crispdepth.geometry.view_selection import disparity_range
from crispdepth.geometry.warp import inverse_depth_planes, transfer
from crispdepth.models.multiview.network import MultiviewNetwork
from crispdepth.models.volume.stereo import StereoNetwork
from crispdepth.ops.fill import pull_push
from crispdepth.ops.mask_contract import depth_inside
from crispdepth.ops.plane_sweep import (
    Agreement,
    Source,
    Windows,
    chunks,
    compare,
)
from crispdepth.ops.resample import joint_upsample, size_within, upsample
from crispdepth.ops.semi_global import Smoothness, semi_global, winner
from crispdepth.tasks.multiview_agreement import Estimate
from crispdepth.tasks.multiview_config import LONGER_SIDE, MultiviewConfig
from crispdepth.tasks.multiview_network import (
    Seen,
    Sighting,
    enlargement,
    listen,
    look_at,
    predict,
)
from crispdepth.tasks.multiview_photos import Photo, crop, prepare
from crispdepth.tasks.volume_stereo import predict_stereo
from crispdepth.types import Camera, Float32Map, Scene, Size

SWEPT = 320
"""Pixels of the longer side at which the planes are swept; finer maps refine that."""

_PLANES = (32, 128)  # fewest and most planes
_SHARPNESS = 2.0  # see `compare`
_SMOOTHNESS = Smoothness(small=0.25, large=2.0, edge=0.03)
_OFFSETS = 7  # inverse depths tried about the one found at half the resolution
_STAY = 0.001  # what the first step of these costs, in correlation; it grows with the square
_POLISH = 0.4  # steps of planes, of the network coarse ones, that their answer is looked about
_ABOUT = 2  # pixels about one whose windows are compared with those of another depth
_HALF_SURE = 0.4  # margin of the aggregated costs at which the confidence is 1/2
_MASK_SOFTNESS = 0.7  # pixels
_CACHED = 48  # photos at working size that are kept


class Sketch(NamedTuple):
    """Depth of a small photo."""

    inverse: Float32Map  # (h, w), > 0
    confidence: Float32Map  # (h, w) in [0, 1]; 0 where there is none
    step: float  # how far about it finer depth is looked for at first, times 2


class Matching:
    """Photos of a scene at working sizes, and the depths that they show: of each view alone.

    Several threads may ask at once.

    Attributes:
        scene, config, device: what it was made with.
    """

    def __init__(
        self,
        scene: Scene,
        config: MultiviewConfig,
        network: MultiviewNetwork | StereoNetwork | None,
        device: torch.device,
    ) -> None:
        """See `crispdepth.tasks.multiview.estimate_depths`."""
        self.scene, self.config, self.device = scene, config, device
        self._network = network
        self._reading = Lock()
        self._photos: OrderedDict[tuple[int, Size], Photo] = OrderedDict()

    def photo(self, index: int, size: Size) -> Photo:
        """View ``index`` at ``size``; the last few are kept."""
        with self._reading:
            if (index, size) in self._photos:
                self._photos.move_to_end((index, size))
            else:
                self._photos[index, size] = prepare(self.scene[index], size)
                if len(self._photos) > _CACHED:
                    self._photos.popitem(last=False)
            return self._photos[index, size]

    @property
    def blocks(self) -> int | None:
        """How often views hear each other before the network matches them; None: there is none."""
        network = self._network
        return network.config.attention_blocks if isinstance(network, MultiviewNetwork) else None

    def swept(self, index: int) -> Photo:
        """View ``index`` at the size at which it is swept and the network sees it."""
        return self.photo(index, size_within(SWEPT, self._full(index)))

    def enlargement(self, indices: Sequence[int]) -> int:
        """How many times the network sees the scene enlarged, by some of its views."""
        return enlargement([_sighting(self.swept(index)) for index in indices])

    def look(self, index: int, near: float, far: float, enlarged: int) -> Seen:
        """What the network knows of a view alone, see `look_at`."""
        assert isinstance(self._network, MultiviewNetwork)
        photo = _sighting(self.swept(index))
        return look_at(self._network, photo, near, far, self.device, enlarged)

    def listen(self, own: Seen, others: Sequence[Seen]) -> Seen:
        """What it knows when it has heard others once more."""
        assert isinstance(self._network, MultiviewNetwork)
        return listen(self._network, own, others)

    def match(
        self,
        index: int,
        chosen: tuple[int, ...],
        near: float,
        far: float,
        seen: Sequence[Seen],
    ) -> Estimate:
        """Depth of one view: a sweep of the small photos, then refined at each finer size.

        Args:
            index: of the view.
            chosen: the views that it is matched with.
            near, far: the range of its depth.
            seen: what the network knows of it and of those, if it is the multi-view network.
        """
        full = self._full(index)
        scales = [longer for longer in (SWEPT, 2 * SWEPT, 4 * SWEPT) if longer < max(full)]
        sizes = [size_within(longer, full) for longer in scales] + [full]
        photo = self.photo(index, full)
        weight = photo.evidence.weight
        if not chosen or (weight is not None and weight.max() < 0.5):
            nothing = np.zeros(full, np.float32)
            return Estimate(photo.camera, nothing + np.float32(1 / far), nothing)
        small = self.photo(index, sizes[0])
        found = []
        if not isinstance(self._network, StereoNetwork):
            found.append(self.sweep(small, chosen, near, far))
        if self._network is not None:
            found.append(self._predict(small, chosen, near, far, seen))
        found = [self._polished(small, chosen, each, near, far) for each in found]
        inverse, confidence, step = found[0]
        if len(found) > 1:
            inverse, confidence = self._better(small, chosen, *found)
        for size in sizes[1:]:
            if small.evidence.weight is not None:  # what is beside the mask must not bleed into it
                inverse = pull_push(inverse, (small.evidence.weight >= 0.5).astype(np.float32))
            coarse, small = small, self.photo(index, size)
            guide = coarse.rgb.astype(np.float32) / np.float32(255)
            inverse = joint_upsample(inverse, guide, small.rgb)
            confidence = upsample(confidence, size)
            step /= 2
            inverse, agreement = self._refine(small, chosen, inverse, step)
            confidence = confidence * agreement
        return _estimate(small, inverse.clip(1 / far, 1 / near), confidence)

    def _predict(
        self, photo: Photo, chosen: tuple[int, ...], near: float, far: float, seen: Sequence[Seen]
    ) -> Sketch:
        """Of a small photo, by the network."""
        assert self._network is not None
        if isinstance(self._network, StereoNetwork):
            others = [self.photo(other, self._size_like(other, photo)) for other in chosen]
            photos = [_sighting(each) for each in (photo, *others)]
            found = predict_stereo(self._network, photos, near, far, self.device)
            (inverse, probability), step = found.predicted, found.step
        else:
            inverse, probability = predict(self._network, seen, near, far)
            step = (1 / near - 1 / far) / (self._network.config.planes[0] - 1)
        return Sketch(inverse, probability, step)

    def _polished(
        self, photo: Photo, chosen: Sequence[int], sketch: Sketch, near: float, far: float
    ) -> Sketch:
        """With the best depths within a part of a step: smoothness, in steps of planes, flattens
        what is round."""
        inverse, _ = self._refine(photo, chosen, sketch.inverse, _POLISH * sketch.step)
        return sketch._replace(inverse=inverse.clip(1 / far, 1 / near))

    def _better(
        self, photo: Photo, chosen: Sequence[int], one: Sketch, other: Sketch
    ) -> tuple[Float32Map, Float32Map]:
        """Of two depths of a photo with their confidences, at each pixel the one at which the
        windows about it look more alike."""
        _, region = crop(photo)
        compare_at = self.compared(photo, chosen)
        costs = [compare_at(self.tensor(each.inverse[region])) for each in (one, other)]
        first, second = (avg_pool2d(cost[None], 2 * _ABOUT + 1, 1, _ABOUT)[0] for cost in costs)
        takes = np.zeros(photo.camera.size, bool)
        takes[region] = (second < first).cpu().numpy()
        inverse = np.where(takes, other.inverse, one.inverse)
        return inverse, np.where(takes, other.confidence, one.confidence)

    def sweep(self, photo: Photo, chosen: Sequence[int], near: float, far: float) -> Sketch:
        """Depth of a small photo, matched with the chosen views by a sweep of planes."""
        part, region = crop(photo)
        size = part.camera.size
        others = [self.photo(other, self._size_like(other, photo)) for other in chosen]
        longest = disparity_range(part.camera, [other.camera for other in others], near, far)
        count = int(np.clip(np.ceil(longest) + 1, *_PLANES))
        planes = inverse_depth_planes(near, far, count)
        rho = self.tensor(planes)
        windows = Windows(self.tensor(part.grey), self.optional(part.evidence.weight), radius=1)
        sources = [self._source(part.camera, other) for other in others]
        cost = torch.empty((count, *size), device=self.device)
        for depths in chunks(count, size):
            cost[depths] = _cost(compare(windows, sources, rho[depths], size, _SHARPNESS))
        side = self.optional(part.evidence.weight)
        best = winner(semi_global(cost, self.tensor(part.grey), side, _SMOOTHNESS))
        step = float(planes[1] - planes[0])
        inverse = np.full(photo.camera.size, 1 / far, np.float32)
        confidence = np.zeros(photo.camera.size, np.float32)
        inverse[region] = (planes[0] + step * best.plane).cpu().numpy()
        confidence[region] = (best.margin / (best.margin + _HALF_SURE)).cpu().numpy()
        return Sketch(inverse, confidence, step)

    def _refine(
        self, photo: Photo, chosen: Sequence[int], inverse: Float32Map, reach: float
    ) -> tuple[Float32Map, Float32Map]:
        """The best inverse depth within ``reach`` of one that is roughly known, and how well it
        agrees, in [0, 1]. Pixels are warped with the depth of each, so slanted windows match.
        """
        part, region = crop(photo)
        compare_at = self.compared(photo, chosen)
        offsets = np.linspace(-reach, reach, _OFFSETS)
        known = self.tensor(inverse[region])
        cost = torch.empty((_OFFSETS, *part.camera.size), device=self.device)
        for number, offset in enumerate(offsets):
            stay = _STAY * (number - _OFFSETS // 2) ** 2
            cost[number] = compare_at((known + offset).clamp_min(0)) + stay
        best = winner(cost)
        found, agreement = inverse.copy(), np.zeros_like(inverse)
        found[region] = (known - reach + best.plane * float(offsets[1] - offsets[0])).cpu().numpy()
        agreement[region] = (1 - best.cost).clamp(0, 1).cpu().numpy()
        return found, agreement

    def compared(self, photo: Photo, chosen: Sequence[int]) -> Callable[[Tensor], Tensor]:
        """What inverse depths (h, w) of the crop of a photo cost, by windows of its resolution."""
        part, _ = crop(photo)
        others = [self.photo(other, self._size_like(other, photo)) for other in chosen]
        sources = [self._source(part.camera, other) for other in others]
        windows = Windows(self.tensor(part.grey), self.optional(part.evidence.weight), radius=3)
        size = part.camera.size
        return lambda rho: _cost(compare(windows, sources, rho[None], size, _SHARPNESS))[0]

    def _full(self, index: int) -> Size:
        """The size of the depth map of view ``index``."""
        return size_within(LONGER_SIDE[self.config.quality], self.scene.cameras[index].size)

    def _size_like(self, other: int, photo: Photo) -> Size:
        """The size at which view ``other`` has about the detail of ``photo``."""
        return size_within(max(photo.camera.size), self.scene.cameras[other].size)

    def _source(self, reference: Camera, other: Photo) -> Source:
        return Source(
            self.tensor(other.grey),
            transfer(reference, other.camera),
            self.optional(other.source_weight),
            carves=other.evidence.inside is not None,
        )

    def optional(self, values: Float32Map | None) -> Tensor | None:
        """`tensor`, or None."""
        return None if values is None else self.tensor(values)

    def tensor(self, values: NDArray[np.floating[Any]]) -> Tensor:
        """A copy on the device."""
        return torch.as_tensor(values.astype(np.float32), device=self.device)


def _sighting(photo: Photo) -> Sighting:
    carves = photo.evidence.inside is not None
    return Sighting(photo.camera, photo.seen, photo.evidence.weight, carves)


def _estimate(photo: Photo, inverse: Float32Map, confidence: Float32Map) -> Estimate:
    """An estimate that says nothing beside the mask, and little at its border."""
    weight = photo.evidence.weight
    if weight is not None:
        confidence = confidence * depth_inside(weight, _MASK_SOFTNESS)
        confidence = np.where(weight >= 0.5, confidence, 0)
    return Estimate(photo.camera, inverse, confidence.astype(np.float32))


def _cost(agreement: Agreement) -> Tensor:
    """What a plane costs, in [0, 2]: 1 without evidence or beside the silhouettes."""
    return 1 - agreement.similarity * (1 - agreement.outside)
