from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from crispdepth.models.layered.mit import Attention, DropPath, MitLevel, MixFfn, to_map, to_tokens
from crispdepth.models.layered.network import LayeredNet
from crispdepth.models.presets import LAYERED, build_layered


def test_tokens_and_maps_are_each_other_s_inverse() -> None:
    x = torch.rand(2, 3, 4, 5)
    assert torch.equal(to_map(to_tokens(x), (4, 5)), x)


def test_levels_have_the_sizes_of_the_paper() -> None:
    with torch.device("meta"):
        model = build_layered(LAYERED["paper"])
        x = torch.zeros(1, 2, 320, 320)
    sizes = []
    for level in model.encoder:
        x = level(x)
        sizes.append(tuple(x.shape[1:]))
    assert sizes == [(64, 80, 80), (128, 40, 40), (320, 20, 20), (512, 10, 10)]


@pytest.mark.parametrize("heads", [1, 4])
def test_attention_without_reduction_is_softmax_of_scaled_products(heads: int) -> None:
    dim, tokens = 8, 6
    attention = Attention(dim, heads, reduction=1)
    with torch.no_grad():
        attention.query.weight.copy_(torch.eye(dim))
        attention.key_value.weight.copy_(torch.eye(dim).repeat(2, 1))
        attention.project.weight.copy_(torch.eye(dim))
        for layer in (attention.query, attention.key_value, attention.project):
            layer.bias.zero_()
    x = torch.randn(2, tokens, dim, generator=torch.Generator().manual_seed(0))

    expected = torch.zeros_like(x)
    width = dim // heads
    for sample in range(2):
        for head in range(heads):
            part = x[sample, :, head * width : (head + 1) * width]
            for i in range(tokens):
                scores = torch.stack([part[i] @ part[j] for j in range(tokens)]) / width**0.5
                weights = scores.exp() / scores.exp().sum()
                value = sum((weights[j] * part[j] for j in range(tokens)), torch.zeros(width))
                expected[sample, i, head * width : (head + 1) * width] = value
    torch.testing.assert_close(attention(x, (2, 3)), expected, atol=1e-5, rtol=0)


def test_keys_that_are_all_alike_leave_nothing_to_choose() -> None:
    attention = Attention(8, heads=2, reduction=2)
    x = torch.randn(1, 16, 8, generator=torch.Generator().manual_seed(0))
    assert attention.reduce is not None
    nn.init.zeros_(attention.reduce.weight)  # every key and value comes from the bias
    first, *others = attention(x, (4, 4))[0]
    for other in others:
        torch.testing.assert_close(other, first)


def test_the_feed_forward_part_sees_its_neighbours_and_no_farther() -> None:
    ffn = MixFfn(4)
    x = torch.zeros(1, 25, 4, requires_grad=True)
    ffn(x, (5, 5))[0, 12].sum().backward()
    assert x.grad is not None
    seen = x.grad.abs().sum(dim=2).reshape(5, 5) > 0
    expected = torch.zeros(5, 5, dtype=torch.bool)
    expected[1:4, 1:4] = True
    assert torch.equal(seen, expected)


def test_drop_path_drops_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    drop, x = DropPath(0.25).train(), torch.ones(4000, 2, 3)
    dropped = drop(x)
    per_sample = dropped.flatten(1)
    assert (per_sample == per_sample[:, :1]).all()
    assert set(per_sample[:, 0].tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert abs(float(dropped.mean()) - 1) < 0.03  # four standard deviations
    assert torch.equal(drop.eval()(x), x)


def test_drop_rates_rise_linearly_over_the_layers_to_a_tenth() -> None:
    with torch.device("meta"):
        model = build_layered(LAYERED["paper"])
    rates = [drop.rate for drop in model.encoder.modules() if isinstance(drop, DropPath)]
    assert len(rates) == 28
    assert rates[0] == 0
    assert rates[-1] == pytest.approx(0.1)
    for before, after in pairwise(rates):
        assert after - before == pytest.approx(0.1 / 27)


def test_features_move_with_the_image_in_steps_of_their_stride(tiny: LayeredNet) -> None:
    # Nothing in the encoder knows where a token is but the padding; made periodic, it goes too.
    for module in tiny.encoder.modules():
        if isinstance(module, nn.Conv2d) and module.padding != (0, 0):
            _make_periodic(module)
    x = torch.randn(1, 2, 96, 128, generator=torch.Generator().manual_seed(0))
    moved = x.roll((32, 64), dims=(2, 3))
    stride = 1
    for level, step in zip(tiny.encoder, (4, 2, 2, 2), strict=True):
        x, moved, stride = level(x), level(moved), stride * step
        shift = (32 // stride, 64 // stride)
        torch.testing.assert_close(moved, x.roll(shift, dims=(2, 3)), atol=1e-4, rtol=1e-4)


def _make_periodic(convolution: nn.Conv2d) -> None:
    width = int(convolution.padding[0])
    convolution.padding = (0, 0)

    def pad(_: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        return nn.functional.pad(inputs[0], (width,) * 4, mode="circular")

    convolution.register_forward_pre_hook(pad)


def test_a_level_ends_normalised() -> None:
    torch.manual_seed(0)
    level = MitLevel(2, 16, stride=4, heads=1, reduction=2, drop_paths=[0.0])
    x = level(torch.rand(1, 2, 32, 32))
    torch.testing.assert_close(x.mean(dim=1), torch.zeros(1, 8, 8), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.var(dim=1, correction=0), torch.ones(1, 8, 8), atol=1e-3, rtol=0)
