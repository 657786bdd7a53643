"""What monocular depth networks do to true depth, simulated (spec A.4.3 and beyond).

Every function takes inverse depth (h, w) on any affine scale, keeps constants as they are and
commutes with positive affine maps of its input, for the same random draw. Lengths are pixels of
the patch. What the paper does not simulate has about the sizes that
``benchmarks/monocular_errors.py`` measures on a real network, and less, for better networks.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from crispdepth.data.strokes import Mask, Rng, disk, smooth_noise
from crispdepth.ops.fill import pull_push
from crispdepth.types import Float32Map

SQUARE = np.ones((3, 3), np.uint8)
STEPS = (1, 5)
RING = 10
"""Width of the surroundings of a hole."""

SMALL = 0.03
"""Share of the patch below which a thing may get a depth of its own."""

SMALL_KEEPS = (0.0, 0.6)
THIN_KEEPS = (0.0, 0.3)
"""Shares of their contrast to the surroundings that small things and thin parts keep."""

THIN = (2, 10)
"""Widths up to which a part is thin."""

FILLED = (0.7, 1.0)
"""Shares of an object's depth in its holes."""

MOST_HOLES = 24
"""So many holes of a mask, the largest, are filled one by one: nets have hundreds."""

NARROW, WIDE, LEAN = (0.6, 1.5), (1.5, 3.5), 2
"""Sigmas of the two parts of a bleeding edge, and how far its wide part leans to either side."""

WOBBLE, WOBBLE_LENGTH = (0.3, 1.5), (8.0, 40.0)
"""Standard deviation and wavelength of the displacement of outlines."""

COARSER = (1.0, 4.0)

DRIFT = 0.04
"""Standard deviation of the drift, as a share of the range of the depths."""


@dataclass(frozen=True)
class Perturbations:
    """The chance of each error. `PAPER` has those of the paper, the default is a mixture."""

    # Outlines displaced by up to 8 pixels, gaps closed, thin things lost (paper).
    morphology: float = 0.35
    # Gaussian blur (paper).
    blur: float = 0.3
    # Holes in people filled with anything between them and what is behind (paper).
    human_holes: float = 1.0
    # Holes of any mask filled with nearly its own depth.
    filled_holes: float = 0.5
    # Thin parts, or narrow gaps, that take the depth of what is beside them.
    thin_parts: float = 0.4
    # Small things as a whole too close to the depth of what is around them.
    small_things: float = 0.6
    # Edges that run out wide, unevenly and more to one side.
    bleeding: float = 0.5
    # Outlines that wander.
    wobble: float = 0.5
    # A map of fewer pixels, enlarged.
    coarse: float = 0.4


PAPER = Perturbations(1, 1, 1, 0, 0, 0, 0, 0, 0)


def perturb(
    depth: Float32Map, mask: Mask, human: bool, rng: Rng, chances: Perturbations
) -> Float32Map:
    """P(D'): the inverse depth (h, w) of a composite with the errors of a monocular network.

    Args:
        depth: inverse depth of the composite D'.
        mask: (h, w) of 0 and 1, neither empty nor full: what was composed.
        human: whether the mask shows people.
        rng: decides what happens and how much.
        chances: what may happen.
    """

    def happens(chance: float) -> bool:
        return bool(rng.random() < chance)

    rough = depth
    if mask.mean() < SMALL and happens(chances.small_things):
        rough = absorb(rough, mask, mask, rng.uniform(*SMALL_KEEPS))
    if happens(chances.thin_parts):
        side = mask if rng.integers(2) else 1 - mask
        part = thin_parts(side, int(rng.integers(THIN[0], THIN[1] + 1)))
        rough = absorb(rough, part, side, rng.uniform(*THIN_KEEPS))
    if happens(chances.morphology):
        dilations, erosions = (int(count) for count in rng.integers(STEPS[0], STEPS[1] + 1, 2))
        rough = morphology(rough, dilations, erosions, dilate_first=bool(rng.integers(2)))
    if happens(chances.blur):
        rough = blur(rough, rng.uniform(0, 1) if rng.integers(2) else rng.uniform(1, 5))
    if happens(chances.filled_holes):
        rough = fill_holes(rough, depth, holes(mask)[:MOST_HOLES], FILLED, rng)
    elif human and happens(chances.human_holes):
        rough = fill_holes(rough, depth, holes(mask), (0, 1), rng)
    if happens(chances.bleeding):
        lean = int(rng.integers(-LEAN, LEAN + 1))
        rough = bleed(rough, rng.uniform(*NARROW), rng.uniform(*WIDE), lean, rng)
    if happens(chances.wobble):
        rough = wander(rough, rng.uniform(*WOBBLE), rng.uniform(*WOBBLE_LENGTH), rng)
    if happens(chances.coarse):
        rough = coarsen(rough, rng.uniform(*COARSER))
    return rough


def morphology(depth: Float32Map, dilations: int, erosions: int, dilate_first: bool) -> Float32Map:
    """Grey dilations and erosions by a 3 x 3 square, in either of two orders (A.4.3, step 1).

    ``dilate^d erode^2e dilate^d`` or ``erode^e dilate^2d erode^e``. The near side of a straight
    step grows by 2 (d - e) pixels either way; which gaps and bars vanish differs.
    """
    if dilate_first:
        steps = ((cv2.dilate, dilations), (cv2.erode, 2 * erosions), (cv2.dilate, dilations))
    else:
        steps = ((cv2.erode, erosions), (cv2.dilate, 2 * dilations), (cv2.erode, erosions))
    for operator, iterations in steps:
        depth = np.asarray(operator(depth, SQUARE, iterations=iterations), np.float32)
    return depth


