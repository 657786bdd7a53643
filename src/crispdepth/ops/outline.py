"""Whether the outline of a mask lies where the photo, or else the depth, has an edge.

The constants were chosen on frames 0, 4, 8 ... of the rooms and settings, lengths for maps whose
longer side is `LONGER_SIDE`; benchmarks/mask_robustness.py measures the verdicts on other frames.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.types import BoolMap, Float32Map

LONGER_SIDE = 320
"""Longer side in pixels at which outlines are judged, or less."""

NEAR = 8
"""How far from the outline, along its normals, an edge of the photo is looked for."""

ON = 1
"""An edge of the photo at most so far from the outline is on it."""

FIT, FIT_OF_PARTS = 0.82, 0.76
"""An outline fits if it holds at least this share of the edges that are near it. Holes and small
pieces are more often things that the photo hardly shows."""

CLEAR = 0.68
"""Mean strength of the edges near an outline from which on they are edges, not texture."""

ON_DEPTH = 4
"""As `ON`, for the edges of rough depth, which are blurred and rounded."""

DEPTH_EDGE, DEPTH_BEST = 0.4, 0.95
"""The depth has an edge at the outline if its mean strength there is so large, and so large a share
of the best one within `FAR`."""

FAR = 16
"""How far an outline that does not fit is moved, grown and shrunk to see whether it fits there."""

FIT_ELSEWHERE = 0.86
"""From this share on an outline fits somewhere else; more than `FIT`, for that is the best of many
places."""

FEWEST, MOST = 64, 600
"""Pixels of an outline, both sides counted: with fewer nothing is said, of more a part is used."""


_Lengths = float | NDArray[np.float32]  # of one displacement, or (m, 1) of m


class Edges(NamedTuple):
    """The edges of a photo or a map: the tensor of its slopes, and their mean."""

    xx: Float32Map  # (h, w)
    xy: Float32Map  # (h, w)
    yy: Float32Map  # (h, w)
    mean: float


class Misfit(NamedTuple):
    """What is wrong with an outline. At most one of ``moved`` and ``grown`` is known."""

    whole: bool  # False: its longest part fits, its holes and smaller pieces do not
    moved: tuple[float, float] | None = None  # (x, y) in pixels to where it would fit
    grown: float | None = None  # pixels by which the mask would have to grow to fit


class _Outline(NamedTuple):
    """The pixels on both sides of a boundary, and unit normals that point to the inside."""

    x: NDArray[np.float32]  # (n,)
    y: NDArray[np.float32]
    normal_x: NDArray[np.float32]
    normal_y: NDArray[np.float32]

    def every(self, step: int) -> "_Outline":
        return _Outline(*(part[::step] for part in self))

    def moved(self, x: _Lengths, y: _Lengths) -> "_Outline":
        return self._replace(x=self.x + x, y=self.y + y)

    def inwards(self, by: _Lengths) -> "_Outline":
        return self.moved(by * self.normal_x, by * self.normal_y)


def edges(values: NDArray[np.float32]) -> Edges:
    """The edges of a photo (h, w, 3) or a map (h, w), on any affine scale."""
    smooth = cv2.GaussianBlur(values, (0, 0), 0.8)
    x, y = (cv2.Sobel(smooth, -1, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
    channels = np.ones((1, values[0, 0].size), np.float32)
    xx, xy, yy = (
        np.asarray(cv2.transform(part, channels), np.float32)  # the sum over them
        for part in (x * x, x * y, y * y)
    )
    return Edges(xx, xy, yy, float(np.sqrt(xx + yy).mean()))


def find_misfit(photo: Edges, depth: Edges, mask: Float32Map) -> Misfit | None:
    """How a mask fails to follow the edges; None if it follows them or if nothing can be said.

    Along the normals of the outline, the strongest edge on it is compared with the strongest one
    near it. Where those near it are no more than texture, the photo says nothing, and the mask
    fails only if the depth has no edge at it either. An outline that fails is tried elsewhere.

    Args:
        photo: of the photo, (h, w).
        depth: of the rough inverse depth, (h, w).
        mask: (h, w) in [0, 1].
    """
    longest, others = _outlines(mask)
    outline = _Outline(*(np.concatenate(parts) for parts in zip(longest, others, strict=True)))
    if _fails(photo, depth, outline, FIT):
        return _elsewhere(photo, outline)
    if _fails(photo, depth, others, FIT_OF_PARTS):
        return Misfit(whole=False)
    return None


def _outlines(mask: Float32Map) -> tuple[_Outline, _Outline]:
    """The longest connected outline of a mask, and all others together."""
    inside = (mask >= 0.5).astype(np.uint8)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    ring = cv2.morphologyEx(inside, cv2.MORPH_GRADIENT, cross)
    for border in (ring[:2], ring[-2:], ring[:, :2], ring[:, -2:]):
        border[...] = 0  # the end of the photo is no outline of what it shows
    count, labels, stats, _ = cv2.connectedComponentsWithStats(ring)
    longest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()) if count > 1 else 1
    smooth = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 1.5)
    slope_x, slope_y = (cv2.Sobel(smooth, -1, *order) for order in ((1, 0), (0, 1)))

    def outline(where: BoolMap) -> _Outline:
        y, x = np.nonzero(where)
        normals = np.stack([slope_x[y, x], slope_y[y, x]])
        normals = normals / np.maximum(np.linalg.norm(normals, axis=0), np.float32(1e-6))
        return _Outline(x.astype(np.float32), y.astype(np.float32), normals[0], normals[1])

    return outline(labels == longest), outline((labels > 0) & (labels != longest))


def _fails(photo: Edges, depth: Edges, outline: _Outline, fit: float) -> bool:
    if outline.x.size < FEWEST or photo.mean == 0:
        return False
    outline = outline.every(-(-outline.x.size // MOST))
    share, clearness = _share_on(photo, outline)
    return share < fit and (clearness >= CLEAR or not _depth_fits(depth, outline))


def _share_on(photo: Edges, outline: _Outline) -> tuple[float, float]:
    """The share of the edges near an outline that it holds, and how strong those are, 0..1."""
    profile = _profile(photo, outline, NEAR)
    there, near = (
        float(part.max(axis=0).mean()) for part in (profile[NEAR - ON : NEAR + ON + 1], profile)
    )
    return (there / near if near > 0 else 1.0), near


def _depth_fits(depth: Edges, outline: _Outline) -> bool:
    if depth.mean == 0:
        return False
    profile = _profile(depth, outline, FAR).mean(axis=1)
    there = profile[FAR - ON_DEPTH : FAR + ON_DEPTH + 1].max()
    return bool(there >= max(DEPTH_EDGE, DEPTH_BEST * profile.max()))


def _elsewhere(photo: Edges, outline: _Outline) -> Misfit:
    """Where the outline fits better: moved, or grown or shrunk, whichever finds more edges."""
    outline = outline.every(-(-outline.x.size // MOST))
    few = outline.every(3)
    x, y = _best_move(photo, few)
    profile = _profile(photo, few, FAR).mean(axis=1)
    inwards = int(profile.argmax()) - FAR
    moved, shrunk = outline.moved(x, y), outline.inwards(inwards)
    answers = (
        (_strength(photo, moved).mean(), moved, Misfit(whole=True, moved=(x, y))),
        (_strength(photo, shrunk).mean(), shrunk, Misfit(whole=True, grown=-float(inwards))),
    )
    for _, there, answer in sorted(answers, key=lambda each: -each[0]):
        if _share_on(photo, there)[0] >= FIT_ELSEWHERE:
            return answer
    return Misfit(whole=True)


def _best_move(photo: Edges, outline: _Outline) -> tuple[float, float]:
    """The move (x, y), up to `FAR` and a pixel along each axis, that finds the strongest edges."""
    x = y = 0.0
    for reach, step in ((FAR, 2), (1, 1)):
        steps = np.arange(-reach, reach + 1, step, dtype=np.float32)
        moves_x, moves_y = (part.reshape(-1, 1) for part in np.meshgrid(x + steps, y + steps))
        strength = _strength(photo, outline.moved(moves_x, moves_y)).mean(axis=1)
        best = int(strength.argmax())
        x, y = float(moves_x[best, 0]), float(moves_y[best, 0])
    return x, y


def _profile(found: Edges, outline: _Outline, reach: int) -> NDArray[np.float32]:
    """Strengths at ``-reach`` to ``reach`` pixels to the inside: (2 reach + 1, n)."""
    return _strength(
        found, outline.inwards(np.arange(-reach, reach + 1, dtype=np.float32)[:, None])
    )


def _strength(found: Edges, outline: _Outline) -> NDArray[np.float32]:
    """How strong the edges across the normals are at (x, y), in [0, 1); 0 beyond the frame.

    The mean slope counts one half, so that a few strong edges do not decide and the scale of the
    values does not matter.
    """
    height, width = found.xx.shape
    column, row = (np.rint(at).astype(np.intp) for at in (outline.x, outline.y))
    outside = (column < 0) | (column >= width) | (row < 0) | (row >= height)
    at = row.clip(0, height - 1) * width + column.clip(0, width - 1)
    x, y = outline.normal_x, outline.normal_y
    xx, xy, yy = (part.ravel()[at] for part in (found.xx, found.xy, found.yy))
    slope = np.sqrt(np.maximum(x * x * xx + 2 * x * y * xy + y * y * yy, 0))
    slope[outside] = 0
    return np.asarray(slope / (slope + np.float32(found.mean)), np.float32)
