"""Refinement methods scored on a dataset: numbers per sample and over all samples."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispdepth.data.datasets import Sample
from crispdepth.evaluation.baselines import BASELINES, Baseline
from crispdepth.evaluation.baselines.learned import layered, load
from crispdepth.evaluation.boundary import (
    boundary_f1,
    depth_boundary_errors,
    edges,
    mask_boundary_error,
    mask_recall,
)
from crispdepth.evaluation.depth import (
    R3Counts,
    d3r,
    find_superpixels,
    ord_error,
    r3,
    rmse,
    whdr,
)
from crispdepth.geometry.align import TargetNorm, fit_scale_shift, normalise_target
from crispdepth.geometry.depth import inverse_depth
from crispdepth.models.classical import ClassicalCompleter
from crispdepth.types import BoolMap, Float32Map
from crispdepth.viz.html import MetricColumn, MetricTable
from crispdepth.viz.report import SampleFigure

COLUMNS = (
    MetricColumn("r3", "R3", lower_is_better=False, digits=2),
    MetricColumn("mbe", "MBE", lower_is_better=True, digits=4),
    MetricColumn("eps_acc", "eps_acc (px)", lower_is_better=True, digits=3),
    MetricColumn("eps_comp", "eps_comp (px)", lower_is_better=True, digits=3),
    MetricColumn("whdr", "WHDR", lower_is_better=True, digits=4),
    MetricColumn("rmse", "RMSE", lower_is_better=True, digits=4),
    MetricColumn("mask_recall", "mask recall", lower_is_better=False, digits=3),
    MetricColumn("boundary_f1", "boundary F1", lower_is_better=False, digits=3),
    MetricColumn("ord", "ORD", lower_is_better=True, digits=3),
    MetricColumn("d3r", "D3R", lower_is_better=True, digits=3),
    MetricColumn("seconds", "seconds", lower_is_better=True, digits=2),
)


@dataclass(frozen=True)
class Score:
    """One method on one sample; what cannot be measured there is nan."""

    sample: str
    method: str
    improved: int  # pixels, against the initial depth
    worsened: int
    mbe: float
    eps_acc: float  # pixels
    eps_comp: float  # pixels
    whdr: float
    rmse: float
    mask_recall: float  # mean over the masks
    boundary_f1: float
    ord: float
    d3r: float
    seconds: float


@dataclass(frozen=True)
class Benchmark:
    """The scores of one run and how they were measured."""

    dataset: str
    gt_norm: TargetNorm
    shared_alignment: bool
    scores: tuple[Score, ...]

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods in the order in which they were given."""
        return tuple(dict.fromkeys(score.method for score in self.scores))

    @property
    def facts(self) -> dict[str, str]:
        """What a reader needs to know beside the numbers."""
        alignment = "that of the initial depth" if self.shared_alignment else "of each map"
        return {
            "dataset": self.dataset,
            "photos": str(len({score.sample for score in self.scores})),
            "alignment": f"least squares in inverse depth, {alignment}",
            "true inverse depth": {
                "max": "divided by its maximum in each photo",
                "minmax": "scaled to [0, 1] in each photo",
                "none": "in 1/m",
            }[self.gt_norm],
            "averages": "R3 pooled over all pixels, the others means over photos",
        }

    def pooled(self) -> dict[str, dict[str, float]]:
        """Method -> metric (the keys of `COLUMNS`, and r3_mean) -> value over all samples.

        R3 is the ratio of the counts of all samples, and r3_mean the mean of the ratios of each;
        every other value is the mean over the samples that have one.
        """
        return {method: self._pooled(method) for method in self.methods}

    def _pooled(self, method: str) -> dict[str, float]:
        scores = [score for score in self.scores if score.method == method]
        counts = sum((R3Counts(s.improved, s.worsened) for s in scores), R3Counts())
        means = {
            column.key: _mean(getattr(score, column.key) for score in scores)
            for column in COLUMNS
            if column.key != "r3"
        }
        ratios = (R3Counts(s.improved, s.worsened).ratio for s in scores)
        return {"r3": counts.ratio, **means, "r3_mean": _mean(ratios)}


METHODS: dict[str, Baseline] = {
    **BASELINES,
    "classical": layered(ClassicalCompleter),
    "classical-hard": layered(ClassicalCompleter, hard_masks=True),
    "crispdepth": layered(load),
    "crispdepth-hard": layered(load, hard_masks=True),
}
"""Everything `crispdepth bench refine` can run without weights of one's own, by name.

``crispdepth`` uses the shipped weights. What ends in ``-hard`` thresholds the masks, which is how
most baselines use them.
"""


def run_benchmark(
    dataset: str,
    samples: Iterable[Sample],
    methods: Mapping[str, Baseline] = METHODS,
    *,
    gt_norm: TargetNorm = "max",
    shared_alignment: bool = False,
    observe: Callable[[SampleFigure], None] | None = None,
) -> Benchmark:
    """Score methods in one pass over the samples, one sample in memory at a time.

    Every map is aligned to the truth by least squares in inverse depth and measured there. R3
    compares with the initial depth. The masks of a photo are given to a method all at once.

    Args:
        dataset: its name, for the reader.
        samples: read once.
        methods: name -> method.
        gt_norm: the scale of the truth, see `normalise_target`.
        shared_alignment: align every map with the scale and shift of the initial depth.
        observe: called with the aligned maps of each sample as soon as it is measured.

    Raises:
        ValueError: no samples, no methods, a truth without a valid pixel, or a method that
            returns a map of another size or with values that are not finite.
    """
    if not methods:
        raise ValueError(f"No methods to score; choose from {', '.join(METHODS)}.")
    scores: list[Score] = []
    for sample in samples:
        measured = _Judge(sample, gt_norm, shared_alignment)
        aligned = {}
        for name, method in methods.items():
            start = perf_counter()
            refined = method(sample.image, measured.initial, sample.masks)
            seconds = perf_counter() - start
            aligned[name] = measured.align(refined, name)
            scores.append(measured.score(aligned[name], name, seconds))
        if observe is not None:
            observe(measured.figure(aligned))
    if not scores:
        raise ValueError(f"The dataset {dataset} has no samples.")
    return Benchmark(dataset, gt_norm, shared_alignment, tuple(scores))


