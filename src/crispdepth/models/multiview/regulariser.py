"""A 2-D U-Net that corrects the cost volume by what the reference shows (spec 1.7)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crispdepth.models.multiview.config import MaskUse
from crispdepth.models.multiview.gates import MaskAttentionGate, MaskLateral
from crispdepth.models.multiview.layers import zeroed

NORM_GROUPS = 8


class Block(nn.Module):
    """GroupNorm, SiLU and 3 x 3 convolution, twice, around a shortcut."""

    def __init__(self, channels: int, width: int) -> None:
        """From ``channels`` to ``width``, both multiples of 8."""
        super().__init__()
        self.first_norm = nn.GroupNorm(NORM_GROUPS, channels)
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.second_norm = nn.GroupNorm(NORM_GROUPS, width)
        self.second = zeroed(nn.Conv2d(width, width, 3, padding=1))
        self.shortcut = nn.Conv2d(channels, width, 1) if channels != width else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) to (N, width, h, w)."""
        y = self.first(F.silu(self.first_norm(x)))
        y = self.second(F.silu(self.second_norm(y)))
        output: Tensor = self.shortcut(x) + y
        return output


class Regulariser(nn.Module):
    """Residual logits of all planes from the logits and the features of the reference."""

    def __init__(self, planes: int, channels: int, width: int, use: MaskUse) -> None:
        """Reads ``planes`` logits and ``channels`` features."""
        super().__init__()
        self.enter = nn.Conv2d(planes + channels, width, 3, padding=1)
        self.top = Block(width, width)
        self.down = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.middle = Block(width, width)
        self.further = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.bottom = Block(width, width)
        self.up_middle = Block(2 * width, width)
        self.up_top = Block(2 * width, width)
        self.leave = zeroed(nn.Conv2d(width, planes, 3, padding=1))
        self.mask = MaskLateral(width) if use.regulariser else None
        self.gates = nn.ModuleList(
            MaskAttentionGate(width, width) for _ in range(2 * use.skip_gates)
        )

    def forward(self, logits: Tensor, features: Tensor, mask: Tensor | None) -> Tensor:
        """Residual logits (N, planes, h, w).

        Args:
            logits: (N, planes, h, w).
            features: (N, channels, h, w) of the reference.
            mask: (N, 1, h, w) of the reference in [0, 1]; None: ones.
        """
        x = self.enter(torch.cat((logits, features), dim=1))
        top = self.top(x if self.mask is None else self.mask(x, mask))
        middle = self.middle(self.down(top))
        bottom = self.bottom(self.further(middle))
        up = F.interpolate(bottom, size=middle.shape[2:], mode="nearest")
        middle = self.gates[0](middle, mask, up) if self.gates else middle
        middle = self.up_middle(torch.cat((up, middle), dim=1))
        up = F.interpolate(middle, size=top.shape[2:], mode="nearest")
        top = self.gates[1](top, mask, up) if self.gates else top
        top = self.up_top(torch.cat((up, top), dim=1))
        change: Tensor = self.leave(F.silu(top))
        return change
