import pytest
import torch
from torch import Tensor, nn

from crispdepth.models.multiview.view_weights import (
    EpipolarAttention,
    PairUncertainty,
    PixelViewWeight,
    Temperature,
    UncertaintyNetwork,
    normalised_entropy,
    view_softmax,
)
from crispdepth.ops.cost_volume import Pair, aggregate

SHAPE = (2, 4, 6, 5, 7)  # N, G, D, h, w
CPU = torch.device("cpu")


def costs(count: int = 3) -> list[Tensor]:
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(SHAPE, generator=rng) for _ in range(count)]


def trained(module: nn.Module) -> nn.Module:
    """The module with other weights than it starts with."""
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for part in module.parameters():
            part.add_(0.3 * torch.randn(part.shape, generator=rng))
    return module


def weight_of(module: nn.Module, cost: Tensor) -> Tensor:
    found = module(cost)
    weight: Tensor = found.weight() if isinstance(found, PairUncertainty) else found
    return weight


def volume(module: nn.Module, each: list[Tensor]) -> Tensor:
    pairs = (Pair(cost, weight_of(module, cost)) for cost in each)
    return aggregate(pairs, SHAPE, CPU).cost


MODULES = [
    pytest.param(lambda: UncertaintyNetwork(4), id="uncertainty"),
    pytest.param(lambda: PixelViewWeight(4), id="pixel"),
    pytest.param(EpipolarAttention, id="epipolar"),
]


@pytest.mark.parametrize("make", MODULES)
def test_a_new_module_leaves_the_mean_and_the_evidence(make: type[nn.Module]) -> None:
    found = aggregate((Pair(cost, weight_of(make(), cost)) for cost in costs()), SHAPE, CPU)
    torch.testing.assert_close(found.cost, torch.stack(costs()).mean(dim=0), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found.evidence, torch.ones(2, 1, 6, 5, 7), atol=1e-6, rtol=0)


