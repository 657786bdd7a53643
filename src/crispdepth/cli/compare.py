"""`crispdepth compare`: how two depth maps of one photo differ, and which is nearer the truth."""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from tyro.conf import Positional, UseAppendAction, arg

from crispdepth.cli.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from crispdepth.evaluation.baselines import Baseline
    from crispdepth.types import DepthMap, Float32Map, Kind, MaskSet, Size
    from crispdepth.viz.colour import Rgb
    from crispdepth.viz.html import MetricTable
    from crispdepth.viz.report import SampleFigure

KindOption = Literal["auto", "depth", "inverse_depth"]

_CHANGED = 0.001  # of the range of the map before: a smaller difference is rounding


@dataclass(frozen=True)
class CompareOptions:
    """Measure how two depth maps of one photo differ, and write a report that shows it."""

    before: Annotated[Positional[Path], arg(metavar="BEFORE", help_behavior_hint="")]
    """Depth file before; every format that refine reads."""

    after: Annotated[Positional[Path], arg(metavar="AFTER", help_behavior_hint="")]
    """Depth file after. It may be smaller or larger if it has the same aspect."""

    image: Annotated[Path | None, arg(metavar="PHOTO", help_behavior_hint="")] = None
    """The photo, to be shown beside the depth."""

    mask: Annotated[
        UseAppendAction[tuple[tuple[Path, ...], ...]],
        arg(metavar="FILE [FILE ...]", help_behavior_hint=""),
    ] = ()
    """Mask files: close-ups are taken at their boundaries, and errors measured there."""

    truth: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None
    """The true depth: adds the errors of both maps. Needs pip install "crispdepth[bench]"."""

    before_kind: KindOption = "auto"
    """What the numbers before are: larger is farther, or larger is nearer. auto: what the file
    says, else a rule for its format; what was assumed is printed."""

    after_kind: KindOption = "auto"
    """What the numbers after are."""

    truth_kind: KindOption = "auto"
    """What the true numbers are."""

    out: Annotated[Path, arg(aliases=["-o"], metavar="FILE.html")] = Path("compare.html")
    """The report, one file that needs no other; an existing one is replaced."""

    json: bool = False
    """Print the numbers as JSON."""


class _Inputs(NamedTuple):
    """What was read, all of one size."""

    before: "DepthMap"
    after: "DepthMap"
    image: "Rgb | None"
    masks: "MaskSet | None"
    truth: "DepthMap | None"
    facts: dict[str, str]  # what the files were taken to be


class _Difference(NamedTuple):
    """How two maps differ, in the frame of the first."""

    after: "Float32Map"  # inverse depth
    alignment: str  # how `after` came into that frame
    changed_percent: float  # of the pixels
    rms_percent: float  # of the range of the map before


def run(options: CompareOptions) -> int:
    """Print how the maps differ and write the report.

    Raises:
        ValueError: a file is not what it should be, the maps show different shapes or share no
            valid pixel, one is constant where they must be aligned, or the report is not named
            .html.
        OSError: a file cannot be read or written.
        ImportError: a truth was given and the extra `bench` is not installed.
    """
    if options.out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"The report is an HTML file; got -o {options.out}, expected NAME.html.")
    if not all(options.mask):
        raise UsageError("--mask needs files after it.")

    from crispdepth.io.atomic import write_text
    from crispdepth.viz.report import compare_report

    inputs = _read(options)
    difference = _difference(inputs.before, inputs.after)
    table, figure = _judge(inputs, difference)
    facts = {
        **inputs.facts,
        "alignment": difference.alignment,
        "changed": f"{difference.changed_percent:.2f} % of the pixels "
        f"(by more than {_CHANGED:.1%} of the range)",
        "RMS change": f"{difference.rms_percent:.3f} % of the range",
    }
    title = f"{options.before.name} → {options.after.name}"
    write_text(options.out, compare_report(title, facts, table, figure))
    if options.json:
        print(_as_json(options, inputs.facts, difference, table))
    else:
        print(_as_text(facts, table))
    print(f"The report is {options.out}", file=sys.stderr)
    return ExitCode.OK


