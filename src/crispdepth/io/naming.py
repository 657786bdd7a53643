"""Naming conventions: which of many files goes with a photo, by its name alone."""

import math
import os
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

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

    def named_like(self, file: Path) -> str:
        """The name with the suffix of a file that was found: `stem.png`, not `stem.exr`."""
        return os.path.splitext(self.name)[0] + file.suffix if "*" in self.pattern else self.name


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


class Claim(NamedTuple):
    """Files that a rule finds for a photo."""

    agreement: float  # in how many folders the two paths agree; infinite: in all
    files: tuple[Path, ...]


class Index:
    """Files by the relative paths and patterns under which a rule would look for them."""

    def __init__(self, listing: Iterable[tuple[str, Path]], suffixes: Sequence[str]) -> None:
        """(normalised relative path, path) of files, and the suffixes that count, best first."""
        self._rank = {suffix: rank for rank, suffix in enumerate(suffixes)}
        self._files: dict[str, list[tuple[str, Path]]] = defaultdict(list)
        self._longer: dict[str, list[str]] = defaultdict(list)  # a path -> paths that end in it
        for relative, path in listing:
            if path.suffix.lower() in self._rank:
                for key in patterns(relative):
                    self._files[key].append((relative, path))
        for key in self._files:
            for tail in _tails(key):
                self._longer[tail].append(key)

    def find(self, key: str, least: int, given: Collection[Path]) -> list[Claim]:
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
        claims = (Claim(agreement, self._best(key, given)) for key in found)
        return [claim for claim in claims if claim.files]

    def _best(self, key: str, given: Collection[Path]) -> tuple[Path, ...]:
        """The files at ``key``: one for each name, the one with the preferred suffix."""
        best: dict[str, Path] = {}
        ranked = sorted(self._files[key], key=lambda file: self._rank[file[1].suffix.lower()])
        for relative, path in ranked:
            if path not in given:
                best.setdefault(os.path.splitext(relative)[0], path)
        return tuple(path for _, path in sorted(best.items()))


def assign(
    rules: Sequence[Rule], keys: Mapping[Path, str], index: Index, doubts: dict[Path, str]
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
    index: Index,
    given: Collection[Path],
    doubts: dict[Path, str],
) -> dict[Path, tuple[Path, ...]]:
    """The files that a rule finds for each photo, where it leaves no doubt."""
    rivals: dict[tuple[Path, ...], list[tuple[float, Path]]] = defaultdict(list)
    for photo, key in keys.items():
        folder, slash, name = key.rpartition("/")
        hits = index.find(folder + slash + expected(rule, name), rule.pattern.count("/"), given)
        if len(hits) > 1:
            fitting = some(str(file) for hit in hits for file in hit.files)
            convention = rule.named_like(hits[0].files[0])
            doubts[photo] = (
                f"Several files fit the photo {photo} by rule {convention}: {fitting}. "
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
            f"{some(map(str, files))} fits several photos: {some(map(str, nearest))}. Put it "
            f"into the sub-folder of its photo, or call it like {nearest[0].name}{files[0].suffix}."
        )
        if len({os.path.splitext(photo)[0] for photo in nearest}) == 1:
            message += (
                " If one of these is no photo but a mask or depth, put it into a folder called "
                "masks or depth."
            )
        doubts.update(dict.fromkeys(nearest, message))
    return claims


def patterns(relative: str) -> Iterator[str]:
    """The keys under which a rule finds a file: itself, any suffix, any label and suffix."""
    stem = os.path.splitext(relative)[0]
    yield relative
    yield f"{stem}.*"
    base, dot, label = stem.rpartition(".")
    if dot and "/" not in label and label.lower() not in _NOT_LABELS:
        yield f"{base}.{{label}}.*"


def expected(rule: Rule, name: str) -> str:
    """The pattern of a rule for the photo of that name, ``{label}`` and ``.*`` left open."""
    stem = os.path.splitext(name)[0]
    return rule.pattern.format(name=name, stem=stem, label="{label}")


def _tails(key: str) -> Iterator[str]:
    """The paths that a path ends in, longest first, without itself."""
    while "/" in key:
        key = key.partition("/")[2]
        yield key


def normal(path: str) -> str:
    """A path with forward slashes, composed: macOS may list an accent as a letter of its own."""
    return unicodedata.normalize("NFC", path.replace(os.sep, "/"))


def some(names: Iterable[str], limit: int = 5) -> str:
    """The first few names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
