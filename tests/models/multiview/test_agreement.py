"""What views say of each other's depths, of a wall that is known."""

import pytest
import torch
from torch import Tensor

from crispdepth.models.multiview.agreement import SAME, agreement

SIZE = (16, 24)
WALL = 4.0


def cameras(views: int = 3) -> tuple[Tensor, Tensor]:
    """K (1, V, 3, 3) and poses (1, V, 4, 4), side by side before the wall, a pixel apart each."""
    K = torch.tensor([[20.0, 0, 12], [0, 20, 8], [0, 0, 1]]).repeat(1, views, 1, 1)
    poses = torch.eye(4).repeat(1, views, 1, 1)
    poses[0, :, 0, 3] = torch.arange(views) * WALL / 20
    return K, poses


def said(depths: list[float], masks: Tensor | None = None) -> Tensor:
    """What is said of walls at these depths, (V, 5): means over the pixels that others see."""
    inverse = torch.tensor(depths).reciprocal()[None, :, None, None].expand(1, -1, *SIZE)
    found = agreement(inverse, *cameras(len(depths)), masks)
    return found[:, :, 3:-3, 3:-3].mean(dim=(2, 3))


def test_true_depths_agree_and_nothing_else_is_said() -> None:
    torch.testing.assert_close(
        said([WALL] * 3), torch.tensor([1.0, 0, 0, 0, 0]).expand(3, 5), atol=1e-4, rtol=0
    )


def test_one_view_alone_has_nothing_said() -> None:
    assert said([WALL]).eq(0).all()


def test_what_is_before_a_wall_is_seen_through_and_what_is_behind_it_hidden() -> None:
    nearer, farther = said([WALL / 1.2, WALL]), said([WALL * 1.2, WALL])
    agree, through, hidden = nearer[0, :3]
    assert (agree, through, hidden) == (pytest.approx(0, abs=1e-4), 1, 0)
    agree, through, hidden = farther[0, :3]
    assert (agree, through, hidden) == (pytest.approx(0, abs=1e-4), 0, 1)
    assert nearer[1, 2] == farther[1, 1] == 1  # and so the wall itself


@pytest.mark.parametrize("share", [-0.02, 0.02])
def test_those_that_agree_say_how_much_nearer_it_is(share: float) -> None:
    found = said([WALL * (1 + share), WALL, WALL])
    assert found[0, 3].item() == pytest.approx(share / SAME, rel=1e-3)


def test_beside_a_mask_nothing_is_known_but_that() -> None:
    masks = torch.ones(1, 2, 1, *SIZE)
    masks[0, 1] = 0
    found = said([WALL, WALL], masks)
    torch.testing.assert_close(found[0], torch.tensor([0.0, 0, 0, 0, 1]))
    torch.testing.assert_close(found[1, 0], torch.tensor(1.0), atol=1e-4, rtol=0)


def test_the_unit_of_the_scene_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    inverse = 0.25 + 0.02 * torch.rand(1, 3, *SIZE, generator=generator)
    K, poses = cameras()
    larger = poses.clone()
    larger[:, :, :3, 3] *= 8
    torch.testing.assert_close(
        agreement(inverse / 8, K, larger, None), agreement(inverse, K, poses, None)
    )
