"""All surfaces of a scene in one picture, so that one material draws every one of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crispdepth.data.scenes3d.textures import TILE, Picture, Surface

GRID = 8  # tiles along a side
CAPACITY = GRID * GRID  # surfaces
SIDE = GRID * TILE  # pixels


class Atlas(NamedTuple):
    """Surfaces side by side, row by row. It has one size, whatever the number of surfaces."""

    colour: Picture  # (SIDE, SIDE, 3)
    roughness: NDArray[np.float32]  # (GRID, GRID), one value for each tile
    metallic: NDArray[np.float32]  # (GRID, GRID)


def lay_out(surfaces: Sequence[Surface]) -> Atlas:
    """The atlas of at most `CAPACITY` surfaces."""
    assert len(surfaces) <= CAPACITY, len(surfaces)
    colour = np.zeros((GRID, GRID, TILE, TILE, 3), np.uint8)
    roughness, metallic = np.ones((GRID, GRID), np.float32), np.zeros((GRID, GRID), np.float32)
    for index, surface in enumerate(surfaces):
        tile = divmod(index, GRID)
        colour[tile] = surface.texture
        roughness[tile], metallic[tile] = surface.roughness, surface.metallic
    return Atlas(colour.swapaxes(1, 2).reshape(SIDE, SIDE, 3), roughness, metallic)


def to_atlas(uv: NDArray[np.float64], index: int) -> NDArray[np.float64]:
    """Where texture coordinates (n, 2) in [0, 1] of surface number ``index`` are in the atlas.

    They stay half a texel inside its tile: bilinear interpolation reads no neighbour.
    """
    row, column = divmod(index, GRID)
    inside = 0.5 / TILE + np.clip(uv, 0, 1) * (1 - 1 / TILE)
    return np.asarray((inside + np.array([column, row])) / GRID)
