"""Which mask or depth file belongs to which photo: the one place that knows naming conventions.

Only names are looked at, never the content of a picture. A photo goes by its path relative to
``photo_root``. A file fits when a rule gives the file its name and the folders agree as far as
both go: for the photo ``cam0/1.jpg``, ``cam0/1.png`` before ``1.png``, and the latter only if no
other photo is called 1.
"""

import json
import math
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn

White = Literal["keep", "ignore"]
"""What the white (non-zero) pixels of a mask file mean."""


@dataclass(frozen=True)
class Rule:
    """A naming convention.

    ``pattern`` is the path of the file relative to the folder of its photo. ``{name}`` is the
    name of the photo, ``{stem}`` the same without suffix, ``{label}`` any word without a dot and
    ``.*`` any suffix. Files that are not found by their name have no pattern.
    """

    name: str
    pattern: str = ""
    white: White = "keep"
    marked: bool = False  # the name itself says what the file is: safe to take from beside a photo


MASK_RULES = (
    Rule("same name", "{name}"),
    Rule("name.ext.png", "{name}.*", marked=True),  # COLMAP, OpenMVS --mask-path, LichtFeld
    Rule("stem.png", "{stem}.*"),  # rembg, SAM; nerfstudio's masks/
    Rule("stem_mask.png", "{stem}_mask.*", marked=True),  # 3DGRUT, ODM
    Rule("stem.mask.png", "{stem}.mask.*", marked=True),  # OpenMVS, a label image
    Rule("dynamic_mask_stem.png", "dynamic_mask_{stem}.*", "ignore", marked=True),  # instant-ngp
    Rule("stem.<label>.png", "{stem}.{label}.*"),  # several files for one photo
)
"""Mask conventions by priority."""

DEPTH_RULES = (
    Rule("stem.exr", "{stem}.*"),
    Rule("name.ext.exr", "{name}.*"),
    Rule("name.ext.geometric.bin", "{name}.geometric.*", marked=True),  # COLMAP dense
    Rule("name.ext.photometric.bin", "{name}.photometric.*", marked=True),
    Rule("stem_depth.exr", "{stem}_depth.*", marked=True),
    Rule("stem.depth.exr", "{stem}.depth.*", marked=True),
    Rule("stem/depth.exr", "{stem}/depth.*", marked=True),  # a folder written by this program
)
"""Depth conventions by priority."""

TRANSFORMS = Rule("transforms.json")  # nerfstudio: frames[].mask_path, frames[].depth_file_path
ONE_MASK = Rule("one mask for all photos")  # COLMAP: camera_mask_path
GIVEN_FILE = Rule("the given file")

MASK_SUFFIXES = (".png", ".tif", ".tiff", ".webp", ".npy", ".npz", ".bmp", ".jpg", ".jpeg")
DEPTH_SUFFIXES = (".exr", ".npy", ".npz", ".pfm", ".tif", ".tiff", ".bin", ".png")
"""What such files may end in; of several files that fit, the one whose suffix comes first wins."""

_NOT_LABELS = {"mask", "depth", "geometric", "photometric"} | {s[1:] for s in MASK_SUFFIXES}


@dataclass(frozen=True)
class Matches:
    """The files of each photo, and the rule that found them."""

    files: Mapping[Path, tuple[Path, ...]]  # photos without a match are absent
    rules: Mapping[Path, Rule]
    unmatched: tuple[Path, ...] = ()

    def report(self) -> str:
        """One line for each rule that was used, and one for the photos without a match."""
        total = len(self.files) + len(self.unmatched)
        lines = [
            f"{count}/{total} photos matched by rule {rule.name}"
            + (" (white = ignore)" if rule.white == "ignore" else "")
            for rule, count in Counter(self.rules.values()).most_common()
        ]
        if self.unmatched:
            names = _some(photo.name for photo in self.unmatched)
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
        os.path.join(photo.parent, _expected(rule, photo.name))
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
        found = _assign(candidates, left, _Index(others, convention.suffixes), doubts)
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
        keys[photo] = _normal(path[len(root) :])
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
            _normal(os.path.abspath(path.parent / frame["file_path"])): path.parent / file
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
        key = _normal(os.path.abspath(photo))
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
                yield _normal(os.path.normpath(os.path.join(relative, name))), Path(parent, name)


def _list_beside(photos: Sequence[Path], photo_root: Path) -> Iterator[tuple[str, Path]]:
    """(normalised relative path, path) of the files in the folders of the photos."""
    for folder in dict.fromkeys(photo.parent for photo in photos):
        relative = os.path.relpath(folder, photo_root)
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_file()]
        for name in names:
            yield _normal(os.path.normpath(os.path.join(relative, name))), folder / name


class _Claim(NamedTuple):
    """Files that a rule finds for a photo."""

    agreement: float  # in how many folders the two paths agree; infinite: in all
    files: tuple[Path, ...]


