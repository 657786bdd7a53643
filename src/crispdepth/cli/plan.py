"""Which files `refine` reads for which photo, and where the results go."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from crispdepth.cli.batch import Job
from crispdepth.cli.errors import UsageError
from crispdepth.cli.inputs import Photos, absolute_path, find_photos, photo_folder, result_names
from crispdepth.io.match import match_depths, match_masks, without_companions
from crispdepth.io.naming import White

if TYPE_CHECKING:
    from crispdepth.cli.refine import RefineOptions


def plan(options: "RefineOptions") -> tuple[list[Job], list[str]]:
    """The work to be done, and sentences on which files were taken for what.

    Raises:
        UsageError: the options contradict each other.
        OSError, ValueError: no photo, depth or mask is found, or it is not clear which is meant.
    """
    given = [] if options.finds_masks else [Path(word) for word in options.masks]
    if not options.photos:
        raise UsageError(
            "Name a photo, a folder, a pattern or a list, and name it before --mask, "
            "which takes all the words that follow."
        )
    if "-" in options.photos:
        return _plan_stdin(options, given)
    _refuse_photo_folder(options)
    avoid = [*given, options.out, *([options.depth] if options.depth else [])]
    found = find_photos(options.photos, avoid)
    photos = Photos(found.root, tuple(without_companions(found.files)))
    depths, depth_report = _match_depths(photos, options)
    masks, report = (
        (dict.fromkeys(photos.files, _PhotoMasks()), [])
        if options.finds_masks
        else _match_masks(photos, given)
    )
    names = result_names(photos)
    jobs = [
        Job(
            name=photo.relative_to(photos.root).as_posix(),
            photo=photo,
            depth=depths.get(photo),
            masks=masks[photo].files,
            white=masks[photo].white,
            folder=absolute_path(options.out) / names[photo],
        )
        for photo in photos.files
    ]
    return jobs, [f"photos: {note}" for note in found.notes] + depth_report + report


def _refuse_photo_folder(options: "RefineOptions") -> None:
    if not options.out.is_dir():
        return
    for folder in filter(Path.is_dir, map(Path, options.photos)):
        if any(photos.samefile(options.out) for photos in (folder, photo_folder(folder))):
            raise UsageError("-o is the folder of the photos; name another, or one inside it.")


def _plan_stdin(options: "RefineOptions", given: Sequence[Path]) -> tuple[list[Job], list[str]]:
    files = [path for path in (options.depth, *given) if path]
    has_depth = options.depth or options.depth_model
    if len(options.photos) > 1 or not has_depth or any(path.is_dir() for path in files):
        raise UsageError(
            "- reads one photo; its depth, and its masks if any, are given as files, or a "
            "--depth-model makes the depth."
        )
    out = absolute_path(options.out)
    photo = out / "-"  # it has no name that a mask could be called after
    masks, report = _match_masks(Photos(out, (photo,)), given) if given else ({}, [])
    found = masks.get(photo, _PhotoMasks())
    content = sys.stdin.buffer.read()
    return [Job("-", content, options.depth, found.files, found.white, out / "stdin")], report


def _match_depths(photos: Photos, options: "RefineOptions") -> tuple[dict[Path, Path], list[str]]:
    """The depth file of every photo that has one; and the report. A depth model reads none."""
    if options.depth_model is not None:
        return {}, []
    try:
        matches = match_depths(photos.files, photos.root, options.depth)
    except FileNotFoundError as error:
        if options.depth is not None:
            raise
        raise FileNotFoundError(f"{error} Without any, name a --depth-model.") from None
    files = {photo: found for photo, (found, *_) in matches.files.items()}
    return files, [f"depth: {line}" for line in matches.report().splitlines()]


class _PhotoMasks(NamedTuple):
    files: tuple[Path, ...] = ()
    white: White = "keep"


def _match_masks(
    photos: Photos, given: Sequence[Path]
) -> tuple[dict[Path, _PhotoMasks], list[str]]:
    """The masks of every photo, from all places that were given; and the report."""
    masks = dict.fromkeys(photos.files, _PhotoMasks())
    report = []
    places: Sequence[Path | None] = given or [None]
    for where in places:
        try:
            matches = match_masks(photos.files, photos.root, where)
        except FileNotFoundError:
            if where is not None:
                raise
            return masks, ["mask: no file given or found; transparency counts, where there is any"]
        report += [f"mask: {line}" for line in matches.report().splitlines()]
        for photo, files in matches.files.items():
            before, white = masks[photo], matches.rules[photo].white
            if before.files and before.white != white:
                raise UsageError(
                    f"White keeps in some masks of {photo} and ignores in others, by their names; "
                    "rename them to one convention."
                )
            masks[photo] = _PhotoMasks(before.files + files, white)
    return masks, report
