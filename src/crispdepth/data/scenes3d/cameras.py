"""Where a camera is and what it sees: random views and smooth paths, OpenCV axes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from crispdepth.data.scenes3d.shapes import Array, rotation
from crispdepth.types import Size


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera; the centre of the top-left pixel is (0.5, 0.5)."""

    K: Array  # (3, 3), pixels
    cam_from_world: Array  # (4, 4), metres
    size: Size  # (height, width), pixels

    def resized(self, size: Size) -> "Camera":
        """The same view in a picture of another size (height, width)."""
        scale = np.array([size[1] / self.size[1], size[0] / self.size[0], 1.0])
        return Camera(scale[:, None] * self.K, self.cam_from_world, size)

    def rays(self) -> tuple[Array, Array]:
        """The eye (3,), and unit directions (h w, 3) through the pixels' centres, in the world."""
        y, x = np.mgrid[: self.size[0], : self.size[1]] + 0.5
        return self.rays_through(x.ravel(), y.ravel())

    def rays_through(self, x: Array, y: Array) -> tuple[Array, Array]:
        """The same through any points of the picture, (n,) pixels each."""
        pixels = np.stack([x, y, np.ones_like(x)], axis=-1)
        rotation, shift = self.cam_from_world[:3, :3], self.cam_from_world[:3, 3]
        ways = pixels @ np.linalg.inv(self.K).T @ rotation
        return -rotation.T @ shift, ways / np.linalg.norm(ways, axis=1, keepdims=True)


def intrinsics(fov_x_deg: float, size: Size) -> Array:
    """K (3, 3) of a field of view across the width of a picture (height, width)."""
    height, width = size
    f_px = width / 2 / np.tan(np.radians(fov_x_deg) / 2)
    return np.array([[f_px, 0, width / 2], [0, f_px, height / 2], [0, 0, 1]])


def look_at(eye: ArrayLike, target: ArrayLike, roll: float = 0.0) -> Array:
    """``cam_from_world`` (4, 4) of an upright camera, rolled by ``roll`` radians."""
    position = np.asarray(eye, float)
    z = np.asarray(target, float) - position
    z /= np.linalg.norm(z)
    x = np.cross(z, [0, 0, 1])
    x /= np.linalg.norm(x)
    y = np.cross(z, x)
    right = np.cos(roll) * x + np.sin(roll) * y
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([right, np.cross(z, right), z])
    matrix[:3, 3] = -matrix[:3, :3] @ position
    return matrix


def smooth_path(
    rng: np.random.Generator, eye: Array, target: Array, frames: int, reach: float
) -> list[Array]:
    """``cam_from_world`` of a hand-held move past a target.

    Args:
        rng: decides the way, the uneven steps and the slow shake.
        eye: (3,) where it starts.
        target: (3,) what it looks at in the beginning.
        frames: how many poses.
        reach: how far the camera goes at most, metres.
    """
    steps = rng.uniform(0.5, 1.5, frames)
    t = np.r_[0, np.cumsum(steps[1:])] / max(float(steps[1:].sum()), 1e-9)
    ends = rng.normal(size=(2, 3)) * [1, 1, 0.25]
    ends *= reach / 2 / np.maximum(np.linalg.norm(ends, axis=1, keepdims=True), 1e-9)
    # A quadratic Bezier curve from the eye.
    position = eye + 2 * (t * (1 - t))[:, None] * ends[0] + (t**2)[:, None] * (ends[0] + ends[1])
    phase, rate = rng.uniform(0, 2 * np.pi, (2, 3, 1)), rng.uniform(0.5, 2, (2, 3, 1)) * np.pi
    shake = np.sin(phase + rate * frames / 8 * t)  # (2, 3, frames)
    position = position + 0.02 * reach * shake[0].T
    gaze = target + 0.1 * reach * shake[1].T
    return [
        look_at(p, g, roll=0.03 * float(s))
        for p, g, s in zip(position, gaze, shake[0, 0], strict=True)
    ]


def orbit_path(
    rng: np.random.Generator, eye: Array, target: Array, frames: int, arc: float
) -> list[Array]:
    """``cam_from_world`` of a walk around a target, in uneven steps and always looking at it.

    Args:
        rng: decides the sense and the steps.
        eye: (3,) where it starts.
        target: (3,) on the vertical axis around which it turns.
        frames: how many poses.
        arc: from the first to one after the last pose, radians.
    """
    step = arc / frames
    angles = step * (np.arange(frames) + rng.uniform(-0.25, 0.25, frames))
    angles *= rng.choice([-1, 1])
    turns = [rotation((0, 0, 1), float(angle))[:3, :3] for angle in angles - angles[0]]
    return [look_at(target + turn @ (eye - target), target) for turn in turns]
