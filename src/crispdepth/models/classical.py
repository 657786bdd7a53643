"""A layer completer without learned weights."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.geometry.depth import COMPLETER_RANGE
from crispdepth.ops.band import band_widths, signed_distance
from crispdepth.ops.extrapolate import extrapolate
from crispdepth.ops.fill import pull_push
from crispdepth.types import BoolMap, Completion, Float32Map

NEAR_MARGIN = -1.0
FAR_MARGIN = 2.0
"""Pixels added to the measured band on the nearer and on the farther side of the border."""

NEAR_SHARE = 0.45
"""How much of its correction the nearer side takes: things curve away from the eye towards their
outline, so what their inside predicts there is too near (docs/experiments.md)."""

CORE = 0.7
"""Where a part is thinner than the band, its middle is trusted: this share of its half-width."""

PATCH = 4.0
"""An enclosed patch is small up to this many band widths from its border to its middle."""

MISTAKEN = 3.0
"""How many times nearer to the other layer a patch must be to be taken for its blur."""

SLACK = 0.8
"""How far a continued layer may leave the range of its trusted pixels, on the [0, 10] scale."""

ALIKE = 0.12
"""Mean distance of colours, on the [0, 1] scale, up to which two places look alike."""

TEXTURE = 1.25
"""The same as a multiple of the mean distance within one of them."""

COARSE = 8
"""Width in pixels of the cells in which the surroundings' colours are averaged."""

CONTRAST = (0.2, 0.4)
"""Difference of the two sides, on the [0, 10] scale, below which there is no edge to sharpen,
and above which there surely is one."""


@dataclass(frozen=True)
class ClassicalCompleter:
    """Measures the blur along the mask's border and continues the layer from beyond it.

    The band that is not trusted is as wide as the depth's own edge, measured on either side of
    the border (`band_widths`). The layer is continued over it, and over the rest of the frame,
    from the trusted pixels (`extrapolate`). Pixels move away from the other layer or not at
    all, and only where the two layers differ. Isolated holes of a mask that hold the depth of the
    object but show what is behind it are filled from the background.
    """

    name: str = "classical"
    resolution: int = 896

    def __call__(
        self, image: NDArray[np.float32], inverse_depth: Float32Map, mask: Float32Map
    ) -> Completion:
        """See `crispdepth.types.LayerCompleter`."""
        inside = mask >= 0.5
        if inside.all() or not inside.any():
            return Completion(inverse_depth, np.zeros_like(inverse_depth))
        guide = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32)
        distance = signed_distance(inside)
        widths = band_widths(inverse_depth, inside)
        is_near = _is_near(inverse_depth, distance, widths)
        own = _trusted(distance, inside, widths[0] + (NEAR_MARGIN if is_near else FAR_MARGIN))
        other = _trusted(-distance, ~inside, widths[1] + (FAR_MARGIN if is_near else NEAR_MARGIN))
        # An enclosed patch may hold the depth of what encloses it: no evidence for either layer.
        patches = _small_patches(inside, distance, PATCH * widths[0])
        other &= _small_patches(~inside, -distance, PATCH * widths[1]) == 0
        sure = own & (patches == 0)
        layer = _continued(inverse_depth, sure if sure.any() else own, guide)
        behind = _continued(inverse_depth, other if other.any() else ~inside, guide)
        if patches.any():
            wrong = _holds_the_other(inverse_depth, layer, behind, patches)
            wrong &= _shows_its_own(image, sure, other, patches)
            own &= ~wrong[patches]
            if (own & (patches > 0)).any():  # the others are evidence after all
                layer = _continued(inverse_depth, own, guide)

        difference = layer - behind
        nearer = difference > 0
        gate = _smoothstep(np.abs(difference), *CONTRAST)
        gate[own] = 0
        gate[inside & nearer] *= NEAR_SHARE
        away = np.where(nearer, np.maximum(inverse_depth, layer), np.minimum(inverse_depth, layer))
        layer = np.where(inside, away, layer)
        gate[layer == inverse_depth] = 0
        return Completion(layer, gate)


def _is_near(inverse_depth: Float32Map, distance: Float32Map, widths: tuple[float, float]) -> bool:
    """Whether the inside is nearer than the outside, by the pixels just beyond the band."""
    reach = 2 * max(widths) + 2
    within = inverse_depth[(distance > widths[0]) & (distance < reach)]
    without = inverse_depth[(-distance > widths[1]) & (-distance < reach)]
    return not (within.size and without.size) or bool(within.mean() >= without.mean())


