"""What a step of the training of volumetric fusion computes."""

from typing import NamedTuple

import torch
from torch import Tensor

from crispdepth.data.volume_samples import box_of
from crispdepth.models.volume.config import VolumeNetworkConfig
from crispdepth.models.volume.network import VolumeNetwork
from crispdepth.models.volume.stereo import StereoPrediction, depth_weight
from crispdepth.ops.cost_volume import resized_intrinsics
from crispdepth.training.config import VolumeObjective
from crispdepth.training.tsdf_losses import tsdf_loss, tsdf_weights
from crispdepth.training.volume_batch import VolumeBatch
from crispdepth.training.volume_losses import masked_depth_loss, overlap_loss, overlap_truth


class VolumeAnswer(NamedTuple):
    """What a `VolumeLearner` says of a batch; what its stage does not learn is missing."""

    stereo: StereoPrediction | None
    # Of each hourglass, the last one's the answer: (B, X, Y, Z) signed distances.
    tsdf: tuple[Tensor, ...]
    fused: Tensor | None  # (B, X, Y, Z) the fused signed distance of the depths, if it is embedded


class VolumeLearner(VolumeNetwork):
    """A `VolumeNetwork`, with the same weights, that goes the way of a stage of its training.

    In one call of the module, as training in several processes needs it. Volumes are made sample by
    sample, each with statistics of its own for the norm of its features, and filtered as one batch.
    """

    def __init__(self, config: VolumeNetworkConfig, objective: VolumeObjective) -> None:
        """With fresh weights."""
        super().__init__(config)
        self.objective = objective

    def forward(self, batch: VolumeBatch) -> VolumeAnswer:  # type: ignore[override]
        """Stereo, fusion of the rough depths, or fusion of the stereo's."""
        stage = self.objective.stage
        count, views = batch.images.shape[:2]
        photos = batch.images.flatten(0, 1).float() / 255
        features = self.stereo.features(photos).unflatten(0, (count, views))
        size = features.shape[-2], features.shape[-1]
        K = resized_intrinsics(batch.K, (photos.shape[-2], photos.shape[-1]), size)
        stereo, depth, weight = None, batch.rough, batch.confidence
        if stage != "fusion":
            stereo = self.stereo.match(features, K, batch.cam_from_world)
            if stage == "stereo":
                return VolumeAnswer(stereo, (), None)
            truth = overlap_truth(batch.depth, K, batch.cam_from_world)
            depth = stereo.depth
            weight = depth_weight(stereo.overlap, self.objective.mask_source, truth)
        trusted = weight if self.objective.trust else [None] * count
        volumes = []
        for index, (told, voxel) in enumerate(zip(trusted, batch.voxel.tolist(), strict=True)):
            grid = box_of(batch.tsdf[index].shape, voxel)
            poses = batch.cam_from_world[index]
            volumes.append(self.fused(grid, features[index], K[index], poses, depth[index], told))
        # In the layout of the volumes, in which convolutions of few channels are fastest.
        unified = torch.stack([each.movedim(0, -1) for each in volumes]).movedim(-1, 1)
        embedded = self.config.fusion.embedding == "tsdf"
        return VolumeAnswer(
            stereo, self.fusion.predictions(unified), unified[:, -1] if embedded else None
        )


def volume_losses(
    answer: VolumeAnswer, batch: VolumeBatch, objective: VolumeObjective, *, log: bool
) -> dict[str, Tensor]:
    """The loss of an answer and its parts, each with its weight (1.0, 0.5 and 2.0 in the paper).

    Args:
        answer: of the batch.
        batch: with the truth.
        objective: the weights.
        log: see `tsdf_loss`.
    """
    losses = {}
    if answer.stereo is not None:
        size = batch.depth.shape[-2], batch.depth.shape[-1]
        photo = batch.images.shape[-2], batch.images.shape[-1]
        K = resized_intrinsics(batch.K, photo, size)
        overlap = overlap_truth(batch.depth, K, batch.cam_from_world)
        depth = masked_depth_loss(answer.stereo.depth, batch.depth, overlap)
        losses["depth"] = objective.depth * depth
        losses["overlap"] = objective.overlap * overlap_loss(
            answer.stereo.overlap, overlap, objective.overlap_loss
        )
    if answer.tsdf:
        weights = tsdf_weights(batch.observed)
        parts = [tsdf_loss(each.float(), batch.tsdf, weights, log=log) for each in answer.tsdf]
        losses["tsdf"] = objective.tsdf * torch.stack(parts).mean()
    return {"loss": torch.stack([*losses.values()]).sum(), **losses}
