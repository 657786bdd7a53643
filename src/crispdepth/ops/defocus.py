"""Spatially varying lens blur: every pixel is spread over a disc of its own radius."""

from functools import cache
from itertools import groupby

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.types import Float32Map

_SHARP = 0.5  # pixels: a disc of this radius lies within its pixel
_RATIO = 1.25  # between the radii of neighbouring levels, where that is more than a pixel
_DIRECT = 5.0  # pixels: the largest radius that is drawn in the image itself, not in a smaller one
_COARSEST = 64  # pixels of the photo to one pixel of the smallest image
_TILE = 768  # pixels: a multiple of all scales

Planes = NDArray[np.float32]  # (c, h, w)


def defocus(values: NDArray[np.float32], radius: Float32Map) -> NDArray[np.float32]:
    """Spread every pixel evenly over the disc of its radius, nearer discs over farther ones.

    Radii are quantised to levels, and a pixel is shared linearly between the two levels around
    its own. The discs between two levels are summed, and these sums are laid over each other
    from far to near by their coverage: what is sharp is not veiled by what is blurred behind it,
    and spreads nowhere. Dividing by the total coverage keeps a constant constant, frame borders
    included. Where the radius is at most half a pixel and nothing nearer is blurred, pixels keep
    their values.

    Large discs are drawn in smaller images, and the frame is done in tiles, so the time is that
    of a few small filters and the memory that of a few tiles, whatever the radii.

    Args:
        values: (h, w, c) float32, such as colour multiplied with alpha, and alpha.
        radius: (h, w) pixels, signed: negative behind the plane in focus, positive before it.

    Returns:
        (h, w, c) float32.
    """
    low, high = float(radius.min()), float(radius.max())
    largest = max(-low, high)
    if largest <= _SHARP:
        return values.copy()
    levels = _levels(low, high)
    scale = _scale(largest)
    halo = int(np.ceil(largest / scale) + 2) * scale
    height, width = radius.shape
    out = np.empty_like(values)
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            y, x = max(top - halo, 0), max(left - halo, 0)
            window = slice(y, top + _TILE + halo), slice(x, left + _TILE + halo)
            tile = out[top : top + _TILE, left : left + _TILE]
            spread = _spread(values[window], radius[window], levels)
            tile[:] = spread[top - y :, left - x :][: tile.shape[0], : tile.shape[1]]
    return out


def _levels(low: float, high: float) -> NDArray[np.float32]:
    """Signed radii from the farthest to the nearest, at least one."""
    sizes = [_SHARP, 1.0]
    while sizes[-1] < max(-low, high):
        sizes.append(max(sizes[-1] + 1, sizes[-1] * _RATIO))
    grid = np.array([*(-size for size in reversed(sizes)), *sizes])
    inside = grid[(grid > low) & (grid < high)]
    return np.unique(np.r_[low, inside, high]).astype(np.float32)


def _scale(radius: float) -> int:
    """Pixels of the photo to one pixel of the image in which a disc is drawn."""
    scale = 1
    while radius > _DIRECT * scale and scale < _COARSEST:
        scale *= 2
    return scale


def _spread(
    values: NDArray[np.float32], radius: Float32Map, levels: NDArray[np.float32]
) -> NDArray[np.float32]:
    """`defocus` of one tile with its halo."""
    largest = max(-float(radius.min()), float(radius.max()))
    if not values.any() or largest <= _SHARP:
        return values
    height, width = radius.shape
    multiple = _scale(largest)
    size = height + -height % multiple, width + -width % multiple
    planes = np.zeros((values.shape[2] + 2, *size), np.float32)  # values, their count, radius
    planes[:-2, :height, :width] = np.moveaxis(values, -1, 0)
    planes[-2, :height, :width] = 1
    planes[-1, :height, :width] = radius
    slab = _slab(planes[-1], levels)
    total = np.zeros_like(planes[:-1])
    scales = [_scale(float(np.abs(levels[k : k + 2]).max())) for k in range(_slabs(levels))]
    first = 0
    for scale, run in groupby(scales):  # slabs that are drawn at one scale, far to near
        last = first + len(list(run))
        inside = (slab >= first) & (slab < last) & (planes[-2] > 0)
        box = _box(inside, 2 * scale + int(np.abs(levels[first : last + 1]).max()), scale)
        if box:
            chosen = planes[:, *box] * inside[box]
            _lay_over(_spread_run(chosen, levels[first : last + 1], scale), total[:, *box])
        first = last
    total[:-1] /= np.maximum(total[-1], np.float32(1e-6))
    return np.moveaxis(total[:-1, :height, :width], 0, -1)


