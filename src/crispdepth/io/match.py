"""Which mask or depth file belongs to which photo, and where to look for it.

Only names are looked at, never the content of a picture. A photo goes by its path relative to
``photo_root``. A file fits when a rule gives the file its name and the folders agree as far as
both go: for the photo ``cam0/1.jpg``, ``cam0/1.png`` before ``1.png``, and the latter only if no
other photo is called 1.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple, NoReturn

from crispdepth.io.naming import (
    DEPTH_RULES,
    DEPTH_SUFFIXES,
    GIVEN_FILE,
    MASK_RULES,
    MASK_SUFFIXES,
    ONE_MASK,
    TRANSFORMS,
    Index,
    Rule,
    assign,
    expected,
    normal,
    patterns,
    some,
)


@dataclass(frozen=True)
class Matches:
    """The files of each photo, and the rule that found them."""

    files: Mapping[Path, tuple[Path, ...]]  # photos without a match are absent
    rules: Mapping[Path, Rule]
    unmatched: tuple[Path, ...] = ()

    def report(self) -> str:
        """One line for each rule that was used, and one for the photos without a match."""
        total = len(self.files) + len(self.unmatched)
        used = Counter(
            rule.named_like(self.files[photo][0])
            + (" (white = ignore)" if rule.white == "ignore" else "")
            for photo, rule in self.rules.items()
        )
        lines = [f"{n}/{total} photos matched by rule {name}" for name, n in used.most_common()]
        if self.unmatched:
            photos = (*self.files, *self.unmatched)
            root = os.path.commonpath([os.path.abspath(photo.parent) for photo in photos])
            names = some(os.path.relpath(photo, root) for photo in self.unmatched)
            lines.append(f"{len(self.unmatched)}/{total} photos without a match: {names}")
        return "\n".join(lines)


def match_masks(photos: Sequence[Path], photo_root: Path, where: Path | None) -> Matches:
    """The mask files of each photo.

    A rule that explains all photos is used alone; otherwise the rule that explains most of them
    comes first and the others fill in.

    Args:
        photos: The photos, all below ``photo_root``. None of them is ever taken for a mask.
        photo_root: The folder whose tree the tree of masks mirrors.
        where: A folder of masks, searched with its sub-folders; or one mask file; or a nerfstudio
            ``transforms.json``. None: a ``transforms.json`` or a ``masks`` folder in or beside
            ``photo_root``, then files beside each photo whose names say that they are masks.

    Raises:
        FileNotFoundError: ``where`` does not exist, or nothing matches.
        ValueError: a file fits several photos or several files fit a photo, and their names do
            not say which is meant; a photo is not below ``photo_root``; or ``transforms.json``
            is broken or names a file that is not there.
    """
    if where is not None and where.is_file() and where.suffix.lower() != ".json":
        rule = ONE_MASK if len(photos) > 1 else _rule_of_file(where, photos)
        return Matches(dict.fromkeys(photos, (where,)), dict.fromkeys(photos, rule))
    return _match(photos, photo_root, where, _MASKS)


def match_depths(photos: Sequence[Path], photo_root: Path, where: Path | None) -> Matches:
    """The depth file of each photo: `match_masks` with depth for mask.

    Raises:
        ValueError: also when ``where`` is one depth file for several photos.
    """
    if where is not None and where.is_file() and where.suffix.lower() != ".json":
        if len(photos) > 1:
            raise ValueError(
                f"{where} is one depth file, but there are {len(photos)} photos; "
                "give the folder that holds a depth file for each of them."
            )
        return Matches(dict.fromkeys(photos, (where,)), dict.fromkeys(photos, GIVEN_FILE))
    return _match(photos, photo_root, where, _DEPTHS)


def without_companions(photos: Sequence[Path]) -> list[Path]:
    """The photos of the list that are not, by their name, the mask or depth of another one.

    For listing a folder in which masks lie beside the photos: ``1.jpg``, ``1_mask.png`` and
    ``1.depth.png`` are one photo.
    """
    companions = {
        os.path.join(photo.parent, expected(rule, photo.name))
        for photo in photos
        for rule in MASK_RULES + DEPTH_RULES
        if rule.marked
    }
    return [photo for photo in photos if os.path.splitext(photo)[0] + ".*" not in companions]


class _Convention(NamedTuple):
    """What differs between looking for masks and looking for depths."""

    what: str
    rules: tuple[Rule, ...]
    suffixes: tuple[str, ...]
    folders: tuple[str, ...]  # where to look without being told, in or beside the photo root
    frame_key: str  # where transforms.json names the file


_MASKS = _Convention("mask", MASK_RULES, MASK_SUFFIXES, ("masks", "masks_2"), "mask_path")
_DEPTHS = _Convention("depth", DEPTH_RULES, DEPTH_SUFFIXES, ("depth", "depths"), "depth_file_path")


def _match(
    photos: Sequence[Path], photo_root: Path, where: Path | None, convention: _Convention
) -> Matches:
    """Ask ``transforms.json``, then folders of such files, then the folders of the photos."""
    if where is not None and not where.exists():
        raise FileNotFoundError(
            f"{where} does not exist; expected a {convention.what} file or a folder of them."
        )
    keys = _photo_keys(photos, photo_root)
    folders, transforms = _places(photo_root, where, convention)
    files: dict[Path, tuple[Path, ...]] = {}
    for path in transforms:
        files.update(_from_transforms(path, photos, convention.frame_key))
    rules = dict.fromkeys(files, TRANSFORMS)

    sources = [(convention.rules, _list_tree(folder)) for folder in folders]
    if where is None:
        marked = tuple(rule for rule in convention.rules if rule.marked)
        sources.append((marked, _list_beside(photos, photo_root)))
    doubts: dict[Path, str] = {}
    own = {os.path.abspath(photo) for photo in photos}
    for candidates, listing in sources:
        others = ((key, path) for key, path in listing if os.path.abspath(path) not in own)
        left = {photo: key for photo, key in keys.items() if photo not in files}
        found = assign(candidates, left, Index(others, convention.suffixes), doubts)
        files.update({photo: claimed for photo, (_, claimed) in found.items()})
        rules.update({photo: rule for photo, (rule, _) in found.items()})

    unmatched = tuple(photo for photo in photos if photo not in files)
    for photo in unmatched:
        if photo in doubts:
            raise ValueError(doubts[photo])
    if photos and not files:
        raise FileNotFoundError(_no_match(photos, folders or [photo_root], convention))
    return Matches(files, rules, unmatched)


def _photo_keys(photos: Sequence[Path], photo_root: Path) -> dict[Path, str]:
    """The path of each photo relative to the root, normalised."""
    root = os.path.join(os.path.abspath(photo_root), "")
    keys = {}
    for photo in photos:
        path = os.path.abspath(photo)
        if not path.startswith(root):
            raise ValueError(f"{photo} is not below {photo_root}; give a folder that holds it.")
        keys[photo] = normal(path[len(root) :])
    return keys


def _places(
    photo_root: Path, where: Path | None, convention: _Convention
) -> tuple[list[Path], list[Path]]:
    """The folders to search, and the ``transforms.json`` files to read."""
    if where is not None and where.is_file():
        return [], [where]
    if where is not None:
        bases, folders = [where], [where]
    else:
        root = Path(os.path.abspath(photo_root))
        bases, names = [root, root.parent], convention.folders
        if root.name.startswith("images_"):  # nerfstudio: images_4/ goes with masks_4/
            names = (root.name.replace("images", convention.folders[0]), *names)
        folders = [base / name for base in bases for name in names if (base / name).is_dir()]
    return folders, [path for base in bases if (path := base / "transforms.json").is_file()]


def _from_transforms(
    path: Path, photos: Sequence[Path], frame_key: str
) -> dict[Path, tuple[Path, ...]]:
    """The files that a nerfstudio ``transforms.json`` names for the photos."""
    try:
        frames = {
            normal(os.path.abspath(path.parent / frame["file_path"])): path.parent / file
            for frame in json.loads(path.read_text("utf-8"))["frames"]
            if (file := frame.get(frame_key))
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is not a transforms.json with a list of frames ({error!r}); "
            "repair it, or give the folder of files instead."
        ) from error
    files: dict[Path, tuple[Path, ...]] = {}
    for photo in photos:
        key = normal(os.path.abspath(photo))
        file = frames.get(key) or frames.get(os.path.splitext(key)[0])  # Blender omits suffixes
        if file is not None and not file.is_file():
            raise ValueError(
                f"{path} names {file} for {photo.name}, but there is no such file; "
                "restore it, or give the folder of files instead."
            )
        if file is not None:
            files[photo] = (file,)
    return files


def _list_tree(folder: Path) -> Iterator[tuple[str, Path]]:
    """(normalised relative path, path) of the files below a folder, hidden ones left out."""

    def fail(error: OSError) -> NoReturn:
        raise error

    for parent, subfolders, names in os.walk(folder, onerror=fail):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        relative = os.path.relpath(parent, folder)
        for name in names:
            if not name.startswith("."):
                yield normal(os.path.normpath(os.path.join(relative, name))), Path(parent, name)


def _list_beside(photos: Sequence[Path], photo_root: Path) -> Iterator[tuple[str, Path]]:
    """(normalised relative path, path) of the files in the folders of the photos."""
    for folder in dict.fromkeys(photo.parent for photo in photos):
        relative = os.path.relpath(folder, photo_root)
        names: list[str] = []
        # A photo in a folder that is not there, or is closed, says so itself when it is read.
        with suppress(OSError), os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_file()]
        for name in names:
            yield normal(os.path.normpath(os.path.join(relative, name))), folder / name


def _rule_of_file(file: Path, photos: Sequence[Path]) -> Rule:
    """The rule, and so the polarity, that the name of a mask follows that was given for a photo."""
    name = normal(file.name)
    fitting = set(patterns(name))
    for rule in MASK_RULES:
        for photo in photos:
            if expected(rule, normal(photo.name)).rpartition("/")[2] in fitting:
                return rule
    # Whatever photo it was made for, such a name says what white means.
    said = (r for r in MASK_RULES if r.white == "ignore" and fnmatch(name, expected(r, "*")))
    return next(said, GIVEN_FILE)


def _no_match(photos: Sequence[Path], folders: Sequence[Path], convention: _Convention) -> str:
    """The error text: what was looked for, and what is there instead."""
    tried = [
        expected(rule, photos[0].name).replace(".*", convention.suffixes[0])
        for rule in convention.rules
    ]
    there = "; ".join(
        f"{folder} holds {some(sorted(os.listdir(folder))) or 'nothing'}"
        for folder in folders
        if folder.is_dir()
    )
    return (
        f"No {convention.what} matches any of the {len(photos)} photos. For {photos[0].name} "
        f"the names tried are {', '.join(tried)} (or another suffix of "
        f"{' '.join(convention.suffixes)}). {there}. "
        f"Rename the {convention.what} files, or give the folder they are in."
    )
