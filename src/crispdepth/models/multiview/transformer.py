"""Attention within and between views: features that know what the other views show (spec 1.5)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crispdepth.models.multiview.config import MaskUse
from crispdepth.ops.attention import (
    HeadGroups,
    epipolar_object_mask,
    head_group_bias,
    head_group_mask,
)

TEMPERATURE = 10_000.0
"""Of the wave lengths of positions."""

BLOCKED = -100.0
"""What is added to the logit of a key that a query shall not see; finite, so that no row dies."""


class Attention(nn.Module):
    """Multi-head attention from the tokens of a window to those of windows of other views."""

    def __init__(self, channels: int, heads: int, *, feeds_forward: bool) -> None:
        """``feeds_forward``: a two-layer network on message and source follows."""
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.merge = (
            nn.Linear(channels, channels, bias=False) for _ in range(4)
        )
        self.norm = nn.LayerNorm(channels)
        self.feed: nn.Module | None = None
        if feeds_forward:
            self.feed = nn.Sequential(
                nn.Linear(2 * channels, 4 * channels, bias=False),
                nn.GELU(),
                nn.Linear(4 * channels, channels, bias=False),
            )
            self.feed_norm = nn.LayerNorm(channels)

    def forward(self, source: Tensor, target: Tensor, bias: Tensor | None = None) -> Tensor:
        """``source`` with what it found in ``target``.

        Args:
            source: (N, q, C).
            target: (N, k, C); no token at all gives ``source`` back.
            bias: (N, heads or 1, q or 1, k), added to the logits.
        """
        if not target.shape[1]:
            return source
        query, key, value = (
            torch.unflatten(project(x), -1, (self.heads, -1)).transpose(1, 2)
            for project, x in ((self.query, source), (self.key, target), (self.value, target))
        )
        message = F.scaled_dot_product_attention(query, key, value, bias)
        message = self.norm(self.merge(message.transpose(1, 2).flatten(2)))
        if self.feed is not None:
            message = self.feed_norm(self.feed(torch.cat((source, message), dim=-1)))
        found: Tensor = source + message
        return found


class Windows:
    """Cutting maps into 2 x 2 windows, shifted by half a window or not, and back."""

    def __init__(self, size: tuple[int, int], *, shifted: bool) -> None:
        """``size`` is (height, width) of the maps, both even."""
        height, width = size
        self.shape = (height // 2, width // 2)
        self.shift = (height // 4, width // 4) if shifted else (0, 0)

    def cut(self, maps: Tensor) -> Tensor:
        """(N, h, w, C) to (N 4, h w / 4, C)."""
        rows, columns = self.shape
        maps = maps.roll((-self.shift[0], -self.shift[1]), (1, 2))
        maps = torch.unflatten(torch.unflatten(maps, 2, (2, columns)), 1, (2, rows))
        return maps.transpose(2, 3).flatten(3, 4).flatten(0, 2)  # of n 2 2 r c C

    def join(self, tokens: Tensor) -> Tensor:
        """The inverse of `cut`."""
        rows, columns = self.shape
        maps = torch.unflatten(torch.unflatten(tokens, 0, (-1, 2, 2)), 3, (rows, columns))
        maps = maps.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # of n 2 r 2 c C
        return maps.roll(self.shift, (1, 2))

    def between(self, pairs: Tensor, keys: "Windows") -> Tensor:
        """What holds for tokens of a map and those of one of another size, (N, h w, h' w'), of
        their windows: (N 4, n, n')."""
        (rows, columns), (key_rows, key_columns) = self.shape, keys.shape
        pairs = self.cut(torch.unflatten(pairs, 1, (2 * rows, 2 * columns)))  # (N 4, n, h' w')
        pairs = torch.unflatten(pairs.transpose(1, 2), 1, (2 * key_rows, 2 * key_columns))
        own = torch.arange(len(pairs), device=pairs.device)
        cut = torch.unflatten(keys.cut(pairs), 0, (len(own), 4))  # (N 4, 4, n', n)
        return cut[own, own % 4].transpose(1, 2)

    def apart(self, keys: Sequence["Windows"], device: torch.device) -> Tensor | None:
        """(4, 1, n, sum of n') bias that keeps apart what the shift brought together; None
        without it."""
        if self.shift == (0, 0):
            return None
        other = torch.cat([each._regions(device) for each in keys], dim=1)
        same = self._regions(device)[:, :, None] == other[:, None]
        return torch.where(same, 0.0, BLOCKED)[:, None]

    def _regions(self, device: torch.device) -> Tensor:
        """(4, n): tokens of a window with one number were neighbours before the shift."""
        sides = [
            (torch.arange(2 * count, device=device) >= 2 * count - shift).long()
            for count, shift in zip(self.shape, self.shift, strict=True)
        ]
        region = sides[0][:, None] * 2 + sides[1]
        # `cut` would shift what is numbered in the frame of the shifted map.
        return Windows((2 * self.shape[0], 2 * self.shape[1]), shifted=False).cut(
            region[None, ..., None]
        )[..., 0]


class Tokens(NamedTuple):
    """Maps of views of one size, whose cells are the tokens; the size is even."""

    maps: Tensor  # (N, C, h, w)
    mask: Tensor | None = None  # (N, 1, h, w) in [0, 1]; None: ones

    def cut(self, windows: Windows) -> tuple[Tensor, Tensor | None]:
        """(N 4, n, C) tokens of windows, and their masks (N 4, n)."""
        tokens = windows.cut(self.maps.movedim(1, -1))
        if self.mask is None:
            return tokens, None
        return tokens, windows.cut(self.mask.movedim(1, -1))[..., 0]


class Attended(NamedTuple):
    """What `MultiviewTransformer` makes of its maps."""

    maps: Tensor  # (B, V, C, h, w)
    # (): of the queries of the object, the share that finds nothing of the object on its epipolar
    # lines within its window (2.11); None where no lines were asked for
    dead: Tensor | None


class MultiviewTransformer(nn.Module):
    """Blocks of self attention and cross attention in windows.

    `forward` lets all views hear all others. `alone` and `together` are its steps for a view that
    hears some of them, of any sizes: what a view has become is then of use to all that hear it.
    """

    def __init__(self, channels: int, blocks: int, heads: int, use: MaskUse | None = None) -> None:
        """Channels are a multiple of the heads; masks steer the attention without weights.

        None: of masks it is told nothing.
        """
        super().__init__()
        self.attention = "none" if use is None else use.attention
        self.free_background = use is not None and use.free_background
        grouped = self.attention in ("heads", "hard-heads")
        self.groups = HeadGroups.of(heads) if grouped else None
        self.own = nn.ModuleList(
            Attention(channels, heads, feeds_forward=False) for _ in range(blocks)
        )
        self.others = nn.ModuleList(
            Attention(channels, heads, feeds_forward=True) for _ in range(blocks)
        )

    def forward(
        self, maps: Tensor, masks: Tensor | None = None, epipolar: Tensor | None = None
    ) -> Attended:
        """Maps that know those of the other views; the order of the views does not matter.

        Args:
            maps: (B, V, C, h, w), h and w even.
            masks: (B, V, 1, h, w) in [0, 1]; None: ones.
            epipolar: bool (B, V, V, h w, h w), the tokens of a view that tokens of another may
                be seen at; needed by the attention of that name.
        """
        batch, views = maps.shape[:2]
        known = None if masks is None else masks.flatten(0, 1)
        x = maps.flatten(0, 1)
        dead: list[Tensor] = []
        for number in range(len(self.own)):
            x = torch.unflatten(self.alone(number, Tokens(x, known)), 0, (batch, views))
            each = [Tokens(x[:, v], None if masks is None else masks[:, v]) for v in range(views)]
            found = []
            for view, own in enumerate(each):
                rest = [other for other in range(views) if other != view]
                lines = None if epipolar is None else [epipolar[:, view, other] for other in rest]
                found.append(self.together(number, own, [each[o] for o in rest], lines, dead))
            x = torch.stack(found, dim=1).flatten(0, 1)
        whole = torch.unflatten(x, 0, (batch, views))
        return Attended(whole, torch.stack(dead).mean() if dead else None)

    def alone(self, number: int, view: Tokens) -> Tensor:
        """What block ``number`` makes of views by themselves, (N, C, h, w)."""
        windows = self._windows(number, view)
        tokens, known = view.cut(windows)
        if number == 0:
            tokens = tokens + positions(windows.shape, tokens.shape[-1], tokens.device)
        bias = _repeated(windows.apart([windows], tokens.device), len(tokens))
        found = self.own[number](tokens, tokens, self._grouped(bias, known, known))
        return windows.join(found).movedim(-1, 1)

    def together(
        self,
        number: int,
        view: Tokens,
        others: Sequence[Tokens],
        epipolar: Sequence[Tensor] | None = None,
        dead: list[Tensor] | None = None,
    ) -> Tensor:
        """What block ``number`` makes of views that hear others, (N, C, h, w).

        Args:
            number: of the block; all views are what its `alone` made of them.
            view: those that hear.
            others: whom they hear, each with N views; none: the views stay as they are.
            epipolar: bool (N, h w, h' w') for each of the others, see `forward`.
            dead: gets the share of dead queries, see `Attended`.
        """
        if not others:
            return view.maps
        windows, keys = self._windows(number, view), [self._windows(number, x) for x in others]
        tokens, known = view.cut(windows)
        cut = [other.cut(key) for other, key in zip(others, keys, strict=True)]
        heard = torch.cat([part for part, _ in cut], dim=1)
        inside: Tensor | None = None
        if any(mask is not None for mask in (known, *(mask for _, mask in cut))):
            known = _known(tokens, known)
            inside = torch.cat([_known(*each) for each in cut], dim=1)
        bias = _repeated(windows.apart(keys, tokens.device), len(tokens))
        bias = self._grouped(bias, known, inside)
        if self.attention == "epipolar" and epipolar is not None and known is not None:
            assert inside is not None
            lines = torch.cat(list(map(windows.between, epipolar, keys)), dim=-1)
            bias, share = self._along_lines(bias, lines, known, inside)
            if dead is not None:
                dead.append(share)
        return windows.join(self.others[number](tokens, heard, bias)).movedim(-1, 1)

    @staticmethod
    def _windows(number: int, view: Tokens) -> Windows:
        height, width = view.maps.shape[-2:]
        return Windows((height, width), shifted=number % 2 == 1)

    def _grouped(
        self, bias: Tensor | None, queries: Tensor | None, keys: Tensor | None
    ) -> Tensor | None:
        """The bias for tokens that hear others, with that of groups of heads (2.10 b).

        ``queries`` (b 4, n) and ``keys`` (b 4, m) are their masks. Heads of a hard group that finds
        nothing in a window look everywhere in it.
        """
        if self.groups is None or queries is None or keys is None:
            return bias
        told = queries if self.free_background else None
        if self.attention == "heads":
            groups = head_group_bias(keys, self.groups, told)
        else:
            groups = _only(head_group_mask(keys, self.groups, told), bias)
        return groups if bias is None else bias + groups

    def _along_lines(
        self, bias: Tensor | None, lines: Tensor, queries: Tensor, keys: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The bias that leaves tokens of the object what may show the same point of it (2.11).

        Of a token that finds none of the object on its lines (their share is the second value),
        all of the object counts. Where the object is everywhere there is no object to tell: views
        without masks attend as if there were none.
        """
        inside = keys[:, None] > 0.5  # (b 4, 1, m)
        if bias is not None:  # what the shift of the windows brought together is no key
            inside = inside & (bias[:, 0] == 0)
        told = (queries > 0.5) & ~(queries == 1).all(dim=1, keepdim=True)
        found = epipolar_object_mask(lines, inside, told)
        # Tokens beside the object look everywhere, as do those that find none of it at all.
        shut = _only((found.allowed | ~told[..., None])[:, None], bias)
        return shut if bias is None else bias + shut, found.dead


def _known(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """The mask of tokens (N, n, C), (N, n); ones if they have none."""
    return torch.ones_like(tokens[..., 0]) if mask is None else mask


def _repeated(bias: Tensor | None, windows: int) -> Tensor | None:
    """The bias (4, ...) of the windows of one map for those of all maps."""
    return None if bias is None else bias.repeat(windows // 4, 1, 1, 1)


def _only(allowed: Tensor, bias: Tensor | None) -> Tensor:
    """The bias (..., q, k) that shuts what is not allowed, but for queries that would have nothing.

    ``bias``: what shuts keys already, by less than `BLOCKED` / 2 it does not.
    """
    open_ = allowed if bias is None else allowed & (bias > BLOCKED / 2)
    return torch.where(allowed | ~open_.any(dim=-1, keepdim=True), 0.0, BLOCKED)


def positions(size: tuple[int, int], channels: int, device: torch.device) -> Tensor:
    """(h w, C) two-dimensional sines of a place in its window, in [0, 2 pi] (spec 1.5)."""
    half = channels // 2
    rates = TEMPERATURE ** (-2 * torch.arange(half // 2, device=device) / half)
    axes = []
    for count in size:
        place = 2 * math.pi * (torch.arange(count, device=device) + 1) / count
        phase = place[:, None] * rates
        axes.append(torch.cat((phase.sin(), phase.cos()), dim=1))  # (count, half)
    rows, columns = size
    grid = torch.cat(
        (
            axes[0][:, None].expand(rows, columns, -1),
            axes[1][None].expand(rows, columns, -1),
        ),
        dim=-1,
    ).flatten(0, 1)
    return F.pad(grid, (0, channels - grid.shape[1]))
