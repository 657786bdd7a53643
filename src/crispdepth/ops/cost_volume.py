"""Plane-sweep cost volumes of a network: batched, differentiable, every view with its own K.

Every view is a reference and sees the others as its sources, one source at a time for all
references at once, so that memory does not grow with the number of sources. N below is the number
of references, batch times views. Inverse depths are ordered far -> near.

`crispdepth.ops.plane_sweep` is the same for photos without a network.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from crispdepth.ops.correlation import correlate, sampled
from crispdepth.ops.mask_contract import depth_inside
from crispdepth.ops.plane_sweep import EPSILON, Projection
from crispdepth.types import Size

LEAST = 0.05
"""Weight of what lies beside every mask, against 1 inside: less evidence, not none (spec 2.2)."""

ROUNDING = 1e-4
"""How far beyond [0, 1] the values of a resized mask may lie."""

ConfidenceForm = Literal["area", "sigmoid", "distance"]


class Transfer(NamedTuple):
    """A source sees the reference's pixel x = (u, v, 1) at ``A x + rho b`` (spec 1.6)."""

    A: Tensor  # (..., 3, 3): the homography of the plane at infinity
    b: Tensor  # (..., 3): the epipole times its depth


class Pair(NamedTuple):
    """What one source says about each reference."""

    cost: Tensor  # (N, G, D, h, w) correlation, higher = better
    weight: Tensor  # (N, 1, D or 1, h, w) >= 0: how much it may say


@dataclass(frozen=True)
class Aggregate:
    """The pairs of each reference as one."""

    cost: Tensor  # (N, G, D, h, w); 0 where no source may say anything
    evidence: Tensor  # (N, 1, D, h, w): the mean weight of the sources


def mask_confidence(
    mask: Tensor, size: Size, form: ConfidenceForm = "area", temperature: float | Tensor = 0.1
) -> Tensor:
    """A soft mask as confidence at the stride of features (spec 2.1); ones give exactly ones.

    ``area``: the average of the pixels of each cell. ``sigmoid``: of that average,
    ``sigmoid((m - 1/2) / temperature)`` scaled so that 0 and 1 stay; towards 0 the hard mask.
    ``distance``: the average of ``sigmoid(s / temperature)`` of the signed distance s to the
    border, in pixels of the mask; it has no gradient.

    Args:
        mask: (..., 1, H, W) in [0, 1].
        size: (h, w).
        form: see above.
        temperature: > 0; of ``distance`` in pixels (1 to 2), else of values.

    Returns:
        (..., 1, h, w) in [0, 1].

    Raises:
        ValueError: values beyond [0, 1].
    """
    mask = mask.float()
    if mask.numel() and not (mask.amin() >= -ROUNDING and mask.amax() <= 1 + ROUNDING):
        raise ValueError(
            f"A mask lies in [0, 1], got {float(mask.amin()):g} to {float(mask.amax()):g}; "
            "divide an 8-bit mask by 255."
        )
    mask = mask.clamp(0, 1)
    if form == "distance":
        maps = mask.detach().cpu().numpy().reshape(-1, *mask.shape[-2:])
        risen = np.stack([depth_inside(each, float(temperature)) for each in maps])
        mask = torch.from_numpy(risen).to(mask.device).view(mask.shape)
    cells = F.interpolate(mask.reshape(-1, 1, *mask.shape[-2:]), size, mode="area")
    cells = cells.view(*mask.shape[:-2], *size)
    if form == "sigmoid":
        # Divided by the same function of ones, so that ones stay ones to the last digit.
        curve, end = (
            torch.tanh((values - 0.5) / (2 * temperature))
            for values in (cells, torch.ones_like(cells))
        )
        cells = 0.5 + 0.5 * curve / end
    return cells


