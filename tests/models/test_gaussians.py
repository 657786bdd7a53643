"""Gaussians of pixels: places, colours, masks, scale, and harmonics that turn with the camera."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from crispdepth.geometry.rigid import matrix_from_quaternion
from crispdepth.models.gaussians import FARTHEST, GaussianHead, turned_sh
from crispdepth.models.multiview.agreement import CHANNELS
from crispdepth.ops.splat import Splats, render
from crispdepth.ops.splat_projection import rotation_matrices, sh_basis, sh_colours

SIZE = (24, 32)


def camera() -> tuple[Tensor, Tensor]:
    K = torch.tensor([[30.0, 0, 14.5], [0, 28, 13], [0, 0, 1]])  # off the middle
    pose = torch.eye(4)
    pose[:3, :3] = torch.as_tensor(matrix_from_quaternion(np.array([0.9, 0.1, -0.3, 0.2]))).float()
    pose[:3, 3] = torch.tensor([0.2, -0.1, 0.3])
    return K[None], pose[None]


def inputs(scale: float = 1.0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    K, pose = camera()
    pose[:, :3, 3] *= scale
    return {
        "images": torch.rand(1, 3, *SIZE, generator=generator),
        "inverse_depth": (0.3 + 0.4 * torch.rand(1, 1, *SIZE, generator=generator)) / scale,
        "probability": torch.rand(1, 1, 12, 16, generator=generator),
        "features": torch.rand(1, 8, 12, 16, generator=generator),
        "agreement": torch.rand(1, CHANNELS, *SIZE, generator=generator),
        "K": K,
        "cam_from_world": pose,
    }


def head(*, trained: bool) -> GaussianHead:
    torch.manual_seed(0)
    made = GaussianHead(8, width=8)
    if trained:
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return made


@torch.no_grad()
def test_means_project_to_their_pixels() -> None:
    given = inputs()
    (fresh,) = head(trained=False)(**given)
    (trained,) = head(trained=True)(**given)
    y, x = torch.meshgrid(torch.arange(24) + 0.5, torch.arange(32) + 0.5, indexing="ij")
    centres = torch.stack((x, y), dim=-1).view(-1, 2)
    for splats, most, moved in ((fresh, 1e-3, 1e-5), (trained, 0.501, FARTHEST)):
        pose = given["cam_from_world"][0]
        seen = splats.means @ pose[:3, :3].T + pose[:3, 3]
        share = 1 / seen[:, 2] / given["inverse_depth"].flatten() - 1
        assert share.abs().max() < moved
        pixels = seen @ given["K"][0].T
        assert ((pixels[:, :2] / pixels[:, 2:]) - centres).abs().max() < most


@torch.no_grad()
def test_at_the_start_colours_are_those_of_the_photo() -> None:
    given = inputs()
    (splats,) = head(trained=False)(**given)
    away = torch.nn.functional.normalize(torch.randn(24 * 32, 3), dim=1)
    colours = given["images"][0].flatten(1).T
    torch.testing.assert_close(sh_colours(splats.sh, away), colours, atol=1e-5, rtol=0)


@torch.no_grad()
def test_masks_multiply_opacity_and_empty_ones_leave_nothing() -> None:
    made, given = head(trained=True), inputs()
    (whole,) = made(**given)
    (same,) = made(**given, masks=torch.ones(1, 1, *SIZE))
    torch.testing.assert_close(whole.opacities, same.opacities)
    (nothing,) = made(**given, masks=torch.zeros(1, 1, *SIZE))
    shown = render(nothing, given["K"][0], given["cam_from_world"][0], SIZE)
    assert shown.alpha.max() == 0


@torch.no_grad()
def test_the_unit_of_the_scene_does_not_matter() -> None:
    made = head(trained=True)
    (one,), (other,) = made(**inputs()), made(**inputs(scale=8.0))
    torch.testing.assert_close(8 * one.means, other.means, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(8 * one.scales, other.scales, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one.opacities, other.opacities)


def test_gradients_of_a_rendering_are_finite_and_reach_every_weight() -> None:
    made, given = head(trained=True), inputs()
    (splats,) = made(**given)
    shown = render(splats, given["K"][0], given["cam_from_world"][0], SIZE)
    torch.autograd.backward((shown.colour - 0.3).square().mean() + shown.alpha.mean())
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@torch.no_grad()
def test_harmonics_turn_with_their_axes() -> None:
    rotation = torch.as_tensor(
        matrix_from_quaternion(np.array([0.5, 0.7, -0.1, 0.5])), dtype=torch.float64
    )
    sh = torch.randn(5, 9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ways = torch.nn.functional.normalize(torch.randn(7, 3, dtype=torch.float64), dim=1)
    before = sh_basis(ways, 2) @ sh
    after = sh_basis(ways @ rotation.T, 2) @ turned_sh(sh, rotation)
    torch.testing.assert_close(before, after)


@torch.no_grad()
def test_the_camera_may_be_anywhere() -> None:
    """Two heads in two worlds see the same: Gaussians move with the world."""
    made, given = head(trained=True), inputs()
    moved = dict(given)
    turn = torch.eye(4)
    turn[:3, :3] = torch.as_tensor(matrix_from_quaternion(np.array([0.4, -0.6, 0.3, 0.6]))).float()
    turn[:3, 3] = torch.tensor([1.0, 2, -3])
    moved["cam_from_world"] = given["cam_from_world"] @ torch.linalg.inv(turn)
    (one,), (other,) = made(**given), made(**moved)
    pictures = [
        render(Splats(*each[:5]), given["K"][0], where["cam_from_world"][0], SIZE).colour
        for each, where in ((one, given), (other, moved))
    ]
    torch.testing.assert_close(*pictures, atol=2e-4, rtol=0)


def test_gaussians_are_made_where_they_are_asked_for() -> None:
    from crispdepth.models.multiview.config import MultiviewNetworkConfig
    from crispdepth.models.multiview.network import MultiviewNetwork

    config = MultiviewNetworkConfig(
        widths=(8, 8, 16), heads=4, planes=(8, 4), unet_width=16, features=8
    )
    network = MultiviewNetwork(replace(config, gaussians=True)).eval()
    K, pose = (part.repeat(1, 2, 1, 1) for part in camera())
    pose[:, 1, 0, 3] += 0.1
    images = torch.rand(2, 2, 3, 32, 32)
    bounds = torch.full((2, 2), 1.0), torch.full((2, 2), 3.0)
    with torch.no_grad():
        given = images, K.repeat(2, 1, 1, 1), pose.repeat(2, 1, 1, 1), *bounds
        asked, unasked = network(*given, gaussians=True), network(*given)
    assert [len(splats.means) for splats in asked.gaussians] == [2 * 32 * 32] * 2
    assert unasked.gaussians == ()
    assert torch.equal(asked.inverse_depth, unasked.inverse_depth)


@torch.no_grad()
def test_untrained_they_are_discs_on_the_surface() -> None:
    """The thin axis of each is the normal of the plane, the long one runs down its slope."""
    K, pose = camera()
    normal = torch.nn.functional.normalize(torch.tensor([0.3, -0.5, 1.0]), dim=0)
    y, x = torch.meshgrid(torch.arange(24) + 0.5, torch.arange(32) + 0.5, indexing="ij")
    rays = torch.stack((x, y, torch.ones_like(x)), dim=-1).view(-1, 3) @ torch.linalg.inv(K[0]).T
    inverse = (rays @ normal / 2).view(1, 1, *SIZE)
    given = inputs() | {"inverse_depth": inverse, "probability": torch.ones(1, 1, 12, 16)}
    (splats,) = head(trained=False)(**given)
    axes = pose[0, :3, :3] @ rotation_matrices(splats.quaternions)
    torch.testing.assert_close(axes[:, :, 2].abs(), normal.abs().expand(768, 3), atol=2e-3, rtol=0)
    down = rays - (rays @ normal)[:, None] * normal
    cosine = (axes[:, :, 0] * torch.nn.functional.normalize(down, dim=1)).sum(dim=1).abs()
    slant = torch.nn.functional.normalize(rays, dim=1) @ normal
    assert cosine[slant < 0.9].min() > 0.999
    assert (splats.scales[:, 2] < 0.3 * splats.scales[:, 1]).all()
    torch.testing.assert_close(
        splats.scales[:, 0] / splats.scales[:, 1], 1 / slant.clamp_min(0.25), rtol=1e-3, atol=0
    )
    torch.testing.assert_close(splats.opacities, torch.full((768,), 0.95), atol=1e-3, rtol=0)


@torch.no_grad()
def test_at_edges_they_are_faint() -> None:
    inverse = torch.full((1, 1, *SIZE), 0.4)
    inverse[..., 16:] = 0.5
    given = inputs() | {"inverse_depth": inverse, "probability": torch.ones(1, 1, 12, 16)}
    (splats,) = head(trained=False)(**given)
    columns = splats.opacities.view(*SIZE).mean(dim=0)
    assert columns[15:17].max() < 0.01
    assert columns[:15].min() > 0.94
    assert columns[17:].min() > 0.94
