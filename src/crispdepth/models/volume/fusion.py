"""Stage 2 of VolumeFusion: posed features and depth in one volume, to signed distances (B.3-B.5).

Views are added one after the other to an `Accumulator`, whose memory does not depend on their
number; a `FusionNetwork` reads it. One scene is one volume: nothing here has a batch of views.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crispdepth.geometry.voxel_grid import Index, VoxelGrid
from crispdepth.models.volume.config import Embedding, FusionConfig, Sampling
from crispdepth.models.volume.layers3d import STRIDE, ConvBnReLU3d, Hourglass3d
from crispdepth.ops.cost_volume import resized_intrinsics
from crispdepth.ops.posed_conv import batch_of_one, binned_conv, nearest_octahedral, posed_conv
from crispdepth.ops.volume_features import (
    backproject,
    depth_in_sight,
    depth_points,
    in_sight,
    occupied,
    signed_distances,
    splat,
    taps,
)

Filter = Callable[[Tensor, Tensor], Tensor]
"""Features (C, X, Y, Z) of a view and its rotation (3, 3) to what is summed."""


class Accumulator:
    """Sums over views of what they say of the voxels of a grid; state between calls of `add`.

    Everything is a sum, so the order of views does not matter, and gradients flow through all of
    them. Rows of `sums` are voxels, flat [x, y, z].

    Attributes:
        grid: the voxels.
        sums: rotation -> (voxels, C) features of the views that are nearest to it (see
            `crispdepth.ops.posed_conv.octahedral_rotations`); all are rotation 0 where kernels do
            not turn, or have turned already.
        counts: (X, Y, Z) views whose features are in the sums.
        seen: (X, Y, Z) views that have the voxel in their frames.
        settled: (C, X, Y, Z) what `FusionNetwork.settle` has made of sums; None: nothing yet.
        views: how many were added.
    """

    def __init__(
        self,
        grid: VoxelGrid,
        channels: int,
        *,
        device: torch.device,
        binned: bool = True,
        filtered: Filter | None = None,
        sampling: Sampling = "bilinear",
        truncate: float = 0.0,
        embedding: Embedding = "tsdf",
        truncation: float = 3.0,
    ) -> None:
        """Nothing seen yet.

        Args:
            grid: the voxels.
            channels: C of the features.
            device: where to add.
            binned: sums of each of the 24 rotations apart.
            filtered: applied to the features of each view before they are added; None: nothing.
            sampling, truncate, embedding, truncation: see `FusionConfig`.
        """
        self.grid, self.channels = grid, channels
        self.binned, self.filtered = binned, filtered
        self.sampling, self.embedding = sampling, embedding
        self.truncate, self.truncation = truncate, truncation
        self.device = device
        self.sums: dict[int, Tensor] = {}
        self.settled: Tensor | None = None
        self.seen = torch.zeros(grid.shape, device=device)
        # The same tensor where every view that has a voxel in its frame also says something.
        self.counts = self.seen if truncate == 0 else torch.zeros_like(self.seen)
        self.views = 0
        self._votes = torch.zeros(len(grid), device=device)
        self._heard = torch.zeros(len(grid), device=device)

    def add(
        self,
        features: Tensor,
        K: Tensor,
        cam_from_world: Tensor,
        depth: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Add a view, which says nothing beyond its `sight_limit` where its depth is read.

        Args:
            features: (C, h, w).
            K: (3, 3), pixels of the features.
            cam_from_world: (4, 4).
            depth: of the same frame in any size (H, W), such as the photo's, in the unit of the
                scene, 0 = none; None: the view has no depth.
            weight: (H, W) in [0, 1], how much each pixel's depth counts: 0 beside masks' edges
                and on what is not the object. None: ones.

        Raises:
            ValueError: shapes do not fit.
        """
        self._check(features, depth, weight)
        size = features.shape[1], features.shape[2]
        own = size if depth is None else (depth.shape[0], depth.shape[1])
        K = resized_intrinsics(K, size, own)
        far = math.inf
        if depth is not None and (self.embedding != "none" or self.truncate):
            far = sight_limit(depth, weight, self.truncation * self.grid.voxel_size)
        sight = in_sight(self.grid, K, cam_from_world, own, far)
        self.views += 1
        self.seen.view(-1)[sight.voxels] += 1
        surface = None
        if depth is not None and (self.embedding == "tsdf" or self.truncate):
            surface = depth_in_sight(depth, sight, self.truncation * self.grid.voxel_size)
            if self.embedding == "tsdf":
                length = self.truncation * self.grid.voxel_size
                distance, heard = signed_distances(surface, weight, sight, own, length)
                self._votes.index_add_(0, sight.voxels, distance * heard)
                self._heard.index_add_(0, sight.voxels, heard)
        if depth is not None and self.embedding in ("count", "visible", "splat"):
            self._vote(depth, weight, K, cam_from_world)
        if self.truncate:
            if surface is None:
                return
            reach = self.truncate * self.grid.voxel_size
            near = (surface > 0) & ((surface.detach() - sight.z).abs() <= reach)
            sight = type(sight)(*(part[near] for part in sight))
            self.counts.view(-1)[sight.voxels] += 1
        where = taps(sight.resized(own, size), size, self.sampling)
        rows = backproject(features, sight, where, len(self.grid))
        rotation = cam_from_world[:3, :3]
        if self.filtered is not None:
            rows = self.filtered(as_volume(rows, self.grid.shape), rotation)
            rows = rows.permute(1, 2, 3, 0).flatten(0, 2)
        which = int(nearest_octahedral(rotation)) if self.binned else 0
        if which in self.sums:
            self.sums[which] += rows
        else:
            self.sums[which] = rows

    def depth_channel(self) -> Tensor:
        """What depths say of each voxel, (X, Y, Z), by the embedding of `FusionConfig`.

        The signed distance where there is no evidence is -1, as that behind a surface.
        """
        votes = self._votes.view(self.grid.shape)
        if self.embedding == "count":
            return votes / max(self.views, 1)
        if self.embedding == "tsdf":
            heard = self._heard.view(self.grid.shape)
            known = heard > 0
            return torch.where(known, votes / torch.where(known, heard, 1), -1)
        return votes / self.seen.clamp_min(1)

    def evidence(self) -> Tensor:
        """The weights of all that signed distances were told, summed, (X, Y, Z)."""
        return self._heard.view(self.grid.shape)

    def observed(self) -> Tensor:
        """Where signed distances have evidence, bool (X, Y, Z)."""
        return self.evidence() > 0

    def _vote(
        self, depth: Tensor, weight: Tensor | None, K: Tensor, cam_from_world: Tensor
    ) -> None:
        points = depth_points(depth, K, cam_from_world, self.grid)
        valid = (depth > 0).flatten()
        mass = valid.to(depth) if weight is None else weight.flatten() * valid
        if self.embedding == "splat":
            # Of surface, in sides of voxels squared: a voxel near a camera has many pixels, but
            # not more surface. What stands far away has a whole voxel's for each pixel.
            footprint = depth.flatten().square() / float(K[0, 0] * K[1, 1])
            mass = mass * (footprint / self.grid.voxel_size**2).clamp_max(1)
            voxels, votes = splat(points, mass, self.grid)
        else:
            voxels, votes = occupied(points, mass, self.grid)
        self._votes.index_add_(0, voxels, votes)

    def _check(self, features: Tensor, depth: Tensor | None, weight: Tensor | None) -> None:
        if features.ndim != 3 or len(features) != self.channels:
            raise ValueError(f"Features are ({self.channels}, h, w), got {tuple(features.shape)}.")
        if depth is not None and depth.ndim != 2:
            raise ValueError(f"A depth is (H, W), got {tuple(depth.shape)}.")
        if depth is not None and weight is not None and weight.shape != depth.shape:
            raise ValueError(
                f"A weight has the size of its depth, {tuple(depth.shape)}; "
                f"got {tuple(weight.shape)}."
            )


