"""Depth made larger: bilinear where nothing guides it, nothing between object and background."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from crispdepth.models.multiview.upsampler import Guide, guided_double


def random(*size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(0))


def bilinear(values: Tensor) -> Tensor:
    return F.interpolate(values, scale_factor=2, mode="bilinear", align_corners=False)


@pytest.mark.parametrize("level", [None, 0.0, 7.0])
def test_without_a_guide_or_with_a_constant_one_it_is_bilinear(level: float | None) -> None:
    values = random(2, 3, 5, 7)
    guides: tuple[Tensor | None, Tensor | None] = (None, None)
    if level is not None:
        guides = torch.full((2, 4, 5, 7), level), torch.full((2, 4, 10, 14), level)
    torch.testing.assert_close(guided_double(values, *guides), bilinear(values))


def told_of_masks() -> Guide:
    """A guide whose features of the photo tell nothing apart."""
    guide = Guide(3)
    torch.nn.init.zeros_(guide.second.weight)
    return guide


@torch.no_grad()
def test_a_mask_keeps_two_planes_apart_and_ones_do_nothing() -> None:
    inside = torch.zeros(1, 1, 12, 16)
    inside[..., 4:10, 6:] = 1
    planes = torch.where(inside > 0, 1.0, 4.0)
    coarse, photo, guide = planes[..., ::2, ::2], torch.rand(1, 3, 12, 16), told_of_masks()
    torch.testing.assert_close(guided_double(coarse, *guide(photo, inside)), planes)
    assert (bilinear(coarse) - planes).abs().max() > 1
    ones = guided_double(coarse, *guide(photo, torch.ones_like(inside)))
    torch.testing.assert_close(ones, bilinear(coarse))


@torch.no_grad()
def test_values_stay_within_those_about_them_whatever_the_guide() -> None:
    values = random(1, 1, 6, 8)
    found = guided_double(values, 30 * random(1, 2, 6, 8), 30 * random(1, 2, 12, 16))
    around = F.pad(values, (1, 1, 1, 1), mode="replicate")
    least = F.interpolate(-F.max_pool2d(-around, 3, stride=1), scale_factor=2)
    most = F.interpolate(F.max_pool2d(around, 3, stride=1), scale_factor=2)
    assert found.isfinite().all()
    assert (found >= least - 1e-5).all()
    assert (found <= most + 1e-5).all()
