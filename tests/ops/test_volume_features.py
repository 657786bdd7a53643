import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from crispdepth.geometry.voxel_grid import VoxelGrid
from crispdepth.ops.volume_features import (
    Sampling,
    Sight,
    backproject,
    depth_in_sight,
    depth_points,
    in_sight,
    occupied,
    signed_distances,
    splat,
    taps,
)

SIZE = (12, 16)
GRID = VoxelGrid(0.1, (-8, -6, 5), (16, 12, 20))
K = torch.tensor([[14.0, 0, 8.2], [0, 13, 5.9], [0, 0, 1]])
STEPS = torch.cartesian_prod(*(torch.arange(side) for side in GRID.shape))
CENTRES = (STEPS + torch.tensor(GRID.first)).double() * GRID.voxel_size


def pose(x: float = 0.1, angle: float = 0.2) -> Tensor:
    turn = torch.eye(4)
    turn[0, 0] = turn[2, 2] = math.cos(angle)
    turn[0, 2], turn[2, 0] = math.sin(angle), -math.sin(angle)
    turn[0, 3] = x
    return turn


POSE = pose()


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def plane_depth(slope: float = 0.02, near: float = 0.7) -> Tensor:
    """Depth of a plane, whose inverse depth is affine in the pixel."""
    column = torch.arange(SIZE[1]) + 0.5
    return (1 / (near - slope * column)).expand(SIZE).contiguous()


def seen() -> Sight:
    return in_sight(GRID, K, POSE, SIZE)


def test_a_camera_sees_what_projects_into_its_frame() -> None:
    points = CENTRES @ POSE[:3, :3].double().T + POSE[:3, 3]
    u, v, z = (points @ K.double().T).T
    inside = (z > 0) & (u / z >= 0) & (u / z < SIZE[1]) & (v / z >= 0) & (v / z < SIZE[0])
    sight = seen()
    expected = inside.nonzero()[:, 0]
    assert 100 < len(expected) < len(GRID)
    assert torch.equal(sight.voxels, expected)
    for ours, theirs in ((sight.x, u / z), (sight.y, v / z), (sight.z, z)):
        torch.testing.assert_close(ours, theirs[expected].float(), rtol=1e-5, atol=1e-4)
    nearer = in_sight(GRID, K, POSE, SIZE, far=1.5)
    assert torch.equal(nearer.voxels, expected[z[expected] <= 1.5])


def test_what_is_seen_does_not_depend_on_where_the_world_has_its_origin() -> None:
    far = torch.tensor([300_000, -200_000, 100_000])
    grid = VoxelGrid(0.1, tuple((torch.tensor(GRID.first) + far).tolist()), GRID.shape)
    moved = POSE.double()
    moved[:3, 3] -= moved[:3, :3] @ (far.double() * 0.1)
    there = in_sight(grid, K, moved, SIZE)
    assert torch.equal(there.voxels, seen().voxels)
    torch.testing.assert_close(there.x, seen().x, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("sampling", ["nearest", "bilinear"])
def test_backprojection_is_that_of_grid_sample(sampling: Sampling) -> None:
    features = random(3, *SIZE).double().requires_grad_()
    sight = seen()
    ours = backproject(features, sight, taps(sight, SIZE, sampling), len(GRID))
    place = torch.stack((sight.x * 2 / SIZE[1] - 1, sight.y * 2 / SIZE[0] - 1), dim=-1).double()
    rows = F.grid_sample(
        features[None], place[None, None], sampling, padding_mode="border", align_corners=False
    )[0, :, 0].T
    theirs = torch.zeros(len(GRID), 3, dtype=torch.float64).index_copy(0, sight.voxels, rows)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    probe = random(len(GRID), 3, seed=1).double()
    (fast,) = torch.autograd.grad(ours, features, probe)
    (slow,) = torch.autograd.grad(theirs, features, probe)
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-4)


