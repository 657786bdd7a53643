"""Medians of windows in which pixels count by how much they look like the middle one."""

import torch
import torch.nn.functional as F
from torch import Tensor

_PART = 1 << 12  # pixels at once: what is sorted stays in the cache


def joint_weighted_median(
    values: Tensor,
    guide: Tensor,
    weight: Tensor,
    where: Tensor,
    *,
    radius: int,
    step: int = 1,
    similar: float = 0.06,
) -> Tensor:
    """Values moved to the side of an edge that their pixel looks like.

    A pixel q of the window about p counts ``weight(q) exp(-|guide(q) - guide(p)|^2 / 2 similar^2 -
    |q - p|^2 / radius^2)``; the result is the lower weighted median, a value of the window and
    never one between two (Ma et al., ICCV 2013, with the weights of a joint bilateral filter).

    Args:
        values: (h, w).
        guide: (h, w, c), such as colours in [0, 1].
        weight: (h, w) >= 0.
        where: (h, w) bool, the pixels to filter; others keep their value, and so do those whose
            windows weigh nothing.
        radius: of the window, pixels.
        step: between the pixels of a window that count.
        similar: difference of the guide that still counts.

    Returns:
        (h, w).
    """
    shifts = torch.arange(-radius, radius + 1, step, device=values.device)
    dy, dx = (part.flatten() for part in torch.meshgrid(shifts, shifts, indexing="ij"))
    near = -(dx**2 + dy**2) / radius**2

    def framed(layer: Tensor) -> Tensor:  # windows never leave it; the frame weighs nothing
        return F.pad(layer, (radius,) * 4).flatten()

    value, closeness = framed(values), framed(weight).log_()
    colours = [framed(colour / (2**0.5 * similar)) for colour in guide.unbind(-1)]
    wide = values.shape[1] + 2 * radius
    y, x = where.nonzero(as_tuple=True)
    medians = []
    for middle in torch.split((y + radius) * wide + x + radius, _PART):
        at = (middle[:, None] + dy * wide + dx).flatten()
        counts = closeness[at].view(-1, len(dx)).add_(near)
        for colour in colours:
            apart = colour[at].view_as(counts).sub_(colour[middle, None])
            counts.sub_(apart.square_())
        ordered, order = value[at].view_as(counts).sort(dim=1)
        below = counts.exp_().gather(1, order).cumsum_(dim=1)
        half = below[:, -1:] / 2
        first = (below < half).sum(dim=1, keepdim=True).clamp_max_(len(dx) - 1)
        median = torch.where(half > 0, ordered.gather(1, first), value[middle, None])
        medians.append(median[:, 0])
    found = values.clone()
    if medians:
        found[y, x] = torch.cat(medians)
    return found
