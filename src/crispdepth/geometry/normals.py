"""Normals of depth maps."""

import numpy as np
from numpy.typing import NDArray

from crispdepth.types import BoolMap


def normals(points: NDArray[np.float32], valid: BoolMap) -> NDArray[np.float32]:
    """Unit normals (h, w, 3) of the surface through the points of the pixels, to the camera.

    Central differences, one-sided where one neighbour is missing; of two sides the one with less
    change in depth, so that an edge does not tilt the surfaces beside it. Where a pixel has no
    neighbour in a row or column, or is not valid, its normal points to the camera.

    Args:
        points: (h, w, 3) in the camera's frame, finite.
        valid: (h, w).
    """
    across, known_across = _difference(points, valid)
    down, known_down = _difference(points.swapaxes(0, 1), valid.T)
    down, known_down = down.swapaxes(0, 1), known_down.T
    normal = np.cross(across, down)
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    back = -points / np.maximum(np.linalg.norm(points, axis=-1, keepdims=True), 1e-12)
    known = (known_across & known_down & (length[..., 0] > 0))[..., None]
    normal = np.where(known, normal / np.where(length > 0, length, 1), back)
    facing = np.sum(normal * back, axis=-1, keepdims=True)
    return np.where(facing < 0, -normal, normal).astype(np.float32)


def _difference(points: NDArray[np.float32], valid: BoolMap) -> tuple[NDArray[np.float32], BoolMap]:
    """Change (h, w, 3) from a pixel to its right, from the flatter side, and where there is one."""
    step = np.diff(points, axis=1)
    both = valid[:, 1:] & valid[:, :-1]
    size = np.where(both, np.abs(step[..., 2]), np.float32(np.inf))
    after = np.pad(size, ((0, 0), (0, 1)), constant_values=np.inf)
    before = np.pad(size, ((0, 0), (1, 0)), constant_values=np.inf)
    steps_after = np.pad(step, ((0, 0), (0, 1), (0, 0)))
    steps_before = np.pad(step, ((0, 0), (1, 0), (0, 0)))
    alike = np.maximum(after, before) <= 2 * np.minimum(after, before)
    one = np.where((after < before)[..., None], steps_after, steps_before)
    out = np.where(alike[..., None], (steps_after + steps_before) / 2, one)
    return out.astype(np.float32), np.isfinite(np.minimum(after, before))
