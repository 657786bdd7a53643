"""Where a mask takes hold of features: it damps them, is added to them, or shuts a skip.

Each part changes nothing as long as its own weights are those it starts with, whatever the mask;
and nothing where a mask is 1 everywhere, whatever the weights. So a network without masks is this
network with masks of ones or None, and its weights fit. What a mask says is therefore always put
as ``[1 - m, |grad m|]``, which is 0 for a mask of ones, and goes through layers without a bias.

A gate is ``tanh z`` without its negative part where the literature has a sigmoid, which is never
quite shut; z is 0 at the start, where the gradient passes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crispdepth.ops.pac import gradient_magnitude

FLOOR = 0.1
"""What a shut skip still lets through, so that no feature is lost to a wrong mask."""


def mask_at(mask: Tensor, size: Sequence[int]) -> Tensor:
    """A mask (N, 1, H, W) averaged over the areas of the cells of a map of ``size``."""
    if mask.shape[-2:] == tuple(size):
        return mask
    return F.interpolate(mask, list(size), mode="area")


def mask_evidence(mask: Tensor, size: Sequence[int]) -> Tensor:
    """``[1 - m, |grad m|]`` at a size, (N, 2, h, w): 0 where the mask is 1 all around."""
    mask = mask_at(mask, size)
    return torch.cat([1 - mask, gradient_magnitude(mask)], dim=1)


class SoftGate(nn.Module):
    """``y = x (1 - g (1 - m))``, g from features and mask: what is outside is damped (2.14).

    y lies between ``x m`` and x. It belongs before a normalisation over the map, which would
    scale it up again, only if that is wanted.
    """

    def __init__(self, channels: int) -> None:
        """A gate for each of the ``channels``, shut at the start."""
        super().__init__()
        self.gate = nn.Conv2d(channels + 1, channels, kernel_size=1)
        for each in self.gate.parameters():
            nn.init.zeros_(each)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(N, channels, h, w) to the same; the mask is (N, 1, H, W) in [0, 1] or None."""
        if mask is None:
            return x
        mask = mask_at(mask, x.shape[-2:])
        gate = _opened(self.gate(torch.cat([x, mask.to(x.dtype)], dim=1)))
        return x * (1 - gate * (1 - mask))


class MaskLateral(nn.Module):
    """Adds features of the mask and of its border to those of a level of a pyramid."""

    def __init__(self, channels: int, hidden: int = 16) -> None:
        """Two convolutions with ``hidden`` channels between them; the second starts at 0."""
        super().__init__()
        self.first = nn.Conv2d(2, hidden, kernel_size=3, padding=1, bias=False)
        self.last = nn.Conv2d(hidden, channels, kernel_size=1, bias=False)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(N, channels, h, w) to the same; the mask is (N, 1, H, W) in [0, 1] or None."""
        if mask is None:
            return x
        added: Tensor = self.last(F.gelu(self.first(mask_evidence(mask, x.shape[-2:]))))
        return x + added


class MaskAttentionGate(nn.Module):
    """Shuts a skip or a level of a reassembly where features and mask say so (2.16).

    ``y = x (floor + (1 - floor) a)``, with ``a = 1 - g`` the attention of one channel and
    ``g = tanh(psi ReLU(theta x + phi d + mu e) - psi ReLU(theta x + phi d))``: the additive gate
    of Attention U-Net (Oktay et al., 2018), less what it says without the evidence e of the mask.
    It works at the resolution of x, for the mask is sharp there.
    """

    def __init__(self, channels: int, decoder_channels: int = 0, floor: float = FLOOR) -> None:
        """A gate of ``channels // 2`` channels inside, open at the start.

        Args:
            channels: of x.
            decoder_channels: of d, the features that the skip is joined with; 0: there are none.
            floor: in [0, 1], how much a shut gate lets through.
        """
        super().__init__()
        hidden = max(1, channels // 2)
        self.floor = floor
        self.theta = nn.Conv2d(channels, hidden, kernel_size=1)
        self.phi: nn.Conv2d | None = None
        if decoder_channels:
            self.phi = nn.Conv2d(decoder_channels, hidden, kernel_size=1, bias=False)
        self.mu = nn.Conv2d(2, hidden, kernel_size=1, bias=False)
        self.psi = nn.Conv2d(hidden, 1, kernel_size=1, bias=False)
        nn.init.zeros_(self.mu.weight)

    def forward(self, x: Tensor, mask: Tensor | None, decoder: Tensor | None = None) -> Tensor:
        """(N, channels, h, w) to the same.

        Args:
            x: the skip.
            mask: (N, 1, H, W) in [0, 1], or None.
            decoder: (N, decoder_channels, h', w'), of any size; needed if there are any channels.
        """
        return x if mask is None else x * self.opening(x, mask, decoder)

    def opening(self, x: Tensor, mask: Tensor, decoder: Tensor | None = None) -> Tensor:
        """What is let through, (N, 1, h, w) in [floor, 1]."""
        size = x.shape[-2:]
        without = self.theta(x)
        if self.phi is not None and decoder is not None:
            without = without + F.interpolate(self.phi(decoder), size, mode="bilinear")
        noticed = F.relu(without + self.mu(mask_evidence(mask, size))) - F.relu(without)
        return 1 - (1 - self.floor) * _opened(self.psi(noticed))


def _opened(z: Tensor) -> Tensor:
    return torch.tanh(z).clamp(min=0)  # the derivative of a clamp at its bound is 1, of ReLU 0
