"""Posed frames of a ball on a slanted floor, exact at pixel centres."""

import numpy as np
from numpy.typing import NDArray

from crispdepth.data.datasets import RgbdFrame
from crispdepth.types import Camera, DepthMap
from tests.analytic import looking_at, plane_depth, rays, sphere_depth

UP = np.array([0.0, 0.2, 1.0])
SIZE = (48, 64)


def orbit(count: int, distance: float = 4.0) -> list[Camera]:
    """Cameras on an arc, 12 degrees apart, that look at the ball from above."""
    angles = np.radians(12) * np.arange(count)
    eyes = distance * np.stack([np.cos(angles), np.sin(angles), 0.6 + 0 * angles], axis=1)
    return [looking_at(eye, np.zeros(3), SIZE, 55.0) for eye in eyes]


def ball_frames(scene: str, count: int = 6, *, masks: bool = False) -> list[RgbdFrame]:
    """Views of the ball, instance 1; ``masks``: with masks, as scenes about an object have them."""
    return [
        ball_frame(camera, f"{scene}/{number:04}", masks=masks)
        for number, camera in enumerate(orbit(count))
    ]


def ball_frame(camera: Camera, name: str, *, masks: bool = False) -> RgbdFrame:
    """One view of the ball."""
    ball, floor = sphere_depth(camera), plane_depth(camera, UP, -1.1, 40)
    is_ball = ball > 0
    z = np.where(is_ball, ball, floor)
    centre, direction = rays(camera)
    points = centre + z[..., None] * direction
    image = painted(points)
    ids = is_ball.astype(np.int32)
    mask = is_ball.astype(np.uint8) * np.uint8(255) if masks else None
    depth = DepthMap(z, "depth", "m", camera=camera)
    return RgbdFrame(name, image, depth, ids, mask=mask)


def painted(points: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A smooth colour for every point of space."""
    waves = np.sin(points @ np.array([[1.3, 0.4, 2.0], [0.7, 1.9, 0.3], [1.1, 0.2, 1.4]]))
    return np.asarray(np.rint(127 + 90 * waves), np.uint8)
