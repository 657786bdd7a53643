"""Which views to match with a view: those that see the same from an angle worth having."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crispdepth.geometry.warp import camera_centre, in_camera, sees, transfer
from crispdepth.types import Camera

BEST_ANGLE = 8.0
"""Degrees between two rays at which depth is told best: less is imprecise, more looks different."""

WIDEST_ANGLE = 50.0
"""Degrees beyond which windows do not match any more."""

_SPREAD = (4.0, 14.0)  # degrees: standard deviations below and above the best angle
_RAYS = 6  # along either side of the frame
_DEPTHS = 5
_TWIN = 0.5  # how much a source counts whose view of the points is that of one already chosen


class Selection(NamedTuple):
    """The sources of a view, best first."""

    indices: tuple[int, ...]
    scores: tuple[float, ...]  # in (0, 1]: mean over points of overlap times worth of the angle


def sample_points(camera: Camera, near: float, far: float) -> NDArray[np.float64]:
    """World points (n, 3) spread over a view's frustum, evenly in the image and in 1 / depth."""
    height, width = camera.size
    fractions = (np.arange(_RAYS) + 0.5) / _RAYS
    x, y = np.meshgrid(fractions * width, fractions * height)
    rays = np.stack((x.ravel(), y.ravel(), np.ones(x.size))).T @ np.linalg.inv(camera.K).T
    depths = 1 / np.linspace(1 / far, 1 / near, _DEPTHS)
    points = (depths[:, None, None] * rays).reshape(-1, 3)
    world_from_cam = np.linalg.inv(camera.cam_from_world)
    world: NDArray[np.float64] = points @ world_from_cam[:3, :3].T + world_from_cam[:3, 3]
    return world


def select_sources(
    cameras: Sequence[Camera],
    index: int,
    near: float,
    far: float,
    count: int,
    *,
    without: Collection[int] = (),
) -> Selection:
    """Up to ``count`` views to match view ``index`` with.

    Each is scored by the mean over points of the view's frustum of: inside the other's frame,
    times a bell about `BEST_ANGLE` of the angle between the two rays (the piecewise Gaussian of
    MVSNet, Yao et al., ECCV 2018, with frustum points in place of sparse ones). They are chosen
    one after another, those that look from the side of one already chosen counting less, so that
    what is hidden from one side is seen from another. A view from the same centre tells no depth
    and is never chosen, whatever its number.

    Args:
        cameras: of all views.
        index: of the reference.
        near, far: depths between which the reference's points lie.
        count: at most so many.
        without: views that are not chosen.
    """
    reference = cameras[index]
    points = sample_points(reference, near, far)
    centre = camera_centre(reference)
    centres = np.array([camera_centre(camera) for camera in cameras])
    directions = _unit(points - centre)
    scores = np.zeros(len(cameras))
    for other in np.flatnonzero(np.abs(centres - centre).max(axis=1) > 1e-9 * far).tolist():
        cosine = (directions * _unit(points - centres[other])).sum(axis=1)
        angle = np.degrees(np.arccos(cosine.clip(-1, 1)))
        spread = np.where(angle < BEST_ANGLE, *_SPREAD)
        worth = np.exp(-(((angle - BEST_ANGLE) / spread) ** 2) / 2) * (angle < WIDEST_ANGLE)
        scores[other] = (worth * sees(cameras[other], in_camera(cameras[other], points))).mean()
    chosen: list[int] = []
    offsets = _unit(centres - centre)
    remaining = np.where(scores > 1e-3, scores, 0)
    remaining[list(without)] = 0
    while len(chosen) < count and remaining.max() > 0:
        best = int(remaining.argmax())
        chosen.append(best)
        same_side = (offsets @ offsets[best] > 0).astype(float)
        remaining = remaining * (1 - (1 - _TWIN) * same_side)
        remaining[best] = 0
    return Selection(tuple(chosen), tuple(float(scores[i]) for i in chosen))


def disparity_range(reference: Camera, sources: Sequence[Camera], near: float, far: float) -> float:
    """The longest way in pixels that a point goes in a source between ``near`` and ``far``."""
    height, width = reference.size
    x = np.array([[a * width, b * height, 1] for a in (0.25, 0.75) for b in (0.25, 0.75)])
    longest = 0.0
    for source in sources:
        pixels = transfer(reference, source)
        ends = [x @ pixels.A.T + rho * pixels.b for rho in (1 / far, 1 / near)]
        seen = np.logical_and(*(end[:, 2] > 0 for end in ends))
        if seen.any():
            first, second = (end[seen, :2] / end[seen, 2:] for end in ends)
            longest = max(longest, float(np.median(np.linalg.norm(first - second, axis=1))))
    return longest


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """The vectors (..., 3) at length 1; a zero vector stays."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: NDArray[np.float64] = vectors / np.where(length > 0, length, 1)
    return unit
