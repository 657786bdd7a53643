"""Semi-global matching: the inverse depths that are cheap and change little between neighbours.

H. Hirschmueller, Stereo Processing by Semiglobal Matching and Mutual Information, TPAMI 2008: the
minimum of cost plus smoothness along straight paths from the frame to each pixel, summed over the
paths. Here a path loses its memory where it crosses the border of a mask, so what is found on one
side does not depend on the other.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
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
    volume = cost.movedim(0, 2).contiguous()  # along a path the planes of a pixel go together
    total = torch.zeros_like(volume)
    _add_paths(total, volume, grey, side, smoothness, (-1, 0, 1))
    turned = None if side is None else side.T
    _add_paths(
        total.transpose(0, 1), volume.transpose(0, 1), grey.T, turned, smoothness, slopes=(0,)
    )
    return total.div_(8).movedim(2, 0)


def _add_paths(
    total: Tensor,  # (n, m, d), added to
    cost: Tensor,  # (n, m, d); paths run along the first axis, there and back
    grey: Tensor,  # (n, m)
    side: Tensor | None,
    smoothness: Smoothness,
    slopes: tuple[int, ...],  # how far paths move along the second axis in a step: -1, 0 or 1
) -> None:
    """Add the costs of all paths of both directions and these slopes, which go on in step."""
    last, planes = len(cost) - 1, cost.shape[2]
    large, link = _link_maps(grey, side, smoothness, slopes)
    # Paths (2, slopes, m, d), there and back, with a pixel beyond either end: slanted paths that
    # enter there go straight on.
    paths = cost.new_empty(2, len(slopes), cost.shape[1] + 2, planes)
    inner = paths[:, :, 1:-1]
    inner[:] = torch.stack((cost[0], cost[last]))[:, None]
    total[0] += len(slopes) * cost[0]
    total[last] += len(slopes) * cost[last]
    before, best, next_to = (torch.empty_like(inner) for _ in range(3))
    for step in range(1, last + 1):
        paths[:, :, 0], paths[:, :, -1] = paths[:, :, 1], paths[:, :, -2]
        for number, slope in enumerate(slopes):
            before[:, number] = paths[:, number, 1 - slope : paths.shape[2] - 1 - slope]
        before -= before.amin(dim=-1, keepdim=True)
        torch.minimum(before, large[step], out=best)
        torch.add(before, smoothness.small, out=next_to)
        for there, beside in ((slice(1, None), slice(-1)), (slice(-1), slice(1, None))):
            torch.minimum(best[..., there], next_to[..., beside], out=best[..., there])
        if link is not None:
            best *= link[step]
        for back, row in enumerate((step, last - step)):
            torch.add(best[back], cost[row], out=inner[back])
            for path in inner[back]:
                total[row] += path


def _link_maps(
    grey: Tensor, side: Tensor | None, smoothness: Smoothness, slopes: tuple[int, ...]
) -> tuple[Tensor, Tensor | None]:
    """What a jump costs between pixels and their predecessors, and how much they are linked.

    Each is (n, 2, slopes, m, 1), by the steps of `_add_paths`; the first step has none before it.
    """

    def apart(values: Tensor) -> Tensor:
        ways = []
        for own in (values, values.flip(0)):
            before = F.pad(own.roll(1, 0)[:, None], (1, 1), mode="replicate")[:, 0]
            width = own.shape[1]
            ways += [(own - before[:, 1 - slope : 1 - slope + width]).abs() for slope in slopes]
        return torch.unflatten(torch.stack(ways, dim=1), 1, (2, -1))[..., None]

    large = smoothness.large / (1 + apart(grey) / smoothness.edge)
    large = large.clamp_min(smoothness.small)
    return large, None if side is None else 1 - apart(side)


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
    near = index + torch.arange(-2, 3, device=cost.device)[:, None, None]
    elsewhere = cost.scatter(0, near.clamp(0, depths - 1), torch.inf).amin(dim=0)
    margin = torch.where(elsewhere.isfinite(), elsewhere - lowest, torch.zeros_like(lowest))
    return Winner(index + offset, lowest, margin)
