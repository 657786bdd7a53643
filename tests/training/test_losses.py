"""The losses are those of the paper, and what was not measured has no part in them."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from crispdepth.geometry.align import fit_scale_shift
from crispdepth.training import losses
from crispdepth.training.losses import (
    SCALES,
    STAKES,
    Stencil,
    blend,
    depth_loss,
    gate_loss,
    gradient_loss,
    harm,
    must_change,
    near_boundary,
)

SIZE = (2, 1, 21, 26)


def noise(seed: int = 0, size: tuple[int, ...] = SIZE) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 10 * torch.rand(size, generator=generator, dtype=torch.float64)


def some_valid(seed: int = 9) -> Tensor:
    return (noise(seed) > 4).to(torch.float64)


def ones(like: Tensor) -> Tensor:
    return torch.ones_like(like)


def columns(values: Tensor, height: int = 18) -> Tensor:
    """(1, 1, height, width) with these values in every row."""
    return values.expand(1, 1, height, -1).contiguous()


def widths(width: int) -> list[int]:
    """How many columns each scale has."""
    return [math.ceil(width / 2**k) for k in range(SCALES)]


def test_equal_maps_have_no_loss() -> None:
    assert depth_loss(noise(), noise(), some_valid()) == 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.floats(-20, 20))
def test_a_constant_offset_costs_its_size_and_its_square(seed: int, offset: float) -> None:
    target = noise(seed)
    loss = depth_loss(target + offset, target, some_valid(seed))
    torch.testing.assert_close(loss.item(), abs(offset) + offset**2)


def test_the_gradient_loss_does_not_see_an_offset() -> None:
    residual = noise()
    shifted = gradient_loss(residual + 7, some_valid())
    torch.testing.assert_close(shifted, gradient_loss(residual, some_valid()))


@pytest.mark.parametrize("width", [8, 16, 23, 25])
@pytest.mark.parametrize(("stencil", "reach"), [("forward", 1), ("central2", 2)])
def test_a_ramp_costs_its_slope_at_every_scale(width: int, stencil: Stencil, reach: int) -> None:
    slope = 0.3
    residual = columns(slope * torch.arange(width, dtype=torch.float64))
    expected = sum(
        slope * reach * 2**k * max(w - reach, 0) / w for k, w in enumerate(widths(width))
    )
    (loss,) = gradient_loss(residual, ones(residual), stencil=stencil).tolist()
    assert loss == pytest.approx(expected)
    upright = gradient_loss(residual.mT, ones(residual).mT, stencil=stencil).item()
    assert upright == pytest.approx(expected)


@pytest.mark.parametrize("at", [1, 7, 15])
def test_a_step_costs_its_height_once_per_row_and_scale(at: int) -> None:
    residual = columns(2.5 * (torch.arange(16) >= at))
    counts = [len(range(0, 16, 2**k)) for k in range(SCALES) if at <= 15 // 2**k * 2**k]
    expected = sum(2.5 / count for count in counts)
    assert gradient_loss(residual, ones(residual)).item() == pytest.approx(expected)


def plain_gradient_loss(residual: Tensor, weight: Tensor) -> Tensor:
    """At one scale, of (h, w), pair by pair."""
    total = residual.new_zeros(())
    for y, x in itertools.product(*map(range, residual.shape)):
        for v, u in ((y + 1, x), (y, x + 1)):
            if v < residual.shape[0] and u < residual.shape[1]:
                pair = torch.minimum(weight[y, x], weight[v, u])
                total = total + pair * (residual[v, u] - residual[y, x]).abs()
    return total / weight.sum().clamp(min=1e-9)


@pytest.mark.parametrize("scales", [1, 2, 4])
def test_it_is_the_sum_of_plain_gradient_losses_of_every_other_pixel(
    scales: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One scale is the plain loss; a map too small for a scale has nothing to add there."""
    monkeypatch.setattr(losses, "SCALES", scales)
    for height, width in ((9, 11), (5, 1), (1, 1)):
        residual = noise()[:, :, :height, :width]
        weight = noise(3)[:, :, :height, :width]
        expected = [
            sum(
                plain_gradient_loss(r[:: 2**k, :: 2**k], w[:: 2**k, :: 2**k]) for k in range(scales)
            )
            for r, w in zip(residual[:, 0], weight[:, 0], strict=True)
        ]
        torch.testing.assert_close(
            gradient_loss(residual, weight).tolist(), [*map(float, expected)]
        )


