"""Correlation of a reference's features with those of a source at many inverse depths.

On a CPU a bilinear sample is a weighted sum of four rows of a table (pixels, channels), which
`embedding_bag` reads channels together: several times as fast as `grid_sample`, and only a few
planes exist at a time, in the gradient too. Elsewhere, and as the twin that tests compare with,
the same sum in plain operators.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from crispdepth.ops.plane_sweep import Projection
from crispdepth.types import Size

_SAMPLES = 1 << 16  # samples at once


def correlate(reference: Tensor, source: Tensor, where: Projection, groups: int = 1) -> Tensor:
    """``C(p, d) = <F_ref(p), F_src(pi(p, d))> / sqrt(C / G)`` in each group of channels.

    One group is the correlation of DepthSplat (spec 1.6), several that of group-wise networks up
    to a constant. It is computed in float32 whatever autocast says, and differentiable in both
    features, not in ``where``. Samples beyond the source's frame repeat its border: their weight
    must be 0 (``where.inside``).

    Args:
        reference: (N, C, h, w).
        source: (N, C, h_s, w_s).
        where: (N, D, h, w), where the source sees the reference's pixels.
        groups: G, divides C.

    Returns:
        (N, G, D, h, w) float32.

    Raises:
        ValueError: the channels differ or are not divided by ``groups``.
    """
    channels = reference.shape[1]
    if source.shape[1] != channels or channels % groups:
        raise ValueError(
            f"Features of {channels} and {source.shape[1]} channels cannot be correlated in "
            f"{groups} groups: the channels have to be equal and divided by the groups."
        )
    with torch.autocast(reference.device.type, enabled=False):
        features = reference.float(), source.float()
        if reference.device.type != "cpu":
            return correlate_plainly(*features, where, groups)
        run: Callable[..., Tensor] = _Correlation.apply
        return run(*features, where.x, where.y, groups)


def correlate_plainly(
    reference: Tensor, source: Tensor, where: Projection, groups: int = 1
) -> Tensor:
    """`correlate` of float32 features with `grid_sample`, plane by plane."""
    split = torch.unflatten(reference, 1, (groups, -1))
    planes = [
        (split * torch.unflatten(sampled(source, x, y), 1, (groups, -1))).sum(dim=2)
        for x, y in zip(where.x.unbind(1), where.y.unbind(1), strict=True)
    ]
    costs: Tensor = torch.stack(planes, dim=2) / float(split.shape[2]) ** 0.5
    return costs


def sampled(image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Bilinear values (N, C, h, w) of an image (N, C, h_s, w_s) at pixels (N, h, w).

    Pixel centres are at +0.5; beyond its border the image is continued.
    """
    grid = torch.stack((x * (2 / image.shape[3]) - 1, y * (2 / image.shape[2]) - 1), dim=-1)
    return F.grid_sample(image, grid, padding_mode="border", align_corners=False)


class _Correlation(torch.autograd.Function):
    """Nothing but the inputs is kept for the gradient."""

    @staticmethod
    def forward(
        ctx: Any, reference: Tensor, source: Tensor, x: Tensor, y: Tensor, groups: int
    ) -> Tensor:
        ctx.save_for_backward(reference, source, x, y)
        ctx.groups = groups
        (number, channels, *size), depths = reference.shape, x.shape[1]
        pixels = size[0] * size[1]
        in_group = torch.eye(groups).repeat_interleave(channels // groups, dim=1)
        in_group = in_group / (channels // groups) ** 0.5
        costs = reference.new_empty(number, groups, depths, pixels)
        step = max(1, _SAMPLES // pixels)
        for n in range(number):
            rows, table = _rows(reference[n]), _rows(source[n])
            for start in range(0, depths, step):
                part = slice(start, start + step)
                index, weight = _taps(x[n, part].flatten(), y[n, part].flatten(), _size(source))
                found = F.embedding_bag(index, table, mode="sum", per_sample_weights=weight)
                found.view(-1, pixels, channels).mul_(rows)
                costs[n, :, part] = (in_group @ found.t()).view(groups, -1, pixels)
        return costs.view(number, groups, depths, *size)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The samples are read again, a few planes at a time."""
        reference, source, x, y = ctx.saved_tensors
        (number, channels, *size), depths = reference.shape, x.shape[1]
        pixels = size[0] * size[1]
        each = channels // ctx.groups
        to_reference, to_source = torch.empty_like(reference), torch.empty_like(source)
        step = max(1, _SAMPLES // pixels)
        for n in range(number):
            rows, table = _rows(reference[n]), _rows(source[n]).requires_grad_()
            gradient = gradients[0][n].flatten(2) / each**0.5
            per_row, per_entry = torch.zeros_like(rows), torch.zeros_like(table)
            for start in range(0, depths, step):
                part = slice(start, start + step)
                index, weight = _taps(x[n, part].flatten(), y[n, part].flatten(), _size(source))
                # (planes, pixels, channels): what each sample's correlation counts
                counts = gradient[:, part].permute(1, 2, 0).repeat_interleave(each, dim=2)
                with torch.enable_grad():
                    found = F.embedding_bag(index, table, mode="sum", per_sample_weights=weight)
                seen = found.detach().view(-1, pixels, channels)
                per_row += (seen * counts).sum(dim=0)
                per_entry += torch.autograd.grad(found, table, (counts * rows).view_as(found))[0]
            to_reference[n] = per_row.t().view(channels, *size)
            to_source[n] = per_entry.t().view_as(source[n])
        return to_reference, to_source, None, None, None


def _size(image: Tensor) -> Size:
    height, width = image.shape[-2:]
    return height, width


def _rows(image: Tensor) -> Tensor:
    return image.flatten(1).t().contiguous()


def _taps(x: Tensor, y: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """The four entries of a table of an image that a bilinear sample reads, and their weights.

    Args:
        x, y: (n,) pixels, centres at +0.5.
        size: (h, w) of the image.

    Returns:
        (n, 4) int32 and (n, 4) float.
    """
    height, width = size
    u, v = (x - 0.5).clamp_(0, width - 1), (y - 0.5).clamp_(0, height - 1)
    left = u.floor().clamp_(max=max(width - 2, 0))
    top = v.floor().clamp_(max=max(height - 2, 0))
    u, v = u.sub_(left), v.sub_(top)
    first = left.add_(top, alpha=width).int()  # embedding_bag reads these several times as fast
    right, below = min(1, width - 1), width if height > 1 else 0
    index = torch.stack((first, first + right, first + below, first + (below + right)), dim=-1)
    both = u * v
    v.sub_(both)
    return index, torch.stack((1 - u - v, u - both, v, both), dim=-1)
