"""A camera that sees a voxel may see every box that holds it."""

import numpy as np

from crispdepth.geometry.frustum import may_see
from crispdepth.geometry.voxel_grid import VoxelGrid
from crispdepth.geometry.warp import in_camera, sees
from tests.analytic import looking_at


def test_no_box_with_a_voxel_in_sight_is_left_out_and_most_others_are() -> None:
    rng = np.random.default_rng(0)
    target = np.array([0.3, 0.1, 0])
    camera = looking_at(np.array([2.0, 1, 0.5]), target, (40, 60), 50.0)
    shown = needless = 0
    for _ in range(400):
        first, shape = rng.integers(-30, 30, 3), rng.integers(1, 6, 3)
        grid = VoxelGrid(0.1, tuple(first.tolist()), tuple(shape.tolist()))
        points = np.stack(np.meshgrid(*grid.axes(), indexing="ij"), axis=-1).reshape(-1, 3)
        far = 2.0 + 2 * rng.random()
        seen = (
            sees(camera, in_camera(camera, points)) & (in_camera(camera, points)[:, 2] < far)
        ).any()
        assert may_see(camera, grid, far) or not seen
        shown += int(seen)
        needless += int(may_see(camera, grid, far) and not seen)
    assert shown > 10
    assert needless < 20


def test_the_margin_is_in_pixels() -> None:
    camera = looking_at(np.zeros(3), np.array([1.0, 0, 0]), (40, 60), 50.0)
    beside = VoxelGrid(0.01, (100, -65, 0), (1, 1, 1))  # 65 / 100 * 50 - 30 = 2.5 pixels
    assert not may_see(camera, beside, margin=2)
    assert may_see(camera, beside, margin=3)