class _Judge:
    """One sample's truth, prepared once for all methods."""

    def __init__(self, sample: Sample, gt_norm: TargetNorm, shared_alignment: bool) -> None:
        self.sample = sample
        self.valid: BoolMap = sample.depth.usable & sample.initial.usable
        self.inverse = inverse_depth(sample.depth)
        self.truth = normalise_target(self.inverse, self.valid, gt_norm)
        self.unnormalise = fit_scale_shift(self.truth, self.inverse, self.valid).apply
        self.superpixels = find_superpixels(self.inverse, self.valid)
        self.initial = inverse_depth(sample.initial)
        fit = fit_scale_shift(self.initial, self.truth, self.valid)
        self.aligned_initial = fit.apply(self.initial)
        self.shared_fit = fit if shared_alignment else None
        self.truth_edges = edges(self.truth, self.valid)

    def align(self, refined: Float32Map, method: str) -> NDArray[np.float64]:
        if refined.shape != self.truth.shape or not np.isfinite(refined).all():
            raise ValueError(
                f"{method} returned a {refined.shape} map for {self.sample.name}, expected "
                f"{self.truth.shape} with finite values."
            )
        fit = self.shared_fit or fit_scale_shift(refined, self.truth, self.valid)
        return fit.apply(refined)

    def score(self, aligned: NDArray[np.float64], method: str, seconds: float) -> Score:
        masks = [self.sample.masks[i] for i in range(len(self.sample.masks))]
        counts = r3(self.aligned_initial, aligned, self.truth, self.valid)
        boundary = depth_boundary_errors(aligned, self.truth_edges, self.valid)
        # What compares ratios asks for values without the shift of a normalised truth. Behind
        # infinity an aligned map has no depth, hence the floor.
        inverse = self.unnormalise(aligned)
        depth = 1 / np.maximum(inverse, 1e-6)
        ordinal = (inverse, self.inverse, self.valid)
        return Score(
            sample=self.sample.name,
            method=method,
            improved=counts.improved,
            worsened=counts.worsened,
            mbe=mask_boundary_error(aligned, self.truth, self.valid, [m >= 0.5 for m in masks]),
            eps_acc=boundary.accuracy,
            eps_comp=boundary.completeness,
            whdr=whdr(aligned, self.truth, self.valid),
            rmse=rmse(aligned, self.truth, self.valid),
            mask_recall=_mean(mask_recall(depth, mask) for mask in masks),
            boundary_f1=boundary_f1(depth, self.sample.depth.values, self.valid),
            ord=ord_error(*ordinal, superpixels=self.superpixels),
            d3r=d3r(*ordinal, superpixels=self.superpixels),
            seconds=seconds,
        )

    def figure(self, aligned: Mapping[str, NDArray[np.float64]]) -> SampleFigure:
        return SampleFigure(
            name=self.sample.name,
            image=self.sample.image,
            initial=self.aligned_initial.astype(np.float32),
            refined={
                name: values.astype(np.float32)
                for name, values in aligned.items()
                if name != "initial"
            },
            valid=self.sample.initial.usable,
            truth=self.truth.astype(np.float32),
            truth_valid=self.valid,
            masks=self.sample.masks,
        )


def metric_table(benchmark: Benchmark) -> MetricTable:
    """The pooled numbers as the HTML report wants them."""
    return MetricTable(benchmark.dataset, COLUMNS, benchmark.pooled())


def table(benchmark: Benchmark) -> str:
    """The pooled numbers as a Markdown table, under one line on how they were measured."""
    facts = "; ".join(f"{name}: {fact}" for name, fact in benchmark.facts.items())
    arrows = (f"{c.title} {'↓' if c.lower_is_better else '↑'}" for c in COLUMNS)
    lines = [
        facts,
        "",
        f"| method | {' | '.join(arrows)} |",
        f"|---|{'---:|' * len(COLUMNS)}",
    ]
    for method, numbers in benchmark.pooled().items():
        cells = (_cell(numbers[c.key], c.digits) for c in COLUMNS)
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def to_json(benchmarks: Iterable[Benchmark]) -> str:
    """All numbers, pooled and per sample, as JSON; what is not finite becomes null."""
    documents = [
        {**asdict(benchmark), "facts": benchmark.facts, "pooled": benchmark.pooled()}
        for benchmark in benchmarks
    ]
    return json.dumps(_finite(documents), indent=1, allow_nan=False)


def _cell(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def _mean(values: Iterable[float]) -> float:
    """The mean without nan; nan when nothing is left."""
    kept = [value for value in values if not math.isnan(value)]
    return float(np.mean(kept)) if kept else math.nan


def _finite(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _finite(entry) for key, entry in value.items()}
        case list() | tuple():
            return [_finite(entry) for entry in value]
        case _:
            return value
