"""What masks of objects are worth in fusion, classical and learned.

    python benchmarks/volume_object_masks.py --data DIR

Depths are matched once (`crispdepth reconstruct --method classical --quality preview`), with masks
at every stage, and kept in ``--work``; or they are the true ones, blurred, as those of a network of
one photo are at edges. Then only the masks of fusion change: pixels beside their edges have a say
or not (spec B.8), and what views see beside the object is emptied or not. There is no visual hull,
which would close the mesh whatever the depths say. Writes volume_object_masks.md: the mesh against
the true surface that the masks keep, and its silhouettes against the masks.
"""

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import torch
import tyro

from crispdepth.api.learned_mesh import learned_mesh
from crispdepth.api.reconstruction import MESH, given_depth
from crispdepth.api.scene import SAMPLED, Unwatched, reconstruct
from crispdepth.api.scene_report import measure
from crispdepth.io.atomic import write_text
from crispdepth.io.meshes import write_mesh
from crispdepth.models.weights import load_volume
from crispdepth.tasks import volume_fuse
from crispdepth.tasks.fuse import FuseConfig, fuse, voxel_size
from crispdepth.tasks.reconstruct import spread
from crispdepth.tasks.reconstruct_config import ReconstructConfig
from crispdepth.types import View, ViewDepth

MASKS = {
    "all pixels of the object": FuseConfig(),
    "not those within 2 of its edge": FuseConfig(mask_edge=2),
    "... and carved": FuseConfig(mask_edge=2, carve=True),
}
BLUR = 2.0
KEYS = ("depths", "fusion", "what counts")
FIGURES = (
    "mesh: accuracy",
    "mesh: completeness",
    "mesh: precision at 1 cm",
    "mesh: recall at 1 cm",
    "mesh: F at 1 cm",
    "mesh: iou",
    "seconds",
)


@dataclass(frozen=True)
class Options:
    """Fuse scenes of objects with masks, which say more and more."""

    data: Path
    """Folder of scenes with masks and a known surface."""

    scenes: tuple[str, ...] = ("armchair", "mustard", "spot")
    """Of that folder."""

    threads: int = 1
    """Of torch."""

    work: Path = Path("volume-runs")
    """Where depths that were found are kept."""

    out: Path = Path(__file__).parent / "results"
    """Where volume_object_masks.md goes."""


def main(options: Options) -> None:
    """Measure and write the table."""
    torch.set_num_threads(options.threads)
    rows: list[dict[str, Any]] = []
    for name in options.scenes:
        for row in measured(options.data / name, options.work / "object-masks" / name):
            rows.append({"scene": name} | row)
            print(rows[-1], flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / "volume_object_masks.md", table(rows))
    print(table(rows))


def measured(folder: Path, work: Path) -> Iterator[dict[str, Any]]:
    """Every fusion with every use of the masks."""
    config = ReconstructConfig(method="classical", quality="preview")
    found = reconstruct(folder, work, what=("depth",), config=config)
    usable = found.with_depth
    chosen = [usable[i] for i in spread(len(usable), SAMPLED)]
    voxel = voxel_size(found.views(chosen), FuseConfig())
    matched = list(found.views(usable))
    depths = {"matched": matched, f"true, blurred by {BLUR:g} px": [*map(blurred, matched)]}
    network = load_volume()
    for (kind, views), fusion, (masks, choices) in itertools.product(
        depths.items(), ("classical", "learned"), MASKS.items()
    ):
        choices, start = replace(choices, voxel=voxel), time.process_time()
        if fusion == "classical":
            mesh = fuse(views, choices)
        else:
            # The product never lets the edge have a say; here it may.
            volume_fuse.MASK_EDGE = choices.mask_edge
            with TemporaryDirectory() as aside:
                mesh = learned_mesh(views, len(views), network, choices, aside, watch=Unwatched())
        seconds = time.process_time() - start
        write_mesh(found.folder / MESH, mesh)
        figures = measure(replace(found, made=frozenset({"mesh"})))
        row = {"depths": kind, "fusion": fusion, "what counts": masks, "seconds": seconds}
        yield row | {name: value for name, value in figures.items() if name.startswith("mesh")}


def blurred(known: tuple[View, ViewDepth]) -> tuple[View, ViewDepth]:
    """The view with its true depth, which is told from that of what is behind by no edge."""
    view = known[0]
    true = given_depth(view)
    values = cv2.GaussianBlur(true.depth.values, (0, 0), BLUR).astype(np.float32)
    return view, replace(true, depth=replace(true.depth, values=values))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Means over the scenes."""
    names = [name for name in FIGURES if name in rows[0]]
    lines = [
        f"| {' | '.join((*KEYS, *names))} |",
        "|" + "---|" * len(KEYS) + "---:|" * len(names),
    ]
    for key in dict.fromkeys(tuple(row[name] for name in KEYS) for row in rows):
        alike = [row for row in rows if tuple(row[name] for name in KEYS) == key]
        cells = [f"{np.mean([row[name] for row in alike]):.3g}" for name in names]
        lines.append(f"| {' | '.join((*key, *cells))} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(tyro.cli(Options))