def test_features_are_the_same_along_a_ray() -> None:
    y, x = torch.meshgrid(torch.arange(SIZE[0]) + 0.5, torch.arange(SIZE[1]) + 0.5, indexing="ij")
    sight = seen()
    rows = backproject(torch.stack((x, y)), sight, taps(sight, SIZE, "bilinear"), len(GRID))
    # The pixel that features tell of is that of the ray, at any depth.
    expected = torch.stack((sight.x.clamp(0.5, SIZE[1] - 0.5), sight.y.clamp(0.5, SIZE[0] - 0.5)))
    torch.testing.assert_close(rows[sight.voxels], expected.T, rtol=1e-4, atol=1e-4)
    unseen = torch.ones(len(GRID), dtype=torch.bool)
    unseen[sight.voxels] = False
    assert (rows[unseen] == 0).all()


def test_an_image_of_one_row_has_features_too() -> None:
    sight = in_sight(GRID, K, POSE, (1, 1))
    assert len(sight.voxels) > 0
    rows = backproject(
        torch.full((1, 1, 1), 3.0), sight, taps(sight, (1, 1), "bilinear"), len(GRID)
    )
    torch.testing.assert_close(rows[sight.voxels], torch.full((len(sight.voxels), 1), 3.0))


def test_the_depth_of_a_plane_is_exact_on_every_ray() -> None:
    sight = seen()
    surface = depth_in_sight(plane_depth(), sight, jump=0.5)
    truth = 1 / (0.7 - 0.02 * sight.x)
    inner = (sight.x > 0.5) & (sight.x < SIZE[1] - 0.5) & (sight.y > 0.5) & (sight.y < 11.5)
    torch.testing.assert_close(surface[inner], truth[inner], rtol=1e-4, atol=1e-4)


def test_there_is_no_surface_between_two_depths() -> None:
    depth = torch.full(SIZE, 1.0)
    depth[:, 8:], depth[3] = 2.0, 0.0
    surface = depth_in_sight(depth, seen(), jump=0.3)
    x, y = seen().x.floor().long(), seen().y.floor().long()
    torch.testing.assert_close(surface, depth[y, x], rtol=1e-6, atol=0)


def test_signed_distances_are_along_the_axis_and_positive_in_front() -> None:
    sight, depth = seen(), plane_depth()
    surface = depth_in_sight(depth, sight, 0.5)
    value, weight = signed_distances(surface, None, sight, SIZE, 0.3)
    apart = (surface - sight.z) / 0.3
    assert ((apart < -1) == (weight == 0)).all()
    torch.testing.assert_close(value[weight > 0], apart[weight > 0].clamp_max(1))
    assert (value[apart > 1] == 1).all()
    none = depth_in_sight(torch.zeros(SIZE), sight, 0.5)
    assert (signed_distances(none, None, sight, SIZE, 0.3)[1] == 0).all()
    half = torch.zeros(SIZE)
    half[:, :8] = 0.5
    weighted = signed_distances(surface, half, sight, SIZE, 0.3)[1]
    torch.testing.assert_close(weighted, weight * 0.5 * (sight.x < 8))


def test_depth_fills_exactly_the_voxels_that_it_hits() -> None:
    points = depth_points(plane_depth(), K, POSE, GRID)
    world_from_cam = torch.linalg.inv(POSE.double())
    expected = set()
    for row, column in itertools.product(range(SIZE[0]), range(SIZE[1])):
        z = float(plane_depth()[row, column])
        pixel = torch.tensor([column + 0.5, row + 0.5, 1.0], dtype=torch.float64)
        camera = z * torch.linalg.inv(K.double()) @ pixel
        world = world_from_cam[:3, :3] @ camera + world_from_cam[:3, 3]
        cell = (world / 0.1).round().long() - torch.tensor(GRID.first)
        if ((cell >= 0) & (cell < torch.tensor(GRID.shape))).all():
            expected.add(tuple(cell.tolist()))
    voxels, weight = occupied(points, torch.ones(len(points)), GRID)
    assert {tuple(each) for each in STEPS[voxels].tolist()} == expected
    assert len(voxels) == len(expected) > 50
    assert (weight == 1).all()


