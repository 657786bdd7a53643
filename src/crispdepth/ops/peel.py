"""A photo taken apart into layers that, laid over each other, are the photo again.

What bokeh, point clouds and novel views need of a refined photo: at a soft border the colours of
the two sides are separated, and behind every object stands what it hides.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.geometry.depth import inverse_depth, resize_depth
from crispdepth.ops.colour import linear_from_srgb
from crispdepth.ops.fill import pull_push
from crispdepth.ops.resample import shrink
from crispdepth.types import BoolMap, DepthMap, Float32Map, LayerPair

_MARGIN = 32  # pixels around a mask from which colours are continued under it
_FRINGE = 0.0025
"""Width of the fringe along a hard mask's outline where the mask may be a little off, as a share
of the longer side."""

_CONTRAST = 0.05
"""Difference of the linear colours of the two sides from which they tell where an outline is."""

_NOISE = 0.03
"""Share of the other side that a pixel may seem to have and yet have nothing of it."""

_GHOST = 0.02
"""Linear difference from its surroundings that may stay behind an object unseen."""

_PURITY = 4
"""Power of its share in a pixel with which a side's colour counts: of a pixel that is half of
something else it is hardly known."""


class Layer(NamedTuple):
    """One sheet of a photo, defined on the whole frame."""

    colour: NDArray[np.float32]  # (h, w, 3), scene-linear, multiplied with alpha
    alpha: Float32Map  # (h, w) in [0, 1]
    inverse_depth: Float32Map  # (h, w), on the scale of the depth map


def peel(image: NDArray[Any], depth: DepthMap, pairs: Sequence[LayerPair]) -> tuple[Layer, ...]:
    """The layers of a photo from the farthest, which is opaque, to the nearest.

    Each laid over those before it (``colour + (1 - alpha) * below``) gives the photo back, to
    rounding. A mask whose inside is farther than its surroundings (a sky) stands for what is
    around it. Where one object hides part of another, the outline, colour and depth of the
    hidden one continue smoothly. Needs 20 bytes a pixel for each mask.

    Args:
        image: (h, w, 3) uint8 or uint16, sRGB.
        depth: (h, w), refined.
        pairs: the layers that refinement completed at each mask; with none, the photo is one
            layer and invalid depth is filled smoothly.

    Raises:
        ValueError: sizes differ, or there is neither a valid depth nor a pair.
    """
    for what, size in [("depth map", depth.size), *((p.name, p.alpha.shape) for p in pairs)]:
        if size != image.shape[:2]:
            raise ValueError(f"The {what} is {size} (height, width), the photo {image.shape[:2]}.")
    below = linear_from_srgb(image)
    sheets = sorted((_sheet(pair, depth) for pair in pairs), key=_nearness, reverse=True)
    inverse = _complete(depth, sheets)
    seen = np.ones(depth.size, np.float32)  # share of a pixel that no nearer layer covers
    layers: list[Layer] = []
    for alpha, front, back in sheets:
        whole = _uncovered(alpha, seen)
        colour, shown, below = _split(below, whole, seen > 0)
        hidden = (whole > 0) & (alpha == 0)
        inverse = np.where(shown > 0, back, inverse)
        if hidden.any():  # there `below` and `inverse` still hold what hides this object, or more
            visible = ((shown == 1) & (seen == 1)).astype(np.float32)
            np.copyto(colour, _refilled(colour, visible), where=hidden[..., None])
            inverse = _refilled(inverse, (~hidden).astype(np.float32))
        layers.append(Layer(colour, shown, front))
        seen *= 1 - shown
    if len(sheets) > 1 and not seen.all():  # no object may shine through under another one
        np.copyto(
            below, _refilled(below, (seen == 1).astype(np.float32)), where=(seen == 0)[..., None]
        )
    opaque = np.ones(depth.size, np.float32)
    return (Layer(below, opaque, inverse), *reversed(layers))


def _refilled(values: NDArray[np.float32], weights: Float32Map) -> NDArray[np.float32]:
    """`pull_push`, if there is anything to fill from."""
    return pull_push(values, weights) if weights.any() else values


class LayeredInputs(NamedTuple):
    """What `peel` takes."""

    image: NDArray[Any]
    depth: DepthMap
    pairs: tuple[LayerPair, ...]


def shrink_layered(
    image: NDArray[Any], depth: DepthMap, pairs: Sequence[LayerPair], side: int
) -> LayeredInputs:
    """The arguments of `peel` with the longer side at most ``side`` pixels."""
    scale = min(1.0, side / max(depth.size))
    size = max(1, round(depth.size[0] * scale)), max(1, round(depth.size[1] * scale))

    def shrunk(values: Float32Map) -> Float32Map:
        return resize_depth(DepthMap(values, depth.kind, depth.unit), size).values

    smaller = tuple(
        LayerPair(
            pair.name, shrink(pair.alpha, size), shrunk(pair.foreground), shrunk(pair.background)
        )
        for pair in pairs
    )
    return LayeredInputs(shrink(image, size), resize_depth(depth, size), smaller)


class _Sheet(NamedTuple):
    """A mask and its two layers, the front being the nearer at the mask's border."""

    alpha: Float32Map
    front: Float32Map  # inverse depth
    back: Float32Map  # inverse depth


