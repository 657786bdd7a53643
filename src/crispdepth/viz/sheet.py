"""Pictures made of pictures: boundary close-ups, the preview."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from crispdepth.geometry.depth import inverse_depth
from crispdepth.ops.images import eight_bit
from crispdepth.types import BoolMap, DepthMap, Float32Map, MaskSet, RefinedDepth, Size
from crispdepth.viz.colour import (
    Range,
    Rgb,
    change_map,
    colour_depth,
    colour_range,
    overlay_mask,
)

_PAPER = (250, 250, 250)
_INK = (30, 30, 30)
_MARK = (255, 225, 0)  # frames and numbers of close-ups on the photo
_GAP = 8  # pixels between tiles
_LABEL = 24  # pixels of height of a label

_CLOSEUP = 192  # pixels: side of a close-up in the preview, 4x its window in a small photo
_CELL = 3 * _CLOSEUP + 2 * _GAP  # side of the other tiles: as wide as three close-ups
_WINDOW_SHARE = 0.075  # side of a close-up's window, of the longer side of the photo
_MIN_WINDOW = 48  # pixels


class Tile(NamedTuple):
    """A picture and the line above it."""

    label: str
    image: Rgb


class Window(NamedTuple):
    """A square of pixels inside an image."""

    top: int
    left: int
    size: int

    def crop(self, array: NDArray[Any]) -> NDArray[Any]:
        """The part of an (h, w, ...) array that the window covers."""
        return array[self.top : self.top + self.size, self.left : self.left + self.size]


def fit(image: Rgb, side: int) -> Rgb:
    """The picture with its longer side scaled to ``side`` pixels; enlarged pixels stay squares."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST_EXACT
    return cv2.resize(image, size, interpolation=method).astype(np.uint8, copy=False)


def thinned(array: NDArray[Any], side: int) -> NDArray[Any]:
    """Every n-th pixel of an (h, w, ...) array, at least twice as many as a ``side`` shows.

    Colouring every pixel of a large map that is shown small takes most of a preview's time.
    """
    step = max(1, max(array.shape[:2]) // (2 * side))
    return array[::step, ::step]


def mask_boundary(masks: MaskSet) -> BoolMap:
    """The pixels just inside the outline of any of the masks (inside: from 0.5), (h, w) bool."""
    boundary = np.zeros(masks.size, bool)
    for i in range(len(masks)):  # one at a time: all of them as floats may not fit in memory
        inside = np.asarray(masks[i] >= 0.5, np.uint8)
        boundary |= inside > cv2.erode(inside, np.ones((3, 3), np.uint8))
    return boundary


def outlined(photo: Rgb, masks: MaskSet) -> Rgb:
    """A photo, of any size, with the outline of every mask."""
    height, width = photo.shape[:2]
    for i in range(len(masks)):
        mask = thinned(masks[i], max(height, width))
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)
        photo = overlay_mask(photo, mask)
    return photo


