"""Between which depths the surfaces of a view can lie: from masks, points or cameras alone."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crispdepth.geometry.warp import camera_centre, in_camera, sees
from crispdepth.types import Camera, Float32Map

Bounds = tuple[float, float]  # nearest and farthest z-depth, in the unit of the poses

_RAYS = 16  # along either side of the frame
_STEPS = 64  # depths tried on each ray, and again between the bounds found
_WIDEST = (0.02, 50.0)  # depths tried first, in extents of the cameras
_DISSENT = 0.15  # share of the views that may miss the object (a bad mask) without carving it
_SEEN = 0.5  # share of the most views that see a point which must see a point of the object
_OUTLYING = 0.01  # share of points at either end that do not count
_MARGIN = 0.05


def extent(cameras: Sequence[Camera]) -> float:
    """The diagonal of the box around the camera centres; 0 = all are in one place."""
    centres = np.array([camera_centre(camera) for camera in cameras])
    return float(np.linalg.norm(np.ptp(centres, axis=0)))


def bounds_from_points(camera: Camera, points: NDArray[np.float32]) -> Bounds | None:
    """From sparse world points (n, 3) in the frame; None if it shows fewer than ten."""
    seen = in_camera(camera, points)
    depths = seen[sees(camera, seen), 2]
    if len(depths) < 10:
        return None
    near, far = np.quantile(depths, (_OUTLYING, 1 - _OUTLYING))
    # Sparse points miss what has no corners: half as near and twice as far is not sparse enough.
    return float(near * 0.8), float(far * 1.25)


def bounds_from_masks(
    cameras: Sequence[Camera], inside: Sequence[Float32Map | None], index: int
) -> Bounds | None:
    """From the visual hull, the part of space that no silhouette excludes.

    Rays of the view through its mask are cut by the silhouettes of all other views. A view whose
    mask is unknown excludes nothing, nor does an empty one (an object that was not found is more
    likely than one that is not there), and a few views may be wrong.

    Args:
        cameras: of all views.
        inside: of all views, (h, w) in [0, 1] of any size in the aspect of the camera; None:
            unknown.
        index: of the view whose bounds are asked for.

    Returns:
        None where masks bound nothing: fewer than two are known, or no point is left.
    """
    others = [
        (camera, mask)
        for number, (camera, mask) in enumerate(zip(cameras, inside, strict=True))
        if number != index and mask is not None and (mask >= 0.5).any()
    ]
    size = extent(cameras)
    rays = _rays(cameras[index], inside[index])
    if not others or not len(rays) or size == 0:
        return None
    tried = np.geomspace(_WIDEST[0] * size, _WIDEST[1] * size, _STEPS)
    for _ in range(2):
        left = _uncarved(cameras[index], rays, tried, others)
        if not left.any():
            return None
        first, last = np.flatnonzero(left)[[0, -1]]
        near, far = float(tried[max(first - 1, 0)]), float(tried[min(last + 1, _STEPS - 1)])
        tried = np.geomspace(near, far, _STEPS)
    return near * (1 - _MARGIN), far * (1 + _MARGIN)


def bounds_from_cameras(cameras: Sequence[Camera], index: int) -> Bounds:
    """What stereo with the other views can tell apart, when nothing else is known.

    From where a point moves by two frames between this view and its nearest neighbour (which it
    can where they turn towards each other), to where it moves by a pixel between this view and
    its farthest.

    Raises:
        ValueError: all cameras are in one place.
    """
    centres = np.array([camera_centre(camera) for camera in cameras])
    baselines = np.linalg.norm(centres - centres[index], axis=1)
    if baselines.max() <= 0:
        raise ValueError("All cameras are in one place: nothing tells their depths.")
    smallest = float(baselines[baselines > 1e-6 * baselines.max()].min())
    camera = cameras[index]
    focal, width = float(camera.K[0, 0]), camera.size[1]
    near = 0.5 * focal * smallest / width
    return near, max(4 * near, min(focal * float(baselines.max()), 1000 * near))


def _rays(camera: Camera, mask: Float32Map | None) -> NDArray[np.float64]:
    """Points at z = 1 that the pixels of a grid inside the mask show, (n, 3)."""
    height, width = camera.size
    fractions = (np.arange(_RAYS) + 0.5) / _RAYS
    x, y = (part.ravel() for part in np.meshgrid(fractions, fractions))
    if mask is not None:
        rows, columns = np.nonzero(mask >= 0.5)
        # The grid may miss a thin mask: a share of its own pixels, spread evenly, does not.
        chosen = np.linspace(0, len(rows) - 1, min(len(rows), _RAYS**2)).astype(int)
        x, y = (columns[chosen] + 0.5) / mask.shape[1], (rows[chosen] + 0.5) / mask.shape[0]
    pixels = np.stack((x * width, y * height, np.ones_like(x)), axis=1)
    rays: NDArray[np.float64] = pixels @ np.linalg.inv(camera.K).T
    return rays


def _uncarved(
    camera: Camera,
    rays: NDArray[np.float64],
    depths: NDArray[np.float64],
    others: Sequence[tuple[Camera, Float32Map]],
) -> NDArray[np.bool_]:
    """At which depths some ray has a point that the silhouettes leave, (d,)."""
    points = (depths[:, None, None] * rays).reshape(-1, 3)
    seen, missed = np.zeros(len(points)), np.zeros(len(points))
    world_from_cam = np.linalg.inv(camera.cam_from_world)
    for other, mask in others:
        pose = other.cam_from_world @ world_from_cam
        there = points @ pose[:3, :3].T + pose[:3, 3]
        at = np.flatnonzero(sees(other, there))
        pixels = there[at] @ other.K.T
        scale = np.array([mask.shape[1] / other.size[1], mask.shape[0] / other.size[0]])
        column, row = (pixels[:, :2] / pixels[:, 2:] * scale).astype(int).T
        column, row = column.clip(max=mask.shape[1] - 1), row.clip(max=mask.shape[0] - 1)
        seen[at] += 1
        missed[at] += mask[row, column] < 0.1
    # What few views see (behind the others, or beside all of them) is excluded by few: it counts
    # only if there is nothing that more of them see.
    left = (seen > 0) & (seen >= _SEEN * seen.max()) & (missed <= _DISSENT * seen)
    some: NDArray[np.bool_] = left.reshape(len(depths), -1).any(axis=1)
    return some
