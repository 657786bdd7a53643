"""``crispdepth train pack``: pack datasets for training."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from crispdepth.cli.errors import ExitCode, UsageError
from crispdepth.cli.train import Format

if TYPE_CHECKING:
    from crispdepth.data.datasets import RgbdFrame
    from crispdepth.models.monocular import Pixels


@dataclass(frozen=True)
class PackOptions:
    """Pack datasets for training: pixels that need no decoding, in two files.

    `crispdepth train pack scenes -o scenes.pack`
    """

    data: Annotated[Positional[tuple[Path, ...]], arg(metavar="DIR", help_behavior_hint="")]
    """Folders of datasets, or packs."""

    out: Annotated[Path, arg(aliases=["-o"], metavar="DIR")]
    """The pack, a folder."""

    data_format: Format = "rendered"
    """Format of folders that are no packs."""

    longest: int = 320
    """Longer side in pixels to which larger frames are shrunk."""

    every: int = 1
    """Of each dataset take the frames 0, N, 2N, ..."""

    depth_model: Annotated[str | None, arg(metavar="FILE|NAME", help_behavior_hint="")] = None
    """Also pack what this network makes of each photo, as its rough depth: an ONNX file, or a name
    on Hugging Face. What frames bring themselves is kept."""

    depth_model_input: Annotated[
        Literal["byte", "unit", "imagenet"] | None, arg(help_behavior_hint="")
    ] = None
    """What an ONNX file wants: pixels of 0 to 255, of 0 to 1, or normalised as for ImageNet."""

    compact: bool = False
    """Encode the pixels as JPEG and PNG: small enough to send, slower to read."""


def run(options: PackOptions) -> int:
    """Run ``crispdepth train pack``.

    Raises:
        UsageError: no folder was named, or a number is below 1.
        OSError, ValueError: a dataset cannot be read, or the pack not written.
    """
    from crispdepth.data.pack import pack_frames
    from crispdepth.data.split import open_frames

    if not options.data:
        raise UsageError("Name at least one folder: crispdepth train pack FOLDER -o PACK")
    if options.every < 1 or options.longest < 1:
        raise UsageError("--every and --longest must be 1 or more.")
    if options.out.resolve() in {folder.resolve() for folder in options.data}:
        raise UsageError(f"-o {options.out} is one of the folders that are read; name another.")
    if options.depth_model_input and not options.depth_model:
        raise UsageError("--depth-model-input is for the file of a --depth-model.")
    datasets = [open_frames(folder, options.data_format) for folder in options.data]
    frames = _with_progress([dataset[:: options.every] for dataset in datasets])
    if options.depth_model is not None:
        frames = _with_rough_depth(frames, options.depth_model, options.depth_model_input)
    pack_frames(frames, options.out, longest=options.longest, compact=options.compact)
    print(options.out)
    return ExitCode.OK


def _with_rough_depth(
    frames: "Iterator[RgbdFrame]", model: str, pixels: "Pixels | None"
) -> "Iterator[RgbdFrame]":
    """The frames, those without rough depth with what a network makes of their photos."""
    from crispdepth.geometry.depth import inverse_depth
    from crispdepth.models.monocular import load_depth_model

    estimate = load_depth_model(model, pixels)
    for frame in frames:
        if frame.rough is None:
            frame = replace(frame, rough=inverse_depth(estimate(frame.image).depth))
        yield frame


def _with_progress(datasets: "Sequence[Sequence[RgbdFrame]]") -> "Iterator[RgbdFrame]":
    """The frames, with a bar on stderr where that is a terminal."""
    from rich.console import Console
    from rich.progress import track

    frames = (frame for dataset in datasets for frame in dataset)
    total = sum(map(len, datasets))
    console = Console(stderr=True)
    yield from track(frames, "packing", total, console=console, disable=not sys.stderr.isatty())