def _read(options: CompareOptions) -> _Inputs:
    """Everything the options name, at the size of the truth or else of the larger map."""
    import cv2

    from crispdepth.geometry.depth import resize_depth
    from crispdepth.io.depths import read_depth
    from crispdepth.io.images import read_image
    from crispdepth.io.masks import read_masks
    from crispdepth.ops.images import eight_bit
    from crispdepth.ops.masks import resize_masks

    before = read_depth(options.before, kind=_kind(options.before_kind))
    after = read_depth(options.after, kind=_kind(options.after_kind))
    facts = {
        "before": f"{options.before}: {before.stated}",
        "after": f"{options.after}: {after.stated}",
    }
    sizes = {str(options.before): before.depth.size, str(options.after): after.depth.size}
    truth = None
    if options.truth is not None:
        truth, stated = read_depth(options.truth, kind=_kind(options.truth_kind))
        facts["truth"] = f"{options.truth}: {stated}"
    image = None
    if options.image is not None:
        image = eight_bit(read_image(options.image).rgb)
        sizes[str(options.image)] = (image.shape[0], image.shape[1])
    masks = None
    if options.mask:
        masks, notes = read_masks([file for group in options.mask for file in group])
        named = zip(masks.names, masks.values, strict=True)
        notes = (*notes, *(f"The mask {name} is empty." for name, mask in named if not mask.any()))
        facts["masks"] = " ".join(notes) or f"{len(masks)}"
        sizes["the mask"] = masks.size
    size = truth.size if truth else max(before.depth.size, after.depth.size)
    _check_aspects(sizes, size)
    if image is not None:
        image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA).astype("uint8")
    if masks is not None:
        masks = resize_masks(masks, size)
    return _Inputs(
        resize_depth(before.depth, size),
        resize_depth(after.depth, size),
        image,
        masks,
        truth,
        facts,
    )


def _kind(option: KindOption) -> "Kind | None":
    return None if option == "auto" else option


def _check_aspects(sizes: Mapping[str, "Size"], size: "Size") -> None:
    from crispdepth.ops.resample import same_aspect

    for name, found in sizes.items():
        if not same_aspect(found, size):
            raise ValueError(
                f"{name} is {found[1]} x {found[0]} and is compared at {size[1]} x {size[0]}, "
                "another aspect; crop or pad it, or check that both show the same photo."
            )


def _difference(before: "DepthMap", after: "DepthMap") -> _Difference:
    """Compare as inverse depth; ``after`` is aligned first unless it is in the frame already.

    A refinement leaves most of a map as it was, and a fit over all pixels would move those too:
    hence maps that agree on half of the pixels or more are compared as they are.
    """
    import numpy as np

    from crispdepth.geometry.align import fit_scale_shift
    from crispdepth.geometry.depth import inverse_depth

    valid = before.usable & after.usable
    if not valid.any():
        raise ValueError(
            "The two maps have no valid pixel in common; check that both show the same photo, "
            "and their kinds (--before-kind, --after-kind)."
        )
    first, second = inverse_depth(before), inverse_depth(after)
    span = float(np.subtract(*np.percentile(first[valid], (99, 1)))) or 1.0
    if before.unit == after.unit == "m":
        alignment = "none: both are metric"
    elif np.median(np.abs(second - first)[valid]) <= _CHANGED * span:
        alignment = "none: the maps agree on half of the pixels or more"
    else:
        for name, values in (("BEFORE", first), ("AFTER", second)):
            if np.ptp(values[valid]) == 0:
                raise ValueError(
                    f"{name} is constant where both maps are valid, so the maps cannot be aligned; "
                    "check that it is the file you mean."
                )
        fit = fit_scale_shift(second, first, valid)
        second = fit.apply(second).astype(np.float32)
        alignment = f"AFTER times {fit.scale:.6g} plus {fit.shift:.6g}, least squares"
    change = np.abs(second - first)[valid] / span
    return _Difference(
        after=second,
        alignment=f"{alignment} (inverse depth)",
        changed_percent=100 * float(np.mean(change > _CHANGED)),
        rms_percent=100 * float(np.sqrt(np.mean(np.square(change, dtype=np.float64)))),
    )


