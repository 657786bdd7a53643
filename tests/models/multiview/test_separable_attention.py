"""Masked separable attention: a twin, the limits of masks, and its cost."""

import pytest
import torch
from torch import Tensor, nn

from crispdepth.models.multiview.separable_attention import (
    ChannelAttention,
    MaskedSeparableAttention,
)

CHANNELS, HEADS = 8, 2


@pytest.fixture
def block() -> MaskedSeparableAttention:
    torch.manual_seed(0)
    return MaskedSeparableAttention(CHANNELS, HEADS)


@pytest.fixture
def trained(block: MaskedSeparableAttention) -> MaskedSeparableAttention:
    nn.init.normal_(block.fuse.weight, std=0.1)
    return block


def features() -> Tensor:
    return torch.randn(2, CHANNELS, 5, 6, generator=torch.Generator().manual_seed(0))


def half_mask() -> Tensor:
    mask = torch.zeros(2, 1, 10, 12)
    mask[..., 5:] = 1
    return mask


def test_attention_over_channels_is_its_slow_twin() -> None:
    torch.manual_seed(0)
    attention = ChannelAttention(CHANNELS, HEADS)
    nn.init.uniform_(attention.temperature)
    x, mask = features(), torch.rand(2, 1, 5, 6)
    query, key, value = attention.local(attention.qkv(x)).chunk(3, dim=1)
    width = CHANNELS // HEADS
    expected = torch.zeros_like(x)
    for sample in range(2):
        for head in range(HEADS):
            part = slice(head * width, (head + 1) * width)
            q, k = ((each * mask)[sample, part].flatten(1) for each in (query, key))
            for i in range(width):
                scores = torch.stack(
                    [q[i] @ k[j] / (q[i].norm() * k[j].norm()) for j in range(width)]
                )
                weights = (attention.temperature[head] * scores).softmax(dim=-1)[0]
                mixed = (weights[:, None, None] * value[sample, part]).sum(dim=0)
                expected[sample, head * width + i] = mixed
    torch.testing.assert_close(attention(x, mask), attention.project(expected))


def test_at_the_start_it_changes_nothing(block: MaskedSeparableAttention) -> None:
    x = features()
    for mask in (None, half_mask(), torch.zeros(2, 1, 5, 6)):
        assert torch.equal(block(x, mask), x)


def test_no_mask_is_a_mask_of_ones(trained: MaskedSeparableAttention) -> None:
    x = features()
    assert torch.equal(trained(x, None), trained(x, torch.ones(2, 1, 20, 24)))
    assert not torch.equal(trained(x, None), x)
    assert not torch.equal(trained(x, half_mask()), trained(x, None))


def test_an_empty_mask_mixes_channels_evenly_and_has_finite_gradients() -> None:
    torch.manual_seed(0)
    attention = ChannelAttention(CHANNELS, HEADS)
    x = features().requires_grad_()
    nothing = torch.zeros(2, 1, 5, 6)
    value = attention.local(attention.qkv(x))[:, 2 * CHANNELS :]
    even = torch.unflatten(value, 1, (HEADS, -1)).mean(dim=2, keepdim=True)
    even = even.expand(-1, -1, CHANNELS // HEADS, -1, -1).flatten(1, 2)
    output = attention(x, nothing)
    torch.testing.assert_close(output, attention.project(even))
    output.square().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    for each in attention.parameters():
        assert each.grad is not None
        assert each.grad.isfinite().all()


def test_the_side_without_mask_decides_no_channel() -> None:
    """Queries and keys are those of the mask alone; values are of everywhere."""
    torch.manual_seed(0)
    attention = ChannelAttention(CHANNELS, HEADS)
    attention.local = nn.Conv2d(3 * CHANNELS, 3 * CHANNELS, 1, groups=3 * CHANNELS)  # no reach
    x, mask = features(), torch.zeros(2, 1, 5, 6)
    mask[..., :3] = 1
    changed = torch.cat([x[..., :3], -3 * x[..., 3:]], dim=-1)
    one, other = attention(x, mask), attention(changed, mask)
    torch.testing.assert_close(one[..., :3], other[..., :3])
    assert (one - other)[..., 3:].abs().max() > 0.1


def test_every_weight_learns_and_the_mask_does_not(trained: MaskedSeparableAttention) -> None:
    mask = half_mask().requires_grad_()
    trained(features(), mask).square().sum().backward()
    assert mask.grad is None
    for name, each in trained.named_parameters():
        assert each.grad is not None, name
        assert each.grad.abs().max() > 0, name


def test_half_precision_is_close(trained: MaskedSeparableAttention) -> None:
    x = features()
    exact = trained(x, half_mask())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = trained(x, half_mask())
    assert (rounded - exact).abs().max() <= 2e-2 * exact.abs().max()


def test_heads_share_the_channels() -> None:
    with pytest.raises(ValueError, match="12 channels cannot be shared by 8 heads"):
        MaskedSeparableAttention(12)
