"""Frames of a dataset as scenes of posed views, and which views of a scene to train on together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.strokes import Rng
from crispdepth.geometry.bounds import bounds_from_cameras, bounds_from_masks
from crispdepth.geometry.view_selection import select_sources
from crispdepth.types import Camera

OUTLYING = 2e-3
"""Share of the measured depths at either end that may be mistakes of the sensor."""

WINDOW = 24
"""Frames about a view, in the order of the dataset, among which its companions are looked for."""

BEST_CHANCE = 0.5
"""How often the best companions are taken rather than any that overlap."""

HULL_VIEWS = 8
"""Views whose masks tell the bounds of a scene without depth."""

Bounds = tuple[float, float]


@dataclass(frozen=True)
class PosedScene:
    """Frames of one place whose cameras are known."""

    name: str
    indices: tuple[int, ...]  # of the frames in their dataset
    cameras: tuple[Camera, ...]
    # Of the depths of all frames. If none was measured, of what the masks leave, or else of what
    # stereo can tell.
    bounds: Bounds

    def __len__(self) -> int:
        return len(self.indices)


def posed_scenes(frames: Sequence[RgbdFrame]) -> tuple[PosedScene, ...]:
    """The scenes with two posed frames or more; a scene is the frames' name up to the last ``/``.

    Every frame is read once. Frames without a camera, whose tracking was lost, are left out.

    Raises:
        ValueError: there is none, or two frames have one name.
    """
    found: dict[str, list[tuple[int, Camera, Bounds | None]]] = {}
    names: set[str] = set()
    for index in range(len(frames)):
        frame = frames[index]
        if frame.name in names:
            raise ValueError(
                f"Two frames are called {frame.name}: datasets whose scenes have the same names "
                "would be taken for one place. Give the folders of one of them other names and "
                "pack it anew."
            )
        names.add(frame.name)
        if frame.depth.camera is not None:
            facts = index, frame.depth.camera, depth_bounds(frame.depth.values)
            found.setdefault(frame.name.rpartition("/")[0], []).append(facts)
    scenes = [_scene(name, views, frames) for name, views in found.items() if len(views) > 1]
    if not scenes:
        raise ValueError(
            f"None of the {len(frames)} frames is one of two or more posed frames of a scene: "
            "several views need cameras. Pack a dataset that has poses."
        )
    return tuple(scenes)


def with_views(scenes: Sequence[PosedScene], count: int) -> Sequence[PosedScene]:
    """Those of the scenes that have as many posed views.

    Raises:
        ValueError: there is none.
    """
    enough = [scene for scene in scenes if len(scene) >= count]
    if not enough:
        most = max(map(len, scenes))
        raise ValueError(f"No scene has {count} posed views, the most are {most}.")
    return enough


def depth_bounds(
    depth: NDArray[np.float32], inside: NDArray[np.bool_] | None = None
) -> Bounds | None:
    """Nearest and farthest depth but for outliers; None if fewer than ten pixels were measured.

    Args:
        depth: (h, w), 0 = not measured.
        inside: (h, w), the pixels that count.
    """
    values = depth[depth > 0 if inside is None else (depth > 0) & inside]
    if values.size < 10:
        return None
    ends = int(OUTLYING * values.size), values.size - 1 - int(OUTLYING * values.size)
    near, far = np.partition(values, ends)[[*ends]]
    return float(near), float(far)


def joint_bounds(bounds: Sequence[Bounds | None]) -> Bounds | None:
    """The bounds that hold all of those that are known."""
    known = [each for each in bounds if each is not None]
    return (min(n for n, _ in known), max(f for _, f in known)) if known else None


def choose_views(scene: PosedScene, count: int, rng: Rng) -> tuple[int, ...]:
    """The numbers within the scene of ``count`` views that see much of the same, in random order.

    A random view and companions by overlap and angle (`select_sources`): the best, or any of those
    that overlap. Where there are too few, its neighbours in the order of the dataset.

    Raises:
        ValueError: the scene has fewer views.
    """
    if count > len(scene):
        raise ValueError(f"Scene {scene.name} has {len(scene)} views, not {count}.")
    first = int(rng.integers(len(scene)))
    by_distance = sorted(range(len(scene)), key=lambda other: abs(other - first))
    window = sorted(by_distance[: max(WINDOW, count)])
    cameras = [scene.cameras[number] for number in window]
    near, far = scene.bounds
    chosen = select_sources(cameras, window.index(first), near, far, len(window) - 1).indices
    companions = [window[number] for number in chosen]
    if rng.random() >= BEST_CHANCE:
        companions = [companions[i] for i in rng.permutation(len(companions))]
    companions += [other for other in by_distance[1:] if other not in companions]
    views = np.array([first, *companions[: count - 1]])
    return tuple(rng.permutation(views).tolist())


def _scene(
    name: str, views: Sequence[tuple[int, Camera, Bounds | None]], frames: Sequence[RgbdFrame]
) -> PosedScene:
    indices, cameras, bounds = zip(*views, strict=True)
    known = joint_bounds(bounds) or _hull_bounds([*indices], frames)
    return PosedScene(name, indices, cameras, known or bounds_from_cameras(cameras, 0))


def _hull_bounds(indices: Sequence[int], frames: Sequence[RgbdFrame]) -> Bounds | None:
    """The bounds of the visual hull of some of the frames, spread evenly, seen from two of them."""
    chosen = np.linspace(0, len(indices) - 1, min(len(indices), HULL_VIEWS)).round().astype(int)
    views = [frames[indices[number]] for number in chosen.tolist()]
    cameras = [view.depth.camera for view in views if view.depth.camera is not None]
    masks = [
        None if view.mask is None else view.mask.astype(np.float32) / np.float32(255)
        for view in views
    ]
    return joint_bounds([bounds_from_masks(cameras, masks, end) for end in (0, len(views) - 1)])
