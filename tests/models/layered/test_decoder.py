import torch
from torch import nn

from crispdepth.models.layered.decoder import (
    Decoder,
    Fusion,
    Head,
    ResidualConv,
    SubpixelHead,
    doubled,
)


def silence(module: nn.Module) -> None:
    """Make every convolution of the module return 0."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.zeros_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def test_doubling_keeps_corners_and_planes() -> None:
    y, x = torch.meshgrid(torch.linspace(0, 1, 5), torch.linspace(0, 1, 7), indexing="ij")
    plane = (2 * x - y)[None, None]
    y, x = torch.meshgrid(torch.linspace(0, 1, 10), torch.linspace(0, 1, 14), indexing="ij")
    torch.testing.assert_close(doubled(plane), (2 * x - y)[None, None])


def test_a_residual_unit_without_weights_changes_nothing() -> None:
    unit, x = ResidualConv(3), torch.randn(2, 3, 4, 5)
    silence(unit)
    assert torch.equal(unit(x), x)


def test_fusion_adds_the_skip_and_doubles() -> None:
    fusion = Fusion(3, has_skip=True)
    silence(fusion)
    nn.init.dirac_(fusion.project.weight)
    x, skip = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(fusion(x, skip), doubled(x + skip))


def test_the_deepest_fusion_has_no_unit_for_a_skip() -> None:
    *_, deepest = Decoder((4, 4, 4, 4), features=6).fusions
    assert isinstance(deepest, Fusion)
    assert deepest.skip is None


def test_every_level_reaches_the_decoded_features_at_half_resolution() -> None:
    torch.manual_seed(0)
    decoder = Decoder((2, 3, 4, 5), features=6)
    levels = [torch.randn(1, 2 + i, 16 >> i, 24 >> i, requires_grad=True) for i in range(4)]
    features = decoder(levels)
    assert features.shape == (1, 6, 32, 48)
    features.square().sum().backward()
    for level in levels:
        assert level.grad is not None
        assert level.grad.abs().max() > 0


def test_the_head_maps_features_to_twice_the_size() -> None:
    for head in (Head(5, (4, 3), outputs=2), SubpixelHead(5, (4, 3), outputs=2)):
        assert head(torch.randn(2, 5, 8, 12)).shape == (2, 2, 16, 24)


def test_the_subpixel_head_makes_the_four_pixels_of_each_feature() -> None:
    head = SubpixelHead(1, (1, 4), outputs=1)
    silence(head)
    with torch.no_grad():
        head.first.weight[0, 0, 1, 1] = 1
        head.second.weight[:, 0, 1, 1] = torch.tensor([1.0, 2.0, 3.0, 4.0])
        head.last.weight[:, :, 0, 0] = torch.eye(4)
    x = torch.rand(1, 1, 2, 3)
    cell = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    torch.testing.assert_close(head(x)[0, 0], torch.kron(x[0, 0], cell))
