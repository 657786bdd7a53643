"""From depth at 1/2 to depth at full size, along the borders of masks and features."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crispdepth.models.multiview.config import MaskUse
from crispdepth.models.multiview.gates import MaskAttentionGate
from crispdepth.models.multiview.layers import zeroed

MASK_GUIDE = 6.0
"""How far inside and outside of a mask are apart for the guide: weights fall by exp(-18)."""


def guided_double(values: Tensor, coarse: Tensor | None, fine: Tensor | None) -> Tensor:
    """Twice the size, bilinear but for what the guide keeps apart.

    The normalised pixel-adaptive transposed convolution with the bilinear kernel (spec 2.15): of
    the four nearest coarse values each weighs its bilinear share times ``exp(-|f_i - f_j|^2 / 2)``.
    Without a guide, or a constant one, it is bilinear interpolation exactly.

    Args:
        values: (N, C, h, w).
        coarse: guide (N, F, h, w).
        fine: guide (N, F, 2 h, 2 w).
    """
    if coarse is None or fine is None:
        return F.interpolate(values, scale_factor=2, mode="bilinear", align_corners=False)
    height, width = values.shape[2:]
    # The four pixels of each coarse one: (N, F, 2, 2, h, w).
    fine = torch.unflatten(torch.unflatten(fine, 3, (width, 2)), 2, (height, 2))
    fine = fine.permute(0, 1, 3, 5, 2, 4)
    padded, guide = (F.pad(each, (1, 1, 1, 1), mode="replicate") for each in (values, coarse))
    parts = []
    for row in range(2):
        for column in range(2):
            logits, taps = [], []
            for down, far_row in ((1, False), (2 * row, True)):
                for right, far_column in ((1, False), (2 * column, True)):
                    there = (..., slice(down, down + height), slice(right, right + width))
                    share = (0.25 if far_row else 0.75) * (0.25 if far_column else 0.75)
                    apart = (fine[:, :, row, column] - guide[there]).square().sum(1) / 2
                    logits.append(math.log(share) - apart)
                    taps.append(padded[there])
            weight = torch.stack(logits, dim=1).softmax(dim=1)  # (N, 4, h, w)
            parts.append((torch.stack(taps, dim=2) * weight[:, None]).sum(dim=2))
    return F.pixel_shuffle(torch.stack(parts, dim=2).flatten(1, 2), 2)


class Guide(nn.Module):
    """Features at which `guided_double` tells surfaces apart."""

    def __init__(self, channels: int, width: int = 4) -> None:
        """``width`` features of ``channels``; almost equal ones in the beginning."""
        super().__init__()
        self.first = nn.Conv2d(channels, 2 * width, 3, padding=1)
        self.second = nn.Conv2d(2 * width, width, 1, bias=False)
        nn.init.normal_(self.second.weight, std=0.1)  # 0 would have no gradient

    def forward(self, maps: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Guides (N, F, h / 2, w / 2) and (N, F, h, w) of maps (N, channels, h, w) and masks."""
        fine = self.second(F.relu(self.first(maps)))
        if mask is not None:
            fine = torch.cat((fine, MASK_GUIDE * mask), dim=1)
        return F.avg_pool2d(fine, 2), fine


class Residual(nn.Module):
    """A correction of depth at full size, fused from coarse to fine as in DPT (spec 1.9)."""

    def __init__(self, widths: tuple[int, int, int], features: int, use: MaskUse) -> None:
        """``widths`` are the channels at 1/2, 1/4 and 1/8, each with the depth found there."""
        super().__init__()
        half, quarter, eighth = widths
        self.at_eighth = nn.Conv2d(eighth, features, 1)
        self.at_quarter = nn.Conv2d(quarter + 1, features, 3, padding=1)
        self.at_half = nn.Conv2d(half + 1, features, 3, padding=1)
        self.fuse_quarter = nn.Conv2d(features, features, 3, padding=1)
        self.fuse_half = nn.Conv2d(features, features, 3, padding=1)
        self.head = nn.Conv2d(features, features, 3, padding=1)
        self.leave = zeroed(nn.Conv2d(features, 4, 3, padding=1))
        self.gates = nn.ModuleList(
            MaskAttentionGate(features, features) for _ in range(2 * use.skip_gates)
        )

    def forward(
        self, half: Tensor, quarter: Tensor, eighth: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The correction (N, 1, H, W), and features (N, features, H / 2, W / 2).

        Args:
            half, quarter, eighth: maps, the first two with the depth found there.
            mask: (N, 1, H, W) of the reference in [0, 1]; None: ones.
        """
        x = F.interpolate(self.at_eighth(eighth), scale_factor=2, mode="bilinear")
        skip = self.at_quarter(quarter)
        x = F.relu(x + (self.gates[0](skip, mask, x) if self.gates else skip))
        x = F.relu(x + self.fuse_quarter(x))
        x = F.interpolate(x, scale_factor=2, mode="bilinear")
        skip = self.at_half(half)
        x = F.relu(x + (self.gates[1](skip, mask, x) if self.gates else skip))
        x = F.relu(x + self.fuse_half(x))
        return F.pixel_shuffle(self.leave(F.relu(self.head(x))), 2), x