def boundary_closeups(
    change: Float32Map,  # (h, w): absolute change
    boundary: BoolMap,  # (h, w)
    count: int = 3,
    size: int = 64,
) -> tuple[Window, ...]:
    """Up to ``count`` windows on the boundary, the most changed first, none overlapping.

    Every window lies inside the image and covers the boundary pixel it was chosen for; in an
    image smaller than ``size`` the window is as large as fits. Of equal windows the first in
    reading order is taken.
    """
    size = min(size, *change.shape)
    y, x = np.nonzero(boundary)
    top = np.clip(y - size // 2, 0, change.shape[0] - size)
    left = np.clip(x - size // 2, 0, change.shape[1] - size)
    total = cv2.integral(change, sdepth=cv2.CV_64F)
    bottom, right = top + size, left + size
    score = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
    windows: list[Window] = []
    while len(windows) < count and score.size:
        best = int(np.argmax(score))
        windows.append(Window(int(top[best]), int(left[best]), size))
        apart = (abs(top - top[best]) >= size) | (abs(left - left[best]) >= size)
        top, left, score = top[apart], left[apart], score[apart]
    return tuple(windows)


def closeup_size(size: Size) -> int:
    """The side of a close-up's window that shows a boundary well in a photo of ``size``."""
    return max(_MIN_WINDOW, round(_WINDOW_SHARE * max(size)))


def preview(refined: RefinedDepth, max_side: int = 1808) -> Rgb:
    """The one picture to open after a refinement, at most ``max_side`` pixels high and wide.

    Photo with mask outlines, initial and refined depth; below, where the mask boundary changed
    most, photo, before and after enlarged; then the layers of the mask that changed most, and the
    change.
    Depth is shown as inverse depth, near is bright. Initial, refined and layers share one range
    of colours; each close-up has its own.
    """
    before, after = inverse_depth(refined.initial), inverse_depth(refined.depth)
    usable = refined.initial.usable
    change = np.where(usable, np.abs(after - before), np.float32(0))
    size = closeup_size(refined.masks.size)
    windows = boundary_closeups(change, mask_boundary(refined.masks), size=size)
    shown = colour_range(before, usable)
    changed = change_map(thinned(change, _CELL), float(change.max()) or 1.0)
    rows = [
        [
            Tile("photo, mask, close-ups", _marked_photo(refined, windows)),
            Tile("initial depth, near is bright", _depth_tile(before, usable, shown)),
            Tile("refined depth", _depth_tile(after, refined.depth.usable, shown)),
        ],
        [
            Tile(f"{number}: photo, before, after", _closeup(refined, before, after, window))
            for number, window in enumerate(windows, 1)
        ],
        [
            *_layer_tiles(refined, change, shown),
            Tile("change, dark is large", fit(changed, _CELL)),
        ],
    ]
    sheet = _compose([row for row in rows if row])
    return fit(sheet, max_side) if max(sheet.shape) > max_side else sheet


def _depth_tile(inverse: Float32Map, valid: BoolMap, shown: Range) -> Rgb:
    values, valid = thinned(inverse, _CELL), thinned(valid, _CELL)
    return fit(colour_depth(values, valid, low=shown.low, high=shown.high), _CELL)


def _layer_tiles(refined: RefinedDepth, change: Float32Map, shown: Range) -> list[Tile]:
    if not refined.layers:
        return []
    pair = max(refined.layers, key=lambda layer: float(np.vdot(layer.alpha, change)))
    tiles = []
    for side, values in (("foreground", pair.foreground), ("background", pair.background)):
        layer = DepthMap(values, refined.depth.kind, refined.depth.unit)
        picture = _depth_tile(inverse_depth(layer), layer.usable, shown)
        tiles.append(Tile(f"{side} layer of {pair.name}", picture))
    return tiles


def _closeup(refined: RefinedDepth, before: Float32Map, after: Float32Map, window: Window) -> Rgb:
    """Photo, before and after of one window, side by side, in a range of colours of its own."""
    crops = window.crop(before), window.crop(after)
    valid = window.crop(refined.initial.usable)
    low, high = colour_range(np.hstack(crops), np.hstack([valid, valid]))
    pictures = [
        window.crop(eight_bit(refined.image)),
        *(colour_depth(crop, valid, low=low, high=high) for crop in crops),
    ]
    gap = _paper(_CLOSEUP, _GAP)
    photo, *depths = (fit(picture, _CLOSEUP) for picture in pictures)
    return np.hstack([photo, gap, depths[0], gap, depths[1]])


def _marked_photo(refined: RefinedDepth, windows: Sequence[Window]) -> Rgb:
    """The photo at tile size with the outline of every mask and the numbered close-ups."""
    canvas = Image.fromarray(outlined(fit(eight_bit(refined.image), _CELL), refined.masks))
    draw = ImageDraw.Draw(canvas)
    scale = canvas.width / refined.image.shape[1]
    for number, (top, left, size) in enumerate(windows, 1):
        box = [round(edge * scale) for edge in (left, top, left + size - 1, top + size - 1)]
        draw.rectangle(box, outline=_MARK, width=2)
        draw.rectangle((box[0], box[1], box[0] + 14, box[1] + 17), fill=_MARK)
        draw.text((box[0] + 4, box[1] + 1), str(number), _INK, ImageFont.load_default(15))
    return np.asarray(canvas)


def _compose(rows: Sequence[Sequence[Tile]]) -> Rgb:
    """Tiles on paper, labels above, in columns as wide as the widest tile."""
    width = max(tile.image.shape[1] for row in rows for tile in row)
    columns = max(len(row) for row in rows)
    total = columns * (width + _GAP) + _GAP
    strips = []
    for row in rows:
        height = max(tile.image.shape[0] for tile in row)
        strip = _paper(_LABEL + height + _GAP, total)
        for column, (label, image) in enumerate(row):
            left = _GAP + column * (width + _GAP)
            strip[:_LABEL, left : left + width] = _label(label, width)
            strip[_LABEL : _LABEL + image.shape[0], left : left + image.shape[1]] = image
        strips.append(strip)
    return np.vstack(strips)


def _label(text: str, width: int) -> Rgb:
    """One line of text on paper, cut off at ``width`` pixels."""
    canvas = Image.new("RGB", (width, _LABEL), _PAPER)
    ImageDraw.Draw(canvas).text((0, 3), text, _INK, ImageFont.load_default(15))
    return np.asarray(canvas)


def _paper(height: int, width: int) -> Rgb:
    return np.full((height, width, 3), _PAPER, np.uint8)