def inverse_depth_candidates(near: Tensor, far: Tensor, count: int) -> Tensor:
    """Inverse depths from exactly 1 / far to exactly 1 / near, equally spaced (spec 1.6).

    Args:
        near: (...) > 0.
        far: (...) > near; may be infinite.
        count: D >= 2.

    Returns:
        (..., D).

    Raises:
        ValueError: not 0 < near < far, or fewer than two candidates.
    """
    if not ((near > 0) & (near < far)).all():
        raise ValueError(
            f"Candidates lie between 0 < near < far, got near {near.tolist()} and far "
            f"{far.tolist()}."
        )
    if count < 2:
        raise ValueError(f"A sweep needs two candidates or more, got {count}.")
    share = torch.linspace(0, 1, count, device=near.device, dtype=near.dtype)
    return torch.lerp(1 / far[..., None], 1 / near[..., None], share)


def resized_intrinsics(K: Tensor, size: Size, new_size: Size) -> Tensor:
    """K (..., 3, 3) of an image of ``size`` (h, w) for ``new_size``; pixel centres at +0.5."""
    scale = K.new_tensor([new_size[1] / size[1], new_size[0] / size[0], 1])
    return scale[:, None] * K


def pixel_transfer(
    K: Tensor, cam_from_world: Tensor, source_K: Tensor, source_from_world: Tensor
) -> Transfer:
    """How sources see the pixels of references.

    Args:
        K: (..., 3, 3) of the references.
        cam_from_world: (..., 4, 4) of the references.
        source_K: (..., 3, 3) of the sources.
        source_from_world: (..., 4, 4) of the sources.
    """
    # Poses may lie far from the world's origin, where float32 would lose the baseline.
    ours, theirs, own, other = (
        part.double() for part in (cam_from_world, source_from_world, K, source_K)
    )
    source_from_reference = theirs @ torch.linalg.inv(ours)
    A = other @ source_from_reference[..., :3, :3] @ torch.linalg.inv(own)
    b = (other @ source_from_reference[..., :3, 3:])[..., 0]
    return Transfer(A.float(), b.float())


def project(pixels: Transfer, inverse_depth: Tensor, size: Size, source_size: Size) -> Projection:
    """Where sources see the pixels of references at these inverse depths, (N, D, h, w) each.

    Args:
        pixels: (N, 3, 3) and (N, 3).
        inverse_depth: (N, D) planes or (N, D, h, w) per pixel, >= 0.
        size: (h, w) of the references, for which K of ``pixels`` was.
        source_size: (h, w) of the sources.
    """
    device, kind = pixels.A.device, pixels.A.dtype
    x = torch.arange(size[1], device=device, dtype=kind) + 0.5
    y = (torch.arange(size[0], device=device, dtype=kind) + 0.5)[:, None]
    rho = inverse_depth.to(kind).reshape(
        *inverse_depth.shape[:2], *(inverse_depth.shape[2:] or (1, 1))
    )
    A, b = pixels.A[:, None, :, :, None, None], pixels.b[:, None, :, None, None]
    u, v, z = (
        torch.addcmul(A[:, :, i, 0] * x + A[:, :, i, 1] * y + A[:, :, i, 2], rho, b[:, :, i])
        for i in range(3)
    )
    in_front = z > 1e-6
    scale = in_front / torch.where(in_front, z, torch.ones_like(z))
    u, v = u * scale, v * scale
    within = (u >= 0) & (u <= source_size[1]) & (v >= 0) & (v <= source_size[0])
    return Projection(u, v, z, in_front & within)


def warp(images: Tensor, where: Projection) -> Tensor:
    """Sources as the references see them: bilinear, beyond the frame continued.

    Args:
        images: (N, C, h_s, w_s).
        where: (N, D, h, w).

    Returns:
        (N, C, D, h, w).
    """
    depths = where.x.shape[1]
    x, y = where.x.flatten(1, 2), where.y.flatten(1, 2)
    return torch.unflatten(sampled(images, x, y), 2, (depths, -1))


