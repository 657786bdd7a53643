"""Pictures of Gaussians from cameras that nobody held: turntables, and ways through the views.

A `Renderer` gives what a camera sees; what it draws is its own business, so a way of cameras
serves Gaussians and meshes alike.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crispdepth.geometry.rigid import matrix_from_quaternion, quaternion_from_matrix
from crispdepth.types import Camera, Gaussians, Size

Array = NDArray[np.float64]

Renderer = Callable[[Camera], NDArray[np.uint8]]
"""What a camera sees, (h, w, 3) uint8 in sRGB."""

_FRAME = 0.9  # share of the frame that a turntable's object fills at most


class Orbit(NamedTuple):
    """A circle about an axis."""

    centre: Array  # (3,), what the cameras look at, world
    up: Array  # (3,), unit axis
    radius: float  # distance from the centre
    elevation_deg: float  # above the plane through the centre

    def cameras(self, K: Array, size: Size, count: int) -> tuple[Camera, ...]:
        """Cameras at equal steps, all looking at the centre; the last is followed by the first."""
        side = np.eye(3)[np.abs(self.up).argmin()]
        side = side - (side @ self.up) * self.up
        side /= np.linalg.norm(side)
        other = np.cross(self.up, side)
        angle = np.deg2rad(self.elevation_deg)
        out = []
        for turn in 2 * np.pi * np.arange(count) / count:
            around = np.cos(turn) * side + np.sin(turn) * other
            eye = self.centre + self.radius * (np.cos(angle) * around + np.sin(angle) * self.up)
            out.append(Camera(K, size, look_at(eye, self.centre, self.up)))
        return tuple(out)


def look_at(eye: Array, target: Array, up: Array) -> Array:
    """``cam_from_world`` (4, 4) of a camera at ``eye`` that looks at ``target``, upright.

    Raises:
        ValueError: eye and target are one, or the view is along ``up``.
    """
    forward = target - eye
    right = np.cross(forward, up)
    if not (np.linalg.norm(right) > 1e-9 * np.linalg.norm(forward) > 0):
        raise ValueError("A camera needs to look somewhere, and not along its own vertical.")
    forward, right = forward / np.linalg.norm(forward), right / np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = right, np.cross(forward, right), forward
    pose[:3, 3] = -pose[:3, :3] @ eye
    return pose


def orbit_cameras(cameras: Sequence[Camera]) -> Orbit:
    """The circle about what the cameras look at, as far from it and as high as they are.

    The centre is the point nearest to all of their axes; up is what is up in them on average.

    Raises:
        ValueError: there is no such point: a single camera, or parallel axes.
    """
    poses = np.stack([camera.cam_from_world for camera in cameras])
    eyes = -np.einsum("nji,nj->ni", poses[:, :3, :3], poses[:, :3, 3])
    axes = poses[:, 2, :3]
    across = np.eye(3) - axes[:, :, None] * axes[:, None]
    total = across.sum(axis=0)
    if np.linalg.eigvalsh(total)[0] < 1e-4 * len(cameras):
        raise ValueError(
            "The cameras do not look at one place from several sides, so there is nothing to turn "
            "around; follow their path instead (--path views)."
        )
    centre = np.linalg.solve(total, np.einsum("nij,nj->i", across, eyes))
    up = -poses[:, 1, :3].mean(axis=0)
    up /= np.linalg.norm(up)
    offsets = eyes - centre
    distances = np.linalg.norm(offsets, axis=1)
    elevation = np.rad2deg(np.arcsin((offsets @ up / distances).clip(-1, 1)))
    return Orbit(centre, up, float(np.median(distances)), float(np.median(elevation)))


def orbit_points(
    points: NDArray[np.float32], up: Array, K: Array, size: Size, elevation_deg: float
) -> Orbit:
    """The circle from which the points fill the frame.

    Their middle and extent are those of 98 of 100, so that a few strays do not count.
    """
    low, high = np.percentile(points, [1, 99], axis=0)
    centre = (low + high) / 2
    extent = np.percentile(np.linalg.norm(points - centre, axis=1), 98)
    half = min(size[1] / K[0, 0], size[0] / K[1, 1]) / 2
    radius = extent / np.sin(np.arctan(_FRAME * half))
    return Orbit(centre, up / np.linalg.norm(up), float(max(radius, 1e-6)), elevation_deg)


def path_through(cameras: Sequence[Camera], count: int) -> tuple[Camera, ...]:
    """``count`` cameras on a smooth way through all of them, in their order.

    Places follow a Catmull-Rom spline, which passes through each; rotations turn evenly from one
    to the next. All have the size and the lens of the first.

    Raises:
        ValueError: there are fewer than two cameras, or the count is below 2.
    """
    if len(cameras) < 2 or count < 2:
        raise ValueError(
            f"A way leads through 2 cameras or more, in 2 steps or more; got {len(cameras)} and "
            f"{count}."
        )
    poses = np.stack([camera.cam_from_world for camera in cameras])
    eyes = -np.einsum("nji,nj->ni", poses[:, :3, :3], poses[:, :3, 3])
    turns = quaternion_from_matrix(poses[:, :3, :3])
    place = np.linspace(0, len(cameras) - 1, count)
    index = np.minimum(place.astype(int), len(cameras) - 2)
    t = (place - index)[:, None]
    # Beyond its ends the way would go straight on.
    eyes = np.concatenate([2 * eyes[:1] - eyes[1:2], eyes, 2 * eyes[-1:] - eyes[-2:-1]])
    a, b, c, d = (eyes[index + k] for k in range(4))
    way = b + t / 2 * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    rotations = matrix_from_quaternion(_slerp(turns[index], turns[index + 1], t))
    out = []
    for eye, rotation in zip(way, rotations, strict=True):
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation, -rotation @ eye
        out.append(Camera(cameras[0].K, cameras[0].size, pose))
    return tuple(out)


def gaussian_renderer(
    gaussians: Gaussians, background: tuple[float, float, float] = (1, 1, 1), device: str = "cpu"
) -> Renderer:
    """Draws Gaussians over a colour, sRGB in [0, 1]. Needs torch."""
    import torch

    from crispdepth.ops.splat import Splats, render

    def tensor(values: NDArray[np.floating]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)

    splats = Splats(
        tensor(gaussians.means),
        tensor(gaussians.scales),
        tensor(gaussians.rotations),
        tensor(gaussians.opacities),
        tensor(gaussians.sh),
    )
    behind = torch.tensor(background, device=device)
    # Nearer than a few of its own sizes, a Gaussian would fill the frame.
    near = 4 * float(np.median(gaussians.scales.max(axis=1))) if len(gaussians) else 0.01

    @torch.no_grad()
    def draw(camera: Camera) -> NDArray[np.uint8]:
        K, pose = tensor(camera.K), tensor(camera.cam_from_world)
        seen = render(splats, K, pose, camera.size, near=near)
        picture = seen.colour + (1 - seen.alpha)[..., None] * behind
        levels = (picture.clamp(0, 1) * 255).round().to(torch.uint8)
        return np.asarray(levels.cpu().numpy())

    return draw


def _slerp(one: Array, other: Array, t: Array) -> Array:
    """Quaternions (n, 4) on the shorter way from one to the other, at t (n, 1) of it."""
    cosine = np.sum(one * other, axis=1, keepdims=True)
    other = np.where(cosine < 0, -other, other)
    angle = np.arccos(np.abs(cosine).clip(0, 1))
    near = angle < 1e-6
    sine = np.where(near, 1, np.sin(angle))
    first = np.where(near, 1 - t, np.sin((1 - t) * angle) / sine)
    second = np.where(near, t, np.sin(t * angle) / sine)
    return np.asarray(first * one + second * other)
