"""Lenses: what their distortion is, and the pinhole camera that a photo gets without it.

Pixels are (x, y) with the centre of the top-left one at (0.5, 0.5). On the plane at depth 1 a
point (x, y) is imaged at ``K @ distort(x, y)``. Both laws are those of OpenCV and COLMAP:

* ``perspective``, k1 k2 p1 p2 k3 k4 k5 k6: with r² = x² + y²,
  ``(x, y) (1 + k1 r² + k2 r⁴ + k3 r⁶) / (1 + k4 r² + k5 r⁴ + k6 r⁶)``, and tangentially
  ``(2 p1 x y + p2 (r² + 2 x²), p1 (r² + 2 y²) + 2 p2 x y)``;
* ``fisheye``, k1 k2 k3 k4: with t = atan r, ``(x, y) t (1 + k1 t² + k2 t⁴ + k3 t⁶ + k4 t⁸) / r``.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crispdepth.types import Camera, Size

Array = NDArray[np.float64]
Matrix = tuple[tuple[float, ...], ...]

WIDEST = np.deg2rad(60.0)
"""Of a fisheye, what is farther than this from the optical axis is cut away: a plane image would
stretch it beyond use."""

_PER_EDGE = 129  # points on each edge of the photo that decide what is seen all along it
_STEPS = 50  # of Newton's method, at most; two to five are needed


@dataclass(frozen=True)
class Lens:
    """How a photo was made, distortion included.

    Raises:
        ValueError: a number is not finite, or a focal length is not positive.
    """

    fx: float  # pixels
    fy: float
    cx: float
    cy: float
    size: Size | None = None  # (height, width) that the numbers are for; None: the photo's
    law: Literal["perspective", "fisheye"] = "perspective"
    distortion: tuple[float, ...] = ()  # see the module; missing ones are 0
    skew: float = 0.0

    def __post_init__(self) -> None:
        numbers = (self.fx, self.fy, self.cx, self.cy, self.skew, *self.distortion)
        if not (np.isfinite(numbers).all() and self.fx > 0 and self.fy > 0):
            raise ValueError(
                f"A lens needs positive focal lengths and finite numbers, got f = {self.fx:g}, "
                f"{self.fy:g}, centre {self.cx:g}, {self.cy:g}, distortion {self.distortion}."
            )

    @property
    def is_pinhole(self) -> bool:
        """Whether the photo is a pinhole image already."""
        return self.law == "perspective" and not any(self.distortion)

    @property
    def K(self) -> Array:
        """(3, 3), pixels."""
        return np.array([[self.fx, self.skew, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    def resized(self, size: Size) -> "Lens":
        """The lens of the same photo at another size (height, width)."""
        if self.size is None or self.size == size:
            return replace(self, size=size)
        y, x = size[0] / self.size[0], size[1] / self.size[1]
        return replace(
            self,
            fx=self.fx * x,
            fy=self.fy * y,
            cx=self.cx * x,
            cy=self.cy * y,
            skew=self.skew * x,
            size=size,
        )


def lens_from_matrix(K: Array, size: Size | None = None) -> Lens:
    """The pinhole lens of ``K`` (3, 3).

    Raises:
        ValueError: ``K`` is not of the form [[fx, s, cx], [0, fy, cy], [0, 0, 1]].
    """
    K = np.asarray(K, np.float64)
    if K.shape != (3, 3) or K[1, 0] != 0 or not np.array_equal(K[2], [0, 0, 1]):
        raise ValueError(
            f"A camera matrix is [[fx, s, cx], [0, fy, cy], [0, 0, 1]], got {K.tolist()}."
        )
    return Lens(K[0, 0], K[1, 1], K[0, 2], K[1, 2], size, skew=K[0, 1])


def distort(lens: Lens, x: Array, y: Array) -> tuple[Array, Array]:
    """Where points of the plane at depth 1 are imaged, on that plane; any shape."""
    r2 = x * x + y * y
    if lens.law == "fisheye":
        k1, k2, k3, k4 = (*lens.distortion, 0.0, 0.0, 0.0, 0.0)[:4]
        r = np.sqrt(r2)
        angle = np.arctan(r)
        a2 = angle * angle
        bent = angle * (1 + a2 * (k1 + a2 * (k2 + a2 * (k3 + a2 * k4))))
        gain = np.divide(bent, r, out=np.ones_like(r), where=r > 0)
        return x * gain, y * gain
    k1, k2, p1, p2, k3, k4, k5, k6 = (*lens.distortion, *(0.0,) * 8)[:8]
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    if k4 or k5 or k6:
        radial = radial / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    xy = 2 * x * y
    return (
        x * radial + p1 * xy + p2 * (r2 + 2 * x * x),
        y * radial + p1 * (r2 + 2 * y * y) + p2 * xy,
    )


def pinhole_camera(lens: Lens, cam_from_world: Array) -> Camera:
    """The camera of the photo once its distortion is gone.

    A pinhole keeps its ``K`` and size. Else the focal lengths stay, so that the middle keeps its
    scale, and the new photo is the largest upright rectangle every pixel of which the old one
    saw: no border is made up. `sampling_grid` says where its pixels come from.

    Raises:
        ValueError: the distortion is not one-to-one on the photo.
    """
    assert lens.size is not None  # the photo's, by now
    if lens.is_pinhole:
        return Camera(lens.K, lens.size, cam_from_world)
    left, top, right, bottom = _seen(lens)
    width, height = int((right - left) * lens.fx), int((bottom - top) * lens.fy)
    if min(width, height) < 1:
        raise ValueError(_not_one_to_one(lens))
    # What is cut off to have whole pixels is cut off evenly.
    cx = width / 2 - lens.fx * (left + right) / 2
    cy = height / 2 - lens.fy * (top + bottom) / 2
    K = np.array([[lens.fx, 0, cx], [0, lens.fy, cy], [0, 0, 1]])
    return Camera(K, (height, width), cam_from_world)


def sampling_grid(lens: Lens, K: Array, size: Size) -> NDArray[np.float32]:
    """Where each pixel of a pinhole photo (``K``, ``size``) lies in the lens's photo, (h, w, 2)."""
    rays = pixel_rays(K, size)
    x, y = distort(lens, rays[..., 0], rays[..., 1])
    return np.stack([lens.fx * x + lens.skew * y + lens.cx, lens.fy * y + lens.cy], axis=-1).astype(
        np.float32
    )


