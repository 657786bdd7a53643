"""Layers of volumes, which filter costs as well as signed distances.

Normalised by batches: in evaluation mode a value depends on its neighbourhood alone, not on where
a volume ends.
"""

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

STRIDE = 4
"""Cells of a volume to a cell at the bottom of an hourglass."""


class ConvBnReLU3d(nn.Sequential):
    """A convolution of 3 x 3 x 3, batch normalisation, and a ReLU unless it is switched off."""

    def __init__(self, channels: int, width: int, stride: int = 1, *, relu: bool = True) -> None:
        """From ``channels`` to ``width`` at ``1 / stride`` of the size, rounded up."""
        super().__init__(
            nn.Conv3d(channels, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm3d(width),
            *([nn.ReLU(inplace=True)] if relu else []),
        )


def fold_norms(network: nn.Module) -> None:
    """Put the norms that follow convolutions into their kernels, of these layers in a network.

    What it says stays the same up to rounding; it takes less time and memory, and cannot be
    trained any more.

    Args:
        network: in evaluation mode; it is changed.
    """
    for layer in list(network.modules()):
        if isinstance(layer, ConvBnReLU3d) and isinstance(norm := layer[1], nn.BatchNorm3d):
            assert isinstance(layer[0], nn.Conv3d)
            layer[0] = fuse_conv_bn_eval(layer[0], norm)
            layer[1] = nn.Identity()
        elif isinstance(layer, _Up) and isinstance(norm := layer.norm, nn.BatchNorm3d):
            layer.spread = fuse_conv_bn_eval(layer.spread, norm, transpose=True)
            layer.norm = nn.Identity()


class Hourglass3d(nn.Module):
    """Down twice to a quarter of the size, up again, with what was there added on each level.

    The shape of PSMNet's (Chang and Chen, CVPR 2018); each is complete, none reads the insides of
    the one before.
    """

    def __init__(self, width: int) -> None:
        """Of ``width`` channels at the full size, twice as many below."""
        super().__init__()
        self.to_half = nn.Sequential(
            ConvBnReLU3d(width, 2 * width, stride=2),
            ConvBnReLU3d(2 * width, 2 * width),
        )
        self.to_quarter = nn.Sequential(
            ConvBnReLU3d(2 * width, 2 * width, stride=2), ConvBnReLU3d(2 * width, 2 * width)
        )
        self.from_quarter = _Up(2 * width, 2 * width)
        self.from_half = _Up(2 * width, width)

    def forward(self, volume: Tensor) -> Tensor:
        """(N, width, D, H, W) of any size to the same."""
        half = self.to_half(volume)
        half = F.relu(half + self.from_quarter(self.to_quarter(half), half))
        rise: Tensor = self.from_half(half, volume)
        return volume + rise


class _Up(nn.Module):
    """A transposed convolution to twice the size and batch normalisation."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.spread = nn.ConvTranspose3d(channels, width, 3, stride=2, padding=1, bias=False)
        self.norm: nn.Module = nn.BatchNorm3d(width)

    def forward(self, volume: Tensor, like: Tensor) -> Tensor:
        """At the size of ``like``, of which each side is twice the volume's or one less."""
        up: Tensor = self.norm(self.spread(volume, output_size=list(like.shape[2:])))
        return up
