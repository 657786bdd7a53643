"""A block-sparse volume, cut into boxes that a dense network answers for one at a time.

A box is computed with a halo about it, which is thrown away. Where the halo is no narrower than
the network's receptive field, boxes begin at whole strides of its down-samplings and nothing in it
depends on the whole (B.7), the answer is that of one large box.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crispdepth.geometry.voxel_grid import Index, VoxelGrid
from crispdepth.ops.blocks import EDGE, pack, unpack

_SHARES = (1.0, 0.5, 0.25)  # of the largest box: smaller ones leave out more of what is empty
_AT_ONCE = 1 << 16  # blocks of which places are computed
_SIDES = 64  # lengths of each side that are tried
_TRIED = 6  # shapes of each, the cheapest if nothing was empty


class Tile(NamedTuple):
    """Some blocks, and the box that is computed for them."""

    keys: Tensor  # (n,) int64, ascending
    grid: VoxelGrid  # with the halo


def cut_into_tiles(
    keys: Tensor, voxel_size: float, *, halo: int, stride: int, most_voxels: int
) -> list[Tile]:
    """Tiles whose blocks are all blocks once; what holds no block is in none.

    Of the shapes that are small enough, that with the fewest voxels in all, halos included.

    Args:
        keys: of the blocks, (n,) ascending.
        voxel_size: in the unit of the scene.
        halo: voxels on all sides, at least.
        stride: voxels; boxes begin and end at multiples of it.
        most_voxels: of a tile, with its halo.

    Raises:
        ValueError: no tile is that small.
    """
    if not len(keys):
        return []
    unit, halo = _units(halo, stride)
    smallest = fewest_voxels(halo, stride)
    if smallest > most_voxels:
        raise ValueError(
            f"Tiles of {most_voxels} voxels are too small: with a halo of {halo} voxels they have "
            f"{smallest} or more."
        )
    of_block = torch.cat([_cells(part, unit) for part in torch.split(keys, _AT_ONCE)])
    cells, cell = np.unique(of_block.cpu().numpy(), return_inverse=True)
    places = unpack(torch.from_numpy(cells)).numpy()
    number, boxes = _cut(places, halo / unit, most_voxels / unit**3)
    of_key = number[cell]
    order = torch.from_numpy(np.argsort(of_key, kind="stable")).to(keys.device)
    parts = torch.split(keys[order], np.bincount(of_key).tolist())
    return [
        Tile(part, VoxelGrid(voxel_size, _index(low * unit), _index(sides * unit)).grown(halo))
        for part, low, sides in zip(parts, boxes.low, boxes.sides, strict=True)
    ]


def fewest_voxels(halo: int, stride: int) -> int:
    """Of the smallest tile, with its halo; see `cut_into_tiles`."""
    unit, halo = _units(halo, stride)
    return (unit + 2 * halo) ** 3


def block_values(field: Tensor, tile: Tile) -> Tensor:
    """The voxels of a tile's blocks, (n, VOXELS), of a field (X, Y, Z) over its grid."""
    start = unpack(tile.keys) * EDGE - torch.tensor(tile.grid.first, device=field.device)
    steps = torch.arange(EDGE, device=field.device)
    x, y, z = (start[:, axis, None] + steps for axis in range(3))
    values: Tensor = field[x[:, :, None, None], y[:, None, :, None], z[:, None, None, :]]
    return values.flatten(1)


def _cells(keys: Tensor, unit: int) -> Tensor:
    """Keys of the cells, ``unit`` voxels wide, that blocks lie in, (n,)."""
    return pack(torch.div(unpack(keys) * EDGE, unit, rounding_mode="floor"))


def _units(halo: int, stride: int) -> tuple[int, int]:
    """What the sides of tiles are multiples of, and the halo as such a multiple; voxels."""
    unit = math.lcm(EDGE, stride)
    return unit, -(-halo // unit) * unit


class _Boxes(NamedTuple):
    low: NDArray[np.int64]  # (tiles, 3) cells
    sides: NDArray[np.int64]  # (tiles, 3) cells


def _cut(places: NDArray[np.int64], halo: float, most: float) -> tuple[NDArray[np.int64], _Boxes]:
    """The number of the tile of each place (n, 3), and what the tiles are; lengths in cells."""
    cuts = []
    origin = places.min(axis=0)
    for shape in _shapes(np.ptp(places, axis=0) + 1, halo, most):
        x, y, z = ((places - origin) // shape).T
        flat = (x * (y.max() + 1) + y) * (z.max() + 1) + z
        number = np.unique(flat, return_inverse=True)[1].reshape(-1)
        boxes = _about(places, number)
        cuts.append((float((boxes.sides + 2 * halo).prod(axis=1).sum()), number, boxes))
    _, number, boxes = min(cuts, key=lambda cut: cut[0])
    return number, boxes


def _shapes(extent: NDArray[np.int64], halo: float, most: float) -> list[NDArray[np.int64]]:
    """Sides of boxes that are worth trying, (3,) each."""
    longest = most / (1 + 2 * halo) ** 2 - 2 * halo  # of one that is a cell wide
    sides = [_sides(length, longest) for length in extent]
    shapes = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 3)
    voxels = (shapes + 2 * halo).prod(axis=1)
    cost = voxels * (-(-extent // shapes)).prod(axis=1)
    tried: list[NDArray[np.int64]] = []
    for share in _SHARES:
        fits = np.flatnonzero(voxels <= share * most)
        tried += list(shapes[fits[np.argsort(cost[fits], kind="stable")[:_TRIED]]])
    return tried


def _sides(length: int, longest: float) -> NDArray[np.int64]:
    """Lengths that cut one into equal parts, ascending; of many, some of all sizes."""
    sides = np.unique(-(-length // np.arange(1, length + 1)))
    sides = sides[: max(1, int(np.searchsorted(sides, longest, "right")))]
    tried: NDArray[np.int64] = sides[np.linspace(0, len(sides) - 1, _SIDES).round().astype(int)]
    return np.unique(tried)


def _about(places: NDArray[np.int64], number: NDArray[np.int64]) -> _Boxes:
    """The boxes about the places of the same number."""
    order = np.argsort(number, kind="stable")
    starts = np.flatnonzero(np.diff(number[order], prepend=-1))
    low = np.minimum.reduceat(places[order], starts)
    return _Boxes(low, np.maximum.reduceat(places[order], starts) - low + 1)


def _index(values: NDArray[np.int64]) -> Index:
    x, y, z = (int(value) for value in values)
    return x, y, z
