"""``crispdepth bench reconstruct``: scenes with known truth, reconstructed and measured."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, arg

from crispdepth.cli.errors import KNOWN_ERRORS, ExitCode, one_line
from crispdepth.cli.terminal import Terminal
from crispdepth.tasks.reconstruct_config import ReconstructConfig

NUMBERS = "numbers.json"


@dataclass(frozen=True)
class BenchReconstructOptions:
    """Reconstruct every scene in a folder and measure it against what is known to be true.

    `crispdepth bench reconstruct DATA -o OUT` makes OUT/<scene>, with a report each, and
    OUT/numbers.json. Needs pip install "crispdepth[torch,bench]".
    """

    # A scene, or a folder of scenes.
    data: Positional[Path]

    # The folder of the results.
    out: Annotated[Path, arg(aliases=["-o"], metavar="DIR")] = Path("bench")

    # What to make; depth is made in any case.
    what: tuple[Literal["depth", "mesh", "splats"], ...] = ("depth", "mesh", "splats")

    config: OmitArgPrefixes[ReconstructConfig] = field(
        default_factory=lambda: ReconstructConfig(method="classical")
    )

    # A folder of masks or "none". Without it, the masks of each scene.
    masks: str | None = None

    # Where to compute: cpu, or cuda.
    device: str = "cpu"

    # Replace results of other photos or settings.
    overwrite: bool = False

    # Print only errors on standard error.
    quiet: Annotated[bool, arg(aliases=["-q"])] = False


def run(options: BenchReconstructOptions) -> int:
    """Run ``crispdepth bench reconstruct`` and return its exit code.

    Raises:
        ImportError: torch, scikit-image or SciPy is not installed.
        OSError, ValueError: there is no scene, or the results cannot be written.
    """
    from crispdepth.cli.torch_extra import require_device, require_torch

    require_torch("Reconstruction")
    require_device(options.device)

    from crispdepth.io.atomic import make_folder, write_text

    folders = scene_folders(options.data)
    terminal = Terminal(options.quiet, json=False, bar=True)
    numbers: dict[str, dict[str, float]] = {}
    failed: dict[str, str] = {}
    for folder in folders:
        try:
            numbers[folder.name] = _measured(folder, options, terminal)
        except KNOWN_ERRORS as error:
            failed[folder.name] = one_line(error)
            terminal.warn(f"error: {folder}: {failed[folder.name]}")
    make_folder(options.out)
    write_text(options.out / NUMBERS, json.dumps({"scenes": numbers, "failed": failed}, indent=1))
    print(table(numbers))
    if not failed:
        return ExitCode.OK
    return ExitCode.PARTIAL if numbers else ExitCode.FAILURE


def scene_folders(data: Path) -> list[Path]:
    """The scene that a folder is, or the folders in it, which should be scenes.

    Raises:
        OSError, ValueError: it is a scene that cannot be read, or there is none.
    """
    from crispdepth.io.scenes import open_scene, scenes_in

    data = data.resolve()
    try:
        open_scene(data)
    except (OSError, ValueError):
        held = sorted(data.iterdir()) if data.is_dir() else []
        inside = [path for path in held if path.is_dir()]
        # A folder with files of its own is meant to be a scene, unless there are scenes in it.
        if not inside or (len(inside) < len(held) and not scenes_in(data)):
            raise
        return inside
    return [data]


def table(numbers: Mapping[str, Mapping[str, float]]) -> str:
    """A Markdown table: numbers in rows, scenes in columns, and their mean."""
    keys = list(dict.fromkeys(key for row in numbers.values() for key in row))
    lines = [
        "| | " + " | ".join([*numbers, "mean"]) + " |",
        "|---|" + "---:|" * (len(numbers) + 1),
    ]
    for key in keys:
        values = [row.get(key, math.nan) for row in numbers.values()]
        known = [value for value in values if not math.isnan(value)]
        values.append(sum(known) / len(known) if known else math.nan)
        cells = ["–" if math.isnan(value) else f"{value:.4g}" for value in values]
        lines.append(f"| {key} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _measured(
    folder: Path, options: BenchReconstructOptions, terminal: Terminal
) -> dict[str, float]:
    """The numbers of one scene, reconstructed now or before."""
    from crispdepth.api.scene import SUMMARY, reconstruct
    from crispdepth.api.scene_report import measure, write_report
    from crispdepth.io.scenes import open_scene
    from crispdepth.tasks.multiview_config import LONGER_SIDE

    terminal.say(folder.name)
    longest = LONGER_SIDE[options.config.quality]
    result = reconstruct(
        open_scene(folder, masks=options.masks, longest=longest),
        options.out / folder.name,
        what=options.what,
        config=options.config,
        device=options.device,
        overwrite=options.overwrite,
        watch=terminal,
    )
    write_report(result, result.folder / "report.html", device=options.device)
    found = measure(result, device=options.device)
    seconds = json.loads((result.folder / SUMMARY).read_text("utf-8"))["seconds"]
    found = {key: value for key, value in found.items() if not math.isnan(value)}
    return {**found, **{f"{stage} seconds": value for stage, value in seconds.items() if value}}
