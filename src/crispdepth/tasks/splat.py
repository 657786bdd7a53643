"""Gaussians straight from depth: one for each pixel, then one where several views show the same.

A Gaussian is a flat disc on the surface that its pixel shows: as large as the pixel there, longer
where the surface is seen from the side, facing along the normal of the depth map.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crispdepth.geometry.backproject import pixel_rays
from crispdepth.geometry.normals import normals
from crispdepth.geometry.rigid import matrix_from_quaternion, quaternion_from_matrix
from crispdepth.ops.depth_edges import depth_edges
from crispdepth.ops.images import eight_bit
from crispdepth.types import BoolMap, Gaussians, View, ViewDepth

SH_0 = 0.28209479177387814
"""The spherical harmonic of degree 0: colour = 0.5 + SH_0 * coefficient."""

_SIGMA = 0.5  # standard deviation of a disc, in pixels: neighbours overlap without blurring
_THIN = 0.2  # thickness of a disc, as a share of its radius
_MOST_SLANTED = 0.25  # cosine of the slant from which on discs grow no longer
_OPACITY = 0.95  # of a pixel with confidence 1


@dataclass(frozen=True)
class PixelOptions:
    """Which pixels become Gaussians."""

    # Only what the masks of role object show; without it, everything, with the masks as labels.
    only_object: bool = True

    # Every how many pixels, in rows and columns, there is a Gaussian.
    step: int = 1

    # Confidence below which a pixel becomes none.
    least_confidence: float = 0.1

    # Leave out pixels at depth edges, whose depth is often that of neither side.
    drop_edges: bool = True


def pixel_gaussians(
    view: View, depth: ViewDepth, options: PixelOptions = PixelOptions()
) -> Gaussians:
    """A Gaussian for each pixel of a view, in the world, that lies on the pixel's centre.

    Its mean is ``z K^-1 (x, y, 1)``, z being the depth (spec 2.20); its opacity grows with the
    confidence; its label is 1 + the number of the mask that covers half of the pixel or more.
    Pixels of masks with role ignore are no evidence and become none.

    Raises:
        ValueError: the view has no camera, or the depth is of another size, or inverse.
    """
    camera = view.camera
    if camera is None:
        raise ValueError(f"View {view.name!r} has no camera, so its pixels have no place.")
    if depth.depth.size != camera.size or depth.depth.kind != "depth":
        raise ValueError(
            f"The depth of view {view.name!r} is {depth.depth.kind} of {depth.depth.size}; "
            f"depth of {camera.size} is needed."
        )
    z, valid = depth.depth.values, depth.trusted
    rays = pixel_rays(camera)
    points = rays * z[..., None]
    facing = normals(points, valid)
    labels, kept = _labels(view, options)
    kept &= valid & (depth.confidence >= options.least_confidence)
    if options.drop_edges:
        kept &= ~depth_edges(points, facing, valid)
    if options.step > 1:
        grid = np.zeros(camera.size, bool)
        grid[options.step // 2 :: options.step, options.step // 2 :: options.step] = True
        kept &= grid
    rotation = camera.cam_from_world[:3, :3]
    axes, slant = _axes(facing[kept], rays[kept])
    radius = options.step * _SIGMA * z[kept] / np.sqrt(abs(np.linalg.det(camera.K[:2, :2])))
    scales = radius[:, None] * np.stack([1 / slant, np.ones_like(slant), 0 * slant + _THIN], -1)
    colours = np.divide(eight_bit(view.image)[kept, None], 255, dtype=np.float32)
    return Gaussians(
        means=((points[kept] - camera.cam_from_world[:3, 3]) @ rotation).astype(np.float32),
        scales=np.maximum(scales, np.finfo(np.float32).tiny).astype(np.float32),
        rotations=quaternion_from_matrix(rotation.T @ axes).astype(np.float32),
        opacities=(_OPACITY * depth.confidence[kept]).astype(np.float32),
        sh=(colours - np.float32(0.5)) / np.float32(SH_0),
        labels=labels[kept],
    )


def merge_gaussians(parts: Sequence[Gaussians], cell: float = 3.0) -> Gaussians:
    """Gaussians of several views with one where they show the same surface.

    Those of like size that fall into the same cube, face alike and have a like colour become one:
    the mean of their places and colours, weighted by opacity, with the orientation of the most
    opaque, and as large as all of them are together.

    Args:
        parts: of the views, colours of degree 0.
        cell: side of a cube, in the diameters of the discs in it (of a pixel, at first).

    Raises:
        ValueError: there is nothing to merge.
    """
    if not any(len(part) for part in parts):
        raise ValueError(
            "No pixel of any view became a Gaussian: check that the views have depth where their "
            "masks are, and the least confidence."
        )
    every = concatenate(parts)
    pitch = np.sort(every.scales, axis=1)[:, 1] / _SIGMA
    level = np.floor(np.log2(pitch / pitch.min()) + 0.5)
    side = cell * pitch.min() * 2.0**level
    normal = matrix_from_quaternion(every.rotations.astype(np.float64))[:, :, 2]
    main = np.abs(normal).argmax(axis=1)
    sector = 2 * main + (np.take_along_axis(normal, main[:, None], axis=1)[:, 0] > 0)
    shade = np.floor((every.sh[:, 0] * SH_0 + 0.5) * 4)  # quarters of the range
    label = np.zeros(len(every)) if every.labels is None else every.labels
    keys = np.column_stack([np.floor(every.means / side[:, None]), level, sector, shade, label])
    _, first, group = np.unique(_hash(keys), return_index=True, return_inverse=True)
    count, weight = len(first), every.opacities.astype(np.float64)
    total = np.bincount(group, weight, count)

    def mean(values: NDArray[np.floating]) -> NDArray[np.float32]:
        columns = [np.bincount(group, weight * column, count) / total for column in values.T]
        return np.stack(columns, axis=1).astype(np.float32)

    order = np.lexsort((-weight, group))
    best = order[np.searchsorted(group[order], np.arange(count))]
    # The variance along each axis is that of the members and that of their places.
    means = mean(every.means)
    axes = matrix_from_quaternion(every.rotations[best].astype(np.float64))
    offsets = np.einsum("nij,ni->nj", axes[group], every.means - means[group])
    scales = np.sqrt(mean(np.square(every.scales) + np.square(offsets)))
    return Gaussians(
        means=means,
        scales=scales,
        rotations=every.rotations[best],
        opacities=every.opacities[best],
        sh=mean(every.sh[:, 0])[:, None],
        labels=None if every.labels is None else every.labels[best],
    )


def concatenate(parts: Sequence[Gaussians]) -> Gaussians:
    """All of the Gaussians; labels only if all have them."""
    labels = [part.labels for part in parts if part.labels is not None]
    return Gaussians(
        np.concatenate([part.means for part in parts]),
        np.concatenate([part.scales for part in parts]),
        np.concatenate([part.rotations for part in parts]),
        np.concatenate([part.opacities for part in parts]),
        np.concatenate([part.sh for part in parts]),
        np.concatenate(labels) if len(labels) == len(parts) else None,
    )


def select(gaussians: Gaussians, kept: NDArray[np.bool_] | NDArray[np.intp]) -> Gaussians:
    """Some of the Gaussians, bit for bit."""
    return Gaussians(
        gaussians.means[kept],
        gaussians.scales[kept],
        gaussians.rotations[kept],
        gaussians.opacities[kept],
        gaussians.sh[kept],
        None if gaussians.labels is None else gaussians.labels[kept],
    )


def _labels(view: View, options: PixelOptions) -> tuple[NDArray[np.int32], BoolMap]:
    """The number of the object in each pixel, 0 for none, and which pixels may be used, (h, w)."""
    size = view.image.shape[:2]
    labels, kept = np.zeros(size, np.int32), np.ones(size, bool)
    if view.masks is None:
        return labels, kept
    most = np.full(size, 0.5, np.float32)
    for index in range(len(view.masks)):
        mask = view.masks[index]
        if view.masks.role == "ignore":
            kept &= mask < 0.5
        else:
            over = mask >= most
            labels[over], most[over] = index + 1, mask[over]
    if view.masks.role == "object" and options.only_object:
        kept &= labels > 0
    return labels, kept


def _axes(
    normal: NDArray[np.float32], ray: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Axes (n, 3, 3) of discs as columns: down the slope, across it, normal; cosine of the slant.

    A disc seen from the side is drawn out down the slope, so that it still fills its pixel.
    """
    ray = ray / np.linalg.norm(ray, axis=1, keepdims=True)
    slant = -np.sum(normal * ray, axis=1)
    down = ray + slant[:, None] * normal
    # Seen from the front there is no slope: any direction on the surface will do.
    some = np.eye(3, dtype=np.float32)[np.abs(normal).argmin(axis=1)]
    some = some - np.sum(some * normal, axis=1, keepdims=True) * normal
    flat = np.linalg.norm(down, axis=1, keepdims=True) < 1e-3
    down = np.where(flat, some, down)
    down = down / np.linalg.norm(down, axis=1, keepdims=True)
    across = np.cross(normal, down)
    axes = np.stack([down, across, normal], axis=-1).astype(np.float64)
    return axes, slant.clip(_MOST_SLANTED, 1)


def _hash(keys: NDArray[np.float64]) -> NDArray[np.uint64]:
    """A number for each row of whole numbers; two rows share one with a chance of 2^-64."""
    out = np.zeros(len(keys), np.uint64)
    for column in keys.T:
        out = (out ^ column.astype(np.int64).view(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        out ^= out >> np.uint64(29)
    return out
