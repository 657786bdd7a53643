"""Features of each view alone, at 1/2, 1/4 and 1/8 of its size."""

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from crispdepth.models.multiview.adaptive import AdaptiveResidual
from crispdepth.models.multiview.config import MaskUse
from crispdepth.models.multiview.gates import MaskLateral, SoftGate
from crispdepth.models.multiview.monocular import standardised


class Levels(NamedTuple):
    """Maps (N, C_i, H / 2^i, W / 2^i)."""

    half: Tensor
    quarter: Tensor
    eighth: Tensor


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions, each with instance normalisation, around a shortcut (spec 1.4)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        """From ``channels`` to ``width`` at ``1 / stride`` of the size."""
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        changes = channels != width or stride != 1
        self.shortcut = nn.Conv2d(channels, width, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) to (N, width, h / stride, w / stride)."""
        y = F.relu(F.instance_norm(self.first(x)), inplace=True)
        y = F.relu(F.instance_norm(self.second(y)), inplace=True)
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)), inplace=True)


class Pyramid(nn.Module):
    """The CNN encoder (spec 1.4, with widths of its own), told of masks where it is to be."""

    def __init__(self, widths: tuple[int, int, int], use: MaskUse) -> None:
        """``widths`` are the channels at 1/2, 1/4 and 1/8."""
        super().__init__()
        half, quarter, eighth = widths
        self.stem = nn.Conv2d(3, half, 5, stride=2, padding=2, bias=False)
        self.at_half = ResidualBlock(half, half, 1)
        self.at_quarter = nn.Sequential(
            ResidualBlock(half, quarter, 2), ResidualBlock(quarter, quarter, 1)
        )
        self.at_eighth = nn.Sequential(
            ResidualBlock(quarter, eighth, 2), ResidualBlock(eighth, eighth, 1)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        # These are made last: their first weights are not to be drawn anew.
        self.lateral = nn.ModuleList(map(MaskLateral, widths if use.lateral else ()))
        self.gates = nn.ModuleList(map(SoftGate, widths if use.gating else ()))
        self.adaptive = AdaptiveResidual(quarter) if use.pac else None

    def forward(self, images: Tensor, masks: Tensor | None) -> Levels:
        """Photos (N, 3, H, W) and masks (N, 1, H, W) in [0, 1]; H and W are multiples of 8."""
        x = F.relu(F.instance_norm(self.stem(standardised(images))), inplace=True)
        half = self._told(0, self.at_half(x), masks)
        quarter = self._told(1, self.at_quarter(half), masks)
        if self.adaptive is not None:
            quarter = self.adaptive(quarter, masks)
        return Levels(half, quarter, self._told(2, self.at_eighth(quarter), masks))

    def _told(self, level: int, x: Tensor, masks: Tensor | None) -> Tensor:
        for parts in (self.lateral, self.gates):
            x = parts[level](x, masks) if parts else x
        return x