def blur(depth: Float32Map, sigma: float) -> Float32Map:
    """Gaussian blur of ``sigma`` pixels, cut off at 3 sigma (A.4.3, step 2)."""
    width = 2 * int(np.ceil(3 * sigma)) + 1
    if width == 1:
        return depth
    return np.asarray(cv2.GaussianBlur(depth, (width, width), sigma), np.float32)


def holes(mask: Mask) -> list[Mask]:
    """The enclosed holes of a mask, largest first, each (h, w) of 0 and 1, without islands."""
    contours, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if hierarchy is None:
        return []
    inner = np.flatnonzero(hierarchy[0, :, 3] >= 0).tolist()  # contours that have a parent
    found = []
    for index in sorted(inner, key=lambda i: -len(contours[i])):
        hole = np.zeros_like(mask)
        cv2.drawContours(hole, contours, index, 1, cv2.FILLED)
        found.append(hole & (1 - mask))
    return found


def fill_holes(
    rough: Float32Map,
    depth: Float32Map,
    patches: list[Mask],
    shares: tuple[float, float],
    rng: Rng,
) -> Float32Map:
    """Each hole at one value between what is in it and what is around it (A.4.3, step 3).

    Args:
        rough: (h, w), the map in which the holes are filled.
        depth: (h, w), D', from which the means in a hole and in the `RING` around it are taken.
        patches: from `holes`.
        shares: the share of the surroundings is uniform between these; the paper's are 0 and 1.
        rng: draws the shares.
    """
    result = rough.copy() if patches else rough
    for hole in patches:
        left, top, width, height = cv2.boundingRect(hole)
        window = (
            slice(max(top - RING, 0), top + height + RING),
            slice(max(left - RING, 0), left + width + RING),
        )
        inside = hole[window].astype(bool)
        ring = cv2.dilate(hole[window], disk(RING)).astype(bool) & ~inside
        share = np.float32(rng.uniform(*shares))
        own, around = depth[window][inside].mean(), depth[window][ring].mean()
        result[window][inside] = own + share * (around - own)
    return result


def thin_parts(side: Mask, width: int) -> Mask:
    """The parts of a mask (h, w) in which no disk of ``width`` pixels finds room."""
    opened = np.asarray(cv2.morphologyEx(side, cv2.MORPH_OPEN, disk(width / 2)), np.uint8)
    return side & (1 - opened)


def absorb(depth: Float32Map, part: Mask, side: Mask, kept: float) -> Float32Map:
    """A part of a side of the mask that keeps only a share of its contrast to the other side.

    Args:
        depth: (h, w).
        part: (h, w) of 0 and 1, within ``side``.
        side: (h, w) of 0 and 1, not full; what is beside the part is outside of it.
        kept: 0: the part vanishes, 1: nothing happens.
    """
    if not part.any():
        return depth
    around = pull_push(depth, (1 - side).astype(np.float32))
    return np.where(part.astype(bool), around + np.float32(kept) * (depth - around), depth)


def bleed(depth: Float32Map, narrow: float, wide: float, lean: int, rng: Rng) -> Float32Map:
    """Edges that are steep in the middle and run out wide, here more, there less.

    A mixture, uneven along the edges, of two Gaussian blurs. The wide one is of the map dilated
    (``lean`` > 0: the near side runs out over the far one) or eroded by ``lean`` pixels.
    """
    leaning = depth
    if lean:
        operator = cv2.dilate if lean > 0 else cv2.erode
        leaning = np.asarray(operator(depth, SQUARE, iterations=abs(lean)), np.float32)
    share = (0.5 + 0.5 * smooth_noise(rng, depth.shape, 12 * wide)).clip(0, 1)
    steep = blur(depth, narrow)
    mixed: Float32Map = steep + share * (blur(leaning, wide) - steep)
    return mixed


def wander(depth: Float32Map, amplitude: float, wavelength: float, rng: Rng) -> Float32Map:
    """The map with everything displaced by a smooth random field, ``amplitude`` pixels (sd)."""
    height, width = depth.shape
    x, y = (
        np.float32(amplitude) * smooth_noise(rng, depth.shape, wavelength) + axis
        for axis in (
            np.arange(width, dtype=np.float32),
            np.arange(height, dtype=np.float32)[:, None],
        )
    )
    moved = cv2.remap(depth, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.float32)


def coarsen(depth: Float32Map, factor: float) -> Float32Map:
    """The map shrunk by ``factor`` (>= 1) by area average and enlarged linearly."""
    height, width = depth.shape
    small = (max(1, round(width / factor)), max(1, round(height / factor)))
    shrunk = cv2.resize(depth, small, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR))


def drift(depth: Float32Map, rng: Rng) -> tuple[Float32Map, Float32Map]:
    """A smooth gain (around 1) and offset (around 0), (h, w) each, in proportion to the depths.

    Networks bend whole scenes: what they say is true up to ``gain * true + offset``. Refining is
    not asked to straighten that, so it belongs to rough depth and truth alike.
    """
    wavelength = max(depth.shape) * rng.uniform(0.5, 1.5)
    gain, offset = (
        np.float32(DRIFT) * smooth_noise(rng, depth.shape, wavelength) for _ in range(2)
    )
    return 1 + gain.clip(-0.5, 0.5), offset * np.ptp(depth)
