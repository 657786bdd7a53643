"""Which scene format a folder holds, and the parser of each."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from crispdepth.io.naming import some
from crispdepth.io.scenes.colmap import PLACES, find_model, read_colmap
from crispdepth.io.scenes.rgbd import read_polycam, read_scannet, read_sevenscenes, read_tum
from crispdepth.io.scenes.scene_json import read_scene_json
from crispdepth.io.scenes.source import Source
from crispdepth.io.scenes.transforms import SPLITS, read_transforms

Format = Literal[
    "auto",
    "scene.json",
    "nerfstudio",
    "nerf-synthetic",
    "colmap",
    "polycam",
    "scannet",
    "sevenscenes",
    "tum",
]
"""The scene formats that are read; ``auto``: the first of them that the folder looks like."""

PHOTO_SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"))


class Kind(NamedTuple):
    """A format: what it is known by, where that is, and its parser."""

    looked_for: str
    find: Callable[[Path], Path | None]
    read: Callable[[Path, Path | None], Source]


def _file(*names: str) -> Callable[[Path], Path | None]:
    """Finds the first of these files in a folder."""
    return lambda folder: next((folder / n for n in names if (folder / n).is_file()), None)


def _parts(*patterns: str) -> Callable[[Path], Path | None]:
    """Finds a folder in which something fits each of the patterns."""

    def find(folder: Path) -> Path | None:
        return folder if all(any(folder.glob(pattern)) for pattern in patterns) else None

    return find


KINDS: Mapping[str, Kind] = {
    "scene.json": Kind("scene.json", _file("scene.json"), lambda p, _: read_scene_json(p)),
    "nerfstudio": Kind("transforms.json", _file("transforms.json"), read_transforms),
    "nerf-synthetic": Kind(
        "transforms_train.json",
        _file(*(f"transforms_{split}.json" for split in SPLITS)),
        read_transforms,
    ),
    "colmap": Kind(
        f"cameras and images, .bin or .txt, in one of {' '.join(PLACES)}",
        lambda folder: folder if find_model(folder) else None,
        read_colmap,
    ),
    "polycam": Kind(
        "keyframes/*cameras/*.json",
        _parts("keyframes/*cameras/*.json"),
        lambda p, _: read_polycam(p),
    ),
    "scannet": Kind(
        "color, pose and intrinsic/intrinsic_color.txt",
        _parts("color", "pose", "intrinsic/intrinsic_color.txt"),
        lambda p, _: read_scannet(p),
    ),
    "sevenscenes": Kind(
        "frame-*.pose.txt", _parts("frame-*.pose.txt"), lambda p, _: read_sevenscenes(p)
    ),
    "tum": Kind(
        "rgb.txt and groundtruth.txt",
        _parts("rgb.txt", "groundtruth.txt"),
        lambda p, _: read_tum(p),
    ),
}


def find_format(path: Path, format: str) -> tuple[str, Path, list[str]]:
    """The format, the file or folder that its parser takes, and notes.

    Args:
        path: a scene's folder or file.
        format: one of `Format`.

    Raises:
        FileNotFoundError: there is nothing at ``path``.
        ValueError: it fits no format, or not the one asked for.
    """
    if format != "auto" and format not in KINDS:
        raise ValueError(f"The format must be one of {get_args(Format)}, got {format!r}.")
    if not path.exists():
        raise FileNotFoundError(f"There is no scene {path}; check the path.")
    if path.is_file():
        return _of_file(path, format), path, []
    wanted = KINDS if format == "auto" else {format: KINDS[format]}
    found = {name: place for name, kind in wanted.items() if (place := kind.find(path))}
    if not found:
        looked_for = "; ".join(f"{name}: {kind.looked_for}" for name, kind in wanted.items())
        there = sorted(os.listdir(path))
        raise ValueError(
            f"{path} is no scene of a known format. Looked for: {looked_for}. It holds "
            f"{some(there) or 'nothing'}.{_hint(path)}"
        )
    name, *others = found
    notes = []
    if others:
        notes.append(f"read as {name}; --format {others[0]} would read that instead")
    return name, found[name], notes


def _of_file(path: Path, format: str) -> str:
    """The format of a file that was given itself."""
    if path.suffix.lower() != ".json":
        raise ValueError(
            f"{path} is a file; a scene is a folder, a transforms.json or a scene.json."
        )
    if format != "auto":
        return format
    if path.name == "scene.json":
        return "scene.json"
    return "nerf-synthetic" if path.stem.startswith("transforms_") else "nerfstudio"


def scenes_in(path: Path) -> list[Path]:
    """The folders in a folder that are scenes by what they hold; none if it is one itself."""

    def is_scene(folder: Path) -> bool:
        return folder.is_dir() and any(kind.find(folder) for kind in KINDS.values())

    return [] if is_scene(path) else [each for each in sorted(path.iterdir()) if is_scene(each)]


def _hint(path: Path) -> str:
    scenes = [each.name for each in scenes_in(path)]
    if scenes:
        return f" These folders in it are scenes: {some(scenes)}."
    places = [path, path / "images"]
    if any(p.suffix.lower() in PHOTO_SUFFIXES for place in places for p in place.glob("*")):
        return " For photos without cameras there is `crispdepth scene convert --sfm`."
    return ""