class _Index:
    """Files by the relative paths and patterns under which a rule would look for them."""

    def __init__(self, listing: Iterable[tuple[str, Path]], suffixes: Sequence[str]) -> None:
        self._rank = {suffix: rank for rank, suffix in enumerate(suffixes)}
        self._files: dict[str, list[tuple[str, Path]]] = defaultdict(list)
        self._longer: dict[str, list[str]] = defaultdict(list)  # a path -> paths that end in it
        for relative, path in listing:
            if path.suffix.lower() in self._rank:
                for key in _patterns(relative):
                    self._files[key].append((relative, path))
        for key in self._files:
            for tail in _tails(key):
                self._longer[tail].append(key)

    def find(self, key: str, least: int, given: Collection[Path]) -> list[_Claim]:
        """What lies at ``key``, or else where the path agrees most, in ``least`` folders or more.

        Several claims agree equally. Files that were ``given`` away are left out.
        """
        agreement: float = math.inf
        found = [key] if key in self._files else []
        if not found:
            found, agreement = self._longer.get(key, []), key.count("/")
        if not found:
            tails = (tail for tail in _tails(key) if tail.count("/") >= least)
            found = [tail for tail in tails if tail in self._files][:1]
            agreement = found[0].count("/") if found else 0
        claims = (_Claim(agreement, self._best(key, given)) for key in found)
        return [claim for claim in claims if claim.files]

    def _best(self, key: str, given: Collection[Path]) -> tuple[Path, ...]:
        """The files at ``key``: one for each name, the one with the preferred suffix."""
        best: dict[str, Path] = {}
        ranked = sorted(self._files[key], key=lambda file: self._rank[file[1].suffix.lower()])
        for relative, path in ranked:
            if path not in given:
                best.setdefault(os.path.splitext(relative)[0], path)
        return tuple(path for _, path in sorted(best.items()))


def _assign(
    rules: Sequence[Rule], keys: Mapping[Path, str], index: _Index, doubts: dict[Path, str]
) -> dict[Path, tuple[Rule, tuple[Path, ...]]]:
    """Rule and files of each photo, by the rules that explain most; notes ``doubts`` by photo."""
    counts = {rule: len(_claims(rule, keys, index, (), {})) for rule in rules}
    found: dict[Path, tuple[Rule, tuple[Path, ...]]] = {}
    given: set[Path] = set()
    for rule in sorted(rules, key=lambda rule: -counts[rule]):  # stable: keeps the priority
        left = {photo: key for photo, key in keys.items() if photo not in found}
        for photo, files in _claims(rule, left, index, given, doubts).items():
            found[photo] = rule, files
            given.update(files)
    return found


def _claims(
    rule: Rule,
    keys: Mapping[Path, str],
    index: _Index,
    given: Collection[Path],
    doubts: dict[Path, str],
) -> dict[Path, tuple[Path, ...]]:
    """The files that a rule finds for each photo, where it leaves no doubt."""
    rivals: dict[tuple[Path, ...], list[tuple[float, Path]]] = defaultdict(list)
    for photo, key in keys.items():
        folder, slash, name = key.rpartition("/")
        hits = index.find(folder + slash + _expected(rule, name), rule.pattern.count("/"), given)
        if len(hits) > 1:
            fitting = _some(str(file) for hit in hits for file in hit.files)
            doubts[photo] = (
                f"Several files fit the photo {photo} by rule {rule.name}: {fitting}. "
                "Give the folder that holds only the ones you mean."
            )
        elif hits:
            rivals[hits[0].files].append((hits[0].agreement, photo))
    claims = {}
    for files, photos in rivals.items():
        most = max(agreement for agreement, _ in photos)
        nearest = [photo for agreement, photo in photos if agreement == most]
        if len(nearest) == 1:
            claims[nearest[0]] = files
            continue
        message = (
            f"{_some(map(str, files))} fits several photos: {_some(map(str, nearest))}. Put it "
            f"into the sub-folder of its photo, or call it like {nearest[0].name}{files[0].suffix}."
        )
        doubts.update(dict.fromkeys(nearest, message))
    return claims


def _patterns(relative: str) -> Iterator[str]:
    """The keys under which a rule finds a file: itself, any suffix, any label and suffix."""
    stem = os.path.splitext(relative)[0]
    yield relative
    yield f"{stem}.*"
    base, dot, label = stem.rpartition(".")
    if dot and "/" not in label and label.lower() not in _NOT_LABELS:
        yield f"{base}.{{label}}.*"


def _expected(rule: Rule, name: str) -> str:
    """The pattern of a rule for the photo of that name, ``{label}`` and ``.*`` left open."""
    stem = os.path.splitext(name)[0]
    return rule.pattern.format(name=name, stem=stem, label="{label}")


def _rule_of_file(file: Path, photos: Sequence[Path]) -> Rule:
    """The rule, and so the polarity, that the name of a mask follows that was given for a photo."""
    patterns = set(_patterns(_normal(file.name)))
    for rule in MASK_RULES:
        for photo in photos:
            if _expected(rule, _normal(photo.name)).rpartition("/")[2] in patterns:
                return rule
    return GIVEN_FILE


def _no_match(photos: Sequence[Path], folders: Sequence[Path], convention: _Convention) -> str:
    """The error text: what was looked for, and what is there instead."""
    tried = [
        _expected(rule, photos[0].name).replace(".*", convention.suffixes[0])
        for rule in convention.rules
    ]
    there = "; ".join(
        f"{folder} holds {_some(sorted(os.listdir(folder))) or 'nothing'}" for folder in folders
    )
    return (
        f"No {convention.what} matches any of the {len(photos)} photos. For {photos[0].name} "
        f"the names tried are {', '.join(tried)} (or another suffix of "
        f"{' '.join(convention.suffixes)}). {there}. "
        f"Rename the {convention.what} files, or give the folder they are in."
    )


def _tails(key: str) -> Iterator[str]:
    """The paths that a path ends in, longest first, without itself."""
    while "/" in key:
        key = key.partition("/")[2]
        yield key


def _normal(path: str) -> str:
    """A path with forward slashes, composed: macOS may list an accent as a letter of its own."""
    return unicodedata.normalize("NFC", path.replace(os.sep, "/"))


def _some(names: Iterable[str], limit: int = 5) -> str:
    """The first few names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
