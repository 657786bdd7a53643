"""HTML report on a reconstruction: photo, depth, confidence and renders side by side."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from crispdepth.ops.images import eight_bit
from crispdepth.types import Float32Map, MaskSet, ViewDepth
from crispdepth.viz.colour import Range, Rgb, colour_depth, colour_range
from crispdepth.viz.html import (
    MAX_SIDE,
    MetricTable,
    figure,
    header,
    page,
    shrunk,
    table_html,
)
from crispdepth.viz.sheet import outlined, thinned


@dataclass(frozen=True, eq=False)
class ViewFigure:
    """One view and what was made of it; whatever was not made is None."""

    name: str
    image: NDArray[np.uint8] | NDArray[np.uint16]  # (h, w, 3), sRGB
    depth: ViewDepth | None = None
    renders: Mapping[str, Rgb] | None = None  # what is shown -> (h', w', 3), from the same camera
    masks: MaskSet | None = None


def scene_report(
    title: str,
    facts: Mapping[str, str],  # what was reconstructed, from what, how long it took
    notes: Sequence[str],  # what the user should know
    tables: Sequence[MetricTable],  # against the truth, where there is one
    views: Sequence[ViewFigure],
    around: Mapping[str, Sequence[Rgb]],  # what is shown -> pictures from several sides
) -> str:
    """The HTML of a reconstruction: facts, notes, numbers, all sides, then view by view.

    Depth is shown as inverse depth in one range of colours for all views, near bright.
    """
    body = [header(title, facts)]
    if notes:
        items = "".join(f"<li>{escape(note)}</li>" for note in notes)
        body.append(f"<h2>Notes</h2><ul>{items}</ul>")
    body += [table_html(table) for table in tables]
    for what, pictures in around.items():
        body.append(f"<h2>{escape(what)}, from all sides</h2>")
        sides = []
        for number, picture in enumerate(pictures, 1):
            side = f"side {number} of {len(pictures)}"
            sides.append(figure(picture, side, f"{what}, {side}"))
        body.append(_grid(sides))
    shown = _shown(views)
    for view in views:
        body.append(f"<h2>{escape(view.name)}</h2>{_grid(_figures(view, shown))}")
    return page(title, body)


def _grid(figures: Iterable[str]) -> str:
    return f'<div class="grid">{"".join(figures)}</div>'


def _shown(views: Sequence[ViewFigure]) -> Range:
    """One range of inverse depth for all views: equal colours are equal depths."""
    parts = []
    for view in views:
        if view.depth is not None and view.depth.depth.usable.any():
            depth = view.depth.depth
            parts.append(np.reciprocal(depth.values[::4, ::4][depth.usable[::4, ::4]]))
    values: Float32Map = np.concatenate(parts)[None] if parts else np.zeros((1, 0), np.float32)
    return colour_range(values, np.ones(values.shape, bool))


def _figures(view: ViewFigure, shown: Range) -> list[str]:
    photo = shrunk(eight_bit(view.image), MAX_SIDE)
    if view.masks is not None:
        photo = outlined(photo, view.masks)
    figures = [figure(photo, "Photo", "Photo")]
    if view.depth is not None:
        depth = view.depth.depth
        values, usable = thinned(depth.values, MAX_SIDE), thinned(depth.usable, MAX_SIDE)
        inverse = np.divide(1, values, out=np.zeros_like(values), where=usable)
        picture = colour_depth(inverse, usable, low=shown.low, high=shown.high)
        share = f"{depth.usable.mean():.0%} of the pixels"
        if (confirmed := view.depth.trusted.mean()) < depth.usable.mean():
            share += f", {confirmed:.0%} confirmed"
        figures.append(figure(picture, f"Depth, {share}: near is bright, grey unknown", "Depth"))
        confidence = view.depth.confidence
        sure = confidence[depth.usable]
        if sure.size and np.ptp(sure) > 0:  # depth that was given is as sure everywhere
            picture = colour_depth(thinned(confidence, MAX_SIDE), None, low=0, high=1)
            figures.append(figure(picture, "Confidence: bright is sure", "Confidence"))
    for what, picture in (view.renders or {}).items():
        figures.append(figure(shrunk(picture, MAX_SIDE), escape(what), what))
    return figures
