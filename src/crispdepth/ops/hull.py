"""The visual hull: the part of space that no silhouette excludes (Laurentini, 1994)."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crispdepth.geometry.warp import in_camera, sees
from crispdepth.ops.blocks import EDGE, pack, unpack
from crispdepth.ops.tsdf import TsdfVolume
from crispdepth.types import Camera, Float32Map

_COARSE = 16  # blocks along the longest side that the search starts with
_SEEN = 0.5  # share of the most views that see a place which must see a place of the hull
_PURE = 0.02  # coverage below which a pixel is empty, and 1 - it is above which it is full
_FILLED = 0.15  # truncations inside the surface that a place is moved which a ray must meet
_REACH = 3  # voxels about it that follow
_BESIDE = 1.5  # voxels about the hull that its surface needs: it has an outside, too
_HALF_DIAGONAL = 0.5 * 3**0.5


class Silhouette(NamedTuple):
    """Where a view sees nothing of the object."""

    camera: Camera
    outside: Float32Map  # (h, w), see `signed_distance`


def signed_distance(mask: Float32Map) -> Float32Map:
    """Distance of pixel centres to the border of a soft mask in pixels, > 0 outside, (h, w).

    The border is where the coverage of pixels says, not between pixels: at a straight border
    along the axes it is exact. A mask without a border is infinitely far from it.

    Args:
        mask: (h, w) in [0, 1].
    """
    outside = np.float32(0.5) - mask
    for pure, sign in ((mask <= _PURE, 1), (mask >= 1 - _PURE, -1)):
        if pure.all():
            return np.full(mask.shape, sign * np.inf, np.float32)
        if not pure.any():
            continue
        away, label = cv2.distanceTransformWithLabels(
            pure.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
        )
        border = np.zeros(int(label.max()) + 1, np.float32)
        border[label[~pure]] = sign * outside[~pure]
        outside = np.where(pure, sign * (away + border[label]), outside)
    return outside.astype(np.float32)


def depth_in_hull(
    silhouettes: Sequence[Silhouette], points: NDArray[np.floating]
) -> NDArray[np.float32]:
    """How deep points (n, 3) lie in the hull: pixels to the nearest border of a silhouette, (n,).

    Where they are beside one it is negative; inf where no view sees them.
    """
    deep = np.full(len(points), np.inf, np.float32)
    for camera, outside in silhouettes:
        there = in_camera(camera, points.astype(np.float64))
        seen = sees(camera, there)
        pixels = there[seen] @ camera.K.T
        column, row = np.floor(pixels[:, :2] / pixels[:, 2:]).astype(int).T
        deep[seen] = np.minimum(deep[seen], -outside[row, column])
    return deep


def is_whole(outside: Float32Map) -> bool:
    """Whether a silhouette ends before the frame does: then nothing of it is outside of that."""
    frame = (outside[0], outside[-1], outside[:, 0], outside[:, -1])
    return min(float(edge.min()) for edge in frame) > 0


def hull_blocks(
    silhouettes: Sequence[Silhouette],
    box: NDArray[np.float64],
    voxel_size: float,
    device: torch.device,
) -> Tensor:
    """Keys of the blocks that touch the hull, ascending, (n,) int64.

    Coarse to fine: a cube is out when its ball is beside the silhouette in some view, or when few
    views see it. What is not in the frame of a view is excluded by it only if its silhouette is
    whole.

    Args:
        silhouettes: of the views whose object is known and not empty.
        box: (2, 3) corners of a box about the hull.
        voxel_size: in the unit of the world.
        device: where to compute.

    Raises:
        ValueError: the box lies too far from the origin, see `pack`.
    """
    side = EDGE * voxel_size
    low, high = np.floor(box[0] / side), np.floor(box[1] / side) + 1
    level = max(0, int(np.ceil(np.log2((high - low).max() / _COARSE))))
    scale = 2**level
    ranges = [
        torch.arange(int(np.floor(a / scale)), int(np.ceil(b / scale)), device=device)
        for a, b in zip(low, high, strict=True)
    ]
    cubes = torch.cartesian_prod(*ranges)
    halves = torch.cartesian_prod(*[torch.arange(2, device=device)] * 3)
    while True:
        cubes = cubes[_touching(silhouettes, cubes, side * scale, _BESIDE * voxel_size)]
        if scale == 1:
            return pack(cubes).sort().values
        cubes = (2 * cubes[:, None] + halves).reshape(-1, 3)
        scale //= 2


def _touching(
    silhouettes: Sequence[Silhouette], cubes: Tensor, side: float, margin: float
) -> Tensor:
    """Which cubes (n, 3) of a grid of that spacing come as near to the hull as ``margin``."""
    centres = (cubes.double() + 0.5) * side
    seen = torch.zeros(len(cubes), device=cubes.device)
    out = torch.zeros(len(cubes), dtype=torch.bool, device=cubes.device)
    for camera, outside in silhouettes:
        pose = torch.from_numpy(np.array(camera.cam_from_world)).to(cubes.device)
        points = centres @ pose[:3, :3].T + pose[:3, 3]
        flat = points @ torch.from_numpy(np.array(camera.K)).to(cubes.device).T
        z = flat[:, 2].clamp(min=1e-9)
        x, y = flat[:, 0] / z, flat[:, 1] / z
        height, width = camera.size
        inside = (flat[:, 2] > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
        column, row = x.clamp(0, width - 1e-3).long(), y.clamp(0, height - 1e-3).long()
        away = torch.from_numpy(outside).to(cubes.device)[row, column]
        radius = _HALF_DIAGONAL * side + margin
        focal = float(max(camera.K[0, 0], camera.K[1, 1]))
        # A ball beside the axis looks longer than one on it, away from the axis.
        longer = 1 + (points[:, :2].square().sum(1) / z.square()).nan_to_num()
        looks = focal * radius * longer / (z - radius).clamp(min=1e-9)
        out |= inside & (away > looks + 1)
        if is_whole(outside):
            beside = torch.stack([-x, x - width, -y, y - height]).amax(0)
            out |= (flat[:, 2] > 0) & (beside > looks + 1)
        seen += inside
    return ~out & (seen > 0) & (seen >= _SEEN * seen.max())


def restore_rays(volume: TsdfVolume, camera: Camera, pixels: NDArray[np.intp]) -> None:
    """Let the solid be met by the rays of pixels that show the object, and are known to miss it.

    On each ray the place within the hull where the least is missing becomes solid, with what is
    about it less and less.

    Args:
        volume: closed.
        camera: in the world of the field.
        pixels: (n, 2) rows and columns.
    """
    rotation, translation = camera.cam_from_world[:3, :3], camera.cam_from_world[:3, 3]
    ends = _depth_range(volume, camera)
    if not len(pixels) or ends is None:
        return
    flat = np.column_stack([pixels[:, 1] + 0.5, pixels[:, 0] + 0.5, np.ones(len(pixels))])
    rays = flat @ np.linalg.inv(camera.K).T
    steps = int((ends[1] - ends[0]) / volume.voxel_size) + 1
    depths = np.linspace(*ends, steps)
    found = []
    for part in np.array_split(rays, max(1, len(rays) * steps >> 20)):
        points = (part[:, None] * depths[:, None] - translation) @ rotation
        place = torch.from_numpy(np.rint(points / volume.voxel_size)).long().to(volume.device)
        tsdf, hull = volume.values(place)
        missing, at = torch.where(hull < 0, tsdf, torch.inf).min(1)
        useful = torch.isfinite(missing) & (missing > -_FILLED)
        best = place.gather(1, at[:, None, None].expand(-1, 1, 3))[:, 0]
        found.append((best[useful], missing[useful] + _FILLED))
    places, amounts = (torch.cat(parts) for parts in zip(*found, strict=True))
    reach = torch.arange(-_REACH, _REACH + 1, device=volume.device)
    around = torch.cartesian_prod(reach, reach, reach)
    share = (1 - around.double().norm(dim=-1) / (_REACH + 1)).float().clamp(min=0)
    around, share = around[share > 0], share[share > 0]
    volume.lower((places[:, None] + around).reshape(-1, 3), (amounts[:, None] * share).reshape(-1))


def _depth_range(volume: TsdfVolume, camera: Camera) -> tuple[float, float] | None:
    """Between which depths of a camera the blocks of a field lie; None if all are behind it."""
    side = EDGE * volume.voxel_size
    centres = (unpack(volume.store.keys).double() + 0.5) * side
    pose = torch.from_numpy(np.array(camera.cam_from_world)).to(centres.device)
    z = centres @ pose[2, :3] + pose[2, 3]
    if not len(z) or float(z.max()) <= 0:
        return None
    return max(float(z.min()) - side, volume.voxel_size), float(z.max()) + side
