"""From a depth map to points in space, and what has to be assumed where the map does not say.

Points are in the camera's frame: OpenCV axes, x right, y down, z forward.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crispdepth.geometry.depth import inverse_depth
from crispdepth.types import Camera, DepthMap, Float32Map, Size


class Placement(NamedTuple):
    """The affine map that gives inverse depth of unknown scale and shift a place in space.

    1 / z = gain * (inverse_depth - farthest) + 1 / far, and z lies in [near, far].
    """

    gain: float
    farthest: float  # inverse depth
    near: float
    far: float

    def apply(self, inverse: Float32Map) -> Float32Map:
        """1 / z of a map (h, w), finite and positive."""
        placed = (inverse - np.float32(self.farthest)) * np.float32(self.gain)
        placed += np.float32(1 / self.far)
        return placed.clip(1 / self.far, 1 / self.near)


def place(depth: DepthMap, near: float, far: float) -> Placement:
    """Where to put the surfaces of a depth map.

    Only *relative inverse depth* needs to be placed: its nearest valid pixel comes to ``near``
    and its farthest to ``far``, which makes planes of planes. Any other map says itself where
    its surfaces are, to scale at least, and ``near`` and ``far`` are not used.

    Raises:
        ValueError: not 0 < near < far, or the map has no valid pixel.
    """
    if not depth.usable.any():
        raise ValueError("The depth map has no valid pixel, so there is nothing to place in space.")
    inverse = inverse_depth(depth)
    low = float(inverse.min(where=depth.usable, initial=np.inf))
    high = float(inverse.max(where=depth.usable, initial=-np.inf))
    if depth.kind == "depth" or depth.unit == "m":
        # Inverse depth in 1/m may be 0 in the sky: that far is as good as infinitely far.
        low = max(low, 1e-4 * high)
        return Placement(1, low, 1 / high, 1 / low)
    if not 0 < near < far < np.inf:
        raise ValueError(
            f"Relative inverse depth is placed between two distances 0 < near < far; "
            f"got near {near:g} and far {far:g}."
        )
    gain = (1 / near - 1 / far) / (high - low) if high > low else 0.0
    return Placement(gain, low, near, far)


def camera_of_view(size: Size, fov: float) -> Camera:
    """A camera that looks through the centre of an image of ``size`` (height, width).

    Args:
        size: pixels.
        fov: angle of view across the longer side, degrees.

    Raises:
        ValueError: the angle is not between 1 and 170 degrees.
    """
    if not 1 <= fov <= 170:
        raise ValueError(f"An angle of view is between 1 and 170 degrees, got {fov:g}.")
    height, width = size
    focal = max(size) / 2 / np.tan(np.deg2rad(fov) / 2)
    return Camera(np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]), size)


def pixel_rays(camera: Camera) -> NDArray[np.float32]:
    """The points at z = 1 that the pixel centres show, (h, w, 3), in the camera's frame."""
    height, width = camera.size
    rays: NDArray[np.float64] = np.empty((height, width, 3))
    x, y = np.arange(width) + 0.5, (np.arange(height) + 0.5)[:, None]
    for axis, (a, b, c) in enumerate(np.linalg.inv(camera.K)):
        rays[..., axis] = a * x + b * y + c
    return rays.astype(np.float32)


def backproject(inverse: Float32Map, camera: Camera) -> NDArray[np.float32]:
    """The points (h, w, 3) that a map of 1 / z > 0 shows: ``z * K^-1 (x, y, 1)``."""
    points: NDArray[np.float32] = pixel_rays(camera) / inverse[..., None]
    return points
