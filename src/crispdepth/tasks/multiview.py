"""Depth of every view of a posed scene, by classical matching or by a network.

Each view is matched with the views that see the same from a good angle, corrected by their depths,
and kept where these agree. Classically it is swept with planes, aggregated semi-globally
without crossing the borders of masks and refined at full resolution: the untrained baseline.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d

from crispdepth.geometry.bounds import (
    Bounds,
    bounds_from_cameras,
    bounds_from_masks,
    bounds_from_points,
    extent,
)
from crispdepth.geometry.view_selection import disparity_range, select_sources
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
from crispdepth.tasks.multiview_agreement import (
    Agreeing,
    Estimate,
    Neighbour,
    agreeing,
    corrected,
)
from crispdepth.tasks.multiview_config import LONGER_SIDE, MultiviewConfig
from crispdepth.tasks.multiview_network import Sighting, predict
from crispdepth.tasks.multiview_photos import Photo, crop, prepare
from crispdepth.tasks.volume_stereo import predict_stereo
from crispdepth.tasks.workers import workers
from crispdepth.types import Camera, DepthMap, Float32Map, Scene, Size, ViewDepth

_SWEPT = 320  # pixels of the longer side at which the planes are swept; finer maps refine that
_PROBED = 160  # pixels of the longer side at which unknown bounds are looked for
_PLANES = (32, 128)  # fewest and most planes
_SHARPNESS = 2.0  # see `compare`
_SMOOTHNESS = Smoothness(small=0.25, large=2.0, edge=0.03)
_OFFSETS = 7  # inverse depths tried about the one found at half the resolution
_STAY = 0.001  # what the first step of these costs, in correlation; it grows with the square
_POLISH = 0.4  # steps of the coarse planes of the network that its answer is looked about
_ABOUT = 2  # pixels about one whose windows are compared with those of another depth
_HALF_SURE = 0.4  # margin of the aggregated costs at which the confidence is 1/2
_MASK_SOFTNESS = 0.7  # pixels
_CARVING = 32  # views whose silhouettes bound the depths
_CACHED = 48  # photos at working size that are kept
_CORRECTIONS = 3  # times that the views correct each other


class _Sketch(NamedTuple):
    """Depth of a small photo."""

    inverse: Float32Map  # (h, w), > 0
    confidence: Float32Map  # (h, w) in [0, 1]; 0 where there is none
    step: float  # how far about it finer depth is looked for at first, times 2


def estimate_depths(
    scene: Scene,
    config: MultiviewConfig = MultiviewConfig(),  # noqa: B008  (frozen)
    *,
    indices: Sequence[int] | None = None,
    network: MultiviewNetwork | StereoNetwork | None = None,
    device: torch.device | None = None,
    note: Callable[[str], object] = lambda line: None,
) -> Iterator[tuple[int, ViewDepth]]:
    """The depth of each view with its number, as soon as it and its neighbours are matched.

    Depth maps have the scene's unit and the view's camera, resized to `LONGER_SIDE`. Invalid is
    what lies outside an object mask, what no source sees and what too few other views confirm; a
    view that no other overlaps has no valid pixel at all. Views are read when they are needed, and
    depths kept only as long as a later view is compared with them.

    Args:
        scene: posed views.
        config: see there.
        indices: views that are wanted, ascending; None: all.
        network: what finds depth, in evaluation mode: the multi-view network, beside classical
            matching, or the stereo of volumetric fusion instead of it, whose confidence is its
            overlap mask and which is not told of masks. None: classical matching.
        device: where to compute; None: the CPU.
        note: called with sentences about what the user should know.

    Raises:
        ValueError: see `require_matchable`, or masks do not fit their photos.
    """
    require_matchable(scene)
    device = device or torch.device("cpu")
    matcher = _Matcher(scene, config, network and network.to(device), device, note)
    return matcher.run(range(len(scene)) if indices is None else indices)


def require_matchable(scene: Scene) -> None:
    """Refuse a scene that has no depth to be found.

    Raises:
        ValueError: it has fewer than two views, or all cameras are in one place.
    """
    if len(scene) < 2:
        raise ValueError(
            f"The scene has {len(scene)} view; depth from matching needs two or more, from "
            "different places. For a single photo use `crispdepth refine`."
        )
    if extent(scene.cameras) == 0:
        raise ValueError(
            f"All {len(scene)} cameras are in one place: without a baseline nothing tells depth. "
            "Check the poses, or give photos from different places."
        )


class _Matcher:
    """The caches of one run: photos, silhouettes and depths that are still needed."""

    def __init__(
        self,
        scene: Scene,
        config: MultiviewConfig,
        network: MultiviewNetwork | StereoNetwork | None,
        device: torch.device,
        note: Callable[[str], object],
    ) -> None:
        self._scene, self._config, self._network = scene, config, network
        self._device, self._note = device, note
        self._reading = Lock()
        self._photos: OrderedDict[tuple[int, Size], Photo] = OrderedDict()
        self._silhouettes: dict[int, Float32Map | None] = {}
        self._sources: dict[int, tuple[tuple[int, ...], Bounds]] = {}

    def run(self, indices: Sequence[int]) -> Iterator[tuple[int, ViewDepth]]:
        """See `estimate_depths`."""
        with workers(self._device) as pool:
            depths = self._begin(pool, indices)
            while depths:
                index, found = depths.popleft()
                yield index, found.result()

    def _begin(
        self, pool: ThreadPoolExecutor, indices: Sequence[int]
    ) -> deque[tuple[int, Future[ViewDepth]]]:
        """All work, in the order in which depths are wanted.

        Nothing waits for what has no worker yet, as that was begun before; an estimate is
        forgotten when all have it that were waiting for it.
        """
        rounds = _CORRECTIONS if self._config.consistent else 0
        reached = set(indices)
        for _ in range(rounds + 1):
            self._choose(pool, sorted(reached - self._sources.keys()))
            reached = reached.union(*(self._sources[index][0] for index in reached))
        begun: dict[tuple[int, int], Future[Estimate]] = {}

        def estimate(index: int, corrections: int) -> Future[Estimate]:
            key = index, corrections
            if key not in begun:
                begun[key] = (
                    pool.submit(self._correct, index, asked(index, corrections - 1))
                    if corrections
                    else pool.submit(self._match, index)
                )
            return begun[key]

        def asked(index: int, corrections: int) -> list[Future[Estimate]]:
            others = self._sources[index][0] if rounds else ()
            return [estimate(each, corrections) for each in (index, *others)]

        before = max(rounds - 1, 0)
        return deque(
            (index, pool.submit(self._confirm, index, asked(index, before), asked(index, 0)))
            for index in indices
        )

    def _choose(self, pool: ThreadPoolExecutor, indices: Sequence[int]) -> None:
        """The views that each is matched with, and the bounds of its depths."""
        for index, sources in zip(indices, pool.map(self._sources_of, indices), strict=True):
            self._sources[index] = sources
            if not sources[0]:
                self._note(
                    f"{self._scene.names[index]}: no other view shows the same from another place, "
                    "so it gets no depth."
                )

    @torch.inference_mode()
    def _sources_of(self, index: int) -> tuple[tuple[int, ...], Bounds]:
        bounds = self._known_bounds(index)
        if bounds is None:
            bounds = self._probe(index, bounds_from_cameras(self._scene.cameras, index))
        return self._select(index, bounds), bounds

    def _select(self, index: int, bounds: Bounds) -> tuple[int, ...]:
        return select_sources(self._scene.cameras, index, *bounds, self._config.sources).indices

    def _known_bounds(self, index: int) -> Bounds | None:
        """What user, scene, masks or points say; None where they say nothing."""
        config, scene = self._config, self._scene
        if config.near is not None and config.far is not None:
            return config.near, config.far
        wide = scene.bounds
        if wide is None and scene.points is not None:
            wide = bounds_from_points(scene.cameras[index], scene.points.points)
        # Some views from all around carve as well as all: those of a long scene are not all read.
        carving = np.linspace(0, len(scene) - 1, min(len(scene), _CARVING)).astype(int).tolist()
        views = [index, *(each for each in carving if each != index)]
        cameras, masks = zip(*((scene.cameras[i], self._silhouette(i)) for i in views), strict=True)
        hull = bounds_from_masks(cameras, masks, 0)
        if hull is None or wide is None:
            return hull or wide
        near, far = max(hull[0], wide[0]), min(hull[1], wide[1])
        return (near, far) if near < far else wide

    def _probe(self, index: int, wide: Bounds) -> Bounds:
        """Bounds of what a quick sweep of a small photo is sure of; ``wide`` if of too little."""
        chosen = self._select(index, wide)
        if not chosen:
            return wide
        photo = self._photo(index, size_within(_PROBED, self._scene.cameras[index].size))
        inverse, confidence, step = self._sweep(photo, chosen, *wide)
        sure = inverse[confidence > 0.5]
        if sure.size < 0.02 * inverse.size:
            return wide
        low, high = np.quantile(sure, (0.01, 0.99))
        near = max(wide[0], 1 / (float(high) * 1.25 + step))
        return near, min(wide[1], 1 / max(float(low) * 0.8 - step, 1 / wide[1]))

    def _silhouette(self, index: int) -> Float32Map | None:
        """The object mask of a view, small; each is read once."""
        if index not in self._silhouettes:
            size = size_within(_SWEPT, self._scene.cameras[index].size)
            self._silhouettes[index] = self._photo(index, size).evidence.inside
        return self._silhouettes[index]

    def _photo(self, index: int, size: Size) -> Photo:
        """View ``index`` at ``size``; the last few are kept."""
        with self._reading:
            if (index, size) in self._photos:
                self._photos.move_to_end((index, size))
            else:
                self._photos[index, size] = prepare(self._scene[index], size)
                if len(self._photos) > _CACHED:
                    self._photos.popitem(last=False)
            return self._photos[index, size]

    @torch.inference_mode()
    def _match(self, index: int) -> Estimate:
        """Depth of one view: a sweep of the small photos, then refined at each finer size."""
        chosen, (near, far) = self._sources[index]
        full = size_within(LONGER_SIDE[self._config.quality], self._scene.cameras[index].size)
        scales = [longer for longer in (_SWEPT, 2 * _SWEPT, 4 * _SWEPT) if longer < max(full)]
        sizes = [size_within(longer, full) for longer in scales] + [full]
        photo = self._photo(index, full)
        weight = photo.evidence.weight
        if not chosen or (weight is not None and weight.max() < 0.5):
            nothing = np.zeros(full, np.float32)
            return Estimate(photo.camera, nothing + np.float32(1 / far), nothing)
        small = self._photo(index, sizes[0])
        found = []
        if not isinstance(self._network, StereoNetwork):
            found.append(self._sweep(small, chosen, near, far))
        if self._network is not None:
            found.append(self._predict(small, chosen, near, far))
        inverse, confidence, step = found[0]
        if len(found) > 1:
            inverse, confidence = self._better(small, chosen, *found)
        for size in sizes[1:]:
            if small.evidence.weight is not None:  # what is beside the mask must not bleed into it
                inverse = pull_push(inverse, (small.evidence.weight >= 0.5).astype(np.float32))
            coarse, small = small, self._photo(index, size)
            guide = coarse.rgb.astype(np.float32) / np.float32(255)
            inverse = joint_upsample(inverse, guide, small.rgb)
            confidence = upsample(confidence, size)
            step /= 2
            inverse, agreement = self._refine(small, chosen, inverse, step)
            confidence = confidence * agreement
        return _estimate(small, inverse.clip(1 / far, 1 / near), confidence)

    def _predict(self, photo: Photo, chosen: tuple[int, ...], near: float, far: float) -> _Sketch:
        """Of a small photo, by the network."""
        assert self._network is not None
        photos = [photo, *(self._photo(other, self._size_like(other, photo)) for other in chosen)]
        sightings = [
            Sighting(
                each.camera,
                each.seen,
                each.evidence.weight,
                carves=each.evidence.inside is not None,
            )
            for each in photos
        ]
        if isinstance(self._network, StereoNetwork):
            found = predict_stereo(self._network, sightings, near, far, self._device)
            (inverse, probability), step = found.predicted, found.step
        else:
            inverse, probability = predict(self._network, sightings, near, far, self._device)
            step = (1 / near - 1 / far) / (self._network.config.planes[0] - 1)
        inverse, _ = self._refine(photo, chosen, inverse, _POLISH * step)
        return _Sketch(inverse, probability, step)

    def _better(
        self, photo: Photo, chosen: Sequence[int], one: _Sketch, other: _Sketch
    ) -> tuple[Float32Map, Float32Map]:
        """Of two depths of a photo with their confidences, at each pixel the one at which the
        windows about it look more alike."""
        _, region = crop(photo)
        compared = self._compared(photo, chosen)
        costs = [compared(self._tensor(each.inverse[region])) for each in (one, other)]
        first, second = (avg_pool2d(cost[None], 2 * _ABOUT + 1, 1, _ABOUT)[0] for cost in costs)
        takes = np.zeros(photo.camera.size, bool)
        takes[region] = (second < first).cpu().numpy()
        inverse = np.where(takes, other.inverse, one.inverse)
        return inverse, np.where(takes, other.confidence, one.confidence)

    def _sweep(self, photo: Photo, chosen: Sequence[int], near: float, far: float) -> _Sketch:
        """Of a small photo, by a sweep."""
        part, region = crop(photo)
        size = part.camera.size
        others = [self._photo(other, self._size_like(other, photo)) for other in chosen]
        longest = disparity_range(part.camera, [other.camera for other in others], near, far)
        count = int(np.clip(np.ceil(longest) + 1, *_PLANES))
        planes = inverse_depth_planes(near, far, count)
        rho = self._tensor(planes)
        windows = Windows(self._tensor(part.grey), self._optional(part.evidence.weight), radius=1)
        sources = [self._source(part.camera, other) for other in others]
        cost = torch.empty((count, *size), device=self._device)
        for depths in chunks(count, size):
            cost[depths] = _cost(compare(windows, sources, rho[depths], size, _SHARPNESS))
        side = self._optional(part.evidence.weight)
        best = winner(semi_global(cost, self._tensor(part.grey), side, _SMOOTHNESS))
        step = float(planes[1] - planes[0])
        inverse = np.full(photo.camera.size, 1 / far, np.float32)
        confidence = np.zeros(photo.camera.size, np.float32)
        inverse[region] = (planes[0] + step * best.plane).cpu().numpy()
        confidence[region] = (best.margin / (best.margin + _HALF_SURE)).cpu().numpy()
        return _Sketch(inverse, confidence, step)

    def _refine(
        self, photo: Photo, chosen: Sequence[int], inverse: Float32Map, reach: float
    ) -> tuple[Float32Map, Float32Map]:
        """The best inverse depth within ``reach`` of one that is roughly known, and how well it
        agrees, in [0, 1]. Pixels are warped with the depth of each, so slanted windows match.
        """
        part, region = crop(photo)
        compared = self._compared(photo, chosen)
        offsets = np.linspace(-reach, reach, _OFFSETS)
        known = self._tensor(inverse[region])
        cost = torch.empty((_OFFSETS, *part.camera.size), device=self._device)
        for number, offset in enumerate(offsets):
            stay = _STAY * (number - _OFFSETS // 2) ** 2
            cost[number] = compared((known + offset).clamp_min(0)) + stay
        best = winner(cost)
        found, agreement = inverse.copy(), np.zeros_like(inverse)
        found[region] = (known - reach + best.plane * float(offsets[1] - offsets[0])).cpu().numpy()
        agreement[region] = (1 - best.cost).clamp(0, 1).cpu().numpy()
        return found, agreement

    def _compared(self, photo: Photo, chosen: Sequence[int]) -> Callable[[Tensor], Tensor]:
        """What inverse depths (h, w) of the crop of a photo cost, by windows of its resolution."""
        part, _ = crop(photo)
        others = [self._photo(other, self._size_like(other, photo)) for other in chosen]
        sources = [self._source(part.camera, other) for other in others]
        windows = Windows(self._tensor(part.grey), self._optional(part.evidence.weight), radius=3)
        size = part.camera.size
        return lambda rho: _cost(compare(windows, sources, rho[None], size, _SHARPNESS))[0]

    @torch.inference_mode()
    def _correct(self, index: int, asked: Sequence[Future[Estimate]]) -> Estimate:
        """The estimate of a view, the first that is asked, after the others were asked."""
        own, neighbours = self._told(asked)
        return own._replace(inverse=self._corrected(index, own, neighbours).cpu().numpy())

    @torch.inference_mode()
    def _confirm(
        self, index: int, asked: Sequence[Future[Estimate]], alone: Sequence[Future[Estimate]]
    ) -> ViewDepth:
        """Depth of a view, corrected once more, where those of others agree, and that of one which
        it found alone: what the views have told each other is no evidence.
        """
        own, neighbours = self._told(asked)
        inverse = self._corrected(index, own, neighbours)
        first, others = self._told(alone)
        needed = min(self._config.consistent, len(neighbours))
        agree = self._agreeing(inverse, own, neighbours)
        evidence = self._agreeing(inverse, first, others).views
        valid = (agree.views >= needed) & (evidence >= min(needed, 1))
        share = agree.closeness / needed if needed else torch.ones_like(inverse)
        confidence = own.confidence * share.clamp(max=1).cpu().numpy()
        z = inverse.reciprocal().cpu().numpy()
        usable = valid.cpu().numpy() & (own.confidence > 0)
        depth = DepthMap(z, "depth", self._scene.unit, usable, own.camera)
        return ViewDepth(depth, confidence.astype(np.float32))

    def _agreeing(self, inverse: Tensor, before: Estimate, others: Sequence[Neighbour]) -> Agreeing:
        """How many others agree with depths that were those of an estimate, or of one of them:
        that one agrees anyhow.
        """
        agree = agreeing(before.camera, inverse, others, self._config.tolerance)
        taken = (inverse / self._tensor(before.inverse) - 1).abs() > self._config.tolerance
        return agree._replace(views=agree.views - taken.float())

    def _told(self, asked: Sequence[Future[Estimate]]) -> tuple[Estimate, list[Neighbour]]:
        """The estimate of a view, the first that is asked, and those of the others."""
        own, *others = (each.result() for each in asked)
        return own, [Neighbour.of(other, self._device) for other in others]

    def _corrected(self, index: int, own: Estimate, others: Sequence[Neighbour]) -> Tensor:
        """The inverse depths of a view after its neighbours were asked."""
        inverse = self._tensor(own.inverse)
        if not others or not own.confidence.any():
            return inverse
        photo = self._photo(index, own.camera.size)
        part, region = crop(photo)
        chosen, (near, far) = self._sources[index]
        found = corrected(
            part.camera,
            inverse[region],
            others,
            self._compared(photo, chosen),
            self._tensor(part.rgb / np.float32(255)),
            self._optional(part.evidence.weight),
            self._config.tolerance,
        )
        inverse[region] = found.clamp(1 / far, 1 / near)
        return inverse

    def _size_like(self, other: int, photo: Photo) -> Size:
        """The size at which view ``other`` has about the detail of ``photo``."""
        return size_within(max(photo.camera.size), self._scene.cameras[other].size)

    def _source(self, reference: Camera, other: Photo) -> Source:
        return Source(
            self._tensor(other.grey),
            transfer(reference, other.camera),
            self._optional(other.evidence.weight),
            carves=other.evidence.inside is not None,
        )

    def _optional(self, values: Float32Map | None) -> Tensor | None:
        return None if values is None else self._tensor(values)

    def _tensor(self, values: NDArray[np.floating[Any]]) -> Tensor:
        return torch.as_tensor(values.astype(np.float32), device=self._device)


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