def pixel_rays(K: Array, size: Size) -> Array:
    """The point (x, y) at depth 1 that each pixel's centre sees, (h, w, 2)."""
    rows, columns = np.indices(size, np.float64) + 0.5
    y = (rows - K[1, 2]) / K[1, 1]
    return np.stack([(columns - K[0, 2] - K[0, 1] * y) / K[0, 0], y], axis=-1)


def undistort(lens: Lens, x: Array, y: Array) -> tuple[Array, Array]:
    """The inverse of `distort`; of a fisheye, clipped at `WIDEST` from the axis.

    Raises:
        ValueError: a point has no inverse.
    """
    if lens.law == "fisheye":
        return _undistort_fisheye(lens, x, y)
    u, v = x.copy(), y.copy()
    step = 1e-6
    for _ in range(_STEPS):
        fx, fy = distort(lens, u, v)
        if max(np.abs(fx - x).max(), np.abs(fy - y).max()) < 1e-12:
            break
        (ax, ay), (bx, by) = distort(lens, u + step, v), distort(lens, u, v + step)
        xu, yu, xv, yv = ((a - f) / step for a, f in ((ax, fx), (ay, fy), (bx, fx), (by, fy)))
        det = xu * yv - xv * yu
        if not (np.isfinite(det).all() and det.min() > 1e-9):  # the image folds over there
            raise ValueError(_not_one_to_one(lens))
        u = u - (yv * (fx - x) - xv * (fy - y)) / det
        v = v - (xu * (fy - y) - yu * (fx - x)) / det
    fx, fy = distort(lens, u, v)
    if not max(np.abs(fx - x).max(), np.abs(fy - y).max()) < 1e-7:
        raise ValueError(_not_one_to_one(lens))
    return u, v


def _undistort_fisheye(lens: Lens, x: Array, y: Array) -> tuple[Array, Array]:
    angles = np.linspace(0, WIDEST, 4097)
    bent, _ = distort(lens, np.tan(angles), np.zeros_like(angles))
    rising = np.flatnonzero(np.diff(bent) <= 0)
    last = rising[0] if rising.size else len(bent) - 1
    r = np.hypot(x, y)
    angle = np.interp(r, bent[: last + 1], angles[: last + 1])
    gain = np.divide(np.tan(angle), r, out=np.ones_like(r), where=r > 0)
    return x * gain, y * gain


@lru_cache(maxsize=64)
def _seen(lens: Lens) -> tuple[float, float, float, float]:
    """left, top, right, bottom, at depth 1, of what the photo saw on all its height and width."""
    assert lens.size is not None
    height, width = lens.size
    along = np.linspace(0, 1, _PER_EDGE)
    zero, one = np.zeros_like(along), np.ones_like(along)
    edges = {"left": (zero, along), "top": (along, zero), "right": (one, along)}
    edges["bottom"] = (along, one)
    at = {}
    for name, (across, down) in edges.items():
        y = (down * height - lens.cy) / lens.fy
        x = (across * width - lens.cx - lens.skew * y) / lens.fx
        at[name] = undistort(lens, x, y)
    return (
        float(at["left"][0].max()),
        float(at["top"][1].max()),
        float(at["right"][0].min()),
        float(at["bottom"][1].min()),
    )


def _not_one_to_one(lens: Lens) -> str:
    return (
        f"The {lens.law} distortion {lens.distortion} cannot be undone on a photo of "
        f"{lens.size} (height, width) with focal lengths {lens.fx:g}, {lens.fy:g}: it is not "
        "one-to-one up to the border. Calibrate again with fewer parameters, or undistort the "
        "photos with the tool that made the calibration."
    )
