"""Rotations, rigid transforms and similarities, NumPy float64; names read right to left."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def matrix_from_quaternion(wxyz: Array) -> Array:
    """Rotation matrices (*, 3, 3) of quaternions (*, 4), which need not have unit length.

    Raises:
        ValueError: a quaternion is zero.
    """
    wxyz = np.asarray(wxyz, np.float64)
    squared = (wxyz**2).sum(axis=-1)
    if not (squared > 0).all():
        raise ValueError("A quaternion of length zero is no rotation.")
    w, x, y, z = np.moveaxis(wxyz, -1, 0)
    rows = (
        (w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z),
    )
    matrix = np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
    rotation: Array = matrix / squared[..., None, None]
    return rotation


def quaternion_from_matrix(rotation: Array) -> Array:
    """Unit quaternions wxyz (*, 4), w >= 0, of rotation matrices (*, 3, 3).

    The quaternion is the eigenvector of the largest eigenvalue of a symmetric matrix built from
    the rotation (Bar-Itzhack, 2000), which has no special cases.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = np.moveaxis(rotation, (-2, -1), (0, 1))
    rows = (
        (xx + yy + zz, zy - yz, xz - zx, yx - xy),
        (zy - yz, xx - yy - zz, xy + yx, xz + zx),
        (xz - zx, xy + yx, yy - xx - zz, yz + zy),
        (yx - xy, xz + zx, yz + zy, zz - xx - yy),
    )
    symmetric = np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
    wxyz: Array = np.linalg.eigh(symmetric)[1][..., -1]
    return np.where(wxyz[..., :1] < 0, -wxyz, wxyz)


def scale_of(similarity: Array) -> float:
    """The factor by which a similarity (4, 4) stretches lengths; negative if it mirrors."""
    return float(np.cbrt(np.linalg.det(similarity[:3, :3])))


def transform_points(b_from_a: Array, points: NDArray[np.floating]) -> Array:
    """Points (n, 3) of frame a in frame b; ``b_from_a`` is an affine (4, 4)."""
    moved: Array = points @ b_from_a[:3, :3].T + b_from_a[:3, 3]
    return moved


def camera_in_frame(cam_from_world: Array, frame_from_world: Array) -> Array:
    """``cam_from_frame``, rigid, for a frame that differs from the world by a similarity.

    Lengths in the camera are those of the frame: depths are stretched by the similarity's scale.
    """
    cam_from_frame: Array = cam_from_world @ np.linalg.inv(frame_from_world)
    cam_from_frame[:3] *= scale_of(frame_from_world)
    return cam_from_frame
