"""Samples of several views as tensors."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from crispdepth.data.multiview_samples import MultiviewSample


class MultiviewBatch(NamedTuple):
    """Samples as tensors; see `crispdepth.data.multiview_samples.MultiviewSample`."""

    images: Tensor  # (B, V, 3, H, W) uint8
    masks: Tensor  # (B, V, 1, H, W)
    K: Tensor  # (B, V, 3, 3)
    cam_from_world: Tensor  # (B, V, 4, 4)
    near: Tensor  # (B, V)
    far: Tensor  # (B, V)
    depth: Tensor  # (B, V, H, W), 0 = unknown
    alpha: Tensor  # (B, V, 1, H, W)
    kind: Tensor  # (B,)
    objects: Tensor  # (B, V, H, W) uint8


def collate(samples: Sequence[MultiviewSample]) -> MultiviewBatch:
    """Samples of one size as one batch of CPU tensors."""
    parts = (torch.from_numpy(np.stack(part)) for part in zip(*samples, strict=True))
    batch = MultiviewBatch(*parts)
    return batch._replace(images=batch.images.permute(0, 1, 4, 2, 3))


def first_views(batch: MultiviewBatch, count: int) -> MultiviewBatch:
    """The batch with only the first views of each sample."""
    parts = batch._replace(kind=batch.kind[:, None])  # all others have views second
    return MultiviewBatch._make(part[:, :count] for part in parts)._replace(kind=batch.kind)
