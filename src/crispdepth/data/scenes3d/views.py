"""Choosing where to stand: views that show several things and are not blocked."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crispdepth.data.scenes3d.cameras import Camera, intrinsics, look_at, orbit_path, smooth_path
from crispdepth.data.scenes3d.scene import Scene
from crispdepth.data.scenes3d.shapes import Array
from crispdepth.types import Size

Arrangement = Literal["apart", "path", "orbit"]
Look = Callable[[Sequence[Camera]], Sequence[tuple[NDArray[np.float32], NDArray[np.int32]]]]
"""Depth (h, w) in metres, 0 = nothing, and instance ids (h, w) that cameras see."""

PREVIEW = (18, 24)  # pixels (height, width), enough to judge a view
FOV_X_DEG = (38.0, 75.0)
PATH_TRIES = 12


def choose_views(
    rng: np.random.Generator,
    scene: Scene,
    look: Look,
    frames: int,
    arrangement: Arrangement,
    size: Size,
) -> list[Camera]:
    """Cameras with the same K at the best of the scene's places, or along a path from one.

    Args:
        rng: decides the field of view, and which of the good places are taken.
        scene: offers the places.
        look: what some cameras would see.
        frames: how many cameras.
        arrangement: independent views, or a smooth path.
        size: of the pictures, (height, width) in pixels.
    """
    K = intrinsics(rng.uniform(*FOV_X_DEG), size)
    poses = [
        look_at(*pair, roll=rng.normal(0, 0.03))
        for pair in zip(scene.eyes, scene.targets, strict=True)
    ]
    scores = np.array(_scores(K, poses, size, look))
    order = np.argsort(-scores)
    if arrangement == "apart":
        # Not only the best, or every picture would be as crowded as possible.
        pool = order[: max(frames, min(len(order) // 2, int(np.sum(scores > 0))))]
        chosen = rng.choice(pool, size=frames, replace=frames > len(pool))
        return [Camera(K, poses[k], size) for k in chosen]
    places = order[: max(1, len(order) // 3)]
    paths = []
    for attempt in range(PATH_TRIES):
        place = places[attempt % len(places)]
        draw = _orbit if arrangement == "orbit" else _stroll
        # What does not fit is tried somewhere else first, and then shorter.
        shorter = 0.6 ** (attempt // 4)
        path = draw(rng, scene.eyes[place], scene.targets[place], frames, shorter)
        paths.append((min(_scores(K, path, size, look)), attempt, path))
        if paths[-1][0] > 0:
            break
    return [Camera(K, pose, size) for pose in max(paths)[2]]


def _stroll(
    rng: np.random.Generator, eye: Array, target: Array, frames: int, shorter: float
) -> list[Array]:
    distance = float(np.linalg.norm(target - eye))
    reach = distance * min(1.2, rng.uniform(0.02, 0.06) * frames)
    return smooth_path(rng, eye, target, frames, reach * shorter)


def _orbit(
    rng: np.random.Generator, eye: Array, target: Array, frames: int, shorter: float
) -> list[Array]:
    return orbit_path(rng, eye, target, frames, 2 * np.pi * shorter)


def _scores(K: Array, poses: Sequence[Array], size: Size, look: Look) -> list[float]:
    """How good each view is: the number of things in it; negative if it is blocked or empty."""
    cameras = [Camera(K, pose, size).resized(PREVIEW) for pose in poses]
    return [_score(depth, ids) for depth, ids in look(cameras)]


def _score(depth: NDArray[np.float32], ids: NDArray[np.int32]) -> float:
    labels, counts = np.unique(ids[ids > 0], return_counts=True)
    seen = depth[depth > 0]
    if len(labels) == 0 or len(seen) < 0.3 * depth.size:
        return -1.0
    near, middle = np.quantile(seen, [0.03, 0.5])
    # A thing before the lens, or a wall that fills the picture, hides what is of interest.
    blocked = near < 0.25 * middle or counts.max() > 0.7 * depth.size
    return float(len(labels)) - 100.0 * bool(blocked)
