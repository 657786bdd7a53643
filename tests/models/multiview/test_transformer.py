"""Attention between views: windows cut and joined, the order of views, and lines of an object."""

import pytest
import torch
from torch import Tensor, nn

from crispdepth.models.multiview.config import MaskUse
from crispdepth.models.multiview.transformer import BLOCKED, MultiviewTransformer, Windows

HEIGHT, WIDTH, CHANNELS, HEADS = 4, 8, 16, 4
TOKENS = HEIGHT * WIDTH
SHIFTED = pytest.mark.parametrize("shifted", [False, True])


def places(windows: Windows) -> Tensor:
    """Which tokens of a map are in each window, (4, n)."""
    return windows.cut(torch.arange(TOKENS).view(1, 1, HEIGHT, WIDTH, 1))[:, 0, :, 0]


@SHIFTED
def test_windows_are_joined_as_they_were_cut(shifted: bool) -> None:
    windows = Windows((HEIGHT, WIDTH), shifted=shifted)
    maps = torch.randn(2, 3, HEIGHT, WIDTH, 5)
    assert torch.equal(windows.join(windows.cut(maps)), maps)
    assert places(windows).flatten().sort().values.tolist() == [*range(TOKENS)]


@SHIFTED
def test_what_holds_for_pairs_is_cut_as_the_tokens_are(shifted: bool) -> None:
    windows = Windows((HEIGHT, WIDTH), shifted=shifted)
    pairs = torch.rand(2, TOKENS, TOKENS)
    found = torch.unflatten(windows.between(pairs), 0, (2, 4))
    for window, own in enumerate(places(windows)):
        assert torch.equal(found[:, window], pairs[:, own][:, :, own])


def test_what_a_shift_brought_together_is_kept_apart() -> None:
    windows = Windows((HEIGHT, WIDTH), shifted=True)
    apart = windows.apart(torch.device("cpu"))
    assert apart is not None
    own = places(windows)
    far = torch.zeros(4, TOKENS // 4, TOKENS // 4, dtype=torch.bool)
    for axis, side in ((own // WIDTH, HEIGHT // 2), (own % WIDTH, WIDTH // 2)):
        far |= (axis[:, :, None] - axis[:, None]).abs() >= side
    assert torch.equal(apart[:, 0] == BLOCKED, far)
    assert torch.equal(apart[:, 0] == 0, ~far)
    assert Windows((HEIGHT, WIDTH), shifted=False).apart(torch.device("cpu")) is None


def maps(views: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, views, CHANNELS, HEIGHT, WIDTH, generator=generator)


@torch.no_grad()
def test_views_may_change_places() -> None:
    torch.manual_seed(0)
    transformer, x, order = MultiviewTransformer(CHANNELS, 2, HEADS), maps(4), [2, 0, 3, 1]
    found = transformer(x).maps
    torch.testing.assert_close(transformer(x[:, order]).maps, found[:, order], atol=1e-5, rtol=1e-5)


# Epipolar lines and the object (spec 2.11), in a transformer that has cross attention alone


@pytest.fixture
def across() -> MultiviewTransformer:
    torch.manual_seed(0)
    transformer = MultiviewTransformer(CHANNELS, 1, HEADS, MaskUse(attention="epipolar"))
    for own in transformer.own:
        assert isinstance(own.norm, nn.LayerNorm)
        nn.init.zeros_(own.norm.weight)
    return transformer


def heard(transformer: MultiviewTransformer, masks: Tensor, lines: Tensor, query: int) -> set[int]:
    """The tokens of the second view that a query of the first depends on."""
    x = maps().requires_grad_()
    output = transformer(x, masks, lines.expand(1, 2, 2, TOKENS, TOKENS)).maps
    (gradient,) = torch.autograd.grad(output[0, 0].flatten(1)[:, query].square().sum(), x)
    much = gradient[0, 1].abs().amax(dim=0).flatten() > 1e-30  # what is blocked weighs exp(-100)
    return {*much.nonzero().flatten().tolist()}


def test_an_object_hears_itself_on_its_lines_and_what_is_beside_it_all(
    across: MultiviewTransformer,
) -> None:
    own = places(Windows((HEIGHT, WIDTH), shifted=False))[0]  # 0 1 2 3 8 9 10 11
    masks = torch.zeros(1, 2, 1, HEIGHT, WIDTH)
    masks[..., :2] = 1
    rows = torch.arange(TOKENS) // WIDTH
    lines = rows[:, None] == rows
    whole, inside = {*own.tolist()}, {0, 1, 8, 9}
    assert heard(across, masks, lines, 8) == {8, 9}
    assert heard(across, masks, lines, 10) == whole
    # On a line without the object all of the object is heard; without any object everything.
    lines = lines & (torch.arange(TOKENS) != 8) & (torch.arange(TOKENS) != 9)
    assert heard(across, masks, lines, 8) == inside
    masks[:, 1] = 0
    assert heard(across, masks, lines, 8) == whole
    # And a view that is all object, which is one without a mask, hears everything.
    assert heard(across, torch.ones_like(masks), lines, 8) == whole
