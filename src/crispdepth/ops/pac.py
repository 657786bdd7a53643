"""Pixel-adaptive convolution: its taps are weighted by how alike a guide is at both ends.

``y_i = b + sum_j K(f_i, f_j) W[p_i - p_j] x_j`` with ``K = exp(-|f_i - f_j|^2 / 2)`` (Su et al.,
*Pixel-Adaptive Convolutional Neural Networks*, CVPR 2019; spec 2.15). With a mask as the guide
nothing is mixed across its border.

There is one pass for each of the k^2 taps and no unfolded copy of the input. The computation is
that of the weight's type under autocast too, for eight bits are too few for depth.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

_LEAST_WEIGHT = 1e-5  # of normalised taps, which are relative to the best one; above 0 in float16
_LARGEST = 60.0  # exponent: beyond it a weight is too small to count, and its K would overflow
_ROOT = 1e-3  # |gradient| is smooth below this, for the root has no derivative at 0

_Taps = Sequence[tuple[int, int, Tensor]]  # moved by (y, x), and the weight (c_out, c_in)


def pac_conv2d(
    x: Tensor,  # (B, c_in, H, W)
    guide: Tensor,  # (B, g, H, W)
    weight: Tensor,  # (c_out, c_in, k, k), k odd
    bias: Tensor | None = None,  # (c_out,)
    *,
    dilation: int = 1,
    normalise: bool = False,
) -> Tensor:
    """A convolution of the same size, (B, c_out, H, W); what is beyond the frame counts as 0.

    With a constant guide it is `torch.nn.functional.conv2d`.

    Args:
        x: the input.
        guide: f, in units of its own standard deviation in K.
        weight, bias: as of a convolution.
        dilation: pixels between taps.
        normalise: divide by the sum of ``K |W|`` over the taps in the frame, so that an output is
            an average of inputs if W >= 0, also at the frame and beside edges of the guide.

    Raises:
        ValueError: sizes do not fit.
    """
    kernel = _checked(x, weight, weight.shape[1])
    if guide.shape[-2:] != x.shape[-2:]:
        raise ValueError(
            f"The guide of a convolution has the size of its input, {tuple(x.shape[-2:])}; got "
            f"{tuple(guide.shape[-2:])}."
        )
    offsets = [(tap - kernel // 2) * dilation for tap in range(kernel)]
    taps = [
        (down, right, weight[:, :, row, column])
        for row, down in enumerate(offsets)
        for column, right in enumerate(offsets)
    ]
    return _with_bias(_adapted(x, guide, guide, taps, normalise), bias)


def pac_conv_transpose2d(
    x: Tensor,  # (B, c_in, h, w)
    guide: Tensor,  # (B, g, H, W)
    weight: Tensor,  # (c_in, c_out, k, k), k odd
    bias: Tensor | None = None,  # (c_out,)
    *,
    stride: int = 2,
    input_guide: Tensor | None = None,  # (B, g, h, w)
    normalise: bool = False,
) -> Tensor:
    """A transposed convolution to the size of the guide, (B, c_out, H, W).

    With a constant guide it is `torch.nn.functional.conv_transpose2d` with padding ``(k - 1) / 2``:
    input i lies on output pixel ``stride * i``.

    Args:
        x: the input.
        guide: f at the size of the output, ``(h - 1) stride < H <= h stride``; W likewise.
        weight, bias: as of `torch.nn.ConvTranspose2d`, taps not flipped.
        stride: output pixels per input pixel, at most k.
        input_guide: f of the inputs. None: the guide at the pixels that they lie on. Where an
            input stands for all ``stride^2`` pixels, as depth at a lower resolution does, the mean
            of the guide over them is better: a mask that cuts through them then counts as half.
        normalise: divide by the sum of ``K |W|`` over the inputs that reach the output.

    Raises:
        ValueError: sizes do not fit.
    """
    kernel = _checked(x, weight, weight.shape[0])
    (h, w), (height, width) = x.shape[-2:], guide.shape[-2:]
    if not ((h - 1) * stride < height <= h * stride and (w - 1) * stride < width <= w * stride):
        raise ValueError(
            f"Made larger {stride} times, ({h}, {w}) has up to ({h * stride}, {w * stride}) "
            f"pixels; got a guide of ({height}, {width})."
        )
    if input_guide is not None and input_guide.shape[-2:] != x.shape[-2:]:
        raise ValueError(
            f"The guide of the inputs has their size, {tuple(x.shape[-2:])}; got "
            f"{tuple(input_guide.shape[-2:])}."
        )
    if stride > kernel:
        raise ValueError(f"A kernel of {kernel} leaves gaps at a stride of {stride}.")
    padding = (0, w * stride - width, 0, h * stride - height)
    # Output pixels that differ by a multiple of the stride are reached by the same taps.
    parts = F.pixel_unshuffle(F.pad(guide, padding), stride)
    parts = torch.unflatten(parts, 1, (guide.shape[1], stride * stride))
    there = parts[:, :, 0] if input_guide is None else input_guide
    offsets = [tap - kernel // 2 for tap in range(kernel)]
    phases = []
    for phase in range(stride * stride):
        at_row, at_column = divmod(phase, stride)
        taps = [
            ((at_row - down) // stride, (at_column - right) // stride, weight[:, :, row, column].T)
            for row, down in enumerate(offsets)
            for column, right in enumerate(offsets)
            if (at_row - down) % stride == 0 and (at_column - right) % stride == 0
        ]
        phases.append(_adapted(x, parts[:, :, phase], there, taps, normalise))
    output = F.pixel_shuffle(torch.stack(phases, dim=2).flatten(1, 2), stride)
    return _with_bias(output[..., :height, :width], bias)


def _checked(x: Tensor, weight: Tensor, channels: int) -> int:
    kernel = weight.shape[-1]
    if kernel % 2 == 0 or weight.shape[-2] != kernel:
        raise ValueError(f"Kernels are square and odd, got {tuple(weight.shape[-2:])}.")
    if x.shape[1] != channels:
        raise ValueError(f"The weight takes {channels} channels, got {x.shape[1]}.")
    return kernel


def _with_bias(output: Tensor, bias: Tensor | None) -> Tensor:
    return output if bias is None else output + bias[:, None, None]


def _adapted(x: Tensor, here: Tensor, there: Tensor, taps: _Taps, normalise: bool) -> Tensor:
    """The sum over taps, (B, c_out, h, w), of an input whose guide is ``there``."""
    weights = torch.stack([weight for *_, weight in taps])  # (taps, c_out, c_in)
    reach = max(abs(step) for down, right, _ in taps for step in (down, right))
    with torch.autocast(x.device.type, enabled=False):
        x, here, there = (F.pad(each.to(weights.dtype), (reach,) * 4) for each in (x, here, there))
        closeness = _closeness(here, there, taps, weights.detach() if normalise else None)
        output: Tensor = sum(  # type: ignore[assignment]
            F.conv2d(_moved(x, tap, reach) * closeness[:, index, None], tap[2][:, :, None, None])
            for index, tap in enumerate(taps)
        )
        if not normalise:
            return output
        total = torch.einsum("to,bthw->bohw", weights.abs().sum(dim=2), closeness)
        return output / total.clamp(min=_LEAST_WEIGHT)


def _closeness(here: Tensor, there: Tensor, taps: _Taps, weights: Tensor | None) -> Tensor:
    """K for each tap, (B, taps, h, w), 0 beyond the frame.

    With weights it is relative to the tap of the largest ``K |W|``, so that not all of them are 0
    where all guides differ much.
    """
    reach = max(abs(step) for down, right, _ in taps for step in (down, right))
    origin = _moved(here, (0, 0, None), reach)
    frame = F.pad(torch.ones_like(origin[:1, :1]), (reach,) * 4)
    exponent = torch.stack(
        [-0.5 * (origin - _moved(there, tap, reach)).square().sum(dim=1) for tap in taps], dim=1
    )
    inside = torch.cat([_moved(frame, tap, reach) for tap in taps], dim=1)
    if weights is not None:
        shares = weights.abs().sum(dim=(1, 2)).log()[:, None, None] + inside.log()
        best = (exponent.detach() + shares).amax(dim=1, keepdim=True)
        least = torch.finfo(best.dtype).min
        exponent = (exponent - best.clamp(min=least)).clamp(max=_LARGEST)
    return torch.exp(exponent) * inside


def _moved(padded: Tensor, tap: tuple[int, int, object], reach: int) -> Tensor:
    (down, right, _), (height, width) = tap, padded.shape[-2:]
    top, left = reach + down, reach + right
    return padded[..., top : top + height - 2 * reach, left : left + width - 2 * reach]


def mask_guide(
    mask: Tensor,  # (B, 1, H, W) in [0, 1]
    image: Tensor | None = None,  # (B, c, H, W) in [0, 1]
    *,
    mask_weight: float = 4.0,
    edge_weight: float = 1.0,
    image_weight: float = 4.0,
) -> Tensor:
    """The guide ``[w_m m, w_e |grad m|, w_x image]``, (B, 2 or 2 + c, H, W).

    At the default the two sides of a hard border have K <= exp(-8) = 3e-4. A constant mask guides
    nothing.
    """
    parts = [mask_weight * mask, edge_weight * gradient_magnitude(mask)]
    return torch.cat(parts if image is None else [*parts, image_weight * image], dim=1)


def gradient_magnitude(x: Tensor) -> Tensor:
    """``|grad x|`` per pixel of maps (B, c, H, W), by central differences; the frame is no edge.

    Exactly 0 where x is constant, and its own gradient is finite there.
    """
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    squared = across.square() + down.square()
    return squared / (torch.sqrt(squared + _ROOT**2) + _ROOT)


def bilinear_taps(scale: int) -> Tensor:
    """The weight (1, 1, k, k) with which `pac_conv_transpose2d` is bilinear enlargement.

    Normalised and with a constant guide it is
    ``torch.nn.functional.interpolate(align_corners=False)``, at the frame too: although input i
    lies on output ``scale * i``, its taps weigh by the distance to where its centre belongs. For a
    scale of 2 k is 5.
    """
    reach = (3 * scale - 2) // 2
    offsets = torch.arange(-reach, reach + 1)
    centre = (scale - 1) / 2  # of the outputs that an input pixel covers
    line = (1 - (offsets - centre).abs() / scale).clamp(min=0)
    return (line[:, None] * line)[None, None]
