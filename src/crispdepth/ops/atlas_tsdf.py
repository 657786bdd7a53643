"""True signed distances for the training of volumetric networks, the way Atlas makes them.

Atlas: Murez et al., ECCV 2020 (section B.5.1 of the specification). Distances are projective, along
the optical axis, in units of the truncation and within [-1, 1]. **The sign is this package's, the
opposite of Atlas'**: positive in front of surfaces, negative behind them, and -1 where nothing
is known, which `AtlasTsdf.observed` tells from what is known to be behind something.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crispdepth.geometry.backproject import pixel_rays
from crispdepth.geometry.voxel_grid import VoxelGrid
from crispdepth.types import BoolMap, Camera, Float32Map, Mesh

BOUNDING_FRAMES, OUTLYING = 200, 0.005
"""Frames, spread evenly, whose points bound a scene, and the share of these at either end of an
axis that does not count."""

_NUDGE = 1e-4  # no vertex lies on a voxel


class AtlasTsdf(NamedTuple):
    """A field on the voxels of a grid."""

    tsdf: Tensor  # (X, Y, Z) float32 in [-1, 1], + in front, -1 where not observed
    observed: Tensor  # (X, Y, Z) bool


def atlas_tsdf(
    depth: Tensor,
    K: Tensor,
    cam_from_world: Tensor,
    grid: VoxelGrid,
    *,
    truncation: float = 3.0,
) -> AtlasTsdf:
    """The distances that depth maps tell.

    A voxel takes the depth of the pixel that its centre falls into. Within the truncation of that
    surface it was seen near it, and the field is the mean of all such sightings; farther in front
    it was seen as free, and farther behind not at all. A voxel that was seen free only is 1.
    **Sightings near a surface overrule all that see free space**, be they earlier (Atlas overwrites
    them, for they have no weight) or later (they never carve), so the order of views does not
    matter.

    Args:
        depth: (V, H, W) z-depth in the unit of the world, 0 where not measured.
        K: (V, 3, 3), pixels; the centre of the top-left one is at (0.5, 0.5).
        cam_from_world: (V, 4, 4).
        grid: where to sample the field.
        truncation: in voxels.
    """
    width, height = depth.shape[2], depth.shape[1]
    axes = [torch.as_tensor(axis, dtype=torch.float64, device=depth.device) for axis in grid.axes()]
    total = torch.zeros(grid.shape, device=depth.device)
    count, free = (
        torch.zeros_like(total),
        torch.zeros(grid.shape, dtype=torch.bool).to(total.device),
    )
    for values, matrix, pose in zip(depth, K, cam_from_world, strict=True):
        projection = matrix.double() @ pose[:3].double()
        x, y, z = (_affine(row, axes) for row in projection)
        ahead = z > 0
        scale = 1 / torch.where(ahead, z, 1.0)
        column, row = ((part * scale).clamp(-1, 1e6).floor().long() for part in (x, y))
        inside = ahead & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        pixel = torch.where(inside, row * width + column, 0)
        seen = values.reshape(-1).index_select(0, pixel.reshape(-1)).reshape(z.shape)
        measured = inside & (seen > 0)
        distance = (seen - z) / (truncation * grid.voxel_size)
        near = measured & (distance > -1) & (distance < 1)
        total += torch.where(near, distance, 0.0)
        count += near
        free |= measured & (distance >= 1)
    mean = total / count.clamp(min=1)
    tsdf = torch.where(count > 0, mean, torch.where(free, 1.0, -1.0))
    return AtlasTsdf(tsdf, free | (count > 0))


def scene_grid(
    depths: Sequence[Float32Map],
    cameras: Sequence[Camera],
    voxel_size: float,
    *,
    margin: float = 1.5,
) -> VoxelGrid:
    """The grid of a whole scene: what its frames see but for outliers, and a margin.

    Args:
        depths: (h, w) z-depth each, 0 where not measured.
        cameras: of the maps.
        voxel_size, margin: in the unit of the scene.

    Raises:
        ValueError: nothing was measured.
    """
    chosen = np.linspace(0, len(depths) - 1, min(len(depths), BOUNDING_FRAMES)).round()
    points = [_points(depths[i], cameras[i]) for i in chosen.astype(int).tolist()]
    if not sum(map(len, points)):
        raise ValueError("No depth was measured, so the scene has no bounds.")
    ends = np.quantile(np.concatenate(points), (OUTLYING, 1 - OUTLYING), axis=0)
    return VoxelGrid.around(ends[0] - margin, ends[1] + margin, voxel_size)


def field_mesh(tsdf: NDArray[np.float32], known: NDArray[np.bool_], grid: VoxelGrid) -> Mesh:
    """The surface of a dense field, single-sided: cubes with an unknown voxel give nothing.

    (Atlas closes its surfaces at their backs, where knowledge ends, which makes shells of two
    layers; the numbers of the two kinds must not be compared.)

    Args:
        tsdf: (X, Y, Z), + in front of surfaces.
        known: (X, Y, Z).
        grid: of the field.

    Returns:
        In the world, faces counter-clockwise seen from in front; without any if there is no
        surface.

    Raises:
        ImportError: scikit-image is not installed.
    """
    try:
        from skimage.measure import marching_cubes
    except ImportError as error:
        raise ImportError('Meshes need scikit-image: pip install "crispdepth[torch]"') from error
    cells = known[:-1, :-1, :-1].copy()
    for shift in range(1, 8):
        part = tuple(
            slice(shift >> axis & 1, side - 1 + (shift >> axis & 1))
            for axis, side in enumerate(known.shape)
        )
        cells &= known[part]
    mask = np.zeros(known.shape, bool)
    mask[1:, 1:, 1:] = cells  # the implementation asks for the far corner of a cube
    values = np.where(np.abs(tsdf) < _NUDGE, np.copysign(np.float32(_NUDGE), tsdf), tsdf)
    nothing = Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    if not cells.any() or not values.min() < 0 < values.max():
        return nothing
    try:
        vertices, faces, _, _ = marching_cubes(values, 0.0, mask=mask)  # type: ignore[no-untyped-call]
    except RuntimeError:  # no surface within the cells that are known
        return nothing
    world = (vertices + np.array(grid.first)) * grid.voxel_size
    return Mesh(world.astype(np.float32), faces.astype(np.int32))


def _affine(row: Tensor, axes: Sequence[Tensor]) -> Tensor:
    """``row . (x, y, z, 1)`` at all voxels, (X, Y, Z) float32."""
    x, y, z = (float(a) * axis for a, axis in zip(row, axes, strict=False))
    flat = (y[:, None] + z + float(row[3])).float()
    return x.float()[:, None, None] + flat


def _points(depth: Float32Map, camera: Camera) -> NDArray[np.float64]:
    """What the pixels show, (n, 3), world."""
    measured: BoolMap = depth > 0
    points = (pixel_rays(camera) * depth[..., None])[measured].astype(np.float64)
    pose = camera.cam_from_world
    world: NDArray[np.float64] = (points - pose[:3, 3]) @ pose[:3, :3]
    return world
