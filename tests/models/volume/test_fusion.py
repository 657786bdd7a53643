import math

import torch
from torch import Tensor

from crispdepth.geometry.voxel_grid import VoxelGrid
from crispdepth.models.volume.config import FusionConfig
from crispdepth.models.volume.fusion import FusionNetwork

CPU = torch.device("cpu")
SIZE = (12, 16)
GRID = VoxelGrid(0.1, (-8, -6, 10), (16, 12, 20))
K = torch.tensor([[14.0, 0, 8.2], [0, 14, 5.9], [0, 0, 1]])


def pose(turn: float = 0.0, x: float = 0.0) -> Tensor:
    """cam_from_world of a camera beside the origin, turned about its optical axis."""
    moved = torch.eye(4)
    moved[:2, :2] = torch.tensor(
        [[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]
    )
    moved[0, 3] = x
    return moved


def views(count: int = 5) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Features, K, pose and depth of views of a slanted wall, from different rotations."""
    rng = torch.Generator().manual_seed(2)
    column = torch.arange(SIZE[1]) + 0.5
    depth = 1 / (0.5 - 0.004 * column).expand(SIZE)
    return [
        (torch.randn(4, *SIZE, generator=rng), K, pose(0.7 * turn, 0.1 * turn), depth + 0.02 * turn)
        for turn in range(count)
    ]


def network(**settings: object) -> FusionNetwork:
    """A small network in evaluation mode, with norms that do something."""
    torch.manual_seed(1)
    made = FusionNetwork(FusionConfig(width=4, hourglasses=1, **settings), 4).eval()  # type: ignore[arg-type]
    for part in made.modules():
        if isinstance(part, torch.nn.BatchNorm3d):
            torch.nn.init.normal_(part.running_mean, std=0.1)  # type: ignore[arg-type]
            torch.nn.init.uniform_(part.weight, 0.5, 1.5)
            torch.nn.init.normal_(part.bias, std=0.1)
    return made


def test_a_fresh_residual_network_returns_the_fused_signed_distance() -> None:
    made = network(embedding="tsdf", residual=True)
    accumulator = made.accumulator(GRID, CPU)
    for view in views():
        accumulator.add(*view)
    fused = accumulator.depth_channel()
    assert fused.abs().max() <= 1
    assert (fused.abs() < 0.9).sum() > 100
    assert torch.equal(made.regress(made.unify(accumulator)), fused)
