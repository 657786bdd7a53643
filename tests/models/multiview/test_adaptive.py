"""A pixel-adaptive convolution in the pyramid: nothing at the start, no mixing across a border."""

import torch
from torch import Tensor

from crispdepth.models.multiview.adaptive import AdaptiveResidual

CHANNELS = 6


def features() -> Tensor:
    return torch.randn(2, CHANNELS, 8, 10, generator=torch.Generator().manual_seed(0))


def half() -> Tensor:
    mask = torch.zeros(2, 1, 16, 20)
    mask[..., :10, :] = 1
    return mask


def trained() -> AdaptiveResidual:
    torch.manual_seed(0)
    part = AdaptiveResidual(CHANNELS)
    torch.nn.init.normal_(part.weight)
    return part


@torch.no_grad()
def test_at_the_start_nothing_is_changed_whatever_the_mask() -> None:
    for mask in (None, half(), torch.rand(2, 1, 8, 10)):
        assert torch.equal(AdaptiveResidual(CHANNELS)(features(), mask), features())


@torch.no_grad()
def test_a_mask_that_is_the_same_everywhere_is_none() -> None:
    part, x = trained(), features()
    for level in (0.0, 0.3, 1.0):
        torch.testing.assert_close(part(x, torch.full((2, 1, 16, 20), level)), part(x, None))


@torch.no_grad()
def test_next_to_nothing_is_mixed_across_the_border() -> None:
    part, x, mask = trained(), features(), half()
    beside = x.clone()
    beside[..., 5:, :] += 1
    told, untold = ((part(beside, m) - part(x, m))[..., 4, :].abs().max() for m in (mask, None))
    assert told < 0.01
    assert untold > 0.1


def test_all_weights_learn_with_finite_gradients() -> None:
    part, mask = trained(), half().requires_grad_()
    torch.autograd.backward(part(features(), mask).square().sum())
    for each in (*part.parameters(), mask):
        assert each.grad is not None
        assert each.grad.isfinite().all()
        assert each.grad.abs().max() > 0
