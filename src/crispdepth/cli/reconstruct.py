"""``crispdepth reconstruct``: posed photos and masks to depth, mesh, Gaussians and a report."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, arg

from crispdepth.cli.errors import ExitCode, UsageError
from crispdepth.cli.layered import check_folder
from crispdepth.cli.scene_input import SceneOptions, open_input
from crispdepth.cli.terminal import Terminal
from crispdepth.tasks.reconstruct_config import ReconstructConfig

REPORT = "report.html"


@dataclass(frozen=True)
class ReconstructOptions(SceneOptions):
    """Make depth, a mesh and Gaussians of posed photos, with masks respected. Needs torch.

    `crispdepth reconstruct SCENE -o OUT` writes depth, mesh.ply, mesh.glb, splats.ply, report.html
    and summary.json into OUT, mesh and Gaussians in the frame and scale of the scene. Interrupted,
    the same command goes on with the stage where it stopped; depths that were written are kept, but
    as views correct each other, the first is written late.
    """

    # The folder of the results.
    out: Annotated[Path, arg(aliases=["-o"], metavar="DIR")] = Path("reconstruction")

    # What to make; depth is made in any case.
    what: tuple[Literal["depth", "mesh", "splats"], ...] = ("depth", "mesh", "splats")

    config: OmitArgPrefixes[ReconstructConfig] = field(default_factory=ReconstructConfig)

    # Where to compute: cpu, or cuda.
    device: str = "cpu"

    # Write no report.
    no_report: bool = False

    # Replace results of other photos or settings.
    overwrite: bool = False

    # Print the summary as JSON instead of the folder.
    json: bool = False


def run(options: ReconstructOptions) -> int:
    """Run ``crispdepth reconstruct`` and return its exit code.

    Raises:
        UsageError: an option is out of range.
        ImportError: torch is not installed.
        OSError, ValueError: the scene cannot be read or reconstructed, or a file not written.
    """
    from dataclasses import replace

    from crispdepth.cli.torch_extra import require_device, require_torch
    from crispdepth.tasks.multiview_config import LONGER_SIDE

    if options.longest is not None:
        raise UsageError("The size of the maps goes with --quality; leave --longest away.")
    check_folder(options.out)
    config = options.config
    if options.depths is not None:
        if config.method not in ("auto", "given"):
            raise UsageError(
                f"--method {config.method} finds depth from the photos, and --depths names some "
                "that is there: leave one of them away."
            )
        config = replace(config, method="given")  # views without a file have none
    require_torch("Reconstruction")
    require_device(options.device)

    from crispdepth.api.scene import SUMMARY, reconstruct
    from crispdepth.api.scene_report import write_report

    longest = LONGER_SIDE[config.quality]
    opened = open_input(replace(options, longest=longest))
    terminal = Terminal(options.quiet, options.json, bar=not options.no_progress)
    result = reconstruct(
        opened,
        options.out,
        what=options.what,
        config=config,
        device=options.device,
        overwrite=options.overwrite,
        watch=terminal,
    )
    if not options.no_report:
        terminal.say("report")
        write_report(result, options.out / REPORT, device=options.device)
    summary = (options.out / SUMMARY).read_text("utf-8")
    print(json.dumps(json.loads(summary)) if options.json else options.out)
    return ExitCode.OK
