"""Features of one photo at a quarter of its size, which both stages of VolumeFusion share."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crispdepth.models.multiview.monocular import standardised
from crispdepth.models.volume.config import StereoConfig

STRIDE = 4
"""Heights and widths of photos are multiples of this; pixels per cell of the features."""

POOLED = (32, 16, 8, 4)
"""Sides, in cells, of the windows whose means every cell is told."""


class FeatureExtractor(nn.Module):
    """Residual blocks and a pyramid of means, as in DPSNet (Im et al., ICLR 2019) and PSMNet."""

    def __init__(self, config: StereoConfig) -> None:
        """With fresh weights; of ``config`` channels, pyramid and blocks count (B.2)."""
        super().__init__()
        half, quarter, deep = config.pyramid
        at_half, at_quarter, wider, dilated = config.blocks
        self.stem = nn.Sequential(
            _conv(3, half, stride=2),
            nn.ReLU(inplace=True),
            _conv(half, half),
            nn.ReLU(inplace=True),
            _conv(half, half),
            nn.ReLU(inplace=True),
            *_stage(half, half, at_half),
        )
        self.quarter = nn.Sequential(*_stage(half, quarter, at_quarter, stride=2))
        self.deep = nn.Sequential(
            *_stage(quarter, deep, wider), *_stage(deep, deep, dilated, dilation=2)
        )
        self.means = nn.ModuleList(
            nn.Sequential(_conv(deep, half, kernel=1), nn.ReLU(inplace=True)) for _ in POOLED
        )
        self.merge = nn.Sequential(
            _conv(quarter + deep + len(POOLED) * half, deep),
            nn.ReLU(inplace=True),
            nn.Conv2d(deep, config.channels, 1, bias=False),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Features of photos in [0, 1].

        Args:
            images: (N, 3, H, W), sides multiples of `STRIDE`.

        Returns:
            (N, channels, H / 4, W / 4).

        Raises:
            ValueError: the sides are no multiples.
        """
        height, width = images.shape[-2:]
        if height % STRIDE or width % STRIDE:
            raise ValueError(
                f"Sides of photos must be multiples of {STRIDE}, got {height} x {width}; "
                "resize them and their cameras."
            )
        quarter = self.quarter(self.stem(standardised(images)))
        deep = self.deep(quarter)
        wide = [
            _spread(reduce(_pooled(deep, side)), side, deep)
            for reduce, side in zip(self.means, POOLED, strict=True)
        ]
        features: Tensor = self.merge(torch.cat((quarter, deep, *wide), dim=1))
        return features


class _Residual(nn.Module):
    """Two 3 x 3 convolutions around a shortcut."""

    def __init__(self, channels: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.change = nn.Sequential(
            _conv(channels, width, stride=stride, dilation=dilation),
            nn.ReLU(inplace=True),
            _conv(width, width, dilation=dilation),
        )
        self.stride = stride
        self.shortcut: nn.Module = nn.Identity()
        if channels != width or stride != 1:
            self.shortcut = _conv(channels, width, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        # Sampled before the 1 x 1 convolution, not by its stride: with that, the gradient by
        # oneDNN (torch 2.13, several threads, channels last, fewer than 16 of them) writes into
        # memory of others.
        sampled = x[..., :: self.stride, :: self.stride]
        y: Tensor = self.shortcut(sampled) + self.change(x)
        return y


def _stage(
    channels: int, width: int, blocks: int, *, stride: int = 1, dilation: int = 1
) -> list[nn.Module]:
    """Residual blocks, of which the first changes channels and size."""
    return [
        _Residual(width, width, 1, dilation)
        if number
        else _Residual(channels, width, stride, dilation)
        for number in range(blocks)
    ]


def _conv(
    channels: int, width: int, *, kernel: int = 3, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    """A convolution and batch normalisation."""
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel, stride, padding, dilation, bias=False),
        nn.BatchNorm2d(width),
    )


def _pooled(x: Tensor, side: int) -> Tensor:
    """Means over windows; those at the right and at the bottom may exceed the frame."""
    return F.avg_pool2d(x, side, ceil_mode=True, count_include_pad=False)


def _spread(means: Tensor, side: int, like: Tensor) -> Tensor:
    """Means of windows at the size of ``like``, between whose centres they are linear."""
    height, width = like.shape[-2:]
    full = [side * count for count in means.shape[-2:]]
    spread = F.interpolate(means, full, mode="bilinear", align_corners=False)
    return spread[..., :height, :width]
