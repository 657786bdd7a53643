"""Attention between views: windows cut and joined, the order of views, and lines of an object."""

import pytest
import torch
from torch import Tensor, nn

from crispdepth.models.multiview.config import MaskAttention, MaskUse
from crispdepth.models.multiview.transformer import BLOCKED, MultiviewTransformer, Windows

HEIGHT, WIDTH, CHANNELS, HEADS = 4, 8, 16, 4
TOKENS = HEIGHT * WIDTH
SHIFTED = pytest.mark.parametrize("shifted", [False, True])


def places(windows: Windows) -> Tensor:
    """Which tokens of a map are in each window, (4, n)."""
    height, width = (2 * side for side in windows.shape)
    return windows.cut(torch.arange(height * width).view(1, height, width, 1))[..., 0]


@SHIFTED
def test_windows_are_joined_as_they_were_cut(shifted: bool) -> None:
    windows = Windows((HEIGHT, WIDTH), shifted=shifted)
    maps = torch.randn(6, HEIGHT, WIDTH, 5)
    assert torch.equal(windows.join(windows.cut(maps)), maps)
    assert places(windows).flatten().sort().values.tolist() == [*range(TOKENS)]


@SHIFTED
@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (6, 10)])
def test_what_holds_for_pairs_is_cut_as_the_tokens_are(
    shifted: bool, size: tuple[int, int]
) -> None:
    windows, keys = Windows((HEIGHT, WIDTH), shifted=shifted), Windows(size, shifted=shifted)
    pairs = torch.rand(2, TOKENS, size[0] * size[1])
    found = torch.unflatten(windows.between(pairs, keys), 0, (2, 4))
    for window, (own, key) in enumerate(zip(places(windows), places(keys), strict=True)):
        assert torch.equal(found[:, window], pairs[:, own][:, :, key])


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (6, 10)])
def test_what_a_shift_brought_together_is_kept_apart(size: tuple[int, int]) -> None:
    windows, (height, width) = Windows(size, shifted=True), size
    apart = windows.apart([windows], torch.device("cpu"))
    assert apart is not None
    own = places(windows)
    far = torch.zeros(*own.shape, own.shape[1], dtype=torch.bool)
    for axis, side in ((own // width, height // 2), (own % width, width // 2)):
        far |= (axis[:, :, None] - axis[:, None]).abs() >= side
    assert torch.equal(apart[:, 0] == BLOCKED, far)
    assert torch.equal(apart[:, 0] == 0, ~far)
    windows = Windows((HEIGHT, WIDTH), shifted=False)
    assert windows.apart([windows], torch.device("cpu")) is None


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


def test_queries_that_find_no_object_on_their_lines_are_counted() -> None:
    torch.manual_seed(0)
    transformer = MultiviewTransformer(CHANNELS, 1, HEADS, MaskUse(attention="epipolar"))
    masks = torch.zeros(1, 2, 1, HEIGHT, WIDTH)
    masks[..., :2, :2] = 1  # tokens 0 1 8 9, all in the first window
    lines = torch.ones(1, 2, 2, TOKENS, TOKENS, dtype=torch.bool)
    assert transformer(maps(), masks, lines).dead == 0
    lines[:, 0, 1, 8] = False  # one query of four, in one view of two
    assert transformer(maps(), masks, lines).dead == pytest.approx(1 / 8)
    assert transformer(maps(), None, lines).dead is None
    assert MultiviewTransformer(CHANNELS, 1, HEADS)(maps(), masks).dead is None


# Groups of heads (spec 2.10 b) within windows, shifted or not


def groups_of(attention: MaskAttention, *, free: bool = False) -> MultiviewTransformer:
    torch.manual_seed(0)
    return MultiviewTransformer(
        CHANNELS, 2, HEADS, MaskUse(attention=attention, free_background=free)
    )


@torch.no_grad()
@pytest.mark.parametrize("level", [0.0, 1.0])
@pytest.mark.parametrize("free", [False, True])
def test_hard_groups_without_anything_to_see_look_everywhere(level: float, free: bool) -> None:
    plain = MultiviewTransformer(CHANNELS, 2, HEADS)
    hard = groups_of("hard-heads", free=free)
    plain.load_state_dict(hard.state_dict())
    masks = torch.full((1, 2, 1, HEIGHT, WIDTH), level)
    torch.testing.assert_close(hard(maps(), masks).maps, plain(maps()).maps)


@torch.no_grad()
def test_soft_groups_of_a_hard_mask_are_nearly_hard_ones() -> None:
    soft, hard = groups_of("heads"), groups_of("hard-heads")
    masks = torch.zeros(1, 2, 1, HEIGHT, WIDTH)
    masks[..., 1:3, 1:6] = 1  # no window is without object, nor without what is beside it
    one, other = (each(maps(), masks).maps for each in (soft, hard))
    torch.testing.assert_close(one, other, atol=1e-3, rtol=0)
    assert (one - groups_of("none")(maps()).maps).abs().max() > 0.01


@torch.no_grad()
@pytest.mark.parametrize("attention", ["heads", "hard-heads"])
def test_a_free_background_attends_as_without_a_mask(attention: MaskAttention) -> None:
    torch.manual_seed(0)
    use = MaskUse(attention=attention, free_background=True)
    one, plain = (MultiviewTransformer(CHANNELS, 1, HEADS, each) for each in (use, MaskUse()))
    plain.load_state_dict(one.state_dict())
    for each in (one, plain):  # cross attention alone: the other reads what the first has changed
        (own,) = each.own
        assert isinstance(own.norm, nn.LayerNorm)
        nn.init.zeros_(own.norm.weight)
    masks = torch.zeros(1, 2, 1, HEIGHT, WIDTH)
    masks[..., :2, :2] = 1
    change = (one(maps(), masks).maps - plain(maps()).maps).abs().amax(dim=2)[:, :, None]
    assert change[masks == 0].max() < 1e-5
    assert change[masks == 1].min() > 1e-4


@torch.no_grad()
@pytest.mark.parametrize("attention", ["hard-heads", "epipolar"])
def test_what_a_shift_brought_together_is_no_way_out_of_a_mask(attention: MaskAttention) -> None:
    """A query whose only allowed keys lie beyond the shift's border looks about itself instead."""
    windows = Windows((HEIGHT, WIDTH), shifted=True)
    apart = windows.apart([windows], torch.device("cpu"))
    assert apart is not None
    torch.manual_seed(0)
    transformer = MultiviewTransformer(CHANNELS, 2, HEADS, MaskUse(attention=attention))
    known = torch.zeros(4, 2, TOKENS // 4)
    known[3, 0, 0] = 1  # the query
    far = apart[3, 0, 0] == BLOCKED
    known[3, 1] = 1.0 * far
    bias: Tensor | None
    if attention == "epipolar":
        lines = torch.ones(4, TOKENS // 4, TOKENS // 4, dtype=torch.bool)
        bias, _ = transformer._along_lines(apart, lines, known[:, 0], known[:, 1])
    else:
        bias = transformer._grouped(apart, known[:, 0], known[:, 1])
    assert bias is not None
    share = bias[3, 0, 0].softmax(dim=-1)  # of the first head, that of the object
    assert share[far].sum() < 1e-6
