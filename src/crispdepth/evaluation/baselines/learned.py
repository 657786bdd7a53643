"""Layer completers as methods: layered refinement, and what the paper compares it with.

*Layered Depth Refinement with Mask Guidance* (CVPR 2022), section 4.1: the same network without
layers ("Direct-composite", "Direct-paired"), and the network of stage 1 with layers whose masks
keep clear of the rough boundary ("Layered-ours").
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.evaluation.baselines import Baseline
from crispdepth.evaluation.baselines.propagation import KERNEL, merge_by_change
from crispdepth.geometry.depth import scale_to_completer
from crispdepth.models.learned import LearnedCompleter
from crispdepth.models.weights import read_config
from crispdepth.ops.resample import shrink, upsample
from crispdepth.tasks.refine import RefineConfig, refine_depth
from crispdepth.types import Completion, DepthMap, Float32Map, LayerCompleter, MaskSet

MakeCompleter = Callable[[], LayerCompleter]
"""Called at the first photo: a list of methods needs no weights."""

load = cache(LearnedCompleter)
"""The completer of a folder of weights, or of the shipped ones; loaded once."""


def of_weights(name: str, folder: str | Path) -> dict[str, Baseline]:
    """The methods that exported weights are for, by name.

    The variant and the stage that ``config.json`` states decide: for weights of a direct baseline
    ``name``; else ``name`` and ``name-hard`` (soft and hard masks), and for those of stage 1 also
    ``name-eroded`` (the paper's Layered-ours).

    Raises:
        FileNotFoundError: there are no such weights.
        OSError, ValueError: their ``config.json`` cannot be read.
    """
    config = read_config(folder)
    completer = partial(load, folder)
    own = partial(load, folder, careful=False)  # the paper's methods are the network alone
    if config.get("variant", "layered") != "layered":
        return {name: direct(own)}
    methods = {name: layered(completer), f"{name}-hard": layered(completer, hard_masks=True)}
    if config.get("stage") == 1:
        methods[f"{name}-eroded"] = layered_eroded(own)
    return methods


def layered(completer: MakeCompleter, *, hard_masks: bool = False) -> Baseline:
    """What `crispdepth refine` does with this completer; see `RefineConfig` for hard masks."""
    config = RefineConfig(hard_masks=hard_masks, keep_layers=False)

    def method(image: NDArray[np.uint8], inverse: Float32Map, masks: MaskSet) -> Float32Map:
        depth = DepthMap(inverse, "inverse_depth")
        return refine_depth(image, depth, masks, completer=completer(), config=config).depth.values

    return method


def layered_eroded(completer: MakeCompleter) -> Baseline:
    """The paper's Layered-ours: ``R(D, I, erode(M))`` and ``R(D, I, 1 - dilate(M))``, hard masks.

    A network that only saw true depth takes all it is given for true, so it is not given what is
    near the boundary. The kernel (5 x 5) counts pixels of the completer's resolution.
    """
    return layered(lambda: _Eroded(completer()), hard_masks=True)


@dataclass(frozen=True)
class _Eroded:
    """A completer that is told less than its mask: ``1 - dilate(M)`` is ``erode(1 - M)``."""

    completer: LayerCompleter
    name: str = "eroded"

    @property
    def resolution(self) -> int:
        return self.completer.resolution

    def __call__(
        self, image: NDArray[np.float32], inverse_depth: Float32Map, mask: Float32Map
    ) -> Completion:
        eroded = np.asarray(cv2.erode(mask, KERNEL), np.float32)
        return self.completer(image, inverse_depth, eroded)


def direct(completer: MakeCompleter) -> Baseline:
    """The network's answer ``R(D, I, M)`` is the refined map: no layers, no composite.

    Made at the completer's resolution and enlarged linearly; nothing else knows where the mask has
    its boundary. Where the gate is 0 the input is kept. Several masks are merged as in the paper's
    section on instance maps.
    """

    def method(image: NDArray[np.uint8], inverse: Float32Map, masks: MaskSet) -> Float32Map:
        network = completer()
        scaled = scale_to_completer(inverse, np.ones(inverse.shape, bool))
        height, width = inverse.shape
        scale = min(1.0, network.resolution / max(height, width))
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        photo = shrink(image, size).astype(np.float32) / np.float32(255)
        rough = shrink(scaled.values, size)

        def refined(mask: Float32Map) -> Float32Map:
            answer = network(photo, rough, shrink(mask, size))
            layer, gate = (upsample(each, inverse.shape) for each in answer)
            moved = scaled.restore(scaled.values + gate * (layer - scaled.values))
            return np.where(gate == 0, inverse, moved)

        return merge_by_change(inverse, (refined(masks[index]) for index in range(len(masks))))

    return method
