"""How fast the network of layered refinement is, alone and in a whole refinement.

    python benchmarks/layered_speed.py

Both passes of the shipped network at 320 x 320, as one batch and one after the other, beside those
of the paper's network, which has random weights here; then the example photo at 12 megapixels,
without reading and writing files. Every case runs in a process of its own, whose peak memory is
then its own too. Writes layered_speed.md and layered_speed.json.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime
import tyro

import refine_speed
from crispdepth.cli.batch import peak_rss_mb
from crispdepth.io.atomic import write_text
from crispdepth.models.weights import DEFAULT, read_onnx

SIDE = 320
THREADS = 2
WARM_UP, RUNS = 3, 30
MEGAPIXELS = 12.0
METHODS = ("crispdepth", "crispdepth-tiled", "classical")


@dataclass(frozen=True)
class Options:
    """Measure time and memory of the network of layered refinement."""

    out: Path = Path(__file__).parent / "results"
    """Where layered_speed.md and layered_speed.json go."""

    case: tuple[Path, int] | None = None
    """Measure one ONNX file with one size of batches, and print it as JSON: what the script asks of
    the processes it starts."""


@dataclass(frozen=True)
class Passes:
    """Both passes of one network."""

    preset: str
    batch: int  # 2: both at once; 1: one after the other
    median_ms: float
    min_ms: float
    held_mb: float  # peak RSS of the process before the network is loaded
    peak_mb: float


def main(options: Options) -> None:
    if options.case is not None:
        print(json.dumps(measure(*options.case)))
        return
    with tempfile.TemporaryDirectory() as folder:
        passes = [*all_passes(Path(folder))]
        refinements = refine_photo(Path(folder))
    text = table(passes, refinements)
    print(text)
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / "layered_speed.md", text)
    report = {
        "machine": {**refine_speed.machine(), "onnxruntime": onnxruntime.__version__},
        "passes": [asdict(each) for each in passes],
        "refinements": [asdict(each) for each in refinements],
    }
    write_text(options.out / "layered_speed.json", json.dumps(report, indent=1) + "\n")


def all_passes(folder: Path) -> Iterator[Passes]:
    """Both networks, each with both sizes of batches."""
    for preset, network in (("small", read_onnx(DEFAULT)), ("paper", random_network("paper"))):
        file = folder / f"{preset}.onnx"
        file.write_bytes(network)
        for batch in (2, 1):
            command = [sys.executable, __file__, "--case", str(file), str(batch)]
            child = subprocess.run(command, stdout=subprocess.PIPE, check=True)
            yield Passes(preset, batch, **json.loads(child.stdout))


def random_network(preset: str) -> bytes:
    """An ONNX file with fresh weights: they do not decide the time."""
    import torch  # here, because the processes that measure do without

    from crispdepth.models.layered.export import to_onnx
    from crispdepth.models.presets import build

    torch.manual_seed(0)
    return to_onnx(build(preset))


def measure(file: Path, batch: int) -> dict[str, float]:
    """What one process takes for both passes, with batches of 1 or 2."""
    rng = np.random.default_rng(0)
    mask = np.zeros((1, 1, SIDE, SIDE), np.float32)
    mask[..., SIDE // 4 : SIDE // 2, SIDE // 4 : SIDE // 2] = 1
    both = {
        "inverse_depth": rng.uniform(0, 10, (1, 1, SIDE, SIDE)).astype(np.float32).repeat(2, 0),
        "rgb": rng.random((1, 3, SIDE, SIDE), np.float32).repeat(2, 0),
        "mask": np.concatenate([mask, 1 - mask]),
    }
    held = peak_rss_mb()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    times: list[float] = []
    for _ in range(WARM_UP + RUNS):
        start = time.perf_counter()
        for first in range(0, 2, batch):
            feed = {name: values[first : first + batch] for name, values in both.items()}
            session.run(["layer", "gate"], feed)
        times.append(1000 * (time.perf_counter() - start))
    return {
        "median_ms": round(median(times[WARM_UP:]), 1),
        "min_ms": round(min(times[WARM_UP:]), 1),
        "held_mb": held or float("nan"),
        "peak_mb": peak_rss_mb() or float("nan"),
    }


def refine_photo(folder: Path) -> list[refine_speed.Case]:
    """The example photo, enlarged, with its one mask."""
    inputs = folder / "inputs.npz"
    size = refine_speed.make_inputs(refine_speed.Options(), MEGAPIXELS, 1, inputs)
    return [
        refine_speed.run(refine_speed.Case(method, MEGAPIXELS, 1, size), inputs)
        for method in METHODS
    ]


def table(passes: Sequence[Passes], refinements: Sequence[refine_speed.Case]) -> str:
    """Both tables as Markdown, with what they mean."""
    facts = ", ".join(f"{name} {value}" for name, value in refine_speed.machine().items())
    lines = [
        f"Measured on: {facts}, onnxruntime {onnxruntime.__version__}.",
        "",
        f"Both passes at {SIDE} x {SIDE} with {THREADS} threads, {RUNS} times. The weights of",
        "paper are random. Peak is the resident memory of the whole process, start that before the",
        "network is loaded.",
        "",
        "| network | passes | median ms | min ms | peak MB | start MB |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for each in passes:
        how = "one batch of 2" if each.batch == 2 else "one after the other"
        lines.append(
            f"| {each.preset} | {how} | {each.median_ms:.0f} | {each.min_ms:.0f} "
            f"| {each.peak_mb:.0f} | {each.held_mb:.0f} |"
        )
    lines += [
        "",
        f"Refinement of a photo of {MEGAPIXELS:g} megapixels with one mask, all processors; median",
        f"of {refine_speed.RUNS} runs or fewer. crispdepth completes the layers at {SIDE} pixels,",
        f"crispdepth-tiled near the mask's boundary at {refine_speed.TILED}, in tiles.",
        "",
        "| method | seconds | CPU s | peak MB | of these inputs MB |",
        "|---|---:|---:|---:|---:|",
    ]
    for case in refinements:
        took = f"{case.seconds:.2f} | {case.cpu_seconds:.2f}" if case.runs else "stopped | "
        lines.append(f"| {case.method} | {took} | {case.peak_mb:.0f} | {case.inputs_mb:.0f} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main(tyro.cli(Options))
