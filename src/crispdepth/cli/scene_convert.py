"""``crispdepth scene convert``: a scene, or photos without cameras, for other programs."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from crispdepth.cli.errors import ExitCode, UsageError
from crispdepth.cli.scene_input import SceneOptions, check_input, open_input
from crispdepth.cli.terminal import Terminal

if TYPE_CHECKING:
    from crispdepth.io.scenes import OpenScene


@dataclass(frozen=True)
class SceneConvertOptions(SceneOptions):
    """Write a scene as a COLMAP or nerfstudio folder, in its own frame and scale.

    `crispdepth scene convert FOLDER -o OUT --to colmap`, or for photos without cameras
    `crispdepth scene convert PHOTOS -o OUT --to nerfstudio --sfm`.
    """

    # The folder to write; it must not be there, or be empty.
    out: Annotated[Path, arg(aliases=["-o"], metavar="DIR")] = field(kw_only=True)

    # Whose folder it shall be.
    to: Literal["colmap", "nerfstudio"] = field(kw_only=True)

    # Write COLMAP's model as text.
    text: bool = False

    # Find the cameras by structure from motion; SCENE is a folder of photos. Needs
    # pip install "crispdepth[sfm]".
    sfm: bool = False

    # COLMAP's model of the lens, for --sfm.
    lens: Literal[
        "SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE"
    ] = "SIMPLE_RADIAL"

    # Which photos are compared, for --sfm: all pairs, or neighbours in the order of the names.
    matching: Literal["exhaustive", "sequential"] = "exhaustive"

    # For --sfm: features only from inside the object masks, for an object that was turned before
    # a camera at rest.
    only_object: bool = False

    # Replace what is in the folder.
    overwrite: bool = False


def run(options: SceneConvertOptions) -> int:
    """Run ``crispdepth scene convert`` and return its exit code.

    Raises:
        UsageError: the options contradict each other, or the folder is not empty.
        OSError, ValueError: the scene cannot be read, or nothing can be written.
        ImportError: --sfm without its extra.
    """
    _check(options)

    from crispdepth.io.atomic import TEMP_PREFIX, make_folder
    from crispdepth.io.scenes import write_colmap, write_transforms

    terminal = Terminal(options.quiet, json=False, bar=not options.no_progress)
    make_folder(options.out.absolute().parent)
    # The folder appears when it is complete; what a killed run left of it is replaced.
    partial = options.out.absolute().with_name(f"{TEMP_PREFIX}{options.out.absolute().name}")
    work = partial.with_name(f"{partial.name}-sfm")
    for folder in (partial, work):
        shutil.rmtree(folder, ignore_errors=True)
    try:
        found = _open_by_sfm(options, work, terminal) if options.sfm else open_input(options)
        terminal.say(*found.scene.notes)
        with terminal.progress(len(found.scene)) as advance:
            if options.to == "colmap":
                write_colmap(
                    found.scene,
                    partial,
                    text=options.text,
                    untouched=found.untouched,
                    advance=advance,
                )
            else:
                write_transforms(found.scene, partial, untouched=found.untouched, advance=advance)
        if options.out.exists():
            shutil.rmtree(options.out)
        partial.rename(options.out)
    finally:
        for folder in (partial, work):
            shutil.rmtree(folder, ignore_errors=True)
    print(options.out)
    return ExitCode.OK


def _check(options: SceneConvertOptions) -> None:
    check_input(options)
    if options.text and options.to != "colmap":
        raise UsageError("--text is for --to colmap.")
    if not options.sfm and (options.only_object or options.matching != "exhaustive"):
        raise UsageError("--only-object and --matching are for --sfm.")
    if options.sfm and (options.photos is not None or options.format != "auto"):
        raise UsageError("With --sfm, SCENE is the folder of photos: no --photos, no --format.")
    out, scene = options.out.absolute(), options.scene.absolute()
    if scene == out or out in scene.parents:
        raise UsageError(f"{options.out} holds the scene itself; choose another folder.")
    if out.is_file():
        raise UsageError(f"{options.out} is a file; choose a folder.")
    if out.is_dir() and any(out.iterdir()) and not options.overwrite:
        raise UsageError(f"{options.out} is not empty; --overwrite replaces all that is in it.")


def _open_by_sfm(options: SceneConvertOptions, work: Path, terminal: Terminal) -> "OpenScene":
    """The scene of photos without cameras."""
    from crispdepth.io.scenes import open_scene
    from crispdepth.io.scenes.sfm import SfmConfig, find_cameras

    terminal.say("looking for the cameras (structure from motion) ...")
    cameras = find_cameras(
        options.scene,
        work,
        masks=options.masks,
        mask_role=options.mask_role,
        invert_masks=options.invert_masks,
        config=SfmConfig(
            lens=options.lens, matching=options.matching, only_object=options.only_object
        ),
    )
    terminal.say(*cameras.notes)
    return open_scene(
        cameras.model,
        format="colmap",
        photos=cameras.photos,
        depths=options.depths,
        masks=options.masks,
        mask_role=options.mask_role,
        invert_masks=options.invert_masks,
        longest=options.longest,
    )
