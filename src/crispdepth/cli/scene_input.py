"""The flags of every command that takes a scene, and opening what they mean."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from crispdepth.cli.errors import UsageError

if TYPE_CHECKING:
    from crispdepth.io.scenes import OpenScene


@dataclass(frozen=True)
class SceneOptions:
    """Which scene, and how to read it."""

    # The scene: its folder, or its transforms.json or scene.json.
    scene: Positional[Path]

    # How to read it; auto: as what it looks like.
    format: Literal[
        "auto",
        "scene.json",
        "nerfstudio",
        "nerf-synthetic",
        "colmap",
        "polycam",
        "scannet",
        "sevenscenes",
        "tum",
    ] = "auto"

    # The folder to take the photos from, instead of the scene's own.
    photos: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None

    # A folder with a depth file for each photo, instead of the scene's own depth. Relative inverse
    # depth, as monocular networks give it, is aligned to the sparse points of the scene.
    depths: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None

    # A folder of masks, one mask for all photos, or none. Without it, those that the scene names,
    # else those found in or beside the photos, else their alpha channels.
    masks: Annotated[str | None, arg(metavar="DIR|FILE|none", help_behavior_hint="")] = None

    # Whether masks mark the object, or what to ignore.
    mask_role: Literal["object", "ignore"] = "object"

    # Take black for white in the mask files.
    invert_masks: bool = False

    # Make photos smaller, so that the longer side has no more pixels than this.
    longest: Annotated[int | None, arg(metavar="PIXELS", help_behavior_hint="")] = None

    # Print only errors on standard error.
    quiet: Annotated[bool, arg(aliases=["-q"])] = False

    # Show no progress bar.
    no_progress: bool = False


def open_input(options: SceneOptions) -> "OpenScene":
    """The scene that the flags mean.

    Raises:
        UsageError: an option is out of range.
        OSError, ValueError: the scene cannot be read.
    """
    from crispdepth.io.scenes import open_scene

    check_input(options)
    return open_scene(
        options.scene,
        format=options.format,
        photos=options.photos,
        depths=options.depths,
        masks=options.masks,
        mask_role=options.mask_role,
        invert_masks=options.invert_masks,
        longest=options.longest,
    )


def check_input(options: SceneOptions) -> None:
    """Refuse options that are out of range (UsageError)."""
    if options.longest is not None and options.longest < 1:
        raise UsageError(f"--longest is a number of pixels, 1 or more, got {options.longest}.")
