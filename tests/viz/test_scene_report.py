import numpy as np

from crispdepth.types import DepthMap, MaskSet, ViewDepth
from crispdepth.viz.html import MetricColumn, MetricTable
from crispdepth.viz.scene_report import ViewFigure, scene_report

EVIL = '<script>alert("1")</script>&"\''


def views(count: int) -> list[ViewFigure]:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (30, 40, 3), np.uint8)
    values = rng.uniform(1, 3, (30, 40)).astype(np.float32)
    values[:5] = np.nan
    sure = rng.uniform(0, 1, (30, 40)).astype(np.float32)
    depth = ViewDepth(DepthMap(values, "depth", "m"), sure)
    mask = MaskSet(np.eye(30, 40, dtype=np.float32)[None])
    return [
        ViewFigure(f"{i}{EVIL}", image, depth, {"mesh" + EVIL: image}, mask) for i in range(count)
    ]


def test_the_report_shows_what_there_is_and_escapes_names() -> None:
    table = MetricTable("truth", (MetricColumn("f", "F", False),), {"mesh": {"f": 0.5}})
    html = scene_report(
        "T" + EVIL,
        {"views": "2"},
        [EVIL],
        [table],
        views(2),
        {"Mesh": [np.zeros((8, 8, 3), np.uint8)] * 3},
    )
    assert EVIL not in html
    assert html.count("data:image/jpeg") == 2 * 4 + 3
    assert "83% of the pixels" in html
    assert "0.500" in html
    assert all(f"Mesh, side {number} of 3" in html for number in (1, 2, 3))


def test_confidence_is_shown_where_it_says_something() -> None:
    (view,) = views(1)
    assert view.depth is not None
    html = scene_report("t", {}, [], [], [view], {})
    assert "Confidence" in html
    alike = ViewDepth(view.depth.depth, np.ones((30, 40), np.float32))
    html = scene_report("t", {}, [], [], [ViewFigure("a", view.image, alike)], {})
    assert "Depth, 83%" in html
    assert "Confidence" not in html


def test_a_report_without_results_is_a_page_all_the_same() -> None:
    image = np.zeros((8, 9, 3), np.uint16)
    html = scene_report("t", {}, [], [], [ViewFigure("a.png", image)], {})
    assert html.count("data:image/jpeg") == 1
    assert "Notes" not in html


def test_all_views_share_one_range_of_colours() -> None:
    def picture(far: float) -> str:
        flat = DepthMap(np.full((16, 16), 2, np.float32), "depth", "m")
        ramp = DepthMap(np.full((16, 16), far, np.float32), "depth", "m")
        sure = np.ones((16, 16), np.float32)
        image = np.zeros((16, 16, 3), np.uint8)
        first = ViewFigure("a", image, ViewDepth(flat, sure))
        return scene_report(
            "t", {}, [], [], [first, ViewFigure("b", image, ViewDepth(ramp, sure))], {}
        )

    def depth_of_first(html: str) -> str:
        return html.split("data:image/jpeg;base64,")[2].split('"')[0]

    assert depth_of_first(picture(1)) != depth_of_first(picture(4))
    assert depth_of_first(picture(3)) == depth_of_first(picture(4))  # the nearest both times
