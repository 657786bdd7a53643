"""The transformer of one photo: any size, four maps, and four doors for masks."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from crispdepth.models.multiview.gates import mask_at
from crispdepth.models.multiview.monocular import PATCH, SmallViT, quarters, standardised
from crispdepth.ops.attention import HeadGroups

DOORS: dict[str, Callable[[], SmallViT]] = {
    "alpha": lambda: SmallViT(16, heads=4),
    "tokens": lambda: SmallViT(16, heads=4, alpha=False, tokens=3),
    "background": lambda: SmallViT(16, heads=4, alpha=False, background=True),
    "groups": lambda: SmallViT(16, heads=4, alpha=False, groups=HeadGroups.of(4)),
}


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> SmallViT:
    torch.manual_seed(0)
    return DOORS[request.param]()


def photos(height: int = 48, width: int = 64) -> Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def half_mask(height: int = 48, width: int = 64) -> Tensor:
    mask = torch.zeros(2, 1, height, width)
    mask[..., width // 3 :] = 1
    return mask


def stirred(model: SmallViT) -> SmallViT:
    """As after a training: no weight that starts at 0 is 0 any more."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for each in model.parameters():
            if not each.any():
                each.copy_(0.3 * torch.randn(each.shape, generator=generator))
    return model


@pytest.mark.parametrize("size", [(48, 64), (16, 16), (40, 71), (1, 9)])
def test_there_are_four_maps_at_an_eighth_of_any_size(size: tuple[int, int]) -> None:
    model = SmallViT(16, heads=4)
    maps = model(photos(*size), half_mask(*size))
    assert len(maps) == 4
    for each in maps:
        assert each.shape == (2, 16, -(-size[0] // 8), -(-size[1] // 8))
        assert each.isfinite().all()
    for one, other in pairwise(maps):
        assert not torch.equal(one, other)


def test_what_is_padded_moves_nothing() -> None:
    """A photo of 40 x 56 is one of 48 x 64 whose last rows and columns repeat."""
    model, image = SmallViT(16, heads=4), photos(40, 56)
    padded = torch.nn.functional.pad(image, (0, 8, 0, 8), mode="replicate")
    for small, large in zip(model(image), model(padded), strict=True):
        torch.testing.assert_close(small, large[..., :5, :7])


def test_at_the_start_no_mask_changes_anything(door: SmallViT) -> None:
    expected = door(photos())
    for mask in (half_mask(), torch.zeros(2, 1, 48, 64), torch.rand(2, 1, 48, 64)):
        for one, other in zip(door(photos(), mask), expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(48, 64), (41, 50)])
def test_trained_masks_of_ones_change_nothing(door: SmallViT, size: tuple[int, int]) -> None:
    model, image = stirred(door), photos(*size)
    expected = model(image)
    for one, other in zip(model(image, torch.ones(2, 1, *size)), expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
    for one, other in zip(model(image, half_mask(*size)), expected, strict=True):
        assert (one - other).abs().max() > 1e-3


def test_weights_without_masks_fit(door: SmallViT) -> None:
    """What a network that knows no masks has learned gives the same with every door."""
    plain = SmallViT(16, heads=4, alpha=False)
    missing, unexpected = door.load_state_dict(plain.state_dict(), strict=False)
    assert missing
    assert not unexpected
    for one, other in zip(door(photos(), half_mask()), plain(photos()), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_without_a_door_masks_say_nothing() -> None:
    model = stirred(SmallViT(16, heads=4, alpha=False, tokens=0))
    for one, other in zip(model(photos(), half_mask()), model(photos()), strict=True):
        assert torch.equal(one, other)


def test_every_weight_learns(door: SmallViT) -> None:
    maps = stirred(door)(photos(), half_mask())
    torch.autograd.backward(torch.cat(maps).pow(3).sum())
    for name, each in door.named_parameters():
        assert each.grad is not None, name
        assert each.grad.isfinite().all(), name
        assert each.grad.abs().max() > 0, name


def test_the_start_is_left(door: SmallViT) -> None:
    """The weight that keeps a door shut has a gradient while it is 0."""
    shut = [each for name, each in door.named_parameters() if not each.any() and "bias" not in name]
    assert shut
    torch.autograd.backward(torch.cat(door(photos(), half_mask())).pow(3).sum())
    for each in shut:
        assert each.grad is not None
        assert each.grad.abs().max() > 0


def test_empty_masks_are_finite(door: SmallViT) -> None:
    maps = stirred(door)(photos(), torch.zeros(2, 1, 48, 64))
    assert all(each.isfinite().all() for each in maps)
    torch.autograd.backward(torch.cat(maps).square().sum())
    assert all(each.grad is None or each.grad.isfinite().all() for each in door.parameters())


def test_a_box_of_patches_is_exact() -> None:
    mask = torch.zeros(1, 1, 3 * PATCH, 4 * PATCH)
    mask[..., PATCH : 2 * PATCH, PATCH : 3 * PATCH] = 1
    expected = torch.zeros(1, 1, 3, 4)
    expected[..., 1, 1:3] = 1
    assert torch.equal(mask_at(mask, (3, 4)), expected)


def test_background_patches_become_the_token() -> None:
    model = SmallViT(16, heads=4, alpha=False, background=True)
    masking = model.masking
    assert masking.background is not None
    torch.nn.init.constant_(masking.replacing, 20.0)
    patches = torch.randn(2, 16, 3, 4)
    masks = torch.zeros(2, 1, 48, 64)
    masks[..., :32] = 1
    found = masking(patches, masks)
    assert torch.equal(found[..., :2], patches[..., :2])
    torch.testing.assert_close(
        found[..., 2:], masking.background[:, None, None].expand(2, 16, 3, 2)
    )


def test_photos_are_standardised_by_imagenet() -> None:
    white = standardised(torch.ones(1, 3, 2, 2))[0, :, 0, 0]
    torch.testing.assert_close(white, torch.tensor([2.2489, 2.4286, 2.64]), atol=1e-4, rtol=0)


def test_layers_are_taken_at_the_end_of_each_quarter() -> None:
    assert quarters(4) == [0, 1, 2, 3]
    assert quarters(12) == [2, 5, 8, 11]
    assert quarters(6) == [0, 2, 3, 5]
    with pytest.raises(ValueError, match="four layers or more, got 3"):
        quarters(3)


def test_numbers_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="got 20 and 4 heads"):
        SmallViT(20, heads=4)
    with pytest.raises(ValueError, match="Groups of 8 heads cannot be made of 4"):
        SmallViT(16, heads=4, groups=HeadGroups())


def test_half_precision_is_close(door: SmallViT) -> None:
    exact = stirred(door)(photos(), half_mask())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = door(photos(), half_mask())
    for one, other in zip(rounded, exact, strict=True):
        assert (one - other).abs().mean() < 0.05
