"""What the overlap mask of the stereo is worth in fusion: all of its depths, or those that overlap.

    python benchmarks/volume_masks.py --held-out DIR [--data DIR] [--weights DIR]

Depths are the stereo's alone, uncorrected by other views, so that the mask is all the evidence
there is; they are kept in ``--work``. Classical and learned fusion (the shipped weights) get them
all alike, those alone whose mask says that a neighbour shows the same (as in the paper), and all
with the mask as their confidence (as in use). Writes volume_masks.md, in the metrics and on the
kinds of scenes of volume.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from crispdepth.io.atomic import write_text
from crispdepth.models.volume.stereo import OVERLAPS
from crispdepth.models.weights import DEFAULT_STEREO, load_stereo, load_volume
from crispdepth.types import Float32Map
from volume import FIGURES_2D, FIGURES_3D, classical, learned, scored
from volume_places import Shot, places

COUNTS: dict[str, Callable[[Float32Map], Float32Map]] = {
    "all alike": np.ones_like,
    "where they overlap": lambda overlap: (overlap > OVERLAPS).astype(np.float32),
    "by their overlap": lambda overlap: overlap,
}
"""What the depth of a pixel counts, by its overlap mask."""


@dataclass(frozen=True)
class Options:
    """Fuse the depths of the stereo, with and without its overlap masks."""

    weights: str = DEFAULT_STEREO
    """Of the stereo."""

    held_out: Path | None = None
    """Folder of rendered scenes that no training has seen."""

    data: Path | None = None
    """Folder of rooms and sevenscenes."""

    every: int = 5
    """Of the frames of 7-Scenes."""

    threads: int = 1
    """Of torch."""

    work: Path = Path("volume-runs")
    """Where depths that were found are kept."""

    out: Path = Path(__file__).parent / "results"
    """Where volume_masks.md goes."""


def main(options: Options) -> None:
    """Measure and write the table."""
    torch.set_num_threads(options.threads)
    methods = {"classical": classical, "learned, as shipped": learned(load_volume())}
    found = places(
        options.data,
        options.held_out,
        options.work / "depths-stereo",
        load_stereo(options.weights),
        consistent=0,
        every=options.every,
    )
    rows: list[dict[str, Any]] = []
    for place in found:
        for name, method in methods.items():
            for counted, count in COUNTS.items():
                figures = scored(place, method, counting(place.shots, count))
                rows.append({"group": place.group, "fusion": name, "depths": counted} | figures)
                print(rows[-1], flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / "volume_masks.md", table(rows))
    print(table(rows))


def counting(shots: Sequence[Shot], count: Callable[[Float32Map], Float32Map]) -> list[Shot]:
    """The shots, their depths counting as told; the overlap mask is their confidence."""
    return [
        shot._replace(rough=replace(shot.rough, confidence=count(shot.rough.confidence)))
        for shot in shots
    ]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Means over the scenes of a group."""
    names = (*FIGURES_2D, *FIGURES_3D)
    lines = [
        "| scenes | fusion | depths | " + " | ".join(names) + " |",
        "|---|---|---|" + "---:|" * len(names),
    ]
    for key in dict.fromkeys((row["group"], row["fusion"], row["depths"]) for row in rows):
        alike = [row for row in rows if (row["group"], row["fusion"], row["depths"]) == key]
        cells = [f"{np.mean([row[name] for row in alike]):.3f}" for name in names]
        lines.append(f"| {' | '.join((*key, *cells))} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(tyro.cli(Options))
