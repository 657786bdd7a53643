"""What masks do for reconstructed objects: mesh, silhouettes and floaters, with masks and without.

    python benchmarks/object_masks.py --data DIR/objects -o FOLDER

Reconstructs every scene by each method, with its masks and with none, from the photos alone. All
are held against the true surface and the true masks. Writes object_masks.md and .json; results in
FOLDER are gone on with. The floater ratio is the share of the Gaussians' opacity outside of the
visual hull of the true masks.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from crispdepth.api.scene import reconstruct
from crispdepth.api.scene_report import measure
from crispdepth.api.source_frame import in_source
from crispdepth.evaluation.views import floater_ratio
from crispdepth.io.atomic import write_text
from crispdepth.io.scenes import open_scene
from crispdepth.tasks.multiview_config import LONGER_SIDE
from crispdepth.tasks.reconstruct_config import Method, ReconstructConfig, What

SHOWN = {
    "mesh: F at 5 cm": "F at 5 cm",
    "mesh: F at 1 cm": "F at 1 cm",
    "mesh: iou": "mesh IoU",
    "Gaussians: iou": "Gaussians IoU",
    "Gaussians: psnr": "PSNR",
    "Gaussians: masked_psnr": "masked PSNR",
    "floaters": "floaters",
}


@dataclass(frozen=True)
class Options:
    """Measure reconstructions of objects with masks and without."""

    data: Path
    """Folder of scenes with masks and a true mesh."""

    work: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder of the reconstructions."""

    scenes: tuple[str, ...] = ("*",)
    """Patterns below the folder."""

    what: tuple[What, ...] = ("mesh", "splats")
    """What is made."""

    methods: tuple[Method, ...] = ("classical", "multiview")
    """How depth is found."""

    config: ReconstructConfig = field(default_factory=lambda: ReconstructConfig(quality="preview"))

    out: Path = Path(__file__).parent / "results"
    """Where the tables go."""


def main(options: Options) -> None:
    rows: dict[str, dict[str, float]] = {}
    folders = sorted(path for each in options.scenes for path in options.data.glob(each))
    cases = [(method, masks) for method in options.methods for masks in ("masks", "none")]
    for folder in folders:
        for method, masks in cases:
            row = measured(folder, method, masks, options)
            rows[f"{folder.name}, {method}, {masks}"] = row
            print(folder.name, method, masks, {name: row.get(key) for key, name in SHOWN.items()})
    lines = ["| scene | depth | masks | " + " | ".join(SHOWN.values()) + " |"]
    lines.append("|---|---|---|" + "---:|" * len(SHOWN))
    for method, masks in cases if len(folders) > 1 else ():
        these = [rows[f"{folder.name}, {method}, {masks}"] for folder in folders]
        rows[f"mean, {method}, {masks}"] = {
            key: sum(row[key] for row in these) / len(these)
            for key in SHOWN
            if all(key in row for row in these)
        }
    for title, row in rows.items():
        cells = [f"{row[key]:.4f}" if key in row else "–" for key in SHOWN]
        lines.append("| " + " | ".join([*title.split(", "), *cells]) + " |")
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / "object_masks.md", "\n".join(lines) + "\n")
    write_text(options.out / "object_masks.json", json.dumps(rows, indent=1) + "\n")


def measured(folder: Path, method: Method, masks: str, options: Options) -> dict[str, float]:
    """The numbers of one reconstruction, made now or before."""
    longest = LONGER_SIDE[options.config.quality]
    truth = open_scene(folder, longest=longest)
    opened = truth if masks == "masks" else open_scene(folder, masks="none", longest=longest)
    work = options.work / method / masks / folder.name
    config = replace(options.config, method=method)
    result = reconstruct(opened, work, what=options.what, config=config)
    result = replace(result, opened=truth)  # what is measured has masks
    row = measure(result)
    if result.gaussians is not None:
        scene = truth.scene
        cameras, silhouettes = [], []
        for view in scene:
            assert view.masks is not None
            assert view.camera is not None
            cameras.append(in_source(view.camera, scene))
            silhouettes.append(view.masks[0])
        row["floaters"] = floater_ratio(result.gaussians, cameras, silhouettes)
    return row


if __name__ == "__main__":
    main(tyro.cli(Options))
