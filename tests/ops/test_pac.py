"""Pixel-adaptive convolution: twins written as loops, plain convolutions, and edges of guides."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from crispdepth.models.multiview.upsampler import guided_double
from crispdepth.ops.pac import (
    bilinear_taps,
    gradient_magnitude,
    mask_guide,
    pac_conv2d,
    pac_conv_transpose2d,
)

Adapted = tuple[Tensor, Tensor, Tensor, Tensor]


def random(*sizes: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*sizes, generator=generator, dtype=torch.float64)


def slow_conv(x: Tensor, guide: Tensor, weight: Tensor, bias: Tensor, *, normalise: bool) -> Tensor:
    """The formula, pixel by pixel."""
    (batch, _, height, width), (channels, _, kernel, _) = x.shape, weight.shape
    centre = kernel // 2
    output = x.new_zeros(batch, channels, height, width)
    for b, o, r, c in torch.cartesian_prod(*map(torch.arange, output.shape)).tolist():
        total, weights = x.new_zeros(()), x.new_zeros(())
        for i in range(kernel):
            for j in range(kernel):
                y, z = r + i - centre, c + j - centre
                if 0 <= y < height and 0 <= z < width:
                    apart = (guide[b, :, r, c] - guide[b, :, y, z]).square().sum()
                    near = torch.exp(-apart / 2)
                    total = total + near * (weight[o, :, i, j] * x[b, :, y, z]).sum()
                    weights = weights + near * weight[o, :, i, j].abs().sum()
        output[b, o, r, c] = bias[o] + (total / weights if normalise else total)
    return output


def slow_transpose(
    x: Tensor, guide: Tensor, weight: Tensor, bias: Tensor, *, stride: int, normalise: bool
) -> Tensor:
    """Each input is spread over the outputs around the one that it lies on."""
    (batch, inputs, h, w), (_, channels, kernel, _) = x.shape, weight.shape
    height, width = guide.shape[-2:]
    output = x.new_zeros(batch, channels, height, width)
    weights = torch.zeros_like(output)
    for b, n, r, c in torch.cartesian_prod(*map(torch.arange, (batch, inputs, h, w))).tolist():
        for i in range(kernel):
            for j in range(kernel):
                y, z = stride * r + i - kernel // 2, stride * c + j - kernel // 2
                if 0 <= y < height and 0 <= z < width:
                    apart = (guide[b, :, y, z] - guide[b, :, stride * r, stride * c]).square().sum()
                    near = torch.exp(-apart / 2)
                    output[b, :, y, z] = (
                        output[b, :, y, z] + near * weight[n, :, i, j] * x[b, n, r, c]
                    )
                    weights[b, :, y, z] = weights[b, :, y, z] + near * weight[n, :, i, j].abs()
    return (output / weights if normalise else output) + bias[:, None, None]


def assert_twins(fast: Any, slow: Any, inputs: Adapted) -> None:
    """The same values and the same gradients to all inputs."""
    for each in inputs:
        each.requires_grad_()
    found, expected = fast(*inputs), slow(*inputs)
    torch.testing.assert_close(found, expected)
    pull = random(*found.shape, seed=9)
    for one, other in zip(
        torch.autograd.grad((found * pull).sum(), inputs),
        torch.autograd.grad((expected * pull).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("normalise", [False, True])
def test_the_convolution_is_its_slow_twin(normalise: bool) -> None:
    inputs = random(1, 2, 4, 5), random(1, 3, 4, 5), random(2, 2, 3, 3), random(2)
    assert_twins(
        lambda *given: pac_conv2d(*given, normalise=normalise),
        lambda *given: slow_conv(*given, normalise=normalise),
        inputs,
    )


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize(("stride", "kernel", "size"), [(2, 3, (6, 7)), (3, 5, (7, 10))])
def test_the_transposed_convolution_is_its_slow_twin(
    stride: int, kernel: int, size: tuple[int, int], normalise: bool
) -> None:
    inputs = random(1, 2, 3, 4), random(1, 2, *size), random(2, 2, kernel, kernel), random(2)
    assert_twins(
        lambda *given: pac_conv_transpose2d(*given, stride=stride, normalise=normalise),
        lambda *given: slow_transpose(*given, stride=stride, normalise=normalise),
        inputs,
    )


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_with_a_constant_guide_it_is_a_convolution(kernel: int, dilation: int) -> None:
    x, weight, bias = random(2, 3, 7, 6), random(4, 3, kernel, kernel), random(4)
    guide = torch.full((2, 2, 7, 6), 3.0)
    expected = F.conv2d(x, weight, bias, padding=dilation * (kernel // 2), dilation=dilation)
    found = pac_conv2d(x, guide, weight, bias, dilation=dilation)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("stride", "kernel", "extra"), [(1, 3, 0), (2, 5, 0), (2, 5, 1), (3, 5, 2), (4, 5, 3)]
)
def test_with_a_constant_guide_it_is_a_transposed_convolution(
    stride: int, kernel: int, extra: int
) -> None:
    """Of the taps as torch has them: a flipped kernel would differ."""
    x, weight, bias = random(2, 3, 7, 6), random(3, 4, kernel, kernel), random(4)
    expected = F.conv_transpose2d(
        x, weight, bias, stride=stride, padding=kernel // 2, output_padding=extra
    )
    guide = torch.ones(2, 1, *expected.shape[-2:])
    found = pac_conv_transpose2d(x, guide, weight, bias, stride=stride)
    torch.testing.assert_close(found, expected)
    flipped = pac_conv_transpose2d(x, guide, weight.flip(2, 3), bias, stride=stride)
    assert (flipped - expected).abs().max() > 1


@pytest.mark.parametrize("normalise", [False, True])
def test_nothing_crosses_a_step_of_the_guide(normalise: bool) -> None:
    guide = torch.zeros(1, 1, 6, 8)
    guide[..., 4:] = 1e3
    x, weight = random(1, 2, 6, 8), random(2, 2, 5, 5)
    changed = torch.cat([x[..., :4], 10 * x[..., 4:]], dim=-1)
    one, other = (pac_conv2d(each, guide, weight, normalise=normalise) for each in (x, changed))
    assert torch.equal(one[..., :4], other[..., :4])
    assert not torch.equal(one[..., 4:], other[..., 4:])


@pytest.mark.parametrize("spread", [1.0, 1e3])
def test_normalised_a_constant_stays(spread: float) -> None:
    """Whatever the guide, and however large: the sum of K never vanishes."""
    x, guide = torch.full((1, 1, 8, 8), 2.5).double(), spread * random(1, 2, 8, 8)
    weight = random(1, 1, 5, 5).abs()
    weight = weight / weight.sum()
    torch.testing.assert_close(pac_conv2d(x, guide, weight, normalise=True), x)
    large = torch.full((1, 1, 16, 16), 2.5).double()
    guide = spread * random(1, 2, 16, 16)
    found = pac_conv_transpose2d(x, guide, weight, normalise=True)
    torch.testing.assert_close(found, large)


def test_a_step_in_depth_is_enlarged_without_values_between() -> None:
    mask = torch.zeros(1, 1, 16, 20)
    mask[..., 3:11, 6:15] = 1
    near_far = torch.where(mask > 0.5, 1.0, 4.0)
    sampled = near_far[..., ::2, ::2]
    sharp = pac_conv_transpose2d(sampled, 1e3 * mask, bilinear_taps(2), normalise=True)
    torch.testing.assert_close(sharp, near_far, atol=1e-6, rtol=0)
    usual = pac_conv_transpose2d(sampled, mask_guide(mask), bilinear_taps(2), normalise=True)
    torch.testing.assert_close(usual, near_far, atol=3 * 2e-3, rtol=0)
    blurred = F.interpolate(sampled, scale_factor=2, mode="bilinear")
    assert (blurred - near_far).abs().max() > 1


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_without_guidance_the_taps_are_bilinear(scale: int) -> None:
    x = random(2, 1, 5, 7)
    guide = torch.ones(2, 1, 5 * scale, 7 * scale)
    weight = bilinear_taps(scale).double()
    found = pac_conv_transpose2d(x, guide, weight, stride=scale, normalise=True)
    expected = F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("normalise", [False, True])
def test_gradients_are_those_of_finite_differences(normalise: bool) -> None:
    inputs = random(1, 2, 3, 4), random(1, 2, 3, 4), random(2, 2, 3, 3), random(2)
    for each in inputs:
        each.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *given: pac_conv2d(*given, normalise=normalise), inputs, fast_mode=True
    )
    inputs = random(1, 2, 3, 4), random(1, 2, 5, 8), random(2, 2, 3, 3), random(2)
    for each in inputs:
        each.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *given: pac_conv_transpose2d(*given, normalise=normalise), inputs, fast_mode=True
    )


@pytest.mark.parametrize("spread", [0.0, 1e3])
def test_gradients_are_finite_where_the_guide_is_flat_or_steep(spread: float) -> None:
    mask = torch.zeros(1, 1, 8, 8, requires_grad=True)
    ramp = spread * torch.arange(8.0) + mask
    x = random(1, 1, 4, 4).float().requires_grad_()
    weight = bilinear_taps(2).requires_grad_()
    torch.autograd.backward(
        pac_conv_transpose2d(x, mask_guide(ramp), weight, normalise=True).square().sum()
    )
    for each in (mask, x, weight):
        assert each.grad is not None
        assert each.grad.isfinite().all()


def test_weights_of_zero_give_zero_and_finite_gradients() -> None:
    weight = torch.zeros(1, 1, 3, 3, requires_grad=True)
    found = pac_conv2d(torch.ones(1, 1, 4, 4), torch.rand(1, 1, 4, 4), weight, normalise=True)
    assert (found == 0).all()
    torch.autograd.backward(found.sum())
    assert weight.grad is not None
    assert weight.grad.isfinite().all()


def test_autocast_does_not_round_depth() -> None:
    x, guide = 100 * random(1, 1, 6, 6).float(), random(1, 1, 12, 12).float()
    expected = pac_conv_transpose2d(x, guide, bilinear_taps(2), normalise=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = pac_conv_transpose2d(x, guide, bilinear_taps(2), normalise=True)
    assert torch.equal(found, expected)


def test_a_constant_mask_guides_nothing_and_a_hard_one_by_its_weight() -> None:
    flat = mask_guide(torch.full((1, 1, 5, 5), 0.3))
    assert (flat == flat[..., :1, :1]).all()
    assert (flat[:, 1] == 0).all()
    mask = torch.zeros(1, 1, 5, 6)
    mask[..., 3:] = 1
    image = torch.rand(1, 3, 5, 6)
    guide = mask_guide(mask, image, mask_weight=5, edge_weight=2, image_weight=0.5)
    assert torch.equal(guide[:, :1], 5 * mask)
    torch.testing.assert_close(
        guide[0, 1, 2], torch.tensor([0, 0, 1, 1, 0, 0.0]), atol=5e-3, rtol=0
    )
    assert torch.equal(guide[:, 2:], 0.5 * image)


def test_the_gradient_of_a_ramp_is_its_slope() -> None:
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(7.0), indexing="ij")
    slope = gradient_magnitude((0.3 * x + 0.4 * y)[None, None])[0, 0, 1:-1, 1:-1]
    torch.testing.assert_close(slope, torch.full((4, 5), 0.5), atol=2e-3, rtol=0)


def test_inputs_may_have_a_guide_of_their_own() -> None:
    """At their pixels it is the usual guide; the mean of their pixels is the network's upsampler,
    which was written for two-fold enlargement alone.
    """
    x, guide, weight = random(2, 1, 5, 6), 2 * random(2, 3, 10, 12), bilinear_taps(2).double()
    usual = pac_conv_transpose2d(x, guide, weight, normalise=True)
    read = guide[..., ::2, ::2]
    given = pac_conv_transpose2d(x, guide, weight, input_guide=read, normalise=True)
    torch.testing.assert_close(given, usual)
    mean = F.avg_pool2d(guide, 2)
    found = pac_conv_transpose2d(x, guide, weight, input_guide=mean, normalise=True)
    torch.testing.assert_close(found, guided_double(x, mean, guide))
    assert (found - usual).abs().max() > 0.1


def test_what_does_not_fit_is_refused() -> None:
    x, guide, weight = torch.rand(1, 2, 4, 4), torch.rand(1, 1, 4, 4), torch.rand(3, 2, 3, 3)
    with pytest.raises(ValueError, match="square and odd"):
        pac_conv2d(x, guide, torch.rand(3, 2, 4, 4))
    with pytest.raises(ValueError, match="takes 3 channels, got 2"):
        pac_conv_transpose2d(x, torch.rand(1, 1, 8, 8), weight)
    with pytest.raises(ValueError, match="size of its input"):
        pac_conv2d(x, torch.rand(1, 1, 8, 8), weight)
    with pytest.raises(ValueError, match=r"up to \(8, 8\) pixels; got a guide of \(6, 8\)"):
        pac_conv_transpose2d(x, torch.rand(1, 1, 6, 8), torch.rand(2, 3, 3, 3))
    with pytest.raises(ValueError, match=r"has their size, \(4, 4\); got \(8, 8\)"):
        pac_conv_transpose2d(
            x, torch.rand(1, 1, 8, 8), torch.rand(2, 3, 3, 3), input_guide=torch.rand(1, 1, 8, 8)
        )
    with pytest.raises(ValueError, match="leaves gaps at a stride of 4"):
        pac_conv_transpose2d(x, torch.rand(1, 1, 16, 16), torch.rand(2, 3, 3, 3), stride=4)
