import numpy as np
import pytest

from crispdepth.geometry.voxel_grid import VoxelGrid


def test_grid_around_a_box_holds_it_and_no_more() -> None:
    grid = VoxelGrid.around(np.array([-0.95, 0.0, 0.31]), np.array([0.2, 0.5, 0.31]), 0.1)
    low, high = (np.array([axis[end] for axis in grid.axes()]) for end in (0, -1))
    assert (low <= [-0.95, 0.0, 0.31]).all()
    assert (high >= [0.2, 0.5, 0.31]).all()
    assert (low > [-1.05, -0.1, 0.21]).all()
    assert (high < [0.3, 0.6, 0.41]).all()


def test_voxels_of_grids_of_one_size_coincide() -> None:
    grid = VoxelGrid(0.04, (-7, 3, 0), (5, 6, 7))
    grown = grid.grown(2)
    for axis, wider in zip(grid.axes(), grown.axes(), strict=True):
        np.testing.assert_array_equal(wider[2:-2], axis)
    assert len(grown) == 9 * 10 * 11


def test_divisible_grid_begins_where_the_grid_begins() -> None:
    grid = VoxelGrid(0.04, (-7, 3, 0), (5, 8, 17)).divisible(8)
    assert grid.first == (-7, 3, 0)
    assert grid.shape == (8, 8, 24)


@pytest.mark.parametrize(
    ("voxel", "shape", "message"), [(0.0, (1, 1, 1), "positive"), (0.1, (1, 0, 1), "a voxel or")]
)
def test_a_grid_of_nothing_is_refused(
    voxel: float, shape: tuple[int, int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        VoxelGrid(voxel, (0, 0, 0), shape)
