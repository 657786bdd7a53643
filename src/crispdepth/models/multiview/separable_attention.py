"""Masked separable attention: three attentions over channels, inside, outside and everywhere.

The block of CamoFormer (Yin et al., 2022), whose queries and keys are multiplied by a soft mask,
and whose heads mix channels and not places (Zamir et al., *Restormer*, CVPR 2022): its cost is
linear in the number of pixels (spec 2.10 a).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crispdepth.models.multiview.gates import mask_at

_LEAST_NORM = 1e-6


class ChannelNorm(nn.Module):
    """Normalises the channels of each pixel of (N, C, h, w)."""

    def __init__(self, channels: int) -> None:
        """With weight and bias."""
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        normed: Tensor = self.norm(x.movedim(1, -1))
        return normed.movedim(-1, 1)


class ChannelAttention(nn.Module):
    """``softmax(t q k^T) v`` per head, with q and k (channels, h w) of unit length per channel."""

    def __init__(self, channels: int, heads: int) -> None:
        """Each head has ``channels / heads`` channels and a temperature of its own."""
        super().__init__()
        self.heads = heads
        self.qkv = nn.Conv2d(channels, 3 * channels, kernel_size=1)
        self.local = nn.Conv2d(
            3 * channels, 3 * channels, kernel_size=3, padding=1, groups=3 * channels
        )
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.project = nn.Conv2d(channels, channels, kernel_size=1)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(N, channels, h, w) to the same; the mask (N, 1, h, w) weighs queries and keys."""
        query, key, value = self.local(self.qkv(x)).chunk(3, dim=1)
        if mask is not None:
            query, key = query * mask, key * mask
        query, key, value = (
            torch.unflatten(each, 1, (self.heads, -1)).flatten(3) for each in (query, key, value)
        )  # (N, heads, channels / heads, h w)
        # In float32, for the square of the least norm is 0 in half precision.
        query, key = (F.normalize(each.float(), dim=-1, eps=_LEAST_NORM) for each in (query, key))
        scores = query.to(value.dtype) @ key.to(value.dtype).mT
        attended = (self.temperature * scores).softmax(dim=-1).to(value.dtype) @ value
        output: Tensor = self.project(attended.flatten(1, 2).reshape(x.shape))
        return output


class GatedFeedForward(nn.Module):
    """Widens, mixes each channel with its neighbours, and lets one half gate the other."""

    def __init__(self, channels: int, expansion: int = 4) -> None:
        """``expansion`` times the channels inside."""
        super().__init__()
        hidden = expansion * channels
        self.widen = nn.Conv2d(channels, 2 * hidden, kernel_size=1)
        self.local = nn.Conv2d(2 * hidden, 2 * hidden, kernel_size=3, padding=1, groups=2 * hidden)
        self.project = nn.Conv2d(hidden, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) to the same."""
        gate, value = self.local(self.widen(x)).chunk(2, dim=1)
        output: Tensor = self.project(F.gelu(gate) * value)
        return output


class SeparableAttentionLayer(nn.Module):
    """A transformer layer over channels."""

    def __init__(self, channels: int, heads: int) -> None:
        """Attention and feed-forward part, each after a norm and with a residual."""
        super().__init__()
        self.attention_norm = ChannelNorm(channels)
        self.attention = ChannelAttention(channels, heads)
        self.feed_norm = ChannelNorm(channels)
        self.feed = GatedFeedForward(channels)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(N, channels, h, w) to the same; the mask is (N, 1, h, w)."""
        x = x + self.attention(self.attention_norm(x), mask)
        output: Tensor = x + self.feed(self.feed_norm(x))
        return output


class MaskedSeparableAttention(nn.Module):
    """``x + conv3([background(x, 1 - m), foreground(x, m), everywhere(x)])``.

    No mask is a mask of ones. At the start x is unchanged. Masks get no gradient.
    """

    def __init__(self, channels: int, heads: int = 8) -> None:
        """Three layers with weights of their own.

        Raises:
            ValueError: the channels are no multiple of the heads.
        """
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be shared by {heads} heads.")
        self.foreground, self.background, self.everywhere = (
            SeparableAttentionLayer(channels, heads) for _ in range(3)
        )
        self.fuse = nn.Conv2d(3 * channels, channels, kernel_size=3, padding=1)
        for each in self.fuse.parameters():
            nn.init.zeros_(each)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(N, channels, h, w) to the same; the mask is (N, 1, H, W) in [0, 1] or None."""
        size = x.shape[-2:]
        mask = x.new_ones(len(x), 1, *size) if mask is None else mask_at(mask.detach(), size)
        parts = [
            self.background(x, 1 - mask),
            self.foreground(x, mask),
            self.everywhere(x, None),
        ]
        output: Tensor = x + self.fuse(torch.cat(parts, dim=1))
        return output
