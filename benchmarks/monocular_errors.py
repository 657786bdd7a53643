"""What a real monocular network does to depth, beside what `crispdepth.data.perturb` simulates.

    python benchmarks/monocular_errors.py --data DIR

``DIR`` holds the dataset folders rooms and settings, whose rough depth comes from a real network.
Each effect is measured against the true depth, per outline point, part, instance or photo; the
table gives the 10 %, 50 % and 90 % quantiles for the real rough depth, for the truth perturbed as
by default, and for the truth perturbed as in the paper. Everything is measured at half the size of
the photos (320 x 240 for rooms), about what a network sees; inverse depth is in [0, 10]. Writes
monocular_errors.md.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import tyro
from numpy.typing import NDArray
from PIL import Image

from crispdepth.data.datasets.scene_json import Frame, open_scenes
from crispdepth.data.perturb import PAPER, Perturbations, holes, perturb, thin_parts
from crispdepth.data.strokes import disk
from crispdepth.geometry.align import fit_scale_shift
from crispdepth.geometry.depth import inverse_depth
from crispdepth.io.atomic import write_text
from crispdepth.ops.band import signed_distance
from crispdepth.types import BoolMap, Float32Map

REACH = 10  # pixels looked at on either side of an outline
MIN_STEP = 0.6  # true inverse depth across an outline, [0, 10] scale: below it noise is measured
THICKNESSES = (2, 4, 6, 8, 12)  # upper ends of the classes, pixels
HOLE_WIDTHS = (4, 8, 16)
SMALL, TINY = 0.03, 0.0005  # shares of the photo between which an instance is small
SIMULATED = {"simulated": Perturbations(), "paper": PAPER}

Measurements = dict[str, dict[str, list[float]]]  # by source, then by effect


@dataclass(frozen=True)
class Options:
    """Measure the errors of the rough depth in rooms and settings."""

    data: Path
    """Folder with the dataset folders rooms and settings."""

    out: Path = Path(__file__).parent / "results"
    """Where monocular_errors.md goes."""

    every: int = 2
    """Of each scene every so many frames."""


@dataclass(frozen=True)
class Pair:
    """Rough and true inverse depth of a photo, aligned, the truth in [0, 10]."""

    rough: Float32Map
    true: Float32Map
    ids: NDArray[np.int32]

    def instances(self) -> Iterator[BoolMap]:
        for label in np.unique(self.ids[self.ids > 0]):
            mask = self.ids == label
            if mask.mean() > TINY:
                yield mask


def load(frame: Frame) -> Pair:
    sample = frame.read()
    true = inverse_depth(sample.depth)
    true = true * np.float32(10 / true.max())
    rough = inverse_depth(sample.initial)
    everywhere = sample.initial.usable & sample.depth.usable
    aligned = fit_scale_shift(rough, true, everywhere).apply(rough).astype(np.float32)
    assert frame.instances is not None
    with Image.open(frame.instances) as image:
        ids = np.array(image).astype(np.float32)
    return Pair(
        halved(aligned, cv2.INTER_AREA),
        halved(true, cv2.INTER_NEAREST),
        halved(ids, cv2.INTER_NEAREST).astype(np.int32),
    )


def halved(values: Float32Map, how: int) -> Float32Map:
    return np.asarray(cv2.resize(values, None, fx=0.5, fy=0.5, interpolation=how), np.float32)


def measure_edges(pair: Pair, mask: BoolMap, into: dict[str, list[float]]) -> None:
    """Where and how steeply rough depth crosses the middle of a true step, along the outline."""
    distance = cv2.GaussianBlur(signed_distance(mask), (0, 0), 1.5)
    normal = np.stack([cv2.Sobel(distance, cv2.CV_32F, *d, scale=1 / 8) for d in ((1, 0), (0, 1))])
    rows, columns = np.nonzero(mask & (np.abs(signed_distance(mask)) < 1))
    rows, columns = rows[::4], columns[::4]
    direction = normal[:, rows, columns]
    direction = direction / (np.linalg.norm(direction, axis=0) + 1e-6)
    steps = np.arange(-REACH, REACH + 0.25, 0.25, dtype=np.float32)
    x = (columns[:, None] + direction[0, :, None] * (steps - 0.5)).astype(np.float32)
    y = (rows[:, None] + direction[1, :, None] * (steps - 0.5)).astype(np.float32)
    true, rough = (cv2.remap(v, x, y, cv2.INTER_LINEAR) for v in (pair.true, pair.rough))
    inside, outside = steps > 2, steps < -2
    step = true[:, inside].mean(1) - true[:, outside].mean(1)
    flat = np.maximum(np.ptp(true[:, inside], axis=1), np.ptp(true[:, outside], axis=1))
    rises = rough[:, -8:].mean(1) - rough[:, :8].mean(1)
    clean = (step > MIN_STEP) & (flat < 0.3 * step) & (rises > 0.4 * step)
    if clean.sum() < 8:
        return
    low, high = rough[clean, :8].mean(1)[:, None], rough[clean, -8:].mean(1)[:, None]
    share = np.maximum.accumulate((rough[clean] - low) / (high - low), axis=1)
    at = {level: steps[(share >= level).argmax(1)] for level in (0.1, 0.5, 0.9)}
    into["edge: blur as Gaussian sigma, px"] += ((at[0.9] - at[0.1]) / 2.56).tolist()
    into["edge: reach outwards of the middle / inwards"] += (
        (at[0.5] - at[0.1]) / np.maximum(at[0.9] - at[0.5], 0.25)
    ).tolist()
    into["edge: mean displacement per instance (+ = too large), px"].append(-at[0.5].mean())
    into["edge: wobble (sd along one outline), px"].append(at[0.5].std())


def contrast(values: Float32Map, part: BoolMap, around: BoolMap) -> float:
    return float(np.median(values[part]) - np.median(values[around]))


def measure_thin_parts(pair: Pair, mask: BoolMap, into: dict[str, list[float]]) -> None:
    """How much of its true contrast to the surroundings a part of some thickness keeps."""
    rest = mask.astype(np.uint8)
    ground = (cv2.dilate(rest, disk(8)) > 0) & (cv2.dilate(rest, disk(3)) == 0)  # beside the blur
    counted = np.zeros_like(rest)
    for thickness in THICKNESSES:
        thin = thin_parts(rest, thickness)
        _, labels, stats, _ = cv2.connectedComponentsWithStats(thin & (1 - counted))
        counted |= thin
        for label in np.flatnonzero(stats[:, cv2.CC_STAT_AREA] >= 8 * thickness):
            if label == 0:
                continue
            part = labels == label
            around = ground & (cv2.dilate(part.astype(np.uint8), disk(9)) > 0)
            if around.sum() < 20:
                continue
            step = contrast(pair.true, part, around)
            if step > MIN_STEP:
                kept = contrast(pair.rough, part, around) / step
                into[f"thin part up to {thickness} px: contrast kept"].append(kept)


def measure_small_things(pair: Pair, mask: BoolMap, into: dict[str, list[float]]) -> None:
    """How wrong the plane of a small thing is, beside what surrounds it."""
    solid = mask.astype(np.uint8)
    core = cv2.erode(solid, disk(2)).astype(bool)
    if mask.mean() > SMALL or core.sum() < 20:
        return
    around = (cv2.dilate(solid, disk(9)) > 0) & (cv2.dilate(solid, disk(3)) == 0)
    step = contrast(pair.true, core, around)
    error = contrast(pair.rough, core, around) - step
    into["small thing: error of its offset from what is around, [0, 10]"].append(error)
    if step > MIN_STEP:
        into["small thing: contrast kept"].append(1 + error / step)


def measure_holes(pair: Pair, mask: BoolMap, into: dict[str, list[float]]) -> None:
    """How much of an enclosed hole's depth is the object's (0 none, 1 all)."""
    for hole in holes(mask.astype(np.uint8)):
        inside = hole.astype(bool)
        width = 2 * float(cv2.distanceTransform(hole, cv2.DIST_L2, 5).max())
        ring = (cv2.dilate(hole, disk(4)) > 0) & mask
        if inside.sum() < 6 or ring.sum() < 6:
            continue
        step = contrast(pair.true, ring, inside)
        if step > MIN_STEP:
            limit = next((w for w in HOLE_WIDTHS if width <= w), None)
            label = f"up to {limit}" if limit else f"over {HOLE_WIDTHS[-1]}"
            filled = 1 - contrast(pair.rough, ring, inside) / step
            into[f"hole {label} px wide: share filled"].append(filled)


def measure_frame(pair: Pair, into: dict[str, list[float]]) -> None:
    """Resolution and drift of a whole map."""
    height, width = pair.rough.shape
    rough = pair.rough
    edges = cv2.morphologyEx(rough, cv2.MORPH_GRADIENT, disk(3)) > 0.3
    for factor in (1.5, 2, 3, 4, 6, 8):
        small = (round(width / factor), round(height / factor))
        again = cv2.resize(cv2.resize(rough, small, interpolation=cv2.INTER_AREA), (width, height))
        ours = np.sqrt(np.mean((again - rough)[edges] ** 2))
        label = f"resolution: rms change at edges when {factor} times coarser, [0, 10]"
        into[label].append(float(ours))
    error = rough - pair.true
    drift = cv2.GaussianBlur(error, (0, 0), width / 12)
    into["drift: sd of the error's low frequencies, [0, 10]"].append(float(drift.std()))
    into["all: sd of the error, [0, 10]"].append(float(error.std()))


def measure_mask(pair: Pair, mask: BoolMap, into: dict[str, list[float]]) -> None:
    for measure in (measure_edges, measure_thin_parts, measure_small_things, measure_holes):
        measure(pair, mask, into)


def measure_dataset(folder: Path, every: int) -> Measurements:
    measured: Measurements = {name: defaultdict(list) for name in ("real", *SIMULATED)}
    for number, frame in enumerate(open_scenes(folder, every=every).frames):
        pair = load(frame)
        measure_frame(pair, measured["real"])
        for label, mask in enumerate(pair.instances()):
            measure_mask(pair, mask, measured["real"])
            for name, chances in SIMULATED.items():
                rng = np.random.default_rng([number, label])
                rough = perturb(pair.true, mask.astype(np.uint8), False, rng, chances)
                measure_mask(replace(pair, rough=rough), mask, measured[name])
    return measured


def table(measured: Measurements) -> str:
    lines = [f"| effect | n | {' | '.join(measured)} |", "|---|---|" + "---|" * len(measured)]
    for effect in sorted(measured["real"]):
        cells = [
            " / ".join(f"{q:.2f}" for q in np.quantile(values[effect], (0.1, 0.5, 0.9)))
            if values.get(effect)
            else "–"
            for values in measured.values()
        ]
        lines.append(f"| {effect} | {len(measured['real'][effect])} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(options: Options) -> None:
    text = []
    for dataset in ("rooms", "settings"):
        measured = measure_dataset(options.data / dataset, options.every)
        text.append(f"## {dataset}\n\n{table(measured)}")
        print(text[-1], flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / "monocular_errors.md", "\n".join(text))


if __name__ == "__main__":
    main(tyro.cli(Options))
