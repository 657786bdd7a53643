"""Tables 1 and 3 of the paper on our data: layered refinement beside baselines and ablations.

    python benchmarks/layered_tables.py --data DIR --weights NAME=DIR ...

``DIR`` holds the dataset folders rooms, settings and gqcnn; the frames are those of
refine_quality.py. Weights (`crispdepth train export`) of these names stand for rows of the paper:
direct-composite, direct-paired, stage1-only (its stage1-only-eroded is Layered-ours), stage2-only,
stage2-no-holes, both and both-no-holes (trained with ``--set human_holes=0 filled_holes=0``).
Others get a row, too. Masks are used as they are.
Writes layered_tables.md and layered_tables.json.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import tyro

from crispdepth.cli.bench import choose_methods
from crispdepth.evaluation.benchmark import METHODS, Benchmark, to_json
from crispdepth.io.atomic import write_text
from crispdepth.models.weights import read_config
from refine_quality import measure, sections

WITHOUT_TRAINING = (
    "initial",
    "layered-propagation",
    "bmf",
    "joint-bilateral",
    "fast-bilateral-solver",
    "classical",
    "crispdepth",
)

RELATIVE = ("mbe", "eps_acc", "eps_comp", "whdr", "rmse")

# The paper's network on DPT-Large: R3, and before and after for each of RELATIVE.
PAPER = {
    "paper, Hypersim": (
        4.455,
        ((0.0936, 0.0840), (2.071, 1.491), (6.190, 5.087), (0.1347, 0.1333), (0.0911, 0.0896)),
    ),
    "paper, TartanAir": (
        8.767,
        ((0.0496, 0.0474), (2.574, 2.282), (5.677, 5.245), (0.1091, 0.1078), (0.0414, 0.0408)),
    ),
}

# Rows of the paper with their MBE (DPT-Large, Hypersim), best first. What Table 3 calls stage I
# only has the MBE of Layered-ours in Table 1, so it is taken to be that.
ORDERS = {
    "Table 1": {
        "crispdepth": 0.0840,
        "direct-composite": 0.0891,
        "initial": 0.0936,
        "stage1-only-eroded": 0.0954,
        "layered-propagation": 0.1007,
    },
    "Table 3": {
        "both": 0.0840,
        "both-no-holes": 0.0846,
        "stage2-only": 0.0861,
        "stage2-no-holes": 0.0890,
        "stage1-only-eroded": 0.0954,
    },
}


@dataclass(frozen=True)
class Options:
    """Measure layered refinement beside the paper's baselines and ablations."""

    data: Path
    """Folder with the dataset folders rooms, settings and gqcnn."""

    weights: tuple[str, ...] = ()
    """Exported weights, NAME=DIR each."""

    methods: tuple[str, ...] = WITHOUT_TRAINING
    """Methods beside those of the weights; initial among them."""

    out: Path = Path(__file__).parent / "results"
    """Where layered_tables.md and layered_tables.json go."""


class Step(NamedTuple):
    """Two neighbours in one of the paper's orders, on one dataset."""

    order: str
    better: str  # in the paper
    worse: str
    dataset: str
    better_mbe: float | None  # None: not measured
    worse_mbe: float | None

    @property
    def holds(self) -> bool | None:
        if self.better_mbe is None or self.worse_mbe is None:
            return None
        return self.better_mbe < self.worse_mbe


def main(options: Options) -> None:
    methods = {
        name: method
        for name, method in choose_methods((), options.weights).items()
        if name in options.methods or not (name in METHODS or name.endswith("-hard"))
    }
    benchmarks = measure(options.data, methods)
    found = [*steps(benchmarks)]
    text = f"{sections(benchmarks)}\n{relative(benchmarks)}\n{orders(found)}"
    print(text[text.index("## Change") :])
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / "layered_tables.md", text)
    report = {
        "weights": {
            name: read_config(folder)
            for name, _, folder in (given.partition("=") for given in options.weights)
        },
        "orders": [{**step._asdict(), "holds": step.holds} for step in found],
        "benchmarks": json.loads(to_json(benchmarks)),
    }
    write_text(options.out / "layered_tables.json", json.dumps(report, indent=1) + "\n")


def relative(benchmarks: Sequence[Benchmark]) -> str:
    """R3 of each method, and by how much it changes the errors of the initial depth."""
    lines = [
        "## Change against the initial depth",
        "",
        f"| dataset | method | R3 | {' | '.join(RELATIVE)} |",
        f"|---|---|---:|{'---:|' * len(RELATIVE)}",
    ]
    for name, (r3, values) in PAPER.items():
        changes = (_percent(before, after) for before, after in values)
        lines.append(f"| {name} | DPT-Large, refined | {r3:.2f} | {' | '.join(changes)} |")
    for benchmark in benchmarks:
        pooled = benchmark.pooled()
        before = pooled.pop("initial")
        for method, after in pooled.items():
            changes = (_percent(before[metric], after[metric]) for metric in RELATIVE)
            shown = "–" if math.isnan(after["r3"]) else f"{after['r3']:.2f}"
            lines.append(f"| {benchmark.dataset} | {method} | {shown} | {' | '.join(changes)} |")
    return "\n".join([*lines, ""])


def steps(benchmarks: Sequence[Benchmark]) -> Iterator[Step]:
    """The neighbours of every order on every dataset."""
    for benchmark in benchmarks:
        mbe = {method: numbers["mbe"] for method, numbers in benchmark.pooled().items()}
        for order, rows in ORDERS.items():
            for better, worse in pairwise(rows):
                found = (mbe.get(better), mbe.get(worse))
                yield Step(order, better, worse, benchmark.dataset, *found)


def orders(found: Sequence[Step]) -> str:
    """Which of the paper's orders by MBE hold here."""
    rows: dict[tuple[str, str, str], list[Step]] = {}
    for step in found:
        rows.setdefault(step[:3], []).append(step)
    datasets = [*dict.fromkeys(step.dataset for step in found)]
    lines = [
        "## Orders of the paper by MBE",
        "",
        f"| | smaller in the paper | paper | {' | '.join(datasets)} |",
        f"|---|---|---|{'---|' * len(datasets)}",
    ]
    for (order, better, worse), here in rows.items():
        paper = f"{ORDERS[order][better]:.4f} < {ORDERS[order][worse]:.4f}"
        cells = " | ".join(map(_verdict, here))
        lines.append(f"| {order} | {better} < {worse} | {paper} | {cells} |")
    return "\n".join([*lines, ""])


def _verdict(step: Step) -> str:
    if step.better_mbe is None or step.worse_mbe is None:
        return "not measured"
    return f"{'yes' if step.holds else 'no'}: {step.better_mbe:.4f}, {step.worse_mbe:.4f}"


def _percent(before: float, after: float) -> str:
    return f"{100 * (after - before) / before:+.1f} %" if before else "–"


if __name__ == "__main__":
    main(tyro.cli(Options))
