"""Fitting: the roles of masks in the loss, and that it gets better."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from crispdepth.evaluation.views import psnr, silhouette_iou
from crispdepth.ops.splat import Rendered, Splats, render
from crispdepth.tasks.render import Orbit, gaussian_renderer
from crispdepth.tasks.splat_fit import FitOptions, Target, fit_gaussians, photo_loss, target_of
from crispdepth.types import Camera, Gaussians, MaskSet, View

SIZE = (20, 24)
K = np.array([[30.0, 0, 12], [0, 30, 10], [0, 0, 1]])
RNG = torch.Generator().manual_seed(0)
PLAIN = FitOptions(dssim=0)


def ball(count: int = 60) -> Gaussians:
    """Discs on a coloured ball of radius 0.5 about the origin."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(count, 3))
    means *= 0.5 / np.linalg.norm(means, axis=1, keepdims=True)
    return Gaussians(
        means.astype(np.float32),
        np.full((count, 3), 0.12, np.float32),
        np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1)),
        np.full(count, 0.8, np.float32),
        (2 * means[:, None]).astype(np.float32),
    )


def photos(gaussians: Gaussians, count: int = 6) -> list[View]:
    orbit = Orbit(np.zeros(3), np.array([0.0, 0, 1]), 2.0, 15.0)
    views = []
    for camera in orbit.cameras(K, SIZE, count):
        alpha = alpha_of(gaussians, camera)
        image = gaussian_renderer(gaussians, (0, 0, 0))(camera) / 255
        straight = image / np.maximum(alpha, 1e-3)[..., None]  # not premultiplied
        pixels = (straight.clip(0, 1) * 255).round().astype(np.uint8)
        views.append(View(pixels, "", camera, masks=MaskSet(alpha[None])))
    return views


def alpha_of(gaussians: Gaussians, camera: Camera) -> NDArray[np.floating]:
    names = ("means", "scales", "rotations", "opacities", "sh")
    splats = Splats(*(torch.tensor(getattr(gaussians, name)) for name in names))
    pose = torch.tensor(camera.cam_from_world).float()
    alpha = render(splats, torch.tensor(camera.K).float(), pose, camera.size).alpha
    return np.asarray(alpha.clamp(0, 1).numpy())


def target(mask: torch.Tensor | None, weight: torch.Tensor | None = None) -> Target:
    image = torch.rand(*SIZE, 3, generator=RNG)
    ones = torch.ones(SIZE)
    return Target(image, mask, ones if weight is None else weight, torch.eye(3), torch.eye(4))


def rendered(alpha: torch.Tensor, straight: torch.Tensor) -> Rendered:
    empty = torch.zeros(0)
    return Rendered(straight * alpha[..., None], alpha, empty, empty, empty)


def test_where_the_opacity_is_right_the_background_does_not_matter() -> None:
    mask = torch.rand(SIZE, generator=RNG)
    goal = target(mask)
    seen = rendered(mask, goal.image)
    for options in (PLAIN, FitOptions()):
        for background in (torch.zeros(3), torch.ones(3), torch.rand(3, generator=RNG)):
            assert photo_loss(seen, goal, background, options) < 1e-5


def test_something_outside_of_the_silhouette_becomes_fainter() -> None:
    mask = torch.zeros(SIZE)
    mask[:, :12] = 1
    goal = target(mask)
    alpha = torch.full(SIZE, 0.4, requires_grad=True)
    loss = photo_loss(rendered(alpha, goal.image), goal, torch.rand(3), PLAIN)
    (gradient,) = torch.autograd.grad(loss, alpha)
    assert (gradient[:, 12:] > 0).all()
    assert (gradient[:, :12] < 0).all()


@pytest.mark.parametrize("options", [PLAIN, FitOptions()])
def test_ignored_pixels_have_no_gradient_at_all(options: FitOptions) -> None:
    weight = torch.ones(SIZE)
    weight[5:9, 3:20] = 0
    goal = target(torch.rand(SIZE, generator=RNG), weight)
    alpha = torch.rand(SIZE, generator=RNG).requires_grad_()
    straight = torch.rand(*SIZE, 3, generator=RNG).requires_grad_()
    loss = photo_loss(rendered(alpha, straight), goal, torch.rand(3), options)
    for gradient in torch.autograd.grad(loss, (alpha, straight)):
        assert gradient.isfinite().all()
        assert not gradient[5:9, 3:20].any()
        assert gradient[12:].any()


