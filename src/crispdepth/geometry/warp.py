"""Where one camera sees the pixels of another, as a function of their inverse depth.

A reference pixel x = (u, v, 1) at inverse depth rho is seen by a source at ``A x + rho b``, with
``A = K_source R K_reference^-1``, ``b = K_source t`` and ``(R, t)`` the way from the reference's
frame to the source's (spec 1.6; each view has its own K). It is linear in rho, and its third
component times the depth is the source's z-depth.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crispdepth.types import Camera


class PixelTransfer(NamedTuple):
    """The map ``A x + rho b`` from reference pixels to homogeneous source pixels."""

    A: NDArray[np.float64]  # (3, 3): the homography of the plane at infinity
    b: NDArray[np.float64]  # (3,): the epipole times its depth


def transfer(reference: Camera, source: Camera) -> PixelTransfer:
    """How ``source`` sees the pixels of ``reference``."""
    source_from_reference = source.cam_from_world @ np.linalg.inv(reference.cam_from_world)
    rotation, translation = source_from_reference[:3, :3], source_from_reference[:3, 3]
    return PixelTransfer(source.K @ rotation @ np.linalg.inv(reference.K), source.K @ translation)


def plane_homography(pixels: PixelTransfer, inverse_depth: float) -> NDArray[np.float64]:
    """The (3, 3) homography of the plane z = 1 / inverse_depth of the reference."""
    homography = pixels.A.copy()
    homography[:, 2] += inverse_depth * pixels.b
    return homography


def inverse_depth_planes(near: float, far: float, count: int) -> NDArray[np.float64]:
    """``count`` inverse depths from 1 / far to 1 / near, equally spaced (spec 1.6).

    Raises:
        ValueError: not 0 < near < far, or fewer than two planes.
    """
    if not 0 < near < far < np.inf:
        raise ValueError(f"Planes lie between 0 < near < far, got {near:g} and {far:g}.")
    if count < 2:
        raise ValueError(f"A sweep needs two planes or more, got {count}.")
    return np.linspace(1 / far, 1 / near, count)


def camera_centre(camera: Camera) -> NDArray[np.float64]:
    """The centre (3,) in world coordinates."""
    rotation, translation = camera.cam_from_world[:3, :3], camera.cam_from_world[:3, 3]
    centre: NDArray[np.float64] = -np.linalg.inv(rotation) @ translation
    return centre


def sees(camera: Camera, points: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Which points (n, 3) of the camera's own frame are in its picture, (n,)."""
    pixels = points @ camera.K.T
    in_front = pixels[:, 2] > 1e-12
    x, y = (pixels[:, axis] / np.where(in_front, pixels[:, 2], 1) for axis in (0, 1))
    height, width = camera.size
    inside: NDArray[np.bool_] = in_front & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return inside


def in_camera(camera: Camera, points: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """World points (n, 3) in the camera's frame."""
    moved: NDArray[np.float64] = points @ camera.cam_from_world[:3, :3].T
    return moved + camera.cam_from_world[:3, 3]
