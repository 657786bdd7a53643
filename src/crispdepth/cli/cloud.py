"""``crispdepth cloud``: a photo as coloured points in space."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from crispdepth.cli.errors import ExitCode
from crispdepth.cli.layered import (
    LayeredOptions,
    camera_of,
    placement_sentence,
    read_layered,
)


@dataclass(frozen=True)
class CloudOptions(LayeredOptions):
    """Write the pixels of a photo as coloured points, without points between the surfaces.

    `crispdepth cloud photo.jpg --depth rough.png --mask mask.png -o cloud.ply`
    or, after `crispdepth refine ... -o refined`, `crispdepth cloud refined -o cloud.glb`.
    """

    # Angle of view across the photo's longer side, degrees. Without it, the camera of the depth
    # file, else 60.
    fov: Annotated[float | None, arg(metavar="DEGREES", help_behavior_hint="")] = None

    # Distance of the nearest pixel, for relative inverse depth.
    near: float = 1.0

    # Distance of the farthest pixel, for relative inverse depth.
    far: float = 10.0

    # Leave out the points that hang between surfaces.
    drop_flying: bool = False

    # The point cloud to write: .ply (OpenCV axes) or .glb.
    out: Annotated[Path, arg(aliases=["-o"], metavar="FILE")] = Path("cloud.ply")


def run(options: CloudOptions) -> int:
    """Run ``crispdepth cloud`` and return its exit code.

    Raises:
        UsageError: the options contradict each other.
        OSError, ValueError: a file cannot be read or written, or is not what it should be.
    """
    from crispdepth.io.pointclouds import SUFFIXES, write_points

    options.check(options.out, SUFFIXES)

    from crispdepth.geometry.backproject import place
    from crispdepth.geometry.depth import inverse_depth
    from crispdepth.tasks.pointcloud import flying_pixels, point_cloud

    found = read_layered(options)
    camera, seen_by = camera_of(found.depth, options.fov)
    placement = place(found.depth, options.near, options.far)
    terminal = options.terminal
    terminal.say(*found.notes, seen_by, placement_sentence(found.depth, options.near, options.far))
    cloud = point_cloud(found.image, found.depth, found.layers, camera, placement)
    before = ""
    if found.initial is not None:
        rough = placement.apply(inverse_depth(found.initial))
        usable = found.initial.usable
        share = flying_pixels(rough, usable, camera)[usable].mean()
        before = f" ({share:.2%} before refinement)"
    terminal.say(f"flying pixels: {cloud.flying.mean():.2%} of the points{before}")
    kept = ~cloud.flying if options.drop_flying else slice(None)
    write_points(options.out, cloud.points[kept], cloud.colours[kept])
    print(options.out)
    return ExitCode.OK
