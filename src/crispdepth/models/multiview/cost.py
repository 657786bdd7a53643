"""Cost volumes of the network: what the others show where a pixel would be at each depth."""

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crispdepth.models.multiview.config import MultiviewNetworkConfig
from crispdepth.models.multiview.edge_volume import ConvexFusion, EdgeFeatures, SumFusion
from crispdepth.models.multiview.layers import zeroed
from crispdepth.models.multiview.view_weights import (
    EpipolarAttention,
    PairDepth,
    PairUncertainty,
    PixelViewWeight,
    Temperature,
    UncertaintyNetwork,
    view_softmax,
)
from crispdepth.ops.cost_volume import LEAST, Pair, aggregate, resized_intrinsics, sweep_pairs

WINDOW = 4
"""Side of the windows of grey values that are compared."""

IN_GROUP = 4
"""Channels of a group of those that are correlated; each row of a window is a group."""

NOISE = 0.01
"""Standard deviation of grey values, 0..1, at which a window counts as half textureless."""

HULL = 4.0
"""What a plane loses in the beginning where a point would be beside the object in all views."""

SHARPNESS = 10.0
"""By which correlations become logits in the beginning."""


class Rig(NamedTuple):
    """The cameras of the views and the range of their depths."""

    K: Tensor  # (B, V, 3, 3), pixels of the full size
    cam_from_world: Tensor  # (B, V, 4, 4)
    near: Tensor  # (B, V)
    far: Tensor  # (B, V)

    def view(self, number: int) -> "Rig":
        """One view of each sample, (B, ...)."""
        return Rig(*(part[:, number] for part in self))


class Volume(NamedTuple):
    """The correlations of N references with all their sources."""

    similarity: Tensor  # (N, G, D, h, w) in [-1, 1]; 0 where no source sees anything
    evidence: Tensor  # (N, 1, D, h, w): mean weight of the sources, in [0, 1]
    beside: Tensor  # (N, 1, D, h, w): of the sources that see it, the share beside the object
    pairs: tuple[PairDepth, ...] = ()  # of each source, if their uncertainty is looked at


class SourceTrust(nn.Module):
    """How much each source may say, beyond what its mask and its frame say; one at the start."""

    def __init__(self, groups: int, config: MultiviewNetworkConfig) -> None:
        """Of correlations in ``groups``; the switches of ``config`` say which parts there are."""
        super().__init__()
        self.pixels = PixelViewWeight(groups) if config.view_weights else None
        self.uncertainty = UncertaintyNetwork(groups) if config.uncertainty else None
        self.along = EpipolarAttention() if config.epipolar_transformer else None
        self.competition: PixelViewWeight | None = None
        if config.competing:
            self.competition, self.temperature = PixelViewWeight(groups), Temperature()

    def forward(self, pairs: Iterable[Pair], said: list[PairUncertainty]) -> Iterator[Pair]:
        """The pairs of all sources, with their weights times what they are trusted.

        ``said`` gets what each is sure of, if that is looked at.
        """
        if self.competition is not None:
            pairs = list(pairs)
            scores = [self.competition.score(cost) for cost, _ in pairs]
            shares: Iterable[Tensor] = (
                view_softmax(torch.stack(scores), self.temperature()) if scores else ()
            )
            pairs = [
                Pair(cost, weight * share[:, :, None])
                for (cost, weight), share in zip(pairs, shares, strict=True)
            ]
        for cost, weight in pairs:
            if self.pixels is not None:
                weight = weight * self.pixels(cost)
            if self.uncertainty is not None:
                said.append(self.uncertainty(cost))
                weight = weight * said[-1].weight()
            if self.along is not None:
                weight = weight * self.along(cost)
            yield Pair(cost, weight)


