"""Depth maps of spheres, planes and boxes, exact at pixel centres."""

import numpy as np
from numpy.typing import NDArray

from crispdepth.geometry.backproject import pixel_rays
from crispdepth.types import Camera, Float32Map


def looking_at(
    eye: NDArray[np.float64], target: NDArray[np.float64], size: tuple[int, int], focal: float
) -> Camera:
    """A camera at ``eye`` that looks at ``target``; z is up in the world."""
    z = (target - eye) / np.linalg.norm(target - eye)
    up = np.array([0.0, 0, 1]) if abs(z[2]) < 0.9 else np.array([0.0, 1, 0])
    x = np.cross(z, up)
    x /= np.linalg.norm(x)
    rotation = np.stack([x, np.cross(z, x), z])
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, -rotation @ eye
    height, width = size
    K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return Camera(K, size, pose)


def around(count: int, distance: float, size: tuple[int, int] = (96, 96)) -> list[Camera]:
    """Cameras spread evenly over a sphere about the origin (a Fibonacci lattice)."""
    index = np.arange(count) + 0.5
    z = 1 - 2 * index / count
    turn = np.pi * (1 + 5**0.5) * index
    flat = np.sqrt(1 - z**2)
    eyes = distance * np.stack([flat * np.cos(turn), flat * np.sin(turn), z], axis=1)
    return [looking_at(eye, np.zeros(3), size, 1.1 * max(size)) for eye in eyes]


def rays(camera: Camera) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre (3,) and directions (h, w, 3) with z-depth 1, in the world."""
    rotation, translation = camera.cam_from_world[:3, :3], camera.cam_from_world[:3, 3]
    return -rotation.T @ translation, pixel_rays(camera).astype(np.float64) @ rotation


def sphere_depth(camera: Camera, radius: float = 1.0) -> Float32Map:
    """z-depth of a sphere about the origin, 0 beside it."""
    centre, direction = rays(camera)
    a = (direction**2).sum(axis=-1)
    b = direction @ centre
    inside = b**2 - a * (centre @ centre - radius**2)
    depth = (-b - np.sqrt(np.maximum(inside, 0))) / a
    return np.where((inside > 0) & (depth > 0), depth, 0).astype(np.float32)


def plane_depth(
    camera: Camera, normal: NDArray[np.float64], offset: float, limit: float = np.inf
) -> Float32Map:
    """z-depth of the plane ``normal . x = offset`` up to ``limit``, 0 where it is not seen."""
    centre, direction = rays(camera)
    with np.errstate(divide="ignore"):
        depth = (offset - normal @ centre) / (direction @ normal)
    return np.where((depth > 0) & (depth < limit), depth, 0).astype(np.float32)


def box_depth(camera: Camera, half: NDArray[np.float64]) -> Float32Map:
    """z-depth of a box about the origin with these half sides, 0 beside it."""
    centre, direction = rays(camera)
    with np.errstate(divide="ignore"):
        ends = np.stack([(-half - centre) / direction, (half - centre) / direction])
    near, far = ends.min(axis=0).max(axis=-1), ends.max(axis=0).min(axis=-1)
    return np.where((near < far) & (near > 0), near, 0).astype(np.float32)
