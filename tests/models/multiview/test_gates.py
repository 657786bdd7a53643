"""Gates: nothing for masks of ones, nothing at the start, and bounds in between."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from crispdepth.models.multiview.gates import (
    MaskAttentionGate,
    MaskLateral,
    SoftGate,
    mask_at,
    mask_evidence,
)

CHANNELS, DECODER = 6, 4
Call = Callable[[nn.Module, Tensor, Tensor | None], Tensor]


def joined(gate: nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    decoder = torch.linspace(-1, 1, DECODER * 20).view(1, DECODER, 4, 5).repeat(len(x), 1, 1, 1)
    output: Tensor = gate(x, mask, decoder)
    return output


def alone(gate: nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    output: Tensor = gate(x, mask)
    return output


PARTS: dict[str, tuple[Callable[[], nn.Module], Call]] = {
    "soft gate": (lambda: SoftGate(CHANNELS), alone),
    "lateral": (lambda: MaskLateral(CHANNELS), alone),
    "attention of a skip": (lambda: MaskAttentionGate(CHANNELS, DECODER), joined),
    "attention of a reassembly": (lambda: MaskAttentionGate(CHANNELS), alone),
}


@pytest.fixture(params=PARTS)
def part(request: pytest.FixtureRequest) -> tuple[nn.Module, Call]:
    torch.manual_seed(0)
    make, call = PARTS[request.param]
    return make(), call


def features() -> Tensor:
    return torch.randn(2, CHANNELS, 8, 10, generator=torch.Generator().manual_seed(0))


def half_mask() -> Tensor:
    """Twice the size of the features; soft along the border, which is no multiple of a cell."""
    mask = torch.zeros(2, 1, 16, 20)
    mask[..., 9:] = 1
    mask[..., 8] = 0.4
    return mask


def stirred(module: nn.Module) -> nn.Module:
    """As after a training: no weight is 0."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for each in module.parameters():
            each.copy_(torch.randn(each.shape, generator=generator))
    return module


def test_at_the_start_no_mask_changes_a_bit(part: tuple[nn.Module, Call]) -> None:
    module, call = part
    x = features()
    for mask in (None, half_mask(), torch.zeros(2, 1, 16, 20), torch.rand(2, 1, 8, 10)):
        assert torch.equal(call(module, x, mask), x)


def test_trained_masks_of_ones_change_nothing(part: tuple[nn.Module, Call]) -> None:
    module, call = part
    x = features()
    for size in ((8, 10), (16, 20), (60, 77)):
        found = call(stirred(module), x, torch.ones(2, 1, *size))
        torch.testing.assert_close(found, x, atol=1e-6, rtol=0)
    assert torch.equal(call(module, x, None), x)
    assert not torch.equal(call(module, x, half_mask()), x)


def test_the_start_is_left(part: tuple[nn.Module, Call]) -> None:
    """The gradient to the first weights to move is not 0, and all of them have moved soon."""
    module, call = part
    before = [each.clone() for each in module.parameters()]
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    x, target = features(), torch.zeros(())
    for _ in range(4):
        optimiser.zero_grad()
        torch.autograd.backward((call(module, x, half_mask()) - target).square().sum())
        optimiser.step()
    for old, new in zip(before, module.parameters(), strict=True):
        assert new.isfinite().all()
        assert not torch.equal(old, new)


def test_samples_do_not_see_each_other(part: tuple[nn.Module, Call]) -> None:
    module, call = part
    stirred(module)
    x, mask = features(), half_mask()
    torch.testing.assert_close(call(module, x[1:], mask[1:]), call(module, x, mask)[1:])


def test_a_soft_gate_damps_what_is_outside_and_no_more() -> None:
    gate, x, mask = SoftGate(CHANNELS), features(), half_mask()
    weight = mask_at(mask, (8, 10))
    bias = gate.gate.bias
    assert bias is not None
    nn.init.constant_(bias, 40.0)
    torch.testing.assert_close(gate(x, mask), x * weight)  # g = 1
    nn.init.constant_(bias, -1.0)
    assert torch.equal(gate(x, mask), x)  # g = 0
    nn.init.constant_(bias, 0.1)
    outside = weight == 0
    share = 1 - torch.tanh(torch.tensor(0.1))
    torch.testing.assert_close(gate(x, mask)[outside.expand_as(x)], share * x[outside.expand_as(x)])
    magnitude = stirred(gate)(x, mask).abs()
    assert (magnitude <= x.abs()).all()
    assert (magnitude >= (x * weight).abs() - 1e-6).all()


def test_attention_is_between_its_floor_and_one() -> None:
    x, mask = features(), half_mask()
    for floor in (0.1, 0.0, 0.5):
        gate = MaskAttentionGate(CHANNELS, floor=floor)
        stirred(gate)
        nn.init.constant_(gate.psi.weight, 50.0)
        nn.init.constant_(gate.mu.weight, 1.0)
        opening = gate.opening(x, mask)
        assert opening.shape == (2, 1, 8, 10)
        assert (opening <= 1).all()
        assert opening.min() >= floor
        assert opening.min() <= floor + 1e-3
        nn.init.constant_(gate.psi.weight, -50.0)
        assert (gate.opening(x, mask) == 1).all()


def test_attention_asks_the_decoder() -> None:
    gate = stirred(MaskAttentionGate(CHANNELS, DECODER))
    x, mask = features(), half_mask()
    decoder = torch.randn(2, DECODER, 4, 5, requires_grad=True)
    torch.autograd.backward(gate(x, mask, decoder).square().sum())
    assert decoder.grad is not None
    assert decoder.grad.abs().max() > 0


def test_masks_shrink_by_area() -> None:
    mask = half_mask()
    small = mask_at(mask, (8, 10))
    assert small.mean() == pytest.approx(mask.mean().item())
    torch.testing.assert_close(small[0, 0, 0], torch.tensor([0, 0, 0, 0, 0.7, 1, 1, 1, 1, 1]))
    assert mask_at(mask, (16, 20)) is mask


def test_the_evidence_of_ones_is_nothing() -> None:
    assert (mask_evidence(torch.ones(1, 1, 60, 77), (8, 10)) == 0).all()
    evidence = mask_evidence(half_mask(), (8, 10))
    assert evidence.shape == (2, 2, 8, 10)
    assert (evidence[:, 0, :, :4] == 1).all()
    assert (evidence[:, 1, :, 4] > 0.4).all()