class Correlation(nn.Module):
    """Group-wise cosines of features along the sweep, each source weighted by what it can say.

    ``C(p, d) = sum_i w_i C_i / sum_i w_i`` with ``w_i`` = in frame * warped mask of the source *
    `SourceTrust` (spec 2.2); the mask of the reference is no part of it, for there it would
    cancel (spec 0.1).
    """

    def __init__(self, channels: int, matching: int, config: MultiviewNetworkConfig) -> None:
        """From ``channels`` of a map to ``matching``, a multiple of `IN_GROUP`."""
        super().__init__()
        self.groups = matching // IN_GROUP + WINDOW
        self.project = nn.Conv2d(channels, matching, 1, bias=False)
        self.trust = SourceTrust(self.groups, config)

    def describe(self, maps: Tensor, grey: Tensor) -> Tensor:
        """What is correlated, (N, C, h, w).

        Args:
            maps: (N, channels, h, w).
            grey: (N, 1, 2 h, 2 w) in [0, 1].
        """
        found = torch.unflatten(self.project(maps), 1, (-1, IN_GROUP))
        found = F.normalize(found, dim=2, eps=1e-3).flatten(1, 2)
        return torch.cat((found, windows(grey)), dim=1)

    def forward(
        self, features: Tensor, weight: Tensor | None, rig: Rig, stride: int, rho: Tensor
    ) -> Volume:
        """Correlate the first R views with all others.

        Args:
            features: (B, V, C, h, w), of `describe`.
            weight: (B, V, 1, h, w) in [0, 1] of the sources' pixels; None: ones.
            rig: the cameras.
            stride: of the features.
            rho: (B, R, D) or (B, R, D, h, w) inverse depths.
        """
        return correlate_views(features, weight, rig, stride, rho, self.groups, self.trust)


def correlate_views(
    features: Tensor,
    weight: Tensor | None,
    rig: Rig,
    stride: int,
    rho: Tensor,
    groups: int,
    trust: SourceTrust | None = None,
) -> Volume:
    """See `Correlation`; the groups are of channels of unit length."""
    height, width = features.shape[-2:]
    full = (height * stride, width * stride)
    K = resized_intrinsics(rig.K, full, (height, width))
    pairs = sweep_pairs(features, K, rig.cam_from_world, rho, groups=groups, confidence=weight)
    scale = (features.shape[2] / groups) ** 0.5
    seen: list[Tensor] = []
    said: list[PairUncertainty] = []

    def cosines() -> Iterator[Pair]:
        for cost, inside in pairs:
            seen.append(inside)
            yield Pair(cost * scale, inside)

    shape = (rho.shape[0] * rho.shape[1], groups, rho.shape[2], height, width)
    total = aggregate(trust(cosines(), said) if trust is not None else cosines(), shape, rho.device)
    if not seen:
        return Volume(total.cost, total.evidence, total.evidence)
    weights = torch.stack(seen)
    there = weights > 0
    beside = torch.where(there, 1 - weights, 0) / (1 - LEAST)  # as `source_weight` has made it
    beside = beside.sum(dim=0) / there.sum(dim=0).clamp_min(1)
    candidates = rho.flatten(0, 1).view(shape[0], shape[2], *(rho.shape[3:] or (1, 1)))
    return Volume(
        total.cost, weights.mean(dim=0), beside, tuple(each.depth(candidates) for each in said)
    )


class EdgeVolume(nn.Module):
    """A cost volume of features of edges, joined with that of the photos (spec 2.7)."""

    def __init__(self, groups: int, kind: Literal["sum", "convex"]) -> None:
        """As many ``groups`` as the volume has that it is joined with."""
        super().__init__()
        self.groups = groups
        self.features = EdgeFeatures(IN_GROUP * groups)
        self.fuse = SumFusion(groups) if kind == "sum" else ConvexFusion(groups)

    def forward(
        self, volume: Volume, images: Tensor, weight: Tensor | None, rig: Rig, rho: Tensor
    ) -> Volume:
        """The joined volume at 1/4; photos (B, V, 3, H, W), the rest as for `Correlation`."""
        edges = torch.unflatten(self.features(images.flatten(0, 1)), 1, (-1, IN_GROUP))
        edges = F.normalize(edges, dim=2, eps=1e-3).flatten(1, 2)
        edges = torch.unflatten(edges, 0, images.shape[:2])
        other = correlate_views(edges, weight, rig, 4, rho, self.groups)
        return volume._replace(similarity=self.fuse(volume.similarity, other.similarity))


