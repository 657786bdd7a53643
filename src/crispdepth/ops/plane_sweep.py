"""Plane sweep: how well sources agree with a reference photo at each inverse depth.

Maps are (h, w) of the reference, volumes (d, h, w) over d inverse depths; everything runs on the
device of its arguments, in float32. The similarity is the zero-normalised cross-correlation of
windows, +1 = equal up to gain and offset, 0 = no evidence, which is why it may be averaged with
weights (spec 2.2) where a cost may not.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from crispdepth.geometry.warp import PixelTransfer
from crispdepth.types import Size

EPSILON = 1e-5
"""Added to sums of weights before they divide; 1e-8 would be 0 in half precision (spec 0.17)."""

NOISE = 0.003
"""Standard deviation of grey values, 0..1, at which a window counts as half textureless."""

_BATCH = 1 << 18  # pixels times inverse depths that are warped at once


@dataclass(frozen=True)
class Source:
    """What is compared with the reference."""

    grey: Tensor  # (h_s, w_s) in [0, 1]
    pixels: PixelTransfer  # of the reference's pixels
    weight: Tensor | None = None  # (h_s, w_s) in [0, 1]: how much each pixel may say; None: 1
    carves: bool = False  # whether what lies beside the weights is known not to be the object


@dataclass(frozen=True)
class Agreement:
    """The similarities of several sources as one, and how much evidence there is."""

    similarity: Tensor  # (d, h, w) in [-1, 1]; 0 where no source sees anything
    evidence: Tensor  # (d, h, w): the mean weight of the sources, in [0, 1]
    outside: Tensor  # (d, h, w): of the sources that see it and carve, the share beside the object


class Projection(NamedTuple):
    """Where a source sees the pixels of a reference, (d, h, w) each."""

    x: Tensor  # source pixels, centres at +0.5; 0 behind the source
    y: Tensor
    stretch: Tensor  # z-depth in the source over z-depth in the reference
    inside: Tensor  # bool: in front of the source and in its frame


def project(
    pixels: PixelTransfer, inverse_depth: Tensor, size: Size, source_size: Size
) -> Projection:
    """Where a source sees the pixels of a reference at these inverse depths.

    Args:
        pixels: how the source sees the pixels of the reference.
        inverse_depth: (d,) planes or (d, h, w) per pixel, >= 0.
        size: (h, w) of the reference.
        source_size: (h, w) of the source.
    """
    height, width = size
    device = inverse_depth.device
    A, b = (torch.as_tensor(part).to(inverse_depth) for part in pixels)
    x = torch.arange(width, device=device) + 0.5
    y = (torch.arange(height, device=device) + 0.5)[:, None]
    rho = inverse_depth.reshape(-1, 1, 1) if inverse_depth.ndim == 1 else inverse_depth
    u, v, z = (A[i, 0] * x + A[i, 1] * y + A[i, 2] + rho * b[i] for i in range(3))
    in_front = z > 1e-6
    scale = in_front / torch.where(in_front, z, torch.ones_like(z))
    u, v = u * scale, v * scale
    within = (u >= 0) & (u <= source_size[1]) & (v >= 0) & (v <= source_size[0])
    return Projection(u, v, z, in_front & within)


def sample(image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Bilinear values (c, d, h, w) of an image (c, h_s, w_s) at pixels (d, h, w).

    Beyond its border the image is continued.
    """
    # Pixel centres are at +0.5 here and in grid_sample without align_corners.
    grid = torch.stack((x * (2 / image.shape[2]) - 1, y * (2 / image.shape[1]) - 1), dim=-1)
    found = F.grid_sample(
        image[None],
        grid.reshape(1, -1, x.shape[-1], 2),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return found.reshape(-1, *x.shape)


def box_sum(values: Tensor, radius: int) -> Tensor:
    """Sums over windows of (2 radius + 1)^2 pixels, beyond the frame 0; (n, h, w)."""
    side = 2 * radius + 1
    for axis in (2, 1):  # several times as fast as avg_pool2d on a CPU
        length = values.shape[axis]
        padded = F.pad(values, (radius, radius) if axis == 2 else (0, 0, radius, radius))
        values = padded.narrow(axis, 0, length) + padded.narrow(axis, 1, length)
        for shift in range(2, side):
            values += padded.narrow(axis, shift, length)
    return values


class Windows:
    """The windows of a reference photo, ready to be compared with warped sources.

    A window counts its pixels by ``weight`` (the mask of the reference), so that what lies beside
    the mask has no influence inside it.
    """

    def __init__(self, grey: Tensor, weight: Tensor | None, radius: int) -> None:
        """Take (h, w) grey values in [0, 1] and (h, w) weights in [0, 1] (None: 1), radius >= 1."""
        self._radius = radius
        self._offset = grey.mean()  # variances of values about 0 lose less to rounding
        self._grey = grey - self._offset
        self._weight = weight
        ones = torch.ones_like(grey) if weight is None else weight
        self._per_total = 1 / (box_sum(ones[None], radius) + (0 if weight is None else EPSILON))
        self._mean = self._average(self._grey[None])
        self._variance = (self._average(self._grey[None] ** 2) - self._mean**2).clamp_min_(0)

    def similarity(self, warped: Tensor) -> Tensor:
        """The correlation of every window with the same window of warped sources, (d, h, w)."""
        warped = warped - self._offset
        mean = self._average(warped)
        variance = self._average(warped * warped).addcmul_(mean, mean, value=-1).clamp_min_(0)
        covariance = self._average(warped * self._grey).addcmul_(mean, self._mean, value=-1)
        spread = variance.add_(NOISE**2).mul_(self._variance + NOISE**2)
        return covariance.mul_(spread.rsqrt_())

    def _average(self, values: Tensor) -> Tensor:
        if self._weight is not None:
            values = values * self._weight
        return box_sum(values, self._radius).mul_(self._per_total)


def compare(
    windows: Windows,
    sources: Sequence[Source],
    inverse_depth: Tensor,
    size: Size,
    sharpness: float,
) -> Agreement:
    """Sum up how sources agree with the reference at each inverse depth.

    ``C(p, d) = sum_i w_i C_i / (sum_i w_i + eps)`` with ``w_i = in frame * warped mask *
    exp(sharpness * C_i)`` (spec 2.2): a source in which the point is hidden disagrees and so has
    little to say; 0 is the plain mean. The order of sources does not matter.

    Args:
        windows: of the reference.
        sources: one or more.
        inverse_depth: (d,) planes or (d, h, w).
        size: (h, w) of the reference.
        sharpness: >= 0.

    Raises:
        ValueError: there is no source.
    """
    if not sources:
        raise ValueError("There is no source to compare with.")
    volume = (len(inverse_depth), *size)
    total, votes, evidence, beside, seen = (
        torch.zeros(volume, device=inverse_depth.device) for _ in range(5)
    )
    for source in sources:
        layers = [source.grey] if source.weight is None else [source.grey, source.weight]
        there = project(source.pixels, inverse_depth, size, _size(source.grey))
        warped = sample(torch.stack(layers), there.x, there.y)
        weight = there.inside.to(warped.dtype)
        one = windows.similarity(warped[0])
        if source.weight is not None:
            if source.carves:
                beside = beside + weight * (1 - warped[1])
                seen = seen + weight
            weight = weight * warped[1]
        vote = weight * torch.exp(sharpness * one)
        total, votes, evidence = total + vote * one, votes + vote, evidence + weight
    similarity, outside = total / (votes + EPSILON), beside / (seen + EPSILON)
    return Agreement(similarity, evidence / len(sources), outside)


def chunks(depths: int, size: Size) -> Iterator[slice]:
    """Parts of a sweep that bound its memory."""
    step = max(1, _BATCH // (size[0] * size[1]))
    return (slice(start, min(start + step, depths)) for start in range(0, depths, step))


def _size(image: Tensor) -> Size:
    height, width = image.shape
    return height, width
