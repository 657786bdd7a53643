"""``crispdepth synth``: invent scenes, render them, write them as scene folders."""

import json
import multiprocessing
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from crispdepth import __version__
from crispdepth.cli.batch import Shard
from crispdepth.cli.errors import ExitCode, UsageError
from crispdepth.cli.terminal import Terminal

if TYPE_CHECKING:
    from crispdepth.data.render import Variant
    from crispdepth.data.scenes3d.assets import Assets
    from crispdepth.data.synth import SynthSettings


@dataclass(frozen=True)
class SynthOptions:
    """Rendered photos with exact depth, instance ids, cameras and meshes.

    Every scene is a folder that is there whole or not at all. The same command again makes what
    is missing; a larger --count adds scenes.
    """

    # Furnished rooms, or one to three things close to the camera.
    kind: Positional[Literal["rooms", "objects"]]

    # The folder for the scenes.
    out: Annotated[Path, arg(aliases=["-o"], metavar="DIR")]

    # How many scenes there shall be in all.
    count: int = 100

    # Which scenes: another seed gives others.
    seed: int = 0

    # The size of the pictures, pixels.
    size: Annotated[str, arg(metavar="WxH")] = "320x240"

    # Light paths per pixel, before denoising.
    spp: int = 8

    # Photos of each scene.
    frames_per_scene: int = 3

    # Independent views, a smooth path, or a walk around the scene's middle.
    cameras: Literal["apart", "path", "orbit"] = "apart"

    # Models (.glb, .gltf, .obj, .ply) and environment maps (.hdr) that scenes may use.
    assets: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None

    # Photos that textures may be cut from.
    photos: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None

    # Processes, each on one processor; 0 for as many as there are processors.
    jobs: int = 0

    # Do the I-th of N parts of the scenes; other processes do the others into the same folder.
    shard: Annotated[str, arg(metavar="I/N")] = "1/1"

    # Print only errors on standard error.
    quiet: Annotated[bool, arg(aliases=["-q"])] = False

    # Show no progress bar.
    no_progress: bool = False


def run(options: SynthOptions) -> int:
    """Run ``crispdepth synth`` and return its exit code.

    Raises:
        UsageError: an option is out of range, or the folder holds other scenes.
        OSError, ValueError: the assets cannot be used, or nothing can be written.
        ImportError: the extra is not installed.
    """
    from crispdepth.data.render import choose_variant
    from crispdepth.data.scenes3d.assets import load_assets
    from crispdepth.data.synth import scene_name

    settings, shard = _settings(options), Shard.parse(options.shard)
    terminal = Terminal(options.quiet, json=False, bar=not options.no_progress)
    variant = choose_variant()
    assets = load_assets(options.assets, options.photos)
    terminal.say(*assets.skipped)
    options.out.mkdir(parents=True, exist_ok=True)
    _claim(options.out, options)
    mine = range(shard.index - 1, options.count, shard.count)
    folders = {index: options.out / scene_name(settings.kind, index) for index in mine}
    missing = [index for index, folder in folders.items() if not folder.is_dir()]
    terminal.say(f"{len(missing)} of {len(mine)} scenes to render with Mitsuba's {variant}.")
    jobs = min(options.jobs or os.cpu_count() or 1, len(missing))
    try:
        with terminal.progress(len(missing)) as advance:
            for folder in _make(missing, options.out, settings, assets, variant, jobs):
                print(folder, flush=True)
                advance()
    except KeyboardInterrupt:
        made = sum(folder.is_dir() for folder in folders.values())
        terminal.warn(
            f"Interrupted: {made} of {len(mine)} scenes are there; the same command does the rest."
        )
        return ExitCode.INTERRUPTED
    return ExitCode.OK


def _settings(options: SynthOptions) -> "SynthSettings":
    from crispdepth.data.synth import SynthSettings

    match = re.fullmatch(r"(\d+)x(\d+)", options.size)
    width, height = (int(match[1]), int(match[2])) if match else (0, 0)
    if not (16 <= width <= 4096 and 16 <= height <= 4096):
        raise UsageError(
            f"--size is WIDTHxHEIGHT in pixels, 16 to 4096 each, for example 320x240; "
            f"got {options.size!r}."
        )
    for name in ("count", "spp", "frames_per_scene"):
        if getattr(options, name) < 1:
            flag = name.replace("_", "-")
            raise UsageError(f"--{flag} must be 1 or more, got {getattr(options, name)}.")
    for name in ("seed", "jobs"):
        if getattr(options, name) < 0:
            raise UsageError(f"--{name} must be 0 or more, got {getattr(options, name)}.")
    return SynthSettings(
        kind=options.kind,
        seed=options.seed,
        size=(height, width),
        samples=options.spp,
        frames=options.frames_per_scene,
        arrangement=options.cameras,
    )


def _claim(out: Path, options: SynthOptions) -> None:
    """Write beside the scenes what decides them; refuse a folder whose scenes differ in it.

    Raises:
        UsageError: an earlier run had other options.
    """
    from crispdepth.io.atomic import write_text

    deciding = asdict(options)
    for name in ("out", "count", "jobs", "shard", "quiet", "no_progress"):
        del deciding[name]
    path = out / f"config.{options.kind}.json"
    text = json.dumps({"version": __version__, **deciding}, indent=2, default=str) + "\n"
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise UsageError(
            f"{path} says that the {options.kind} in {out} were made with other options or "
            "another version; use the same ones, or another folder."
        )
    write_text(path, text)


def _make(
    missing: Sequence[int],
    out: Path,
    settings: "SynthSettings",
    assets: "Assets",
    variant: "Variant",
    jobs: int,
) -> Iterator[Path]:
    """Make scenes in so many processes; yield their folders as they appear."""
    from crispdepth.data.render import use_mitsuba
    from crispdepth.data.synth import make_scene

    make = partial(make_scene, out, settings=settings, assets=assets)
    if jobs <= 1:
        use_mitsuba(variant, threads=1)
        yield from map(make, missing)
        return
    context = multiprocessing.get_context("spawn")  # the renderer's threads do not survive a fork
    pool = ProcessPoolExecutor(jobs, context, _start_process, (variant, make))
    try:
        for done in as_completed([pool.submit(_make_one, index) for index in missing]):
            yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)


_make_scene: Callable[[int], Path]  # of a worker process, with the assets it was sent once


def _start_process(variant: "Variant", make: Callable[[int], Path]) -> None:
    from crispdepth.data.render import use_mitsuba

    global _make_scene
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process hears it and stops the others
    use_mitsuba(variant, threads=1)
    _make_scene = make


def _make_one(index: int) -> Path:
    return _make_scene(index)
