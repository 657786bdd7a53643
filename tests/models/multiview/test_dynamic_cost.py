import pytest
import torch
from torch import Tensor

from crispdepth.models.multiview.dynamic_cost import DynamicCost, window_average

SHAPE = (2, 3, 8, 6, 9)  # N, G, D, h, w


def made(seed: int = 0) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def blending(radius: int = 1, **options: float) -> DynamicCost:
    module = DynamicCost(radius, **options)
    with torch.no_grad():
        module.gain.fill_(1)
    return module


def slow_average(cost: Tensor, confidence: Tensor, radius: int) -> Tensor:
    """One pair of pixels at a time."""
    rows, columns = cost.shape[-2:]
    found = torch.zeros_like(cost)
    c = confidence[:, 0]
    for y in range(rows):
        for x in range(columns):
            total, weights = torch.zeros(cost.shape[:3]), torch.zeros(len(cost))
            for v in range(max(y - radius, 0), min(y + radius + 1, rows)):
                for u in range(max(x - radius, 0), min(x + radius + 1, columns)):
                    side = c[:, y, x] * c[:, v, u] + (1 - c[:, y, x]) * (1 - c[:, v, u])
                    total = total + side[:, None, None] * cost[..., v, u]
                    weights = weights + side
            found[..., y, x] = total / weights[:, None, None]
    return found


@pytest.mark.parametrize("radius", [1, 2])
def test_the_average_equals_its_slow_twin_in_value_and_gradient(radius: int) -> None:
    cost = made().requires_grad_()
    mask = torch.rand(2, 1, 6, 9, generator=torch.Generator().manual_seed(1)).requires_grad_()
    fast, slow = window_average(cost, mask, radius), slow_average(cost, mask, radius)
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-4)
    for one, other in zip(
        torch.autograd.grad(fast.square().sum(), (cost, mask)),
        torch.autograd.grad(slow.square().sum(), (cost, mask)),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


def test_a_mask_of_ones_is_no_mask() -> None:
    ones = torch.ones(2, 1, 6, 9)
    torch.testing.assert_close(
        window_average(made(), ones, 1), window_average(made(), None, 1), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(blending()(made(), ones), blending()(made()), atol=1e-6, rtol=0)


def test_a_window_of_one_pixel_is_the_pixel() -> None:
    assert torch.equal(window_average(made(), None, 0), made())
    assert torch.equal(blending(0)(made()), made())


def test_windows_do_not_cross_a_silhouette() -> None:
    mask = torch.zeros(2, 1, 6, 9)
    mask[..., 4:] = 1
    other = made()
    other[..., :4] = made(1)[..., :4]
    one, two = (window_average(cost, mask, 2) for cost in (made(), other))
    assert torch.equal(one[..., 4:], two[..., 4:])
    assert (one[..., :4] - two[..., :4]).abs().max() > 0.1
    # Swapping object and background changes nothing.
    torch.testing.assert_close(window_average(made(), 1 - mask, 2), one)


def test_a_new_module_is_the_cost() -> None:
    assert torch.equal(DynamicCost()(made(), torch.rand(2, 1, 6, 9)), made())


def test_a_peak_keeps_the_pixel_and_a_flat_volume_takes_the_patch() -> None:
    module = blending(temperature=0.1)
    peaked = made() * 0.01
    peaked[:, :, 3] += 5
    assert module.patch_share(peaked).max() < 0.01
    torch.testing.assert_close(module(peaked), peaked, atol=1e-2, rtol=0)
    flat = made() * 0.001
    share = module.patch_share(flat)
    assert share.min() > 0.99
    assert share.max() <= 1
    patch = window_average(flat, None, 1)
    assert (module(flat) - patch).abs().max() < 0.02 * (flat - patch).abs().max()


def test_the_gain_learns_and_no_gradient_goes_through_the_share() -> None:
    module, cost = DynamicCost(), made().requires_grad_()
    torch.autograd.backward(module(cost).square().sum())
    assert module.gain.grad is not None
    assert module.gain.grad.abs() > 0
    assert not module.patch_share(cost).requires_grad
