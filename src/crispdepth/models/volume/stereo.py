"""Stage 1 of VolumeFusion: posed photos to the depth of each, and to where it may be trusted.

A concatenation cost volume in the manner of DPSNet (Im et al., ICLR 2019): 3-D convolutions learn
how to compare features of the reference with those of each neighbour warped to it, the means over
the neighbours are filtered by hourglasses, and two heads say which plane it is and whether a
neighbour shows it at all (the overlap mask). Numbers of sections are those of part B of the
specification.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crispdepth.models.volume.config import Expectation, MaskSource, StereoConfig
from crispdepth.models.volume.features import STRIDE, FeatureExtractor
from crispdepth.models.volume.layers3d import ConvBnReLU3d, Hourglass3d
from crispdepth.ops.cost_volume import (
    other_views,
    pixel_transfer,
    project,
    resized_intrinsics,
    warp,
)

OVERLAPS = 0.5
"""Masks above this say that a neighbour shows the same."""


class StereoPrediction(NamedTuple):
    """What the network says of the first R views, at a quarter of their size."""

    depth: Tensor  # (B, R, h, w) z-depth in the unit of the poses, between the swept ones
    overlap: Tensor  # (B, R, h, w) in [0, 1]: how sure it is that a neighbour shows the same
    logits: Tensor  # (B, R, D, h, w) of the planes, far to near
    features: Tensor  # (B, V, C, h, w) of all views


class StereoNetwork(nn.Module):
    """Depth and overlap masks of posed views that see the same."""

    def __init__(self, config: StereoConfig) -> None:
        """A network with fresh weights."""
        super().__init__()
        self.config = config
        width = config.width
        self.features = FeatureExtractor(config)
        self.compare = PairConvolution(config.channels, width)
        self.aggregate = nn.Sequential(
            nn.BatchNorm3d(width), nn.ReLU(inplace=True), ConvBnReLU3d(width, width)
        )
        self.correct = nn.Sequential(
            ConvBnReLU3d(width, width), ConvBnReLU3d(width, width, relu=False)
        )
        self.hourglasses = nn.Sequential(*(Hourglass3d(width) for _ in range(config.hourglasses)))
        self.depth_head = _head(width, 1)
        self.overlap_head = _head(width, 2)

    def forward(
        self,
        images: Tensor,
        K: Tensor,
        cam_from_world: Tensor,
        references: int | None = None,
    ) -> StereoPrediction:
        """Depth of the first R views, each compared with all others.

        Args:
            images: (B, V, 3, H, W) in [0, 1], V >= 2, sides multiples of 4.
            K: (B, V, 3, 3), pixels of the images, centres at +0.5.
            cam_from_world: (B, V, 4, 4); depth is in their unit.
            references: R; None: all.

        Raises:
            ValueError: the sides are no multiples, or there are less than two views.
        """
        (batch, views), (height, width) = images.shape[:2], images.shape[-2:]
        features = torch.unflatten(self.features(images.flatten(0, 1)), 0, (batch, views))
        size = height // STRIDE, width // STRIDE
        K = resized_intrinsics(K, (height, width), size)
        return self.match(features, K, cam_from_world, references)

    def match(
        self, features: Tensor, K: Tensor, cam_from_world: Tensor, references: int | None = None
    ) -> StereoPrediction:
        """`forward` from features that are known already.

        Neighbours are compared one after the other, so that without gradients the memory that is
        needed does not grow with their number.

        Args:
            features: (B, V, C, h, w).
            K: (B, V, 3, 3), pixels of the features.
            cam_from_world: (B, V, 4, 4).
            references: see `forward`.

        Raises:
            ValueError: there are less than two views.
        """
        batch, views = features.shape[:2]
        if views < 2:
            raise ValueError(f"Stereo compares two views or more, got {views}.")
        count = views if references is None else references
        own = self.compare.of_reference(features[:, :count].flatten(0, 1))
        total: Tensor | None = None
        for cost in self._costs(own, features, K, cam_from_world):
            total = cost if total is None else total + cost
        assert total is not None
        mean = total / (views - 1)
        volume = self.hourglasses(F.relu(mean + self.correct(mean)))
        logits = self.depth_head(volume)[:, 0].float()
        depths = self.depths(logits)
        depth, overlap, logits = (
            torch.unflatten(part, 0, (batch, count))
            for part in (
                expected_depth(logits, depths, self.config.expect),
                overlap_mask(self.overlap_head(volume).float()),
                logits,
            )
        )
        return StereoPrediction(depth, overlap, logits, features)

    def depths(self, like: Tensor) -> Tensor:
        """Depths swept, (D,), far to near, with kind and device of ``like``."""
        return plane_depths(self.config.nearest, self.config.planes).to(like)

    def _costs(
        self, own: Tensor, features: Tensor, K: Tensor, cam_from_world: Tensor
    ) -> Iterator[Tensor]:
        """Of each neighbour in turn how its features compare with those of the references.

        Beyond its frame they are 0.

        Args:
            own: (B R, width, 3, h, w), see `PairConvolution.of_reference`.
            features, K, cam_from_world: see `match`.

        Yields:
            (B R, width, D, h, w).
        """
        batch, views, _, height, width = features.shape
        references, size = len(own) // batch, (height, width)
        rho = (1 / self.depths(own)).expand(len(own), -1)
        K_own, pose_own = (part[:, :references].flatten(0, 1) for part in (K, cam_from_world))
        for other in other_views(views, features.device)[:references].unbind(1):
            theirs, K_other, pose_other = (
                part[:, other].flatten(0, 1) for part in (features, K, cam_from_world)
            )
            pixels = pixel_transfer(K_own, pose_own, K_other, pose_other)
            where = project(pixels, rho, size, size)
            # Unnamed, the warped features are gone before the next neighbour's are made.
            cost = self.compare(own, warp(theirs, where).mul_(where.inside[:, None]))
            yield self.aggregate(cost)


class PairConvolution(nn.Module):
    """The 3 x 3 x 3 convolution of the volume [reference ; warped neighbour], without that volume.

    The features of the reference are the same on all planes. Their half of the convolution is one
    of two dimensions, apart from the first and last plane, and is done once for all neighbours.
    """

    def __init__(self, channels: int, width: int) -> None:
        """Of ``channels`` features of each of the two, to ``width``."""
        super().__init__()
        self.whole = nn.Conv3d(2 * channels, width, 3, padding=1, bias=False)
        # It starts from differences of features: from unrelated halves it takes many more steps
        # until planes are told apart at all.
        with torch.no_grad():
            own, theirs = self.whole.weight.chunk(2, dim=1)
            theirs.copy_(-own)

    def of_reference(self, features: Tensor) -> Tensor:
        """What the reference contributes to the farthest, the inner and the nearest planes.

        Args:
            features: (N, C, h, w).

        Returns:
            (N, width, 3, h, w).
        """
        kernel = self.whole.weight.chunk(2, dim=1)[0]  # (width, C, 3, 3, 3)
        flat = torch.cat((kernel[:, :, 1:].sum(2), kernel.sum(2), kernel[:, :, :2].sum(2)))
        sums = torch.unflatten(F.conv2d(features, flat, padding=1), 1, (3, -1))
        return sums.transpose(1, 2)

    def forward(self, reference: Tensor, warped: Tensor) -> Tensor:
        """The convolved volume.

        Args:
            reference: (N, width, 3, h, w), see `of_reference`.
            warped: (N, C, D, h, w), D >= 2.

        Returns:
            (N, width, D, h, w).
        """
        kernel = self.whole.weight.chunk(2, dim=1)[1]
        volume = F.conv3d(warped, kernel, padding=1)
        ends = slice(0, 1), slice(1, -1), slice(-1, None)
        for number, planes in enumerate(ends):
            volume[:, :, planes] += reference[:, :, number : number + 1]
        return volume


def plane_depths(nearest: float, count: int) -> Tensor:
    """Depths ``nearest * count / d``, d = 1 .. count: far to near, equally spaced in 1 / depth.

    Returns:
        (count,) float64.
    """
    return nearest * count / torch.arange(1, count + 1, dtype=torch.float64)


def expected_depth(logits: Tensor, depths: Tensor, expect: Expectation = "depth") -> Tensor:
    """The mean depth of the planes, weighted by the softmax of their logits.

    ``depth`` is equation 3 of VolumeFusion, ``inverse`` one over the mean inverse depth as in
    DPSNet: where the network is not sure, the former is drawn to the far planes, of which the
    farthest lies as far from the second as that from the camera.

    Args:
        logits: (N, D, h, w).
        depths: (D,) of the planes.
        expect: see above.

    Returns:
        (N, h, w) between the least and the greatest of the depths.
    """
    share = logits.softmax(dim=1)
    if expect == "depth":
        return torch.einsum("ndhw,d->nhw", share, depths)
    return 1 / torch.einsum("ndhw,d->nhw", share, 1 / depths)


def overlap_mask(logits: Tensor) -> Tensor:
    """How sure it is on the surest plane that a neighbour shows the same (equation 1).

    Args:
        logits: (N, 2, D, h, w): that none does, that one does.

    Returns:
        (N, h, w) in [0, 1].
    """
    # The softmax over two; the greatest difference has the greatest share.
    return torch.sigmoid((logits[:, 1] - logits[:, 0]).amax(dim=1))


def depth_weight(overlap: Tensor, source: MaskSource, truth: Tensor | None = None) -> Tensor:
    """What the depth of each pixel counts in the fusion (the masked depth of B.2).

    Args:
        overlap: (...) predicted, in [0, 1].
        source: ``threshold``: 1 where it exceeds `OVERLAPS`, as in use; ``predicted``: as it is,
            with its gradient; ``truth``: the true mask.
        truth: (...) the true mask, for ``truth``.

    Raises:
        ValueError: ``truth`` is asked for and not given.
    """
    match source:
        case "threshold":
            return (overlap > OVERLAPS).to(overlap)
        case "predicted":
            return overlap
        case "truth":
            if truth is None:
                raise ValueError("The mask source truth needs the true overlap mask.")
            return truth.to(overlap)


def _head(width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        ConvBnReLU3d(width, width), nn.Conv3d(width, outputs, 3, padding=1, bias=False)
    )
