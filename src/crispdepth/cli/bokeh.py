"""``crispdepth bokeh``: a photo with the blur of a large lens."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from crispdepth.cli.errors import ExitCode, UsageError
from crispdepth.cli.layered import LayeredInput, LayeredOptions, read_layered

if TYPE_CHECKING:
    from crispdepth.types import DepthMap

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class BokehOptions(LayeredOptions):
    """Blur what is out of focus, as a lens of large aperture does.

    `crispdepth bokeh photo.jpg --depth rough.png --mask mask.png --focus 640,400 -o bokeh.jpg`
    or, after `crispdepth refine ... -o refined`, `crispdepth bokeh refined -o bokeh.jpg`.
    """

    # The pixel that is in focus, counted from the top left. Without it, what the first mask shows.
    focus: Annotated[str | None, arg(metavar="X,Y", help_behavior_hint="")] = None

    # The depth in focus, in the numbers of the depth map.
    focus_depth: Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="")] = None

    # Radius of the blur, as a percentage of the photo's longer side, of something as far out of
    # focus as the farthest is from the nearest.
    aperture: float = 1.5

    # How much clipped lights shine, from 0 to below 1.
    highlights: float = 0.0

    # The picture to write: .jpg, .png or .webp.
    out: Annotated[Path, arg(aliases=["-o"], metavar="FILE")] = Path("bokeh.jpg")


def run(options: BokehOptions) -> int:
    """Run ``crispdepth bokeh`` and return its exit code.

    Raises:
        UsageError: the options contradict each other.
        OSError, ValueError: a file cannot be read or written, or is not what it should be.
    """
    options.check(options.out, SUFFIXES)
    if options.focus is not None and options.focus_depth is not None:
        raise UsageError("Give --focus or --focus-depth, not both.")
    if not 0 <= options.aperture <= 100:
        raise UsageError(f"--aperture is a percentage, from 0 to 100, got {options.aperture:g}.")
    if not 0 <= options.highlights < 1:
        raise UsageError(f"--highlights is from 0 to below 1, got {options.highlights:g}.")
    point = None if options.focus is None else _point(options.focus)

    from crispdepth.geometry.depth import inverse_depth
    from crispdepth.io.images import write_image
    from crispdepth.tasks.bokeh import BokehConfig, render_bokeh

    found = read_layered(options)
    terminal = options.terminal
    terminal.say(*found.notes)
    focus, word = _focus(found, point, options.focus_depth)
    inverse = inverse_depth(found.depth)[found.depth.usable]
    span = float(inverse.max() - inverse.min())
    pixels = options.aperture / 100 * max(found.depth.size)
    config = BokehConfig(focus, pixels / span if span else 0.0, options.highlights)
    terminal.say(f"focus: {word}; blur: up to {pixels:.1f} pixels for the whole range of depth")
    write_image(options.out, render_bokeh(found.image, found.depth, found.layers, config))
    print(options.out)
    return ExitCode.OK


def _point(text: str) -> tuple[float, float]:
    try:
        x, y = map(float, text.split(","))
    except ValueError:
        raise UsageError(f"--focus {text}: give a pixel as X,Y, such as 640,400.") from None
    return x, y


def _focus(
    found: LayeredInput, point: tuple[float, float] | None, value: float | None
) -> tuple[float, str]:
    """The inverse depth in focus, and what it was taken from."""
    from crispdepth.tasks.bokeh import focus_at, focus_on

    if value is not None:
        return _inverse(found.depth, value), f"depth {value:g}"
    if point is not None:
        return focus_at(found.depth, *point), f"the pixel {point[0]:g},{point[1]:g}"
    if not found.layers:
        raise UsageError("No mask was used, so there is no object to focus on; give --focus X,Y.")
    return focus_on(found.depth, found.layers[0].alpha), f"what {found.layers[0].name!r} shows"


def _inverse(depth: "DepthMap", value: float) -> float:
    if depth.kind == "inverse_depth":
        return value
    if not value > 0:
        raise UsageError(f"--focus-depth {value:g}: a depth is above 0.")
    return 1 / value
