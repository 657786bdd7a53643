"""Depth of a view by the stereo of volumetric fusion: photos and cameras to tensors and back.

`crispdepth.tasks.multiview.estimate_depths` chooses the views and compares their depths.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from crispdepth.models.volume.config import StereoConfig
from crispdepth.models.volume.stereo import StereoNetwork
from crispdepth.ops.resample import joint_upsample, shrink, upsample
from crispdepth.tasks.multiview_network import LEAST_SURE, Predicted, Sighting, whole

WASTED = 2.0
"""A range that begins as many times beyond the nearest plane is moved to it."""


class Stereo(NamedTuple):
    """Depth of a reference."""

    predicted: Predicted  # its probability is the overlap mask
    step: float  # between two planes, in inverse depth


@torch.inference_mode()
def predict_stereo(
    network: StereoNetwork,
    photos: Sequence[Sighting],
    near: float,
    far: float,
    device: torch.device,
) -> Stereo:
    """Depth of the first photo, matched with the others; masks are not looked at.

    Args:
        network: in evaluation mode, on ``device``.
        photos: the reference, then its neighbours; of about the same detail.
        near, far: the range of depth, in the unit of the cameras, see `unit_of_planes`.
        device: where to compute.
    """
    size = photos[0].camera.size
    shown = [whole(photo, photos[0].camera.size) for photo in photos]
    scale = unit_of_planes(network.config, near, far)
    poses = np.stack([photo.camera.cam_from_world for photo in shown])
    poses[:, :3, 3] *= scale
    prediction = network(
        torch.tensor(np.stack([photo.rgb for photo in shown]), device=device)
        .permute(0, 3, 1, 2)[None]
        .float()
        / 255,
        torch.tensor(np.stack([photo.camera.K for photo in shown]), device=device).float()[None],
        # Poses may lie far from the world's origin, where float32 would lose the baseline.
        torch.tensor(poses, device=device)[None],
        references=1,
    )
    depth, overlap = (part[0, 0].cpu().numpy() for part in (prediction.depth, prediction.overlap))
    height, width = depth.shape
    guide = shrink(shown[0].rgb, (height, width)).astype(np.float32) / np.float32(255)
    inverse = joint_upsample(np.float32(scale) / depth, guide, shown[0].rgb)
    if inverse.shape != size:
        inverse = upsample(inverse, size)
    overlap = upsample(overlap, size).clip(LEAST_SURE, 1)
    config = network.config
    return Stereo(Predicted(inverse, overlap), scale / (config.nearest * config.planes))


def unit_of_planes(config: StereoConfig, near: float, far: float) -> float:
    """What lengths are multiplied by before the planes are swept; 1 where they fit as they are.

    Planes are those of a room in metres. Scenes of another unit, things at hand and views across a
    valley are scaled so that the sweep begins at ``near``.
    """
    begins = config.nearest <= near < WASTED * config.nearest
    if begins and far <= config.nearest * config.planes:
        return 1.0
    return config.nearest / near