def windows(grey: Tensor) -> Tensor:
    """Normalised windows (N, `WINDOW`^2, h, w) of a photo twice the size (N, 1, 2 h, 2 w).

    Their product is the zero-normalised cross-correlation of the classical sweep: it needs no
    learning, and what is learned is what to add to it.
    """
    count, _, height, width = grey.shape
    border = WINDOW // 2 - 1
    padded = F.pad(grey, (border,) * 4, mode="replicate")
    found = F.unfold(padded, WINDOW, stride=2).view(count, WINDOW**2, height // 2, width // 2)
    found = found - found.mean(dim=1, keepdim=True)
    return found / (found.square().sum(dim=1, keepdim=True) + WINDOW**2 * NOISE**2).sqrt()


class PlaneFilter(nn.Module):
    """A small U-Net in the image, and along depth, that treats all planes alike."""

    def __init__(self, groups: int, width: int, *, hull: bool) -> None:
        """Reads ``groups`` correlations, the last of them those of windows, and the evidence."""
        super().__init__()
        self.enter = nn.Conv2d(groups + 1, width, 3, padding=1)
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.deep = nn.Conv2d(2 * width, 6 * width, 3, padding=1)
        self.deeper = nn.Conv2d(2 * width, 6 * width, 3, padding=1)
        self.up = nn.Conv2d(2 * width, width, 1)
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.leave = zeroed(nn.Conv2d(width, 3, 1))
        self.hull = nn.Parameter(torch.tensor(HULL)) if hull else None
        learned = groups - WINDOW
        start = torch.cat((torch.full((learned,), 1 / learned), torch.ones(WINDOW)))
        self.sharpness = nn.Parameter(SHARPNESS * start)

    def forward(self, volume: Volume) -> Tensor:
        """Logits (N, D, h, w): in the beginning the mean correlation times the sharpness."""
        count, _, planes, height, width = volume.similarity.shape
        by_plane = volume.similarity.transpose(1, 2), volume.evidence.transpose(1, 2)
        x = torch.cat(by_plane, dim=2).flatten(0, 1)
        # In place where nothing else holds what goes in: these are the largest maps.
        x = F.relu(self.enter(x), inplace=True)
        deep = F.relu(self.down(x), inplace=True)
        deep = F.relu(along_depth(self.deep(deep), planes), inplace=True)
        deep = deep + F.relu(along_depth(self.deeper(deep), planes), inplace=True)
        deep = F.interpolate(self.up(deep), size=(height, width), mode="bilinear")
        x = x + F.relu(self.mix(F.relu(x + deep, inplace=True)), inplace=True)
        change = along_depth(self.leave(x), planes).view(count, planes, height, width)
        start = (volume.similarity * self.sharpness[:, None, None, None]).sum(dim=1)
        logits: Tensor = start + change
        if self.hull is not None:
            logits = logits - self.hull * volume.beside[:, 0]
        return logits


def along_depth(x: Tensor, planes: int) -> Tensor:
    """What each plane says of the one before it, itself and the one after it, added up.

    With the convolution before it, this is a 3 x 3 x 3 convolution; (N D, 3 C, h, w) to
    (N D, C, h, w).
    """
    before, own, after = torch.unflatten(x, 0, (-1, planes)).chunk(3, dim=2)
    total = own.clone()
    total[:, :-1] += before[:, 1:]
    total[:, 1:] += after[:, :-1]
    return total.flatten(0, 1)


def expectation(logits: Tensor, rho: Tensor, peak: int) -> tuple[Tensor, Tensor]:
    """The expected inverse depth, and how much of all probability is about it.

    Args:
        logits: (B, D, h, w).
        rho: (B, D, h or 1, w or 1), equally spaced.
        peak: planes to either side of the likeliest that count; 0: all.

    Returns:
        (B, h, w) inverse depths, and (B, h, w) in (0, 1].
    """
    probability = logits.softmax(dim=1)
    rho = rho.expand_as(probability)
    if not peak:
        return (probability * rho).sum(dim=1), probability.amax(dim=1)
    best = logits.argmax(dim=1, keepdim=True)
    near = best + torch.arange(-peak, peak + 1, device=best.device)[:, None, None]
    there = (near >= 0) & (near < logits.shape[1])
    near = near.clamp(0, logits.shape[1] - 1)
    share = probability.gather(1, near) * there
    total = share.sum(dim=1)
    return (share * rho.gather(1, near)).sum(dim=1) / total, total
