import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from crispdepth.data.datasets import Sample
from crispdepth.evaluation.baselines import Baseline, initial
from crispdepth.evaluation.baselines.learned import load
from crispdepth.evaluation.benchmark import (
    COLUMNS,
    METHODS,
    Benchmark,
    metric_table,
    run_benchmark,
    table,
    to_json,
)
from crispdepth.models import weights
from crispdepth.types import DepthMap, Float32Map, MaskSet
from crispdepth.viz.report import SampleFigure

SIZE = (40, 50)


def make_sample(name: str = "s/0", seed: int = 0) -> Sample:
    """A box before a wall; the rough depth is blurred, noisy, and has its own scale and shift."""
    rng = np.random.default_rng(seed)
    inside = np.zeros(SIZE, bool)
    inside[10:30, 15:35] = True
    depth = np.where(inside, np.float32(1), np.float32(4))
    rough = 500 * cv2.blur(1 / depth, (7, 7)) + rng.normal(90, 3, SIZE)
    image = rng.integers(0, 255, (*SIZE, 3)).astype(np.uint8)
    return Sample(
        scene="s",
        name=name,
        image=image,
        initial=DepthMap(rough.astype(np.float32), "inverse_depth"),
        depth=DepthMap(depth, "depth", "m"),
        masks=MaskSet(inside[None]),
    )


def perfect(image: Any, inverse: Float32Map, masks: MaskSet) -> Float32Map:
    return np.where(masks[0] > 0.5, np.float32(7), np.float32(1))


def rescaled(image: Any, inverse: Float32Map, masks: MaskSet) -> Float32Map:
    return 2 * inverse + 32


def noisy(image: Any, inverse: Float32Map, masks: MaskSet) -> Float32Map:
    return perfect(image, inverse, masks) + 0.01 * inverse


def scrambled(image: Any, inverse: Float32Map, masks: MaskSet) -> Float32Map:
    return np.random.default_rng(0).permuted(inverse)


def flat(image: Any, inverse: Float32Map, masks: MaskSet) -> Float32Map:
    return np.zeros_like(inverse)


def run(methods: Mapping[str, Baseline], count: int = 2, **options: Any) -> Benchmark:
    samples = (make_sample(f"s/{i}", seed=i) for i in range(count))
    return run_benchmark("toy", samples, methods, **options)


def test_a_perfect_method_has_no_error_and_worsens_nothing() -> None:
    numbers = run({"perfect": perfect}).pooled()["perfect"]
    for metric in ("mbe", "eps_acc", "eps_comp", "whdr", "rmse"):
        assert numbers[metric] == pytest.approx(0, abs=1e-9)
    assert numbers["r3"] == math.inf
    assert numbers["mask_recall"] == pytest.approx(1)
    assert numbers["boundary_f1"] == pytest.approx(1)
    assert (numbers["ord"], numbers["d3r"]) == (0, 0)


def test_the_initial_depth_changes_nothing_so_its_r3_is_undefined() -> None:
    assert math.isnan(run({"initial": initial}).pooled()["initial"]["r3"])


def test_scale_and_shift_of_a_result_do_not_matter_unless_alignment_is_shared() -> None:
    methods = {"initial": initial, "rescaled": rescaled}
    free, shared = (run(methods, shared_alignment=flag).pooled() for flag in (False, True))
    assert free["rescaled"]["rmse"] == pytest.approx(free["initial"]["rmse"])
    assert shared["rescaled"]["rmse"] > 2 * shared["initial"]["rmse"]
    for row in (shared["initial"], free["initial"]):
        del row["seconds"]  # a clock is no law
    assert shared["initial"] == pytest.approx(free["initial"], rel=0.5, nan_ok=True)


def test_counts_are_pooled_and_errors_are_averaged() -> None:
    benchmark = run({"flat": flat}, count=3)
    scores = benchmark.scores
    assert [score.sample for score in scores] == ["s/0", "s/1", "s/2"]
    pooled = benchmark.pooled()["flat"]
    assert pooled["r3"] == sum(s.improved for s in scores) / sum(s.worsened for s in scores)
    assert pooled["rmse"] == pytest.approx(np.mean([s.rmse for s in scores]))


def test_the_norm_of_the_truth_scales_the_errors() -> None:
    by_max, plain, by_range = (
        run({"initial": initial}, gt_norm=norm).pooled()["initial"]
        for norm in ("max", "none", "minmax")
    )
    assert plain["rmse"] == pytest.approx(by_max["rmse"])  # the nearest point is at 1 m
    assert by_range["rmse"] == pytest.approx(by_max["rmse"] / 0.75)
    assert by_range["whdr"] == by_max["whdr"]


