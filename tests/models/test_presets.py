import pytest
import torch
from torch import nn

from crispdepth.models.presets import LAYERED, build, build_layered


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_paper_s_network_has_the_paper_s_parameters() -> None:
    with torch.device("meta"):
        model = build("paper")
    assert count(model) == 56_334_593
    assert count(model.encoder) == 44_068_992
    assert count(model.rgb) == 957_504
    assert count(model.low_level) == 18_816
    assert count(model.head) == 405_697
    assert count(model.decoder.projections) == 2_359_296
    assert [count(fusion) for fusion in model.decoder.fusions[:3]] == [2_426_112] * 3
    assert not model.gated


def test_the_small_network_is_small_and_gated() -> None:
    with torch.device("meta"):
        model = build("small")
    assert count(model) <= 8_000_000
    assert model.gated


@pytest.mark.parametrize("name", [name for name in LAYERED if name.startswith("small")])
def test_every_small_preset_runs(name: str) -> None:
    torch.manual_seed(0)
    maps = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        output = build(name).eval()(maps, maps.expand(1, 3, 64, 64), maps.round())
    assert output.layer.isfinite().all()
    assert (output.gate_logit is not None) == LAYERED[name].gated


def test_the_seed_decides_the_weights() -> None:
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(build_layered(LAYERED["tiny"]).state_dict())
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name])
    assert any(not torch.equal(tensor, states[2][name]) for name, tensor in states[0].items())


def test_an_unknown_preset_is_named_beside_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'huge'.*paper.*small"):
        build("huge")
