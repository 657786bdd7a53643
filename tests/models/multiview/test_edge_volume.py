import pytest
import torch
from torch import Tensor, nn

from crispdepth.models.multiview.edge_volume import (
    ConvexFusion,
    EdgeFeatures,
    LearnedSobel,
    SumFusion,
    alike,
    antisymmetric,
)

SHAPE = (2, 4, 6, 5, 7)  # N, G, D, h, w
SOBEL = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])


def made(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# The learned derivative


def test_the_projection_is_one_and_keeps_sobel() -> None:
    once = antisymmetric(made(5, 3, 3))
    torch.testing.assert_close(antisymmetric(once), once)
    assert once.sum(dim=(1, 2)).abs().max() < 1e-6
    assert torch.equal(antisymmetric(SOBEL), SOBEL)


def test_a_ramp_has_its_slope() -> None:
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(8.0), indexing="ij")
    across, down = LearnedSobel()((3 * x - 2 * y).expand(1, 2, 6, 8))
    torch.testing.assert_close(across[..., 1:-1, 1:-1], torch.full((1, 2, 4, 6), 3.0))
    torch.testing.assert_close(down[..., 1:-1, 1:-1], torch.full((1, 2, 4, 6), -2.0))


def test_a_trained_kernel_still_is_a_derivative() -> None:
    sobel = LearnedSobel()
    optimizer = torch.optim.Adam(sobel.parameters(), lr=0.1)
    image, target = made(1, 3, 9, 9), made(1, 3, 9, 9, seed=1)
    for _ in range(10):
        optimizer.zero_grad()
        across, down = sobel(image)
        torch.autograd.backward(((across - target) ** 2 + (down - target) ** 2).mean())
        optimizer.step()
    kernel = antisymmetric(sobel.weight)
    assert (kernel - SOBEL / 8).abs().max() > 0.05
    torch.testing.assert_close(kernel.flip(-1), -kernel)
    torch.testing.assert_close(kernel.flip(-2), kernel)
    across, down = sobel(torch.full((1, 3, 9, 9), 0.7))
    assert across.abs().max() < 1e-6
    assert down.abs().max() < 1e-6


@pytest.mark.parametrize("axis", [-1, -2])
def test_a_flipped_image_has_flipped_and_negated_derivatives(axis: int) -> None:
    sobel, image = LearnedSobel(), made(1, 3, 8, 9)
    index = {-1: 0, -2: 1}[axis]
    one, other = sobel(image)[index], sobel(image.flip(axis))[index]
    torch.testing.assert_close(other, -one.flip(axis))
    turned = sobel(image.transpose(-1, -2))[1 - index]
    torch.testing.assert_close(turned, one.transpose(-1, -2))


def test_a_constant_image_has_no_edges_and_a_step_has() -> None:
    features = EdgeFeatures()
    flat = torch.full((1, 3, 16, 16), 0.4, requires_grad=True)
    strength = features.strength(flat)
    assert strength.abs().max() < 1e-6
    torch.autograd.backward(strength.sum())
    assert flat.grad is not None
    assert flat.grad.isfinite().all()
    step = torch.zeros(1, 3, 16, 16)
    step[..., 8:] = 1
    found = features.strength(step)[0, 0]
    assert found[:, 7:9].min() > 0.5
    assert found[:, :4].abs().max() < 1e-6


@pytest.mark.parametrize("stride", [2, 4])
def test_edge_features_have_their_size_and_learn(stride: int) -> None:
    network = EdgeFeatures(channels=12, stride=stride)
    found = network(torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0)))
    assert found.shape == (2, 12, 16 // stride, 24 // stride)
    torch.autograd.backward(found.square().sum())
    for name, part in network.named_parameters():
        assert part.grad is not None, name
        assert part.grad.abs().sum() > 0, name


# The two volumes as one


def test_the_published_fusion_starts_as_the_volume_alone() -> None:
    volume, edges = made(*SHAPE), made(*SHAPE, seed=1)
    fusion = SumFusion(4)
    assert torch.equal(fusion(volume, edges), volume)
    with torch.no_grad():
        fusion.gain.fill_(1)
    found = fusion(volume, edges)
    expected = (1 + fusion.of_volume(volume)) * volume + (1 + fusion.of_edges(edges)) * edges
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("end", [-200.0, 200.0])
def test_the_ends_of_the_convex_fusion_are_one_volume_each(end: float) -> None:
    volume, edges = made(*SHAPE), 5 * made(*SHAPE, seed=1) + 2
    found = ConvexFusion(4, end)(volume, edges)
    if end > 0:
        assert torch.equal(found, volume)
    else:
        assert torch.equal(found, alike(edges, volume))


def test_the_convex_fusion_starts_with_two_per_cent_of_the_edges() -> None:
    volume, edges = made(*SHAPE), made(*SHAPE, seed=1)
    change = ConvexFusion(4)(volume, edges) - volume
    torch.testing.assert_close(
        change, (1 - torch.sigmoid(torch.tensor(4.0))) * (alike(edges, volume) - volume)
    )
    # The scale and the mean of the edges' volume do not matter.
    torch.testing.assert_close(
        ConvexFusion(4)(volume, 7 * edges - 3), volume + change, atol=1e-5, rtol=1e-4
    )


def test_a_flat_volume_of_edges_is_finite() -> None:
    volume, flat = made(*SHAPE), torch.zeros(SHAPE, requires_grad=True)
    for fusion in (ConvexFusion(4), SumFusion(4)):
        found = fusion(volume, flat)
        assert found.isfinite().all()
        (gradient,) = torch.autograd.grad(found.sum(), flat)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("make", [SumFusion, ConvexFusion])
def test_every_parameter_of_a_fusion_learns(make: type[nn.Module]) -> None:
    fusion = make(4)
    with torch.no_grad():
        for part in fusion.parameters():
            part.add_(0.1)
    torch.autograd.backward(fusion(made(*SHAPE), made(*SHAPE, seed=1)).square().sum())
    for name, part in fusion.named_parameters():
        assert part.grad is not None, name
        assert part.grad.abs().sum() > 0, name


def test_volumes_are_brought_to_the_same_mean_and_spread() -> None:
    found = alike(9 * made(*SHAPE) + 4, made(*SHAPE, seed=1))
    other = made(*SHAPE, seed=1)
    torch.testing.assert_close(found.mean(dim=(1, 2, 3, 4)), other.mean(dim=(1, 2, 3, 4)))
    torch.testing.assert_close(
        found.std(dim=(1, 2, 3, 4)), other.std(dim=(1, 2, 3, 4)), atol=1e-4, rtol=1e-4
    )
