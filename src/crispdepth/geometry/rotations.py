"""Rotations as quaternions w x y z."""

import numpy as np
from numpy.typing import NDArray


def quaternions_of(matrices: NDArray[np.floating]) -> NDArray[np.float32]:
    """Unit quaternions (n, 4) with w >= 0 of rotation matrices (n, 3, 3).

    Shepperd, 1978: from the largest part, so that nothing is divided by what may be small.
    """
    m = matrices.astype(np.float64)
    trace = np.trace(m, axis1=1, axis2=2)
    odd = np.stack([m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]], -1)
    # Each row is the quaternion times 4 times one of its parts; the largest part is never small.
    rows = np.empty((len(m), 4, 4))
    rows[:, 0, 0] = 1 + trace
    rows[:, 0, 1:] = rows[:, 1:, 0] = odd
    rows[:, 1:, 1:] = m + m.swapaxes(1, 2)
    diagonal = np.arange(1, 4)
    rows[:, diagonal, diagonal] = 1 - trace[:, None] + 2 * np.diagonal(m, axis1=1, axis2=2)
    largest = np.diagonal(rows, axis1=1, axis2=2).argmax(axis=1)
    chosen = rows[np.arange(len(m)), largest]
    chosen = chosen / np.linalg.norm(chosen, axis=1, keepdims=True)
    return np.where(chosen[:, :1] < 0, -chosen, chosen).astype(np.float32)


def matrices_of(quaternions: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rotation matrices (n, 3, 3) of unit quaternions w x y z (n, 4)."""
    w, x, y, z = quaternions.astype(np.float64).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)
