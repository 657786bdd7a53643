"""Losses of the multi-view network: inverse depth, planes, outlines, alpha.

Numbers of sections are those of the specification of mask-guided multi-view depth.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from crispdepth.models.multiview.view_weights import PairDepth
from crispdepth.training.losses import gradient_loss

FLAT = 0.01
"""Relative difference of depths that make one surface."""

EPSILON = 1e-4
"""Inside logarithms of opacities."""

ALIGNED_GRADIENT = 0.5
"""Weight of gradients in `scale_shift_loss`, that of MiDaS."""

FLATTEST = 1e-5
"""Standard deviation, as a share of the range, below which a prediction is constant."""


def inverse_depth_loss(prediction: Tensor, target: Tensor, weight: Tensor, span: Tensor) -> Tensor:
    """Mean over the views of the weighted mean of ``|prediction - target| / span`` (1.11).

    Args:
        prediction: (B, V, h, w) inverse depths.
        target: (B, V, h, w); anything where ``weight`` is 0.
        weight: (B, V, h, w), at least 0; a view without any counts as 0.
        span: (B, V), 1 / near - 1 / far: errors are shares of the range.
    """
    error = scaled_residual(prediction, target, weight, span).abs()
    return (_mean(error, weight)).mean()


def gradient_matching(prediction: Tensor, target: Tensor, weight: Tensor, span: Tensor) -> Tensor:
    """Gradient matching over four scales (2.18), of residuals as shares of the range.

    Of the signed residual: an inverted edge is an error. A pair of pixels counts what the lesser
    counts, so nothing is asked across pixels that were not measured. See `inverse_depth_loss`.
    """
    residual = scaled_residual(prediction, target, weight, span)
    views = [each.flatten(0, 1)[:, None] for each in (residual, weight)]
    return gradient_loss(*views).mean()


def scale_shift_loss(prediction: Tensor, target: Tensor, weight: Tensor, span: Tensor) -> Tensor:
    """What is left when scale and shift of each view's inverse depth are fitted (2.18).

    Of the residuals r of the least-squares fit, as shares of the range: half of the weighted mean
    of r^2, and `ALIGNED_GRADIENT` times their gradients over four scales (MiDaS, Ranftl et al.,
    TPAMI 2020). Where the prediction is constant or runs against the truth only the shift is
    fitted, so that it learns which way is near. No gradient goes through the fit: at its optimum
    that of r^2 has none there. See `inverse_depth_loss`.
    """
    p, t = (
        torch.where(weight > 0, each, 0.0) / span[..., None, None] for each in (prediction, target)
    )
    total = weight.sum(dim=(-2, -1), keepdim=True)
    share = weight / torch.where(total > 0, total, 1.0)
    with torch.no_grad():
        middle, truth = ((share * each).sum(dim=(-2, -1), keepdim=True) for each in (p, t))
        spread = (share * (p - middle).square()).sum(dim=(-2, -1), keepdim=True)
        common = (share * (p - middle) * (t - truth)).sum(dim=(-2, -1), keepdim=True)
        known = (common > 0) & (spread > FLATTEST**2)
        scale = torch.where(known, common / torch.where(known, spread, 1.0), 1.0)
    residual = torch.where(weight > 0, scale * (p - middle) - (t - truth), 0.0)
    data = (share * residual.square()).sum(dim=(-2, -1)).mean() / 2
    views = [each.flatten(0, 1)[:, None] for each in (residual, weight)]
    return data + ALIGNED_GRADIENT * gradient_loss(*views).mean()


def pair_loss(said: PairDepth, target: Tensor, weight: Tensor) -> Tensor:
    """``|d - d*| / step * exp(-s) + s`` of a source alone (2.3); least at s = log(|d - d*| / step).

    The weighted mean of each view, then over the views; a view without any weight counts as 0.

    Args:
        said: d, step and s of N references.
        target, weight: (N, h, w), as in `inverse_depth_loss`.
    """
    s = said.log_uncertainty
    error = torch.where(weight > 0, said.inverse_depth - target, 0.0).abs() / said.step
    return _mean(error * torch.exp(-s) + s, weight).mean()


def plane_loss(logits: Tensor, target: Tensor, weight: Tensor, near: Tensor, far: Tensor) -> Tensor:
    """Cross entropy of planes evenly spaced in inverse depth, from 1 / far to 1 / near.

    The truth between two planes is shared by both in proportion.

    Args:
        logits: (B, V, D, h, w).
        target, weight: (B, V, h, w), as in `inverse_depth_loss`.
        near, far: (B, V).
    """
    count = logits.shape[2]
    low, high = 1 / far[..., None, None], 1 / near[..., None, None]
    place = ((target - low) / (high - low)).clamp(0, 1) * (count - 1)
    place = torch.where(weight > 0, place, 0.0)
    first = place.floor().clamp(max=count - 2)
    share = place - first
    log_p = logits.log_softmax(dim=2)
    index = first.long()[:, :, None]
    below, above = (log_p.gather(2, index + step)[:, :, 0] for step in (0, 1))
    return _mean(-(1 - share) * below - share * above, weight).mean()


def coarse_truth(inverse: Tensor, valid: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """The true inverse depth at the centres of larger pixels, and where it is known.

    A centre lies between four pixels: their mean where they are one surface, else one of them,
    so there is nothing between two surfaces.

    Args:
        inverse: (B, V, H, W); anything where not ``valid``.
        valid: (B, V, H, W) bool.
        stride: even; H and W are multiples of it.
    """
    middle = stride // 2
    starts = [(y, x) for y in (middle - 1, middle) for x in (middle - 1, middle)]
    values = torch.stack([inverse[..., y::stride, x::stride] for y, x in starts])
    known = torch.stack([valid[..., y::stride, x::stride] for y, x in starts])
    mean = values.mean(dim=0)
    flat = known.all(dim=0) & (values.amax(dim=0) - values.amin(dim=0) < FLAT * mean)
    return torch.where(flat, mean, values[-1]), torch.where(flat, flat, known[-1])


def outline(mask: Tensor, radius: int) -> Tensor:
    """Dilation minus erosion of a soft mask (..., 1, H, W): 1 along its outline (2.19).

    ``radius`` pixels to either side; the frame is no outline.
    """
    if not radius:
        return torch.zeros_like(mask)
    flat, side = mask.flatten(0, -4), 2 * radius + 1
    largest = F.max_pool2d(flat, side, stride=1, padding=radius)
    least = -F.max_pool2d(-flat, side, stride=1, padding=radius)
    return (largest - least).view_as(mask)


def alpha_loss(alpha: Tensor, transparent: Tensor, *, ignore: Tensor | None = None) -> Tensor:
    """Mean squared difference of a rendered alpha from what it should be (2.21).

    Two masks that must not be confused: where ``transparent`` is 1 nothing may be, where
    ``ignore`` is 1 anything may be. The mean is over what is not ignored.

    Args:
        alpha: (..., H, W), rendered.
        transparent: (..., H, W) in [0, 1]; a photo's is 1 - its alpha.
        ignore: (..., H, W) in [0, 1]; None: nothing is ignored.
    """
    return _supervised((alpha - (1 - transparent)).square(), ignore)


def colour_loss(
    colour: Tensor,
    alpha: Tensor,
    image: Tensor,
    transparent: Tensor,
    background: Tensor,
    *,
    ignore: Tensor | None = None,
) -> Tensor:
    """Mean squared difference of a rendering and a photo, both over one background (2.21).

    Where alpha is right the background does not matter; a random one shows where it is not.

    Args:
        colour: (..., 3, H, W) rendered, premultiplied.
        alpha: (..., H, W) rendered.
        image: (..., 3, H, W), not premultiplied; anything where it is transparent.
        transparent: (..., H, W), see `alpha_loss`.
        background: (..., 3, 1, 1) or (..., 3, H, W).
        ignore: see `alpha_loss`.
    """
    clear = transparent.unsqueeze(-3)
    rendering = colour + (1 - alpha.unsqueeze(-3)) * background
    photo = (1 - clear) * image + clear * background
    return _supervised((rendering - photo).square().mean(dim=-3), ignore)


def object_loss(opacities: Tensor, objects: Tensor, *, ignore: Tensor | None = None) -> Tensor:
    """Mean binary cross entropy of each object's opacity with where it is (2.12).

    What is wholly wrong keeps its gradient, which clamping would take away.

    Args:
        opacities: (..., K, H, W) rendered, those of what is behind others without what they hide.
        objects: (..., K, H, W) in [0, 1].
        ignore: see `alpha_loss`.
    """
    inside = objects * torch.log(opacities.clamp(min=0) + EPSILON)
    outside = (1 - objects) * torch.log((1 - opacities).clamp(min=0) + EPSILON)
    return _supervised(-(inside + outside).mean(dim=-3), ignore)


def scaled_residual(prediction: Tensor, target: Tensor, weight: Tensor, span: Tensor) -> Tensor:
    """(prediction - target) / span, 0 where ``weight`` is 0; see `inverse_depth_loss`."""
    return torch.where(weight > 0, (prediction - target) / span[..., None, None], 0.0)


def _supervised(error: Tensor, ignore: Tensor | None) -> Tensor:
    if ignore is None:
        return error.mean()
    counts = 1 - ignore
    return (counts * error).sum() / counts.sum().clamp(min=1e-6)


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted means over the last two dimensions; 0 where all weights are."""
    total = weight.sum(dim=(-2, -1))
    return (weight * values).sum(dim=(-2, -1)) / torch.where(total > 0, total, 1.0)
