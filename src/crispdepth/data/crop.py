"""Where patches are cut from frames, and masks from instance maps (spec A.4.4).

*Layered Depth Refinement with Mask Guidance*, supplement: patches show whole objects, at a size at
which their outline is worth refining.
"""

from typing import NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.data.compose import RgbdPatch
from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.strokes import Mask, Rng
from crispdepth.geometry.depth import COMPLETER_RANGE
from crispdepth.types import Float32Map, Size

MIN_SHARE = 0.01
"""Instances smaller than this share of their map are no masks."""

ZOOM = 2.0
"""A patch shows at least 1 / ZOOM of its frame's shorter side."""

FLAT = 0.1
"""Differences of inverse depth, on the [0, 10] scale, that resizing may average."""

Pixels = TypeVar("Pixels", NDArray[np.uint8], NDArray[np.float32])


class Square(NamedTuple):
    """A square of pixels; it may reach beyond its image."""

    top: int
    left: int
    side: int

    def within(self, size: Size) -> "Square":
        """The square moved, and shrunk if it must be, into an image of ``size``."""
        side = min(self.side, *size)
        top, left = (
            int(np.clip(start, 0, extent - side))
            for start, extent in zip((self.top, self.left), size, strict=True)
        )
        return Square(top, left, side)


def frame_crop(size: Size, rng: Rng) -> Square:
    """A random square inside an image of ``size`` (height, width), at most `ZOOM` times smaller.

    Resized to the patch it is the random resize and the random crop of the paper in one.
    """
    side = max(1, round(min(size) / rng.uniform(1, ZOOM)))
    top, left = (int(rng.integers(0, extent - side + 1)) for extent in size)
    return Square(top, left, side)


def object_crop(mask: Mask, patch: int, rng: Rng) -> Square:
    """A random square that contains all of an object (h, w) of 0 and 1.

    As large as the patch if the object is smaller than that, else between once and twice the
    longer side of the object. It leaves the image no farther than it must.

    Raises:
        ValueError: the mask is empty.
    """
    left, top, width, height = cv2.boundingRect(mask)
    longer = max(width, height)
    if longer == 0:
        raise ValueError("An empty mask has no object to crop.")
    side = patch if longer < patch else int(rng.integers(longer, 2 * longer + 1))
    return Square(
        _start(top + height - side, top, mask.shape[0] - side, rng),
        _start(left + width - side, left, mask.shape[1] - side, rng),
        side,
    )


def stuff_crop(size: Size, rng: Rng) -> Square:
    """A random square, H/2 to H wide, of an image of ``size`` (H, W), for sky and other stuff."""
    height, width = size
    side = int(rng.integers(-(-height // 2), height + 1))
    low, high = sorted((0, width - side))
    return Square(int(rng.integers(0, height - side + 1)), int(rng.integers(low, high + 1)), side)


def _start(low: int, high: int, room: int, rng: Rng) -> int:
    """A random start from ``low`` to ``high``, if it can be one between 0 and ``room``."""
    inner = max(low, min(0, room)), min(high, max(0, room))
    low, high = inner if inner[0] <= inner[1] else (low, high)
    return int(rng.integers(low, high + 1))


def large_instances(instances: NDArray[np.int32]) -> NDArray[np.intp]:
    """The ids (> 0) that cover at least `MIN_SHARE` of the map (h, w), ascending."""
    if instances.min() >= 0 and instances.max() < instances.size:  # faster than sorting
        counts = np.bincount(instances.ravel())
        labels = np.arange(len(counts))
    else:
        labels, counts = np.unique(instances, return_counts=True)
    large: NDArray[np.intp] = labels[(counts >= MIN_SHARE * instances.size) & (labels > 0)]
    return large


def cut(pixels: Pixels, square: Square, patch: int, interpolation: int) -> Pixels:
    """The square of an array (h, w) or (h, w, c), resized to ``patch``; 0 beyond the array."""
    top, left, side = square
    height, width = pixels.shape[:2]
    inside = pixels[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]
    if inside.shape[:2] != (side, side):
        above, below = max(-top, 0), max(top + side - height, 0)
        before, after = max(-left, 0), max(left + side - width, 0)
        inside = np.pad(inside, [(above, below), (before, after), (0, 0)][: pixels.ndim])
    if side == patch:
        return np.ascontiguousarray(inside)
    resized = cv2.resize(inside, (patch, patch), interpolation=interpolation)
    return np.asarray(resized, pixels.dtype)


def cut_frame(frame: RgbdFrame, square: Square, patch: int, invalid_is_far: bool) -> RgbdPatch:
    """A patch of a frame; inverse depth in [0, 10] by the maximum of the whole frame (A.4.2).

    Resizing never averages across an edge, so the patch holds no depths between two surfaces.

    Args:
        frame: of any size.
        square: inside the frame.
        patch: side of the patch, pixels.
        invalid_is_far: invalid depth is no unmeasured but an infinite one, as in renders.
    """
    shrinks = square.side > 2 * patch  # up to there linear is as good, and far faster
    image = cut(frame.image, square, patch, cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    values, usable = frame.depth.values, frame.depth.usable
    nearest, *_ = cv2.minMaxLoc(values, usable.view(np.uint8))
    exact, smooth = (
        _inverse(cut(values, square, patch, how), nearest)
        for how in (cv2.INTER_NEAREST_EXACT, cv2.INTER_LINEAR)
    )
    measured = exact > 0
    flat = measured & (np.abs(smooth - exact) < FLAT)
    inverse = np.where(flat, smooth, exact)
    return RgbdPatch(image, inverse, np.ones_like(measured) if invalid_is_far else measured)


def _inverse(depth: Float32Map, nearest: float) -> Float32Map:
    """`COMPLETER_RANGE` where the depth is ``nearest``, 0 where it is 0."""
    scale = np.float32(COMPLETER_RANGE * nearest)
    return np.divide(scale, depth, out=np.zeros_like(depth), where=depth > 0)