def _sheet(pair: LayerPair, depth: DepthMap) -> _Sheet:
    front, back = (
        inverse_depth(DepthMap(values, depth.kind, depth.unit))
        for values in (pair.foreground, pair.background)
    )
    inside = (pair.alpha >= 0.5).astype(np.uint8)
    border = cv2.morphologyEx(inside, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    if border.any() and (front - back)[border].mean() < 0:
        return _Sheet(1 - pair.alpha, back, front)
    return _Sheet(pair.alpha, front, back)


def _nearness(sheet: _Sheet) -> float:
    """Mean inverse depth of what the mask shows."""
    return float(np.vdot(sheet.alpha, sheet.front) / max(float(sheet.alpha.sum()), 1e-6))


def _complete(depth: DepthMap, sheets: Sequence[_Sheet]) -> Float32Map:
    """Inverse depth with invalid pixels taken from the layers, else from around them."""
    inverse = inverse_depth(depth)
    if depth.usable.all():
        return inverse
    if sheets:
        return np.where(depth.usable, inverse, sheets[-1].back)
    return pull_push(inverse, depth.usable.astype(np.float32))


def _uncovered(alpha: Float32Map, seen: Float32Map) -> Float32Map:
    """The coverage of an object as it were without the nearer ones, continued under them."""
    if seen.min() == 1:
        return alpha
    share = np.divide(alpha, seen, out=np.zeros_like(alpha), where=seen > 0).clip(0, 1)
    window = _window(alpha)
    hidden = seen[window] == 0
    # What is hidden is either there or not: a faint veil would be neither.
    share[window][hidden] = _refilled(share[window], seen[window] ** _PURITY)[hidden] >= 0.5
    return share


def _split(
    colour: NDArray[np.float32], alpha: Float32Map, known: BoolMap
) -> tuple[NDArray[np.float32], Float32Map, NDArray[np.float32]]:
    """Linear colour (h, w, 3) as front, multiplied with alpha, over back; and that alpha.

    The back is continued smoothly under the front, and the front is what then misses to the
    colour. In a fringe along the outline, pixels that a mask calls all front or all back get
    their share from their colour: no mask is right to the pixel, and what it misses of an object
    would stay behind as a ghost. Both stay in [0, 1], and front over back is the colour.
    Colours that are not ``known`` but a continuation themselves judge nothing.
    """
    front, whole, back = np.zeros_like(colour), alpha.copy(), colour.copy()
    window = _window(alpha)
    seen, a = colour[window], alpha[window]
    reach = max(2, round(_FRINGE * max(alpha.shape)))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    least, most = (np.asarray(how(a, disc), np.float32) for how in (cv2.erode, cv2.dilate))
    inside = (least == 1)[..., None]
    under = _continued(seen, 1 - a, 1 - most, reach)
    np.copyto(front[window], seen, where=inside)
    np.copyto(back[window], under, where=inside)
    at = np.nonzero((most > 0) & (least < 1))
    judged = _share(seen[at], _continued(seen, a, least, reach)[at], under[at], a[at])
    share = np.where(known[window][at], judged, a[at])
    front[window][at], whole[window][at], back[window][at] = _unmixed(seen[at], share, under[at])
    return front, whole, back


def _continued(
    colour: NDArray[np.float32], share: Float32Map, pure: Float32Map, reach: int
) -> NDArray[np.float32]:
    """The colour of one side on the whole window; where nothing is pure, the next best counts.

    Near pure pixels their mean counts: `pull_push` alone would look farther than to these.
    """
    known = (pure == 1).astype(np.float32)
    near = (4 * reach + 1, 4 * reach + 1)
    count = cv2.blur(known, near, borderType=cv2.BORDER_CONSTANT)
    mean = cv2.blur(colour * known[..., None], near, borderType=cv2.BORDER_CONSTANT)
    has_mean = (count > 1e-6) & (known == 0)
    np.divide(mean, count[..., None], out=mean, where=has_mean[..., None])
    values = np.where(has_mean[..., None], mean, colour)
    weights = np.maximum(known, np.float32(1e-3) * share**_PURITY)
    weights[has_mean] = 1
    return _refilled(values, weights)


def _share(
    seen: NDArray[np.float32],  # (n, 3)
    front: NDArray[np.float32],  # (n, 3)
    back: NDArray[np.float32],  # (n, 3)
    mask: NDArray[np.float32],  # (n,)
) -> NDArray[np.float32]:
    """How much of a pixel is front: what the mask says where it is soft, else its colour.

    A colour is judged by its place between those of the two sides; if these are alike, the mask
    counts. It is at least so much that some colour in [0, 1] makes up for what the back is not.
    """
    span = front - back
    contrast = np.square(span).sum(axis=-1) + np.float32(_CONTRAST**2)
    judged = ((seen - back) * span).sum(axis=-1) + np.float32(_CONTRAST**2) * mask
    judged = (judged / contrast - _NOISE) / (1 - 2 * _NOISE)
    share = np.where((mask > 0) & (mask < 1), mask, judged)
    room = np.where(seen > back, 1 - back, back)
    ghost = np.float32(_GHOST)
    missing = np.abs(seen - back) - ghost
    missing = np.divide(missing, room - ghost, out=np.zeros_like(seen), where=missing > 0)
    needed: NDArray[np.float32] = missing.max(axis=-1)
    return np.maximum(share, needed).clip(0, 1)


def _unmixed(
    seen: NDArray[np.float32],  # (n, 3)
    share: NDArray[np.float32],  # (n,)
    back: NDArray[np.float32],  # (n, 3)
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Front colour, multiplied with its share, the share, and the back that then fits."""
    rest = 1 - share[:, None]
    front = (seen - rest * back).clip(np.maximum(seen - rest, 0), np.minimum(seen, 1 - rest))
    fitting = np.divide(seen - front, rest, out=back.copy(), where=rest > 0)
    return front, share, np.minimum(fitting, 1, out=fitting)  # rounding may go beyond


def _window(alpha: Float32Map) -> tuple[slice, slice]:
    """The rows and columns in which a mask lies, and a margin."""
    spans = []
    for axis in (1, 0):
        at = np.flatnonzero(alpha.max(axis=axis) > 0)
        first, last = (int(at[0]), int(at[-1])) if at.size else (0, 0)
        spans.append(slice(max(first - _MARGIN, 0), last + 1 + _MARGIN))
    return spans[0], spans[1]
