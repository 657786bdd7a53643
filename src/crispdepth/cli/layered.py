"""What `bokeh`, `cloud` and `novel` share: where the layers of a photo come from."""

import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from tyro.conf import OmitArgPrefixes, Positional, arg

from crispdepth.cli.engine import EngineOptions
from crispdepth.cli.errors import UsageError
from crispdepth.cli.terminal import Terminal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from crispdepth.types import Camera, DepthMap, LayerPair

_DEPTH_FILES = tuple(f"depth.{suffix}" for suffix in ("exr", "npy", "pfm", "png"))


@dataclass(frozen=True)
class LayeredOptions:
    """Options of every command that takes a photo apart."""

    # A photo, or a folder that `crispdepth refine` wrote.
    source: Annotated[Positional[Path], arg(metavar="PHOTO|FOLDER", help_behavior_hint="")]

    # The rough depth of a photo.
    depth: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None

    # The mask files of a photo; without it, its transparency.
    mask: Annotated[tuple[Path, ...], arg(metavar="FILE [FILE ...]", help_behavior_hint="")] = ()

    # What the depth is: larger is farther, or larger is nearer. auto: what the file says, else a
    # rule for its format; what was assumed is printed.
    depth_kind: Literal["auto", "depth", "inverse_depth"] = "auto"

    # Metres, or an unknown scale.
    depth_unit: Literal["auto", "m", "relative"] = "auto"

    engine: Annotated[EngineOptions, OmitArgPrefixes] = field(default_factory=EngineOptions)

    # Replace an existing file.
    overwrite: bool = False

    # Print only errors on standard error.
    quiet: Annotated[bool, arg(aliases=["-q"])] = False

    def check(self, out: Path, suffixes: Sequence[str]) -> None:
        """Refuse an output before any work; errors are those of `check_output`."""
        read = (self.source, self.depth, *self.mask)
        check_output(out, suffixes, overwrite=self.overwrite, read=read)

    @property
    def terminal(self) -> Terminal:
        """Where the command reports to."""
        return Terminal(self.quiet, json=False, bar=not self.quiet)


class LayeredInput(NamedTuple):
    """A refined photo."""

    image: "NDArray[Any]"  # (h, w, 3) uint8 or uint16, sRGB
    depth: "DepthMap"  # refined
    layers: "tuple[LayerPair, ...]"
    initial: "DepthMap | None"  # before refinement, if known
    notes: tuple[str, ...]


def read_layered(options: LayeredOptions) -> LayeredInput:
    """The refined photo in a folder, or the photo refined now.

    Raises:
        UsageError: the options do not fit a folder, or a photo without its depth.
        OSError, ValueError: a file cannot be read or is not what it should be.
    """
    if options.source.is_dir():
        if options.depth or options.mask:
            raise UsageError("A folder of `crispdepth refine` has its depth and masks in it.")
        if options.engine != EngineOptions():
            raise UsageError("A folder of `crispdepth refine` was refined by its own --engine.")
        return _read_folder(_result_folder(options.source))
    if options.depth is None:
        raise UsageError(
            "Give the photo's rough --depth (and its --mask), or a folder of `crispdepth refine`."
        )
    from crispdepth.api import refine

    refined = refine(
        options.source,
        options.depth,
        list(options.mask) or None,
        kind=None if options.depth_kind == "auto" else options.depth_kind,
        unit=None if options.depth_unit == "auto" else options.depth_unit,
        completer=options.engine.load(),
    )
    return LayeredInput(
        refined.image, refined.depth, refined.layers, refined.initial, refined.notes
    )


def check_folder(path: Path) -> None:
    """Refuse an output folder that is a file.

    Raises:
        UsageError: it is one.
    """
    if path.is_file():
        raise UsageError(f"-o {path} is a file; name a folder.")


def check_output(
    path: Path, suffixes: Sequence[str], *, overwrite: bool, read: Iterable[Path | None] = ()
) -> None:
    """Refuse an output before any work is done for it; ``read`` are the files that it must not be.

    Raises:
        UsageError: another suffix, or the file is one that is read.
        OSError: it exists and shall not be replaced, it is a folder, or its own does not exist.
    """
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"-o {path}: the name must end in {', '.join(suffixes)}.")
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder; name a file", str(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(
            errno.ENOENT, "there is no such folder; make it first", str(path.parent)
        )
    if not path.exists():
        return
    if any(file and file.is_file() and path.samefile(file) for file in read):
        raise UsageError(f"-o {path} is one of the files that are read; name another.")
    if not overwrite:
        raise FileExistsError(errno.EEXIST, "--overwrite is needed to replace", str(path))


def camera_of(depth: "DepthMap", fov: float | None) -> "tuple[Camera, str]":
    """The camera of a depth map, and a sentence on what it is taken from.

    Args:
        depth: its camera counts where it has one and ``fov`` is None.
        fov: degrees across the longer side; None: 60 where the depth map has no camera.

    Raises:
        ValueError: the angle is out of range.
    """
    from crispdepth.geometry.backproject import camera_of_view

    if fov is None and depth.camera is not None:
        return depth.camera, "camera: of the depth file"
    word = "given" if fov is not None else "assumed; --fov states it"
    angle = 60.0 if fov is None else fov
    return camera_of_view(depth.size, angle), f"camera: {angle:g} degrees of view ({word})"


def placement_sentence(depth: "DepthMap", near: float, far: float) -> str:
    """What the distances in space are."""
    if depth.unit == "m":
        return "distances: metres"
    if depth.kind == "depth":
        return "distances: those of the depth file, of unknown unit"
    return (
        f"distances: relative inverse depth has none; placed from {near:g} to {far:g} "
        "(--near, --far)"
    )


def _result_folder(folder: Path) -> Path:
    """The folder itself, or the only one in it that holds a result."""
    if (folder / "layers.exr").is_file():
        return folder
    inside = sorted(path.parent for path in folder.rglob("layers.exr"))
    if len(inside) == 1:
        return inside[0]
    if inside:
        some = ", ".join(map(str, inside[:5]))
        raise UsageError(f"{folder} holds {len(inside)} results; name one of them: {some} ...")
    raise FileNotFoundError(
        f"There is no layers.exr in {folder}: it is no folder of `crispdepth refine`, or was "
        "written without the format `layers`, or no mask was used."
    )


def _read_folder(folder: Path) -> LayeredInput:
    from crispdepth.io.depths import read_depth
    from crispdepth.io.layers import read_layered_photo

    file = next((folder / name for name in _DEPTH_FILES if (folder / name).is_file()), None)
    if file is None:
        raise FileNotFoundError(
            f"There is no depth map in {folder}; looked for {', '.join(_DEPTH_FILES)}."
        )
    photo, layers = read_layered_photo(folder / "layers.exr")
    return LayeredInput(photo, read_depth(file).depth, layers, None, ())
