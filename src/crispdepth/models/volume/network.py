"""Both stages of VolumeFusion: posed photos to the signed distances of what they show."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from crispdepth.geometry.voxel_grid import VoxelGrid
from crispdepth.models.volume.config import MaskSource, VolumeNetworkConfig
from crispdepth.models.volume.fusion import FusionNetwork
from crispdepth.models.volume.stereo import StereoNetwork, StereoPrediction, depth_weight
from crispdepth.ops.cost_volume import resized_intrinsics


class VolumePrediction(NamedTuple):
    """What the network says of a scene."""

    tsdf: tuple[Tensor, ...]  # (X, Y, Z) of each hourglass, the last is the answer; + in front
    stereo: StereoPrediction  # with B = 1 and R = V


class VolumeNetwork(nn.Module):
    """Local stereo, then fusion.

    ``stereo`` and ``fusion`` can be used alone: fusion takes the features of ``stereo.features``
    and depth from wherever it comes.
    """

    def __init__(self, config: VolumeNetworkConfig) -> None:
        """A network with fresh weights."""
        super().__init__()
        self.config = config
        self.stereo = StereoNetwork(config.stereo)
        self.fusion = FusionNetwork(config.fusion, config.stereo.channels)

    def forward(
        self,
        images: Tensor,
        K: Tensor,
        cam_from_world: Tensor,
        grid: VoxelGrid,
        neighbours: Tensor,
        *,
        mask_source: MaskSource = "threshold",
        overlap: Tensor | None = None,
    ) -> VolumePrediction:
        """The signed distances of one scene, differentiable through both stages.

        Gradients reach the depths through the embeddings splat and tsdf, the overlap masks through
        all of them with the mask source predicted, and the features through both stages.

        Args:
            images: (V, 3, H, W) in [0, 1], sides multiples of 4.
            K: (V, 3, 3), pixels of the images.
            cam_from_world: (V, 4, 4).
            grid: voxels of the volume.
            neighbours: (V, S) indices of the views that each is matched with, S >= 1.
            mask_source: see `depth_weight`.
            overlap: (V, H / 4, W / 4) the true overlap masks, for the mask source truth.

        Raises:
            ValueError: as `StereoNetwork` and `depth_weight`.
        """
        features = self.stereo.features(images)
        photo, size = images.shape[-2:], features.shape[-2:]
        K = resized_intrinsics(K, (photo[0], photo[1]), (size[0], size[1]))
        # The features of a view are made once, however many others it is matched with.
        own = neighbours.new_tensor(range(len(images)))[:, None]
        groups = torch.cat((own, neighbours), dim=1)
        found = self.stereo.match(features[groups], K[groups], cam_from_world[groups], 1)
        depth, mask, logits = found.depth[:, 0], found.overlap[:, 0], found.logits[:, 0]
        weight = depth_weight(mask, mask_source, overlap)
        volume = self.fused(grid, features, K, cam_from_world, depth, weight)
        stereo = StereoPrediction(depth[None], mask[None], logits[None], features[None])
        return VolumePrediction(self.fusion.predictions(volume), stereo)

    def fused(
        self,
        grid: VoxelGrid,
        features: Tensor,
        K: Tensor,
        cam_from_world: Tensor,
        depth: Tensor,
        weight: Tensor | None,
    ) -> Tensor:
        """The unified volume of V views of one scene, see `FusionNetwork.unify`.

        Args:
            grid: voxels of the volume.
            features: (V, C, h, w).
            K: (V, 3, 3), pixels of the features.
            cam_from_world: (V, 4, 4).
            depth: (V, H, W) of the same frames in any size, 0 = none.
            weight: (V, H, W) in [0, 1] of the depths; None: ones.
        """
        accumulator = self.fusion.accumulator(grid, features.device)
        for view, parts in enumerate(zip(features, K, cam_from_world, depth, strict=True)):
            accumulator.add(*parts, None if weight is None else weight[view])
        return self.fusion.unify(accumulator)
