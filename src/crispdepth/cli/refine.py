"""``crispdepth refine``: find photos, depth and masks, refine each, write the results."""

import errno
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from tyro.conf import Positional, UseAppendAction, arg

from crispdepth import __version__
from crispdepth.cli.batch import Job, Manifest, Outcome, Record, Shard, peak_rss_mb, process
from crispdepth.cli.errors import ExitCode, UsageError
from crispdepth.cli.inputs import (
    PHOTO_SUFFIXES,
    Photos,
    absolute_path,
    find_photos,
    result_names,
)
from crispdepth.cli.terminal import Terminal, summarise
from crispdepth.io.match import White, match_depths, match_masks, without_companions

if TYPE_CHECKING:
    from crispdepth.types import RefinedDepth

DEPTH_SUFFIXES = (".exr", ".npy", ".pfm", ".png")
"""An output that ends so is one depth file, any other is a folder."""


@dataclass(frozen=True)
class RefineOptions:
    """Crisp, layered depth from a photo, its rough depth and its mask.

    `crispdepth refine photo.jpg --depth rough.png --mask mask.png -o refined` for one photo;
    `crispdepth refine photos --depth depths --mask masks -o refined` for a folder of them.
    A run that was interrupted continues when it is started again.
    """

    # What to refine: photos, folders, patterns, lists with one path per line; - reads one photo
    # from standard input.
    photos: Annotated[
        Positional[tuple[str, ...]],
        arg(metavar="PHOTO|DIR|GLOB|LIST.txt|-", help_behavior_hint=""),
    ]

    # The rough depth: a file, or the folder that has one for each photo. Without it, files that
    # lie beside the photos and are called depth.
    depth: Annotated[Path | None, arg(metavar="FILE|DIR", help_behavior_hint="")] = None

    # The masks: files, or folders that have them for each photo; may be repeated. Without it,
    # files that lie beside the photos and are called masks, else the photos' transparency.
    mask: Annotated[
        UseAppendAction[tuple[tuple[Path, ...], ...]],
        arg(metavar="FILE|DIR [FILE|DIR ...]", help_behavior_hint=""),
    ] = ()

    # Where to: a folder, or one depth file that ends in .exr, .npy, .pfm or .png.
    out: Annotated[Path, arg(aliases=["-o"], metavar="FILE|DIR")] = Path("refined")

    # What the numbers are: larger is farther, or larger is nearer. Without it, what the file
    # says, else a rule for its format; what was assumed is printed.
    depth_kind: Annotated[
        Literal["depth", "inverse_depth"] | None,
        arg(metavar="depth|inverse_depth", help_behavior_hint=""),
    ] = None

    # Metres, or an unknown scale.
    depth_unit: Annotated[
        Literal["m", "relative"] | None, arg(metavar="m|relative", help_behavior_hint="")
    ] = None

    # Units per stored step, for files of integers: 0.001 for millimetres, 0.0002 for TUM.
    depth_scale: Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="")] = None

    # Whether a mask marks an object, or pixels to leave out.
    mask_role: Literal["object", "ignore"] = "object"

    # Whether a mask file is one soft mask or a map of labels, one mask per label.
    mask_layout: Literal["auto", "soft", "labels"] = "auto"

    # Take black for white in the masks.
    invert_mask: bool = False

    # What to write into the folder: exr, png, npy, pfm, layers, npz, masks, confidence, preview;
    # without it, all but npy, pfm and npz.
    formats: Annotated[str | None, arg(metavar="NAME,NAME,...", help_behavior_hint="")] = None

    # Metres per step of a metric depth.png; without it, 0.001.
    png_scale: Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="")] = None

    # Threshold the masks at 0.5: no depth between two layers.
    hard_masks: bool = False

    # Do again what is done, and replace an existing depth file.
    overwrite: bool = False

    # After a photo that cannot be done: go on, or stop.
    on_error: Literal["skip", "stop"] = "skip"

    # Do the I-th of N parts of the photos; other processes do the others into the same folder.
    shard: Annotated[str, arg(metavar="I/N")] = "1/1"

    # Print one JSON summary instead of paths on standard output.
    json: bool = False

    # Print only errors on standard error.
    quiet: Annotated[bool, arg(aliases=["-q"])] = False

    # Show no progress bar.
    no_progress: bool = False


