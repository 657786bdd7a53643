"""Training samples of the multi-view network: a few posed views of one scene, with masks and depth.

Three kinds are drawn: views as they are (``scene``), with masks of an object in them (``object``),
and of the object alone before a plain background, as RGBA photos are (``rgba``). So that one
network serves whatever it is given, masks may be wrong, or missing in some views or in all.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.data.crop import large_instances
from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.datasets.scene_json import SOFT_INSTANCE
from crispdepth.data.mask_errors import spoiled
from crispdepth.data.multiview_config import MultiviewSampleConfig
from crispdepth.data.posed_scenes import (
    Bounds,
    choose_views,
    depth_bounds,
    joint_bounds,
    posed_scenes,
    with_views,
)
from crispdepth.data.samples import JPEG, SOFTNESS, compressed, recoloured, softened
from crispdepth.data.strokes import Rng
from crispdepth.ops.masks import count_labels
from crispdepth.types import BoolMap, Camera, Float32Map, Size

Plane = TypeVar("Plane", NDArray[np.uint8], NDArray[np.float32], NDArray[np.int32])

Kind = Literal["scene", "object", "rgba"]
KINDS: tuple[Kind, ...] = ("scene", "object", "rgba")

NEARER, FARTHER = 0.4, 0.6
"""The stated range of depths begins up to this share nearer than the true one, and ends up to this
share farther away; most often it is closer."""

LOOK, SLIGHT = 0.4, 0.05
"""Brightness, contrast and saturation change by up to the first share for all views of a sample,
and by up to the second for each."""

SHIFTED = 0.05
"""Share of the crop by which its place differs between views."""

FLAT = 0.01
"""Relative difference of depths that resizing may average."""

MARGIN, CLOSEST = (1.1, 1.8), 0.4
"""Sides of a close crop in those of the object, and the least share of the frame it is."""

MOST_OBJECTS = 7
"""Objects of a sample that are told apart, the largest ones."""

SEVERAL = 0.3
"""How often the mask is of several instances, where a frame shows some."""


class MultiviewSample(NamedTuple):
    """V views of one scene in random order; the world is the camera of the first."""

    images: NDArray[np.uint8]  # (V, H, W, 3), sRGB
    masks: NDArray[np.float32]  # (V, 1, H, W) in [0, 1], as the network is told; ones: not told
    K: NDArray[np.float32]  # (V, 3, 3), pixels, the centre of the top-left one at (0.5, 0.5)
    cam_from_world: NDArray[np.float32]  # (V, 4, 4)
    near: NDArray[np.float32]  # (V,)
    far: NDArray[np.float32]  # (V,)
    depth: NDArray[np.float32]  # (V, H, W) true z-depth; 0 = not measured or out of range
    alpha: NDArray[np.float32]  # (V, 1, H, W) the true mask; ones where the sample has none
    kind: NDArray[np.int64]  # (), number of the kind in `KINDS`
    objects: NDArray[np.uint8]  # (V, H, W) up to `MOST_OBJECTS`, from 1; 0: any other, or not known


class _Place(NamedTuple):
    """The part of a frame that a view shows."""

    top: int
    left: int
    size: Size


class _View(NamedTuple):
    """One view while a sample is made of it."""

    image: NDArray[np.uint8]  # (h, w, 3)
    depth: Float32Map  # (h, w), 0 = not measured
    camera: Camera
    alpha: Float32Map | None = None  # (h, w), the true mask
    inside: BoolMap | None = None  # (h, w), pixels whose depth is the object's
    instances: NDArray[np.int32] | None = None  # (h, w), see `RgbdFrame`


class MultiviewSampler:
    """Samples by number: the same (seed, index) gives the same sample, in whatever order."""

    def __init__(self, frames: Sequence[RgbdFrame], config: MultiviewSampleConfig) -> None:
        """Frames are read anew for every sample: hand over a pack.

        Raises:
            ValueError: no scene has two posed frames.
        """
        self.frames, self.config, self.scenes = frames, config, posed_scenes(frames)

    def draw(self, seed: int, index: int, size: Size, views: int) -> MultiviewSample:
        """Sample ``index`` of the endless stream ``seed``.

        Args:
            seed, index: decide the sample.
            size: (H, W) of its views, pixels.
            views: how many; from scenes that have as many.

        Raises:
            ValueError: no scene has so many views.
        """
        rng = np.random.default_rng([seed, index])
        scenes = with_views(self.scenes, views)
        scene = scenes[int(rng.integers(len(scenes)))]
        chosen = choose_views(scene, views, rng)
        frames = [self.frames[scene.indices[number]] for number in chosen]
        objects = self._objects(frames, rng)
        config = self.config
        shown = [_cut(*each, size) for each in self._placed(frames, objects, size, rng)]
        kind: Kind = "scene" if objects is None else "object"
        if objects is not None and rng.random() < config.rgba:
            kind = "rgba"
        only_object = kind == "rgba" or (kind == "object" and rng.random() < config.object_range)
        bounds = _bounds(shown, scene.bounds, only_object, rng)
        if rng.random() < config.colour:
            shown = _other_colours(shown, rng)
        if kind == "rgba":
            shown = _alone(shown, rng)
        masks = self._told(shown, rng)
        if rng.random() < config.mirrored:
            shown, masks = [*map(_mirrored, shown)], [mask[:, ::-1] for mask in masks]
        return _sample(shown, masks, bounds, KINDS.index(kind))

    def _objects(
        self, frames: Sequence[RgbdFrame], rng: Rng
    ) -> list[tuple[NDArray[np.uint8], BoolMap]] | None:
        """Of each frame the mask, 255 = inside, and the pixels whose depth is the object's.

        None: the sample is to have no mask, or there is nothing to mask.
        """
        if all(frame.mask is not None for frame in frames):
            if rng.random() >= self.config.masked_objects:
                return None
            return [(frame.mask, _is_object(frame)) for frame in frames if frame.mask is not None]
        maps = [frame.instances for frame in frames if frame.instances is not None]
        if len(maps) < len(frames) or rng.random() >= self.config.masked_others:
            return None
        ids, counts = np.unique(
            np.concatenate([large_instances(each) for each in maps]), return_counts=True
        )
        common = ids[2 * counts > len(maps)]  # in more than half of the views
        if not len(common):
            return None
        count = int(rng.integers(1, min(4, len(common) + 1))) if rng.random() < SEVERAL else 1
        wanted = rng.choice(common, count, replace=False)
        inside = [np.isin(each, wanted) for each in maps]
        return [(each.view(np.uint8) * np.uint8(255), each) for each in inside]

    def _placed(
        self,
        frames: Sequence[RgbdFrame],
        objects: list[tuple[NDArray[np.uint8], BoolMap]] | None,
        size: Size,
        rng: Rng,
    ) -> list[tuple[_View, _Place]]:
        """The frames, each with the part of it to show: alike in all, about the object if any."""
        softness = rng.uniform(*SOFTNESS)
        zoom, corner = rng.uniform(self.config.zoom, 1), rng.random(2)
        if objects is not None and rng.random() < self.config.close:
            zoom = _close_zoom(objects, size, rng.uniform(*MARGIN))
        placed = []
        for number, frame in enumerate(frames):
            camera = frame.depth.camera
            assert camera is not None  # `posed_scenes` has left out others
            view = _View(frame.image, frame.depth.values, camera, instances=frame.instances)
            box = None
            if objects is not None:
                mask, inside = objects[number]
                alpha = mask.astype(np.float32) / np.float32(255)
                if frame.mask is None:
                    alpha = softened(alpha, softness)
                view = view._replace(alpha=alpha, inside=inside)
                box = cv2.boundingRect(mask)
            share = zoom * rng.uniform(1 - SHIFTED, 1)
            where = (corner + rng.uniform(-SHIFTED, SHIFTED, 2)).clip(0, 1)
            placed.append((view, _place(camera.size, size, share, where, box)))
        return placed

    def _told(self, shown: Sequence[_View], rng: Rng) -> list[Float32Map]:
        """The masks that the network is given."""
        config = self.config
        untold, wrong, incomplete = rng.random(3) < (config.untold, config.wrong, config.incomplete)
        masks = []
        for view in shown:
            missing = untold or (incomplete and rng.random() < config.missing)
            if view.alpha is None or missing:
                masks.append(np.ones(view.depth.shape, np.float32))
            else:
                masks.append(spoiled(view.alpha, rng) if wrong else view.alpha)
        return masks


def _is_object(frame: RgbdFrame) -> BoolMap:
    """Where the depth is that of the object whose soft mask the frame has."""
    if frame.instances is not None:
        return np.asarray(frame.instances == SOFT_INSTANCE)
    assert frame.mask is not None
    return np.asarray(frame.mask >= 128)


def _close_zoom(
    objects: Sequence[tuple[NDArray[np.uint8], BoolMap]], size: Size, margin: float
) -> float:
    """The share of the largest crop that shows the object in every view, with a margin."""
    shares = []
    for mask, _ in objects:
        sides = cv2.boundingRect(mask)[3:1:-1]  # height, width
        largest = min(whole / side for whole, side in zip(mask.shape, size, strict=True))
        shares += [extent / (largest * side) for extent, side in zip(sides, size, strict=True)]
    return float(np.clip(margin * max(shares), CLOSEST, 1))


def _place(
    frame: Size, size: Size, share: float, where: NDArray[np.float64], box: Sequence[int] | None
) -> _Place:
    """A part of the frame in the aspect of ``size``.

    Args:
        frame: (height, width).
        size: (height, width) that it will be resized to.
        share: its sides as a share of the largest part that fits.
        where: (x, y) in [0, 1]: from the left- and topmost place to the right- and bottommost.
        box: x, y, width, height of what is to be in it as far as it fits; None or empty: anything.
    """
    scale = share * min(frame[0] / size[0], frame[1] / size[1])
    part = tuple(
        max(1, min(round(scale * side), most)) for side, most in zip(size, frame, strict=True)
    )
    start = []
    for axis, fraction in ((0, where[1]), (1, where[0])):
        room = frame[axis] - part[axis]
        low, high = 0, room
        if box is not None and box[2]:
            first, extent = box[1 - axis], box[3 - axis]
            ends = sorted((first, first + extent - part[axis]))
            low, high = (int(np.clip(end, 0, room)) for end in ends)
        start.append(round(low + fraction * (high - low)))
    return _Place(start[0], start[1], (part[0], part[1]))


def _cut(view: _View, place: _Place, size: Size) -> _View:
    """That part of the view, resized; depths are averaged within a surface only."""
    rows, columns = (
        slice(start, start + length)
        for start, length in zip((place.top, place.left), place.size, strict=True)
    )
    shrinks = place.size[0] > size[0]

    def resized(plane: Plane, how: int) -> Plane:
        pixels = cv2.resize(plane[rows, columns], size[::-1], interpolation=how)
        return np.asarray(pixels, plane.dtype)

    soft = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    exact = resized(view.depth, cv2.INTER_NEAREST_EXACT)
    smooth = resized(view.depth, cv2.INTER_LINEAR)
    depth = np.where(np.abs(smooth - exact) < FLAT * exact, smooth, exact)
    K = view.camera.K.copy()
    K[:2, 2] -= place.left, place.top
    camera = Camera(K, place.size, view.camera.cam_from_world).resized(size)
    alpha = None if view.alpha is None else resized(view.alpha, soft)
    inside = view.inside
    if inside is not None:
        inside = resized(inside.view(np.uint8), cv2.INTER_NEAREST_EXACT).astype(bool)
    instances = view.instances
    if instances is not None:
        instances = resized(instances, cv2.INTER_NEAREST_EXACT)
    return _View(resized(view.image, soft), depth, camera, alpha, inside, instances)


def _bounds(shown: Sequence[_View], known: Bounds, only_object: bool, rng: Rng) -> list[Bounds]:
    """The range of depths that is stated for each view: its own or that of all, somewhat wider.

    Where no depth was measured, ``known``.
    """
    true = [depth_bounds(view.depth, view.inside if only_object else None) for view in shown]
    joint = joint_bounds(true) or known
    if rng.integers(2):
        true = [joint] * len(shown)
    nearer, farther = 1 - NEARER * rng.random() ** 2, 1 + FARTHER * rng.random() ** 2
    # A flat wall seen head-on has no range; a sweep needs one.
    nearer, farther = min(nearer, 0.97), max(farther, 1.03)
    return [(nearer * near, farther * far) for near, far in (each or joint for each in true)]


def _other_colours(shown: Sequence[_View], rng: Rng) -> list[_View]:
    """The views with one change of their colours, and slight ones of each."""
    common = rng.uniform(1 - LOOK, 1 + LOOK, 3)
    quality = int(rng.integers(JPEG[0], JPEG[1] + 1)) if rng.integers(2) else None
    changed = []
    for view in shown:
        image = recoloured(view.image, *common * rng.uniform(1 - SLIGHT, 1 + SLIGHT, 3))
        changed.append(
            view._replace(image=image if quality is None else compressed(image, quality))
        )
    return changed


def _alone(shown: Sequence[_View], rng: Rng) -> list[_View]:
    """The object before a plain background; no depth but its own.

    The background is black, white or of any colour. Along the outline colours are mixed with it,
    or they are whole (straight alpha).
    """
    background = (np.zeros(3), np.full(3, 255.0), rng.uniform(0, 255, 3))[
        int(rng.choice(3, p=(0.5, 0.25, 0.25)))
    ]
    straight = bool(rng.integers(2))
    alone = []
    for view in shown:
        assert view.alpha is not None
        assert view.inside is not None
        share = ((view.alpha > 0) if straight else view.alpha)[..., None].astype(np.float32)
        image = share * view.image + (1 - share) * background.astype(np.float32)
        depth = np.where(view.inside, view.depth, np.float32(0))
        alone.append(view._replace(image=np.rint(image).astype(np.uint8), depth=depth))
    return alone


def _mirrored(view: _View) -> _View:
    """The view of the mirrored world: x of all cameras and of the world changes its sign."""
    mirror = np.diag([-1.0, 1, 1, 1])
    K = view.camera.K.copy()
    K[0, 2] = view.camera.size[1] - K[0, 2]
    K[0, 1] *= -1
    camera = Camera(K, view.camera.size, mirror @ view.camera.cam_from_world @ mirror)
    return _View(
        view.image[:, ::-1],
        view.depth[:, ::-1],
        camera,
        None if view.alpha is None else view.alpha[:, ::-1],
        None if view.inside is None else view.inside[:, ::-1],
        None if view.instances is None else view.instances[:, ::-1],
    )


def _sample(
    shown: Sequence[_View], masks: Sequence[Float32Map], bounds: Sequence[Bounds], kind: int
) -> MultiviewSample:
    near, far = np.array(bounds, np.float32).T
    depth = np.stack([view.depth for view in shown])
    in_range = (depth >= near[:, None, None]) & (depth <= far[:, None, None])
    world_from_first = np.linalg.inv(shown[0].camera.cam_from_world)
    poses = np.stack([view.camera.cam_from_world @ world_from_first for view in shown])
    alphas = [np.ones(depth.shape[1:]) if view.alpha is None else view.alpha for view in shown]
    return MultiviewSample(
        images=np.stack([view.image for view in shown]),
        masks=np.stack(masks)[:, None],
        K=np.stack([view.camera.K for view in shown]).astype(np.float32),
        cam_from_world=poses.astype(np.float32),
        near=near,
        far=far,
        depth=np.where(in_range, depth, np.float32(0)),
        alpha=np.stack(alphas).astype(np.float32)[:, None],
        kind=np.asarray(kind),
        objects=_told_apart([view.instances for view in shown], depth.shape),
    )


def _told_apart(
    instances: Sequence[NDArray[np.int32] | None], shape: tuple[int, ...]
) -> NDArray[np.uint8]:
    """The largest instances that more than half of the views show, numbered from 1; (V, H, W)."""
    maps = [each for each in instances if each is not None]
    objects = np.zeros(shape, np.uint8)
    if len(maps) < len(instances):
        return objects
    counted = [count_labels(each) for each in maps]
    ids, place = np.unique(np.concatenate([found for found, _ in counted]), return_inverse=True)
    pixels = np.bincount(place, np.concatenate([count for _, count in counted]), len(ids))
    shared = 2 * np.bincount(place, minlength=len(ids)) > len(maps)
    largest = ids[shared][np.argsort(-pixels[shared], kind="stable")][:MOST_OBJECTS]
    for number, each in enumerate(largest, start=1):
        objects[np.stack(maps) == each] = number
    return objects
