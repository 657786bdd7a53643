"""Self-contained HTML reports: one file, no requests, opens from a folder, a mail or a web page."""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.ops.images import eight_bit
from crispdepth.types import BoolMap, Float32Map, MaskSet
from crispdepth.viz.colour import (
    BETTER,
    WORSE,
    Colour,
    Range,
    Rgb,
    change_map,
    colour_depth,
    colour_range,
    signed_map,
)
from crispdepth.viz.sheet import (
    Window,
    boundary_closeups,
    closeup_size,
    fit,
    mask_boundary,
    outlined,
    thinned,
)

MAX_SAMPLES = 12
"""Samples that a report shows: a page of megabytes per sample soon opens too slowly."""

_MAX_SIDE = 640  # pixels of a picture in a report
_CLOSEUP_SIDE = 160  # most pixels of a close-up; the browser enlarges them as squares
_CLOSEUPS = 3
_FULL_COLOUR = 0.1  # of the range of the truth: the change of error that is fully blue or red


@dataclass(frozen=True)
class MetricColumn:
    """One column of a table of numbers."""

    key: str  # which number of a row
    title: str  # what the head of the column says
    lower_is_better: bool
    digits: int = 3  # after the decimal point


@dataclass(frozen=True)
class MetricTable:
    """Methods in rows, metrics in columns; a number that is missing or NaN is shown as a dash."""

    title: str
    columns: Sequence[MetricColumn]
    rows: Mapping[str, Mapping[str, float]]  # method -> key -> number


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
        _header(title, facts),
        *map(_table, tables),
        f'<nav aria-label="Samples"><ul>{"".join(links)}</ul></nav>' if links else "",
    ]
    for i, sample in enumerate(shown):
        body.append(f'<section id="s{i}"><h2>{escape(sample.name)}</h2>')
        body.append(_sample(sample, "initial", difference=sample.truth is None))
        body.append("</section>")
    return _page(title, body)


def compare_report(
    title: str,
    facts: Mapping[str, str],  # which files, how they were aligned
    table: MetricTable | None,
    sample: SampleFigure,  # `refined` holds the one map that `initial` is compared with
) -> str:
    """The HTML of two depth maps of one photo: slider, difference, close-ups, numbers if any."""
    body = [_header(title, facts), _table(table) if table else ""]
    return _page(title, [*body, _sample(sample, "before", difference=True)])


def _page(title: str, body: Iterable[str]) -> str:
    template = files("crispdepth.viz").joinpath("report.html").read_text("utf-8")
    return Template(template).substitute(title=escape(title), body="\n".join(filter(None, body)))


def _header(title: str, facts: Mapping[str, str]) -> str:
    rows = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
    return f"<header><h1>{escape(title)}</h1><dl>{rows}</dl></header>"


def _table(table: MetricTable) -> str:
    head = "".join(_column_head(column) for column in table.columns)
    best = {column.key: _best(column, table.rows.values()) for column in table.columns}
    rows = []
    for method, numbers in table.rows.items():
        cells = []
        for column in table.columns:
            text = _number(numbers.get(column.key, math.nan), column.digits)
            mark = ' class="best"' if text == best[column.key] else ""
            cells.append(f"<td{mark}>{text}</td>")
        rows.append(f'<tr><th scope="row">{escape(method)}</th>{"".join(cells)}</tr>')
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.title)}">'
        f"<table><caption>{escape(table.title)}; best in bold</caption>"
        f'<thead><tr><th scope="col">method</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _column_head(column: MetricColumn) -> str:
    arrow, words = ("↓", "lower") if column.lower_is_better else ("↑", "higher")
    return (
        f'<th scope="col">{escape(column.title)} '
        f'<abbr title="{words} is better" aria-label="{words} is better">{arrow}</abbr></th>'
    )


def _best(column: MetricColumn, rows: Iterable[Mapping[str, float]]) -> str | None:
    """The best number of a column as it is printed: numbers that look equal are equally good."""
    numbers = [row[column.key] for row in rows if not math.isnan(row.get(column.key, math.nan))]
    if not numbers:
        return None
    return _number(min(numbers) if column.lower_is_better else max(numbers), column.digits)