@pytest.mark.parametrize("padding", [(0, 3, 0, 5), (8, 0, 16, 0), (16, 13, 8, 1)])
def test_a_border_that_was_not_measured_changes_nothing(padding: tuple[int, ...]) -> None:
    """In front of the map whole strides of the last scale, which keeps the same pixels."""
    weight = some_valid()
    wider = F.pad(noise(1) - noise(2), padding, value=99.0)
    torch.testing.assert_close(
        gradient_loss(wider, F.pad(weight, padding)), gradient_loss(noise(1) - noise(2), weight)
    )
    one, other, weights = (F.pad(each, padding) for each in (noise(1), noise(2), weight))
    torch.testing.assert_close(
        depth_loss(one + 7 * (weights == 0), other, weights), depth_loss(noise(1), noise(2), weight)
    )


@pytest.mark.parametrize(("scale", "shift"), [(3.0, -2.0), (0.05, 40.0)])
def test_what_is_right_up_to_scale_and_shift_loses_nothing_once_aligned(
    scale: float, shift: float
) -> None:
    target, weight = noise(1), some_valid()
    prediction = torch.where(weight > 0, (target - shift) / scale, 1e3)
    assert depth_loss(prediction, target, weight) > 1
    aligned = torch.stack(
        [
            torch.from_numpy(fit_scale_shift(p, t, w > 0).apply(p))
            for p, t, w in zip(prediction.numpy(), target.numpy(), weight.numpy(), strict=True)
        ]
    )
    assert depth_loss(aligned, target, weight) < 1e-9


@pytest.mark.parametrize("garbage", [123.0, math.nan, math.inf])
def test_what_was_not_measured_changes_neither_loss_nor_gradient(garbage: float) -> None:
    valid = some_valid()
    results = []
    for filler in (0.0, garbage):
        prediction, target = (torch.where(valid > 0, noise(seed), filler) for seed in (1, 2))
        prediction.requires_grad_()
        loss = depth_loss(prediction, target, valid)
        (gradient,) = torch.autograd.grad(loss, prediction)
        results.append((loss, gradient))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
    assert (results[0][1][valid == 0] == 0).all()


def test_a_pair_counts_only_if_both_of_its_pixels_do() -> None:
    residual = noise(size=(1, 1, 8, 8))
    lonely = torch.zeros_like(residual)
    lonely[..., ::8, ::3] = 1  # no two of them side by side at any scale
    assert gradient_loss(residual, lonely) == 0
    lonely[..., 0, 1] = 1
    assert gradient_loss(residual, lonely) > 0


