"""Which photos a command line means, and the name each one's result goes by."""

import fnmatch
import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

PHOTO_SUFFIXES = frozenset(
    (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
)  # what a folder or pattern is searched for; a file named outright may be called anything
COMPANION_FOLDERS = frozenset(("depth", "depths", "masks", "masks_2"))  # where masks are found
PROJECT_PHOTOS = "images"  # where COLMAP, nerfstudio and others keep the photos of a project
WILDCARDS = frozenset("*?[")

# What this program itself writes into a result folder, or into the folder of one photo.
OWN_NAMES = re.compile(
    r"(config\.json|(manifest|summary)(\..*)?\.jsonl?|depth\.(exr|npy|pfm|png)(\.json)?"
    r"|layers\.(exr|npz)|mask_\d+\.png|(confidence|preview)\.png)_*",
    re.IGNORECASE,
)


class Photos(NamedTuple):
    """The photos asked for, sorted and each once, and the folder they all lie under."""

    root: Path
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()  # sentences on what was taken for the photos


def find_photos(words: Sequence[str], avoid: Iterable[Path] = ()) -> Photos:
    """The photos meant by files, folders, patterns and ``.txt`` lists of paths.

    Args:
        words: at least one; list files hold one path per line, relative to the list; blank
            lines and lines that start with ``#`` are skipped.
        avoid: folders that are not entered when they lie inside a folder that is searched.

    Raises:
        FileNotFoundError: a word is neither a file nor a folder, or nothing matches a pattern.
        OSError: a folder or list cannot be read.
        ValueError: there is no photo at all.
    """
    skipped = {absolute_path(folder) for folder in avoid}
    found = [_expand(word, skipped) for word in words]
    files = sorted({file for photos in found for file in photos.files})
    if not files:
        raise ValueError(
            f"No photo in {', '.join(words)}: looked for names ending in "
            f"{', '.join(sorted(PHOTO_SUFFIXES))}."
        )
    root = Path(os.path.commonpath([photos.root for photos in found]))
    return Photos(root, tuple(files), tuple(note for photos in found for note in photos.notes))


def result_names(photos: Photos) -> dict[Path, str]:
    """A distinct name for every photo: its path under the root, without the suffix.

    Photos whose names would be the same (``a.jpg`` and ``a.png``) keep their suffixes. Names
    that differ only by case count as the same: some file systems take them so. A part of a name
    that is one of the `OWN_NAMES` gets an underscore, so that no folder is in a file's place.
    """
    paths = {file: file.relative_to(photos.root) for file in photos.files}
    full = {file: _without_own_names(path) for file, path in paths.items()}
    names = {file: _without_own_names(path.with_suffix("")) for file, path in paths.items()}
    while True:  # a full name may be another photo's short one: `a.png.jpg` beside `a.png`
        count = Counter(name.casefold() for name in names.values())
        clashing = [
            file
            for file, name in names.items()
            if count[name.casefold()] > 1 and name != full[file]
        ]
        if not clashing:
            return names
        names.update((file, full[file]) for file in clashing)


def _without_own_names(path: Path) -> str:
    """The path with forward slashes; different paths stay different."""
    return "/".join(part + "_" * bool(OWN_NAMES.fullmatch(part)) for part in path.parts)


def photo_folder(folder: Path) -> Path:
    """The folder itself, or its ``images`` if it has no photos of its own: a project's folder."""
    images = folder / PROJECT_PHOTOS
    has_photos = any(_is_photo(path) and path.is_file() for path in folder.iterdir())
    return images if images.is_dir() and not has_photos else folder


def absolute_path(path: str | Path) -> Path:
    """Absolute without `..`, symbolic links kept: the names are the user's."""
    return Path(os.path.abspath(path))


def _expand(word: str, skipped: set[Path]) -> Photos:
    path = absolute_path(word)
    if path.is_dir():
        folder = photo_folder(path)
        note = f"the photos are those in {folder}, the project folder {path} has none of its own"
        return Photos(folder, tuple(_walk(folder, skipped)), (note,) if folder != path else ())
    if path.suffix.lower() == ".txt" and path.is_file():
        return _read_list(path)
    if path.is_file():
        return Photos(path.parent, (path,))
    if not WILDCARDS & set(word):
        raise FileNotFoundError(f"There is no photo, folder or list named {word!r}.")
    return _match(word, skipped)


def _match(pattern: str, skipped: set[Path]) -> Photos:
    parents = Path(pattern).parents
    fixed = absolute_path(next(parent for parent in parents if not WILDCARDS & set(str(parent))))
    inside = {folder for folder in skipped if folder != fixed and folder.is_relative_to(fixed)}
    matches = [absolute_path(match) for match in glob.iglob(pattern, recursive=True)]
    files = tuple(
        match
        for match in matches
        if _is_photo(match) and match.is_file() and inside.isdisjoint(match.parents)
    )
    if not files:
        raise FileNotFoundError(f"No photo matches the pattern {pattern!r}.")
    return Photos(fixed, files)


def _walk(folder: Path, skipped: set[Path]) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise error

    for place, subfolders, names in os.walk(folder, onerror=fail):
        if Path(place) != folder and fnmatch.filter(names, "manifest*.jsonl"):
            subfolders.clear()  # the results of an earlier run are not photos
            continue
        subfolders[:] = [
            name
            for name in subfolders
            if not name.startswith(".")
            and name not in COMPANION_FOLDERS
            and Path(place, name) not in skipped
        ]
        yield from (Path(place, name) for name in names if _is_photo(Path(name)))


def _is_photo(path: Path) -> bool:
    return path.suffix.lower() in PHOTO_SUFFIXES and not path.name.startswith(".")


def _read_list(path: Path) -> Photos:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise ValueError(f"{path} must be UTF-8 text with one path per line.") from None
    named = [line for line in lines if line and not line.startswith("#")]
    files = tuple(absolute_path(path.parent / line) for line in named)
    if all(file.is_relative_to(path.parent) for file in files):
        return Photos(path.parent, files)
    return Photos(Path(os.path.commonpath([file.parent for file in files])), files)
