"""The pieces of our HTML reports: page, facts, tables of numbers, pictures as data URLs."""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template

import cv2

from crispdepth.viz.colour import Colour, Rgb
from crispdepth.viz.sheet import fit

MAX_SIDE = 640
"""Pixels of a picture in a report, at most."""

_CLOSEUP_SIDE = 160  # most pixels of a close-up; the browser enlarges them as squares


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


def page(title: str, body: Iterable[str]) -> str:
    """A whole page around HTML parts; empty parts are left out."""
    template = files("crispdepth.viz").joinpath("report.html").read_text("utf-8")
    return Template(template).substitute(title=escape(title), body="\n".join(filter(None, body)))


def header(title: str, facts: Mapping[str, str]) -> str:
    """The head of a page: title, and what was run."""
    rows = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
    return f"<header><h1>{escape(title)}</h1><dl>{rows}</dl></header>"


def table_html(table: MetricTable) -> str:
    """A table of numbers, best ones in bold."""
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


def figure(picture: Rgb, caption_html: str, alt: str) -> str:
    """A picture with a caption, which is HTML."""
    return (
        f'<figure><img src="{jpeg_url(picture)}" alt="{escape(alt)}">'
        f"<figcaption>{caption_html}</figcaption></figure>"
    )


def colour_bar(*colours: Colour) -> str:
    """A colour bar, as HTML."""
    stops = ", ".join(f"rgb{colour}" for colour in colours)
    return f'<span class="scale" style="background: linear-gradient(to right, {stops})"></span>'


def jpeg_url(picture: Rgb) -> str:
    """As a data URL; full colour resolution, for depth edges are edges of colour."""
    full = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    options = [cv2.IMWRITE_JPEG_QUALITY, 88, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, full]
    return _data_url("jpeg", shrunk(picture, MAX_SIDE), options)


def png_url(picture: Rgb) -> str:
    """As a data URL, without loss, for close-ups."""
    return _data_url("png", shrunk(picture, _CLOSEUP_SIDE), [cv2.IMWRITE_PNG_COMPRESSION, 9])


def shrunk(picture: Rgb, side: int) -> Rgb:
    """The picture, made smaller if it is larger than ``side`` pixels."""
    return fit(picture, side) if max(picture.shape) > side else picture


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


def _data_url(kind: str, picture: Rgb, options: Sequence[int]) -> str:
    _, encoded = cv2.imencode(f".{kind}", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    return f"data:image/{kind};base64,{base64.b64encode(encoded.tobytes()).decode('ascii')}"
