"""A layer as another camera sees it: depth goes forward, colours come back.

Inverse depth is splatted into the other view with a z-buffer; every pixel there then knows its
depth, hence where in the first view it comes from, and takes its colour from that place. So there
are neither cracks nor steps of whole pixels, and at the first camera itself nothing moves,
whatever the depth.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.ops.fill import pull_push
from crispdepth.types import Camera, Float32Map

_SNAP = 1e-3  # pixels: what is as near to a pixel centre as this is on it
_AHEAD = 1e-6  # of its depth: what comes nearer to the other camera than this is behind it


class Warped(NamedTuple):
    """A layer in the other view."""

    values: NDArray[np.float32]  # (h', w', c)
    inverse_depth: Float32Map  # (h', w'), of the other view


def forward_warp(
    values: NDArray[np.float32], inverse: Float32Map, source: Camera, target: Camera
) -> Warped:
    """The layer as ``target`` sees it; beyond its frame its border is repeated.

    Where the layer tears, depth is filled smoothly.

    Args:
        values: (h, w, c) float32.
        inverse: 1 / z > 0 at ``source``, (h, w).
        source: of size (h, w).
        target: of any size (h', w').
    """
    seen = _splat(inverse, source, target)
    known = seen > 0
    if not known.all():
        seen = pull_push(seen, known.astype(np.float32)) if known.any() else np.ones_like(seen)
    x, y, _ = _transfer(seen, target, source)
    sampled = cv2.remap(
        values, x, y, interpolation=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return Warped(np.asarray(sampled, np.float32).reshape(*seen.shape, -1), seen)


def _splat(inverse: Float32Map, source: Camera, target: Camera) -> Float32Map:
    """1 / z at the target by z-buffer; 0 where no pixel of the source lands."""
    height, width = target.size
    x, y, stretch = _transfer(inverse, source, target)
    there = inverse / stretch
    lands = np.isfinite(there)
    x, y, there = (np.where(lands, part, np.float32(-1)) for part in (x, y, there))
    buffer = np.zeros((height + 2) * (width + 2), np.float32)  # its rim takes what lands outside
    # On every pixel around: a layer that is stretched up to twofold leaves no crack.
    columns = [_cell(whole, width) for whole in (np.floor(x + _SNAP), np.ceil(x - _SNAP))]
    rows = [_cell(whole, height) for whole in (np.floor(y + _SNAP), np.ceil(y - _SNAP))]
    for row in rows:
        for column in columns:
            np.maximum.at(buffer, (row * (width + 2) + column).ravel(), there.ravel())
    return buffer.reshape(height + 2, width + 2)[1:-1, 1:-1]


def _cell(whole: Float32Map, length: int) -> NDArray[np.int64]:
    """Pixel numbers along one axis as those of a buffer with a rim of one."""
    return np.clip(whole, -1, length).astype(np.int64) + 1


def _transfer(
    inverse: Float32Map, source: Camera, target: Camera
) -> tuple[Float32Map, Float32Map, Float32Map]:
    """Where every pixel of ``source`` is in ``target``, each (h, w).

    Columns and rows, counted from the centre of the first pixel, and z there over z here; NaN
    for what is not before the target.
    """
    target_from_source = target.cam_from_world @ np.linalg.inv(source.cam_from_world)
    turn = target.K @ target_from_source[:3, :3] @ np.linalg.inv(source.K)
    shift = target.K @ target_from_source[:3, 3]
    height, width = inverse.shape
    x, y = np.arange(width) + 0.5, (np.arange(height) + 0.5)[:, None]
    # A point z K^-1 (x, y, 1) comes to z (turn (x, y, 1) + shift / z).
    column, row, stretch = (
        (across * x + (down * y + rest)).astype(np.float32) + np.float32(step) * inverse
        for (across, down, rest), step in zip(turn, shift, strict=True)
    )
    stretch[stretch <= _AHEAD] = np.nan
    return column / stretch - np.float32(0.5), row / stretch - np.float32(0.5), stretch
