"""Completing a layer tile by tile, where the mask has its boundary."""

from collections.abc import Callable
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.types import BoolMap, Completion, Float32Map

MARGIN = 32
"""Pixels at the sides of a tile that lack surroundings, and are not used."""

Complete = Callable[[NDArray[np.float32], Float32Map, Float32Map], Completion]


def complete_tiled(
    complete: Complete,
    image: NDArray[np.float32],
    inverse_depth: Float32Map,
    mask: Float32Map,
    whole: Completion,
    *,
    tile: int,
    margin: int,
) -> Completion:
    """A completion of the whole frame, replaced near the mask's boundary by that of tiles.

    Tiles overlap by ``3 * margin``. They are blended with windows that are 0 up to ``margin`` from
    the sides of a tile, 1 from twice that on, and that do not fall where the frame ends. So for a
    completer that looks no farther than ``margin``, whatever it computes, the pixels at the
    boundary are those of one call on the whole frame.

    Args:
        complete: completes one tile, as a `crispdepth.types.LayerCompleter` does.
        image: (h, w, 3).
        inverse_depth: (h, w).
        mask: (h, w).
        whole: what holds away from the boundary, (h, w) each.
        tile: side of a tile in pixels; more than ``4 * margin``.
        margin: at least 1.
    """
    assert tile > 4 * margin > 0, (tile, margin)
    boundary = _boundary(mask >= 0.5)
    total = np.zeros_like(mask)
    sums = (np.zeros_like(mask), np.zeros_like(mask))
    height, width = mask.shape
    for rows, columns in product(_spans(height, tile, margin), _spans(width, tile, margin)):
        window = np.outer(_window(rows, height, margin), _window(columns, width, margin))
        at = (slice(*rows), slice(*columns))
        if not (boundary[at] & (window > 0)).any():
            continue
        for blended, values in zip(
            sums, complete(image[at], inverse_depth[at], mask[at]), strict=True
        ):
            blended[at] += window * values
        total[at] += window
    rest = np.maximum(1 - total, 0)
    rest[rest < 1e-6] = 0  # ramps add up to 1 but for rounding
    layer, gate = (
        np.asarray((blended + rest * values) / (total + rest), np.float32)
        for blended, values in zip(sums, whole, strict=True)
    )
    return Completion(layer, gate)


def _boundary(inside: BoolMap) -> BoolMap:
    """Pixels beside the border of the mask."""
    edges = cv2.morphologyEx(inside.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    return np.asarray(edges, bool)


def _spans(length: int, tile: int, margin: int) -> list[tuple[int, int]]:
    """Begin and end of the tiles along a side; they overlap by ``3 * margin`` at least."""
    step = tile - 3 * margin
    count = 1 + max(0, -(-(length - tile) // step))
    starts = np.linspace(0, max(0, length - tile), count).round().astype(int).tolist()
    return [(start, min(start + tile, length)) for start in starts]


def _window(span: tuple[int, int], length: int, margin: int) -> Float32Map:
    """The weights of a tile's pixels along a side: a ramp at either end that is not the frame's."""
    begin, end = span
    inner = np.arange(end - begin) + 0.5
    before = inner if begin > 0 else np.full_like(inner, np.inf)
    after = inner[::-1] if end < length else np.full_like(inner, np.inf)
    weights = (np.minimum(before, after) - margin) / margin
    return weights.clip(0, 1).astype(np.float32)
