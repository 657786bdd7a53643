"""Attention within and between views: features that know what the other views show (spec 1.5)."""

import math
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
        """(B, V, h, w, C) to (B 4, V, h w / 4, C)."""
        rows, columns = self.shape
        maps = maps.roll((-self.shift[0], -self.shift[1]), (2, 3))
        maps = torch.unflatten(torch.unflatten(maps, 3, (2, columns)), 2, (2, rows))
        return maps.permute(0, 2, 4, 1, 3, 5, 6).flatten(4, 5).flatten(0, 2)  # of b v 2 r 2 c C

    def join(self, tokens: Tensor) -> Tensor:
        """The inverse of `cut`."""
        rows, columns = self.shape
        maps = torch.unflatten(torch.unflatten(tokens, 0, (-1, 2, 2)), 4, (rows, columns))
        maps = maps.permute(0, 3, 1, 4, 2, 5, 6).flatten(4, 5).flatten(2, 3)  # of b 2 2 v r c C
        return maps.roll(self.shift, (2, 3))

    def between(self, pairs: Tensor) -> Tensor:
        """What holds for pairs of tokens of two maps, (B, h w, h w), of windows: (B 4, n, n)."""
        batch, (rows, columns) = len(pairs), self.shape
        size = (2 * rows, 2 * columns)
        pairs = self.cut(pairs.view(batch, 1, *size, -1))[:, 0]  # (B 4, n, h w)
        pairs = torch.unflatten(pairs.transpose(1, 2), 1, size)[:, None]  # (B 4, 1, h, w, n)
        own = torch.arange(len(pairs), device=pairs.device)
        cut = torch.unflatten(self.cut(pairs)[:, 0], 0, (len(own), 4))  # (B 4, 4, n keys, n)
        return cut[own, own % 4].transpose(1, 2)

    def apart(self, device: torch.device) -> Tensor | None:
        """(4, 1, n, n) bias that keeps apart what the shift brought together; None without it."""
        if self.shift == (0, 0):
            return None
        rows, columns = self.shape
        sides = [
            (torch.arange(2 * count, device=device) >= 2 * count - shift).long()
            for count, shift in ((rows, self.shift[0]), (columns, self.shift[1]))
        ]
        region = sides[0][:, None] * 2 + sides[1]
        region = self.cut((region + 0.0)[None, None, ..., None])[:, 0, :, 0]  # (4, n)
        return torch.where(region[:, :, None] == region[:, None], 0.0, BLOCKED)[:, None]


class Attended(NamedTuple):
    """What `MultiviewTransformer` makes of its maps."""

    maps: Tensor  # (B, V, C, h, w)
    # (): of the queries of the object, the share that finds nothing of the object on its epipolar
    # lines within its window (2.11); None where no lines were asked for
    dead: Tensor | None


class MultiviewTransformer(nn.Module):
    """Blocks of self attention and cross attention in windows."""

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
        x = maps.permute(0, 1, 3, 4, 2)
        size = (x.shape[2], x.shape[3])
        dead: list[Tensor] = []
        for number, (own, others) in enumerate(zip(self.own, self.others, strict=True)):
            windows = Windows(size, shifted=number % 2 == 1)
            apart = windows.apart(x.device)
            tokens = windows.cut(x)  # (b 4, v, n, C)
            if number == 0:
                tokens = tokens + positions(windows.shape, tokens.shape[-1], x.device)
            batch, views = tokens.shape[:2]
            known = None if masks is None else windows.cut(masks.movedim(2, -1))[..., 0]
            bias = None if apart is None else apart.repeat(batch // 4, 1, 1, 1)
            tokens = torch.stack(
                [
                    own(tokens[:, view], tokens[:, view], self._grouped(bias, known, view, [view]))
                    for view in range(views)
                ],
                dim=1,
            )
            across = None if bias is None else bias.repeat(1, 1, 1, views - 1)
            found = []
            for view in range(views):
                rest = [other for other in range(views) if other != view]
                steered = self._grouped(across, known, view, rest)
                if self.attention == "epipolar" and epipolar is not None and rest:
                    lines = [windows.between(epipolar[:, view, other]) for other in rest]
                    steered = self._along_lines(
                        steered, torch.cat(lines, dim=-1), known, view, rest, dead
                    )
                found.append(others(tokens[:, view], tokens[:, rest].flatten(1, 2), steered))
            x = windows.join(torch.stack(found, dim=1))
        return Attended(x.permute(0, 1, 4, 2, 3), torch.stack(dead).mean() if dead else None)

    def _grouped(
        self, bias: Tensor | None, known: Tensor | None, view: int, keys: list[int]
    ) -> Tensor | None:
        """The bias for tokens of a view and keys of others, with that of groups of heads (2.10 b).

        Heads of a hard group that finds nothing in a window look everywhere in it.
        """
        if self.groups is None or known is None or not keys:
            return bias
        masks = known[:, keys].flatten(1)
        queries = known[:, view] if self.free_background else None
        if self.attention == "heads":
            groups = head_group_bias(masks, self.groups, queries)
        else:
            groups = _only(head_group_mask(masks, self.groups, queries), bias)
        return groups if bias is None else bias + groups

    def _along_lines(
        self,
        bias: Tensor | None,
        lines: Tensor,
        known: Tensor | None,
        view: int,
        rest: list[int],
        dead: list[Tensor],
    ) -> Tensor | None:
        """The bias that leaves tokens of the object what may show the same point of it (2.11).

        Of a token that finds none of the object on its lines (``dead`` gets their share), all of
        the object counts. Where the object is everywhere there is no object to tell: views without
        masks attend as if there were none.
        """
        if known is None:
            return bias
        inside = known[:, rest].flatten(1)[:, None] > 0.5  # (b 4, 1, m)
        if bias is not None:  # what the shift of the windows brought together is no key
            inside = inside & (bias[:, 0] == 0)
        told = (known[:, view] > 0.5) & ~(known[:, view] == 1).all(dim=1, keepdim=True)
        keys = epipolar_object_mask(lines, inside, told)
        dead.append(keys.dead)
        # Tokens beside the object look everywhere, as do those that find none of it at all.
        shut = _only((keys.allowed | ~told[..., None])[:, None], bias)
        return shut if bias is None else bias + shut


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