class FusionNetwork(nn.Module):
    """Signed distances of what an `Accumulator` has seen.

    Values depend on their neighbourhood alone (`halo`), not on where a volume ends, in evaluation
    mode. With ``residual`` a fresh network returns the depths' fused signed distance exactly.
    """

    stride = STRIDE

    def __init__(self, config: FusionConfig, channels: int) -> None:
        """A network with fresh weights for features of so many channels."""
        super().__init__()
        self.config, self.channels = config, channels
        width = config.width
        self.posed = nn.Conv3d(channels, channels, 3, padding=1, bias=False)
        self.posed_norm = nn.BatchNorm3d(channels)
        inputs = channels + (config.embedding != "none") + config.evidence
        self.enter = nn.Sequential(ConvBnReLU3d(inputs, width), ConvBnReLU3d(width, width))
        self.hourglasses = nn.ModuleList(Hourglass3d(width) for _ in range(config.hourglasses))
        self.heads = nn.ModuleList(
            nn.Sequential(ConvBnReLU3d(width, width), nn.Conv3d(width, 1, 3, padding=1))
            for _ in range(config.hourglasses)
        )
        if config.residual:
            for head in self.heads:
                for parameter in head[-1].parameters():  # type: ignore[index]
                    nn.init.zeros_(parameter)

    @property
    def halo(self) -> int:
        """How far from a voxel the features and depths lie that it depends on, in voxels."""
        # PosedConv, the two layers that enter and the two of a head reach 1 each; an hourglass
        # 1 + 2 on its way to half, 2 + 4 to a quarter, and 2 + 1 up again.
        return 5 + 12 * self.config.hourglasses

    def accumulator(self, grid: VoxelGrid, device: torch.device) -> Accumulator:
        """An empty one, as the network reads it."""
        config = self.config
        return Accumulator(
            grid,
            self.channels,
            device=device,
            binned=config.rotation == "octahedral",
            filtered=self._filter(),
            sampling=config.sampling,
            truncate=config.truncate,
            embedding=config.embedding,
            truncation=config.truncation,
        )

    def settle(self, accumulator: Accumulator) -> None:
        """Filter the sums of rotations, of which only their sum is kept: less memory, same answer.

        Worth it where views come in the order of their rotations.
        """
        if self.config.rotation == "octahedral" and accumulator.sums:
            total = self._total(accumulator)
            accumulator.sums, accumulator.settled = {}, total

    def _total(self, accumulator: Accumulator) -> Tensor:
        """The sum over views of their filtered features (C, X, Y, Z)."""
        shape, settled = accumulator.grid.shape, accumulator.settled
        sums = {each: as_volume(rows, shape) for each, rows in accumulator.sums.items()}
        if not sums:
            none = accumulator.counts.new_zeros(self.channels, *shape)
            return none if settled is None else settled
        if self.config.rotation == "octahedral":
            total = binned_conv(sums, self.posed.weight)
            return total if settled is None else total + settled
        if self.config.rotation == "none":
            ordinary: Tensor = self.posed(batch_of_one(sums[0]))[0]
            return ordinary
        return sums[0]

    def unify(self, accumulator: Accumulator) -> Tensor:
        """The unified volume (C + 1, X, Y, Z); the channel of depth, if any, is the last.

        That of its evidence e, if asked for, is ``e / (1 + e)`` and comes before it.
        """
        counts = accumulator.counts
        mean = self._total(accumulator) * ((counts > 0) / counts.clamp_min(1))
        features: Tensor = F.relu(self.posed_norm(batch_of_one(mean))[0])
        if self.config.embedding == "none":
            return features
        parts = [features.movedim(0, -1), accumulator.depth_channel()[..., None]]
        if self.config.evidence:
            evidence = accumulator.evidence()
            parts.insert(1, (evidence / (1 + evidence))[..., None])
        return torch.cat(parts, dim=-1).movedim(-1, 0)

    def regress(self, volume: Tensor) -> Tensor:
        """Signed distances in [-1, 1] truncations, + in front of surfaces.

        Args:
            volume: (C + 1, X, Y, Z) of `unify`, or (N, C + 1, X, Y, Z) of as many tiles; sides
                are multiples of `stride` where tiles have to agree.

        Returns:
            (X, Y, Z) or (N, X, Y, Z).
        """
        return self._regress(volume, self.heads[-1:])[0]

    def predictions(self, volume: Tensor) -> tuple[Tensor, ...]:
        """What each hourglass says, as `regress`, for training; the last is the answer."""
        return self._regress(volume, self.heads)

    def _regress(self, volume: Tensor, heads: nn.ModuleList) -> tuple[Tensor, ...]:
        single = volume.ndim == 4
        batch = batch_of_one(volume) if single else volume
        # The layout in which convolutions of few channels are twice as fast on CPUs.
        layer = self.enter(batch.contiguous(memory_format=torch.channels_last_3d))
        answers = []
        skipped = len(self.hourglasses) - len(heads)
        for number, hourglass in enumerate(self.hourglasses):
            layer = hourglass(layer)
            if number >= skipped:
                raw = heads[number - skipped](layer)[:, 0]
                distance = self._distance(raw, batch[:, -1])
                answers.append(distance[0] if single else distance)
        return tuple(answers)

    def _distance(self, raw: Tensor, fused: Tensor) -> Tensor:
        if not self.config.residual:
            return raw.tanh()
        # Corrections reach from one end to the other. The value is clamped but the gradient is
        # not, or what has overshot could never come back.
        moved = fused + 2 * raw.tanh()
        return moved.clamp(-1, 1).detach() + (moved - moved.detach())

    def _filter(self) -> Filter | None:
        """What turns continuously cannot be summed before it is filtered."""
        match self.config.rotation:
            case "none" | "octahedral":
                return None
            case how:
                return lambda volume, turn: posed_conv(volume, self.posed.weight, turn, how)


def sight_limit(depth: Tensor, weight: Tensor | None, band: float) -> float:
    """The z-depth beyond which a view says nothing: the farthest that counts, and ``band``.

    Args:
        depth: (h, w), 0 = none.
        weight: (h, w) of the pixels, 0 = does not count; None: ones.
        band: in the unit of the depth.

    Returns:
        Infinity if no depth counts: nothing is known of where the rays end.
    """
    farthest = float((depth if weight is None else depth * (weight > 0)).detach().max())
    return farthest + band if farthest else math.inf


def as_volume(rows: Tensor, shape: Index) -> Tensor:
    """Rows (voxels, C) as (C, X, Y, Z), in the layout in which convolutions are fastest."""
    return rows.view(*shape, -1).permute(3, 0, 1, 2)
