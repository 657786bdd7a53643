"""Costs of patches where those of pixels cannot tell, and of pixels where they can.

A design of this project (spec 2.8): no source for it was found.
"""

import torch
from torch import Tensor, nn

from crispdepth.models.multiview.view_weights import normalised_entropy
from crispdepth.ops.plane_sweep import EPSILON, box_sum


def window_average(cost: Tensor, confidence: Tensor | None, radius: int) -> Tensor:
    """The mean cost of the pixels of each window that lie on the same side of the mask.

    Pixels p and q are on one side by ``c_p c_q + (1 - c_p) (1 - c_q)``, so that a window across a
    silhouette mixes nothing; what is beyond the frame does not count.

    Args:
        cost: (N, G, D, h, w).
        confidence: (N, 1, h, w) of the mask in [0, 1]; None: ones.
        radius: the window has (2 radius + 1)^2 pixels; 0: the cost itself.
    """
    if radius == 0:
        return cost

    def summed(values: Tensor) -> Tensor:
        return box_sum(values.flatten(0, -3), radius).view_as(values)

    if confidence is None:
        return summed(cost) / summed(torch.ones_like(cost[:1, :1, :1]))
    total, weights = torch.zeros_like(cost), torch.zeros_like(confidence[:, :, None])
    for side in (confidence[:, :, None], 1 - confidence[:, :, None]):
        total = total + side * summed(side * cost)
        weights = weights + side * summed(side)
    return total / weights.clamp_min(EPSILON)


class DynamicCost(nn.Module):
    """``C + gain u (C_patch - C)``: the more, the less sure a pixel is of a candidate.

    ``u = sigmoid(10 (H / log D - 1/2))`` of the entropy H of ``softmax(C / temperature)``, through
    which no gradient goes. The gain starts at 0, where the cost is that of pixels.
    """

    sharpness = 10.0
    threshold = 0.5

    def __init__(self, radius: int = 1, temperature: float = 1.0) -> None:
        """``radius`` of the windows in pixels, ``temperature`` of the costs."""
        super().__init__()
        self.radius = radius
        self.temperature = temperature
        self.gain = nn.Parameter(torch.zeros(()))

    def patch_share(self, cost: Tensor) -> Tensor:
        """u (N, 1, h, w) in [0, 1] of costs (N, G, D, h, w)."""
        with torch.no_grad():
            scores = cost.float().mean(dim=1) / self.temperature
            entropy = normalised_entropy(scores.softmax(dim=1))
            return torch.sigmoid(self.sharpness * (entropy - self.threshold))

    def forward(self, cost: Tensor, confidence: Tensor | None = None) -> Tensor:
        """Costs (N, G, D, h, w), and the confidence (N, 1, h, w) of the references' masks."""
        patch = window_average(cost, confidence, self.radius)
        return cost + self.gain * self.patch_share(cost)[:, :, None] * (patch - cost)
