"""Gaussians that reach over the border of a mask, drawn back to it or cut in two (spec 2.23).

After *SAGD* (arXiv 2401.17857), by its formulas: the longest axis of a Gaussian in the image, 1.5
standard deviations to each side, is a segment; if its ends lie on different sides of the border,
the share of it that is inside says how to shrink and where to move.
"""

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crispdepth.geometry.rigid import matrix_from_quaternion
from crispdepth.tasks.splat import concatenate, select
from crispdepth.types import Camera, Float32Map, Gaussians

Way = Literal["shrink", "split"]
"""``shrink``: smaller in all directions and moved inside, as published. ``split``: shorter along
the crossing axis alone; what is outside becomes a Gaussian of its own."""

_REACH = 1.5  # standard deviations from the mean to an end of the segment
_SHRINK = 0.8  # the published factor of safety
_SAMPLES = 65  # of a segment


def decompose(
    gaussians: Gaussians,
    camera: Camera,
    mask: Float32Map,
    way: Way = "split",
    *,
    keep_outside: bool = False,
) -> Gaussians:
    """The Gaussians with none across the border of the mask; the others bit for bit.

    Those of which an end is out of the frame or behind the camera are left alone: nothing is
    known of them. What is outside comes last, with label 0, if it is kept.

    Args:
        gaussians: in the world of the camera.
        camera: that of the mask.
        mask: (h, w) in [0, 1]; inside is a half or more.
        way: see `Way`.
        keep_outside: keep the outer part of a split as background; without it, it is dropped.

    Raises:
        ValueError: the mask does not fit the camera.
    """
    if mask.shape != camera.size:
        raise ValueError(f"The mask is {mask.shape}, its camera is for {camera.size}.")
    axis, half = _longest(gaussians, camera)
    t = np.linspace(-1, 1, _SAMPLES)
    inside, known = _sample(gaussians.means[:, None] + t[:, None] * half[:, None], camera, mask)
    crossing = np.nonzero(known.all(axis=1) & (inside[:, 0] != inside[:, -1]))[0]
    if not len(crossing):
        return gaussians
    inside, half, axis = inside[crossing], half[crossing], axis[crossing]
    # A second crossing in the middle is not followed: the part at the inner end is what counts.
    from_end = np.where(inside[:, :1], inside, inside[:, ::-1])
    run = np.where(from_end.all(axis=1), _SAMPLES, from_end.argmin(axis=1))
    share = ((run - 0.5) / (_SAMPLES - 1)).clip(0, 1)[:, None]
    inward = np.where(inside[:, :1], -half, half)  # from the mean to the inner end
    place = (gaussians.means[crossing] + (1 - share) * inward).astype(np.float32)
    means, scales = gaussians.means.copy(), gaussians.scales.copy()
    means[crossing] = place
    if way == "shrink":
        scales[crossing] *= (_SHRINK * share).astype(np.float32)
        return replace(gaussians, means=means, scales=scales)
    scales[crossing, axis] *= share[:, 0].astype(np.float32)
    cut = replace(gaussians, means=means, scales=scales)
    if not keep_outside:
        return cut
    outer = select(gaussians, crossing)
    outer_scales = outer.scales.copy()
    outer_scales[np.arange(len(axis)), axis] *= 1 - share[:, 0].astype(np.float32)
    outside = replace(
        outer,
        means=(outer.means - share * inward).astype(np.float32),
        scales=outer_scales,
        labels=None if outer.labels is None else np.zeros_like(outer.labels),
    )
    return concatenate([cut, outside])


def _longest(gaussians: Gaussians, camera: Camera) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The axis that is longest in the image, and half of its segment (n, 3), world."""
    axes = (
        matrix_from_quaternion(gaussians.rotations.astype(np.float64))
        * gaussians.scales[:, None, :]
    )
    rotation, shift = camera.cam_from_world[:3, :3], camera.cam_from_world[:3, 3]
    centre = gaussians.means @ rotation.T + shift
    z = np.where(centre[:, 2] > 0, centre[:, 2], 1)
    turned = rotation @ axes
    slope = (centre[:, :2] / z[:, None])[..., None]
    spread = camera.K[:2, :2] @ (turned[:, :2] - slope * turned[:, 2:])
    longest = np.linalg.norm(spread, axis=1).argmax(axis=1)
    half = _REACH * np.take_along_axis(axes, longest[:, None, None], axis=2)[..., 0]
    return longest, half


def _sample(
    points: NDArray[np.float64], camera: Camera, mask: Float32Map
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether points (n, s, 3) are inside of the mask, and whether they are in the frame."""
    in_camera = points @ camera.cam_from_world[:3, :3].T + camera.cam_from_world[:3, 3]
    front = in_camera[..., 2] > 0
    flat = in_camera @ camera.K.T
    x, y = np.moveaxis(flat[..., :2] / np.where(front, flat[..., 2], 1)[..., None], -1, 0)
    height, width = camera.size
    known = front & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    column = np.where(known, x, 0).astype(np.intp)
    row = np.where(known, y, 0).astype(np.intp)
    return known & (mask[row, column] >= 0.5), known
