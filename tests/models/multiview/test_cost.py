"""From volumes to depth, and how sources are trusted."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from crispdepth.models.multiview.config import MultiviewNetworkConfig
from crispdepth.models.multiview.cost import SourceTrust, expectation
from crispdepth.ops.cost_volume import Pair, inverse_depth_candidates

PLANES = 9
RHO = inverse_depth_candidates(torch.tensor([0.7]), torch.tensor([11.3]), PLANES)[..., None, None]
GROUPS = 4
ALONE = MultiviewNetworkConfig(view_weights=False)
TRUST = {
    "pixels": replace(ALONE, view_weights=True),
    "uncertainty": replace(ALONE, uncertainty=True),
    "competing": replace(ALONE, competing=True),
    "along": replace(ALONE, epipolar_transformer=True),
    "all": replace(ALONE, view_weights=True, uncertainty=True, competing=True),
}


# Soft-argmax (spec 1.14 (3))


@pytest.mark.parametrize("peak", [0, 1, 2, 20])
def test_a_certain_plane_is_that_candidate_exactly(peak: int) -> None:
    plane = torch.arange(PLANES)[None, None, None]  # pixels (1, 1, PLANES), one for each plane
    logits = 200.0 * (plane == torch.arange(PLANES)[None, :, None, None])
    found, sure = expectation(logits, RHO, peak)
    assert torch.equal(found[0, 0], RHO[0, :, 0, 0])
    assert (sure == 1).all()


def test_between_two_surfaces_there_is_nothing_unless_all_planes_count() -> None:
    logits = torch.full((1, PLANES, 1, 1), -50.0)
    logits[0, 1], logits[0, 7] = 3.1, 3.0
    near_one, share = expectation(logits, RHO, 2)
    assert near_one.item() == pytest.approx(RHO[0, 1].item(), abs=1e-6)
    assert share.item() == pytest.approx(torch.sigmoid(torch.tensor(0.1)).item(), abs=1e-5)
    between, _ = expectation(logits, RHO, 0)
    assert RHO[0, 3] < between.item() < RHO[0, 5]


# Sources (spec 2.3 to 2.6)


@pytest.fixture(params=TRUST)
def trust(request: pytest.FixtureRequest) -> SourceTrust:
    """As after a training: no weight is where it began."""
    torch.manual_seed(0)
    module = SourceTrust(GROUPS, TRUST[request.param])
    with torch.no_grad():
        for part in module.parameters():
            part.add_(0.5 * torch.randn_like(part))
    return module


def pairs(count: int = 3) -> list[Pair]:
    rng = torch.Generator().manual_seed(0)
    return [
        Pair(
            torch.randn(2, GROUPS, 6, 5, 7, generator=rng),
            torch.rand(2, 1, 6, 5, 7, generator=rng),
        )
        for _ in range(count)
    ]


def weights(trust: SourceTrust, given: list[Pair]) -> Tensor:
    return torch.stack([weight for _, weight in trust(given, [])])


@torch.no_grad()
def test_sources_in_another_order_are_trusted_as_much(trust: SourceTrust) -> None:
    order = [2, 0, 1]
    found = weights(trust, pairs())
    torch.testing.assert_close(weights(trust, [pairs()[i] for i in order]), found[order])
    ratio = found / torch.stack([weight for _, weight in pairs()])
    assert (ratio[0] - ratio[1]).abs().max() > 0.05  # and not all alike


@torch.no_grad()
def test_sources_that_say_the_same_are_trusted_the_same(trust: SourceTrust) -> None:
    one, other, _ = pairs()
    found = weights(trust, [one, other, one])
    assert torch.equal(found[0], found[2])
    assert (found >= 0).all()
