import math
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from crispdepth.ops.posed_conv import (
    Turning,
    batch_of_one,
    binned_conv,
    kernel_turn,
    nearest_octahedral,
    octahedral_rotations,
    posed_conv,
    turned,
)

GROUP = octahedral_rotations()
EVERY = get_args(Turning)
LATTICE = torch.cartesian_prod(*[torch.arange(-1.0, 2)] * 3).double()


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rotations(count: int, seed: int = 0) -> Tensor:
    """Uniformly drawn ones, (count, 3, 3) float64."""
    w, x, y, z = F.normalize(
        torch.randn(count, 4, generator=seeded(seed), dtype=torch.float64), dim=1
    ).T
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def turned_volume(volume: Tensor, rotation: Tensor) -> Tensor:
    """V'(Q v) = V(v) of a cube (C, n, n, n) about its centre, for a rotation of the grid."""
    side = volume.shape[1]
    centre = (side - 1) / 2
    places = torch.cartesian_prod(*[torch.arange(side).double() - centre] * 3)
    x, y, z = (places @ rotation + centre).round().long().T  # Q^T of each place
    return volume[:, x, y, z].view_as(volume)


def test_there_are_24_rotations_and_the_identity_is_first() -> None:
    assert torch.equal(GROUP[0], torch.eye(3, dtype=torch.float64))
    assert len({tuple(each.flatten().tolist()) for each in GROUP}) == 24
    torch.testing.assert_close(GROUP @ GROUP.mT, GROUP[:1].expand(24, -1, -1))
    torch.testing.assert_close(torch.linalg.det(GROUP), torch.ones(24, dtype=torch.float64))


def test_each_rotation_of_the_group_is_nearest_to_itself() -> None:
    assert nearest_octahedral(GROUP.float()).tolist() == list(range(24))
    axis = random(3, 3)
    tilt = torch.linalg.matrix_exp(0.1 * (axis - axis.T))
    assert not torch.allclose(tilt, GROUP[0], atol=0.05)
    assert nearest_octahedral(GROUP @ tilt).tolist() == list(range(24))


@pytest.mark.parametrize("how", EVERY)
def test_the_identity_is_an_ordinary_convolution(how: Turning) -> None:
    volume, weight = random(2, 5, 4, 6), random(3, 2, 3, 3, 3, seed=1)
    ordinary = F.conv3d(volume[None], weight, padding=1)[0]
    posed = posed_conv(volume, weight, torch.eye(3, dtype=torch.float64), how)
    if how == "rbf":
        torch.testing.assert_close(posed, ordinary, rtol=1e-9, atol=1e-9)
    else:
        assert torch.equal(posed, ordinary)


@pytest.mark.parametrize("how", EVERY)
def test_kernels_are_read_at_turned_places(how: Turning) -> None:
    weight = random(1, 1, 3, 3, 3)
    for rotation in GROUP:
        kernel = turned(weight, kernel_turn(rotation, how))[0, 0]
        for offset in LATTICE.long():
            x, y, z = (rotation.long() @ offset + 1).tolist()
            i, j, k = (offset + 1).tolist()
            assert abs(float(kernel[i, j, k] - weight[0, 0, x, y, z])) < 1e-9


@pytest.mark.parametrize("how", EVERY)
def test_turns_of_the_group_compose(how: Turning) -> None:
    turns = kernel_turn(GROUP, how)
    products = kernel_turn(GROUP[:, None] @ GROUP, how)
    # W(g1 g2 v): the kernel of g2 is that which g1 has turned.
    torch.testing.assert_close(products, turns @ turns[:, None], rtol=0, atol=1e-9)


@pytest.mark.parametrize("how", ["octahedral", "nearest", "trilinear"])
def test_turning_the_camera_by_the_group_is_turning_the_kernel(how: Turning) -> None:
    for rotation, g in zip(rotations(24, seed=5), GROUP, strict=True):
        both = kernel_turn(g @ rotation, how)
        apart = kernel_turn(rotation, how) @ kernel_turn(g, how)
        torch.testing.assert_close(both, apart, rtol=0, atol=1e-9)


@pytest.mark.parametrize("how", EVERY)
def test_features_turn_with_the_world(how: Turning) -> None:
    volume, weight = random(2, 7, 7, 7), random(2, 2, 3, 3, 3, seed=1)
    for camera, turn in zip(rotations(24, seed=7), GROUP, strict=True):
        here = posed_conv(volume, weight, camera, how)
        there = posed_conv(turned_volume(volume, turn), weight, camera @ turn.T, how)
        torch.testing.assert_close(there, turned_volume(here, turn), rtol=0, atol=1e-9)


def about(axis: list[float], degrees: float) -> Tensor:
    """The rotation (3, 3) float64 about an axis."""
    x, y, z = F.normalize(torch.tensor(axis, dtype=torch.float64), dim=0).tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    rotation: Tensor = torch.linalg.matrix_exp(math.radians(degrees) * cross)
    return rotation


@pytest.mark.parametrize("degrees", [30, 60])
def test_halves_between_two_taps_are_rounded_alike_on_both_sides(degrees: float) -> None:
    """Sine or cosine is a half; else turning the camera would not be turning the kernel."""
    for axis in torch.eye(3).tolist():
        rotation = (about(axis, degrees) * 2**40).round() / 2**40
        assert (rotation.abs() == 0.5).any()
        both = kernel_turn(GROUP @ rotation, "nearest")
        apart = kernel_turn(rotation, "nearest") @ kernel_turn(GROUP, "nearest")
        assert torch.equal(both, apart)