def test_more_ignored_pixels_change_nothing() -> None:
    goal = target(torch.rand(SIZE, generator=RNG))
    seen = rendered(torch.rand(SIZE, generator=RNG), torch.rand(*SIZE, 3, generator=RNG))
    more = Target(
        torch.cat([goal.image, torch.rand(7, 24, 3)]),
        torch.cat([torch.rand(SIZE) if goal.mask is None else goal.mask, torch.rand(7, 24)]),
        torch.cat([goal.weight, torch.zeros(7, 24)]),
        goal.K,
        goal.cam_from_world,
    )
    taller = rendered(
        torch.cat([seen.alpha, torch.rand(7, 24)]), torch.rand(27, 24, 3, generator=RNG)
    )
    taller = taller._replace(colour=torch.cat([seen.colour, torch.rand(7, 24, 3)]))
    background = torch.rand(3)
    one = photo_loss(seen, goal, background, PLAIN)
    torch.testing.assert_close(photo_loss(taller, more, background, PLAIN), one)


def test_all_ignored_is_no_loss_but_no_nan() -> None:
    goal = target(torch.ones(SIZE), torch.zeros(SIZE))
    alpha = torch.rand(SIZE, requires_grad=True)
    loss = photo_loss(rendered(alpha, goal.image), goal, torch.rand(3), FitOptions())
    assert loss == 0
    assert not torch.autograd.grad(loss, alpha)[0].any()


def test_the_roles_of_masks_become_different_things() -> None:
    view = photos(ball())[0]
    assert view.masks is not None
    cpu = torch.device("cpu")
    asked = target_of(view, 100, cpu)
    assert asked.mask is not None
    np.testing.assert_allclose(asked.mask, view.masks[0])
    assert asked.weight.all()
    ignored = target_of(replace(view, masks=MaskSet(view.masks.values, role="ignore")), 100, cpu)
    assert ignored.mask is None
    assert 0 < ignored.weight.mean() < 1
    unknown = target_of(replace(view, masks=None), 12, cpu)
    assert unknown.mask is None
    assert unknown.size == (10, 12)
    assert unknown.weight.all()


def test_fitting_undoes_what_was_disturbed() -> None:
    views, rng = photos(ball()), np.random.default_rng(1)
    truth = ball()
    rough = replace(
        truth,
        means=truth.means + rng.normal(size=truth.means.shape).astype(np.float32) * 0.04,
        sh=truth.sh * 0,
        opacities=truth.opacities * 0.4,
    )
    losses: list[float] = []
    options = FitOptions(steps=60, degree=0)
    fitted = fit_gaussians(rough, views, options, progress=lambda done, loss: losses.append(loss))
    assert len(losses) == 60
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    camera = Orbit(np.zeros(3), np.array([0.0, 0, 1]), 2.0, 25.0).cameras(K, SIZE, 7)[3]
    goal = gaussian_renderer(truth)(camera) / 255
    assert psnr(gaussian_renderer(fitted)(camera) / 255, goal) > 5 + psnr(
        gaussian_renderer(rough)(camera) / 255, goal
    )
    assert silhouette_iou(alpha_of(fitted, camera), alpha_of(truth, camera)) > 0.85


def test_the_same_seed_gives_the_same_gaussians() -> None:
    views, options = photos(ball(), 3), FitOptions(steps=5, densify=0.2)
    one, other = (fit_gaussians(ball(), views, options) for _ in range(2))
    np.testing.assert_array_equal(one.means, other.means)
    third = fit_gaussians(ball(), views, replace(options, seed=1))
    assert len(third) != len(one) or (third.means != one.means).any()


def test_a_floater_is_removed_and_splitting_adds_some() -> None:
    views = photos(ball())
    truth = ball()
    stray = truth.means.copy()
    stray[:3] = [[0.75, 0, 0.55], [-0.7, 0.1, 0.6], [0, 0.7, -0.65]]
    with_floaters = replace(truth, means=stray, labels=np.ones(60, np.int32))
    fitted = fit_gaussians(with_floaters, views, FitOptions(steps=60, degree=0, densify=0))
    assert len(fitted) <= 60
    outside = np.linalg.norm(fitted.means, axis=1) > 0.8
    assert fitted.opacities[outside].sum() < 0.5 * 3 * 0.8
    more = fit_gaussians(with_floaters, views, FitOptions(steps=6, densify=0.5))
    assert len(more) > 60
    assert more.labels is not None
    assert more.sh.shape[1] == 4


def test_no_steps_change_nothing() -> None:
    truth = ball()
    assert fit_gaussians(truth, photos(truth)[:1], FitOptions(steps=0)) is truth


@pytest.mark.parametrize(
    "options",
    [
        FitOptions(steps=-1), FitOptions(size=3), FitOptions(degree=4), FitOptions(dssim=2),
        FitOptions(alpha=-1), FitOptions(densify=2), FitOptions(rounds=-1), FitOptions(prune=1),
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused(options: FitOptions) -> None:
    with pytest.raises(ValueError, match="Fitting: "):
        fit_gaussians(ball(), photos(ball(), 1), options)


def test_nothing_to_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="to 0 photos"):
        fit_gaussians(ball(), [])
    view = photos(ball(), 1)[0]
    with pytest.raises(ValueError, match="no camera"):
        fit_gaussians(ball(), [View(view.image)])
