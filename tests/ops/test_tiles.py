"""Tiles: all blocks once, aligned, within the budget, and what is empty in none."""

import tracemalloc

import numpy as np
import pytest
import torch
from torch import nn

from crispdepth.geometry.voxel_grid import VoxelGrid
from crispdepth.ops.blocks import EDGE, VOXELS, pack, unpack
from crispdepth.ops.tiles import block_values, cut_into_tiles


def shell(radius: int) -> torch.Tensor:
    """Keys of the blocks of a spherical shell."""
    reach = torch.arange(-radius - 1, radius + 2)
    places = torch.cartesian_prod(reach, reach, reach)
    distance = places.double().norm(dim=1)
    return pack(places[(distance - radius).abs() < 0.8]).sort().values


@pytest.mark.parametrize("stride", [1, 4, 6])
def test_each_block_is_in_one_tile_of_the_budget_with_its_halo(stride: int) -> None:
    keys, most = shell(9), 48**3
    tiles = cut_into_tiles(keys, 0.1, halo=5, stride=stride, most_voxels=most)
    assert len(tiles) > 1
    torch.testing.assert_close(torch.cat([t.keys for t in tiles]).sort().values, keys)
    for tile in tiles:
        assert len(tile.grid) <= most
        assert all(start % stride == 0 for start in tile.grid.first)
        assert all(side % stride == 0 for side in tile.grid.shape)
        assert (tile.keys.diff() > 0).all()
        low = unpack(tile.keys).amin(0) * EDGE
        high = (unpack(tile.keys).amax(0) + 1) * EDGE
        first, shape = torch.tensor(tile.grid.first), torch.tensor(tile.grid.shape)
        assert (low - first >= 5).all()
        assert (first + shape - high >= 5).all()


def test_a_smaller_budget_never_costs_fewer_voxels_and_empty_space_costs_none() -> None:
    near = shell(4)
    far = pack(unpack(near) + torch.tensor([1000, 0, 0]))
    one = sum(len(t.grid) for t in cut_into_tiles(near, 1, halo=4, stride=4, most_voxels=80**3))
    two = cut_into_tiles(torch.cat([near, far]), 1, halo=4, stride=4, most_voxels=80**3)
    assert sum(len(tile.grid) for tile in two) <= 2 * one
    costs = [
        sum(len(t.grid) for t in cut_into_tiles(near, 1, halo=4, stride=4, most_voxels=most))
        for most in (20**3, 30**3, 60**3)
    ]
    assert costs == sorted(costs, reverse=True)


def test_too_small_a_budget_is_named_and_nothing_needs_no_tile() -> None:
    with pytest.raises(ValueError, match="halo of 12 voxels"):
        cut_into_tiles(shell(3), 1, halo=10, stride=4, most_voxels=27**3)
    assert cut_into_tiles(shell(3)[:0], 1, halo=10, stride=4, most_voxels=1) == []


def test_block_values_are_those_at_the_voxels_of_the_blocks() -> None:
    (tile,) = cut_into_tiles(shell(3), 0.5, halo=3, stride=4, most_voxels=60**3)
    x, y, z = (torch.from_numpy(axis) for axis in tile.grid.axes())
    field = x[:, None, None] + 1e3 * y[:, None] + 1e6 * z
    values = block_values(field, tile)
    assert values.shape == (len(tile.keys), VOXELS)
    steps = torch.cartesian_prod(*[torch.arange(EDGE)] * 3)
    voxels = (unpack(tile.keys)[:, None] * EDGE + steps).double() * 0.5
    torch.testing.assert_close(values, voxels @ torch.tensor([1, 1e3, 1e6], dtype=torch.float64))


def test_tiled_is_dense_for_a_network_whose_field_the_halo_covers() -> None:
    """Two convolutions and a down-sampling; without the halo tiles differ."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1),
        nn.Conv3d(4, 4, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose3d(4, 1, 3, stride=2, padding=1, output_padding=1),
    ).double()
    keys = shell(4)

    def answer(halo: int, most: int) -> torch.Tensor:
        found = torch.empty(len(keys), VOXELS, dtype=torch.float64)
        tiles = cut_into_tiles(keys, 0.1, halo=halo, stride=2, most_voxels=most)
        assert (len(tiles) == 1) == (most > 50**3)
        for tile in tiles:
            found[torch.searchsorted(keys, tile.keys)] = block_values(run(tile.grid), tile)
        return found

    def run(grid: VoxelGrid) -> torch.Tensor:
        x, y, z = (torch.from_numpy(np.sin(9 * axis)) for axis in grid.axes())
        with torch.no_grad():
            out: torch.Tensor = network((x[:, None, None] * y[:, None] + z)[None, None])
        return out[0, 0]

    dense = answer(8, 100**3)
    torch.testing.assert_close(answer(4, 28**3), dense, rtol=0, atol=1e-12)
    assert (answer(0, 28**3) - dense).abs().max() > 1e-2


def test_of_a_long_scene_not_all_shapes_are_tried() -> None:
    """Two blocks a kilometre apart in voxels of 2 cm: all shapes of boxes would be millions."""
    keys = pack(torch.tensor([[0, 0, 0], [12_500, 12_500, 12_500]]))
    tracemalloc.start()
    tiles = cut_into_tiles(keys, 0.02, halo=17, stride=4, most_voxels=200**3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [len(tile.keys) for tile in tiles] == [1, 1]
    assert peak < 60e6  # 700 MB with all of them