def test_a_filled_voxel_lies_where_the_depth_is() -> None:
    depth = plane_depth()
    points = depth_points(depth, K, POSE, GRID)
    cell = points.round()
    inside = ((cell >= 0) & (cell < torch.tensor(GRID.shape))).all(1)
    world = (cell + torch.tensor(GRID.first)) * GRID.voxel_size
    z = world @ POSE[2, :3] + POSE[2, 3]
    assert ((z - depth.flatten()).abs()[inside] <= math.sqrt(3) / 2 * GRID.voxel_size + 1e-5).all()


def test_a_voxel_counts_the_largest_weight_once() -> None:
    points = torch.tensor([[1.0, 2, 3], [1.2, 2.1, 2.9], [4, 4, 4], [0, 0, 0], [-1, 0, 0]])
    weight = torch.tensor([0.3, 0.7, 0.2, 0.0, 1.0], requires_grad=True)
    voxels, most = occupied(points, weight, GRID)
    assert STEPS[voxels].tolist() == [[1, 2, 3], [4, 4, 4]]
    torch.testing.assert_close(most, torch.tensor([0.7, 0.2]))
    torch.autograd.backward(most.sum())
    assert weight.grad is not None
    assert weight.grad.tolist() == [0, 1, 1, 0, 0]


def inner_points(count: int = 40) -> Tensor:
    unit = torch.rand(count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return unit * (torch.tensor(GRID.shape) - 1)


def total(points: Tensor, mass: Tensor) -> Tensor:
    voxels, share = splat(points, mass, GRID)
    return torch.zeros(len(GRID), dtype=mass.dtype).index_add(0, voxels, share)


def test_the_mass_of_a_point_is_kept_within_the_grid() -> None:
    points, mass = inner_points(), random(40).double().abs()
    for point, each in zip(points, mass, strict=True):
        torch.testing.assert_close(total(point[None], each[None]).sum(), each)
    volume = total(points, mass)
    centre = (volume[:, None] * STEPS).sum(0) / volume.sum()
    torch.testing.assert_close(centre, (points * mass[:, None]).sum(0) / mass.sum())
    beyond = total(torch.full((1, 3), -5.0, dtype=torch.float64), mass[:1])
    assert (beyond == 0).all()


def test_a_point_moved_by_a_voxel_moves_its_shares() -> None:
    points, mass = inner_points() * 0.8, torch.ones(40, dtype=torch.float64)
    here = total(points, mass).view(GRID.shape)
    there = total(points + torch.tensor([1.0, 0, 2]), mass).view(GRID.shape)
    torch.testing.assert_close(there[1:, :, 2:], here[:-1, :, :-2])


def test_gradients_of_depth_are_those_of_finite_differences() -> None:
    sight = seen()
    some = Sight(*(part[::40] for part in sight))
    depth = plane_depth().double().requires_grad_()
    probe = random(len(GRID), seed=1).double()

    def splatted(depth: Tensor) -> Tensor:
        points = depth_points(depth, K, POSE, GRID)
        return total(points, torch.ones(len(points), dtype=torch.float64)) @ probe

    def fused(depth: Tensor) -> Tensor:
        surface = depth_in_sight(depth, some, 0.5)
        value, weight = signed_distances(surface, None, some, SIZE, 0.3)
        return value * weight

    assert torch.autograd.gradcheck(splatted, depth, eps=1e-7, atol=1e-4, fast_mode=True)
    assert torch.autograd.gradcheck(fused, depth, eps=1e-7, atol=1e-4, fast_mode=True)
    (gradient,) = torch.autograd.grad(fused(depth).sum(), depth)
    assert (gradient != 0).any()


def test_gradients_are_finite_where_there_is_no_depth() -> None:
    depth = plane_depth()
    depth[2:5, 3:9] = 0
    depth.requires_grad_()
    surface = depth_in_sight(depth, seen(), 0.5)
    value, weight = signed_distances(surface, None, seen(), SIZE, 0.3)
    points = depth_points(depth, K, POSE, GRID)
    _, share = splat(points, (depth > 0).flatten().float(), GRID)
    (gradient,) = torch.autograd.grad((value * weight).sum() + share.square().sum(), depth)
    assert gradient.isfinite().all()
    assert (gradient[2:5, 3:9] == 0).all()
