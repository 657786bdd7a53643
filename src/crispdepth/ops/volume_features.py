"""What a view says of the voxels of a grid: its features along its rays, and its depth.

Voxels are counted as a flat index of the grid's [x, y, z]. Poses and intrinsics are constants;
features, depths and weights carry gradients. Memory is that of one view.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from crispdepth.geometry.voxel_grid import VoxelGrid
from crispdepth.types import Size

Sampling = Literal["nearest", "bilinear"]


class Sight(NamedTuple):
    """The voxels whose centres a camera has in its frame and in front of it, and where."""

    voxels: Tensor  # (n,) int64, ascending
    x: Tensor  # (n,) pixels, the centre of the top-left one at 0.5
    y: Tensor  # (n,)
    z: Tensor  # (n,) depth of the voxel's centre, in the unit of the scene

    def resized(self, size: Size, new: Size) -> "Sight":
        """The same voxels in the same frame of (h, w) ``new`` pixels instead of ``size``."""
        scale = [after / before for after, before in zip(new, size, strict=True)]
        return self._replace(x=self.x * scale[1], y=self.y * scale[0])


class Taps(NamedTuple):
    """Which pixels each voxel reads, and how much of each."""

    pixel: Tensor  # (n, T) int32 into the flat image
    weight: Tensor  # (n, T), sums to 1


def in_sight(
    grid: VoxelGrid, K: Tensor, cam_from_world: Tensor, size: Size, far: float = math.inf
) -> Sight:
    """The voxels that a view sees, whatever stands before them.

    Args:
        grid: the voxels.
        K: (3, 3), pixels.
        cam_from_world: (4, 4).
        size: (h, w) of the image.
        far: z-depth up to which it sees.
    """
    # In double precision, because a room may lie far from the origin of its world.
    pixel_from_world = K.detach().double() @ cam_from_world.detach().double()[:3]
    x, y, z = (
        torch.from_numpy(axis).to(K.device)[:, None] * pixel_from_world[:, index]
        for index, axis in enumerate(grid.axes())
    )
    # Only steps from the first voxel of a column are small enough for float32.
    columns = (x[:, None] + y + (z[0] + pixel_from_world[:, 3])).float()
    steps = (z - z[0]).float()
    u, v, z = (columns[..., None, row] + steps[:, row] for row in range(3))
    height, width = size
    seen = (z > 1e-6) & (z <= far) & (u >= 0) & (v >= 0) & (u < z * width) & (v < z * height)
    voxels = seen.flatten().nonzero()[:, 0]
    u, v, z = (part.flatten()[voxels] for part in (u, v, z))
    return Sight(voxels, u / z, v / z, z)


def taps(sight: Sight, size: Size, sampling: Sampling) -> Taps:
    """The pixel of each voxel, or the four about it; at the border those that there are."""
    height, width = size
    if sampling == "nearest":
        pixel = _pixel(sight, size)[:, None]
        return Taps(pixel, torch.ones_like(pixel, dtype=torch.float32))
    x, y = (sight.x - 0.5).clamp(0, width - 1), (sight.y - 0.5).clamp(0, height - 1)
    left, top = x.floor().clamp_max(max(width - 2, 0)), y.floor().clamp_max(max(height - 2, 0))
    x, y = x - left, y - top
    first = (top * width + left).int()
    right, down = min(1, width - 1), width * min(1, height - 1)
    pixel = torch.stack((first, first + right, first + down, first + down + right), dim=1)
    weight = torch.stack(((1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y), dim=1)
    return Taps(pixel, weight)


def backproject(features: Tensor, sight: Sight, where: Taps, voxels: int) -> Tensor:
    """Features of a view in every voxel of its rays, 0 elsewhere.

    Args:
        features: (C, h, w).
        sight: the voxels that read them.
        where: for the size of the features.
        voxels: of the whole grid.

    Returns:
        (voxels, C); rows are contiguous, and `Tensor.T` makes a volume in the layout that
        convolutions are fastest in.
    """
    counts = torch.zeros(voxels, dtype=torch.int32, device=features.device)
    counts[sight.voxels] = where.pixel.shape[1]
    starts = F.pad(counts.cumsum(0, dtype=torch.int32), (1, 0))
    table = features.flatten(1).T.contiguous()
    gather: Callable[..., Tensor] = _Gather.apply
    return gather(table, where.pixel, where.weight.to(table), starts, sight.voxels)


class _Gather(torch.autograd.Function):
    """Weighted sums of rows of a table, one for each bag of taps; many bags are empty.

    The own backward is three times faster than that of embedding_bag.
    """

    @staticmethod
    def forward(
        ctx: Any, table: Tensor, pixel: Tensor, weight: Tensor, starts: Tensor, voxels: Tensor
    ) -> Tensor:
        ctx.save_for_backward(pixel, weight, voxels)
        ctx.rows = len(table)
        return F.embedding_bag(
            pixel.flatten(),
            table,
            starts,
            mode="sum",
            per_sample_weights=weight.flatten(),
            include_last_offset=True,
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        pixel, weight, voxels = ctx.saved_tensors
        rows = gradients[0].index_select(0, voxels)
        table = rows.new_zeros(ctx.rows, rows.shape[1])
        for tap in range(pixel.shape[1]):
            table.index_add_(0, pixel[:, tap], rows * weight[:, tap, None])
        return table, None, None, None, None


def depth_in_sight(depth: Tensor, sight: Sight, jump: float) -> Tensor:
    """Depth of the surface on each voxel's ray, (n,); 0 where there is none.

    Interpolated in inverse depth, which is exact for planes, where the four pixels about the ray
    have depths within ``jump`` of each other; else the pixel's own, so that no voxel hears of a
    surface between an object and what is behind it.

    Args:
        depth: (h, w) > 0, 0 = none, in the unit of the scene.
        sight: the voxels.
        jump: in the unit of the scene.
    """
    size = depth.shape[0], depth.shape[1]
    flat = depth.flatten()
    own = flat.index_select(0, _pixel(sight, size))
    where = taps(sight, size, "bilinear")
    four = flat.index_select(0, where.pixel.flatten()).view_as(where.weight)
    least, most = four.detach().amin(1), four.detach().amax(1)
    smooth = (least > 0) & (most - least <= jump)
    # 1 where it is not used, so that no gradient is infinite.
    safe = torch.where(smooth[:, None], four, torch.ones_like(four))
    return torch.where(smooth, 1 / (where.weight / safe).sum(1), own)


def signed_distances(
    surface: Tensor, weight: Tensor | None, sight: Sight, size: Size, truncation: float
) -> tuple[Tensor, Tensor]:
    """What one view adds to fused signed distances, projective: along the optical axis.

    Positive in front of the surface (Atlas: the other sign), in units of the truncation and at
    most 1; 1 in front of the whole band and still evidence, no evidence behind it.

    Args:
        surface: (n,) of `depth_in_sight`.
        weight: (h, w) in [0, 1] of the pixels; None: ones.
        sight: the voxels.
        size: (h, w) of the depth.
        truncation: in the unit of the scene.

    Returns:
        The distances (n,), and their weights (n,).
    """
    distance = (surface - sight.z) / truncation
    heard = ((surface > 0) & (distance >= -1)).to(surface)
    if weight is not None:
        heard = heard * weight.flatten().index_select(0, _pixel(sight, size))
    return distance.clamp(-1, 1), heard


def depth_points(depth: Tensor, K: Tensor, cam_from_world: Tensor, grid: VoxelGrid) -> Tensor:
    """The points that pixels show, (h w, 3), in voxels from the centre of the grid's first.

    Args:
        depth: (h, w); where it is 0 the point is the camera's centre.
        K: (3, 3), pixels, at the size of the depth.
        cam_from_world: (4, 4).
        grid: the voxels.
    """
    height, width = depth.shape
    x = torch.arange(width, device=depth.device, dtype=torch.float64) + 0.5
    y = torch.arange(height, device=depth.device, dtype=torch.float64) + 0.5
    y, x = torch.meshgrid(y, x, indexing="ij")
    pixels = torch.stack((x, y, torch.ones_like(x)), dim=-1).flatten(0, 1)
    world_from_cam = torch.linalg.inv(cam_from_world.detach().double())
    rays = pixels @ torch.linalg.inv(K.detach().double()).T @ world_from_cam[:3, :3].T
    start = torch.tensor(grid.first, dtype=torch.float64, device=depth.device)
    centre = world_from_cam[:3, 3] / grid.voxel_size - start
    steps = (rays / grid.voxel_size).to(depth)
    points: Tensor = centre.to(depth) + depth.flatten()[:, None] * steps
    return points


def occupied(points: Tensor, weight: Tensor, grid: VoxelGrid) -> tuple[Tensor, Tensor]:
    """The voxels that points fall into, each once, with the largest weight of its points.

    Args:
        points: (n, 3) of `depth_points`.
        weight: (n,) >= 0; points of none do not count.
        grid: the voxels.

    Returns:
        Voxels (m,) int64 ascending, and weights (m,).
    """
    cell = points.detach().round().long()
    shape = torch.tensor(grid.shape, device=points.device)
    counts = ((cell >= 0) & (cell < shape)).all(1) & (weight > 0)
    cell, weight = cell[counts], weight[counts]
    voxels, place = torch.unique(_flat(cell, grid), return_inverse=True)
    most = weight.new_zeros(len(voxels)).scatter_reduce(0, place, weight, "amax")
    return voxels, most


def splat(points: Tensor, mass: Tensor, grid: VoxelGrid) -> tuple[Tensor, Tensor]:
    """The mass of points, divided among the eight voxels about each by trilinear weights.

    The mass of a point within the grid's centres is kept; what falls beyond is lost. Gradients
    with respect to the points are exact.

    Args:
        points: (n, 3) of `depth_points`.
        mass: (n,).
        grid: the voxels.

    Returns:
        Voxels (8 m,) int64, and what is to be added to each (8 m,).
    """
    counts = mass.detach() != 0
    points, mass = points[counts], mass[counts]
    low = points.detach().floor()
    part = points - low
    low = low.long()
    shape = torch.tensor(grid.shape, device=points.device)
    voxels, shares = [], []
    for corner in np.ndindex(2, 2, 2):
        step = torch.tensor(corner, device=points.device)
        cell = low + step
        share = torch.where(step > 0, part, 1 - part).prod(1) * mass
        inside = ((cell >= 0) & (cell < shape)).all(1)
        voxels.append(_flat(cell[inside], grid))
        shares.append(share[inside])
    return torch.cat(voxels), torch.cat(shares)


def _pixel(sight: Sight, size: Size) -> Tensor:
    """The pixel of each voxel, (n,) int32."""
    # Rounding may leave a voxel a hair beyond the frame that it is in.
    column = sight.x.floor().clamp(0, size[1] - 1)
    row = sight.y.floor().clamp(0, size[0] - 1)
    return (row * size[1] + column).int()


def _flat(cell: Tensor, grid: VoxelGrid) -> Tensor:
    _, y, z = grid.shape
    return (cell[:, 0] * y + cell[:, 1]) * z + cell[:, 2]