def _number(value: float, digits: int) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.{digits}f}".replace("inf", "∞").replace("-", "−")


def _sample(sample: SampleFigure, before: str, *, difference: bool) -> str:
    """Photo and truth, then each method against ``before``, then the close-ups."""
    shown = colour_range(*_reference(sample))
    first = []
    if sample.image is not None:
        first.append(_photo_figure(sample, sample.image))
    if sample.truth is not None:
        truth = _depth_picture(sample.truth, _truth_valid(sample), shown)
        first.append(
            _figure(truth, "True inverse depth: near is bright, unknown is grey", "True depth")
        )
    initial = _jpeg(_depth_picture(sample.initial, sample.valid, shown))
    parts = [f'<div class="grid">{"".join(first)}</div>'] if first else []
    for method, values in sample.refined.items():
        refined = _jpeg(_depth_picture(values, sample.valid, shown))
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
    values, valid = thinned(values, _MAX_SIDE), thinned(valid, _MAX_SIDE)
    return colour_depth(values, valid, low=shown.low, high=shown.high)


def _photo_figure(sample: SampleFigure, image: NDArray[np.uint8] | NDArray[np.uint16]) -> str:
    photo = _shrink(eight_bit(image), _MAX_SIDE)
    if sample.masks is None:
        return _figure(photo, "Photo", "Photo")
    return _figure(
        outlined(photo, sample.masks), "Photo with mask outlines", "Photo with mask outlines"
    )


def _difference_figure(sample: SampleFigure, values: Float32Map) -> str:
    change = np.abs(values - sample.initial)
    change[~sample.valid] = 0
    limit = float(change.max())
    caption = f"Change of inverse depth: {_scale((255, 255, 255), (0, 0, 0))} 0 to {limit:.3g}"
    picture = change_map(change, limit or 1.0, sample.valid)
    return _figure(picture, caption, "Size of the change")


def _improvement_figure(
    sample: SampleFigure, truth: Float32Map, values: Float32Map, shown: Range
) -> str:
    error_change = np.abs(values - truth) - np.abs(sample.initial - truth)
    limit = _FULL_COLOUR * (shown.high - shown.low) or 1.0
    caption = (
        f"Change of the error: better {_scale(BETTER, (255, 255, 255), WORSE)} worse; "
        f"full colour at {limit:.3g}, {_FULL_COLOUR:.0%} of the true range"
    )
    picture = signed_map(error_change, limit, sample.valid & _truth_valid(sample))
    return _figure(picture, caption, "Where the error fell (blue) and rose (red)")


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
            f'<td><img src="{_png(picture)}" alt="Close-up {number}: {escape(name)}"></td>'
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


def _figure(picture: Rgb, caption_html: str, alt: str) -> str:
    return (
        f'<figure><img src="{_jpeg(picture)}" alt="{escape(alt)}">'
        f"<figcaption>{caption_html}</figcaption></figure>"
    )


def _scale(*colours: Colour) -> str:
    """A colour bar, as HTML."""
    stops = ", ".join(f"rgb{colour}" for colour in colours)
    return f'<span class="scale" style="background: linear-gradient(to right, {stops})"></span>'


def _shrink(picture: Rgb, side: int) -> Rgb:
    return fit(picture, side) if max(picture.shape) > side else picture


def _jpeg(picture: Rgb) -> str:
    """As a data URL; full colour resolution, for depth edges are edges of colour."""
    full = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    options = [cv2.IMWRITE_JPEG_QUALITY, 88, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, full]
    return _data_url("jpeg", _shrink(picture, _MAX_SIDE), options)


def _png(picture: Rgb) -> str:
    return _data_url("png", _shrink(picture, _CLOSEUP_SIDE), [cv2.IMWRITE_PNG_COMPRESSION, 9])


def _data_url(kind: str, picture: Rgb, options: Sequence[int]) -> str:
    _, encoded = cv2.imencode(f".{kind}", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    return f"data:image/{kind};base64,{base64.b64encode(encoded.tobytes()).decode('ascii')}"
