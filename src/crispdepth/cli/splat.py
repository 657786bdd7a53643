"""``crispdepth splat``: posed photos with depth and masks as Gaussians."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from crispdepth.cli.errors import ExitCode, UsageError
from crispdepth.cli.layered import check_output
from crispdepth.cli.scene_input import SceneOptions, open_input
from crispdepth.cli.terminal import Terminal


@dataclass(frozen=True)
class PlaceOptions:
    """From pixels to Gaussians."""

    # With the background too, not only what the masks show.
    background: bool = False

    # Every how many pixels, in rows and columns, there is a Gaussian at first.
    step: int = 1

    # Side of the cubes in which Gaussians of several views become one, in pixels; 0: none do.
    cell: float = 3.0


@dataclass(frozen=True)
class OptimiseOptions:
    """Fitting the Gaussians to the photos."""

    # Steps, each on one photo; 0: straight from the depth.
    steps: int = 200

    # Longer side in pixels of the photos to fit, at most.
    size: int = 480

    # Degree of the spherical harmonics, 0 to 3: how colour may change with the direction.
    degree: int = 1

    # Of the order of photos.
    seed: int = 0


@dataclass(frozen=True)
class SplatOptions(SceneOptions):
    """Make Gaussians of a scene whose views have depth. Needs torch.

    `crispdepth splat FOLDER -o splats.ply`. Gaussians start on the surfaces of the depth maps and
    are then fitted to the photos; with masks, what is outside of them stays empty.
    """

    place: PlaceOptions = field(default_factory=PlaceOptions)

    fit: OptimiseOptions = field(default_factory=OptimiseOptions)

    # Where to compute: cpu, or cuda (gsplat is used there if it is installed).
    device: str = "cpu"

    # The Gaussians to write: .ply (as 3DGS) or .spz.
    out: Annotated[Path, arg(aliases=["-o"], metavar="FILE")] = Path("splats.ply")

    # Replace an existing file.
    overwrite: bool = False


def run(options: SplatOptions) -> int:
    """Run ``crispdepth splat`` and return its exit code.

    Raises:
        UsageError: an option is out of range.
        ImportError: torch is not installed.
        OSError, ValueError: the scene cannot be read, or has no depth; the file cannot be written.
    """
    from crispdepth.cli.torch_extra import require_device, require_torch
    from crispdepth.io.splats import SUFFIXES, write_splats

    _check(options)
    check_output(options.out, SUFFIXES, overwrite=options.overwrite)
    require_torch("Making Gaussians")
    require_device(options.device)

    import torch

    from crispdepth.api.reconstruction import given_views, measured
    from crispdepth.api.source_frame import gaussians_in_source
    from crispdepth.tasks.splat import PixelOptions, concatenate, merge_gaussians, pixel_gaussians
    from crispdepth.tasks.splat_fit import FitOptions, fit_gaussians

    found = open_input(options)
    terminal = Terminal(options.quiet, json=False, bar=not options.no_progress)
    terminal.say(*found.scene.notes)
    pixels = PixelOptions(only_object=not options.place.background, step=options.place.step)
    parts, views = [], []
    usable = measured(found)
    with terminal.progress(len(usable)) as advance:
        for view, depth in given_views(found.scene, usable):
            parts.append(pixel_gaussians(view, depth, pixels))
            views.append(view)
            advance()
    merged = options.place.cell > 0
    gaussians = merge_gaussians(parts, options.place.cell) if merged else concatenate(parts)
    terminal.say(f"{sum(map(len, parts))} Gaussians of {len(views)} views, {len(gaussians)} merged")
    fit = options.fit
    fitting = FitOptions(steps=fit.steps, size=fit.size, degree=fit.degree, seed=fit.seed)
    with terminal.progress(fit.steps) as advance:
        gaussians = fit_gaussians(
            gaussians,
            views,
            fitting,
            device=torch.device(options.device),
            only_object=not options.place.background,
            progress=lambda done, loss: advance(),
        )
    write_splats(options.out, gaussians_in_source(gaussians, found.scene))
    terminal.say(f"{len(gaussians)} Gaussians")
    print(options.out)
    return ExitCode.OK


def _check(options: SplatOptions) -> None:
    place, fit = options.place, options.fit
    for allowed, words in (
        (place.step >= 1, f"--place.step is 1 or more, got {place.step}"),
        (place.cell >= 0, f"--place.cell is 0 or more, got {place.cell:g}"),
        (fit.steps >= 0, f"--fit.steps are 0 or more, got {fit.steps}"),
        (fit.size >= 16, f"--fit.size is 16 pixels or more, got {fit.size}"),
        (fit.degree in range(4), f"--fit.degree is 0 to 3, got {fit.degree}"),
    ):
        if not allowed:
            raise UsageError(f"{words}.")
