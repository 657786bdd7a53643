"""Depth of every view of a posed scene, by classical matching or by a network.

Each view is matched with the views that see the same from a good angle, corrected by their depths,
and kept where these agree.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from crispdepth.geometry.bounds import (
    Bounds,
    bounds_from_cameras,
    bounds_from_masks,
    bounds_from_points,
    extent,
)
from crispdepth.geometry.view_selection import select_sources
from crispdepth.models.multiview.network import MultiviewNetwork
from crispdepth.models.volume.stereo import StereoNetwork
from crispdepth.ops.resample import size_within
from crispdepth.tasks.multiview_agreement import (
    Agreeing,
    Estimate,
    Neighbour,
    agreeing,
    corrected,
    shown_by_others,
)
from crispdepth.tasks.multiview_config import MultiviewConfig
from crispdepth.tasks.multiview_matching import SWEPT, Matching
from crispdepth.tasks.multiview_network import Seen
from crispdepth.tasks.multiview_photos import crop
from crispdepth.tasks.workers import InOrder, workers
from crispdepth.types import DepthMap, Float32Map, Scene, ViewDepth

_PROBED = 160  # pixels of the longer side at which unknown bounds are looked for
_CARVING = 32  # views whose silhouettes bound the depths


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
    view that no other overlaps has no valid pixel at all. Inside an object mask what too few
    confirm takes the depth that other views show there, if any does, with a confidence of 0.

    Views are read when they are needed, by several threads (`crispdepth.tasks.workers`) but one at
    a time, and depths kept only as long as a later view is compared with them. Work goes on while
    the caller has a depth, and ends when the iterator is closed.

    Args:
        scene: posed views.
        config: see there.
        indices: views that are wanted, in this order; None: all. Those that they are compared with,
            directly or not, are matched, too, and those that the network hears of are read.
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
    matching = Matching(scene, config, network and network.to(device), device)
    return _Matcher(matching, note).run(range(len(scene)) if indices is None else indices)


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
    """One run: which views are matched with which, and in what order."""

    def __init__(self, matching: Matching, note: Callable[[str], object]) -> None:
        self._matching, self._note = matching, note
        self._scene, self._config = matching.scene, matching.config
        self._silhouettes: dict[int, Float32Map | None] = {}
        self._empty: dict[int, bool] = {}
        # Some views from all around carve as well as all: those of a long scene are not all read.
        count = len(self._scene)
        self._carving = np.linspace(0, count - 1, min(count, _CARVING)).astype(int).tolist()
        # The views that each is matched with and, after these, those that only correct it.
        self._sources: dict[int, tuple[tuple[int, ...], Bounds]] = {}

    def run(self, indices: Sequence[int]) -> Iterator[tuple[int, ViewDepth]]:
        """See `estimate_depths`."""
        with workers(self._matching.device) as pool, closing(InOrder(pool)) as tasks:
            depths = self._begin(pool, tasks, indices)
            while depths:
                index, task = depths.popleft()
                found = task.result()
                name = self._scene.names[index]
                if self._is_empty(index):
                    self._note(
                        f"{name}: its mask is empty, so it gets no depth and other views are not "
                        "matched with it. Leave the mask out if it is not known."
                    )
                elif self._sources[index][0] and not found.trusted.any():
                    self._note(
                        f"{name}: no pixel has a depth that other views confirm. Is the range of "
                        "depths another, or the mask of something else?"
                    )
                yield index, found

    def _begin(
        self, pool: ThreadPoolExecutor, tasks: InOrder, indices: Sequence[int]
    ) -> deque[tuple[int, Future[ViewDepth]]]:
        """All work, in the order in which depths are wanted.

        An estimate is forgotten when all have it that need it.
        """
        if not indices:
            return deque()
        rounds = self._config.corrections if self._config.consistent else 0
        # What is asked last is to fill masks of an object, where there are any.
        fills = rounds > 0 and any(self._silhouette(index) is not None for index in self._carving)
        steps = rounds + 1 + fills
        reached = self._reach(pool, set(indices), steps, self._config.neighbours)
        blocks = self._matching.blocks
        if blocks is not None:
            self._reach(pool, reached, blocks + 1, self._config.sources)
            enlarged = self._matching.enlargement(self._carving)
        begun: dict[tuple[int, int], Future[Estimate]] = {}
        looked: dict[tuple[int, int], Future[Seen]] = {}
        agreed: dict[int, Future[ViewDepth]] = {}

        def seen(index: int, heard: int) -> Future[Seen]:
            key = index, heard
            if key not in looked:
                needs = shown(index, heard - 1) if heard else []
                task = (
                    partial(self._listen, needs) if heard else partial(self._look, index, enlarged)
                )
                looked[key] = tasks.submit(task, needs)
            return looked[key]

        def shown(index: int, heard: int) -> list[Future[Seen]]:
            return [seen(each, heard) for each in (index, *self._matched(index))]

        def estimate(index: int, corrections: int) -> Future[Estimate]:
            key = index, corrections
            if key not in begun:
                if corrections:
                    needs = asked(index, corrections - 1)
                    begun[key] = tasks.submit(partial(self._correct, index, needs), needs)
                else:
                    sights = [] if blocks is None else shown(index, blocks)
                    begun[key] = tasks.submit(partial(self._match, index, sights), sights)
            return begun[key]

        def asked(index: int, corrections: int) -> list[Future[Estimate]]:
            others = self._sources[index][0] if rounds else ()
            return [estimate(each, corrections) for each in (index, *others)]

        def confirmed(index: int) -> Future[ViewDepth]:
            if index not in agreed:
                latest, alone = asked(index, max(rounds - 1, 0)), asked(index, 0)
                task = partial(self._confirm, index, latest, alone)
                agreed[index] = tasks.submit(task, latest + alone)
            return agreed[index]

        def filled(index: int) -> Future[ViewDepth]:
            needs = [confirmed(each) for each in (index, *self._sources[index][0])]
            return tasks.submit(partial(self._fill, index, needs), needs)

        depths = deque((index, filled(index) if fills else confirmed(index)) for index in indices)
        for kept in (looked, begun, agreed):
            kept.clear()  # only what needs a result holds it now
        return depths

    def _reach(
        self, pool: ThreadPoolExecutor, reached: set[int], steps: int, count: int
    ) -> set[int]:
        """The views that are reached from some in so many steps to the first ``count`` neighbours.

        Of all that are reached in fewer the neighbours are chosen (`_choose`).
        """
        for _ in range(steps):
            self._choose(pool, sorted(reached - self._sources.keys()))
            reached = reached.union(*(self._sources[index][0][:count] for index in reached))
        return reached

    def _matched(self, index: int) -> tuple[int, ...]:
        """The views that a view is matched with."""
        return self._sources[index][0][: self._config.sources]

    def _choose(self, pool: ThreadPoolExecutor, indices: Sequence[int]) -> None:
        """The views that each is compared with, the best first, and the bounds of its depths."""
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
        """The views that see the same, but those whose mask says that they do not show it: that an
        object was not found is more likely than that it is not there."""
        cameras, config = self._scene.cameras, self._config
        count = config.neighbours if config.consistent else config.sources
        empty: set[int] = set()
        while True:
            chosen = select_sources(cameras, index, *bounds, count, without=empty).indices
            found = {each for each in chosen if self._is_empty(each)}
            if not found:
                return chosen
            empty |= found

    def _known_bounds(self, index: int) -> Bounds | None:
        """What user, scene, masks or points say; None where they say nothing."""
        config, scene = self._config, self._scene
        if config.near is not None and config.far is not None:
            return config.near, config.far
        wide = scene.bounds
        if wide is None and scene.points is not None:
            wide = bounds_from_points(scene.cameras[index], scene.points.points)
        views = [index, *(each for each in self._carving if each != index)]
        cameras, masks = zip(*((scene.cameras[i], self._silhouette(i)) for i in views), strict=True)
        hull = bounds_from_masks(cameras, masks, 0)
        if hull is None or wide is None:
            return hull or wide
        near, far = max(hull[0], wide[0]), min(hull[1], wide[1])
        return (near, far) if near < far else wide

    def _probe(self, index: int, wide: Bounds) -> Bounds:
        """Bounds of what a quick sweep of a small photo is sure of; ``wide`` if of too little."""
        chosen = self._select(index, wide)[: self._config.sources]
        if not chosen:
            return wide
        photo = self._matching.photo(index, size_within(_PROBED, self._scene.cameras[index].size))
        inverse, confidence, step = self._matching.sweep(photo, chosen, *wide)
        sure = inverse[confidence > 0.5]
        if sure.size < 0.02 * inverse.size:
            return wide
        low, high = np.quantile(sure, (0.01, 0.99))
        near = max(wide[0], 1 / (float(high) * 1.25 + step))
        return near, min(wide[1], 1 / max(float(low) * 0.8 - step, 1 / wide[1]))

    def _silhouette(self, index: int) -> Float32Map | None:
        """The object mask of a view, small; each is read once."""
        if index not in self._silhouettes:
            self._silhouettes[index] = self._matching.swept(index).evidence.inside
        return self._silhouettes[index]

    def _is_empty(self, index: int) -> bool:
        """Whether the object mask of a view holds nothing."""
        if index not in self._empty:
            inside = self._matching.swept(index).evidence.inside
            self._empty[index] = inside is not None and bool(inside.max() < 0.5)
        return self._empty[index]

    def _look(self, index: int, enlarged: int) -> Seen:
        return self._matching.look(index, *self._sources[index][1], enlarged)

    def _listen(self, heard: Sequence[Future[Seen]]) -> Seen:
        """What the network knows of a view, the first, after it has heard the others."""
        own, *others = (each.result() for each in heard)
        return self._matching.listen(own, others)

    @torch.inference_mode()
    def _match(self, index: int, sights: Sequence[Future[Seen]]) -> Estimate:
        """The estimate that a view finds alone."""
        seen = [each.result() for each in sights]
        return self._matching.match(index, self._matched(index), *self._sources[index][1], seen)

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

    @torch.inference_mode()
    def _fill(self, index: int, asked: Sequence[Future[ViewDepth]]) -> ViewDepth:
        """Depth of a view, the first that is asked, that has the depth that others show also where
        no view confirms its own, at a confidence of 0: it is no evidence of anything.
        """
        found, *others = (each.result() for each in asked)
        photo = self._matching.photo(index, found.depth.size)
        if photo.evidence.inside is None:
            return found
        part, region = crop(photo)
        estimates = [Estimate.of(each) for each in (found, *others)]
        own, *neighbours = (Neighbour.of(each, self._matching.device) for each in estimates)
        shown = shown_by_others(part.camera, own.inverse[region], own.known[region] > 0, neighbours)
        near, far = self._sources[index][1]
        more = torch.where(shown > 0, shown.clamp(1 / far, 1 / near), 0).cpu().numpy()
        more[photo.evidence.inside[region] < 0.5] = 0  # (h, w), 0 = still unknown
        z, valid = found.depth.values.copy(), found.depth.usable.copy()
        z[region] = np.where(more > 0, 1 / np.where(more > 0, more, 1), z[region])
        valid[region] |= more > 0
        return replace(found, depth=replace(found.depth, values=z, valid=valid))

    def _agreeing(self, inverse: Tensor, before: Estimate, others: Sequence[Neighbour]) -> Agreeing:
        """How many others agree with depths that were those of an estimate, or of one of them:
        that one agrees anyhow.
        """
        agree = agreeing(before.camera, inverse, others, self._config.tolerance)
        taken = (inverse / self._matching.tensor(before.inverse) - 1).abs() > self._config.tolerance
        return agree._replace(views=agree.views - taken.float())

    def _told(self, asked: Sequence[Future[Estimate]]) -> tuple[Estimate, list[Neighbour]]:
        """The estimate of a view, the first that is asked, and those of the others."""
        own, *others = (each.result() for each in asked)
        return own, [Neighbour.of(other, self._matching.device) for other in others]

    def _corrected(self, index: int, own: Estimate, others: Sequence[Neighbour]) -> Tensor:
        """The inverse depths of a view after its neighbours were asked."""
        inverse = self._matching.tensor(own.inverse)
        if not others or not own.confidence.any():
            return inverse
        photo = self._matching.photo(index, own.camera.size)
        part, region = crop(photo)
        near, far = self._sources[index][1]
        found = corrected(
            part.camera,
            inverse[region],
            others,
            self._matching.compared(photo, self._matched(index)),
            self._matching.tensor(part.rgb / np.float32(255)),
            self._matching.optional(part.evidence.weight),
            self._config.tolerance,
            scale=max(1, max(own.camera.size) / SWEPT),
        )
        inverse[region] = found.clamp(1 / far, 1 / near)
        return inverse
