"""Objects hide each other, add up to the scene, and keep apart."""

import pytest
import torch
from torch import Tensor

from crispdepth.training.object_losses import (
    OpacityForm,
    distinction_loss,
    laplace_density,
    layer_distinction_loss,
    object_opacities,
    opacity_loss,
    scene_opacity,
)

BETA = 0.02
SAMPLES = 400
SPACING = torch.full((1, SAMPLES), 4 / SAMPLES, dtype=torch.float64)
T = (torch.arange(SAMPLES, dtype=torch.float64) + 0.5) * 4 / SAMPLES
FORMS: tuple[OpacityForm, ...] = ("scene", "share")


def slabs(*places: tuple[float, float]) -> Tensor:
    """Distances (1, s, k) along a ray to slabs between two depths each."""
    return torch.stack([torch.maximum(a - T, T - b) for a, b in places], dim=-1)[None]


def spheres(*centres: float) -> Tensor:
    """Distances (n, k) of points in space to unit spheres along x."""
    points = 3 * torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    offsets = [points - torch.tensor([x, 0.0, 0.0]) for x in centres]
    return torch.stack([offset.norm(dim=-1) - 1 for offset in offsets], dim=-1)


def test_density_is_that_of_volsdf() -> None:
    far = laplace_density(torch.tensor([-9.0, 0.0, 9.0]), 0.1)
    torch.testing.assert_close(far, torch.tensor([10.0, 5.0, 0.0]))
    d = torch.tensor(0.03)
    torch.testing.assert_close(
        laplace_density(d, 0.1) + laplace_density(-d, 0.1), torch.tensor(10.0)
    )


@pytest.mark.parametrize("form", FORMS)
def test_what_is_behind_an_opaque_object_is_not_seen(form: OpacityForm) -> None:
    both = object_opacities(slabs((1, 2), (3, 3.8)), SPACING, BETA, form)
    torch.testing.assert_close(
        both, torch.tensor([[1.0, 0.0]], dtype=torch.float64), atol=1e-3, rtol=0
    )
    alone = object_opacities(slabs((3, 3.8)), SPACING, BETA, form)
    assert alone.item() > 0.999


@pytest.mark.parametrize("form", FORMS)
def test_the_order_along_the_ray_matters_that_of_the_objects_does_not(form: OpacityForm) -> None:
    first, second = (1.0, 1.03), (2.0, 2.05)
    both = object_opacities(slabs(first, second), SPACING, BETA, form)
    swapped = object_opacities(slabs(second, first), SPACING, BETA, form)
    torch.testing.assert_close(both.flip(-1), swapped)
    reversed_ray = object_opacities(slabs(first, second).flip(1), SPACING, BETA, form)
    assert reversed_ray[0, 1] > both[0, 1]
    assert reversed_ray[0, 0] < both[0, 0]


def test_shares_add_up_to_the_scene_even_where_objects_overlap() -> None:
    sdf = slabs((1, 1.06), (1.03, 1.1), (2, 2.02))
    shares = object_opacities(sdf, SPACING, BETA, "share")
    whole = scene_opacity(laplace_density(sdf, BETA).sum(dim=-1), SPACING)
    torch.testing.assert_close(shares.sum(dim=-1), whole)
    own = object_opacities(sdf, SPACING, BETA, "scene")
    assert own.sum() > scene_opacity(laplace_density(sdf.amin(dim=-1), BETA), SPACING)


def test_objects_apart_add_up_to_the_scene_in_either_form() -> None:
    sdf = slabs((1, 1.02), (2.5, 2.6))
    narrow = 0.002  # tails do not meet
    own = object_opacities(sdf, SPACING, narrow, "scene").sum(dim=-1)
    whole = scene_opacity(laplace_density(sdf.amin(dim=-1), narrow), SPACING)
    torch.testing.assert_close(own, whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_right(form: OpacityForm) -> None:
    generator = torch.Generator().manual_seed(0)
    sdf = torch.randn(3, 6, 2, dtype=torch.float64, generator=generator).requires_grad_()
    spacing = torch.rand(3, 6, dtype=torch.float64, generator=generator)
    assert torch.autograd.gradcheck(lambda x: object_opacities(x, spacing, 0.3, form), sdf)


@pytest.mark.parametrize(("opacity", "mask"), [(0.0, 1.0), (1.0, 0.0)])
def test_what_is_wholly_wrong_keeps_its_gradient(opacity: float, mask: float) -> None:
    opacities = torch.full((1, 1), opacity, requires_grad=True)
    loss = opacity_loss(opacities, torch.full((1, 1), mask))
    (gradient,) = torch.autograd.grad(loss, opacities)
    assert torch.isfinite(gradient).all()
    assert gradient.item() * (1 - 2 * mask) > 100
    assert opacity_loss(torch.full((1, 1), mask), torch.full((1, 1), mask)) < 1e-3


def test_spheres_apart_lose_nothing() -> None:
    assert distinction_loss(spheres(-2, 2)) == 0
    assert distinction_loss(spheres(-1.0, 1.0)) < 1e-6  # they touch
    assert distinction_loss(spheres(0.0)) == 0


def test_spheres_that_overlap_are_pushed_apart_and_the_nearest_stays() -> None:
    sdf = spheres(-0.5, 0.5).requires_grad_()
    loss = distinction_loss(sdf)
    assert loss > 0
    (gradient,) = torch.autograd.grad(loss, sdf)
    nearest = torch.nn.functional.one_hot(sdf.argmin(dim=-1), 2).bool()
    assert (gradient[nearest] == 0).all()
    assert (gradient[~nearest] <= 0).all()  # descending makes the other's distance larger
    inside_one = (sdf.detach() > 0).any(dim=-1) & (sdf.detach().sum(dim=-1) > 0)
    assert (gradient[inside_one] == 0).all()


def test_layers_keep_their_gap() -> None:
    front = torch.full((1, 4, 4), 2.0, requires_grad=True)
    back = torch.full((1, 4, 4), 2.05, requires_grad=True)
    both = torch.zeros(1, 4, 4, dtype=torch.bool)
    assert layer_distinction_loss(front, back, both, 0.1) == 0
    both[:, :2] = True
    loss = layer_distinction_loss(front, back, both, 0.1)
    assert loss.item() == pytest.approx(0.05, abs=1e-6)
    ahead, behind = torch.autograd.grad(loss, (front, back))
    assert (ahead[both] > 0).all()
    assert (behind[both] < 0).all()
    assert (ahead[~both] == 0).all()
    assert layer_distinction_loss(front, back + 0.06, both, 0.1) == 0
