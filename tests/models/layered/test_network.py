"""The acceptance properties of the network, and those of its gate."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from crispdepth.models.layered.network import GATE_MARGIN, LayeredNet, stretched_sigmoid
from crispdepth.models.presets import LAYERED, LayeredConfig, build_layered

Inputs = tuple[Tensor, Tensor, Tensor]
Noise = Callable[[int, tuple[int, int]], Inputs]


@pytest.fixture
def plain() -> LayeredNet:
    """The small network as the paper has it: no gate, no estimate, no encoder of detail."""
    torch.manual_seed(0)
    tiny = LAYERED["tiny"]
    return build_layered(replace(tiny, gated=False, anchored=False, detail=0)).eval()


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (96, 32)])
@pytest.mark.parametrize("batch", [1, 3])
def test_outputs_have_the_size_of_the_input(
    tiny: LayeredNet, noise: Noise, batch: int, size: tuple[int, int]
) -> None:
    output = tiny(*noise(batch, size))
    for part in output:
        assert part.shape == (batch, 1, *size)


def test_every_input_has_an_influence_on_layer_and_gate(tiny: LayeredNet, noise: Noise) -> None:
    inputs = [x.requires_grad_() for x in noise(1, (64, 64))]
    output = tiny(*inputs)
    for part in (output.layer, output.gate_logit):
        for gradient in torch.autograd.grad(part.square().sum(), inputs, retain_graph=True):
            assert gradient.abs().max() > 0


def test_every_parameter_is_used(tiny: LayeredNet, plain: LayeredNet, noise: Noise) -> None:
    for model in (tiny, plain):
        output = model(*noise(1, (96, 96)))
        loss = output.layer.square().sum()
        if output.gate_logit is not None:
            loss = loss + output.gate_logit.square().sum()
        loss.backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_the_photo_s_branch_is_summed(tiny: LayeredNet, noise: Noise) -> None:
    depth, rgb, mask = noise(1, (64, 64))
    nn.init.zeros_(tiny.low_level.first.weight)  # through which the photo reaches the head too
    nn.init.zeros_(tiny.rgb.norm.weight)
    nn.init.zeros_(tiny.rgb.norm.bias)
    without = tiny(depth, rgb, mask)
    assert torch.equal(tiny(depth, 1 - rgb, mask).layer, without.layer)  # the photo is silent
    first = tiny.encoder[0]
    seen: list[Tensor] = []
    tiny.encoder[1].register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    tiny(depth, rgb, mask)
    assert torch.equal(seen[0], first(torch.cat([depth, mask], dim=1)))


def test_input_depth_reaches_the_head_at_low_level(plain: LayeredNet, noise: Noise) -> None:
    depth, rgb, mask = noise(1, (64, 64))
    kept = torch.cat([depth, mask], dim=1)
    plain.encoder[0].register_forward_pre_hook(lambda _, x: kept)  # the encoder sees no gradient
    depth = depth.clone().requires_grad_()
    plain(depth, rgb, mask).layer[0, 0, 28:36, 44:52].sum().backward()
    assert depth.grad is not None
    rows, columns = torch.nonzero(depth.grad[0, 0], as_tuple=True)
    assert len(rows) > 0
    assert (rows - 32).abs().max() <= 16
    assert (columns - 48).abs().max() <= 16


def test_the_same_input_gives_the_same_bits(tiny: LayeredNet, noise: Noise) -> None:
    inputs = noise(2, (64, 96))
    for first, second in zip(tiny(*inputs), tiny(*inputs), strict=True):
        assert torch.equal(first, second)


def test_samples_of_a_batch_do_not_see_each_other(tiny: LayeredNet, noise: Noise) -> None:
    inputs = noise(3, (64, 64))
    alone = tiny(*(x[1:2] for x in inputs)).layer
    torch.testing.assert_close(tiny(*inputs).layer[1:2], alone, atol=1e-5, rtol=1e-5)


def test_half_precision_is_close(tiny: LayeredNet, plain: LayeredNet, noise: Noise) -> None:
    inputs = noise(2, (64, 64))
    for model in (tiny, plain):
        exact = model(*inputs).layer
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model(*inputs).layer
        assert rounded.dtype == torch.float32
        assert (rounded - exact).abs().max() <= 1e-2 * exact.abs().max()


def test_channels_last_changes_nothing(tiny: LayeredNet, noise: Noise) -> None:
    inputs = noise(1, (64, 64))
    expected = tiny(*inputs).layer
    tiny = tiny.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    found = tiny(*(x.contiguous(memory_format=torch.channels_last) for x in inputs)).layer
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_without_a_gate_everything_is_replaced(plain: LayeredNet, noise: Noise) -> None:
    output = plain(*noise(1, (64, 64)))
    assert output.gate_logit is None
    assert (output.gate == 1).all()


def test_a_new_network_without_estimate_is_alive_in_the_middle(
    plain: LayeredNet, noise: Noise
) -> None:
    layer = plain(*noise(1, (64, 64))).layer
    assert (layer > 0).all()
    assert (layer - 5).abs().mean() < 2


def test_the_gate_reaches_both_ends_and_is_a_sigmoid_between() -> None:
    logit = torch.linspace(-12, 12, 241)
    gate = stretched_sigmoid(logit)
    assert gate[0] == 0
    assert gate[-1] == 1
    torch.testing.assert_close(gate[120], torch.tensor(0.5))
    assert (gate.diff() >= 0).all()
    torch.testing.assert_close(gate + gate.flip(0), torch.ones_like(gate))
    between = (gate > 0) & (gate < 1)
    expected = GATE_MARGIN + (1 - 2 * GATE_MARGIN) * gate[between]
    torch.testing.assert_close(expected, logit[between].sigmoid())


def test_a_calibrated_gate_opens_at_the_threshold(tiny: LayeredNet, noise: Noise) -> None:
    inputs = noise(2, (64, 64))
    before = tiny(*inputs)
    tiny.calibrate_gate(0.8, 3.0)
    after = tiny(*inputs)
    assert torch.equal(after.layer, before.layer)
    expected = 3 * (before.gate_logit - torch.tensor(0.8).logit())
    torch.testing.assert_close(after.gate_logit, expected, atol=1e-4, rtol=1e-4)


def test_the_gate_as_trained_is_no_other(tiny: LayeredNet, noise: Noise) -> None:
    inputs = noise(1, (64, 64))
    before = tiny(*inputs)
    tiny.calibrate_gate(0.5, 1.0)
    assert torch.equal(tiny(*inputs).gate_logit, before.gate_logit)


def test_without_a_gate_there_is_nothing_to_calibrate(plain: LayeredNet, noise: Noise) -> None:
    inputs = noise(1, (64, 64))
    before = plain(*inputs)
    plain.calibrate_gate(0.9, 4.0)
    assert torch.equal(plain(*inputs).layer, before.layer)


def test_the_border_of_the_gate_can_be_that_of_the_mask_to_the_pixel(
    tiny: LayeredNet, noise: Noise
) -> None:
    depth, rgb, _ = noise(1, (64, 64))
    mask = (torch.rand(depth.shape, generator=torch.Generator().manual_seed(2)) > 0.5).float()
    detail, head = tiny.low_level, tiny.head
    for part in (detail.first, detail.second, head.first, head.second, head.last):
        nn.init.zeros_(part.weight)
        assert part.bias is not None
        nn.init.zeros_(part.bias)
    with torch.no_grad():
        for pixel in range(4):  # of a cell: the mask, in one channel all the way
            detail.first.weight[pixel, 1, 1 + pixel // 2, 1 + pixel % 2] = 1
            detail.second.weight[pixel, pixel, 1, 1] = 1
            head.first.weight[pixel, -4 + pixel, 1, 1] = 1
            head.second.weight[pixel, pixel, 1, 1] = 1
            head.last.weight[4 + pixel, pixel] = 20
        assert head.last.bias is not None
        head.last.bias[4:] = -10
    assert torch.equal(tiny(depth, rgb, mask).gate, mask)


def test_stochastic_depth_makes_training_random_and_evaluation_not(noise: Noise) -> None:
    config: LayeredConfig = replace(LAYERED["tiny"], drop_path=0.9)
    torch.manual_seed(0)
    model = build_layered(config).train()
    inputs = noise(1, (64, 64))
    outputs = [model(*inputs).layer for _ in range(6)]
    assert any(not torch.equal(outputs[0], other) for other in outputs[1:])
