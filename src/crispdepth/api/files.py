"""A refined photo to files."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from crispdepth.io.depths import sidecar_path, write_depth
from crispdepth.io.images import write_image
from crispdepth.io.layers import write_layers_exr, write_layers_npz
from crispdepth.types import DepthMap, RefinedDepth
from crispdepth.viz.sheet import preview

DEPTH_FORMATS = ("exr", "npy", "pfm", "png")
FORMATS = (*DEPTH_FORMATS, "layers", "npz", "masks", "confidence", "preview")
"""What a result can be written as; see `save`."""

DEFAULT_FORMATS = ("exr", "png", "layers", "masks", "confidence", "preview")
"""Everything once: the other formats hold the same numbers."""

_SAMPLED = 100_000  # values suffice for a percentile


class Written(NamedTuple):
    """The files of one result, and what was left out and why."""

    files: tuple[Path, ...]
    notes: tuple[str, ...]


def save(refined: RefinedDepth, path: str | Path, formats: Sequence[str] | None = None) -> Path:
    """Write a result into a folder, or its depth to one file, and return the path.

    A name that ends in .exr, .png, .npy or .pfm is that of a depth file, unless there is such a
    folder or formats are given. Missing folders are made. The formats, and what they write:

    - ``exr``, ``png``, ``npy``, ``pfm``: the refined depth as ``depth.exr`` ..., each with a
      sidecar ``depth.exr.json`` that says what the numbers mean. PNG has 16 bits and refuses
      values that do not fit.
    - ``layers``: ``layers.exr``, one part per layer with R, G, B, A, depth.Z; ``npz``: the same as
      arrays.
    - ``masks``: ``mask_0.png`` ...; ``confidence``: ``confidence.png``, white = sure.
    - ``preview``: ``preview.png``, before and after for the eye.

    Args:
        refined: the result.
        path: where the files go; files of the same name are replaced, each at once.
        formats: names from `FORMATS`. None: `DEFAULT_FORMATS` as far as the values allow.

    Raises:
        ValueError: an unknown format, or PNG was asked for and cannot hold the values; the other
            files are written then.
        OSError: a file cannot be written.
    """
    path = Path(path)
    if formats is None and path.suffix.lower()[1:] in DEPTH_FORMATS and not path.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_depth(path, refined.depth)
    else:
        write_files(refined, path, formats)
    return path


def write_files(
    refined: RefinedDepth,
    folder: str | Path,
    formats: Sequence[str] | None = None,
    *,
    png_scale: float | None = None,
    provenance: Mapping[str, object] = {},
) -> Written:
    """`save` into a folder, with the files named.

    Args:
        refined: the result.
        folder: where the files go.
        formats: see `save`.
        png_scale: metres per step of a metric ``depth.png``; None: 0.001.
        provenance: what the sidecars say about the origin, JSON values.

    Raises: see `save`.
    """
    folder = Path(folder)
    chosen = check_formats(DEFAULT_FORMATS if formats is None else formats)
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    notes: list[str] = []
    for name in chosen:
        if name in ("layers", "npz") and not refined.layers:
            notes.append(f"There are no layers to write as {name}.")
        elif name in DEPTH_FORMATS and name != "png":
            files += _write_depth(folder / f"depth.{name}", refined, None, provenance)
        elif name != "png":
            files += _WRITERS[name](refined, folder)
    if "png" in chosen:  # last, because it may refuse
        try:
            files += _write_depth(folder / "depth.png", refined, png_scale, provenance)
        except ValueError as error:
            if formats is not None:
                raise ValueError(f"{error} The other files are in {folder}.") from error
            notes.append(f"There is no depth.png: {error}")
        else:
            notes += _coarse(refined.depth, folder / "depth.png")
    return Written(tuple(files), tuple(notes))


def check_formats(names: Sequence[str]) -> tuple[str, ...]:
    """The names, each once; ValueError if one is not in `FORMATS`."""
    unknown = [name for name in names if name not in FORMATS]
    if unknown or not names or isinstance(names, str):
        raise ValueError(f"Formats are some of {', '.join(FORMATS)}; got {names!r}.")
    return tuple(dict.fromkeys(names))


def _write_depth(
    path: Path, refined: RefinedDepth, scale: float | None, provenance: Mapping[str, object]
) -> list[Path]:
    write_depth(path, refined.depth, scale=scale, provenance=provenance)
    return [path, sidecar_path(path)]


def _coarse(depth: DepthMap, png: Path) -> list[str]:
    """A note if a few values far off left the others less than 8 bits of the 16."""
    values = depth.values[depth.usable]
    if not values.size:
        return []
    low, high = np.percentile(values[:: values.size // _SAMPLED + 1], (1, 99))
    steps = round((high - low) / json.loads(sidecar_path(png).read_text("utf-8"))["scale"])
    if low == high or steps >= 256:
        return []
    return [f"depth.png has only {steps} steps over the middle 98 % of the values: use depth.exr."]


def _write_layers(refined: RefinedDepth, folder: Path) -> list[Path]:
    write_layers_exr(folder / "layers.exr", refined)
    return [folder / "layers.exr"]


def _write_npz(refined: RefinedDepth, folder: Path) -> list[Path]:
    write_layers_npz(folder / "layers.npz", refined)
    return [folder / "layers.npz"]


def _write_masks(refined: RefinedDepth, folder: Path) -> list[Path]:
    paths = [folder / f"mask_{k}.png" for k in range(len(refined.masks))]
    for path, mask in zip(paths, refined.masks.values, strict=True):
        stored = mask if mask.dtype.kind == "u" else np.rint(mask * 65535).astype(np.uint16)
        write_image(path, stored)
    return paths


def _write_confidence(refined: RefinedDepth, folder: Path) -> list[Path]:
    path = folder / "confidence.png"
    write_image(path, np.rint(refined.confidence * 255).astype(np.uint8))
    return [path]


def _write_preview(refined: RefinedDepth, folder: Path) -> list[Path]:
    write_image(folder / "preview.png", preview(refined))
    return [folder / "preview.png"]


_WRITERS: dict[str, Callable[[RefinedDepth, Path], list[Path]]] = {
    "layers": _write_layers,
    "npz": _write_npz,
    "masks": _write_masks,
    "confidence": _write_confidence,
    "preview": _write_preview,
}
