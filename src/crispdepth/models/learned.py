"""The learned layer completer: a network run by onnxruntime, without torch."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from crispdepth.geometry.depth import COMPLETER_RANGE
from crispdepth.models.tiling import MARGIN, complete_tiled
from crispdepth.models.weights import DEFAULT, read_onnx
from crispdepth.ops.band import signed_distance
from crispdepth.ops.extrapolate import fit_planes
from crispdepth.ops.resample import shrink, upsample
from crispdepth.types import BoolMap, Completion, Float32Map

STRIDE = 32
"""The network takes sides that are multiples of this."""

NEAR_SHARE = 0.5
"""How much of its correction the nearer side takes. Things curve away towards their outline, and
what networks expect there is too near (as for the classical completer, docs/experiments.md)."""

BLUR = 4.0
"""Pixels from the mask's border to where rough depth is that of one layer alone, about."""

SLACK = 0.8
"""How far a side's continuation may leave the range of what is seen of it, on the scale of 10."""

RIPPLE_SIGMA = 0.85
"""Of a 3 x 3 Gaussian, in pixels: it takes away the ripples of two pixels, and little else."""

REACH = 16.0
"""Pixels from the mask's border within which the gate may open, at `TRAINED`; at a higher
resolution more in proportion. Rough depth is blurred over less than that."""

TRAINED = 320
"""Side in pixels of the images the network was trained on, and of the tiles."""


@dataclass(frozen=True)
class LearnedCompleter:
    """Completes layers by a trained network (`crispdepth.models.layered`).

    It is loaded once, when the completer is made, and may be called from several threads.

    Raises:
        FileNotFoundError: there are no such weights.
        OSError: a file of the weights cannot be read.
        ValueError: the weights are damaged or of something else, or a number makes no sense.
    """

    # Shipped weights by name, or a folder of weights.
    weights: str | Path = DEFAULT
    # Length in pixels of the longer image side; what it was trained with is usually best.
    resolution: int = TRAINED
    # CPU threads; None: one for each core.
    threads: int | None = None
    # Complete the whole frame at the trained size and only what is near the mask's boundary, tile
    # by tile, at `resolution`.
    tiled: bool = False
    # Apply `careful`; without it the answers are the network's own.
    careful: bool = True
    name: str = "learned"
    # SHA-256 of the ONNX file, whatever folder it was in.
    sha256: str = field(init=False, compare=False)
    _session: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.resolution < STRIDE:
            raise ValueError(f"The resolution is at least {STRIDE}, got {self.resolution}.")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"At least one thread is needed, got {self.threads}.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads or 0  # 0: the runtime chooses
        network = read_onnx(self.weights)
        session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
        object.__setattr__(self, "sha256", hashlib.sha256(network).hexdigest())
        object.__setattr__(self, "_session", session)

    def __call__(
        self, image: NDArray[np.float32], inverse_depth: Float32Map, mask: Float32Map
    ) -> Completion:
        """See `crispdepth.types.LayerCompleter`; the layer is in [0, 10]."""
        inside = mask >= 0.5
        if inside.all() or not inside.any():
            return Completion(inverse_depth, np.zeros_like(inverse_depth))
        if not self.tiled or max(mask.shape) <= TRAINED:
            completion = self._run(image, inverse_depth, mask)
        else:
            whole = self._run_small(image, inverse_depth, mask)
            completion = complete_tiled(
                self._run, image, inverse_depth, mask, whole, tile=TRAINED, margin=MARGIN
            )
        return careful(completion, inverse_depth, inside) if self.careful else completion

    def _run(
        self, image: NDArray[np.float32], inverse_depth: Float32Map, mask: Float32Map
    ) -> Completion:
        height, width = mask.shape
        feed = {
            "inverse_depth": _batch(inverse_depth[None]),
            "rgb": _batch(image.transpose(2, 0, 1)),
            "mask": _batch(mask[None]),
        }
        layer, gate = (
            np.ascontiguousarray(values[0, 0, :height, :width])
            for values in self._session.run(["layer", "gate"], feed)
        )
        return Completion(layer.clip(0, COMPLETER_RANGE), gate)

    def _run_small(
        self, image: NDArray[np.float32], inverse_depth: Float32Map, mask: Float32Map
    ) -> Completion:
        height, width = mask.shape
        scale = TRAINED / max(height, width)
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        small = self._run(*(shrink(each, size) for each in (image, inverse_depth, mask)))
        return Completion(*(upsample(each, (height, width)) for each in small))


def careful(completion: Completion, inverse_depth: Float32Map, inside: BoolMap) -> Completion:
    """A completion that only deepens the edge that the rough depth has at the mask's border.

    What each side is beyond the reach of the blur is continued by local planes. The inside moves
    away from the outside, no farther than its own continuation, and towards the eye by
    `NEAR_SHARE` only; where a side shows nothing of itself beyond its blur within `REACH`, the
    network's word counts. The gate shuts over the last quarter of `REACH`, and is exactly 0
    beyond. The layer loses its finest ripples, of two pixels, which come from how the network
    grows to full size.

    Args:
        completion: of the layer inside the mask, (h, w).
        inverse_depth: the input, (h, w).
        inside: (h, w), somewhere true and somewhere false.
    """
    distance = signed_distance(inside)
    layer, gate = (cv2.GaussianBlur(part, (3, 3), RIPPLE_SIGMA) for part in completion)
    own, own_known = _continued(inverse_depth, inside, distance)
    other, other_known = _continued(inverse_depth, ~inside, -distance)
    nearer = np.where(own_known & other_known, own > other, layer > other)
    comes = layer > inverse_depth
    share = np.where(nearer == comes, np.where(nearer, NEAR_SHARE, 1), 0)
    farthest = np.where(comes, np.minimum(layer, own), np.maximum(layer, own))
    is_past = (farthest > inverse_depth) != comes  # the continuation lies the other way
    bounded = np.where(is_past, inverse_depth, farthest)
    reach = REACH * max(1, max(inside.shape) / TRAINED)
    open_to = (4 * (1 - np.abs(distance) / reach)).clip(0, 1)
    return Completion(
        np.where(inside & own_known, bounded, layer).astype(np.float32),
        gate * (np.where(inside, share, 1) * open_to).astype(np.float32),
    )


def _continued(
    inverse_depth: Float32Map, side: BoolMap, distance: Float32Map
) -> tuple[Float32Map, BoolMap]:
    """What a side of the border would be without blur, and where that is known, (h, w) each.

    ``distance`` (h, w) is that to the border, positive on this side.
    """
    sure = distance > BLUR
    known = cv2.distanceTransform((~sure).astype(np.uint8), cv2.DIST_L2, 3) <= REACH
    if not sure.any():
        sure, known = side, np.zeros_like(side)
    low, high = (float(bound(inverse_depth[sure])) for bound in (np.min, np.max))
    return fit_planes(inverse_depth, sure).clip(low - SLACK, high + SLACK), known


def _batch(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Maps (c, h, w) as a batch (1, c, h', w') whose sides, by repeating edges, are multiples."""
    _, height, width = maps.shape
    rows, columns = -height % STRIDE, -width % STRIDE
    padded = np.pad(maps, ((0, 0), (0, rows), (0, columns)), mode="edge")
    return np.ascontiguousarray(padded[None], np.float32)
