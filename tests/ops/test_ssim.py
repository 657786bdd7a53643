import pytest
import torch

from crispdepth.evaluation.views import ssim
from crispdepth.ops.ssim import ssim_map

RNG = torch.Generator().manual_seed(0)
ONE, OTHER = (torch.rand(3, 40, 50, generator=RNG) for _ in range(2))


def test_an_image_is_like_itself_and_nobody_else() -> None:
    torch.testing.assert_close(ssim_map(ONE, ONE), torch.ones_like(ONE))
    assert ssim_map(ONE, OTHER).abs().mean() < 0.2
    torch.testing.assert_close(ssim_map(ONE, OTHER), ssim_map(OTHER, ONE))


def test_it_is_the_metric_but_for_its_sample_covariances() -> None:
    noisy = (ONE + 0.1 * torch.randn(ONE.shape, generator=RNG)).clamp(0, 1)
    inner = ssim_map(noisy, ONE)[:, 5:-5, 5:-5].mean().item()
    images = (image.permute(1, 2, 0).numpy() for image in (noisy, ONE))
    assert inner == pytest.approx(ssim(*images), abs=2e-3)


def test_flat_images_have_finite_gradients() -> None:
    flat = torch.zeros(3, 20, 20, requires_grad=True)
    (gradient,) = torch.autograd.grad(ssim_map(flat, torch.ones(3, 20, 20)).sum(), flat)
    assert gradient.isfinite().all()
