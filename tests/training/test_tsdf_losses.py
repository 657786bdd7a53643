"""Laws of the loss of signed distances."""

import torch

from crispdepth.training.tsdf_losses import log_transform, supervised_voxels, tsdf_loss


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
    everywhere = torch.ones_like(truth, dtype=torch.bool)
    for log in (False, True):
        assert tsdf_loss(truth, truth, everywhere, log=log) == 0
        assert tsdf_loss(-truth, truth, everywhere, log=log) > 0
    shifted = (truth + 0.25).clamp(-1, 1)
    assert tsdf_loss(truth + 0.25, truth, everywhere) == 0.25
    assert tsdf_loss(shifted, truth, everywhere) <= 0.25


def test_other_voxels_have_no_gradient_and_no_influence() -> None:
    truth, counts = field(0), field(1) > 0
    prediction = field(2).requires_grad_()
    loss = tsdf_loss(prediction, truth, counts)
    (gradient,) = torch.autograd.grad(loss, prediction)
    assert (gradient[~counts] == 0).all()
    assert (gradient[counts] != 0).all()
    other = torch.where(counts, prediction.detach(), field(3))
    torch.testing.assert_close(tsdf_loss(other, truth, counts), loss.detach())
    nothing = tsdf_loss(prediction, truth, torch.zeros_like(counts))
    assert nothing == 0
    assert torch.autograd.grad(nothing, prediction)[0].isfinite().all()


def test_columns_of_which_nothing_is_known_count() -> None:
    observed = torch.zeros(3, 2, 4, dtype=torch.bool)
    observed[0, 0, 1] = True
    counts = supervised_voxels(observed)
    assert counts[0, 0].tolist() == [False, True, False, False]
    assert counts[1:].all()
    assert counts[0, 1].all()
