"""Small line charts of what benchmarks measure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

SIZE = (380, 300)
MARGIN = (64, 36, 24, 46)  # left, top, right, bottom
PAPER, INK, GRID = "#ffffff", "#222222", "#dddddd"
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf")

Line = Sequence[tuple[float, float]]


class Chart(NamedTuple):
    """Lines by name over one pair of axes."""

    title: str
    across: str  # what x is
    lines: Mapping[str, Line]


def drawn(charts: Sequence[Chart]) -> NDArray[np.uint8]:
    """Charts side by side, both axes from 0, with a legend where there is more than one line."""
    names = list(dict.fromkeys(name for chart in charts for name in chart.lines))
    legend = 20 * len(names) if len(names) > 1 else 0
    picture = Image.new("RGB", (SIZE[0] * len(charts), SIZE[1] + legend), PAPER)
    draw = ImageDraw.Draw(picture)
    for number, chart in enumerate(charts):
        _chart(draw, SIZE[0] * number, chart, names)
    for number, name in enumerate(names if legend else ()):
        y = SIZE[1] + 20 * number + 8
        draw.line([(MARGIN[0], y), (MARGIN[0] + 30, y)], COLOURS[number % len(COLOURS)], 2)
        draw.text((MARGIN[0] + 38, y), name, INK, ImageFont.load_default(13), "lm")
    return np.asarray(picture)


def _chart(draw: ImageDraw.ImageDraw, corner: int, chart: Chart, names: Sequence[str]) -> None:
    left, right = corner + MARGIN[0], corner + SIZE[0] - MARGIN[2]
    top, bottom = MARGIN[1], SIZE[1] - MARGIN[3]
    xs, ys = zip(*(point for line in chart.lines.values() for point in line), strict=True)
    far, high = 1.05 * max(xs), 1.1 * max(ys)
    font = ImageFont.load_default(12)

    def place(x: float, y: float) -> tuple[float, float]:
        return left + x / far * (right - left), bottom - y / high * (bottom - top)

    draw.text(((left + right) / 2, top - 18), chart.title, INK, ImageFont.load_default(14), "mm")
    draw.text(((left + right) / 2, bottom + 32), chart.across, INK, font, "mm")
    for y in np.linspace(0, max(ys), 5):
        draw.line([place(0, y), place(far, y)], GRID)
        draw.text((left - 8, place(0, y)[1]), f"{y:.3g}", INK, font, "rm")
    for x in np.linspace(0, max(xs), 5):
        draw.text((place(x, 0)[0], bottom + 12), f"{x:.4g}", INK, font, "mm")
    draw.line([(left, top), (left, bottom), (right, bottom)], INK)
    for name, line in chart.lines.items():
        colour = COLOURS[names.index(name) % len(COLOURS)]
        points = [place(*point) for point in sorted(line)]
        draw.line(points, colour, 2)
        for x, y in points:
            draw.ellipse([x - 3, y - 3, x + 3, y + 3], colour)
