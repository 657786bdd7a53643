"""The decoder and the head of DPT (Ranftl et al., *Vision Transformers for Dense Prediction*,
ICCV 2021), without batch normalisation, as its depth model has it.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class ResidualConv(nn.Module):
    """``x + conv(relu(conv(relu(x))))``."""

    def __init__(self, channels: int) -> None:
        """Both convolutions keep the number of ``channels``."""
        super().__init__()
        self.first = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.second = nn.Conv2d(channels, channels, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) to the same."""
        output: Tensor = x + self.second(F.relu(self.first(F.relu(x))))
        return output


class Fusion(nn.Module):
    """Adds a skip to what comes from the deeper level and doubles the size."""

    def __init__(self, channels: int, *, has_skip: bool) -> None:
        """The deepest level has no skip."""
        super().__init__()
        self.skip = ResidualConv(channels) if has_skip else None
        self.refine = ResidualConv(channels)
        self.project = nn.Conv2d(channels, channels, kernel_size=1)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """(B, channels, h, w) to (B, channels, 2h, 2w); ``skip`` has the size of ``x``."""
        if self.skip is not None:
            x = x + self.skip(skip)
        output: Tensor = self.project(doubled(self.refine(x)))
        return output


class Decoder(nn.Module):
    """Fuses the levels of an encoder from the deepest to the first."""

    def __init__(self, dims: Sequence[int], features: int) -> None:
        """``dims`` are the channels of the levels, ``features`` those of the decoder."""
        super().__init__()
        self.projections = nn.ModuleList(
            nn.Conv2d(dim, features, kernel_size=3, padding=1, bias=False) for dim in dims
        )
        last = len(dims) - 1
        self.fusions = nn.ModuleList(
            Fusion(features, has_skip=level != last) for level in range(len(dims))
        )

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Levels (B, dims[i], h / 2^i, w / 2^i) to (B, features, 2h, 2w)."""
        *skips, last = (project(x) for project, x in zip(self.projections, levels, strict=True))
        *fusions, deepest = self.fusions
        fused: Tensor = deepest(last)
        for fusion, skip in zip(reversed(fusions), reversed(skips), strict=True):
            fused = fusion(fused, skip)
        return fused


class Head(nn.Module):
    """From features at half resolution to the output maps at full resolution (DPT)."""

    def __init__(self, channels: int, widths: tuple[int, int], outputs: int) -> None:
        """``widths`` are the channels after the first and the second convolution."""
        super().__init__()
        self.first = nn.Conv2d(channels, widths[0], kernel_size=3, padding=1)
        self.second = nn.Conv2d(widths[0], widths[1], kernel_size=3, padding=1)
        self.last = nn.Conv2d(widths[1], outputs, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) to (B, outputs, 2h, 2w)."""
        output: Tensor = self.last(F.relu(self.second(doubled(self.first(x)))))
        return output


class SubpixelHead(nn.Module):
    """From features at half resolution to the output maps at full resolution, pixel by pixel.

    All convolutions work at half resolution, a quarter of the pixels, and the last one makes the
    four pixels of each (Shi et al., *Sub-pixel Convolution*, CVPR 2016).
    """

    def __init__(self, channels: int, widths: tuple[int, int], outputs: int) -> None:
        """``widths`` are the channels after the first and the second convolution."""
        super().__init__()
        self.first = nn.Conv2d(channels, widths[0], kernel_size=3, padding=1)
        self.second = nn.Conv2d(widths[0], widths[1], kernel_size=3, padding=1)
        self.last = nn.Conv2d(widths[1], 4 * outputs, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, h, w) to (B, outputs, 2h, 2w)."""
        x = F.relu(self.second(F.relu(self.first(x))))
        return F.pixel_shuffle(self.last(x), 2)


def doubled(x: Tensor) -> Tensor:
    """The map at twice the size, bilinear between its outermost pixel centres."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