def test_nothing_measured_is_no_loss_and_no_nan() -> None:
    prediction = noise().requires_grad_()
    loss = depth_loss(prediction, noise(1), torch.zeros(SIZE, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(loss, prediction)
    assert loss == 0
    assert (gradient == 0).all()


def test_the_loss_of_a_batch_is_the_mean_of_its_images() -> None:
    valid = some_valid()
    parts = [depth_loss(noise(1)[i : i + 1], noise(2)[i : i + 1], valid[i : i + 1]) for i in (0, 1)]
    torch.testing.assert_close(depth_loss(noise(1), noise(2), valid), torch.stack(parts).mean())


def test_only_the_proportions_of_the_weights_matter() -> None:
    weight = noise(3)
    losses = [depth_loss(noise(1), noise(2), scale * weight) for scale in (1.0, 7.0)]
    torch.testing.assert_close(losses[0], losses[1])


@pytest.mark.parametrize("stencil", ["forward", "central2"])
def test_derivatives_are_right(stencil: Stencil) -> None:
    weight = some_valid()[..., :9, :9]
    prediction, target = (noise(seed)[..., :9, :9] for seed in (1, 2))
    torch.autograd.gradcheck(
        lambda x: depth_loss(x, target, weight, stencil=stencil), prediction.requires_grad_()
    )


def test_the_gate_is_to_open_where_the_layer_is_nearer_to_the_truth() -> None:
    rough, target, layer = noise(1), noise(2), noise(3)
    nearer = (layer - target).abs() < (rough - target).abs() - 1
    right = 60 * (nearer.to(torch.float64) - 0.5)
    assert gate_loss(right, layer, rough, target, ones(rough), tolerance=1.0) < 1e-6
    assert gate_loss(-right, layer, rough, target, ones(rough), tolerance=1.0) > 20


def test_an_undecided_gate_loses_one_bit_by_what_is_at_stake() -> None:
    target = noise(2)
    for apart, counts in ((0.0, STAKES[0]), (STAKES[1] / 2, 0.5), (STAKES[1], 1.0), (3.0, 1.0)):
        rough = target + apart  # all that the true layer gains
        undecided = gate_loss(0 * rough, target, rough, target, some_valid(), tolerance=0.1)
        assert undecided.item() == pytest.approx(counts * math.log(2))


def test_a_true_layer_is_let_through_where_the_input_is_wrong() -> None:
    rough, target = noise(1), noise(2)
    right = 60 * (must_change(rough, target, 3.0).to(torch.float64) - 0.5)
    assert gate_loss(right, target, rough, target, ones(rough), tolerance=3.0) < 1e-6


def test_the_layer_learns_nothing_from_the_gate() -> None:
    layer, logit = noise(3).requires_grad_(), noise(4).requires_grad_()
    loss = gate_loss(logit, layer, noise(1), noise(2), some_valid(), tolerance=1.0)
    (gradient,) = torch.autograd.grad(loss, layer, allow_unused=True)
    assert gradient is None


def test_the_gate_learns_nothing_from_what_was_not_measured() -> None:
    logit = noise(4).requires_grad_()
    loss = gate_loss(logit, noise(3), noise(1), noise(2), some_valid(), tolerance=3.0)
    (gradient,) = torch.autograd.grad(loss, logit)
    assert (gradient[some_valid() == 0] == 0).all()
    assert (gradient[some_valid() == 1] != 0).all()


def test_harm_is_what_became_worse_and_nothing_else() -> None:
    rough, target = noise(1), noise(2)
    weight = some_valid()
    assert harm(rough, rough, target, weight) == 0
    assert harm(target, rough, target, weight) == 0
    assert harm((rough + target) / 2, rough, target, weight) == 0
    worse = rough + 2 * (rough - target).sign()
    assert harm(worse, rough, target, weight).item() == pytest.approx(2)
    moved = torch.where(weight > 0, rough, 1e6)  # where nothing was measured
    assert harm(moved, rough, target, weight) == 0


def test_a_closed_gate_keeps_the_input_bit_for_bit() -> None:
    rough, layer = noise(1).float(), noise(2).float()
    assert torch.equal(blend(rough, layer, torch.zeros_like(rough)), rough)
    torch.testing.assert_close(blend(rough, layer, torch.ones_like(rough)), layer)


def test_the_band_is_as_wide_on_both_sides_of_the_mask() -> None:
    mask = columns((torch.arange(40) >= 15).double())
    band = near_boundary(mask, 4)
    assert band[0, 0, 0].nonzero().flatten().tolist() == list(range(15 - 4, 15 + 4))
    assert torch.equal(band, near_boundary(1 - mask, 4))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_an_empty_or_full_mask_has_no_boundary(value: float) -> None:
    assert not near_boundary(torch.full((1, 1, 9, 9), value), 2).any()
