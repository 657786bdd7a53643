"""Semi-global matching: the inverse depths that are cheap and change little between neighbours.

H. Hirschmueller, Stereo Processing by Semiglobal Matching and Mutual Information, TPAMI 2008: the
minimum of cost plus smoothness along straight paths from the frame to each pixel, summed over the
paths. Here a path loses its memory where it crosses the border of a mask, so what is found on one
side does not depend on the other.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Smoothness(NamedTuple):
    """What a change of inverse depth between neighbours costs."""

    small: float  # of one plane
    large: float  # of more, where the photo is flat
    edge: float  # difference of grey values at which `large` has fallen to half


class Winner(NamedTuple):
    """The best inverse depth of each pixel, (h, w) each."""

    plane: Tensor  # its number, between planes by a parabola
    cost: Tensor  # aggregated, of the best plane
    margin: Tensor  # how much more the best plane elsewhere costs, >= 0


def semi_global(cost: Tensor, grey: Tensor, side: Tensor | None, smoothness: Smoothness) -> Tensor:
    """Sum the path costs of eight directions; (d, h, w), divided by their number.

    Args:
        cost: (d, h, w), lower is better.
        grey: (h, w) in [0, 1]; a large change of depth is cheap where it changes.
        side: (h, w) in [0, 1], a soft mask: two pixels are linked by 1 - |difference|. None: by 1.
        smoothness: what changes cost.
    """
    total = torch.zeros_like(cost)
    for across in (0, 1):  # paths that run from row to row, then those from column to column
        volume = cost.movedim(0, 2) if across == 0 else cost.movedim(0, 2).transpose(0, 1)
        result = total.movedim(0, 2) if across == 0 else total.movedim(0, 2).transpose(0, 1)
        volume = volume.contiguous()
        lines, labels = (
            None if map_ is None else (map_ if across == 0 else map_.T).contiguous()
            for map_ in (grey, side)
        )
        assert lines is not None
        summed = torch.zeros_like(volume)
        for backward in (False, True):
            for slope in (-1, 0, 1) if across == 0 else (0,):
                _add_path(summed, volume, lines, labels, smoothness, backward, slope)
        result += summed
    return total.div_(8)


def _add_path(
    summed: Tensor,  # (n, m, d), added to
    cost: Tensor,  # (n, m, d); paths run along the first axis
    grey: Tensor,  # (n, m)
    side: Tensor | None,
    smoothness: Smoothness,
    backward: bool,
    slope: int,  # how far a path moves along the second axis in a step
) -> None:
    """Add the cost of all paths of one direction."""
    count = len(cost)
    order = range(count - 1, -1, -1) if backward else range(count)
    jump = _link_maps(grey, side, smoothness, backward, slope)
    previous = torch.empty(0)
    for step, row in enumerate(order):
        current = cost[row]
        if step:
            large, link = jump[0][row], None if jump[1] is None else jump[1][row]
            if slope:
                previous = _shift(previous, slope)
            lowest = previous.amin(dim=1, keepdim=True)
            previous = previous - lowest
            best = torch.minimum(previous, large[:, None])
            torch.minimum(best[:, 1:], previous[:, :-1] + smoothness.small, out=best[:, 1:])
            torch.minimum(best[:, :-1], previous[:, 1:] + smoothness.small, out=best[:, :-1])
            current = current + (best if link is None else best.mul_(link[:, None]))
        summed[row] += current
        previous = current


def _link_maps(
    grey: Tensor, side: Tensor | None, smoothness: Smoothness, backward: bool, slope: int
) -> tuple[Tensor, Tensor | None]:
    """What a jump costs between each pixel and its predecessor, and how much they are linked."""

    def before(values: Tensor) -> Tensor:
        moved = torch.roll(values, -1 if backward else 1, dims=0)
        return _shift(moved.movedim(0, 1), slope).movedim(0, 1) if slope else moved

    difference = (grey - before(grey)).abs()
    large = smoothness.large / (1 + difference / smoothness.edge)
    large = large.clamp_min(smoothness.small)
    return large, None if side is None else 1 - (side - before(side)).abs()


def _shift(values: Tensor, by: int) -> Tensor:
    """Row i of the result is row i - by; beyond the end the last row is repeated."""
    if by > 0:
        return torch.cat((values[:1].expand(by, *values.shape[1:]), values[:-by]))
    return torch.cat((values[-by:], values[-1:].expand(-by, *values.shape[1:])))


def winner(cost: Tensor) -> Winner:
    """The cheapest plane of each pixel, refined by the parabola through it and its neighbours."""
    depths = len(cost)
    lowest, index = cost.min(dim=0)
    below = cost.gather(0, (index - 1).clamp_min(0)[None])[0]
    above = cost.gather(0, (index + 1).clamp_max(depths - 1)[None])[0]
    curvature = below + above - 2 * lowest
    offset = torch.where(
        curvature > 0, (below - above) / (2 * curvature.clamp_min(1e-12)), torch.zeros_like(lowest)
    )
    inner = (index > 0) & (index < depths - 1)
    offset = torch.where(inner, offset, torch.zeros_like(offset)).clamp(-0.5, 0.5)
    number = torch.arange(depths, device=cost.device)[:, None, None]
    near = (number - index).abs() <= 2
    elsewhere = torch.where(near, torch.inf, cost).amin(dim=0)
    margin = torch.where(elsewhere.isfinite(), elsewhere - lowest, torch.zeros_like(lowest))
    return Winner(index + offset, lowest, margin)
