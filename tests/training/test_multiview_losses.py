"""Losses of inverse depth, planes, outlines and alpha are what they are said to be."""

import math

import pytest
import torch
from torch import Tensor

from crispdepth.models.multiview.view_weights import PairDepth
from crispdepth.training.multiview_losses import (
    alpha_loss,
    coarse_truth,
    colour_loss,
    gradient_matching,
    inverse_depth_loss,
    object_loss,
    outline,
    pair_loss,
    plane_loss,
    scale_shift_loss,
)

SHAPE = (2, 3, 16, 24)
NEAR, FAR = torch.full((2, 3), 0.5), torch.full((2, 3), 4.0)
SPAN = 1 / NEAR - 1 / FAR


def depths(seed: int = 0) -> Tensor:
    """Inverse depths within the range."""
    values = torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed))
    return 1 / FAR[..., None, None] + values * SPAN[..., None, None]


def square(size: int = 32, side: int = 12) -> Tensor:
    mask = torch.zeros(1, 1, 1, size, size)
    start = (size - side) // 2
    mask[..., start : start + side, start : start + side] = 1
    return mask


def test_the_truth_has_no_loss() -> None:
    ones = torch.ones(SHAPE)
    assert inverse_depth_loss(depths(), depths(), ones, SPAN) == 0
    assert gradient_matching(depths(), depths(), ones, SPAN) == 0


def test_an_error_costs_its_share_of_the_range() -> None:
    off = depths() + 0.1 * SPAN[..., None, None]
    ones = torch.ones(SHAPE)
    torch.testing.assert_close(inverse_depth_loss(off, depths(), ones, SPAN), torch.tensor(0.1))
    assert gradient_matching(off, depths(), ones, SPAN) < 1e-5  # an offset has no gradient


def test_the_losses_do_not_depend_on_the_unit() -> None:
    ones = torch.ones(SHAPE)
    for loss in (inverse_depth_loss, gradient_matching):
        metres = loss(depths(1), depths(2), ones, SPAN)
        torch.testing.assert_close(loss(depths(1) / 50, depths(2) / 50, ones, SPAN / 50), metres)


def test_an_inverted_edge_costs_more_than_none() -> None:
    edge = torch.where(torch.arange(24) < 12, 0.5, 1.5).expand(SHAPE)
    flat, inverted, ones = torch.ones(SHAPE), edge.flip(-1), torch.ones(SHAPE)
    lost, wrong = (gradient_matching(x, edge, ones, SPAN) for x in (flat, inverted))
    torch.testing.assert_close(wrong, 2 * lost)


def test_an_edge_one_pixel_off_costs() -> None:
    edge = torch.where(torch.arange(24) < 12, 0.5, 1.5).expand(SHAPE)
    assert gradient_matching(edge.roll(1, -1), edge, torch.ones(SHAPE), SPAN) > 0.01


@pytest.mark.parametrize("garbage", [0.0, 1e6, math.nan, math.inf])
def test_what_was_not_measured_changes_neither_loss_nor_gradient(garbage: float) -> None:
    valid = (torch.arange(24) % 5 > 0).expand(SHAPE)
    results = []
    for fill in (1.0, garbage):
        prediction = depths(1).requires_grad_()
        target = torch.where(valid, depths(2), torch.tensor(fill))
        loss = inverse_depth_loss(prediction, target, valid.float(), SPAN)
        loss = loss + gradient_matching(prediction, target, valid.float(), SPAN)
        (gradient,) = torch.autograd.grad(loss, prediction)
        results.append((loss.detach(), gradient))
        assert (gradient[~valid] == 0).all()
    torch.testing.assert_close(*results, rtol=0, atol=0)


def test_nothing_measured_is_no_loss_and_no_nan() -> None:
    prediction = depths().requires_grad_()
    none = torch.zeros(SHAPE)
    logits = torch.randn(2, 3, 5, 16, 24, requires_grad=True)
    loss = (
        inverse_depth_loss(prediction, depths(), none, SPAN)
        + gradient_matching(prediction, depths(), none, SPAN)
        + plane_loss(logits, depths(), none, NEAR, FAR)
    )
    gradients = torch.autograd.grad(loss, (prediction, logits))
    assert loss == 0
    assert all((gradient == 0).all() for gradient in gradients)


def test_the_best_planes_are_the_two_about_the_truth_in_proportion() -> None:
    logits = torch.zeros(1, 1, 6, 2, 2, requires_grad=True)
    near, far = torch.full((1, 1), 1.0), torch.full((1, 1), 2.0)
    truth = torch.full((1, 1, 2, 2), 0.5 + 0.1 * 2.25)
    ones = torch.ones_like(truth)
    uniform = plane_loss(logits, truth, ones, near, far)
    assert uniform.item() == pytest.approx(math.log(6))
    (gradient,) = torch.autograd.grad(uniform, logits)
    expected = 1 / 6 - torch.tensor([0, 0, 0.75, 0.25, 0, 0])
    torch.testing.assert_close(4 * gradient[0, 0, :, 1, 1], expected)


