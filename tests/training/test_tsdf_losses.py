"""Laws of the loss of signed distances."""

import torch

from crispdepth.training.tsdf_losses import OUTSIDE, log_transform, tsdf_loss, tsdf_weights


def field(seed: int) -> torch.Tensor:
    return 2 * torch.rand(6, 5, 4, generator=torch.Generator().manual_seed(seed)) - 1


def test_the_log_transform_is_odd_rising_and_of_slope_one() -> None:
    x = torch.arange(-20, 21, dtype=torch.float64) / 20
    y = log_transform(x)
    torch.testing.assert_close(y.flip(0), -y)
    assert (y.diff() > 0).all()
    assert y[20] == 0
    small = torch.tensor([1e-7, -1e-7], dtype=torch.float64)
    torch.testing.assert_close(log_transform(small), small)


def test_equal_fields_have_no_loss() -> None:
    truth = field(0)
    everywhere = torch.ones_like(truth)
    for log in (False, True):
        assert tsdf_loss(truth, truth, everywhere, log=log) == 0
        assert tsdf_loss(-truth, truth, everywhere, log=log) > 0
    shifted = (truth + 0.25).clamp(-1, 1)
    assert tsdf_loss(truth + 0.25, truth, everywhere) == 0.25
    assert tsdf_loss(shifted, truth, everywhere) <= 0.25


def test_other_voxels_have_no_gradient_and_no_influence() -> None:
    truth, counts = field(0), field(1) > 0
    prediction = field(2).requires_grad_()
    weights = counts * field(4).abs()
    loss = tsdf_loss(prediction, truth, weights)
    (gradient,) = torch.autograd.grad(loss, prediction)
    assert (gradient[~counts] == 0).all()
    assert (gradient[counts] != 0).all()
    other = torch.where(counts, prediction.detach(), field(3))
    torch.testing.assert_close(tsdf_loss(other, truth, weights), loss.detach())
    nothing = tsdf_loss(prediction, truth, torch.zeros_like(weights))
    assert nothing == 0
    assert torch.autograd.grad(nothing, prediction)[0].isfinite().all()


def test_what_nobody_saw_weighs_a_tenth_of_what_was_seen() -> None:
    observed = torch.zeros(2, 3, 2, 4, dtype=torch.bool)
    observed[0, 0, 0, 1] = True
    observed[1, 2, :, 2:] = True
    weights = tsdf_weights(observed)
    for seen, weight in zip(observed, weights, strict=True):
        torch.testing.assert_close(weight[seen].sum(), torch.tensor(1.0))
        torch.testing.assert_close(weight[~seen].sum(), torch.tensor(OUTSIDE))
        assert (weight[~seen & seen.any(-1, keepdim=True)] == 0).all()  # hidden, not outside
        assert (weight[~seen.any(-1)] > 0).all()
    assert (tsdf_weights(observed.new_ones(2, 2, 2)) == 1 / 8).all()
