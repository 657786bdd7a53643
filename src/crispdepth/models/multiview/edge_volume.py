"""Edges of the photos as a second cost volume, and how the two become one (spec 2.7)."""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_EPSILON = 1e-6  # the gradient of a square root at 0 is infinite


def antisymmetric(kernel: Tensor) -> Tensor:
    """The nearest kernels (..., k, k) that are odd along x and even along y.

    A projection: its sum is 0, so that constants give 0, and it leaves Sobel's kernel as it is.
    """
    odd = kernel - kernel.flip(-1)
    return (odd + odd.flip(-2)) / 4


class LearnedSobel(nn.Module):
    """Derivatives by a learned 3x3 kernel that always is a derivative, at the start Sobel's."""

    def __init__(self) -> None:
        """One kernel for both axes and all channels."""
        super().__init__()
        sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
        self.weight = nn.Parameter(sobel)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """d/dx and d/dy (N, C, H, W) of images (N, C, H, W), which beyond the frame go on."""
        kernel = antisymmetric(self.weight)
        channels = image.shape[1]
        both = torch.stack((kernel, kernel.t()))[:, None].repeat(channels, 1, 1, 1)
        padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
        found = F.conv2d(padded, both, groups=channels)
        return found[:, ::2], found[:, 1::2]


class EdgeFeatures(nn.Module):
    """Features of edges: EG-MVSNet's second network, with a learned derivative.

    The input is the photo and the sum over its channels of the norms of the gradients of the
    photo smoothed by a Gaussian of 1 pixel.
    """

    def __init__(self, channels: int = 16, stride: int = 4) -> None:
        """``channels`` of the features at 1 / ``stride`` of the size, a power of two."""
        super().__init__()
        self.sobel = LearnedSobel()
        tap = torch.exp(-0.5 * torch.arange(-2.0, 3) ** 2)
        self.register_buffer("gaussian", tap / tap.sum(), persistent=False)
        self.gaussian: Tensor
        widths = [4] + [channels] * round(math.log2(stride))
        self.layers = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1),
                    nn.GroupNorm(math.gcd(8, after), after),
                    nn.ReLU(),
                )
                for before, after in pairwise(widths)
            ),
            nn.Conv2d(widths[-1], channels, kernel_size=3, padding=1),
        )

    def strength(self, images: Tensor) -> Tensor:
        """How much the images (N, C, H, W) change at each pixel, (N, 1, H, W) >= 0."""
        channels = images.shape[1]
        smooth = F.pad(images, (2, 2, 2, 2), mode="replicate")
        for shape in ((1, 1, 5, 1), (1, 1, 1, 5)):
            taps = self.gaussian.view(shape).expand(channels, *shape[1:])
            smooth = F.conv2d(smooth, taps, groups=channels)
        across, down = self.sobel(smooth)
        norm = (across.square() + down.square() + _EPSILON).sqrt() - _EPSILON**0.5
        strength: Tensor = norm.sum(dim=1, keepdim=True)
        return strength

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] to (N, channels, H / stride, W / stride)."""
        features: Tensor = self.layers(torch.cat((images, self.strength(images)), dim=1))
        return features


class _VoxelGate(nn.Module):
    """``sigmoid(phi(V))`` of each voxel: 1x1x1 convolutions with a residual of half the way."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(groups, 4, kernel_size=1)
        self.residual = nn.Sequential(nn.Conv3d(4, 4, kernel_size=1), nn.GroupNorm(1, 4), nn.ReLU())
        self.last = nn.Conv3d(4, 1, kernel_size=1)

    def forward(self, volume: Tensor) -> Tensor:
        hidden = self.first(volume)
        return torch.sigmoid(self.last(hidden + self.residual(hidden)))


class SumFusion(nn.Module):
    """``(1 + s(V)) V + (1 + s(E)) E`` of EG-MVSNet, blended in.

    ``V + gain ((1 + s(V)) V + (1 + s(E)) E - V)``: the gain starts at 0, where the edges say
    nothing; 1 is the published form.
    """

    def __init__(self, groups: int) -> None:
        """Take two volumes of ``groups``."""
        super().__init__()
        self.of_volume, self.of_edges = _VoxelGate(groups), _VoxelGate(groups)
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, volume: Tensor, edges: Tensor) -> Tensor:
        """(N, groups, D, h, w) each."""
        added = self.of_volume(volume) * volume + (1 + self.of_edges(edges)) * edges
        fused: Tensor = volume + self.gain * added
        return fused


class ConvexFusion(nn.Module):
    """``sigmoid(alpha) V + (1 - sigmoid(alpha)) E``, an alpha for each group.

    E is brought to the mean and spread of V first, of each reference: else alpha would compare
    their scales. It starts at alpha = 4: V to 98 %, not all of it, because at the end of a
    sigmoid nothing would be learned.
    """

    def __init__(self, groups: int, initial: float = 4.0) -> None:
        """Take two volumes of ``groups``."""
        super().__init__()
        self.alpha = nn.Parameter(torch.full((groups, 1, 1, 1), initial))

    def forward(self, volume: Tensor, edges: Tensor) -> Tensor:
        """(N, groups, D, h, w) each."""
        share = torch.sigmoid(self.alpha)
        return share * volume + (1 - share) * alike(edges, volume)


def alike(values: Tensor, other: Tensor) -> Tensor:
    """``values`` (N, ...) with the mean and the standard deviation of ``other`` for each of N.

    Constant values become the mean of the other.
    """
    inner = tuple(range(1, values.ndim))
    centred = values - values.mean(dim=inner, keepdim=True)
    spread = (centred.square().mean(dim=inner, keepdim=True) + _EPSILON).sqrt()
    mean = other.mean(dim=inner, keepdim=True)
    wanted = ((other - mean).square().mean(dim=inner, keepdim=True) + _EPSILON).sqrt()
    return mean + centred * (wanted / spread)
