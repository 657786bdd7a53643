"""How much each source may say about a pixel, learned from what it says (spec 2.3-2.6).

Every weight starts as exactly one for every source, so that a network without them is unchanged
when they are switched on, and multiplies `crispdepth.ops.cost_volume.source_weight`, which knows
the frame and the mask. Costs are correlations (N, G, D, h, w) of one source with N references.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crispdepth.models.multiview.layers import zeroed

MOST_UNCERTAIN = 10.0
"""Bound of the log-uncertainty on both sides; exp(-11) is 0 in half precision."""

COLDEST, HOTTEST = 0.01, 10.0


def normalised_entropy(probability: Tensor) -> Tensor:
    """``-sum_d p log p / log D``: 0 = sure of one candidate, 1 = of none.

    Args:
        probability: (N, D, h, w), sums to 1 over D >= 2.

    Returns:
        (N, 1, h, w) in [0, 1].
    """
    # Below 1e-9 p log p is nothing, and the gradient of log is not.
    entropy = -(probability * probability.clamp_min(1e-9).log()).sum(dim=1, keepdim=True)
    return (entropy / math.log(probability.shape[1])).clamp(0, 1)


class Temperature(nn.Module):
    """A learned temperature in [0.01, 10], of a softmax over views or of a mask, never of both."""

    def __init__(self, initial: float = 1.0) -> None:
        """Start at ``initial``."""
        super().__init__()
        self.log = nn.Parameter(torch.tensor(math.log(initial)))

    def forward(self) -> Tensor:
        """The temperature (); as a logarithm it cannot reach 0."""
        return self.log.clamp(math.log(COLDEST), math.log(HOTTEST)).exp()


def view_softmax(scores: Tensor, temperature: float | Tensor) -> Tensor:
    """Sources that compete: ``S softmax_i(s_i / temperature)`` (spec 2.5).

    Times S, so that equal scores are ones: the sum over views does not say whether any view sees
    the pixel, the weights it is multiplied with do. Cold, it is winner-take-all over views.

    Args:
        scores: (S, N, 1, h, w).
        temperature: > 0.
    """
    return len(scores) * torch.softmax(scores / temperature, dim=0)


class PairUncertainty(NamedTuple):
    """What one source is sure of."""

    log_uncertainty: Tensor  # (N, 1, h, w) in [-10, 10]
    probability: Tensor  # (N, D, h, w) of the candidates, of this source alone

    def weight(self) -> Tensor:
        """``exp(-s)``, (N, 1, 1, h, w)."""
        return torch.exp(-self.log_uncertainty)[:, :, None]

    def depth(self, candidates: Tensor) -> "PairDepth":
        """By the mean of inverse depths (N, D, 1 | h, 1 | w)."""
        mean = (self.probability * candidates).sum(dim=1)
        return PairDepth(mean, candidates[:, 1] - candidates[:, 0], self.log_uncertainty[:, 0])


class PairDepth(NamedTuple):
    """What one source alone says."""

    inverse_depth: Tensor  # (N, h, w)
    step: Tensor  # (N, 1 | h, 1 | w) between the candidates
    log_uncertainty: Tensor  # (N, h, w) in [-10, 10], of the inverse depth in steps


class UncertaintyNetwork(nn.Module):
    """Entropy to log-uncertainty: Vis-MVSNet (Zhang et al., BMVC 2020; spec 2.3).

    The entropy is divided by log D, so that the number of candidates may change. Starts as s = 0.
    """

    def __init__(self, groups: int, channels: int = 8) -> None:
        """Take costs of ``groups``; ``channels`` of the network."""
        super().__init__()
        self.score = nn.Conv3d(groups, 1, kernel_size=1)
        nn.init.constant_(self.score.weight, 1 / groups)
        nn.init.zeros_(self.score.bias)  # type: ignore[arg-type]
        self.first = nn.Conv2d(1, channels, kernel_size=3, padding=1, bias=False)
        self.second = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.last = nn.Conv2d(channels, 1, kernel_size=3, padding=1, bias=False)
        nn.init.zeros_(self.last.weight)

    def forward(self, cost: Tensor) -> PairUncertainty:
        """Of costs (N, groups, D, h, w)."""
        probability = self.score(cost)[:, 0].float().softmax(dim=1)
        entropy = normalised_entropy(probability)
        hidden = F.relu(self.second(F.relu(self.first(entropy)))) + entropy
        s = self.last(hidden).float().clamp(-MOST_UNCERTAIN, MOST_UNCERTAIN)
        return PairUncertainty(s, probability)


class PixelViewWeight(nn.Module):
    """One weight for each pixel of a source: PatchmatchNet (Wang et al., CVPR 2021; spec 2.4).

    ``max_d sigmoid(f(cost))``, f acting on each candidate by itself. A mask multiplies it: its
    logit in the sigmoid would be infinite where it is one. Starts equal for all sources.
    """

    def __init__(self, groups: int) -> None:
        """Take costs of ``groups``."""
        super().__init__()
        self.first, self.last = nn.Linear(groups, 8), zeroed(nn.Linear(8, 1))

    def score(self, cost: Tensor) -> Tensor:
        """Logits (N, 1, h, w) of costs (N, groups, D, h, w), for `view_softmax`."""
        hidden = F.relu(_pointwise(self.first, cost.flatten(2)), inplace=True)
        found = _pointwise(self.last, hidden).view(len(cost), 1, *cost.shape[2:])
        score: Tensor = found.float().amax(dim=2)
        return score

    def forward(self, cost: Tensor) -> Tensor:
        """Weights (N, 1, 1, h, w) in (0, 2): twice the sigmoid, one at the start."""
        return 2 * torch.sigmoid(self.score(cost))[:, :, None]


def _pointwise(layer: nn.Linear, x: Tensor) -> Tensor:
    """A linear layer on the channels of (N, C, M).

    As a product where the channels are: fifteen times as fast as a 1 x 1 convolution of so few.
    """
    product = torch.bmm(layer.weight.expand(len(x), -1, -1), x)
    return product.add_(layer.bias[:, None])


class EpipolarAttention(nn.Module):
    """Attention along the epipolar line, which is the axis of candidates: MVSTER (Wang et al.,
    ECCV 2022; spec 2.6).

    ``a(d) = D softmax_d(gain sum_g cost / 2)``; with a gain of 1 it is the published one up to
    the scale of the correlation. The gain starts at 0, where every candidate weighs one.
    """

    def __init__(self) -> None:
        """Learn the gain."""
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, cost: Tensor) -> Tensor:
        """Weights (N, 1, D, h, w), of mean 1 over D, of costs (N, G, D, h, w)."""
        scores = self.gain * cost.float().sum(dim=1, keepdim=True) / 2
        return cost.shape[2] * scores.softmax(dim=2)
