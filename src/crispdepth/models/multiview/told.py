"""What each part of the network is told of the masks."""

from typing import NamedTuple

import torch
from torch import Tensor

from crispdepth.models.multiview.config import MaskUse
from crispdepth.models.multiview.cost import Volume
from crispdepth.ops.cost_volume import mask_confidence


class Told(NamedTuple):
    """Masks (..., 1, H, W) as each part is told of them; None: it is told nothing."""

    masks: Tensor | None  # (B, V, 1, H, W)
    all_views: Tensor | None  # (B V, 1, H, W)
    own: Tensor | None  # (B R, 1, H, W), of the references
    use: MaskUse
    carve: bool  # whether beside them the object is not

    @classmethod
    def of(cls, masks: Tensor | None, use: MaskUse, count: int, *, carve: bool) -> "Told":
        """What is told of masks of which the first ``count`` views are references."""
        if masks is None:
            return cls(None, None, None, use, carve)
        return cls(masks, masks.flatten(0, 1), masks[:, :count].flatten(0, 1), use, carve)

    @property
    def guide(self) -> Tensor | None:
        """Masks (B R, 1, H, W) that guide the upsampling; None: none do."""
        return self.own if self.use.guide else None

    def carved(self, volume: Volume) -> Volume:
        """The volume; where masks do not carve nothing is beside the object."""
        if self.carve and self.masks is not None and self.use.sources:
            return volume
        return volume._replace(beside=torch.zeros_like(volume.beside))

    def trusted(self, stride: int) -> Tensor | None:
        """How much pixels of the sources (B, V, 1, h, w) count; None: all of them alike."""
        if self.masks is None or not self.use.sources:
            return None
        size = (self.masks.shape[-2] // stride, self.masks.shape[-1] // stride)
        return mask_confidence(self.masks, size, self.use.confidence, self.use.temperature)

    @staticmethod
    def at(stride: int, masks: Tensor | None) -> Tensor | None:
        """Masks averaged over areas of ``stride`` pixels a side."""
        if masks is None:
            return None
        height, width = masks.shape[-2:]
        return mask_confidence(masks, (height // stride, width // stride))
