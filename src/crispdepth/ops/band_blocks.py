"""Which blocks of a volume the depths of a view touch."""

import math

import numpy as np
import torch
from torch import Tensor

from crispdepth.ops.blocks import EDGE, pack
from crispdepth.types import Camera

_TILE = 0.75  # of a block: the width of a tile of pixels, at most
_PIECE = 0.75  # of a block: the length of a piece of its rays, at most
_STRIP = 1 << 15  # pixels at once
_ROUNDING = 1e-3  # of a voxel: what float32 may lose between a pixel and its blocks


def band_blocks(
    depth: Tensor, camera: Camera, voxel_size: float, before: float, behind: float
) -> Tensor:
    """Keys of the blocks with a voxel close before or behind a valid depth, and some others.

    Neighbouring pixels share their blocks, so the view is cut into tiles of pixels and these along
    the rays into pieces, both about half a block long. What is sought are the blocks about the
    pieces near a depth in their tile.

    Args:
        depth: (h, w) z-depth, 0 where invalid.
        camera: of the map.
        voxel_size: in the unit of the depth.
        before: how near, along the optical axis.
        behind: likewise.

    Returns:
        (n,) int64, ascending and distinct.

    Raises:
        ValueError: a part of the view lies too far from the origin.
    """
    count = float(depth.sign().sum())
    if not count:
        return torch.empty(0, dtype=torch.int64, device=depth.device)
    focal = math.sqrt(abs(float(np.linalg.det(camera.K[:2, :2]))))
    side = int(_TILE * EDGE * voxel_size * focal / (float(depth.sum()) / count))
    side = max(1, side)
    length = behind / math.ceil(behind / (_PIECE * EDGE * voxel_size))
    reach = range(-math.ceil(before / length), round(behind / length) + 1)
    row, column, piece = _pieces(depth, side, length, reach)
    start = piece * length
    corner = (column * side, row * side)
    return _about(corner, side, start.clamp(min=0), start + length, camera, voxel_size)


def _pieces(depth: Tensor, side: int, length: float, reach: range) -> tuple[Tensor, Tensor, Tensor]:
    """Row and column of tiles and the number of a piece along its rays, (n,) int64 each."""
    height, width = depth.shape
    columns = -(-width // side)
    pieces = int(float(depth.max()) / length) + len(reach) + 1
    across = torch.arange(width, device=depth.device) // side * pieces
    found = []
    for strip in torch.split(torch.arange(height, device=depth.device), _STRIP // width + 1):
        code = (depth[strip] / length).long().add_(across)
        code += (strip // side * (columns * pieces))[:, None]
        code = code.masked_fill_(depth[strip] == 0, -1).reshape(-1)
        fresh = torch.nonzero(code[1:] != code[:-1])[:, 0] + 1  # most repeat the one before
        found += [code[:1], code.index_select(0, fresh)]
    code = torch.unique(torch.cat(found))
    code = code[code >= 0, None] + torch.arange(len(reach), device=depth.device)
    code = torch.unique(code)
    tile = torch.div(code, pieces, rounding_mode="floor")
    row = torch.div(tile, columns, rounding_mode="floor")
    piece = code - tile * pieces + reach.start
    ahead = piece >= 0
    return row[ahead], (tile - row * columns)[ahead], piece[ahead]


def _about(
    corner: tuple[Tensor, Tensor],
    side: int,
    near: Tensor,
    far: Tensor,
    camera: Camera,
    voxel_size: float,
) -> Tensor:
    """Keys of the blocks in the boxes about squares of pixels, (n,), between two depths."""
    inverse = np.linalg.inv(camera.cam_from_world[:3, :3])
    world_from_pixel = inverse @ np.linalg.inv(camera.K) / voxel_size
    centre = -inverse @ camera.cam_from_world[:3, 3] / voxel_size
    start = np.floor(centre / EDGE)  # places count from this block, so that float32 does
    x, y = (part + 0.5 * side for part in corner)
    first, span = [], []
    for (a, b, c), offset in zip(world_from_pixel.tolist(), centre - start * EDGE, strict=True):
        ray, pad = a * x + b * y + c, 0.5 * side * (abs(a) + abs(b))
        least, most = ray - pad, ray + pad
        low = torch.minimum(least * near, least.mul_(far)).add_(float(offset) - _ROUNDING).ceil_()
        high = torch.maximum(most * near, most.mul_(far)).add_(float(offset) + _ROUNDING).floor_()
        none = low > high  # no voxel is in between
        low, high = (end.div_(EDGE).floor_().long() for end in (low, high))
        span.append((high - low).masked_fill_(none, -1))
        first.append(low)
    lowest, spans = torch.stack(first), torch.stack(span).int()
    lowest += torch.from_numpy(start).long().to(lowest.device)[:, None]
    extremes = [lowest.amin(1), (lowest + spans).amax(1)]
    pack(torch.stack(extremes))  # says when that is too far
    keys = pack(lowest.T)
    one = pack(torch.eye(3, dtype=torch.int64)) - pack(torch.zeros(3, 3, dtype=torch.int64))
    for axis, step in enumerate(one.tolist()):  # from a corner of each box to an edge, a side, all
        wider = [torch.nonzero(spans[0] >= n)[:, 0] for n in range(int(spans[0].amax()) + 1)]
        keys = torch.cat([keys.index_select(0, at) + n * step for n, at in enumerate(wider)])
        if axis < 2:
            spans = spans[1:].index_select(1, torch.cat(wider))
    distinct: Tensor = torch.unique(keys)
    return distinct
