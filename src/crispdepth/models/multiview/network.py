"""Posed photos, with soft masks or without, to the depth of each.

A plane-sweep network in the manner of DepthSplat (Xu et al., CVPR 2025), small enough for a CPU:
features of each view, attention between the views, correlations along planes of equal inverse
depth, a filter that all planes share and a U-Net that knows the photo, then a finer sweep around
the answer and upsampling. Masks say which source pixels are evidence, which planes are worth
looking at, and where depth may jump; ones everywhere are the same as no masks.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crispdepth.models.multiview.config import MultiviewNetworkConfig
from crispdepth.models.multiview.cost import (
    Correlation,
    PlaneFilter,
    Rig,
    Volume,
    expectation,
)
from crispdepth.models.multiview.pyramid import Levels, Pyramid
from crispdepth.models.multiview.regulariser import Regulariser
from crispdepth.models.multiview.transformer import MultiviewTransformer
from crispdepth.models.multiview.upsampler import Guide, Residual, guided_double
from crispdepth.ops.cost_volume import inverse_depth_candidates

STRIDE = 16
"""Heights and widths of the photos are multiples of this."""


class MultiviewPrediction(NamedTuple):
    """What the network says of the first R views; inverse depths in 1 / the unit of the poses."""

    inverse_depth: Tensor  # (B, R, H, W), between 1 / far and 1 / near
    coarse: tuple[Tensor, Tensor]  # (B, R, H / 4, W / 4) and (B, R, H / 2, W / 2)
    logits: Tensor  # (B, R, D, H / 4, W / 4) of the coarse planes, 1 / far to 1 / near
    probability: Tensor  # (B, R, H / 2, W / 2) in (0, 1]: of the planes about the answer
    evidence: Tensor  # (B, R, H / 4, W / 4) in [0, 1]: what share of the sources sees the answer


class MultiviewNetwork(nn.Module):
    """Depth of posed views that see the same."""

    def __init__(self, config: MultiviewNetworkConfig) -> None:
        """A network with fresh weights."""
        super().__init__()
        self.config = config
        half, quarter, eighth = config.widths
        self.pyramid = Pyramid(config.widths)
        self.transformer = MultiviewTransformer(eighth, config.attention_blocks, config.heads)
        self.merge_quarter = nn.Conv2d(quarter + eighth, quarter, 3, padding=1)
        self.merge_half = nn.Conv2d(half + quarter, half, 3, padding=1)
        self.correlate_quarter = Correlation(quarter, config.matching[0])
        self.correlate_half = Correlation(half, config.matching[1])
        self.filter_quarter = PlaneFilter(self.correlate_quarter.groups, config.filter_width)
        self.filter_half = PlaneFilter(self.correlate_half.groups, config.filter_width)
        self.regulariser = Regulariser(config.planes[0], quarter + eighth, config.unet_width)
        self.guide_half = Guide(half)
        self.guide_full = Guide(3)
        self.residual = Residual(config.widths, config.features)

    def forward(
        self,
        images: Tensor,
        K: Tensor,
        cam_from_world: Tensor,
        near: Tensor,
        far: Tensor,
        masks: Tensor | None = None,
        references: int | None = None,
    ) -> MultiviewPrediction:
        """Depth of the first views, each matched with all others.

        Args:
            images: (B, V, 3, H, W) in [0, 1], V >= 1; H and W multiples of `STRIDE`.
            K: (B, V, 3, 3), pixels, the centre of the top-left one at (0.5, 0.5).
            cam_from_world: (B, V, 4, 4), OpenCV axes.
            near, far: (B, V), the range of each view's depth in the unit of the poses.
            masks: (B, V, 1, H, W) in [0, 1], 1 = evidence; a view of ones is unknown. None: ones.
            references: how many views; None: all.

        Raises:
            ValueError: the size does not fit.
        """
        batch, views, _, height, width = images.shape
        if height % STRIDE or width % STRIDE:
            raise ValueError(
                f"Height and width must be multiples of {STRIDE}, got {height} x {width}."
            )
        rig = Rig(K, cam_from_world, near, far)
        own = self.pyramid(images.flatten(0, 1))
        maps = self._mix(own, (batch, views))
        count = views if references is None else references
        return self._decode(images, maps, rig, masks, count)

    def _mix(self, own: Levels, shape: tuple[int, int]) -> Levels:
        """Features (B V, C, h, w) that know the other views, and all coarser levels."""
        eighth = self.transformer(torch.unflatten(own.eighth, 0, shape)).flatten(0, 1)
        up = F.interpolate(eighth, scale_factor=2, mode="bilinear")
        quarter = F.relu(self.merge_quarter(torch.cat((own.quarter, up), dim=1)))
        up = F.interpolate(quarter, scale_factor=2, mode="bilinear")
        half = F.relu(self.merge_half(torch.cat((own.half, up), dim=1)))
        return Levels(half, quarter, eighth)

    def _decode(
        self, images: Tensor, maps: Levels, rig: Rig, masks: Tensor | None, count: int
    ) -> MultiviewPrediction:
        batch, views = images.shape[:2]
        shape = (batch, count)
        first = Levels(
            *(torch.unflatten(x, 0, (batch, views))[:, :count].flatten(0, 1) for x in maps)
        )
        shares = {s: None if masks is None else area(masks, s) for s in (2, 4)}
        mask = None if masks is None else masks[:, :count].flatten(0, 1)

        grey = images.flatten(0, 1).mean(dim=1, keepdim=True)
        planes = inverse_depth_candidates(rig.near, rig.far, self.config.planes[0])[:, :count]
        rho = planes.flatten(0, 1)[..., None, None]
        step = (rho[:, 1] - rho[:, 0])[:, None]
        volume = self._correlate(
            self.correlate_quarter,
            maps.quarter,
            F.avg_pool2d(grey, 2),
            shares[4],
            rig,
            4,
            rho,
            shape,
        )
        logits = self.filter_quarter(volume)
        up = F.interpolate(first.eighth, scale_factor=2, mode="bilinear")
        context = torch.cat((first.quarter, up), dim=1)
        logits = logits + self.regulariser(logits, context)
        coarse, sure = expectation(logits, rho, self.config.peak)
        coarse, sure = coarse[:, None], sure[:, None]

        guides = self.guide_half(first.half, None if mask is None else area(mask, 2))
        middle = guided_double(torch.cat((coarse.detach(), sure), dim=1), *guides)
        middle, sure = middle[:, :1].detach(), middle[:, 1:]
        offsets = torch.linspace(-1, 1, self.config.planes[1], device=rho.device)
        fine_rho = middle + self.config.reach * step * offsets[:, None, None]
        fine_volume = self._correlate(
            self.correlate_half, maps.half, grey, shares[2], rig, 2, fine_rho, shape
        )
        fine_logits = self.filter_half(fine_volume)
        fine, _ = expectation(fine_logits, fine_rho, 0)
        fine = fine[:, None]

        guides = self.guide_full(images[:, :count].flatten(0, 1), mask)
        full = guided_double(fine, *guides)
        low, high = rho[:, :1], rho[:, -1:]
        change, _ = self.residual(
            torch.cat((first.half, (fine - low) / (high - low)), dim=1),
            torch.cat((first.quarter, (coarse - low) / (high - low)), dim=1),
            first.eighth,
        )
        full = (full + step * change).clamp(low, high)
        evidence = volume.evidence[:, 0].gather(1, logits.argmax(dim=1)[:, None])[:, 0]
        return MultiviewPrediction(
            torch.unflatten(full[:, 0], 0, shape),
            (torch.unflatten(coarse[:, 0], 0, shape), torch.unflatten(fine[:, 0], 0, shape)),
            torch.unflatten(logits, 0, shape),
            torch.unflatten(sure[:, 0], 0, shape),
            torch.unflatten(evidence, 0, shape),
        )

    def _correlate(
        self,
        correlation: Correlation,
        maps: Tensor,
        grey: Tensor,
        weight: Tensor | None,
        rig: Rig,
        stride: int,
        rho: Tensor,
        shape: tuple[int, int],
    ) -> Volume:
        features = torch.unflatten(correlation.describe(maps, grey), 0, (shape[0], -1))
        rho = torch.unflatten(rho if rho.shape[-1] > 1 else rho[..., 0, 0], 0, shape)
        volume: Volume = correlation(features, weight, rig, stride, rho)
        return volume


def area(masks: Tensor, stride: int) -> Tensor:
    """Masks (..., 1, H, W) at 1 / stride of the size, averaged over areas."""
    shape = masks.shape
    pooled = shape[-2] // stride, shape[-1] // stride
    return F.avg_pool2d(masks.flatten(0, -4), stride).view(*shape[:-3], 1, *pooled)
