"""Gaussians are judged by what a photo says of them, and by nothing else."""

import numpy as np
import pytest
import torch
from torch import Tensor

from crispdepth.data.multiview_samples import KINDS, Kind
from crispdepth.ops.splat import Splats, render
from crispdepth.training.multiview_batch import MultiviewBatch
from crispdepth.training.multiview_rendering import rendering_losses
from tests.posed import SIZE, orbit

CAMERAS = orbit(2)
BACKGROUND = torch.tensor([0.2, 0.9, 0.4])
STRAIGHT = torch.tensor([[1.0, 0, 0, 0]])


def blobs(count: int = 30) -> Splats:
    """Round Gaussians about the origin."""
    rng = np.random.default_rng(0)
    return Splats(
        torch.tensor(rng.normal(0, 0.3, (count, 3)), dtype=torch.float32),
        torch.full((count, 3), 0.12),
        STRAIGHT.expand(count, 4),
        torch.full((count,), 0.9),
        torch.tensor(rng.uniform(-0.5, 0.5, (count, 1, 3)), dtype=torch.float32),
    )


def batch_of(kind: Kind, splats: Splats) -> MultiviewBatch:
    """Photos of the Gaussians, and their alpha as masks."""
    K, poses = (
        torch.tensor(np.stack([getattr(camera, name) for camera in CAMERAS]), dtype=torch.float32)
        for name in ("K", "cam_from_world")
    )
    shown = [render(splats, K[view], poses[view], SIZE) for view in range(2)]
    alpha = torch.stack([each.alpha for each in shown])
    colour = torch.stack([each.colour.permute(2, 0, 1) for each in shown])
    straight = colour / alpha[:, None].clamp(min=1e-6)
    ones = torch.ones(1, 2)
    return MultiviewBatch(
        images=(255 * straight).round().clamp(0, 255).to(torch.uint8)[None],
        masks=alpha[None, :, None],
        K=K[None],
        cam_from_world=poses[None],
        near=ones,
        far=9 * ones,
        depth=torch.zeros(1, 2, *SIZE),
        alpha=alpha[None, :, None],
        kind=torch.tensor([KINDS.index(kind)]),
        objects=torch.zeros(1, 2, *SIZE, dtype=torch.uint8),
    )


def with_floater(splats: Splats, opacity: Tensor) -> Splats:
    """The Gaussians and one more beside them."""
    return Splats(
        torch.cat((splats.means, torch.tensor([[0.0, 0.0, 1.7]]))),
        torch.cat((splats.scales, torch.full((1, 3), 0.05))),
        torch.cat((splats.quaternions, STRAIGHT)),
        torch.cat((splats.opacities, opacity)),
        torch.cat((splats.sh, torch.zeros(1, 1, 3))),
    )


def test_the_gaussians_of_the_photos_lose_nothing() -> None:
    splats = blobs()
    losses = rendering_losses([splats], batch_of("rgba", splats), BACKGROUND)
    assert losses["render_alpha"] < 1e-10
    assert losses["render_colour"] < 1e-4  # photos have eight bits


@pytest.mark.parametrize("kind", ["rgba", "object"])
def test_a_floater_fades_where_there_is_nothing_and_is_let_be_where_there_may_be(
    kind: Kind,
) -> None:
    splats = blobs()
    batch = batch_of(kind, splats)
    batch = batch._replace(alpha=(batch.alpha > 0.01).float())
    opacity = torch.full((1,), 0.5, requires_grad=True)
    losses = rendering_losses([with_floater(splats, opacity)], batch, BACKGROUND)
    for loss in losses.values():
        (gradient,) = torch.autograd.grad(loss, opacity, retain_graph=True)
        assert (gradient > 1e-6) if kind == "rgba" else (gradient == 0)


def test_only_the_last_views_are_rendered() -> None:
    splats = blobs()
    batch = batch_of("rgba", splats)
    wrong_first = batch._replace(images=batch.images.clone())
    wrong_first.images[:, 0] = 255 - batch.images[:, 0]
    losses = rendering_losses([splats], wrong_first, BACKGROUND, 1)
    right = rendering_losses([splats], batch, BACKGROUND, 1)
    assert losses["render_colour"] == right["render_colour"]
    both = rendering_losses([splats], wrong_first, BACKGROUND, 2)
    torch.testing.assert_close(both, rendering_losses([splats], wrong_first, BACKGROUND))
    assert both["render_colour"] > 100 * losses["render_colour"]


def test_a_room_is_full() -> None:
    splats = blobs()
    batch = batch_of("scene", splats)
    batch = batch._replace(alpha=torch.ones_like(batch.alpha))
    opacity = torch.full((1,), 0.5, requires_grad=True)
    losses = rendering_losses([with_floater(splats, opacity)], batch, BACKGROUND)
    (gradient,) = torch.autograd.grad(losses["render_alpha"], opacity)
    assert gradient < 0  # there should be something everywhere


def discs(front: int) -> tuple[Splats, Tensor]:
    """Two discs on the axis of the first camera, of objects 1 and 2, one before the other.

    And the opacity of the first, with a gradient.
    """
    world = torch.tensor(np.linalg.inv(CAMERAS[0].cam_from_world), dtype=torch.float32)
    places = torch.tensor([[0.0, 0, 3], [0, 0, 5]])
    means = places[[front - 1, 2 - front]] @ world[:3, :3].T + world[:3, 3]
    opacity = torch.tensor([0.9], requires_grad=True)
    sizes = torch.tensor([0.3, 0.6])[[front - 1, 2 - front], None].expand(2, 3)
    opacities = torch.cat((opacity, torch.tensor([0.9])))
    splats = Splats(means, sizes, STRAIGHT.expand(2, 4), opacities, torch.zeros(2, 1, 3))
    return splats, opacity


def test_an_object_that_hides_another_costs_and_fades() -> None:
    batch = batch_of("object", blobs())._replace(alpha=torch.zeros(1, 2, 1, *SIZE))
    # The first camera has them one behind the other; it is that of the view that is rendered.
    batch = batch._replace(K=batch.K.flip(1), cam_from_world=batch.cam_from_world.flip(1))
    batch.objects[0, 0, 0, :2] = torch.tensor([1, 2])  # whose the Gaussians are
    batch.objects[0, 1, 20:28, 28:36] = 2  # what the last view sees in the middle
    batch.alpha[..., 20:28, 28:36] = 1

    def lost(front: int) -> tuple[Tensor, Tensor]:
        splats, opacity = discs(front)
        losses = rendering_losses([splats], batch, BACKGROUND, 1, objects=True)
        (gradient,) = torch.autograd.grad(losses["render_objects"], opacity)
        return losses["render_objects"], gradient

    (hidden, fades), (right, _) = lost(1), lost(2)
    assert hidden > 2 * right
    assert fades > 0


def test_without_objects_told_apart_their_loss_is_zero() -> None:
    batch = batch_of("scene", blobs())
    losses = rendering_losses([blobs()], batch, BACKGROUND, objects=True)
    assert losses["render_objects"] == 0
    assert "render_objects" not in rendering_losses([blobs()], batch, BACKGROUND)
