"""HTML reports on refinement: one file, no requests, opens from a folder, a mail or a web page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from crispdepth.ops.images import eight_bit
from crispdepth.types import BoolMap, Float32Map, MaskSet
from crispdepth.viz.colour import (
    BETTER,
    WORSE,
    Range,
    Rgb,
    change_map,
    colour_depth,
    colour_range,
    signed_map,
)
from crispdepth.viz.html import (
    MAX_SIDE,
    MetricTable,
    colour_bar,
    figure,
    header,
    jpeg_url,
    page,
    png_url,
    shrunk,
    table_html,
)
from crispdepth.viz.sheet import (
    Window,
    boundary_closeups,
    closeup_size,
    mask_boundary,
    outlined,
    thinned,
)

MAX_SAMPLES = 12
"""Samples that a report shows: a page of megabytes per sample soon opens too slowly."""

_CLOSEUPS = 3
_FULL_COLOUR = 0.1  # of the range of the truth: the change of error that is fully blue or red


@dataclass(frozen=True, eq=False)
class SampleFigure:
    """One photo and what every method made of its depth.

    All maps are inverse depth in one frame: where there is a truth they are aligned to it, as
    they were when they were measured.
    """

    name: str
    image: NDArray[np.uint8] | NDArray[np.uint16] | None  # (h, w, 3), sRGB
    initial: Float32Map  # (h, w)
    refined: Mapping[str, Float32Map]  # method -> (h, w)
    valid: BoolMap  # (h, w): where `initial` and `refined` are defined
    truth: Float32Map | None = None  # (h, w)
    truth_valid: BoolMap | None = None  # (h, w): where `truth` was measured; None: everywhere
    masks: MaskSet | None = None  # outlines, and where the close-ups are


def benchmark_report(
    title: str,
    facts: Mapping[str, str],  # what was run: dataset, version, options
    tables: Sequence[MetricTable],
    samples: Sequence[SampleFigure],
) -> str:
    """The HTML of a benchmark: what was run, the numbers, and per sample the pictures.

    A sample shows photo, truth and, for every method, a before/after slider, the
    relative-improvement map (Fig. 6 of *Layered Depth Refinement with Mask Guidance*: blue where
    the error fell, red where it rose) and close-ups at the mask boundary. Only the first
    `MAX_SAMPLES` are shown, and the page says so.
    """
    shown = samples[:MAX_SAMPLES]
    links = [f'<li><a href="#s{i}">{escape(s.name)}</a></li>' for i, s in enumerate(shown)]
    if len(shown) < len(samples):
        links.append(f"<li>The first {len(shown)} of {len(samples)} samples are shown.</li>")
    body = [
        header(title, facts),
        *map(table_html, tables),
        f'<nav aria-label="Samples"><ul>{"".join(links)}</ul></nav>' if links else "",
    ]
    for i, sample in enumerate(shown):
        body.append(f'<section id="s{i}"><h2>{escape(sample.name)}</h2>')
        body.append(_sample(sample, "initial", difference=sample.truth is None))
        body.append("</section>")
    return page(title, body)


def compare_report(
    title: str,
    facts: Mapping[str, str],  # which files, how they were aligned
    table: MetricTable | None,
    sample: SampleFigure,  # `refined` holds the one map that `initial` is compared with
) -> str:
    """The HTML of two depth maps of one photo: slider, difference, close-ups, numbers if any."""
    body = [header(title, facts), table_html(table) if table else ""]
    return page(title, [*body, _sample(sample, "before", difference=True)])


def _sample(sample: SampleFigure, before: str, *, difference: bool) -> str:
    """Photo and truth, then each method against ``before``, then the close-ups."""
    shown = colour_range(*_reference(sample))
    first = []
    if sample.image is not None:
        first.append(_photo_figure(sample, sample.image))
    if sample.truth is not None:
        truth = _depth_picture(sample.truth, _truth_valid(sample), shown)
        first.append(
            figure(truth, "True inverse depth: near is bright, unknown is grey", "True depth")
        )
    initial = jpeg_url(_depth_picture(sample.initial, sample.valid, shown))
    parts = [f'<div class="grid">{"".join(first)}</div>'] if first else []
    for method, values in sample.refined.items():
        refined = jpeg_url(_depth_picture(values, sample.valid, shown))
        figures = [_slider(initial, refined, before, method, sample.name)]
        if difference:
            figures.append(_difference_figure(sample, values))
        if sample.truth is not None:
            figures.append(_improvement_figure(sample, sample.truth, values, shown))
        parts.append(f'<h3>{escape(method)}</h3><div class="grid">{"".join(figures)}</div>')
    return "\n".join([*parts, _closeups(sample, before)])


def _reference(sample: SampleFigure) -> tuple[Float32Map, BoolMap]:
    """The map whose values set the colours of all: the truth, else the initial map."""
    if sample.truth is None:
        return sample.initial, sample.valid
    return sample.truth, _truth_valid(sample)


def _truth_valid(sample: SampleFigure) -> BoolMap:
    if sample.truth_valid is None:
        return np.ones(sample.initial.shape, bool)
    return sample.truth_valid


def _depth_picture(values: Float32Map, valid: BoolMap, shown: Range) -> Rgb:
    values, valid = thinned(values, MAX_SIDE), thinned(valid, MAX_SIDE)
    return colour_depth(values, valid, low=shown.low, high=shown.high)


def _photo_figure(sample: SampleFigure, image: NDArray[np.uint8] | NDArray[np.uint16]) -> str:
    photo = shrunk(eight_bit(image), MAX_SIDE)
    if sample.masks is None:
        return figure(photo, "Photo", "Photo")
    return figure(
        outlined(photo, sample.masks), "Photo with mask outlines", "Photo with mask outlines"
    )


def _difference_figure(sample: SampleFigure, values: Float32Map) -> str:
    change = np.abs(values - sample.initial)
    change[~sample.valid] = 0
    limit = float(change.max())
    caption = f"Change of inverse depth: {colour_bar((255, 255, 255), (0, 0, 0))} 0 to {limit:.3g}"
    picture = change_map(change, limit or 1.0, sample.valid)
    return figure(picture, caption, "Size of the change")


def _improvement_figure(
    sample: SampleFigure, truth: Float32Map, values: Float32Map, shown: Range
) -> str:
    error_change = np.abs(values - truth) - np.abs(sample.initial - truth)
    limit = _FULL_COLOUR * (shown.high - shown.low) or 1.0
    caption = (
        f"Change of the error: better {colour_bar(BETTER, (255, 255, 255), WORSE)} worse; "
        f"full colour at {limit:.3g}, {_FULL_COLOUR:.0%} of the true range"
    )
    picture = signed_map(error_change, limit, sample.valid & _truth_valid(sample))
    return figure(picture, caption, "Where the error fell (blue) and rose (red)")


def _closeups(sample: SampleFigure, before: str) -> str:
    """A table of enlarged windows: photo, truth, before and every method side by side."""
    windows = _windows(sample)
    if not windows:
        return ""
    maps = [(before, sample.initial, sample.valid)]
    maps += [(method, values, sample.valid) for method, values in sample.refined.items()]
    if sample.truth is not None:
        maps.insert(0, ("truth", sample.truth, _truth_valid(sample)))
    names = [name for name, _, _ in maps]
    if sample.image is not None:
        names.insert(0, "photo")
    rows = []
    for number, window in enumerate(windows, 1):
        crops = [(window.crop(values), window.crop(valid)) for _, values, valid in maps]
        values, valid = (np.hstack(parts) for parts in zip(*crops, strict=True))
        low, high = colour_range(values, valid)
        pictures = [colour_depth(*crop, low=low, high=high) for crop in crops]
        if sample.image is not None:
            pictures.insert(0, eight_bit(window.crop(sample.image)))
        cells = [
            f'<td><img src="{png_url(picture)}" alt="Close-up {number}: {escape(name)}"></td>'
            for name, picture in zip(names, pictures, strict=True)
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    return (
        "<h3>Close-ups where depth changed most</h3>"
        '<div class="scroll" tabindex="0" role="region" aria-label="Close-ups">'
        f'<table class="closeups"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _windows(sample: SampleFigure) -> tuple[Window, ...]:
    """Where to look closer: on the mask boundary, or anywhere when there is no mask."""
    change = np.zeros_like(sample.initial)
    for values in sample.refined.values():
        change += np.abs(values - sample.initial)
    change[~sample.valid] = 0
    size = closeup_size(sample.initial.shape)
    if sample.masks is not None:
        places = mask_boundary(sample.masks)
    else:
        places = np.zeros(change.shape, bool)
        places[:: size // 4, :: size // 4] = True
    return boundary_closeups(change, places, _CLOSEUPS, size)


def _slider(before_url: str, after_url: str, before: str, after: str, name: str) -> str:
    """Two pictures on top of each other and a range input, as large as they, that uncovers one."""
    label = f"{name}: how much of {before} covers {after}, percent"
    return (
        '<figure><div class="slider" style="--cut: 50%">'
        f'<img src="{after_url}" alt="Depth, {escape(after)}">'
        f'<img class="before" src="{before_url}" alt="Depth, {escape(before)}">'
        '<div class="cut"></div>'
        f'<span class="left">{escape(before)}</span><span class="right">{escape(after)}</span>'
        f'<input type="range" min="0" max="100" value="50" aria-label="{escape(label)}">'
        f"</div><figcaption>{escape(before)} | {escape(after)}: drag, or use the arrow keys"
        "</figcaption></figure>"
    )
