"""Depth of one photo by the multi-view network, when all of some photos hear each other."""

from collections.abc import Sequence

import torch

from crispdepth.models.multiview.network import MultiviewNetwork
from crispdepth.tasks.multiview_network import (
    Predicted,
    Sighting,
    enlargement,
    listen,
    look_at,
    predict,
)


def seen_together(
    network: MultiviewNetwork, photos: Sequence[Sighting], near: float, far: float
) -> Predicted:
    """Of the first."""
    device, times = torch.device("cpu"), enlargement(photos)
    seen = [look_at(network, photo, near, far, device, times) for photo in photos]
    for _ in range(network.config.attention_blocks):
        seen = [listen(network, own, [other for other in seen if other is not own]) for own in seen]
    return predict(network, seen, near, far)
