"""What a layered refinement network is asked in one step, and what it answers."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from crispdepth.data.compose import LayeredSample
from crispdepth.models.layered.network import LayerOutput
from crispdepth.training.config import Variant
from crispdepth.training.losses import blend


class LayeredBatch(NamedTuple):
    """Samples as tensors (B, ., H, W); inverse depth on the network's scale, float32."""

    image: Tensor  # (B, 3, H, W) uint8
    mask: Tensor  # in [0, 1], float32; above 0.5 is inside
    rough: Tensor
    composite: Tensor
    front: Tensor
    back: Tensor
    front_valid: Tensor  # bool
    back_valid: Tensor  # bool
    bend: Tensor


class Task(NamedTuple):
    """One thing asked of the network, (B, 1, H, W) each."""

    mask: Tensor  # what the network is told
    target: Tensor  # the inverse depth it should give
    valid: Tensor  # where that is known, bool
    own: Tensor  # where the refined map shows it, bool


class Answers(NamedTuple):
    """What the network says to one or two tasks, float32."""

    layers: tuple[Tensor, ...]  # as they are used: with the input where the gate keeps it
    raw: tuple[Tensor, ...]  # as the network completes them
    gates: tuple[Tensor, ...] | None  # None for a network without
    logits: tuple[Tensor, ...] | None  # of the gates
    output: LayerOutput  # of all tasks, one after the other along the batch


def collate(samples: Sequence[LayeredSample]) -> LayeredBatch:
    """Samples as one batch of CPU tensors."""
    image, *maps = (torch.from_numpy(np.stack(parts)) for parts in zip(*samples, strict=True))
    return LayeredBatch(image.permute(0, 3, 1, 2), *(part[:, None] for part in maps))


def tasks_of(batch: LayeredBatch, variant: Variant) -> tuple[Task, ...]:
    """The two layers; or, for a baseline, the refined map."""
    if variant != "layered":
        return (refined_task(batch),)
    inside = batch.mask > 0.5
    return (
        Task(batch.mask, batch.front, batch.front_valid, inside),
        Task(1 - batch.mask, batch.back, batch.back_valid, ~inside),
    )


def refined_task(batch: LayeredBatch) -> Task:
    """The refined map, shown everywhere."""
    valid = torch.where(batch.mask > 0.5, batch.front_valid, batch.back_valid)
    return Task(batch.mask, batch.composite, valid, torch.ones_like(valid))


def either(first: Task, second: Task) -> Task:
    """For each sample one of two tasks, at even odds by torch's global generator."""
    size = (len(first.mask), 1, 1, 1)
    chosen = torch.rand(size, device=first.mask.device) < 0.5
    return Task(*(torch.where(chosen, a, b) for a, b in zip(first, second, strict=True)))


def answer(model: nn.Module, batch: LayeredBatch, tasks: Sequence[Task]) -> Answers:
    """Run the network on all tasks at once."""
    rough, image = (part.repeat(len(tasks), 1, 1, 1) for part in (batch.rough, batch.image))
    photo = image.to(rough.dtype).div(255).contiguous(memory_format=torch.channels_last)
    layer, gate, logit = model(rough, photo, torch.cat([task.mask for task in tasks]))
    output = LayerOutput(layer.float(), gate.float(), None if logit is None else logit.float())
    return Answers(
        layers=blend(rough, output.layer, output.gate).chunk(len(tasks)),
        raw=output.layer.chunk(len(tasks)),
        gates=None if output.gate_logit is None else output.gate.chunk(len(tasks)),
        logits=None if output.gate_logit is None else output.gate_logit.chunk(len(tasks)),
        output=output,
    )


def refined(layers: Sequence[Tensor], batch: LayeredBatch) -> Tensor:
    """The refined map: both layers joined along the mask (eq. 3), or a baseline's only answer."""
    if len(layers) == 1:
        return layers[0]
    front, back = layers
    return torch.where(batch.mask > 0.5, front, back)