def _slabs(levels: NDArray[np.float32]) -> int:
    """How many intervals the levels bound; a single level is one, too."""
    return max(len(levels) - 1, 1)


def _box(inside: NDArray[np.bool_], reach: int, multiple: int) -> tuple[slice, slice] | None:
    """Rows and columns of the pixels and ``reach`` around them, from multiples on; None if empty.

    The box ends at a multiple, too, if the image does.
    """
    x, y, width, height = cv2.boundingRect(inside.astype(np.uint8))
    if not width:
        return None
    spans = ((y, height, inside.shape[0]), (x, width, inside.shape[1]))
    rows, columns = (
        slice(
            max(start - reach, 0) // multiple * multiple,
            min(-(-(start + length + reach) // multiple) * multiple, whole),
        )
        for start, length, whole in spans
    )
    return rows, columns


def _slab(radius: Float32Map, levels: NDArray[np.float32]) -> NDArray[np.intp]:
    """Between which two levels every radius is: the number of the lower one, (h, w)."""
    found = np.searchsorted(levels[1:-1], radius.ravel(), side="right")
    return found.reshape(radius.shape)


def _spread_run(chosen: Planes, levels: NDArray[np.float32], scale: int) -> Planes:
    """What pixels whose radii lie between the levels spread to: values and their count.

    Averaging, drawing discs of pixels and enlarging blur by a variance of a third of the squared
    scale on each axis, and the discs are made smaller by what is more than a pixel's own: one of
    radius r has r^2 / 4.

    Args:
        chosen: values, their count and their radius times it; (c + 2, h, w), multiples of scale.
        levels: signed radii.
        scale: pixels of the photo to one of the smaller image.
    """
    size = chosen.shape[1], chosen.shape[2]
    sizes = np.abs(levels)
    if scale > 1:
        chosen = _resized(chosen, (size[0] // scale, size[1] // scale), cv2.INTER_AREA)
        sizes = np.sqrt(levels**2 - (4 * scale**2 - 1) / 3) / scale
    counted, count = chosen[:-1], chosen[-2]
    radius = np.divide(chosen[-1], count, out=np.zeros_like(count), where=count > 0)
    slab = _slab(radius, levels)
    slab[count == 0] = -1
    total = np.zeros_like(counted)
    for k in range(_slabs(levels)):
        box = _box(slab == k, int(np.ceil(sizes[k : k + 2].max())) + 1, 1)
        if box:
            source = counted[:, *box] * (slab[box] == k)
            step = levels[min(k + 1, len(levels) - 1)] - levels[k]
            if step:
                upper = source * ((radius[box] - levels[k]) / step)
                source -= upper
                discs = _disc_blur(upper, float(sizes[k + 1]))
                discs += _disc_blur(source, float(sizes[k]))
            else:
                discs = _disc_blur(source, float(sizes[k]))
            _lay_over(discs, total[:, *box])
    return _resized(total, size, cv2.INTER_LINEAR) if scale > 1 else total


def _lay_over(nearer: Planes, total: Planes) -> None:
    """Composite over ``total``, in place; the last plane is the coverage."""
    total *= 1 - np.minimum(nearer[-1], 1)
    total += nearer


def _disc_blur(planes: Planes, radius: float) -> Planes:
    """Convolution of (c, h, w) with a disc of one radius in pixels; nothing is beyond the frame."""
    if radius <= _SHARP:
        return planes
    kernel = _disc(radius)
    blurred = np.empty_like(planes)
    for plane, out in zip(planes, blurred, strict=True):
        cv2.filter2D(plane, -1, kernel, dst=out, borderType=cv2.BORDER_CONSTANT)
    return blurred


def _resized(planes: Planes, size: tuple[int, int], how: int) -> Planes:
    """Planes (c, h, w) at another size (height, width)."""
    resized = np.empty((len(planes), *size), np.float32)
    for plane, out in zip(planes, resized, strict=True):
        cv2.resize(plane, size[::-1], dst=out, interpolation=how)
    return resized


@cache
def _disc(radius: float) -> NDArray[np.float32]:
    """A disc of unit sum whose border pixels count by the share of them that it covers."""
    reach = int(np.ceil(radius - 0.5))
    parts = 8
    at = (np.arange((2 * reach + 1) * parts) + 0.5) / parts - reach - 0.5
    inside = (at[:, None] ** 2 + at**2 <= radius**2).astype(np.float64)
    covered = inside.reshape(2 * reach + 1, parts, 2 * reach + 1, parts).mean(axis=(1, 3))
    disc: NDArray[np.float32] = (covered / covered.sum()).astype(np.float32)
    return disc