def _trusted(distance: Float32Map, side: BoolMap, width: float) -> BoolMap:
    """The pixels of a side farther than ``width`` from the border, or in the core of thin parts."""
    width = max(width, 0.6)
    size = 2 * int(np.ceil(width)) + 1
    near = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    half_width = cv2.dilate(np.where(side, distance, np.float32(0)), near)
    trusted: BoolMap = side & (distance >= np.minimum(width, CORE * half_width))
    return trusted


def _continued(inverse_depth: Float32Map, trusted: BoolMap, guide: Float32Map) -> Float32Map:
    """`extrapolate`, within the range of the trusted pixels and a little beyond.

    Slopes may carry a layer somewhat past what was seen of it; far from the evidence they would
    carry it anywhere.
    """
    low, high = (float(bound(inverse_depth[trusted])) for bound in (np.min, np.max))
    layer = extrapolate(inverse_depth, trusted, guide)
    return layer.clip(max(low - SLACK, 0.0), min(high + SLACK, COMPLETER_RANGE))


def _small_patches(side: BoolMap, distance: Float32Map, limit: float) -> NDArray[np.int32]:
    """Numbers from 1 for the enclosed patches of a side that are no wider than ``2 limit``.

    The largest patch of the side, and those that reach the frame of the image, are none.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(side.astype(np.uint8))
    small = np.ones(count, bool)
    small[0] = False
    small[1 + stats[1:, cv2.CC_STAT_AREA].argmax()] = False
    small[labels[distance > limit]] = False
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        small[edge] = False
    patches: NDArray[np.int32] = np.where(small[labels], labels, 0).astype(np.int32)
    return patches


def _holds_the_other(
    inverse_depth: Float32Map, layer: Float32Map, behind: Float32Map, patches: NDArray[np.int32]
) -> BoolMap:
    """For each patch number, whether its depth is clearly that of the other layer.

    Clearly: `MISTAKEN` times nearer to it, for what is seen through a hole may differ from what
    is beside the object.
    """
    excess = np.abs(inverse_depth - layer) - MISTAKEN * np.abs(inverse_depth - behind)
    wrong: BoolMap = np.bincount(patches.ravel(), excess.ravel()) > 0
    wrong[0] = False
    return wrong


def _shows_its_own(
    image: NDArray[np.float32], own: BoolMap, other: BoolMap, patches: NDArray[np.int32]
) -> BoolMap:
    """For each patch number, whether the photo there looks like the own side around the mask.

    A hole one sees through does; a thing that stands in front of the object does not. Where the
    own side is noisy or textured, a hole may differ as much from its mean colours as it does.
    """
    if not (own.any() and other.any()):
        return np.zeros(int(patches.max()) + 1, bool)
    at = np.nonzero(patches)
    number = patches[at]
    count = np.maximum(np.bincount(number), 1)

    def mean(values: Float32Map) -> NDArray[np.float64]:
        return np.asarray(np.bincount(number, values[at]) / count)

    from_own, from_other = (
        np.linalg.norm(image - _surroundings(image, side), axis=2) for side in (own, other)
    )
    usual = _surroundings(from_own, own)
    to_own, to_other = mean(from_own), mean(from_other)
    alike = to_own < np.maximum(ALIKE, TEXTURE * mean(usual))
    return np.asarray(alike & (1.5 * to_own < to_other), bool)


def _surroundings(image: NDArray[np.float32], side: BoolMap) -> NDArray[np.float32]:
    """The colours (h, w, 3), or values (h, w), of a side continued over the frame, coarsely."""
    height, width = side.shape
    small = (max(1, width // COARSE), max(1, height // COARSE))
    weight = side.astype(np.float32)
    colours = (..., None) if image.ndim == 3 else ()
    share = cv2.resize(weight, small, interpolation=cv2.INTER_AREA)
    total = cv2.resize(image * weight[colours], small, interpolation=cv2.INTER_AREA)
    mean = np.asarray(total / np.maximum(share, 1e-6)[colours], np.float32)
    colour = pull_push(mean, (share > 0).astype(np.float32))
    return np.asarray(cv2.resize(colour, (width, height)), np.float32)


def _smoothstep(values: Float32Map, low: float, high: float) -> Float32Map:
    t = ((values - np.float32(low)) / np.float32(high - low)).clip(0, 1)
    smooth: Float32Map = t * t * (3 - 2 * t)
    return smooth
