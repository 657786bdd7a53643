"""Plane sweep: how well sources agree with a reference photo at each inverse depth.

Maps are (h, w) of the reference, volumes (d, h, w) over d inverse depths; everything runs on the
device of its arguments, in float32. The similarity is the zero-normalised cross-correlation of
windows, +1 = equal up to gain and offset, 0 = no evidence, which is why it may be averaged with
weights (spec 2.2) where a cost may not.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from crispdepth.geometry.warp import PixelTransfer
from crispdepth.types import Size

EPSILON = 1e-5
"""Added to sums of weights before they divide; 1e-8 would be 0 in half precision (spec 0.17)."""

NOISE = 0.003
"""Standard deviation of grey values, 0..1, at which a window counts as half textureless."""

_BEHIND = 1e-6  # z-depth in the source over that in the reference up to which it is behind
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

    # Each is (d, h, w), and 0 at pixels in whose windows nothing weighs anything, if something does
    # in others.
    similarity: Tensor  # in [-1, 1]; 0 where no source sees anything
    evidence: Tensor  # the mean weight of the sources, in [0, 1]
    outside: Tensor  # of the sources that see it and carve, the share beside the object


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
    in_front = z > _BEHIND
    scale = in_front / z.clamp_min(_BEHIND)
    u, v = u * scale, v * scale
    within = (u >= 0) & (u <= source_size[1]) & (v >= 0) & (v <= source_size[0])
    return Projection(u, v, z, in_front & within)


def sample(image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Bilinear values (c, d, h, w) of an image (c, h_s, w_s) at pixels (d, h, w).

    Beyond its border the image is continued.
    """
    # Pixel centres are at +0.5 here and in grid_sample without align_corners.
    return _bilinear(image, x * (2 / image.shape[2]) - 1, y * (2 / image.shape[1]) - 1)


def _bilinear(image: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """`sample` at places in [-1, 1] of the frame."""
    grid = torch.view_as_real(torch.complex(u, v))  # stacking takes several times as long on a CPU
    found = F.grid_sample(
        image[None],
        grid.reshape(1, -1, u.shape[-1], 2),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return found.reshape(-1, *u.shape)


def warp(
    layers: Tensor, pixels: PixelTransfer, inverse_depth: Tensor, x: Tensor, y: Tensor
) -> tuple[Tensor, Tensor]:
    """A source as the reference sees it: `sample` where `project` says, in half the steps.

    Gradients reach the layers, not the depths.

    Args:
        layers: (c, h_s, w_s) of the source.
        pixels: how the source sees the pixels of the reference.
        inverse_depth: (d, ...) >= 0.
        x, y: pixels of the reference, centres at +0.5; all three together have the shape s.

    Returns:
        (c, *s), and s, 1 in front of the source and in its frame, else 0.
    """
    height, width = layers.shape[1:]
    frame = np.array([[2 / width, 0, -1], [0, 2 / height, -1], [0, 0, 1]])  # to [-1, 1]
    A, b = (torch.as_tensor(frame @ part).to(inverse_depth) for part in pixels)
    u, v, z = (A[i, 0] * x + A[i, 1] * y + A[i, 2] + inverse_depth * b[i] for i in range(3))
    scale = z.clamp_min(_BEHIND).reciprocal_()
    u, v = u.mul_(scale), v.mul_(scale)
    found = _bilinear(layers, u, v)
    # Comparing and booleans take several times as long as arithmetic on a CPU.
    within = 1 - torch.maximum(u.abs_(), v.abs_())
    inside = torch.minimum(within, z.sub_(_BEHIND)).sign_().clamp_min_(0)
    return found, inside


def box_sum(values: Tensor, radius: int) -> Tensor:
    """Sums over windows of (2 radius + 1)^2 pixels, beyond the frame 0.

    Args:
        values: (n, h, w), finite.
        radius: >= 1.
    """
    side = 2 * radius + 1
    if values.device.type == "cpu" and values.dtype == torch.float32 and not values.requires_grad:
        sums = torch.empty_like(values, memory_format=torch.contiguous_format)
        for plane, total in zip(values.numpy(), sums.numpy(), strict=True):
            cv2.boxFilter(
                plane, -1, (side, side), total, normalize=False, borderType=cv2.BORDER_CONSTANT
            )
        return sums
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
        own = self._grey if weight is None else self._grey * weight
        sums = box_sum(torch.stack((own, own * self._grey)), radius)
        self.pixels: Tensor | None = None
        """(n,) numbers of those in whose windows something weighs anything; None: all, or none."""
        if weight is not None:
            there = (box_sum((weight > 0).float()[None], radius) > 0.5).flatten().nonzero()[:, 0]
            self.pixels = there if len(there) else None
        self._mean, second = sums * self._per_total
        self._spread = (second - self._mean**2).clamp_min(0) + NOISE**2

    def similarity(self, warped: Tensor) -> Tensor:
        """The correlation of every window with the same window of warped sources, (d, h, w)."""
        about = warped - self._offset
        counted = about if self._weight is None else about * self._weight
        mean, second, mixed = (
            box_sum(values, self._radius).mul_(self._per_total)
            for values in (counted, counted * about, counted * self._grey)
        )
        variance = second.sub_(mean * mean).clamp_min_(0)
        covariance = mixed.sub_(mean * self._mean)
        return covariance.mul_(variance.add_(NOISE**2).mul_(self._spread).rsqrt_())


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
    depths, (height, width), chosen = len(inverse_depth), size, windows.pixels
    device = inverse_depth.device
    x = torch.arange(width, device=device) + 0.5
    y = (torch.arange(height, device=device) + 0.5)[:, None]
    rho = inverse_depth.reshape(-1, 1, 1) if inverse_depth.ndim == 1 else inverse_depth
    where = None
    if chosen is not None:  # the others have nothing to compare
        x, y = chosen % width + 0.5, chosen.div(width, rounding_mode="floor") + 0.5
        rho = rho.flatten(1)
        rho = rho if inverse_depth.ndim == 1 else rho[:, chosen]
        where = chosen.expand(depths, -1)

    def as_map(values: Tensor) -> Tensor:
        if where is None:
            return values
        return values.new_zeros(depths, height * width).scatter(1, where, values).view(-1, *size)

    shape = (depths, *size) if where is None else where.shape
    total, votes, evidence, kept, seen = (torch.zeros(shape, device=device) for _ in range(5))
    for source in sources:
        layers = [source.grey] if source.weight is None else [source.grey, source.weight]
        warped, inside = warp(torch.stack(layers), source.pixels, rho, x, y)
        weight = inside if source.weight is None else warped[1] * inside
        one = windows.similarity(as_map(warped[0]))
        if chosen is not None:
            one = one.flatten(1).index_select(1, chosen)
        vote = weight * (sharpness * one).exp_()
        total.addcmul_(vote, one)
        votes += vote
        evidence += weight
        if source.weight is not None and source.carves:
            kept += weight
            seen += inside
    similarity = total.div_(votes.add_(EPSILON))
    outside = (seen - kept).div_(seen.add_(EPSILON))
    return Agreement(*map(as_map, (similarity, evidence.div_(len(sources)), outside)))


def chunks(depths: int, size: Size) -> Iterator[slice]:
    """Parts of a sweep that bound its memory."""
    step = max(1, _BATCH // (size[0] * size[1]))
    return (slice(start, min(start + step, depths)) for start in range(0, depths, step))
