"""Poses as files give them, to rigid ``cam_from_world`` in OpenCV axes."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crispdepth.geometry.rigid import scale_of
from crispdepth.io.atomic import read_bytes

Array = NDArray[np.float64]

OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
"""Camera axes: OpenGL's and Blender's y is up and z backward."""

_EXACT = 1e-6  # a rotation that is off by no more was rounded when it was written
_CLEAR = 1e-2  # one that is off by more, its scale taken out, is no rotation


class Rigid(NamedTuple):
    """A pose whose rotation is one, and the scale that was taken out of it."""

    cam_from_world: Array  # (4, 4)
    scale: float


def read_matrix(path: Path) -> Array:
    """The 4x4 matrix in a text file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it does not hold 16 numbers.
    """
    words = read_bytes(path).split()
    try:
        return np.array([float(word) for word in words]).reshape(4, 4)
    except ValueError as error:
        raise ValueError(f"{path} should hold a 4x4 matrix, 16 numbers: {error}.") from error


def from_integer_centres(K: Array) -> Array:
    """``K`` of a calibration that puts the centre of the top-left pixel at (0, 0), for (0.5, 0.5).

    So do OpenCV and Bouguet's toolbox, with which most real datasets were calibrated.
    """
    half = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
    shifted: Array = half @ K
    return shifted


def inverse_pose(world_from_cam: Any, label: str) -> Array:
    """``cam_from_world`` (4, 4) of a (3, 4) or (4, 4) matrix; all NaN if a number is not finite.

    Raises:
        ValueError: it has another shape or last row, or no inverse; ``label`` is what it is called.
    """
    try:
        matrix = np.array(world_from_cam, np.float64)
    except (ValueError, TypeError) as error:
        raise ValueError(f"The pose of {label} is no matrix of numbers: {error}.") from error
    if matrix.shape == (3, 4):
        matrix = np.vstack([matrix, [0.0, 0.0, 0.0, 1.0]])
    if matrix.shape != (4, 4):
        raise ValueError(f"The pose of {label} should be 3x4 or 4x4, got {matrix.shape}.")
    if not np.isfinite(matrix).all():
        return np.full((4, 4), np.nan)
    if not np.allclose(matrix[3], [0, 0, 0, 1], atol=1e-9):
        raise ValueError(
            f"The last row of the pose of {label} should be 0 0 0 1, got {matrix[3].tolist()}; "
            "is the matrix transposed?"
        )
    try:
        return np.asarray(np.linalg.inv(matrix), np.float64)
    except np.linalg.LinAlgError as error:
        raise ValueError(f"The rotation of the pose of {label} is singular.") from error


def make_rigid(cam_from_world: Array, label: str) -> Rigid:
    """The pose with an orthonormal rotation and the same centre; one exact to 1e-6 stays as it is.

    A uniform scale in the rotation is divided out of the whole pose, which leaves the picture as
    it is.

    Raises:
        ValueError: the rotation is mirrored, sheared or of unequal scales.
    """
    scale = scale_of(cam_from_world)
    if abs(scale) < 1e-9:
        raise ValueError(f"The rotation of the pose of {label} is singular.")
    if scale < 0:
        raise ValueError(
            f"The pose of {label} is left-handed (its rotation has determinant "
            f"{scale**3:.3g}): one axis is mirrored, as in Unity or DirectX. Mirror one axis of "
            "the world and of the cameras when exporting, so that the determinant is +1."
        )
    pose = cam_from_world.copy()
    if abs(scale - 1) > _EXACT:
        pose[:3] /= scale
    off = np.abs(pose[:3, :3] @ pose[:3, :3].T - np.eye(3)).max()
    if off > _CLEAR:
        raise ValueError(
            f"The rotation of the pose of {label} is sheared or scaled unevenly (R Rᵀ differs "
            f"from the identity by {off:.2g}): {cam_from_world[:3, :3].round(4).tolist()}. "
            "Export the poses as rotation and translation."
        )
    if off > _EXACT:
        centre = np.linalg.solve(pose[:3, :3], pose[:3, 3])
        u, _, vt = np.linalg.svd(pose[:3, :3])
        pose[:3, :3] = u @ vt
        pose[:3, 3] = pose[:3, :3] @ centre
    return Rigid(pose, scale)