def run(options: RefineOptions) -> int:
    """Run ``crispdepth refine`` and return its exit code.

    Raises:
        UsageError: the options contradict each other.
        OSError, ValueError: nothing can be done at all.
    """
    formats, shard = _formats(options.formats), Shard.parse(options.shard)
    suffix = options.out.suffix.lower()
    is_file = suffix in DEPTH_SUFFIXES and not options.out.is_dir()
    if suffix in PHOTO_SUFFIXES - {*DEPTH_SUFFIXES} and not options.out.is_dir():
        raise UsageError(f"-o {options.out}: a depth file is {', '.join(DEPTH_SUFFIXES)}.")
    jobs, report = plan(options)
    if is_file and (len(jobs) != 1 or shard.count > 1):
        raise UsageError(
            f"-o {options.out} is one file, but there are {len(jobs)} photos; name a folder."
        )
    terminal = Terminal(options.quiet, options.json, bar=not options.no_progress)
    terminal.say(*report)
    if is_file:
        return _write_one_file(jobs[0], options, terminal)
    return _fill_folder(jobs, shard, formats, options, terminal)


def _formats(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    from crispdepth.api import check_formats

    try:
        return check_formats(text.split(","))
    except ValueError as error:
        raise UsageError(f"--formats: {error}") from None


def plan(options: RefineOptions) -> tuple[list[Job], list[str]]:
    """The work to be done, and sentences on which files were taken for what.

    Raises:
        UsageError: the options contradict each other.
        OSError, ValueError: no photo, depth or mask is found, or it is not clear which is meant.
    """
    given = [path for group in options.mask for path in group]
    if not options.photos:
        raise UsageError(
            "Name a photo, a folder, a pattern or a list, and name it before --mask, "
            "which takes all the words that follow."
        )
    if "-" in options.photos:
        return [_stdin_job(options, given)], []
    for folder in map(Path, options.photos):
        if folder.is_dir() and options.out.is_dir() and folder.samefile(options.out):
            raise UsageError("-o is the folder of the photos; name another, or one inside it.")
    avoid = [*given, options.out, *([options.depth] if options.depth else [])]
    found = find_photos(options.photos, avoid)
    photos = Photos(found.root, tuple(without_companions(found.files)))
    depths = match_depths(photos.files, photos.root, options.depth)
    masks, report = _match_masks(photos, given)
    names = result_names(photos)
    jobs = [
        Job(
            name=photo.relative_to(photos.root).as_posix(),
            photo=photo,
            depth=depths.files.get(photo, (None,))[0],
            masks=masks[photo].files,
            white=masks[photo].white,
            folder=absolute_path(options.out) / names[photo],
        )
        for photo in photos.files
    ]
    return jobs, [f"depth: {line}" for line in depths.report().splitlines()] + report


def _stdin_job(options: RefineOptions, masks: Sequence[Path]) -> Job:
    given = [path for path in (options.depth, *masks) if path]
    if len(options.photos) > 1 or not options.depth or any(path.is_dir() for path in given):
        raise UsageError("- reads one photo; its depth, and its masks if any, are given as files.")
    white: White = "keep"
    folder = absolute_path(options.out) / "stdin"
    return Job("-", sys.stdin.buffer.read(), options.depth, tuple(masks), white, folder)


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
            return masks, ["mask: no file given or found; the photo's transparency is used"]
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


def _refine(job: Job, options: RefineOptions, keep_layers: bool) -> "RefinedDepth":
    """Read one job's files and refine; what was assumed comes first in the notes."""
    from crispdepth.api import refine_values
    from crispdepth.io.depths import read_depth
    from crispdepth.io.images import read_image
    from crispdepth.io.masks import masks_from_alpha, read_masks
    from crispdepth.tasks.refine import RefineConfig

    if job.depth is None:
        raise ValueError("no depth file matches this photo")
    if options.mask and not job.masks:
        raise ValueError("no mask matches this photo")
    photo = read_image(job.photo, name=job.name)
    depth, stated = read_depth(
        job.depth, kind=options.depth_kind, unit=options.depth_unit, scale=options.depth_scale
    )
    if job.masks:
        masks, mask_notes = read_masks(
            job.masks,
            role=options.mask_role,
            white=job.white,
            invert=options.invert_mask,
            layout=options.mask_layout,
        )
    elif photo.alpha is not None:
        alpha = 1 - photo.alpha if options.invert_mask else photo.alpha
        masks, mask_notes = masks_from_alpha(alpha, options.mask_role), ()
    else:
        raise ValueError("this photo has neither a mask file nor transparency; name its --mask")
    config = RefineConfig(hard_masks=options.hard_masks, keep_layers=keep_layers)
    refined = refine_values(photo.rgb, depth, masks, config=config)
    return replace(refined, notes=(stated, *mask_notes, *refined.notes))


def _provenance(job: Job, options: RefineOptions) -> dict[str, object]:
    return {
        "photo": job.name,
        "depth": job.depth.name if job.depth else None,
        "masks": [mask.name for mask in job.masks],
        "hard_masks": options.hard_masks,
    }


def _write_one_file(job: Job, options: RefineOptions, terminal: Terminal) -> int:
    from crispdepth.io.atomic import remove_stale
    from crispdepth.io.depths import write_depth

    out, started = options.out, time.perf_counter()
    if out.exists():
        if any(isinstance(source, Path) and out.samefile(source) for source in job.sources):
            raise UsageError(f"-o {out} is one of the files that are read; name another.")
        if not options.overwrite:
            raise FileExistsError(errno.EEXIST, "--overwrite is needed to replace", str(out))
    refined = _refine(job, options, keep_layers=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(out.parent)
    write_depth(out, refined.depth, scale=options.png_scale, provenance=_provenance(job, options))
    seconds = round(time.perf_counter() - started, 3)
    outputs = (out.name, f"{out.name}.json")
    record = Record(job.name, "done", seconds, peak_rss_mb(), notes=refined.notes, outputs=outputs)
    terminal.tell(record, out)
    terminal.print_summary(json.dumps(summarise([record], out.parent, seconds)))
    return ExitCode.OK


def _fill_folder(
    jobs: Sequence[Job],
    shard: Shard,
    formats: Sequence[str] | None,
    options: RefineOptions,
    terminal: Terminal,
) -> int:
    from crispdepth.io.atomic import remove_stale, write_text

    out, started = absolute_path(options.out), time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    remove_stale(out)
    write_text(out / "config.json", _config(options))
    manifest = Manifest(out, shard, _settings(options))
    jobs = jobs[shard.index - 1 :: shard.count]
    doing = process(
        jobs,
        partial(_refine_into_folder, options=options, formats=formats),
        manifest,
        overwrite=options.overwrite,
        stop=options.on_error == "stop",
    )
    records: list[Record] = []
    try:
        with terminal.progress(len(jobs)) as advance:
            for record in doing:
                records.append(record)
                terminal.tell(record, out / record.folder)
                advance()
    except KeyboardInterrupt:
        terminal.warn(
            f"Interrupted after {len(records)} of {len(jobs)} photos; "
            "the same command does the rest."
        )
        return ExitCode.INTERRUPTED
    summary = json.dumps(summarise(records, out, round(time.perf_counter() - started, 3)))
    write_text(out / shard.named("summary", ".json"), summary + "\n")
    terminal.print_summary(summary)
    return terminal.conclude(records, len(jobs))


def _refine_into_folder(job: Job, options: RefineOptions, formats: Sequence[str] | None) -> Outcome:
    from crispdepth.api import DEFAULT_FORMATS, write_files
    from crispdepth.io.atomic import remove_stale

    if any(isinstance(source, Path) and source.parent == job.folder for source in job.sources):
        raise ValueError(f"its results in {job.folder} would replace a file that is read")
    keep_layers = not {"layers", "npz", "preview"}.isdisjoint(formats or DEFAULT_FORMATS)
    refined = _refine(job, options, keep_layers)
    remove_stale(job.folder)
    written = write_files(
        refined,
        job.folder,
        formats,
        png_scale=options.png_scale,
        provenance=_provenance(job, options),
    )
    return Outcome(written.files, (*refined.notes, *written.notes))


def _config(options: RefineOptions) -> str:
    """The options of a run as JSON, without those that only concern this process."""
    fields = asdict(options)
    for name in ("shard", "json", "quiet", "no_progress"):
        del fields[name]
    return json.dumps({"version": __version__, **fields}, indent=2, default=str) + "\n"


def _settings(options: RefineOptions) -> dict[str, object]:
    """The options, and the version, that decide what the results are."""
    reading = ("depth_kind", "depth_unit", "depth_scale", "mask_role", "mask_layout", "invert_mask")
    writing = ("formats", "png_scale", "hard_masks")
    return {"version": __version__, **{name: getattr(options, name) for name in reading + writing}}
