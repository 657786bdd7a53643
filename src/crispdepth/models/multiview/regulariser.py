"""A 2-D U-Net that corrects the cost volume by what the reference shows (spec 1.7)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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

    def __init__(self, planes: int, channels: int, width: int) -> None:
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

    def forward(self, logits: Tensor, features: Tensor) -> Tensor:
        """(N, planes, h, w) and (N, channels, h, w) to residual logits (N, planes, h, w)."""
        top = self.top(self.enter(torch.cat((logits, features), dim=1)))
        middle = self.middle(self.down(top))
        bottom = self.bottom(self.further(middle))
        up = F.interpolate(bottom, size=middle.shape[2:], mode="nearest")
        middle = self.up_middle(torch.cat((up, middle), dim=1))
        up = F.interpolate(middle, size=top.shape[2:], mode="nearest")
        top = self.up_top(torch.cat((up, top), dim=1))
        change: Tensor = self.leave(F.silu(top))
        return change
