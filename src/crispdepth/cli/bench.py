"""``crispdepth bench refine``: score refinement methods on datasets with true depth."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from crispdepth.cli.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from crispdepth.data.datasets import Sample
    from crispdepth.data.datasets.scene_json import SceneDataset
    from crispdepth.evaluation.baselines import Baseline
    from crispdepth.evaluation.benchmark import Benchmark
    from crispdepth.viz.report import SampleFigure


@dataclass(frozen=True)
class BenchOptions:
    """Score refinement methods on datasets with true depth; prints a table per dataset.

    Needs pip install "crispdepth[bench]".
    """

    datasets: Annotated[Positional[tuple[Path, ...]], arg(metavar="DATASET", help_behavior_hint="")]
    """Folders with a scene.json, or with scene folders in them: one dataset each."""

    methods: Annotated[tuple[str, ...], arg(metavar="NAME [NAME ...]", help_behavior_hint="")] = ()
    """Methods to score; without it, all. An unknown name lists them."""

    weights: Annotated[
        tuple[str, ...], arg(metavar="NAME=DIR [NAME=DIR ...]", help_behavior_hint="")
    ] = ()
    """Exported weights (`crispdepth train export`) to score too: as NAME, with NAME-hard."""

    out: Annotated[Path | None, arg(aliases=["-o"], metavar="DIR", help_behavior_hint="")] = None
    """Folder for bench.json (all numbers) and report.html (numbers and pictures)."""

    every: int = 1
    """Of each scene take the frames 0, N, 2N, ..."""

    limit: Annotated[int | None, arg(metavar="INT", help_behavior_hint="")] = None
    """At most so many frames of each dataset."""

    json: bool = False
    """Print all numbers as JSON instead of the tables."""

    gt_norm: Literal["max", "minmax", "none"] = "max"
    """How the true inverse depth is scaled: R3, MBE and RMSE depend on it."""

    shared_alignment: bool = False
    """Align every map with the scale and shift of the initial depth instead of its own."""

    no_surface: Literal["far", "invalid"] = "far"
    """What a true depth of 0 means in rendered scenes: as far as the farthest surface of the
    photo, or not measured."""


def run(options: BenchOptions) -> int:
    """Run ``crispdepth bench refine``.

    Raises:
        UsageError: no dataset, an unknown method, or a number below 1.
        OSError, ValueError: a dataset or weights cannot be read.
    """
    from crispdepth.data.datasets.scene_json import open_scenes
    from crispdepth.evaluation.benchmark import to_json

    if not options.datasets:
        raise UsageError("Name at least one dataset folder: crispdepth bench refine FOLDER ...")
    if options.every < 1 or (options.limit is not None and options.limit < 1):
        raise UsageError("--every and --limit must be 1 or more.")
    methods = choose_methods(options.methods, options.weights)
    datasets = [
        open_scenes(folder, every=options.every, limit=options.limit, no_surface=options.no_surface)
        for folder in options.datasets
    ]
    with _output_folder(options.out):
        benchmarks, figures = _score(options, datasets, methods)
        if options.json:
            print(to_json(benchmarks))
        if options.out is not None:
            _write(options.out, benchmarks, figures)
    return ExitCode.OK


@contextmanager
def _output_folder(folder: Path | None) -> Iterator[None]:
    """Make the folder now, to say now what cannot be written later; no failure leaves it empty."""
    from crispdepth.io.atomic import make_folder

    is_new = folder is not None and not folder.exists()
    if folder is not None:
        make_folder(folder)
    try:
        yield
    except BaseException:
        if folder is not None and is_new:
            with suppress(OSError):  # it is not empty
                folder.rmdir()
        raise


def _score(
    options: BenchOptions, datasets: "Sequence[SceneDataset]", methods: "Mapping[str, Baseline]"
) -> "tuple[list[Benchmark], list[SampleFigure]]":
    """The scores on each dataset, printed as they come, and what the report shows."""
    from crispdepth.evaluation.benchmark import run_benchmark, table
    from crispdepth.viz.report import MAX_SAMPLES

    benchmarks: list[Benchmark] = []
    figures: list[SampleFigure] = []
    for dataset in datasets:
        keep = _every_nth(figures, len(dataset), MAX_SAMPLES // len(datasets) or 1)
        benchmark = run_benchmark(
            dataset.name,
            _with_progress(dataset),
            methods,
            gt_norm=options.gt_norm,
            shared_alignment=options.shared_alignment,
            observe=keep if options.out is not None else None,
        )
        benchmarks.append(benchmark)
        if not options.json:
            print(f"## {dataset.name}\n\n{table(benchmark)}\n", flush=True)
    return benchmarks, figures


def choose_methods(names: Sequence[str], weights: Sequence[str] = ()) -> dict[str, "Baseline"]:
    """The named methods, without names all: those of the package and those of ``weights``.

    Args:
        names: of methods.
        weights: exported weights, NAME=DIR each.

    Raises:
        UsageError: there is no such method, or one of ``weights`` is not of that form.
        OSError, ValueError: weights cannot be read.
    """
    from crispdepth.evaluation.baselines.learned import of_weights
    from crispdepth.evaluation.benchmark import METHODS

    known = dict(METHODS)
    for given in weights:
        name, equals, folder = given.partition("=")
        if not (name and equals and folder):
            raise UsageError(f"--weights {given}: give a name and a folder, NAME=DIR.")
        known |= of_weights(name, Path(folder))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(
            f"Unknown method {', '.join(unknown)}; the methods are {', '.join(known)}."
        )
    return {name: known[name] for name in names or known}


def _every_nth(
    kept: "list[SampleFigure]", total: int, most: int
) -> Callable[["SampleFigure"], None]:
    """Adds up to ``most`` of ``total`` figures to ``kept``, evenly spread; the rest are let go."""
    step = -(-total // most)
    seen = 0

    def keep(figure: "SampleFigure") -> None:
        nonlocal seen
        if seen % step == 0:
            kept.append(figure)
        seen += 1

    return keep


def _with_progress(dataset: "SceneDataset") -> Iterator["Sample"]:
    """The samples, with a bar on stderr where that is a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(dataset, dataset.name, console=console, disable=not sys.stderr.isatty())


def _write(folder: Path, benchmarks: Sequence["Benchmark"], figures: "list[SampleFigure]") -> None:
    from crispdepth import __version__
    from crispdepth.evaluation.benchmark import metric_table, to_json
    from crispdepth.io.atomic import write_text
    from crispdepth.viz.report import benchmark_report

    write_text(folder / "bench.json", to_json(benchmarks))
    facts = {"crispdepth": __version__} | {
        f"{benchmark.dataset}: {name}": fact
        for benchmark in benchmarks
        for name, fact in benchmark.facts.items()
        if name != "dataset"
    }
    tables = [metric_table(benchmark) for benchmark in benchmarks]
    html = benchmark_report("crispdepth bench refine", facts, tables, figures)
    write_text(folder / "report.html", html)