@pytest.mark.parametrize("make", MODULES)
def test_views_may_change_places(make: type[nn.Module]) -> None:
    module = trained(make())
    one, other = volume(module, costs()), volume(module, costs()[::-1])
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert (one - torch.stack(costs()).mean(dim=0)).abs().max() > 1e-2
    same = costs(1) * 2
    torch.testing.assert_close(volume(module, same), same[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("make", MODULES)
def test_every_parameter_learns(make: type[nn.Module]) -> None:
    module = trained(make())
    torch.autograd.backward(volume(module, costs()).square().sum())
    for name, part in module.named_parameters():
        assert part.grad is not None, name
        assert part.grad.isfinite().all(), name
        assert part.grad.abs().sum() > 0, name


@pytest.mark.parametrize("make", MODULES)
def test_a_new_module_can_begin_to_learn(make: type[nn.Module]) -> None:
    module = make()
    torch.autograd.backward(volume(module, costs()).square().sum())
    assert any(part.grad is not None and part.grad.abs().sum() > 0 for part in module.parameters())


@pytest.mark.parametrize("make", MODULES)
@pytest.mark.parametrize("level", [0.0, 1e4])
def test_flat_and_enormous_costs_are_finite(make: type[nn.Module], level: float) -> None:
    module = trained(make())
    cost = torch.zeros(SHAPE)
    cost[:, :, 2] = level
    cost.requires_grad_()
    weight = weight_of(module, cost)
    assert weight.isfinite().all()
    assert (weight >= 0).all()
    torch.autograd.backward(weight.sum())
    assert cost.grad is not None
    assert cost.grad.isfinite().all()


# Uncertainty (spec 2.3)


@pytest.mark.parametrize("depths", [2, 48])
def test_entropy_is_one_when_uniform_and_zero_when_sure(depths: int) -> None:
    uniform = torch.full((1, depths, 1, 1), 1 / depths)
    assert normalised_entropy(uniform).item() == pytest.approx(1)
    sure = torch.zeros(1, depths, 1, 1)
    sure[:, 0] = 1
    sure.requires_grad_()
    assert normalised_entropy(sure).item() == pytest.approx(0, abs=1e-6)
    torch.autograd.backward(normalised_entropy(sure).sum())
    assert sure.grad is not None
    assert sure.grad.isfinite().all()


@pytest.mark.parametrize("s", [-3.0, 1.5])
def test_views_that_are_as_uncertain_are_averaged(s: float) -> None:
    pair = PairUncertainty(torch.full((2, 1, 5, 7), s), torch.zeros(2, 6, 5, 7))
    found = aggregate([Pair(cost, pair.weight()) for cost in costs()], SHAPE, CPU).cost
    torch.testing.assert_close(found, torch.stack(costs()).mean(dim=0))


def test_an_uncertain_view_is_removed() -> None:
    one, other = costs(2)
    nothing = torch.zeros(2, 6, 5, 7)
    sure, unsure = (
        PairUncertainty(torch.full((2, 1, 5, 7), s), nothing).weight() for s in (0.0, 10.0)
    )
    found = aggregate([Pair(one, sure), Pair(other, unsure)], SHAPE, CPU).cost
    torch.testing.assert_close(found, one, atol=1e-3, rtol=0)


def test_uncertainty_is_bounded_and_knows_the_depth_of_its_view() -> None:
    network = UncertaintyNetwork(4)
    with torch.no_grad():
        network.last.weight.fill_(1e6)
    found = network(costs()[0])
    assert found.log_uncertainty.abs().max() <= 10
    peaked = torch.zeros(SHAPE)
    peaked[:, :, 4] = 1e3
    rho = torch.linspace(0.2, 1, 6)[None, :, None, None]
    expected = torch.full((2, 5, 7), 0.2 + 4 * 0.16)
    said = network(peaked).depth(rho)
    torch.testing.assert_close(said.inverse_depth, expected)
    torch.testing.assert_close(said.step, torch.full((1, 1, 1), 0.16))


# Weights of views and temperatures (spec 2.4, 2.5)


def test_pixel_weights_are_positive_and_bounded() -> None:
    weight = trained(PixelViewWeight(4))(costs()[0])
    assert weight.shape == (2, 1, 1, 5, 7)
    assert (weight > 0).all()
    assert (weight < 2).all()


def test_hot_views_are_the_mean_and_cold_ones_the_best() -> None:
    scores = torch.tensor([0.1, 0.9, 0.4]).view(3, 1, 1, 1, 1)
    hot, cold = (view_softmax(scores, t).flatten() for t in (1e6, 1e-3))
    torch.testing.assert_close(hot, torch.ones(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(cold, torch.tensor([0.0, 3, 0]))
    torch.testing.assert_close(view_softmax(scores, 0.5), view_softmax(scores + 100, 0.5))


def test_a_temperature_stays_in_its_range() -> None:
    assert Temperature(0.3)().item() == pytest.approx(0.3)
    for log, expected in ((-1e3, 0.01), (1e3, 10.0)):
        temperature = Temperature()
        with torch.no_grad():
            temperature.log.fill_(log)
        assert temperature().item() == pytest.approx(expected)
    temperature = Temperature(2.0)
    scores = torch.tensor([0.1, 0.9]).view(2, 1, 1, 1, 1)
    torch.autograd.backward(view_softmax(scores, temperature())[1].sum())
    assert temperature.log.grad is not None
    assert temperature.log.grad < 0  # hotter is more equal


# Attention along depth (spec 2.6)


def test_attention_is_a_softmax_along_depth() -> None:
    attention = EpipolarAttention()
    with torch.no_grad():
        attention.gain.fill_(1)
    cost = costs()[0]
    weight = attention(cost)
    expected = 6 * (cost.sum(dim=1) / 2).softmax(dim=1)
    torch.testing.assert_close(weight[:, 0], expected)
    torch.testing.assert_close(weight.mean(dim=2), torch.ones(2, 1, 5, 7))
