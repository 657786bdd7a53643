"""``crispdepth novel``: a photo seen from elsewhere, as a picture or a clip."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from crispdepth.cli.errors import ExitCode, UsageError
from crispdepth.cli.layered import (
    LayeredInput,
    LayeredOptions,
    camera_of,
    placement_sentence,
    read_layered,
)

if TYPE_CHECKING:
    from crispdepth.geometry.backproject import Placement
    from crispdepth.io.clips import Frame

CLIPS = (".mp4", ".gif", ".webp")
PICTURES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class NovelOptions(LayeredOptions):
    """Move the camera: a clip with parallax, or one view from the side.

    `crispdepth novel photo.jpg --depth rough.png --mask mask.png -o novel.mp4`
    or, after `crispdepth refine ... -o refined`, `crispdepth novel refined -o novel.mp4`.
    """

    # The way of the camera: around the point of view, forward and back, or forward and back while
    # the lens widens so that what is in focus keeps its size.
    path: Literal["circle", "dolly", "zoom"] = "circle"

    # How far the nearest moves against the farthest, as a percentage of the longer side.
    amount: float = 4.0

    # Seconds of a clip.
    seconds: float = 3.0

    # Frames per second.
    fps: float = 25.0

    # The frame of the path that a picture shows, from 0 at its start to 1 at its end.
    at: float = 0.25

    # Longer side of the frames at most, pixels.
    size: int = 960

    # Angle of view across the photo's longer side, degrees. Without it, the camera of the depth
    # file, else 60.
    fov: Annotated[float | None, arg(metavar="DEGREES", help_behavior_hint="")] = None

    # Distance of the nearest pixel, for relative inverse depth.
    near: float = 1.0

    # Distance of the farthest pixel, for relative inverse depth.
    far: float = 10.0

    # What to write: a clip (.mp4, .gif, .webp) or one picture (.png, .jpg).
    out: Annotated[Path, arg(aliases=["-o"], metavar="FILE")] = Path("novel.mp4")


def run(options: NovelOptions) -> int:
    """Run ``crispdepth novel`` and return its exit code.

    Raises:
        UsageError: the options contradict each other.
        OSError, ValueError: a file cannot be read or written, or is not what it should be.
    """
    options.check(options.out, CLIPS + PICTURES)
    count = _count(options)

    from crispdepth.geometry.backproject import place
    from crispdepth.io.clips import write_clip
    from crispdepth.io.images import write_image
    from crispdepth.ops.peel import peel, shrink_layered
    from crispdepth.tasks.novel_view import camera_path, placed_layers, render_view

    found = read_layered(options)
    placement = place(found.depth, options.near, options.far)
    camera, seen_by = camera_of(found.depth, options.fov)
    terminal = options.terminal
    terminal.say(*found.notes, seen_by, placement_sentence(found.depth, options.near, options.far))
    focus = _focus(found, placement)
    small = shrink_layered(found.image, found.depth, found.layers, options.size)
    camera = camera.resized(small.depth.size)
    layers = placed_layers(peel(*small), placement)
    cameras = camera_path(camera, options.path, count, options.amount / 100, placement, focus)
    if options.out.suffix.lower() in PICTURES:
        chosen = cameras[round(options.at * count) % count]
        write_image(options.out, render_view(layers, camera, chosen))
    else:
        with terminal.progress(count) as advance:
            frames = _reported((render_view(layers, camera, each) for each in cameras), advance)
            write_clip(options.out, frames, options.fps)
    print(options.out)
    return ExitCode.OK


def _count(options: NovelOptions) -> int:
    """How many cameras the path has.

    Raises:
        UsageError: an option is out of range.
    """
    for value, allowed, words in (
        (options.amount, 0 < options.amount <= 20, "--amount is a percentage above 0, up to 20"),
        (options.at, 0 <= options.at <= 1, "--at is from 0 to 1"),
        (options.size, options.size >= 16, "--size is 16 pixels or more"),
        (options.fps, 0 < options.fps <= 100, "--fps is above 0, up to 100"),
        (options.seconds, 0 < options.seconds <= 600, "--seconds is above 0, up to 600"),
    ):
        if not allowed:
            raise UsageError(f"{words}, got {value:g}.")
    count = round(options.seconds * options.fps)
    if count < 2:
        raise UsageError(f"--seconds {options.seconds:g} --fps {options.fps:g} is not two frames.")
    return count


def _reported(frames: "Iterable[Frame]", advance: Callable[[], object]) -> "Iterator[Frame]":
    for frame in frames:
        yield frame
        advance()


def _focus(found: LayeredInput, placement: "Placement") -> float:
    """1 / z of what the first mask shows; if nothing, of the middle between near and far."""
    import numpy as np

    from crispdepth.tasks.bokeh import focus_on

    shown = found.depth.usable & (found.layers[0].alpha >= 0.5) if found.layers else None
    if shown is None or not shown.any():
        return (1 / placement.near + 1 / placement.far) / 2
    focus = np.array([[focus_on(found.depth, found.layers[0].alpha)]], np.float32)
    return float(placement.apply(focus)[0, 0])
