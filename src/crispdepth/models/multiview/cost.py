"""Cost volumes of the network: what the others show where a pixel would be at each depth."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crispdepth.models.multiview.layers import zeroed

EPSILON = 1e-5
"""Added to sums of weights before they divide (spec 0.17)."""


WINDOW = 5
"""Side of the windows of grey values that are compared."""

NOISE = 0.01
"""Standard deviation of grey values, 0..1, at which a window counts as half textureless."""

SHARPNESS = 10.0
"""By which correlations become logits in the beginning."""


class Rig(NamedTuple):
    """The cameras of the views and the range of their depths."""

    K: Tensor  # (B, V, 3, 3), pixels of the full size
    cam_from_world: Tensor  # (B, V, 4, 4)
    near: Tensor  # (B, V)
    far: Tensor  # (B, V)


def scaled_intrinsics(K: Tensor, stride: int) -> Tensor:
    """K of maps at 1 / stride of the size; pixel centres are at +0.5 in both."""
    return K * K.new_tensor([1 / stride, 1 / stride, 1.0])[:, None]


def candidates(near: Tensor, far: Tensor, count: int) -> Tensor:
    """(B, V, count) inverse depths from 1 / far to 1 / near, equally spaced (spec 1.6)."""
    share = torch.linspace(0, 1, count, device=near.device, dtype=near.dtype)
    return torch.lerp(1 / far[..., None], 1 / near[..., None], share)


class Sweep(NamedTuple):
    """Where a source sees the pixels of a reference, at each of P = D h w places."""

    indices: Tensor  # (B P, 4) int32, of the four nearest pixels in (B h_s w_s)
    shares: Tensor  # (B P, 4), bilinear
    inside: Tensor  # (B, D, h, w) bool, in front of the source and in its frame


def sweep(
    rig: Rig, size: tuple[int, int], stride: int, rho: Tensor, reference: int, source: int
) -> Sweep:
    """Project a reference's pixels into a source; beyond its frame it is continued.

    Args:
        rig: the cameras; each view has its own K.
        size: (h, w) of the maps of both.
        stride: of these.
        rho: (B, D, h or 1, w or 1) inverse depths of the reference.
        reference, source: numbers of views.
    """
    height, width = size
    K = scaled_intrinsics(rig.K.double(), stride)
    pose = rig.cam_from_world.double()
    relative = pose[:, source] @ torch.linalg.inv(pose[:, reference])
    A = K[:, source] @ relative[:, :3, :3] @ torch.linalg.inv(K[:, reference])
    b = (K[:, source] @ relative[:, :3, 3:])[..., 0]
    A, b = A.to(rho.dtype), b.to(rho.dtype)
    x = torch.arange(width, device=rho.device) + 0.5
    y = torch.arange(height, device=rho.device)[:, None] + 0.5
    u, v, z = (
        (A[:, i, 0, None, None] * x + A[:, i, 1, None, None] * y + A[:, i, 2, None, None])[:, None]
        + rho * b[:, i, None, None, None]
        for i in range(3)
    )
    front = z > 1e-6
    scale = z.clamp_min(1e-6).reciprocal()
    u, v = (u * scale).clamp(-1, width + 1), (v * scale).clamp(-1, height + 1)
    inside = front & (u >= 0) & (u <= width) & (v >= 0) & (v <= height)
    u, v = (u - 0.5).clamp(0, width - 1), (v - 0.5).clamp(0, height - 1)
    left, top = u.floor().clamp(max=max(width - 2, 0)), v.floor().clamp(max=max(height - 2, 0))
    right, down = u - left, v - top
    first = torch.arange(len(rho), device=rho.device)[:, None, None, None] * (height * width)
    corner = (top * width + left).int() + first.int()
    across, below = min(width - 1, 1), width * min(height - 1, 1)
    indices = torch.stack((corner, corner + across, corner + below, corner + below + across), -1)
    left, top = 1 - right, 1 - down
    shares = torch.stack((left * top, right * top, left * down, right * down), dim=-1)
    return Sweep(indices.flatten(0, -2), shares.flatten(0, -2), inside)


class Volume(NamedTuple):
    """The correlations of N references with all their sources."""

    similarity: Tensor  # (N, D, G, h, w); 0 where no source sees anything
    evidence: Tensor  # (N, D, 1, h, w): mean weight of the sources, in [0, 1]


class Correlation(nn.Module):
    """Group-wise cosines of features along the sweep, each source weighted by what it can say.

    ``C(p, d) = sum_i w_i C_i / (sum_i w_i + eps)`` with ``w_i`` = in frame * warped mask of the
    source * a learned weight of the view (spec 2.2, 2.4); the mask of the reference is no part of
    it, for there it would cancel (spec 0.1).
    """

    def __init__(self, channels: int, matching: int, groups: int) -> None:
        """From ``channels`` of a map to ``matching`` that are correlated in ``groups``."""
        super().__init__()
        self.groups = groups
        self.project = nn.Conv2d(channels, matching, 1, bias=False)
        # All views count the same in the beginning.
        self.trust = nn.Sequential(nn.Linear(groups + 1, 8), nn.ReLU(), zeroed(nn.Linear(8, 1)))

    def describe(self, maps: Tensor, grey: Tensor) -> Tensor:
        """Vectors (N, h, w, C) that are correlated, each group of unit length.

        Args:
            maps: (N, channels, h, w).
            grey: (N, 1, 2 h, 2 w) in [0, 1].
        """
        found = torch.unflatten(self.project(maps).permute(0, 2, 3, 1), -1, (-1, self.groups))
        found = F.normalize(found, dim=-2, eps=1e-3).flatten(-2)
        return torch.cat((found, windows(grey)), dim=-1)

    def forward(
        self,
        features: Tensor,
        weight: Tensor | None,
        rig: Rig,
        stride: int,
        rho: Tensor,
        reference: int,
    ) -> Volume:
        """Correlate a reference with all other views.

        Args:
            features: (B, V, h, w, matching).
            weight: (B, V, 1, h, w) in [0, 1] of the sources' pixels; None: ones.
            rig, stride, rho, reference: as for `sweep`.
        """
        batch, views, height, width, _ = features.shape
        shape = (batch, rho.shape[1], height, width)
        own = features[:, reference, None]
        total, votes = (
            features.new_zeros((*shape, self.groups + 1)),
            features.new_zeros((*shape, 1)),
        )
        seen = votes
        sources = [index for index in range(views) if index != reference]
        for source in sources:
            there = sweep(rig, (height, width), stride, rho, reference, source)
            found = sample(features[:, source].flatten(0, 2), there)
            product = found.view(*shape, -1) * own
            learned = product[..., : -(WINDOW**2)].unflatten(-1, (-1, self.groups)).sum(dim=-2)
            one = torch.cat((learned, product[..., -(WINDOW**2) :].sum(dim=-1, keepdim=True)), -1)
            vote = there.inside[..., None].to(one.dtype)
            if weight is not None:
                vote = vote * sample(weight[:, source].reshape(-1, 1), there).view(*shape, 1)
            seen = seen + vote
            vote = vote * self.trust(one).amax(dim=1, keepdim=True).sigmoid()
            total, votes = total + vote * one, votes + vote
        similarity = total / (votes + EPSILON)
        evidence = seen / max(len(sources), 1)
        return Volume(similarity.permute(0, 1, 4, 2, 3), evidence.permute(0, 1, 4, 2, 3))


def windows(grey: Tensor) -> Tensor:
    """Normalised windows (N, h, w, `WINDOW`^2) of a photo twice the size (N, 1, 2 h, 2 w).

    Their product is the zero-normalised cross-correlation of the classical sweep: it needs no
    learning, and what is learned is what to add to it.
    """
    count, _, height, width = grey.shape
    border = WINDOW // 2
    padded = F.pad(grey, (border,) * 4, mode="replicate")
    # The windows about the four pixels of half the size would do; one, up and left, is as good.
    found = F.unfold(padded, WINDOW, stride=2).view(count, WINDOW**2, height // 2, width // 2)
    found = found - found.mean(dim=1, keepdim=True)
    length = (found.square().sum(dim=1, keepdim=True) + WINDOW**2 * NOISE**2).sqrt()
    return (found / length).permute(0, 2, 3, 1)


def sample(maps: Tensor, there: Sweep) -> Tensor:
    """Bilinear values (P, C) of maps (B h w, C): several times as fast as grid_sample on a CPU."""
    shares = there.shares.to(maps.dtype)
    return F.embedding_bag(there.indices, maps, per_sample_weights=shares, mode="sum")


class PlaneFilter(nn.Module):
    """A small U-Net in the image, and along depth, that treats all planes alike."""

    def __init__(self, groups: int, width: int) -> None:
        """Reads ``groups`` correlations and the evidence."""
        super().__init__()
        self.enter = nn.Conv2d(groups + 2, width, 3, padding=1)
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.deep = nn.Conv2d(2 * width, 6 * width, 3, padding=1)
        self.deeper = nn.Conv2d(2 * width, 6 * width, 3, padding=1)
        self.up = nn.Conv2d(2 * width, width, 1)
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.leave = zeroed(nn.Conv2d(width, 3, 1))
        self.sharpness = nn.Parameter(SHARPNESS * torch.tensor([1 / groups] * groups + [1.0]))

    def forward(self, volume: Volume) -> Tensor:
        """Logits (N, D, h, w): in the beginning the mean correlation times the sharpness."""
        count, planes, _, height, width = volume.similarity.shape
        x = torch.cat((volume.similarity, volume.evidence), dim=2).flatten(0, 1)
        x = F.relu(self.enter(x))
        deep = F.relu(self.down(x))
        deep = F.relu(along_depth(self.deep(deep), planes))
        deep = deep + F.relu(along_depth(self.deeper(deep), planes))
        deep = F.interpolate(self.up(deep), size=(height, width), mode="bilinear")
        x = x + F.relu(self.mix(F.relu(x + deep)))
        change = along_depth(self.leave(x), planes).view(count, planes, height, width)
        start = (volume.similarity * self.sharpness[:, None, None]).sum(dim=2)
        logits: Tensor = start + change
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
