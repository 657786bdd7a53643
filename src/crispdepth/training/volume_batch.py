"""Samples of volumes as tensors."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from crispdepth.data.volume_samples import VolumeSample


class VolumeBatch(NamedTuple):
    """Samples as tensors; see `crispdepth.data.volume_samples.VolumeSample`."""

    images: Tensor  # (B, V, 3, H, W) uint8
    K: Tensor  # (B, V, 3, 3)
    cam_from_world: Tensor  # (B, V, 4, 4)
    rough: Tensor  # (B, V, H, W), 0 = none
    confidence: Tensor  # (B, V, H, W)
    depth: Tensor  # (B, V, H / 4, W / 4), 0 = unknown
    tsdf: Tensor  # (B, X, Y, Z)
    observed: Tensor  # (B, X, Y, Z) bool
    voxel: Tensor  # (B,)


def collate(samples: Sequence[VolumeSample]) -> VolumeBatch:
    """Samples of one size as one batch of CPU tensors."""
    parts = (torch.from_numpy(np.stack(part)) for part in zip(*samples, strict=True))
    batch = VolumeBatch(*parts)
    return batch._replace(images=batch.images.permute(0, 1, 4, 2, 3))