def test_of_equally_near_rotations_the_first_is_taken() -> None:
    for axis in torch.eye(3).tolist():
        between = about(axis, 45)
        near = torch.einsum("ij,gij->g", between, GROUP)
        first, second = (near > near.max() - 1e-9).nonzero()[:, 0].tolist()
        for rotation in (between, between.float(), about(axis, 45 - 1e-7), about(axis, 45 + 1e-7)):
            assert int(nearest_octahedral(rotation)) == first
        assert int(nearest_octahedral(about(axis, 46 if first == 0 else 44))) == second


def test_those_of_an_ordinary_convolution_do_not() -> None:
    volume, weight = random(2, 7, 7, 7), random(2, 2, 3, 3, 3, seed=1)
    for turn in GROUP[1:]:
        here = F.conv3d(volume[None], weight, padding=1)[0]
        there = F.conv3d(turned_volume(volume, turn)[None], weight, padding=1)[0]
        assert (there - turned_volume(here, turn)).abs().max() > 1


def test_of_a_distant_axis_aligned_camera_it_is_a_convolution_of_the_image() -> None:
    side = 7
    image, weight = random(side, side), random(1, 1, 3, 3, 3, seed=1)
    places = torch.cartesian_prod(*[torch.arange(side).double() - 3] * 3)
    flat = F.conv2d(image[None, None], weight.sum(-1), padding=1)[0, 0]
    inner = slice(1, -1)
    for rotation in GROUP:
        # Pixels are voxels: the camera's x and y of a voxel are those of its pixel.
        x, y, _ = (places @ rotation.T + 3).round().long().T
        volume = image[x, y].view(1, side, side, side)
        expected = flat[x, y].view(side, side, side)[inner, inner, inner]
        posed = posed_conv(volume, weight, rotation, "octahedral")[0, inner, inner, inner]
        torch.testing.assert_close(posed, expected)


@pytest.mark.parametrize("how", ["octahedral", "assign"])
def test_permutations_keep_norms(how: Turning) -> None:
    turns = kernel_turn(rotations(20), how)
    torch.testing.assert_close(turns.sum(1), torch.ones(20, 27, dtype=torch.float64))
    assert torch.unique(turns).tolist() == [0, 1]
    torch.testing.assert_close(turns @ turns.mT, torch.eye(27).double().expand(20, -1, -1))


def test_what_interpolation_keeps_of_a_derivative() -> None:
    """The table of the specification: the more exact the mode, the more it costs."""
    bell = (-LATTICE.square().sum(1) / 2).exp()
    weight = (LATTICE[:, 0] * bell).view(1, 1, 3, 3, 3)
    errors = {}
    many = rotations(100)
    places = LATTICE @ many.mT
    truth = places[..., 0] * (-places.square().sum(-1) / 2).exp()
    for how in EVERY:
        kernels = torch.stack([turned(weight, each).flatten() for each in kernel_turn(many, how)])
        errors[how] = float(((kernels - truth).norm(dim=1) / truth.norm(dim=1)).mean())
    expected = {"octahedral": 0.55, "assign": 0.49, "nearest": 0.42, "trilinear": 0.31, "rbf": 0.04}
    assert errors == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize("how", EVERY)
def test_gradients_are_those_of_finite_differences(how: Turning) -> None:
    volume = random(1, 3, 3, 3).requires_grad_()
    weight = random(2, 1, 3, 3, 3, seed=1).requires_grad_()
    (rotation,) = rotations(1, seed=2)
    assert torch.autograd.gradcheck(
        lambda v, w: posed_conv(v, w, rotation, how), (volume, weight), fast_mode=True
    )
    if how in ("trilinear", "rbf"):
        assert torch.autograd.gradcheck(
            lambda turn: kernel_turn(turn, how), rotation.clone().requires_grad_(), fast_mode=True
        )


def test_binned_sums_are_the_sum_over_views() -> None:
    cameras = rotations(30, seed=4)
    volumes = random(30, 2, 4, 5, 3).requires_grad_()
    weight = random(3, 2, 3, 3, 3, seed=1).requires_grad_()
    one_by_one = torch.stack(
        [
            posed_conv(volume, weight, camera, "octahedral")
            for volume, camera in zip(volumes, cameras, strict=True)
        ]
    ).sum(0)
    bins = nearest_octahedral(cameras).tolist()
    sums: dict[int, Tensor] = {}
    for each, volume in zip(bins, volumes, strict=True):
        sums[each] = sums.get(each, torch.zeros_like(volume)) + volume
    assert 10 < len(sums) <= 24
    binned = binned_conv(sums, weight)
    torch.testing.assert_close(binned, one_by_one)
    probe = random(*binned.shape, seed=9)
    for fast, slow in zip(
        torch.autograd.grad(binned, (volumes, weight), probe),
        torch.autograd.grad(one_by_one, (volumes, weight), probe),
        strict=True,
    ):
        torch.testing.assert_close(fast, slow)


def test_many_channels_are_convolved_in_parts() -> None:
    weight = random(1, 50, 3, 3, 3)
    sums = {each: random(50, 2, 3, 2, seed=each) for each in (0, 3, 7, 11, 20)}
    apart = [posed_conv(volume, weight, GROUP[each], "octahedral") for each, volume in sums.items()]
    torch.testing.assert_close(binned_conv(sums, weight), torch.stack(apart).sum(0))


def test_a_batch_of_one_stays_in_place() -> None:
    rows = torch.rand(4, 3, 2, 5)
    batch = batch_of_one(rows.movedim(-1, 0))
    assert batch.shape == (1, 5, 4, 3, 2)
    assert batch.data_ptr() == rows.data_ptr()
    assert batch.stride()[0] == rows.numel()
