"""Medians of windows in which pixels count by how much they look like the middle one."""

import torch
from torch import Tensor

_PART = 1 << 15  # pixels at once: what is sorted stays in the cache


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
    height, width = values.shape
    shifts = torch.arange(-radius, radius + 1, step, device=values.device)
    dy, dx = (part.flatten() for part in torch.meshgrid(shifts, shifts, indexing="ij"))
    near = torch.exp(-(dx**2 + dy**2) / radius**2)
    found = values.clone()
    for pixels in torch.split(where.nonzero(), _PART):
        y, x = pixels[:, :1] + dy, pixels[:, 1:] + dx
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        at = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
        own = guide[pixels[:, 0], pixels[:, 1]]
        apart = (guide.flatten(0, 1)[at] - own[:, None]).square().sum(dim=-1)
        counts = near * weight.flatten()[at] * torch.exp(-apart / (2 * similar**2)) * inside
        ordered, order = values.flatten()[at].sort(dim=1)
        below = counts.gather(1, order).cumsum(dim=1)
        half = below[:, -1:] / 2
        middle = (below < half).sum(dim=1, keepdim=True).clamp_max(len(dx) - 1)
        kept = values[pixels[:, 0], pixels[:, 1]]
        median = torch.where(half > 0, ordered.gather(1, middle), kept[:, None])
        found[pixels[:, 0], pixels[:, 1]] = median[:, 0]
    return found
