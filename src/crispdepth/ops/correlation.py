"""Correlation of a reference's features with those of a source at many inverse depths.

On a CPU a bilinear sample is a weighted sum of four rows of a table (pixels, channels), which
`embedding_bag` reads channels together: two to four times as fast as `grid_sample`, and only a few
planes exist at a time, in the gradient too. Elsewhere, and as the twin that tests compare with,
the same sum in plain operators.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from crispdepth.ops.plane_sweep import Projection
from crispdepth.types import Size

_SAMPLES = 1 << 15  # that are taken at once
_BLOCK = 256  # pixels whose gradients are found at once
_VALUES = 1 << 26  # that are sampled at once in plain operators


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
        x, y = where.x.detach(), where.y.detach()
        if reference.device.type != "cpu":
            return correlate_plainly(*features, where._replace(x=x, y=y), groups)
        run: Callable[..., Tensor] = _Correlation.apply
        return run(*features, x, y, groups)


def correlate_plainly(
    reference: Tensor, source: Tensor, where: Projection, groups: int = 1
) -> Tensor:
    """`correlate` of float32 features with `grid_sample`, as many planes at once as fit."""
    split = torch.unflatten(reference, 1, (groups, -1))[:, :, :, None]
    planes = max(1, _VALUES // reference.numel())
    costs = []
    parts = (torch.split(each, planes, dim=1) for each in (where.x, where.y))
    for x, y in zip(*parts, strict=True):
        found = sampled(source, x.flatten(1, 2), y.flatten(1, 2))
        found = torch.unflatten(torch.unflatten(found, 2, x.shape[1:3]), 1, (groups, -1))
        costs.append((split * found).sum(dim=2))
    return torch.cat(costs, dim=2) / math.sqrt(split.shape[2])


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
        (number, channels), depths = reference.shape[:2], x.shape[1]
        pixels = reference[0, 0].numel()
        in_group = torch.eye(groups).repeat_interleave(channels // groups, dim=1)
        in_group = in_group / math.sqrt(channels // groups)
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
        return costs.view(number, groups, depths, *_size(reference))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        reference, source, x, y = ctx.saved_tensors
        gradient = gradients[0] / math.sqrt(reference.shape[1] // ctx.groups)
        gradients_of = _gradients_by_matrix if ctx.groups == 1 else _gradients_by_sorting
        with torch.autocast("cpu", enabled=False):
            found = [
                gradients_of(_rows(own), _rows(other), u, v, upstream, _size(other))
                for own, other, u, v, upstream in zip(
                    reference, source, x, y, gradient, strict=True
                )
            ]
        to_reference, to_source = (
            torch.stack(each).transpose(1, 2) for each in zip(*found, strict=True)
        )
        return to_reference.view_as(reference), to_source.view_as(source), None, None, None


def _gradients_by_matrix(
    rows: Tensor, table: Tensor, x: Tensor, y: Tensor, gradient: Tensor, source_size: Size
) -> tuple[Tensor, Tensor]:
    """Both gradients from the matrix A(p, q): how much cost of p came from source pixel q.

    ``dL/dF_ref = A F_src`` and ``dL/dF_src = A^T F_ref``. A is dense over the source rows that
    a block of reference pixels looks at: with one group by far the fastest.

    Args:
        rows: (h w, C) of the reference.
        table: (h_s w_s, C) of the source.
        x, y: (D, h, w) source pixels.
        gradient: (1, D, h, w).
        source_size: (h_s, w_s).
    """
    to_rows, to_table = torch.empty_like(rows), torch.zeros_like(table)
    x, y, gradient = (values.flatten(-2) for values in (x, y, gradient[0]))
    for start in range(0, len(rows), _BLOCK):
        part = slice(start, start + _BLOCK)
        u, v, upstream = (values[:, part].t().reshape(-1) for values in (x, y, gradient))
        index, weight = _taps(u, v, source_size)
        share = (weight * upstream[:, None]).view(-1, 4 * len(x))
        index = index.view_as(share)
        first, last = int(index.min()), int(index.max()) + 1
        A = share.new_zeros(len(share), last - first).scatter_add_(1, index - first, share)
        to_rows[part] = A @ table[first:last]
        to_table[first:last].addmm_(A.t(), rows[part])
    return to_rows, to_table


def _gradients_by_sorting(
    rows: Tensor, table: Tensor, x: Tensor, y: Tensor, gradient: Tensor, source_size: Size
) -> tuple[Tensor, Tensor]:
    """The same for a gradient of G groups: samples of a source pixel are put together first."""
    groups, depths = gradient.shape[:2]
    to_rows, to_table = torch.zeros_like(rows), torch.zeros_like(table)
    step = max(1, _SAMPLES // len(rows))
    for start in range(0, depths, step):
        part = slice(start, start + step)
        index, weight = _taps(x[part].flatten(), y[part].flatten(), source_size)
        upstream = gradient[:, part].reshape(groups, -1).t()
        upstream = upstream.repeat_interleave(rows.shape[1] // groups, dim=1)
        upstream = upstream.view(-1, *rows.shape)
        found = F.embedding_bag(index, table, mode="sum", per_sample_weights=weight)
        to_rows += found.view_as(upstream).mul_(upstream).sum(dim=0)
        samples = upstream.mul_(rows).flatten(0, 1)
        corner, order = index[:, 0].int().sort()
        offsets = torch.searchsorted(corner, torch.arange(len(table), dtype=torch.int32))
        weight = weight[order]
        for tap, shift in enumerate(_shifts(source_size)):
            share = weight[:, tap].contiguous()
            each = F.embedding_bag(order, samples, offsets, mode="sum", per_sample_weights=share)
            to_table[shift:] += each[: len(table) - shift]
    return to_rows, to_table


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
        (n, 4) int64 and (n, 4) float.
    """
    height, width = size
    u, v = (x - 0.5).clamp_(0, width - 1), (y - 0.5).clamp_(0, height - 1)
    left = u.floor().clamp_(max=max(width - 2, 0))
    top = v.floor().clamp_(max=max(height - 2, 0))
    u, v = u.sub_(left), v.sub_(top)
    first = left.add_(top, alpha=width).long()
    index = torch.stack([first + shift for shift in _shifts(size)], dim=-1)
    both = u * v
    v.sub_(both)
    return index, torch.stack((1 - u - v, u - both, v, both), dim=-1)


def _shifts(size: Size) -> tuple[int, int, int, int]:
    """From the first entry that a sample reads to each of the four, in an image of ``size``."""
    right, below = min(1, size[1] - 1), size[1] * min(1, size[0] - 1)
    return 0, right, below, below + right