def _judge(inputs: _Inputs, difference: _Difference) -> tuple["MetricTable | None", "SampleFigure"]:
    """What the report shows, and with a truth the errors: a benchmark of one photo."""
    import numpy as np

    from crispdepth.geometry.depth import inverse_depth
    from crispdepth.types import DepthMap, MaskSet
    from crispdepth.viz.html import MetricTable
    from crispdepth.viz.report import SampleFigure

    before, truth = inputs.before, inputs.truth
    valid = before.usable & inputs.after.usable
    if truth is None:
        first, second = inverse_depth(before), {"after": difference.after}
        return None, SampleFigure("", inputs.image, first, second, valid, masks=inputs.masks)

    from crispdepth.data.datasets import Sample
    from crispdepth.evaluation.benchmark import COLUMNS, run_benchmark

    sample = Sample(
        scene="",
        name="",
        image=np.zeros((*truth.size, 3), np.uint8) if inputs.image is None else inputs.image,
        initial=DepthMap(before.values, before.kind, before.unit, valid),
        depth=truth,
        masks=inputs.masks or MaskSet(np.zeros((0, *truth.size), np.uint8)),
    )
    figures: list[SampleFigure] = []
    maps = {"before": inverse_depth(sample.initial), "after": inverse_depth(inputs.after)}
    methods = {name: _always(values) for name, values in maps.items()}
    benchmark = run_benchmark("", [sample], methods, observe=figures.append)
    (figure,) = figures
    figure = replace(
        figure,
        image=inputs.image,
        masks=inputs.masks,
        refined={"after": figure.refined["after"]},
    )
    columns = [column for column in COLUMNS if column.key != "seconds"]
    title = (
        "Errors in inverse depth, divided by its true maximum; each map aligned to the truth by "
        "least squares"
    )
    return MetricTable(title, columns, benchmark.pooled()), figure


def _always(values: "Float32Map") -> "Baseline":
    """A method whose answer is known."""
    return lambda image, inverse, masks: values


def _as_text(facts: Mapping[str, str], table: "MetricTable | None") -> str:
    lines = [f"{name:<10} {fact}" for name, fact in facts.items()]
    if table:
        lines += ["", table.title, f"{'':<16}" + "".join(f"{row:>10}" for row in table.rows)]
        for column in table.columns:
            name = f"{column.title} {'↓' if column.lower_is_better else '↑'}"
            numbers = [row[column.key] for row in table.rows.values()]
            cells = ["–" if math.isnan(n) else f"{n:.{column.digits}f}" for n in numbers]
            lines.append(f"{name:<16}" + "".join(f"{cell:>10}" for cell in cells))
    return "\n".join(lines)


def _as_json(
    options: CompareOptions,
    stated: Mapping[str, str],
    difference: _Difference,
    table: "MetricTable | None",
) -> str:
    """One object; what is not finite is null, which JSON has no number for."""
    errors = {
        row: {
            column.key: numbers[column.key] if math.isfinite(numbers[column.key]) else None
            for column in table.columns
        }
        for row, numbers in (table.rows.items() if table else ())
        if table
    }
    document = {
        "before": str(options.before),
        "after": str(options.after),
        "stated": dict(stated),
        "alignment": difference.alignment,
        "changed_percent": difference.changed_percent,
        "rms_percent_of_range": difference.rms_percent,
        "errors": errors or None,
        "report": str(options.out),
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