def source_weight(
    where: Projection, confidence: Tensor | None, *, least: float = LEAST, sharpness: float = 1
) -> Tensor:
    """``in frame * (least + (1 - least) * warped confidence^sharpness)`` (spec 2.2).

    Per source, because a weight of the reference's pixel alone cancels in the mean (spec 0.1).

    Args:
        where: (N, D, h, w).
        confidence: (N, 1, h_s, w_s) of the sources in [0, 1]; None: ones.
        least: in [0, 1].
        sharpness: alpha >= 1.

    Returns:
        (N, 1, D, h, w), exactly 1 in the frame where the confidence is 1.
    """
    seen = where.inside[:, None].to(where.x)
    if confidence is None:
        return seen
    # Rounding must not lift a bilinear mean above 1, nor a mask of ones fall below it.
    beside = warp(1 - confidence, where).clamp(0, 1)
    if sharpness != 1:
        beside = 1 - (1 - beside) ** sharpness
    return seen * (1 - (1 - least) * beside)


def other_views(views: int, device: torch.device) -> Tensor:
    """The sources of each of ``views`` references: all others, in turn, (V, V - 1)."""
    turn = torch.arange(views, device=device)
    return (turn[:, None] + turn[1:]) % views


def sweep_pairs(
    features: Tensor,
    K: Tensor,
    cam_from_world: Tensor,
    candidates: Tensor,
    *,
    groups: int = 1,
    confidence: Tensor | None = None,
    least: float = LEAST,
    sources: Tensor | None = None,
) -> Iterator[Pair]:
    """Correlate the first views with their first source, then with their second, and so on.

    Args:
        features: (B, V, C, h, w).
        K: (B, V, 3, 3) in pixels of the features.
        cam_from_world: (B, V, 4, 4).
        candidates: (B, R, D) or (B, R, D, h, w) inverse depths of the first R <= V views.
        groups: of channels, see `correlate`.
        confidence: (B, V, 1, h, w) of the masks; None: ones.
        least: see `source_weight`.
        sources: (B, R, S) views that each is compared with; None: all others.

    Yields:
        Pairs with N = B R references, batch-major.
    """
    (batch, views), references = features.shape[:2], candidates.shape[1]
    size = features.shape[3], features.shape[4]
    if sources is None:
        sources = other_views(views, features.device)[:references].expand(batch, -1, -1)
    first = views * torch.arange(batch, device=features.device)[:, None]
    own, K_own, pose_own = (
        part[:, :references].flatten(0, 1) for part in (features, K, cam_from_world)
    )
    every, K, cam_from_world = (part.flatten(0, 1) for part in (features, K, cam_from_world))
    rho = candidates.flatten(0, 1)
    for turn in range(sources.shape[2]):
        view = (first + sources[:, :, turn]).flatten()
        pixels = pixel_transfer(K_own, pose_own, K[view], cam_from_world[view])
        where = project(pixels, rho, size, size)
        seen = None if confidence is None else confidence.flatten(0, 1)[view]
        yield Pair(
            correlate(own, every[view], where, groups), source_weight(where, seen, least=least)
        )


def aggregate(pairs: Iterable[Pair], size: Sequence[int], device: torch.device) -> Aggregate:
    """``C = sum_i w_i C_i / sum_i w_i`` in float32, one pair after the other (spec 2.2).

    The sum of weights is at least `EPSILON`: without evidence, or without any pair, the volume is
    0, flat and finite, and the evidence is 0.

    Args:
        pairs: one for each source; may be made while they are read.
        size: (N, G, D, h, w).
        device: of the pairs.
    """
    total = torch.zeros(*size, device=device)
    weights = torch.zeros(size[0], 1, *size[2:], device=device)
    count = 0
    for cost, weight in pairs:
        total = total.addcmul_(cost.float(), weight.float())
        weights = weights.add_(weight)
        count += 1
    return Aggregate(total / weights.clamp_min(EPSILON), weights / max(count, 1))
