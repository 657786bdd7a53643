import pytest
import torch
from torch import Tensor

from crispdepth.ops import correlation
from crispdepth.ops.correlation import correlate, correlate_plainly
from crispdepth.ops.plane_sweep import Projection


def scattered(
    channels: int = 8, source_size: tuple[int, int] = (7, 9)
) -> tuple[Tensor, Tensor, Projection]:
    """Features of 2 references of 5x6 pixels, and 4 places of each, some beyond the frame."""
    rng = torch.Generator().manual_seed(0)
    reference = torch.randn(2, channels, 5, 6, generator=rng, requires_grad=True)
    source = torch.randn(2, channels, *source_size, generator=rng, requires_grad=True)
    x, y = (torch.rand(2, 4, 5, 6, generator=rng) * (side + 4) - 2 for side in source_size[::-1])
    return (
        reference,
        source,
        Projection(x, y, torch.ones_like(x), torch.ones_like(x, dtype=torch.bool)),
    )


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("source_size", [(7, 9), (1, 4), (3, 1)])
@pytest.mark.parametrize("samples", [1 << 15, 9])
def test_correlation_equals_its_plain_twin_in_value_and_gradient(
    groups: int, source_size: tuple[int, int], samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(correlation, "_SAMPLES", samples)
    monkeypatch.setattr(correlation, "_BLOCK", samples)
    monkeypatch.setattr(correlation, "_VALUES", 160 * samples)  # at 9 three planes of four
    reference, source, where = scattered(source_size=source_size)
    fast = correlate(reference, source, where, groups)
    slow = correlate_plainly(reference, source, where, groups)
    assert fast.shape == (2, groups, 4, 5, 6)
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)
    upstream = torch.randn(fast.shape, generator=torch.Generator().manual_seed(1))
    for one, other in zip(
        torch.autograd.grad(fast, (reference, source), upstream),
        torch.autograd.grad(slow, (reference, source), upstream),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_at_pixel_centres_it_is_the_product_of_the_features() -> None:
    features = scattered()[0].detach()
    y, x = torch.meshgrid(torch.arange(5.0) + 0.5, torch.arange(6.0) + 0.5, indexing="ij")
    x, y = (part.expand(2, 1, 5, 6) for part in (x, y))
    where = Projection(x, y, torch.ones_like(x), torch.ones_like(x, dtype=torch.bool))
    cost = correlate(features, features, where)[:, 0, 0]
    torch.testing.assert_close(cost, features.square().sum(dim=1) / 8**0.5)


def test_groups_add_up_to_one_group() -> None:
    reference, source, where = scattered()
    together = correlate(reference, source, where, 4).sum(dim=1) / 4**0.5
    torch.testing.assert_close(together, correlate(reference, source, where)[:, 0])


def test_half_precision_is_computed_in_single() -> None:
    reference, source, where = scattered()
    with torch.autocast("cpu", torch.bfloat16):
        cost = correlate(reference, source, where)
        inside = torch.autograd.grad(cost.square().sum(), (reference, source))
    plain = correlate(reference, source, where)
    torch.testing.assert_close(cost, plain, atol=1e-6, rtol=0)
    outside = torch.autograd.grad(plain.square().sum(), (reference, source))
    torch.testing.assert_close(inside, outside, atol=1e-6, rtol=0)
    half = correlate(reference.bfloat16(), source.bfloat16(), where)
    assert half.dtype == torch.float32
    torch.autograd.backward(half.sum())
    assert reference.grad is not None
    assert reference.grad.isfinite().all()


def test_channels_that_do_not_fit_are_refused() -> None:
    reference, source, where = scattered()
    with pytest.raises(ValueError, match="3 groups"):
        correlate(reference, source, where, 3)
    with pytest.raises(ValueError, match="8 and 4 channels"):
        correlate(reference, source[:, :4], where)
