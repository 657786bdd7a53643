"""Overlap of analytic views, and losses that see nothing beside the mask."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from crispdepth.training.volume_losses import masked_depth_loss, overlap_loss, overlap_truth
from crispdepth.types import Camera
from tests.wall_and_ball import FULL, SIZE, WALL, camera, see


def scene(places: list[float]) -> list[Tensor]:
    """Depth, K and poses of the wall and the ball from places along x."""
    found = []
    for x in places:
        seen_by = camera(x)
        depth = see(seen_by, "view").depth
        assert depth is not None
        found.append((depth.values, seen_by.K, seen_by.cam_from_world))
    parts = (torch.from_numpy(np.stack(part)) for part in zip(*found, strict=True))
    return [part.float()[None] for part in parts]


def test_views_in_one_place_overlap_wherever_depth_is_known() -> None:
    depth, K, poses = scene([0.0, 0.0])
    depth[:, :, :10] = 0
    assert torch.equal(overlap_truth(depth, K, poses), depth > 0)


def test_beyond_the_frame_behind_the_ball_and_unknown_do_not_overlap() -> None:
    depth, K, poses = scene([0.0, 0.4])
    depth[:, 1, -8:] = 0  # the other has not measured its bottom rows
    found = overlap_truth(depth, K, poses, references=1)[0, 0]
    ball = depth[0, 0] < 0.95 * WALL
    shift = 75 * 0.4 / WALL  # of the wall, pixels
    columns = torch.arange(SIZE[1]) + 0.5
    assert not found[:, columns < shift].any()
    assert not found[-8:][~ball[-8:]].any()
    middle = found[:-10]
    hidden = ~middle & (columns > shift)
    # From the right the ball hides what is at its left of the wall, by the difference of shifts.
    beside = hidden & ~ball[:-10]
    assert beside.any()
    assert middle[:5, columns > shift].all()
    rows, at = beside.nonzero().unbind(1)
    assert (at[rows == 30] < torch.where(ball[30])[0].min()).all()


def test_another_surface_within_five_percent_is_the_same_and_beyond_is_not() -> None:
    depth, K, poses = scene([0.0, 0.0])
    for share, same in ((1.045, True), (0.955, True), (1.055, False), (0.945, False)):
        other = torch.stack((depth[:, 0], share * depth[:, 0]), dim=1)
        assert bool(overlap_truth(other, K, poses, references=1).all()) is same
    behind = torch.eye(4)
    behind[2, 3] = -2 * WALL  # it has passed the wall
    poses = torch.stack((poses[:, 0], behind[None]), dim=1)
    assert not overlap_truth(depth, K, poses, references=1).any()


def test_any_neighbour_is_enough() -> None:
    depth, K, poses = scene([0.0, -0.3, 0.3])
    some = overlap_truth(depth, K, poses, references=1)
    left, right = (
        overlap_truth(depth[:, pair], K[:, pair], poses[:, pair], references=1)
        for pair in ([0, 1], [0, 2])
    )
    assert torch.equal(some, left | right)
    assert some.sum() > max(left.sum(), right.sum())


def test_overlap_does_not_depend_on_the_world_nor_on_the_size_of_a_pixel() -> None:
    depth, K, poses = scene([0.0, 0.4])
    found = overlap_truth(depth, K, poses)
    move = torch.eye(4, dtype=torch.float64)
    move[:3, :3] = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    move[:3, 3] = torch.tensor([3.0, -2, 5])
    moved = overlap_truth(depth, K, poses.double() @ move)
    assert (moved == found).float().mean() > 0.999  # but for rounding in a pixel's border
    coarse = Camera(FULL, SIZE, np.eye(4)).resized((SIZE[0] // 2, SIZE[1] // 2))
    half = torch.tensor(coarse.K).float().expand_as(K)
    small = overlap_truth(depth[..., ::2, ::2], half, poses)
    assert (small == found[..., ::2, ::2]).float().mean() > 0.95


def test_overlap_loss_is_the_mean_difference() -> None:
    overlap = torch.tensor([0.25, 1.0, 0.5], requires_grad=True)
    truth = torch.tensor([False, True, True])
    loss = overlap_loss(overlap, truth)
    assert loss.item() == pytest.approx(0.25)
    torch.autograd.backward(loss)
    assert overlap.grad is not None
    assert overlap.grad[0] > 0 > overlap.grad[2]


def test_cross_entropy_still_teaches_a_mask_that_is_sure_and_wrong() -> None:
    logits = torch.tensor([-12.0, 0.3, 12.0], requires_grad=True)
    truth = torch.tensor([True, True, False])
    overlap = logits.sigmoid()
    entropy = overlap_loss(overlap, truth, "entropy")
    expected = F.binary_cross_entropy_with_logits(logits, truth.float())
    torch.testing.assert_close(entropy, expected, rtol=1e-3, atol=0)
    (found,) = torch.autograd.grad(entropy, logits, retain_graph=True)
    (twin,) = torch.autograd.grad(expected, logits, retain_graph=True)
    torch.testing.assert_close(found, twin, rtol=0.02, atol=0)
    (absolute,) = torch.autograd.grad(overlap_loss(overlap, truth), logits)
    assert absolute[[0, 2]].abs().max() < 1e-4 < found[[0, 2]].abs().min()
    gone = torch.tensor([1.0, 0.0], requires_grad=True)
    torch.autograd.backward(overlap_loss(gone, torch.tensor([False, True]), "entropy"))
    assert gone.grad is not None
    assert gone.grad.isfinite().all()


def test_depth_loss_is_smooth_l1_of_the_pixels_in_the_mask_alone() -> None:
    depth = torch.tensor([1.0, 2.0, 5.0, 3.0], requires_grad=True)
    truth = torch.tensor([1.5, 5.0, torch.inf, torch.nan])
    mask = torch.tensor([True, True, False, False])
    loss = masked_depth_loss(depth, truth, mask)
    assert loss.item() == pytest.approx((0.5 * 0.25 + 2.5) / 2)
    torch.autograd.backward(loss)
    assert depth.grad is not None
    torch.testing.assert_close(depth.grad, torch.tensor([-0.25, -0.5, 0.0, 0.0]))
    soft = masked_depth_loss(depth, truth, torch.tensor([1.0, 0.5, 0, 0]))
    assert soft.item() == pytest.approx((0.125 + 0.5 * 2.5) / 1.5)


def test_the_depth_loss_of_an_empty_mask_is_zero() -> None:
    depth = torch.rand(4, 5, requires_grad=True)
    loss = masked_depth_loss(depth, torch.zeros(4, 5), torch.zeros(4, 5, dtype=torch.bool))
    torch.autograd.backward(loss)
    assert loss == 0
    assert depth.grad is not None
    assert not depth.grad.any()


def test_the_size_of_the_maps_does_not_change_the_losses() -> None:
    depth, truth = torch.rand(2, 6, 8), torch.rand(2, 6, 8)
    mask = torch.rand(2, 6, 8) > 0.4
    larger = [part.repeat(1, 3, 2) for part in (depth, truth, mask)]
    torch.testing.assert_close(masked_depth_loss(*larger), masked_depth_loss(depth, truth, mask))
    torch.testing.assert_close(overlap_loss(larger[0], larger[2]), overlap_loss(depth, mask))