def test_depths_at_either_end_of_the_range_are_the_outermost_planes() -> None:
    near, far = torch.full((1, 1), 1.0), torch.full((1, 1), 2.0)
    for truth, plane in ((0.5, 0), (1.0, 5)):
        logits = torch.full((1, 1, 6, 1, 1), -30.0)
        logits[:, :, plane] = 30
        target = torch.full((1, 1, 1, 1), truth)
        assert plane_loss(logits, target, torch.ones_like(target), near, far) < 1e-5


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_a_plane_is_a_plane_to_larger_pixels(stride: int) -> None:
    x, y = torch.arange(64) + 0.5, torch.arange(32)[:, None] + 0.5
    plane = (1 + 0.004 * x + 0.002 * y).expand(1, 1, 32, 64)
    values, known = coarse_truth(plane, torch.ones(1, 1, 32, 64, dtype=torch.bool), stride)
    x, y = (stride * (torch.arange(n // stride) + 0.5) for n in (64, 32))
    torch.testing.assert_close(values[0, 0], 1 + 0.004 * x + 0.002 * y[:, None])
    assert known.all()


def test_larger_pixels_have_nothing_between_two_surfaces() -> None:
    step = torch.where(torch.arange(32) < 18, 0.5, 2.0).expand(1, 1, 32, 32)
    values, _ = coarse_truth(step, torch.ones(1, 1, 32, 32, dtype=torch.bool), 4)
    assert ((values == 0.5) | (values == 2.0)).all()
    unknown = torch.arange(32).expand(1, 1, 32, 32) < 16
    _, known = coarse_truth(step, unknown, 4)
    assert torch.equal(known, (torch.arange(8) < 4).expand(1, 1, 8, 8))


def test_the_outline_is_a_band_along_the_border() -> None:
    mask = square()
    for radius in (1, 2, 3):
        band = outline(mask, radius)
        assert {*band.flatten().tolist()} == {0.0, 1.0}
        inner, outer = (12 - 2 * radius) ** 2, (12 + 2 * radius) ** 2
        assert band.sum() == outer - inner
        torch.testing.assert_close(outline(1 - mask, radius), band)  # whichever side is the object
    assert (outline(torch.ones(1, 2, 1, 8, 8), 2) == 0).all()  # the frame is no outline
    assert (outline(mask, 0) == 0).all()


def test_a_floater_beside_the_silhouette_is_pushed_to_fade() -> None:
    mask = square()[0, :, 0]
    alpha = (0.9 * mask).requires_grad_()
    with torch.no_grad():
        alpha[:, 2:5, 2:5] = 0.4
    (gradient,) = torch.autograd.grad(alpha_loss(alpha, 1 - mask), alpha)
    assert (gradient[:, 2:5, 2:5] > 0).all()
    assert (gradient[mask == 1] < 0).all()


def test_what_is_ignored_has_no_gradient_and_no_weight() -> None:
    mask = square()[0, :, 0]
    generator = torch.Generator().manual_seed(0)
    alpha = torch.rand(mask.shape, generator=generator).requires_grad_()
    ignore = (torch.arange(32) < 10).float().expand_as(mask)
    loss = alpha_loss(alpha, 1 - mask, ignore=ignore)
    (gradient,) = torch.autograd.grad(loss, alpha)
    assert (gradient[ignore == 1] == 0).all()
    torch.testing.assert_close(alpha_loss(alpha[..., 10:], 1 - mask[..., 10:]), loss)


def test_the_background_does_not_matter_where_alpha_is_right() -> None:
    generator = torch.Generator().manual_seed(1)
    alpha, colour, image = (
        torch.rand(shape, generator=generator) for shape in ((8, 8), (3, 8, 8), (3, 8, 8))
    )
    losses = [
        colour_loss(colour, alpha, image, 1 - alpha, torch.full((3, 1, 1), shade))
        for shade in (0.0, 0.3, 1.0)
    ]
    torch.testing.assert_close(losses[1:], [losses[0]] * 2)
    wrong = [
        colour_loss(colour, alpha, image, alpha, torch.full((3, 1, 1), shade)) for shade in (0.0, 1)
    ]
    assert abs(wrong[0] - wrong[1]) > 0.01


def test_derivatives_are_right() -> None:
    span = torch.ones(1, 1, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    prediction, target = torch.rand(2, 1, 1, 6, 7, dtype=torch.float64, generator=generator)
    weight = torch.rand(1, 1, 6, 7, dtype=torch.float64, generator=generator)
    prediction.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: (
            inverse_depth_loss(x, target, weight, span) + gradient_matching(x, target, weight, span)
        ),
        prediction,
    )


# Depth of pairs (spec 2.3)


def said(error: float, s: Tensor) -> PairDepth:
    """A source whose inverse depth is ``error`` steps of 0.05 beyond 0.3."""
    ones = torch.ones(1, 1, 1)
    return PairDepth(ones * (0.3 + error * 0.05), 0.05 * ones, s)


@pytest.mark.parametrize("error", [0.2, 1.0, 7.0])
def test_the_loss_of_a_pair_is_least_at_the_logarithm_of_its_error(error: float) -> None:
    s = torch.full((1, 1, 1), math.log(error)).requires_grad_()
    truth, ones = torch.full((1, 1, 1), 0.3), torch.ones(1, 1, 1)
    loss = pair_loss(said(error, s), truth, ones)
    assert loss.item() == pytest.approx(1 + math.log(error), abs=1e-4)
    (slope,) = torch.autograd.grad(loss, s)
    assert slope.abs().item() < 1e-4
    for beside in (-0.1, 0.1):
        assert pair_loss(said(error, s.detach() + beside), truth, ones) > loss


def test_pixels_of_a_pair_without_truth_do_not_count_and_none_is_zero() -> None:
    s = torch.zeros(1, 1, 2, requires_grad=True)
    pair = PairDepth(torch.tensor([[[0.1, math.inf]]]), torch.ones(1, 1, 1), s)
    weight = torch.tensor([[[1.0, 0]]])
    assert pair_loss(pair, torch.zeros(1, 1, 2), weight).item() == pytest.approx(0.1)
    nothing = pair_loss(pair, torch.zeros(1, 1, 2), 0 * weight)
    assert nothing == 0
    (gradient,) = torch.autograd.grad(nothing, s)
    assert (gradient == 0).all()


# Depth up to scale and shift (spec 2.18)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.02, 0.4), (7.0, -0.3)])
def test_scale_and_shift_of_each_view_are_free(scale: float, shift: float) -> None:
    own = scale * torch.rand(2, 3, 1, 1, generator=torch.Generator().manual_seed(3)) + scale
    ones = torch.ones(SHAPE)
    assert scale_shift_loss(own * depths() + shift, depths(), ones, SPAN) < 1e-4
    assert scale_shift_loss(own * depths(1) + shift, depths(), ones, SPAN) > 0.1


def test_what_was_not_measured_is_no_part_of_the_fit() -> None:
    weight = torch.zeros(SHAPE)
    weight[..., 2:12, 3:20] = torch.rand(10, 17, generator=torch.Generator().manual_seed(1))
    off = depths(1)
    loss = scale_shift_loss(off, depths(), weight, SPAN)
    spoiled, truth = off.clone(), depths()
    spoiled[weight == 0], truth[weight == 0] = 99, math.inf
    torch.testing.assert_close(scale_shift_loss(spoiled, truth, weight, SPAN), loss)
    pad = (0, 8, 8, 0)
    off, true, weight = (torch.nn.functional.pad(x, pad) for x in (off, depths(), weight))
    torch.testing.assert_close(scale_shift_loss(off, true, weight, SPAN), loss)


def test_a_fit_that_is_least_squares_has_the_loss_of_its_residual() -> None:
    """Against the normal equations, solved for one view."""
    p, t = depths(1)[:1, :1].double(), depths()[:1, :1].double()
    w = torch.rand(p.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    p = 0.6 * t + 0.4 * p  # so that the scale is above 0
    design = torch.stack((p.flatten(), torch.ones(p.numel(), dtype=torch.float64)), dim=1)
    root = w.flatten().sqrt()[:, None]
    fit = torch.linalg.lstsq(root * design, root * t.flatten()[:, None]).solution
    residual = (design @ fit - t.flatten()[:, None])[:, 0] / SPAN[0, 0].double()
    data = (w.flatten() * residual.square()).sum() / w.sum() / 2
    zero = gradient_matching(residual.view(p.shape), 0 * p, w, torch.ones(1, 1).double())
    found = scale_shift_loss(p, t, w, SPAN[:1, :1].double())
    torch.testing.assert_close(found, data + 0.5 * zero, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", ["constant", "against", "unmeasured"])
def test_bad_fits_are_finite_and_learn_which_way_is_near(kind: str) -> None:
    truth = depths()
    prediction = {
        "constant": torch.full(SHAPE, 0.7),
        "against": 2 - depths(),
        "unmeasured": depths(1),
    }[kind].requires_grad_()
    weight = torch.full(SHAPE, float(kind != "unmeasured"))
    loss = scale_shift_loss(prediction, truth, weight, SPAN)
    (gradient,) = torch.autograd.grad(loss, prediction)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    if kind == "unmeasured":
        assert loss == 0
    else:  # descending makes what is near nearer
        along = (gradient * (truth - truth.mean())).sum()
        assert along < 0


# Opacities of objects (spec 2.12)


@pytest.mark.parametrize("wrong", [0.0, 1.0])
def test_an_object_that_is_wholly_wrong_keeps_its_gradient(wrong: float) -> None:
    opacities = torch.full((1, 1, 1), wrong, requires_grad=True)
    loss = object_loss(opacities, torch.full((1, 1, 1), 1 - wrong))
    (gradient,) = torch.autograd.grad(loss, opacities)
    assert gradient.isfinite().all()
    assert gradient.item() * (2 * wrong - 1) > 100
    right = torch.full((1, 1, 1), wrong)
    assert object_loss(right, right) < 1e-3
    assert object_loss(opacities, 1 - right, ignore=torch.ones(1, 1)) == 0