def test_what_compares_ratios_does_not_depend_on_the_norm_of_the_truth() -> None:
    methods = {"scrambled": scrambled, "noisy": noisy}
    metric, *normalised = (
        run(methods, gt_norm=norm).pooled() for norm in ("none", "max", "minmax")
    )
    for key in ("mask_recall", "boundary_f1", "ord", "whdr", "d3r"):
        assert any(metric[method][key] > 0 for method in methods), key
        for other in normalised:
            for method in methods:
                assert other[method][key] == pytest.approx(metric[method][key])


def test_a_sample_without_masks_counts_where_it_can() -> None:
    sample = make_sample()
    bare = Sample(
        sample.scene,
        "s/bare",
        sample.image,
        sample.initial,
        sample.depth,
        MaskSet(np.zeros((0, *SIZE), np.uint8)),
    )
    benchmark = run_benchmark("toy", [sample, bare], {"flat": flat})
    assert math.isnan(benchmark.scores[1].mbe)
    assert benchmark.pooled()["flat"]["mbe"] == benchmark.scores[0].mbe


def test_pixels_without_truth_do_not_count() -> None:
    sample = make_sample()
    valid = np.ones(SIZE, bool)
    valid[:5] = False
    depth = DepthMap(sample.depth.values, "depth", "m", valid)
    outliers = sample.initial.values.copy()
    outliers[:5] = 1e4
    scores = [
        run_benchmark(
            "toy",
            [Sample("s", "s/0", sample.image, DepthMap(v, "inverse_depth"), depth, sample.masks)],
            {"initial": initial},
        ).scores[0]
        for v in (sample.initial.values, outliers)
    ]
    assert scores[0].rmse == scores[1].rmse
    assert scores[0].mbe == scores[1].mbe


def test_the_observer_sees_aligned_maps_of_every_sample() -> None:
    figures: list[SampleFigure] = []
    run({"initial": initial, "perfect": perfect}, observe=figures.append)
    assert [figure.name for figure in figures] == ["s/0", "s/1"]
    assert figures[0].truth is not None
    np.testing.assert_allclose(figures[0].refined["perfect"], figures[0].truth, atol=1e-6)
    assert "initial" not in figures[0].refined  # it is `figure.initial`


def test_the_table_has_a_row_for_each_method_and_says_how_it_was_measured() -> None:
    text = table(run({"initial": initial, "perfect": perfect}, gt_norm="minmax"))
    lines = text.splitlines()
    assert "scaled to [0, 1]" in lines[0]
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + 2
    assert {row.count("|") for row in rows} == {len(COLUMNS) + 2}
    assert rows[2].startswith("| initial | – |")
    assert rows[3].startswith("| perfect | inf | 0.0000 |")


def test_json_holds_every_number_and_no_nan() -> None:
    benchmark = run({"initial": initial, "perfect": perfect})

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    (document,) = json.loads(to_json([benchmark]), parse_constant=refuse)
    assert len(document["scores"]) == 4
    assert document["pooled"]["initial"]["r3"] is None
    assert document["pooled"]["initial"]["rmse"] == benchmark.pooled()["initial"]["rmse"]
    assert document["gt_norm"] == "max"


def test_the_report_shows_the_pooled_numbers() -> None:
    benchmark = run({"initial": initial})
    shown = metric_table(benchmark)
    assert {column.key for column in shown.columns} | {"r3_mean"} == set(shown.rows["initial"])


@pytest.mark.parametrize("bad", [np.zeros((3, 3), np.float32), np.full(SIZE, np.nan, np.float32)])
def test_a_method_that_returns_rubbish_is_named(bad: Float32Map) -> None:
    with pytest.raises(ValueError, match=r"rubbish returned .* for s/0"):
        run({"rubbish": lambda image, inverse, masks: bad})


def test_nothing_to_do_is_an_error() -> None:
    with pytest.raises(ValueError, match="No methods"):
        run({})
    with pytest.raises(ValueError, match="has no samples"):
        run({"initial": initial}, count=0)


def test_the_package_is_one_of_its_methods_and_sharpens_a_step() -> None:
    numbers = run({"initial": initial, "classical": METHODS["classical"]}).pooled()
    assert numbers["classical"]["mbe"] < 0.5 * numbers["initial"]["mbe"]
    assert numbers["classical"]["r3"] > 1


def test_its_network_is_looked_for_when_it_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(weights, "_SHIPPED", tmp_path)
    load.cache_clear()
    assert {"crispdepth", "crispdepth-hard"} < METHODS.keys()
    with pytest.raises(FileNotFoundError, match="none in this installation"):
        run({"crispdepth": METHODS["crispdepth"]})
