import base64
import math
from dataclasses import replace
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from crispdepth.types import MaskSet
from crispdepth.viz.html import MetricColumn, MetricTable
from crispdepth.viz.report import (
    MAX_SAMPLES,
    SampleFigure,
    benchmark_report,
    compare_report,
)

EVIL = '<script>alert("1")</script>&"\''
VOID = {"meta", "img", "input", "br"}
COLUMNS = (MetricColumn("rmse", "RMSE", True), MetricColumn("r3", "R³", False, 1))


class Page(HTMLParser):
    """Every tag with its attributes, and the visible text; unbalanced tags are an error."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def sliders(self) -> list[dict[str, str | None]]:
        return [attributes for attributes in self.all("input") if attributes["type"] == "range"]


@pytest.fixture
def sample() -> SampleFigure:
    truth = np.full((60, 80), 0.2, np.float32)
    truth[20:40, 30:50] = 0.8
    masks = MaskSet((truth > 0.5).astype(np.uint8)[None] * 255)
    blurred = cv2.GaussianBlur(truth, (0, 0), 3).astype(np.float32)
    photo = np.full((60, 80, 3), 120, np.uint8)
    return SampleFigure(
        "sample",
        photo,
        blurred,
        {"sharp": truth, "rough": 2 * blurred - truth},
        np.ones((60, 80), bool),
        truth,
        np.ones((60, 80), bool),
        masks,
    )


def cells(page: str) -> list[str]:
    """The opening tags and texts of the numbers of a report's tables, in reading order."""
    return [part.split("</td>")[0] for part in page.split("<td")[1:] if "<img" not in part]


