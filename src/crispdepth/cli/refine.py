"""``crispdepth refine``: find photos, depth and masks, refine each, write the results."""

import errno
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction, arg

from crispdepth import __version__
from crispdepth.cli.batch import (
    Draft,
    Job,
    Manifest,
    Outcome,
    Record,
    Shard,
    failed,
    peak_rss_mb,
    process,
)
from crispdepth.cli.engine import EngineOptions
from crispdepth.cli.errors import ExitCode, UsageError
from crispdepth.cli.inputs import PHOTO_SUFFIXES, absolute_path
from crispdepth.cli.one_photo import Models, load_models, provenance, refine_photo
from crispdepth.cli.plan import plan
from crispdepth.cli.terminal import Terminal, summarise

DEPTH_SUFFIXES = (".exr", ".npy", ".pfm", ".png")
"""An output that ends so is one depth file, any other is a folder."""


OTHER_SUFFIXES = frozenset((".csv", ".glb", ".json", ".mp4", ".npz", ".ply", ".txt", ".zip"))
"""An output of these names is no folder; somebody expects another kind of file."""


@dataclass(frozen=True)
class RefineOptions:
    """Crisp, layered depth from a photo, its rough depth and its mask.

    `crispdepth refine photo.jpg --depth rough.png --mask mask.png -o refined` for one photo;
    `crispdepth refine photos --depth depths --mask masks -o refined` for a folder of them;
    `crispdepth refine photo.jpg --depth-model network.onnx --mask auto` without either.
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

    # A network that makes the rough depth: an ONNX file, or a name on Hugging Face such as
    # depth-anything/Depth-Anything-V2-Small-hf.
    depth_model: Annotated[str | None, arg(metavar="FILE.onnx|NAME", help_behavior_hint="")] = None

    # What an ONNX file wants to be given: 0..255, 0..1, or ImageNet's normalisation. auto: 0..255
    # if it begins by dividing by 255, else imagenet.
    depth_model_input: Literal["auto", "byte", "unit", "imagenet"] = "auto"

    # The masks: files, or folders that have them for each photo; may be repeated. auto: found by
    # a network. Without it, files that lie beside the photos and are called masks, else the
    # photos' transparency.
    mask: Annotated[
        UseAppendAction[tuple[tuple[str, ...], ...]],
        arg(metavar="FILE|DIR [FILE|DIR ...]|auto", help_behavior_hint=""),
    ] = ()

    # The network of rembg that finds masks, such as u2netp or isnet-general-use; without it, u2net.
    mask_model: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None

    # Where to: a folder, or one depth file that ends in .exr, .npy, .pfm or .png.
    out: Annotated[Path, arg(aliases=["-o"], metavar="FILE|DIR")] = Path("refined")

    # What the numbers are: larger is farther, or larger is nearer. auto: what the file says, else
    # a rule for its format; what was assumed is printed.
    depth_kind: Literal["auto", "depth", "inverse_depth"] = "auto"

    # Metres, or an unknown scale.
    depth_unit: Literal["auto", "m", "relative"] = "auto"

    # What each stored number is multiplied with, be it an integer or not: 0.001 for millimetres,
    # 0.0002 for TUM.
    depth_scale: Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="")] = None

    # Whether a mask marks an object, or pixels to leave out.
    mask_role: Literal["object", "ignore"] = "object"

    # Whether a mask file is one soft mask or a map of labels, one mask per label.
    mask_layout: Literal["auto", "soft", "labels"] = "auto"

    # Take black for white in the masks.
    invert_mask: bool = False

    engine: Annotated[EngineOptions, OmitArgPrefixes] = field(default_factory=EngineOptions)

    # What to write into the folder: exr, png, npy, pfm, layers, npz, masks, confidence, preview;
    # without it, all but npy, pfm and npz.
    formats: Annotated[str | None, arg(metavar="NAME,NAME,...", help_behavior_hint="")] = None

    # Metres per step of a PNG of depth in metres; without it, 0.001.
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

    @property
    def masks(self) -> tuple[str, ...]:
        """All words after every --mask."""
        return tuple(word for group in self.mask for word in group)

    @property
    def finds_masks(self) -> bool:
        """Whether a network finds the masks; a file of that name is ./auto."""
        return self.masks == ("auto",)


def run(options: RefineOptions) -> int:
    """Run ``crispdepth refine`` and return its exit code.

    Raises:
        UsageError: the options contradict each other.
        OSError, ValueError: nothing can be done at all.
    """
    formats, shard = _formats(options.formats), Shard.parse(options.shard)
    is_file = _is_file(options.out)
    _check(options, formats, is_file)
    jobs, report = plan(options)
    if is_file and (len(jobs) != 1 or shard.count > 1):
        raise UsageError(
            f"-o {options.out} is one file, but there are {len(jobs)} photos; name a folder."
        )
    terminal = Terminal(options.quiet, options.json, bar=not options.no_progress)
    terminal.say(*report)
    models = load_models(options)
    if is_file:
        return _write_one_file(jobs[0], models, options, terminal)
    return _fill_folder(jobs, shard, formats, models, options, terminal)


def _is_file(out: Path) -> bool:
    """Whether the output is one depth file; else it is a folder."""
    if out.is_dir():
        return False
    suffix = out.suffix.lower()
    if suffix not in DEPTH_SUFFIXES and out.is_file():
        raise UsageError(
            f"-o {out} is a file; name a folder, or a depth file ({', '.join(DEPTH_SUFFIXES)})."
        )
    if suffix in (PHOTO_SUFFIXES | OTHER_SUFFIXES) - {*DEPTH_SUFFIXES}:
        raise UsageError(f"-o {out}: name a folder, or a depth file: {', '.join(DEPTH_SUFFIXES)}.")
    return suffix in DEPTH_SUFFIXES


def _check(options: RefineOptions, formats: Sequence[str] | None, is_file: bool) -> None:
    """UsageError for options that mean nothing, by themselves or together."""
    if not all(options.mask):
        raise UsageError("--mask needs files or folders after it, or the word auto.")
    if "auto" in options.masks and not options.finds_masks:
        raise UsageError(
            "--mask auto stands alone: name photos before it; a file called so is ./auto."
        )
    if options.mask_model is not None and not options.finds_masks:
        raise UsageError("--mask-model is for --mask auto.")
    for flag, scale in (("--depth-scale", options.depth_scale), ("--png-scale", options.png_scale)):
        if scale is not None and not 0 < scale < math.inf:
            raise UsageError(f"{flag} is a number above 0; got {scale:g}.")
    _check_depth(options)
    if is_file and formats is not None:
        raise UsageError(f"--formats is for a folder of results, and -o {options.out} is one file.")
    chosen = [options.out.suffix.lower()[1:]] if is_file else formats
    if options.png_scale is not None and chosen is not None and "png" not in chosen:
        raise UsageError("--png-scale is for a depth PNG, and none is written.")


def _check_depth(options: RefineOptions) -> None:
    """UsageError for options of depth that contradict each other."""
    if options.depth_model is None:
        if options.depth_model_input != "auto":
            raise UsageError("--depth-model-input is for a --depth-model.")
        if options.depth is not None and options.depth.suffix.lower() == ".onnx":
            raise UsageError(f"--depth reads a depth map; {options.depth} is a --depth-model.")
        return
    if options.depth is not None:
        raise UsageError("--depth reads the rough depth and --depth-model makes it; give one.")
    if options.depth_scale is not None:
        raise UsageError("--depth-scale is for depth files, and --depth-model reads none.")


def _formats(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    from crispdepth.api import check_formats

    try:
        return check_formats(text.split(","))
    except ValueError as error:
        raise UsageError(f"--formats: {error}") from None


def _write_one_file(job: Job, models: Models, options: RefineOptions, terminal: Terminal) -> int:
    from crispdepth.io.depths import sidecar_path

    files = (options.out, sidecar_path(options.out))
    existing = [file for file in files if file.exists()]
    for file in existing:
        if any(isinstance(source, Path) and file.samefile(source) for source in job.sources):
            raise UsageError(f"-o {file} is one of the files that are read; name another.")
    began = time.perf_counter()
    records = []
    try:
        if existing and not options.overwrite:
            names = ", ".join(map(str, existing))
            raise FileExistsError(errno.EEXIST, "--overwrite is needed to replace", names)
        notes = _refine_into_file(job, models, options)
        seconds = round(time.perf_counter() - began, 3)
        outputs = {file.name: file.stat().st_size for file in files}
        records.append(
            Record(job.name, "done", seconds, peak_rss_mb(), notes=notes, outputs=outputs)
        )
    except KeyboardInterrupt:
        terminal.warn("Interrupted.")
    except Exception as error:
        records.append(failed(job, error, began))
    for record in records:
        terminal.tell(record, options.out)
    seconds = round(time.perf_counter() - began, 3)
    summary = summarise(records, options.out.parent, seconds, interrupted=not records)
    terminal.print_summary(json.dumps(summary))
    if not records:
        return ExitCode.INTERRUPTED
    return ExitCode.OK if records[0].status == "done" else ExitCode.FAILURE


def _refine_into_file(job: Job, models: Models, options: RefineOptions) -> tuple[str, ...]:
    from crispdepth.io.atomic import make_folder, remove_stale
    from crispdepth.io.depths import write_depth

    out = options.out
    refined = refine_photo(job, models, options, keep_layers=False)
    make_folder(out.parent)
    remove_stale(out.parent)
    origin = provenance(job, models, options)
    write_depth(out, refined.depth, scale=options.png_scale, provenance=origin)
    return refined.notes


def _fill_folder(
    jobs: Sequence[Job],
    shard: Shard,
    formats: Sequence[str] | None,
    models: Models,
    options: RefineOptions,
    terminal: Terminal,
) -> int:
    from crispdepth.io.atomic import make_folder, remove_stale, write_text

    out, began = absolute_path(options.out), time.perf_counter()
    make_folder(out)
    remove_stale(out)
    write_text(out / "config.json", _config(options))
    manifest = Manifest(out, shard, _settings(options, models), _writing(options, formats))
    jobs = jobs[shard.index - 1 :: shard.count]
    doing = process(
        jobs,
        partial(_refine_into_folder, models=models, options=options, formats=formats),
        manifest,
        overwrite=options.overwrite,
        stop=options.on_error == "stop",
    )
    records: list[Record] = []
    interrupted = False
    try:
        with terminal.progress(len(jobs)) as advance:
            for record in doing:
                records.append(record)
                terminal.tell(record, out / record.folder)
                advance()
    except KeyboardInterrupt:
        interrupted = True
        # What was written down just before the interruption need not have come back from there.
        skipped = [record for record in records if record.status == "skipped"]
        records = skipped + manifest.added()
        terminal.warn(
            f"Interrupted after {len(records)} of {len(jobs)} photos; "
            "the same command does the rest."
        )
    seconds = round(time.perf_counter() - began, 3)
    summary = json.dumps(summarise(records, out, seconds, interrupted=interrupted))
    write_text(out / shard.named("summary", ".json"), summary + "\n")
    terminal.print_summary(summary)
    return ExitCode.INTERRUPTED if interrupted else terminal.conclude(records, len(jobs))


def _refine_into_folder(
    job: Job, models: Models, options: RefineOptions, formats: Sequence[str] | None
) -> Draft:
    from crispdepth.api import DEFAULT_FORMATS, write_files
    from crispdepth.io.atomic import make_folder, remove_stale

    if any(isinstance(source, Path) and source.parent == job.folder for source in job.sources):
        raise ValueError(f"its results in {job.folder} would replace a file that is read")
    chosen = formats or DEFAULT_FORMATS
    keep_layers = not {"layers", "npz", "preview"}.isdisjoint(chosen)
    refined = refine_photo(job, models, options, keep_layers)

    def write() -> Outcome:
        make_folder(job.folder)
        remove_stale(job.folder)
        written = write_files(
            refined,
            job.folder,
            formats,
            png_scale=options.png_scale,
            provenance=provenance(job, models, options),
        )
        return Outcome(written.files, (*refined.notes, *written.notes))

    return Draft(result_files(job.folder, chosen, len(refined.masks)), write)


def result_files(folder: Path, formats: Sequence[str], masks: int) -> tuple[Path, ...]:
    """All files that these formats may make in the folder of a photo with so many masks."""
    others = {
        "layers": ["layers.exr"],
        "npz": ["layers.npz"],
        "masks": [f"mask_{k}.png" for k in range(masks)],
        "confidence": ["confidence.png"],
        "preview": ["preview.png"],
    }
    return tuple(
        folder / name
        for format_ in formats
        for name in others.get(format_, [f"depth.{format_}", f"depth.{format_}.json"])
    )


def _config(options: RefineOptions) -> str:
    """The options of a run as JSON, without those that only concern this process."""
    fields = asdict(options)
    for name in ("shard", "json", "quiet", "no_progress"):
        del fields[name]
    return json.dumps({"version": __version__, **fields}, indent=2, default=str) + "\n"


def _settings(options: RefineOptions, models: Models) -> dict[str, object]:
    """The options, the models and the version that decide the values of the results."""
    names = ("depth_kind", "depth_unit", "depth_scale", "mask_role", "mask_layout", "invert_mask")
    values = {name: getattr(options, name) for name in (*names, "hard_masks")}
    return {"version": __version__, **values, **models.facts}


def _writing(options: RefineOptions, formats: Sequence[str] | None) -> dict[str, object]:
    """What decides which files are written, and how."""
    return {"formats": formats and sorted(formats), "png_scale": options.png_scale}
