"""What one photo says about its depth: a small vision transformer that may be told of a mask.

Four intermediate maps at an eighth of the size, the last of which is the richest, as decoders of
the DPT kind want them. `crispdepth.models.multiview.pretrained` gives the same from DINOv2.

Masks come in by up to four doors (spec 2.17), each of which changes nothing at the start, whatever
the mask, and nothing at all where masks are 1, whatever the weights: an embedding added to the
patches, tokens that say what the object looks like, a token that patches beside the object are
moved towards, and groups of heads that look at the object or beside it.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crispdepth.models.layered.mit import MixFfn, to_map, to_tokens
from crispdepth.models.multiview.gates import mask_at
from crispdepth.ops.attention import HeadGroups, head_group_bias, masked_attention

STRIDE = 8
"""Pixels of the photo per cell of the features."""

PATCH = 16
"""Pixels of the photo per token of `SmallViT`."""

HEADS = 8
"""Heads of the attention of `SmallViT`, if no number is said."""

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet

_LEAST_AREA = 1e-5


class SmallViT(nn.Module):
    """A vision transformer of a million weights for photos of any size."""

    def __init__(
        self,
        channels: int = 128,
        depth: int = 4,
        heads: int = HEADS,
        *,
        alpha: bool = True,
        tokens: int = 0,
        background: bool = False,
        groups: HeadGroups | None = None,
    ) -> None:
        """A transformer with fresh weights.

        Args:
            channels: of tokens and features, a multiple of 8 and of the heads.
            depth: blocks, 4 or more.
            heads: of the attention.
            alpha: add an embedding of what the mask leaves out to the patches (2.17 a).
            tokens: how many tokens about the object patches may read (2.17 b).
            background: move patches beside the object towards a learned token (2.17 c).
            groups: heads that look at the object, beside it, and everywhere (2.17 e, 2.10 b).

        Raises:
            ValueError: fewer than 4 blocks, or the heads do not fit.
        """
        super().__init__()
        if channels % 8 or channels % heads:
            raise ValueError(
                f"Channels are a multiple of 8 and of the heads; got {channels} and {heads} heads."
            )
        if groups is not None and groups.heads != heads:
            raise ValueError(f"Groups of {groups.heads} heads cannot be made of {heads}.")
        self.channels, self.taken, self.groups = channels, quarters(depth), groups
        widths = (3, channels // 8, channels // 4, channels // 2, channels)
        self.stem = nn.ModuleList(
            nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1)
            for before, after in pairwise(widths)
        )
        self.masking = PatchMasking(channels, PATCH, alpha=alpha, background=background)
        self.about = ObjectTokens(channels, tokens) if tokens else None
        self.blocks = nn.ModuleList(
            _Block(channels, heads, reads=tokens > 0, grouped=groups is not None)
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(channels)

    def forward(self, images: Tensor, masks: Tensor | None = None) -> tuple[Tensor, ...]:
        """Four maps (N, channels, ceil(H / 8), ceil(W / 8)).

        Args:
            images: (N, 3, H, W) in [0, 1].
            masks: (N, 1, H, W) in [0, 1], or None.
        """
        height, width = images.shape[-2:]
        x = _padded(standardised(images))
        if masks is not None:
            masks = _padded(masks)
        for index, layer in enumerate(self.stem):
            x = layer(x) if index == 0 else layer(F.gelu(x))
        x = self.masking(x, masks)
        size = (x.shape[2], x.shape[3])
        weight = None if masks is None else mask_at(masks, size).flatten(1)  # (N, n)
        tokens = to_tokens(x)
        bias, about = None, None
        if weight is not None and self.groups is not None:
            bias = head_group_bias(weight, self.groups)
        if weight is not None and self.about is not None:
            about = self.about(tokens, weight)
        found = []
        for index, block in enumerate(self.blocks):
            tokens = block(tokens, size, bias, about, weight)
            if index in self.taken:
                found.append(to_map(self.norm(tokens), size))
        cells = (-(-height // STRIDE), -(-width // STRIDE))
        large = (
            F.interpolate(each, scale_factor=PATCH // STRIDE, mode="bilinear") for each in found
        )
        return tuple(each[..., : cells[0], : cells[1]] for each in large)


class _Block(nn.Module):
    """A transformer block; its feed-forward part tells tokens where they are, at any size."""

    def __init__(self, channels: int, heads: int, *, reads: bool, grouped: bool) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)
        self.feed_norm = nn.LayerNorm(channels)
        self.feed = MixFfn(channels)
        # How much a head reads of the tokens about the object, and keeps to its group: 0 at first.
        self.reading = nn.Parameter(torch.zeros(heads, 1, 1)) if reads else None
        self.keeping = nn.Parameter(torch.zeros(heads, 1, 1)) if grouped else None

    def forward(
        self,
        x: Tensor,  # (N, n, channels)
        size: tuple[int, int],
        bias: Tensor | None,  # (N, heads, 1, n)
        about: Tensor | None,  # (N, t, channels)
        weight: Tensor | None,  # (N, n): the mask
    ) -> Tensor:
        query, key, value = self._split(x)
        kept = None if bias is None or self.keeping is None else self.keeping * bias
        attended = masked_attention(query, key, value, bias=kept)
        if about is not None and weight is not None and self.reading is not None:
            _, key, value = self._split(about)
            outside = 1 - weight.mean(dim=1)[:, None, None, None]  # 0: there is no object to tell
            attended = attended + self.reading * outside * masked_attention(query, key, value)
        x = x + self.project(attended.transpose(1, 2).flatten(2))
        output: Tensor = x + self.feed(self.feed_norm(x), size)
        return output

    def _split(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parts = torch.unflatten(self.qkv(self.norm(tokens)), -1, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # of (N, heads, n, c)
        return query, key, value


class PatchMasking(nn.Module):
    """Tells the patches of a photo of its mask, before they know their places."""

    def __init__(self, channels: int, patch: int, *, alpha: bool, background: bool) -> None:
        """See `SmallViT`; ``patch`` is the side of a patch in pixels."""
        super().__init__()
        self.alpha: nn.Conv2d | None = None
        if alpha:
            self.alpha = nn.Conv2d(1, channels, kernel_size=patch, stride=patch, bias=False)
            nn.init.zeros_(self.alpha.weight)
        self.background: nn.Parameter | None = None
        if background:
            self.background = nn.Parameter(0.02 * torch.randn(channels))
            self.replacing = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, masks: Tensor | None) -> Tensor:
        """Patches (N, channels, h, w) of a photo whose mask is (N, 1, h patch, w patch)."""
        if masks is None:
            return x
        if self.alpha is not None:
            x = x + self.alpha(1 - masks)
        if self.background is not None:
            share = self.replacing.tanh() * (1 - mask_at(masks, x.shape[-2:]))
            x = x + share * (self.background[:, None, None] - x)
        return x


class ObjectTokens(nn.Module):
    """Learned tokens plus an embedding of the mean patch inside the mask."""

    def __init__(self, channels: int, count: int) -> None:
        """``count`` tokens."""
        super().__init__()
        self.learned = nn.Parameter(0.02 * torch.randn(count, channels))
        self.embed = nn.Linear(channels, count * channels)

    def forward(self, tokens: Tensor, weight: Tensor) -> Tensor:
        """(N, count, channels) for patches (N, n, channels) and their mask (N, n)."""
        pooled = (weight[:, None] @ tokens)[:, 0] / (weight.sum(dim=1) + _LEAST_AREA)[:, None]
        about: Tensor = self.learned + self.embed(pooled).view(-1, *self.learned.shape)
        return about


def standardised(images: Tensor) -> Tensor:
    """Photos (N, 3, H, W) in [0, 1] less the mean of ImageNet, over its standard deviation."""
    mean, deviation = (images.new_tensor(each)[:, None, None] for each in (MEAN, DEVIATION))
    return (images - mean) / deviation


def quarters(depth: int) -> Sequence[int]:
    """The last layer of each quarter of ``depth`` layers, counted from 0.

    Raises:
        ValueError: there are fewer than 4.
    """
    if depth < 4:
        raise ValueError(f"Four maps need four layers or more, got {depth}.")
    return [depth * (part + 1) // 4 - 1 for part in range(4)]


def _padded(x: Tensor) -> Tensor:
    """Repeats the last row and column until the sides are multiples of `PATCH`."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % PATCH, 0, -height % PATCH), mode="replicate")
