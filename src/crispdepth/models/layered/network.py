"""The network ``R(D, I, M)`` that completes one layer of a depth map.

*Layered Depth Refinement with Mask Guidance* (Kim et al., CVPR 2022), section 3.2: a transformer
encoder sees the rough depth and the mask, a one-level branch sees the photo and the mask, a
low-level encoder keeps the detail of the input depth. Beyond the paper, where a preset asks for
it: a gate, a first estimate to correct, and detail to the pixel instead of the low-level encoder.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from crispdepth.geometry.depth import COMPLETER_RANGE
from crispdepth.models.layered.anchor import anchor
from crispdepth.models.layered.decoder import Decoder, Head, SubpixelHead
from crispdepth.models.layered.mit import MitLevel

STRIDE = 32
"""Heights and widths of the input are multiples of this."""

GATE_MARGIN = 0.02
"""How much of either end of a sigmoid the gate cuts off, so that it reaches 0 and 1."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class LayerOutput(NamedTuple):
    """One completed layer, all (B, 1, H, W) float32.

    What is used of it is ``inverse_depth + gate * (layer - inverse_depth)``.
    """

    layer: Tensor  # inverse depth on the scale of the input, defined on the whole frame
    gate: Tensor  # 0..1, both ends exactly reached; 1 everywhere for a network without a gate
    gate_logit: Tensor | None  # what the gate was made of; None for a network without a gate


class LowLevelEncoder(nn.Module):
    """Two convolutions that carry the input depth to the head at half resolution."""

    def __init__(self, widths: tuple[int, int]) -> None:
        """``widths`` are the channels after the first and the second convolution."""
        super().__init__()
        self.first = nn.Conv2d(1, widths[0], kernel_size=3, padding=1)
        self.second = nn.Conv2d(widths[0], widths[1], kernel_size=3, stride=2, padding=1)

    def forward(self, inverse_depth: Tensor) -> Tensor:
        """(B, 1, H, W) to (B, widths[1], H / 2, W / 2)."""
        return torch.relu(self.second(torch.relu(self.first(inverse_depth))))


class DetailEncoder(nn.Module):
    """Two convolutions that carry all inputs to the head at half resolution.

    The first one makes as many channels as it reads pixels and more, so that, unlike in the
    `LowLevelEncoder`, the border of the mask is known to the pixel.
    """

    def __init__(self, channels: int, width: int) -> None:
        """Reads ``channels`` maps at full resolution, writes ``width`` at half resolution."""
        super().__init__()
        self.first = nn.Conv2d(channels, width, kernel_size=4, stride=2, padding=1)
        self.second = nn.Conv2d(width, width, kernel_size=3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, channels, H, W) to (B, width, H / 2, W / 2)."""
        return torch.relu(self.second(torch.relu(self.first(maps))))


class LayeredNet(nn.Module):
    """Completes the masked layer of a rough inverse depth map."""

    def __init__(
        self,
        *,
        encoder: list[MitLevel],
        rgb: MitLevel,
        low_level: LowLevelEncoder | DetailEncoder,
        decoder: Decoder,
        head: Head | SubpixelHead,
        gated: bool = False,
        anchored: bool = False,
    ) -> None:
        """A network of these parts.

        Args:
            encoder: levels of the main branch; the first one sees depth and mask (2 channels).
            rgb: the level whose output on photo and mask (4 channels) is added to the first one's.
            low_level: what carries the input depth, or depth, mask, first estimate and photo (6
                channels), to the head.
            decoder: fuses the levels.
            head: makes the output maps: the layer and, if ``gated``, the logit of the gate.
            gated: whether the network says where its layer replaces the input.
            anchored: whether the head corrects a first estimate (`anchor`) instead of making the
                layer from nothing (ReLU, as in DPT). A residual to the input itself would have to
                cancel the blur and the other layer to the pixel; the estimate is free of both, so
                what must be learned is small and smooth, and the input's detail is kept inside.
        """
        super().__init__()
        self.encoder = nn.ModuleList(encoder)
        self.rgb = rgb
        self.low_level = low_level
        self.decoder = decoder
        self.head = head
        self.gated = gated
        self.anchored = anchored
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)
        if not anchored and head.last.bias is not None:
            # In the middle of the range no output is dead: ReLU passes every gradient on.
            layer = head.last.out_channels // (1 + gated)
            nn.init.constant_(head.last.bias[:layer], COMPLETER_RANGE / 2)

    @torch.no_grad()
    def calibrate_gate(self, threshold: float, sharpness: float) -> None:
        """Make the gate, in place, open by half at another probability, and more steeply.

        ``sigmoid(x)`` becomes ``sigmoid(sharpness * (x - logit(threshold)))``. It changes what is
        risked, not what is known: the order of the pixels stays. Without a gate nothing happens.

        Args:
            threshold: in (0, 1); 0.5 as trained.
            sharpness: above 0; 1 as trained.
        """
        if not self.gated:
            return
        last = self.head.last
        assert last.bias is not None
        gate = slice(last.out_channels // 2, None)  # behind the layer
        last.bias[gate] -= math.log(threshold / (1 - threshold))
        last.bias[gate] *= sharpness
        last.weight[gate] *= sharpness

    def forward(self, inverse_depth: Tensor, rgb: Tensor, mask: Tensor) -> LayerOutput:
        """Complete one layer.

        Args:
            inverse_depth: (B, 1, H, W) in [0, 10], larger = nearer; H and W multiples of 32.
            rgb: (B, 3, H, W) sRGB in [0, 1].
            mask: (B, 1, H, W) in [0, 1], 1 = belongs to this layer.
        """
        photo = (rgb - self.mean) / self.std
        first, *deeper = self.encoder
        x = first(torch.cat([inverse_depth, mask], dim=1)) + self.rgb(torch.cat([photo, mask], 1))
        levels = [x]
        for level in deeper:
            levels.append(level(levels[-1]))
        estimate = anchor(inverse_depth, mask) if self.anchored else torch.zeros_like(mask)
        near = inverse_depth
        if isinstance(self.low_level, DetailEncoder):
            near = torch.cat([inverse_depth, mask, estimate, photo], dim=1)
        features = torch.cat([self.decoder(levels), self.low_level(near)], dim=1)
        output = self.head(features).float()
        layer = estimate + output[:, :1] if self.anchored else torch.relu(output[:, :1])
        if not self.gated:
            return LayerOutput(layer, torch.ones_like(layer), None)
        logit = output[:, 1:]
        return LayerOutput(layer, stretched_sigmoid(logit), logit)


def stretched_sigmoid(logit: Tensor) -> Tensor:
    """A sigmoid stretched and clipped so that it reaches 0 and 1 (Louizos et al. 2018, eq. 10-11).

    ``clip((sigmoid(x) - e) / (1 - 2e), 0, 1)`` with e = `GATE_MARGIN`; the gradient is 0 where it
    is clipped.
    """
    stretched = (torch.sigmoid(logit) - GATE_MARGIN) / (1 - 2 * GATE_MARGIN)
    return stretched.clamp(0, 1)
