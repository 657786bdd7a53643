"""Losses of scenes with several objects: who is seen where, and that no two are in one place.

Signed distances are negative inside. After ObjectSDF++ (Wu et al., NeurIPS 2023), with the
corrections of the specification of mask-guided multi-view depth, sections 2.12 and 2.13.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

OpacityForm = Literal["scene", "share"]
"""``scene``: each object's own opacity behind what the nearest surface lets through (the paper's
code). ``share``: each object's share of what is seen, which always adds up to the scene's."""

EPSILON = 1e-4
"""Inside logarithms: what is wholly wrong keeps its gradient, which clamping takes away."""


def laplace_density(sdf: Tensor, beta: Tensor | float) -> Tensor:
    """The density of a surface (VolSDF, Yariv et al. 2021): 1 / beta inside, half of it on it.

    Args:
        sdf: any shape.
        beta: > 0, the width of the surface in units of ``sdf``.
    """
    tail = 0.5 * torch.exp(-sdf.abs() / beta)
    return torch.where(sdf > 0, tail, 1 - tail) / beta


def scene_opacity(density: Tensor, spacing: Tensor) -> Tensor:
    """The opacity of rays (r,) through a density (r, s) at samples ``spacing`` (r, s) apart."""
    return 1 - torch.exp(-(density * spacing).sum(dim=-1))


def object_opacities(
    sdf: Tensor, spacing: Tensor, beta: Tensor | float, form: OpacityForm = "share"
) -> Tensor:
    """How much of each object a ray sees, others hiding it, (r, k) in [0, 1].

    ``scene``: ``sum_j T(j) (1 - exp(-spacing_j sigma_ij))`` with the transmittance T of the density
    of the nearest surface, ``min_i sdf_i``; where supports do not overlap the objects add up to
    `scene_opacity`, elsewhere to more. ``share``: ``sum_j T(j) (sigma_ij / sigma_j)
    (1 - exp(-spacing_j sigma_j))`` with the summed density ``sigma_j``; they add up always.

    Args:
        sdf: (r, s, k) of k objects at s samples along r rays, front to back.
        spacing: (r, s), the length that each sample stands for.
        beta: see `laplace_density`.
        form: see `OpacityForm`.
    """
    density = laplace_density(sdf, beta)
    whole = density.sum(dim=-1)
    if form == "scene":
        whole = laplace_density(sdf.amin(dim=-1), beta)
    depths = spacing * whole
    before = F.pad(depths.cumsum(dim=-1)[..., :-1], (1, 0))
    through = torch.exp(-before)[..., None]
    if form == "scene":
        return (through * (1 - torch.exp(-spacing[..., None] * density))).sum(dim=-2)
    seen = through * (1 - torch.exp(-depths))[..., None]
    return (seen * density / whole[..., None].clamp(min=1e-12)).sum(dim=-2)


def opacity_loss(opacities: Tensor, masks: Tensor) -> Tensor:
    """Mean binary cross entropy of opacities with masks, both (..., k) in [0, 1]."""
    inside = masks * torch.log(opacities.clamp(min=0) + EPSILON)
    outside = (1 - masks) * torch.log((1 - opacities).clamp(min=0) + EPSILON)
    return -(inside + outside).mean()


def distinction_loss(sdf: Tensor) -> Tensor:
    """Mean over points of how deep they are in a second object (2.13).

    ``sum_i relu(-d_i - d)`` over all objects but the nearest, whose distance d has no gradient: a
    point inside the nearest must be at least as far outside the others. (The paper prints the
    opposite sign, which would punish objects that are apart.)

    Args:
        sdf: (n, k), at points in space.
    """
    nearest, index = sdf.detach().min(dim=-1, keepdim=True)
    others = torch.ones_like(sdf).scatter(-1, index, 0.0)
    return (others * F.relu(-sdf - nearest)).sum(dim=-1).mean()


def layer_distinction_loss(
    front: Tensor, back: Tensor, both: Tensor, gap: Tensor | float
) -> Tensor:
    """The same of depth layers: the back one lies behind the front one by ``gap`` or more.

    Mean of ``relu(front + gap - back)`` over the pixels where both are defined; 0 without any.

    Args:
        front, back: (..., h, w) z-depth; anything where not ``both``.
        both: (..., h, w) bool.
        gap: at least 0, in the unit of the depth.
    """
    short = torch.where(both, F.relu(front + gap - back), 0.0)
    return short.sum() / both.sum().clamp(min=1)
