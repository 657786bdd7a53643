"""Hourglasses: every size, every weight used, and tiles with a halo are the whole."""

import pytest
import torch
from torch import nn

from crispdepth.models.volume.layers3d import STRIDE, ConvBnReLU3d, Hourglass3d, fold_norms

RADIUS = 12
"""Cells away that one cell of an hourglass depends on at most."""


def used(module: nn.Module) -> nn.Module:
    """As after a training: no statistic of a normalisation is where it began."""
    generator = torch.Generator().manual_seed(0)
    for each in module.modules():
        if isinstance(each, nn.BatchNorm3d):
            assert each.running_mean is not None
            assert each.running_var is not None
            each.running_mean.uniform_(-0.1, 0.1, generator=generator)
            each.running_var.uniform_(0.2, 0.5, generator=generator)
    return module.eval()


@pytest.mark.parametrize("shape", [(8, 8, 8), (1, 1, 1), (5, 6, 7), (2, 13, 3)])
@torch.no_grad()
def test_an_hourglass_keeps_every_size(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    volume = torch.randn(2, 4, *shape)
    assert used(Hourglass3d(4))(volume).shape == volume.shape


@torch.no_grad()
def test_a_stride_halves_the_size_and_a_filter_without_relu_has_negative_values() -> None:
    torch.manual_seed(0)
    volume = torch.randn(1, 3, 6, 7, 8)
    assert ConvBnReLU3d(3, 5, stride=2)(volume).shape == (1, 5, 3, 4, 4)
    assert ConvBnReLU3d(3, 5)(volume).min() == 0
    assert ConvBnReLU3d(3, 5, relu=False)(volume).min() < 0


def test_every_weight_of_an_hourglass_has_a_gradient() -> None:
    torch.manual_seed(0)
    hourglass = Hourglass3d(4)
    hourglass(torch.randn(2, 4, 8, 6, 9)).square().mean().backward()
    for name, parameter in hourglass.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_a_cell_depends_on_those_within_the_radius_alone() -> None:
    torch.manual_seed(0)
    hourglass = used(Hourglass3d(2)).double()
    farthest = 0
    for middle in range(24, 24 + STRIDE):
        line = torch.randn(1, 2, 1, 1, 56, dtype=torch.float64, requires_grad=True)
        hourglass(line)[0, :, 0, 0, middle].sum().backward()
        assert line.grad is not None
        reached = line.grad[0, :, 0, 0].abs().sum(dim=0).nonzero()[:, 0]
        farthest = max(farthest, int((reached - middle).abs().max()))
    assert farthest == RADIUS


@torch.no_grad()
def test_a_tile_with_a_halo_is_the_same_as_in_the_whole() -> None:
    torch.manual_seed(0)
    hourglass = used(Hourglass3d(4))
    whole = torch.randn(1, 4, 4, 4, 72)
    halo = RADIUS  # a multiple of the stride, as are the first cells of tiles
    assert halo % STRIDE == 0
    tile = hourglass(whole[..., 32 - halo : 44 + halo])[..., halo:-halo]
    torch.testing.assert_close(tile, hourglass(whole)[..., 32:44], atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_folded_norms_change_nothing_that_is_said() -> None:
    torch.manual_seed(0)
    network = used(nn.Sequential(ConvBnReLU3d(3, 4, relu=False), Hourglass3d(4))).double()
    volume = torch.randn(2, 3, 9, 6, 5, dtype=torch.float64)
    before = network(volume)
    fold_norms(network)
    assert not any(isinstance(each, nn.BatchNorm3d) for each in network.modules())
    torch.testing.assert_close(network(volume), before, rtol=0, atol=1e-12)
