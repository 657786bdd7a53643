"""Features that are mixed with those beside them, but not across the border of a mask."""

import torch
from torch import Tensor, nn

from crispdepth.models.multiview.gates import mask_at
from crispdepth.ops.pac import mask_guide, pac_conv2d


class AdaptiveResidual(nn.Module):
    """``x + PAC(x)``, a pixel-adaptive convolution guided by features and mask (2.15).

    Neighbours count by how alike they are, and next to nothing across the border of a mask. At the
    start x is unchanged; no mask is a mask of ones, exactly.
    """

    def __init__(self, channels: int, width: int = 4) -> None:
        """A 3 x 3 kernel that is 0 at the start, and a guide of ``width`` features."""
        super().__init__()
        self.guide = nn.Conv2d(channels, width, kernel_size=1, bias=False)
        nn.init.normal_(self.guide.weight, std=0.1)  # nearly the same everywhere
        self.weight = nn.Parameter(torch.zeros(channels, channels, 3, 3))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(N, channels, h, w) to the same; the mask is (N, 1, H, W) in [0, 1] or None."""
        guide = self.guide(x)
        if mask is not None:
            guide = mask_guide(mask_at(mask, x.shape[-2:]).to(x.dtype), guide, image_weight=1)
        return x + pac_conv2d(x, guide, self.weight)