def decode(attributes: dict[str, str | None]) -> np.ndarray:
    """The picture of an `img`, (h, w, 3) RGB."""
    source = attributes["src"]
    assert source is not None
    data = np.frombuffer(base64.b64decode(source.split(",")[1], validate=True), np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    return np.asarray(picture)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_there_is_a_slider_for_every_sample_and_method(sample: SampleFigure, count: int) -> None:
    page = Page(benchmark_report("bench", {}, [], [sample] * count))
    assert len(page.sliders) == count * len(sample.refined)


def test_a_report_asks_for_nothing_outside_itself(sample: SampleFigure) -> None:
    html = benchmark_report("bench", {}, [], [sample])
    page = Page(html)
    assert "://" not in html
    assert "@import" not in html
    assert {tag for tag, _ in page.tags}.isdisjoint({"link", "iframe", "object", "base"})
    assert all("src" not in script for script in page.all("script"))
    for image in page.all("img"):
        assert str(image["src"]).startswith("data:image/")
        assert decode(image).size


def test_every_picture_and_slider_has_a_name_for_those_who_do_not_see_it(
    sample: SampleFigure,
) -> None:
    page = Page(benchmark_report("bench", {}, [], [sample]))
    assert all(image["alt"] for image in page.all("img"))
    assert all(slider["aria-label"] for slider in page.sliders)
    assert page.all("html")[0]["lang"] == "en"


def test_names_are_text_and_never_markup(sample: SampleFigure) -> None:
    evil = replace(sample, name=EVIL, refined={EVIL: sample.initial})
    table = MetricTable(EVIL, [MetricColumn("x", EVIL, True)], {EVIL: {"x": 1.0}})
    for html in (
        benchmark_report(EVIL, {EVIL: EVIL}, [table], [evil]),
        compare_report(EVIL, {EVIL: EVIL}, table, evil),
    ):
        page = Page(html)
        assert len(page.all("script")) == 1  # our own
        assert 'alert("1")' not in html
        assert page.text.count(EVIL) >= 6
        assert any(EVIL in str(image["alt"]) for image in page.all("img"))
        assert any(EVIL in str(slider["aria-label"]) for slider in page.sliders)


def test_the_best_number_of_each_column_is_bold_in_its_own_direction() -> None:
    rows = {"a": {"rmse": 0.1, "r3": 2.0}, "b": {"rmse": 0.2, "r3": 3.0}}
    html = benchmark_report("bench", {}, [MetricTable("t", COLUMNS, rows)], [])
    assert cells(html) == [' class="best">0.100', ">2.0", ">0.200", ' class="best">3.0']
    assert "lower is better" in html
    assert "higher is better" in html


def test_numbers_that_print_alike_are_equally_good() -> None:
    rows = {"a": {"rmse": 0.10001}, "b": {"rmse": 0.10002}, "c": {"rmse": 0.2}}
    html = benchmark_report("bench", {}, [MetricTable("t", COLUMNS[:1], rows)], [])
    assert cells(html) == [' class="best">0.100', ' class="best">0.100', ">0.200"]


def test_missing_numbers_are_dashes_and_never_the_best() -> None:
    rows = {"a": {"rmse": math.nan, "r3": math.inf}, "b": {"rmse": -1.0}}
    html = benchmark_report("bench", {}, [MetricTable("t", COLUMNS, rows)], [])
    assert cells(html) == [">–", ' class="best">∞', ' class="best">−1.000', ">–"]


def test_the_improvement_map_is_blue_where_the_error_fell_and_red_where_it_rose(
    sample: SampleFigure,
) -> None:
    page = Page(benchmark_report("bench", {}, [], [sample]))
    sharp, rough = (
        decode(image).astype(int) for image in page.all("img") if "error" in str(image["alt"])
    )
    at_the_edge = np.s_[18:42, 30]
    assert (sharp[at_the_edge][..., 2] >= sharp[at_the_edge][..., 0]).all()
    assert (rough[at_the_edge][..., 0] >= rough[at_the_edge][..., 2]).all()
    assert (sharp[0, 0] > 250).all()  # far from the edge nothing changed


def test_where_the_truth_is_unknown_no_improvement_is_claimed(sample: SampleFigure) -> None:
    unknown = replace(sample, truth_valid=np.zeros((60, 80), bool))
    page = Page(benchmark_report("bench", {}, [], [unknown]))
    for image in page.all("img"):
        if "error" in str(image["alt"]):
            assert np.ptp(decode(image)) == 0


def test_without_a_truth_the_change_is_shown_instead(sample: SampleFigure) -> None:
    blind = replace(sample, truth=None, truth_valid=None)
    page = Page(benchmark_report("bench", {}, [], [blind]))
    names = [str(image["alt"]) for image in page.all("img")]
    assert not any("error" in name or "True" in name for name in names)
    assert sum(name == "Size of the change" for name in names) == 2


def test_a_comparison_needs_two_maps_and_nothing_else(sample: SampleFigure) -> None:
    bare = SampleFigure("x", None, sample.initial, {"after": sample.refined["sharp"]}, sample.valid)
    page = Page(compare_report("before and after", {"before": "a.png"}, None, bare))
    assert len(page.sliders) == 1
    assert not page.all("h2")
    closeups = [image for image in page.all("img") if "Close-up" in str(image["alt"])]
    assert len(closeups) >= 2


def test_equal_maps_make_a_report_too(sample: SampleFigure) -> None:
    flat = np.full((60, 80), 0.5, np.float32)
    same = replace(sample, initial=flat, refined={"after": flat}, truth=flat)
    assert len(Page(compare_report("same", {}, None, same)).sliders) == 1


def test_large_samples_are_shrunk_and_too_many_are_left_out(sample: SampleFigure) -> None:
    large = replace(
        sample,
        image=np.zeros((1200, 1600, 3), np.uint16),
        initial=np.zeros((1200, 1600), np.float32),
        refined={"zero": np.zeros((1200, 1600), np.float32)},
        valid=np.ones((1200, 1600), bool),
        truth=None,
        truth_valid=None,
        masks=None,
    )
    page = Page(benchmark_report("bench", {}, [], [large]))
    assert max(max(decode(image).shape) for image in page.all("img")) <= 640
    many = Page(benchmark_report("bench", {}, [], [sample] * (MAX_SAMPLES + 2)))
    assert len(many.sliders) == MAX_SAMPLES * len(sample.refined)
    assert f"first {MAX_SAMPLES} of {MAX_SAMPLES + 2}" in many.text
