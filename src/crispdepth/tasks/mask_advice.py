"""Whether to trust a mask: advice against a refinement, never a change of it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crispdepth.ops.fill import pull_push
from crispdepth.ops.outline import LONGER_SIDE, Edges, Misfit, edges, find_misfit
from crispdepth.ops.resample import shrink, size_within
from crispdepth.types import Float32Map

NOT_FOLLOWED = "not follow the edges of the photo"
"""What every advice says."""


GREY = 0.5
"""Share of the photo that a mask may leave between 0.1 and 0.9 without a question."""

BLACK_AND_WHITE = 0.98
"""Share of a depth map that has one of two values if it is a mask, up to `TOLERANCE`."""

TOLERANCE = 0.02
"""How far from either end of its range a value of a mask may be, in parts of that range."""


class Evidence(NamedTuple):
    """What the outlines of masks are held against, at one size whatever the completer."""

    photo: Edges
    depth: Edges


def evidence(photo: NDArray[np.float32], inverse: Float32Map, valid: Float32Map) -> Evidence:
    """The edges of a photo and of its rough depth, on any scale.

    Args:
        photo: (h, w, 3).
        inverse: (h, w), the mean inverse depth of the valid part of each pixel.
        valid: (h, w) in [0, 1], the share of that part.
    """
    size = size_within(LONGER_SIDE, inverse.shape)
    depth = shrink(inverse, size)
    if not valid.all():  # what was not measured must not look like an edge
        share, total = shrink(valid, size).clip(0, 1), shrink(inverse * valid, size)
        depth = pull_push(total / np.maximum(share, np.float32(1e-6)), share)
    return Evidence(edges(shrink(photo, size)), edges(depth))


def advice(found: Evidence, mask: Float32Map, name: str, scale: float) -> tuple[str, ...]:
    """A sentence for the user if a mask does not fit what it was drawn for, or none.

    Args:
        found: the evidence.
        mask: (h, w) in [0, 1], at the size of the maps that the evidence came from.
        name: of the mask.
        scale: how many pixels of the user's photo one pixel of ``mask`` is.
    """
    size = found.photo.xx.shape
    misfit = find_misfit(found.photo, found.depth, shrink(mask, size))
    if misfit is None:
        return ()
    if not misfit.whole:
        what, so = (
            f"The holes or smaller pieces of mask {name!r} do",
            "check whether they are meant",
        )
    else:
        where = _where_it_fits(misfit, scale * max(mask.shape) / max(size))
        what, so = f"Mask {name!r} does", f"{where}; check that it belongs to this photo"
    return (f"{what} {NOT_FOLLOWED}: {so}. What was refined there is not to be relied on.",)


def _where_it_fits(misfit: Misfit, scale: float) -> str:
    """How the outline would fit the photo, in pixels of which ``scale`` are one of the misfit."""
    x, y = (round(by * scale) for by in misfit.moved or (0, 0))
    grown = round((misfit.grown or 0) * scale)
    parts = [
        f"{abs(by)} px {towards[by > 0]}"
        for by, towards in ((x, ("to the left", "to the right")), (y, ("up", "down")))
        if by
    ]
    if parts:
        return f"its outline fits best when moved by {' and '.join(parts)}"
    if grown:
        return f"its outline fits best when {'grown' if grown > 0 else 'shrunk'} by {abs(grown)} px"
    return "its outline is ragged or far from any"


def is_grey(mask: Float32Map) -> bool:
    """Whether a mask (h, w) in [0, 1] leaves most of the photo undecided, as depth would."""
    return bool(np.mean((mask > 0.1) & (mask < 0.9)) > GREY)


def is_black_and_white(inverse: Float32Map, usable: NDArray[np.bool_]) -> bool:
    """Whether an inverse depth (h, w) of more than one value has hardly any but two, as masks do.

    Masks of less than half a percent of the photo and very soft ones are not found.
    """
    values = inverse[usable]
    values = values[:: max(1, len(values) // 100_000)]  # sorting many takes longer than it is worth
    low, high = np.quantile(values, (0.005, 0.995))  # without outliers
    if low == high:
        return False
    place = (values - low) / (high - low)
    return bool(np.mean((place > TOLERANCE) & (place < 1 - TOLERANCE)) < 1 - BLACK_AND_WHITE)
