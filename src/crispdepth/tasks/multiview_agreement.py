"""Depths of several views compared: what others say of a view's depth, and corrections by it.

Each view is matched by itself first. Where its neighbours see another surface that they agree
about, and that looks as well, it is taken over; of depths that agree the median is taken; along
depth edges, which windows of matching widen, pixels go to the side that they look like.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from crispdepth.geometry.warp import transfer
from crispdepth.ops.plane_sweep import project, sample
from crispdepth.ops.weighted_median import joint_weighted_median
from crispdepth.types import Camera, Float32Map, ViewDepth

REPROJECTION = 2.0
"""Pixels from which another view does not agree."""

_TRIED = 2  # depths of other views that are tried: those with the most votes
_ENOUGH = 2  # views that agree; more make a depth no better
_WORTH = 0.5  # what their agreement is worth, in correlation
_JUMP = 0.1  # relative difference of inverse depths about a pixel that makes an edge
_EDGE = 4  # swept pixels about an edge that windows of matching may have put on its wrong side
_BEHIND = 0.02  # relative depth behind the known one beside it from which something shines through
_UNCONFIRMED = 0.2  # what a pixel counts there that no other view agrees with, beside one with all


class Estimate(NamedTuple):
    """Depth of a view that others are told."""

    camera: Camera
    inverse: Float32Map  # (h, w), > 0
    confidence: Float32Map  # (h, w) in [0, 1]; 0 where there is no estimate

    @classmethod
    def of(cls, found: ViewDepth) -> "Estimate":
        """What other views have confirmed."""
        camera, usable = found.depth.camera, found.depth.usable
        assert camera is not None
        inverse = 1 / np.where(usable, found.depth.values, 1)
        return cls(camera, inverse.astype(np.float32), usable.astype(np.float32))


class Neighbour(NamedTuple):
    """The estimate of another view, as tensors."""

    camera: Camera
    inverse: Tensor  # (h, w), > 0
    known: Tensor  # (h, w), 1 or 0

    @classmethod
    def of(cls, estimate: Estimate, device: torch.device) -> "Neighbour":
        """An estimate on a device."""

        def tensor(values: NDArray[np.floating]) -> Tensor:
            return torch.as_tensor(values.astype(np.float32), device=device)

        known = (estimate.confidence > 0).astype(np.float32)
        return cls(estimate.camera, tensor(estimate.inverse), tensor(known))


class Agreeing(NamedTuple):
    """What other views say of depths, each (h, w)."""

    views: Tensor  # how many agree
    closeness: Tensor  # how well, summed over them, 1 = perfectly


def agreeing(
    camera: Camera, inverse: Tensor, others: Sequence[Neighbour], tolerance: float
) -> Agreeing:
    """How many views agree with depths of a view, and how well.

    Args:
        camera: of the view.
        inverse: (h, w) inverse depths, > 0.
        others: the views that are asked.
        tolerance: largest difference of agreeing depths, as a share of the depth.
    """
    count, closeness = torch.zeros_like(inverse), torch.zeros_like(inverse)
    for other in others:
        error, apart = _disagreement(camera, other, inverse[None])
        error, apart = error.div_(REPROJECTION**2), apart.abs_().div_(tolerance)
        agrees = torch.maximum(error, apart) < 1
        count += agrees
        closeness += torch.exp(-(error + apart * apart) / 2) * agrees
    return Agreeing(count, closeness)


def corrected(
    camera: Camera,
    inverse: Tensor,
    others: Sequence[Neighbour],
    cost: Callable[[Tensor], Tensor],
    guide: Tensor,
    weight: Tensor | None,
    tolerance: float,
    scale: float = 1.0,
) -> Tensor:
    """The inverse depths (h, w) of a view, corrected by those of others.

    Args:
        camera: of the view.
        inverse: (h, w) inverse depths, > 0.
        others: views that see the same; none: the depth stays.
        cost: 1 - correlation of the photos at inverse depths (h, w) > 0, lower = better.
        guide: (h, w, 3) the photo, in [0, 1].
        weight: (h, w) in [0, 1], the mask: depth does not move across it; None: ones.
        tolerance: largest difference of agreeing depths, as a share of the depth, those included of
            which the median is taken.
        scale: how many pixels wide one is that planes were swept for, >= 1.
    """
    if not others:
        return inverse
    seen = torch.stack([seen_from(camera, other) for other in others])
    seen = seen.sort(dim=0, descending=True).values  # whatever the order of the views
    there = seen > 0
    votes = torch.stack([_votes(each, seen, tolerance) for each in seen])
    # Of depths with as many votes the nearest comes first. (A stable sort takes longer.)
    votes -= torch.linspace(0, 0.5, len(votes), device=votes.device)[:, None, None]
    most = torch.where(there, votes, -torch.inf).topk(min(_TRIED, len(others)), dim=0).indices
    seen = torch.where(there, seen, inverse)
    count = agreeing(camera, inverse, others, tolerance).views
    best = cost(inverse) - _worth(count)
    for number in most:
        tried = seen.gather(0, number[None])[0]
        agree = agreeing(camera, tried, others, tolerance).views
        score = cost(tried) - _worth(agree)
        better = (score < best) & (agree > 0)
        inverse = torch.where(better, tried, inverse)
        best, count = torch.where(better, score, best), torch.where(better, agree, count)
    told = (_sampled(camera, other, inverse, tolerance) for other in others)
    inverse = _median(torch.stack((*told, inverse)))
    trust = _UNCONFIRMED + (count / _ENOUGH).clamp(max=1)
    edge, radius, step = medians_at(scale)
    return joint_weighted_median(
        inverse,
        guide,
        trust if weight is None else trust * weight,
        _edges(inverse, weight, edge),
        radius=radius,
        step=step,
    )


def medians_at(scale: float) -> tuple[int, int, int]:
    """How far medians are taken from an edge, how far their windows reach, and the step in them."""
    edge, step = round(_EDGE * scale), round(1.5 * scale)
    return edge, -(-(edge + 1) // step) * step, step


def shown_by_others(
    camera: Camera, inverse: Tensor, known: Tensor, others: Sequence[Neighbour]
) -> Tensor:
    """Inverse depths (h, w) of pixels that have none, as others show them; 0 where none does.

    The median of what they show, of an even number the farther of the middle two, unless it lies
    behind the nearest known pixel: what is behind a thing that none of them found shines through.

    Args:
        camera: of the view.
        inverse: (h, w) inverse depths, > 0.
        known: bool (h, w), where they are known.
        others: views that see the same.
    """
    nothing = torch.zeros_like(inverse)
    if not others or known.all() or not known.any():
        return nothing
    seen = torch.stack([seen_from(camera, other) for other in others])
    median = torch.where(seen > 0, seen, torch.nan).nanmedian(dim=0).values
    holes = (~known).cpu().numpy().astype(np.uint8)
    _, labels = cv2.distanceTransformWithLabels(
        holes, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    known_at = inverse.new_zeros(int(labels.max()) + 1)
    numbers = torch.as_tensor(labels, device=inverse.device).long()
    known_at[numbers[known]] = inverse[known]
    beside = known_at[numbers]
    return torch.where(~known & (median * (1 + _BEHIND) > beside), median, nothing)


def _votes(inverse: Tensor, seen: Tensor, tolerance: float) -> Tensor:
    """What other views say of inverse depths (h, w) by what they show (n, h, w) in the view.

    One vote for each that shows the same depth, one against for each that shows a nearer one,
    behind which it would be hidden. That takes a fraction of the time of `agreeing`, and is enough
    to tell which depths are worth asking about.
    """
    votes = torch.zeros_like(inverse)
    most = tolerance * inverse
    for each in seen:
        nearer = each - inverse
        votes += (nearer.abs() < most).float()
        votes -= (nearer > most).float()
    return votes


def _median(values: Tensor) -> Tensor:
    """The median (h, w) of those of n values (n, h, w) that are no NaN, at least one: of an even
    number the mean of the middle two. The farther of them would drift away in every correction.
    """
    last = values.isfinite().sum(dim=0, keepdim=True) - 1
    ordered = values.nan_to_num(nan=torch.inf).sort(dim=0).values
    return (ordered.gather(0, last // 2) + ordered.gather(0, (last + 1) // 2))[0] / 2


def _sampled(camera: Camera, other: Neighbour, inverse: Tensor, tolerance: float) -> Tensor:
    """The inverse depths (h, w) that another view has where it sees those of a view; NaN where it
    does not agree.

    Of `seen_from` the nearest counts, so the median of that would be nearer than the surface.
    """
    error, apart = _disagreement(camera, other, inverse[None])
    agrees = (error < REPROJECTION**2) & (apart.abs() < tolerance)
    return torch.where(agrees, inverse * (1 + apart), torch.nan)


def _worth(count: Tensor) -> Tensor:
    return _WORTH * (count / _ENOUGH).clamp(max=1)


def _edges(inverse: Tensor, weight: Tensor | None, radius: int) -> Tensor:
    """Whether depth jumps within so many pixels, bool (h, w); what weighs nothing has no depth."""
    near = far = inverse
    if weight is not None:
        near, far = (torch.where(weight > 0, inverse, beside) for beside in (0, torch.inf))
    nearest, farthest = largest_about(torch.stack((near, -far)), radius)
    jumps: Tensor = nearest + farthest > _JUMP * nearest
    return jumps


def largest_about(values: Tensor, radius: int) -> Tensor:
    """The largest of the windows of (2 radius + 1)^2 pixels of maps (n, h, w), in the frame.

    Of the largest of two neighbours, of four, of eight: several times as fast as max_pool2d.
    """
    for axis in (2, 1):
        width = 1
        values = F.pad(
            values, (radius,) * 2 if axis == 2 else (0, 0, radius, radius), value=-torch.inf
        )
        while width < 2 * radius + 1:
            step = min(width, 2 * radius + 1 - width)
            length = values.shape[axis] - step
            values = torch.maximum(
                values.narrow(axis, 0, length), values.narrow(axis, step, length)
            )
            width += step
    return values


def seen_from(camera: Camera, other: Neighbour) -> Tensor:
    """The inverse depths (h, w) at which a camera sees what another view shows; 0 = it does not.

    Each pixel of the other falls into one of the camera's, where the nearest counts; a pixel into
    which none falls takes the nearest of its neighbours.
    """
    height, width = camera.size
    rho = other.inverse[None]
    there = project(transfer(other.camera, camera), rho, other.camera.size, camera.size)
    seen = there.inside[0] & (other.known > 0)
    x = there.x[0].long().clamp(0, width - 1)
    y = there.y[0].long().clamp(0, height - 1)
    found = rho.new_zeros(height * width)
    inverse = rho[0] / there.stretch[0]
    found.scatter_reduce_(0, (y * width + x)[seen], inverse[seen], "amax")
    found = found.view(1, height, width)
    return torch.where(found > 0, found, F.max_pool2d(found, 3, 1, 1))[0]


def _disagreement(camera: Camera, other: Neighbour, rho: Tensor) -> tuple[Tensor, Tensor]:
    """How far another view's depth is from a view's own (1, h, w), (h, w): in squared pixels of
    the view, after a way there and back, and by how much its inverse depth is larger, as a share.
    Infinite where the other has no estimate.
    """
    height, width = camera.size
    there = project(transfer(camera, other.camera), rho, camera.size, other.camera.size)
    found, sure = sample(torch.stack((other.inverse, other.known)), there.x, there.y)
    A, b = (torch.as_tensor(part).to(rho) for part in transfer(other.camera, camera))
    u, v, z = (A[i, 0] * there.x + A[i, 1] * there.y + A[i, 2] + found * b[i] for i in range(3))
    scale = z.clamp_min(1e-6).reciprocal_()
    x = torch.arange(width, device=rho.device) + 0.5
    y = (torch.arange(height, device=rho.device) + 0.5)[:, None]
    error = (u * scale - x).square_() + (v * scale - y).square_()
    apart = found * scale / rho - 1
    usable = there.inside & (sure > 0.99)
    error, apart = (torch.where(usable, part, torch.inf)[0] for part in (error, apart))
    return error, apart
