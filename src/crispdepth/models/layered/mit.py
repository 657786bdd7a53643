"""Mix Transformer levels (Xie et al., *SegFormer*, NeurIPS 2021): image features with attention.

A level halves or quarters the image by an overlapping patch embedding and runs transformer blocks
on it. There is no positional embedding, so any size works that the strides and the reduction of
the attention divide.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

MLP_RATIO = 4


class Attention(nn.Module):
    """Multi-head self-attention whose keys and values are reduced in space.

    ``softmax(q k^T / sqrt(dim / heads)) v`` with k and v from a smaller map.
    """

    def __init__(self, dim: int, heads: int, reduction: int) -> None:
        """The map of k and v is smaller by ``reduction`` on each side (1: not at all)."""
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.project = nn.Linear(dim, dim)
        self.reduce: nn.Conv2d | None = None
        if reduction > 1:
            self.reduce = nn.Conv2d(dim, dim, kernel_size=reduction, stride=reduction)
            self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Attend over ``x`` (B, h*w, dim), the tokens of a map of ``size`` (h, w)."""
        source = x
        if self.reduce is not None:
            source = self.norm(to_tokens(self.reduce(to_map(x, size))))
        query = self._split(self.query(x))
        key, value = (self._split(part) for part in self.key_value(source).chunk(2, dim=-1))
        # Written out: with so few keys torch's fused attention is two to five times slower on CPUs.
        products = (query * query.shape[-1] ** -0.5) @ key.transpose(2, 3)
        attended = products.softmax(dim=-1) @ value
        output: Tensor = self.project(attended.transpose(1, 2).flatten(2))
        return output

    def _split(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        split = x.reshape(batch, tokens, self.heads, dim // self.heads)
        return split.transpose(1, 2)  # (B, heads, tokens, dim / heads)


class MixFfn(nn.Module):
    """The feed-forward part, with a depthwise convolution that tells tokens where they are."""

    def __init__(self, dim: int) -> None:
        """It widens to `MLP_RATIO` times ``dim`` channels inside."""
        super().__init__()
        hidden = MLP_RATIO * dim
        # Pointwise convolutions are linear layers that need no reordering around `mix`.
        self.expand = nn.Conv2d(dim, hidden, kernel_size=1)
        self.mix = nn.Conv2d(hidden, hidden, kernel_size=3, padding=1, groups=hidden)
        self.shrink = nn.Conv2d(hidden, dim, kernel_size=1)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Transform ``x`` (B, h*w, dim), the tokens of a map of ``size`` (h, w)."""
        mixed = self.mix(self.expand(to_map(x, size)))
        return to_tokens(self.shrink(F.gelu(mixed)))


class DropPath(nn.Module):
    """Drops the whole residual branch of a sample while training (stochastic depth)."""

    def __init__(self, rate: float) -> None:
        """``rate`` is the probability of a drop, in [0, 1)."""
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (B, ...), or in training 0 with probability ``rate``, else ``x / (1 - rate)``."""
        if not self.training or self.rate == 0:
            return x
        kept = x.new_empty((len(x), *[1] * (x.ndim - 1))).bernoulli_(1 - self.rate)
        return x * (kept / (1 - self.rate))


class Block(nn.Module):
    """One transformer layer: attention, then feed-forward, each normalised before and added."""

    def __init__(self, dim: int, heads: int, reduction: int, drop_path: float) -> None:
        """``drop_path`` is the rate at which both parts drop while training."""
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim, eps=1e-6)
        self.attention = Attention(dim, heads, reduction)
        self.ffn_norm = nn.LayerNorm(dim, eps=1e-6)
        self.ffn = MixFfn(dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Transform ``x`` (B, h*w, dim), the tokens of a map of ``size`` (h, w)."""
        x = x + self.drop_path(self.attention(self.attention_norm(x), size))
        x = x + self.drop_path(self.ffn(self.ffn_norm(x), size))
        return x


class MitLevel(nn.Module):
    """One level of the encoder: overlapping patches, transformer blocks, LayerNorm."""

    def __init__(
        self,
        channels: int,
        dim: int,
        *,
        stride: int,
        heads: int,
        reduction: int,
        drop_paths: Sequence[float],
    ) -> None:
        """A level that reads ``channels`` and writes ``dim`` channels.

        Args:
            channels: of the input.
            dim: channels of the output.
            stride: of the patches, 4 or 2; they are ``2 * stride - 1`` pixels wide.
            heads: of the attention.
            reduction: of keys and values in space.
            drop_paths: rate of stochastic depth of each block; there are as many blocks.
        """
        super().__init__()
        kernel = 2 * stride - 1
        self.embed = nn.Conv2d(channels, dim, kernel, stride, padding=kernel // 2)
        self.embed_norm = nn.LayerNorm(dim)
        self.blocks = nn.ModuleList(Block(dim, heads, reduction, rate) for rate in drop_paths)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to (B, dim, H / stride, W / stride)."""
        x = self.embed(x)
        size = (x.shape[2], x.shape[3])
        x = self.embed_norm(to_tokens(x))
        for block in self.blocks:
            x = block(x, size)
        return to_map(self.norm(x), size)


def to_tokens(x: Tensor) -> Tensor:
    """(B, C, h, w) to (B, h*w, C)."""
    return x.flatten(2).transpose(1, 2)


def to_map(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, h*w, C) to (B, C, h, w) for ``size`` (h, w)."""
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], *size)


def _initialise(module: nn.Module) -> None:
    """Truncated normal of 0.02 for linear layers, Kaiming fan-out for convolutions (SegFormer)."""
    if not isinstance(module, nn.Linear | nn.Conv2d):
        return
    if isinstance(module, nn.Linear) or module.kernel_size == (1, 1):
        nn.init.trunc_normal_(module.weight, std=0.02)
    else:
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
        nn.init.normal_(module.weight, std=(2 * module.groups / fan_out) ** 0.5)
    assert module.bias is not None
    nn.init.zeros_(module.bias)
