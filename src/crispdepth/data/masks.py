"""Where the masks of training samples come from.

*Layered Depth Refinement with Mask Guidance*, supplement: half of the masks show objects, a fifth
sky, the others people, half of these with holes between limbs and body.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import cv2
import numpy as np

from crispdepth.data.coco import Annotation, read_annotations
from crispdepth.data.crop import MIN_SHARE, cut, large_instances, object_crop, stuff_crop
from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.figures import people
from crispdepth.data.perturb import holes
from crispdepth.data.shapes import THINGS, sky
from crispdepth.data.silhouettes import TriangleMesh, silhouettes
from crispdepth.data.strokes import Mask, Rng
from crispdepth.io.masks import read_masks
from crispdepth.io.naming import MASK_SUFFIXES

MaskKind = Literal["object", "stuff", "human"]

FILL = (0.005, 0.95)
"""Share of the patch that a mask may cover."""

HOLE_SHARE = 2e-4
"""A hole counts from this share of the patch."""

TRIES = 200
"""So many masks in a row may be unusable before a source gives up."""


class DrawnMask(NamedTuple):
    """A mask and what it shows."""

    values: Mask  # (s, s) of 0 and 1, neither empty nor full
    kind: MaskKind


class MaskSource(Protocol):
    """Draws masks at random."""

    def draw(self, rng: Rng, size: int) -> DrawnMask:
        """A mask of (size, size) pixels, decided by ``rng`` alone."""
        ...


class _Candidates(ABC):
    """A source that flips its masks at random and passes over those that are no use."""

    kind: MaskKind

    @abstractmethod
    def candidate(self, rng: Rng, size: int) -> Mask | None:
        """A mask (size, size), whatever it covers, or None if there happened to be none."""

    def draw(self, rng: Rng, size: int) -> DrawnMask:
        """See `MaskSource`.

        Raises:
            ValueError: no mask of the source has a useful size.
        """
        for _ in range(TRIES):
            mask = self.candidate(rng, size)
            if mask is not None and FILL[0] <= mask.mean() <= FILL[1]:
                flipped = mask[:, ::-1] if rng.integers(2) else mask
                return DrawnMask(np.ascontiguousarray(flipped), self.kind)
        raise ValueError(
            f"None of {TRIES} masks from {self} could be used: they must cover {MIN_SHARE:.0%} of "
            f"their image, and {FILL[0]:.1%} to {FILL[1]:.0%} of a patch. Are they masks?"
        )


@dataclass(frozen=True)
class DrawnShapes(_Candidates):
    """Masks from drawing functions, each as likely as the others."""

    functions: tuple[Callable[[Rng, int], Mask], ...]
    kind: MaskKind

    def candidate(self, rng: Rng, size: int) -> Mask:
        """One drawing."""
        return self.functions[int(rng.integers(len(self.functions)))](rng, size)


@dataclass(frozen=True, eq=False)
class InstanceMasks(_Candidates):
    """The large instances of RGB-D frames; frames without an instance map are passed over.

    Raises:
        ValueError: there is no frame.
    """

    frames: Sequence[RgbdFrame] = field(repr=False)
    kind: MaskKind = "object"

    def __post_init__(self) -> None:
        _require(self.frames, "frame")

    def candidate(self, rng: Rng, size: int) -> Mask | None:
        """An adaptive crop of one instance."""
        instances = self.frames[int(rng.integers(len(self.frames)))].instances
        labels = () if instances is None else large_instances(instances)
        if instances is None or not len(labels):
            return None
        mask = (instances == rng.choice(labels)).view(np.uint8)
        return cropped(mask, self.kind, rng, size)


@dataclass(frozen=True, eq=False)
class SilhouetteMasks(_Candidates):
    """Masks that are kept in memory, (h, w) of 0 and 1 each; `of_meshes` makes them.

    Raises:
        ValueError: there is no mask.
    """

    masks: Sequence[Mask] = field(repr=False)
    kind: MaskKind = "object"

    def __post_init__(self) -> None:
        _require(self.masks, "mask")

    @classmethod
    def of_meshes(
        cls, meshes: Sequence[TriangleMesh], rng: Rng, *, views: int = 24, size: int = 256
    ) -> "SilhouetteMasks":
        """Every mesh from ``views`` random sides, drawn once, ``size`` pixels large."""
        return cls(silhouettes(meshes, views, size, rng))

    def candidate(self, rng: Rng, size: int) -> Mask | None:
        """An adaptive crop of one mask."""
        mask = self.masks[int(rng.integers(len(self.masks)))]
        return cropped(mask, self.kind, rng, size)


@dataclass(frozen=True)
class FolderMasks(_Candidates):
    """The mask pictures in a folder and its subfolders, read when drawn.

    Everything that `crispdepth.io.masks.read_masks` reads; soft masks are cut at one half.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: there is no mask file in it.
    """

    folder: Path
    kind: MaskKind

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise FileNotFoundError(f"There is no mask folder {self.folder}.")
        _require(self._files, f"mask file ({', '.join(MASK_SUFFIXES)}) in {self.folder}")

    @cached_property
    def _files(self) -> tuple[Path, ...]:
        files = sorted(self.folder.rglob("*"))
        return tuple(file for file in files if file.suffix.lower() in MASK_SUFFIXES)

    def candidate(self, rng: Rng, size: int) -> Mask | None:
        """A crop of one mask of one file."""
        file = self._files[int(rng.integers(len(self._files)))]
        masks = read_masks([file], min_share=MIN_SHARE).masks
        if not len(masks):
            return None
        chosen = masks[int(rng.integers(len(masks)))] >= 0.5
        return cropped(chosen.view(np.uint8), self.kind, rng, size)


@dataclass(frozen=True)
class CocoMasks(_Candidates):
    """The masks of one kind in a COCO annotation file.

    People are the category ``person``, stuff is ``sky`` and its kinds, all others are objects.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no COCO file, or has no mask of this kind.
    """

    path: Path
    kind: MaskKind

    def __post_init__(self) -> None:
        _require(self._annotations, f"annotation of kind {self.kind} in {self.path}")

    @cached_property
    def _annotations(self) -> tuple[Annotation, ...]:
        found = read_annotations(self.path)
        return tuple(a for a in found if _coco_kind(a.category) == self.kind)

    def candidate(self, rng: Rng, size: int) -> Mask | None:
        """A crop of one instance."""
        mask = self._annotations[int(rng.integers(len(self._annotations)))].mask()
        return cropped(mask, self.kind, rng, size)


THINGS_DRAWN = DrawnShapes(THINGS, "object")
SKY_DRAWN = DrawnShapes((sky,), "stuff")
PEOPLE_DRAWN = DrawnShapes((people,), "human")


@dataclass(frozen=True)
class MixedMasks:
    """The mixture of the paper, over any sources; without arguments all of it is drawn.

    The sources of a kind are equally likely. A person is drawn again until it has holes, or has
    its holes closed.

    Raises:
        ValueError: a kind has no source.
    """

    objects: tuple[MaskSource, ...] = (THINGS_DRAWN,)
    stuff: tuple[MaskSource, ...] = (SKY_DRAWN,)
    humans: tuple[MaskSource, ...] = (PEOPLE_DRAWN,)
    shares: tuple[float, float, float] = (0.5, 0.2, 0.3)  # of objects, stuff and humans
    holed: float = 0.5  # share of the humans that have holes

    def __post_init__(self) -> None:
        for name in ("objects", "stuff", "humans"):
            _require(getattr(self, name), f"mask source for {name}")

    def draw(self, rng: Rng, size: int) -> DrawnMask:
        """See `MaskSource`."""
        chosen = int(rng.choice(3, p=self.shares))
        sources = (self.objects, self.stuff, self.humans)[chosen]
        source = sources[int(rng.integers(len(sources)))]
        if chosen < 2:
            return source.draw(rng, size)
        if rng.random() >= self.holed:
            return _closed(source.draw(rng, size))
        for _ in range(TRIES):
            drawn = source.draw(rng, size)
            if any(hole.mean() >= HOLE_SHARE for hole in holes(drawn.values)):
                return drawn
        raise ValueError(
            f"None of {TRIES} people from {source} has a hole; pass holed=0, or another source "
            "of humans."
        )


def cropped(mask: Mask, kind: MaskKind, rng: Rng, size: int) -> Mask | None:
    """A random crop (size, size) of a mask by the rules of A.4.4; None if it shows too little."""
    if mask.mean() < MIN_SHARE:
        return None
    crop = stuff_crop(mask.shape, rng) if kind == "stuff" else object_crop(mask, size, rng)
    return cut(mask, crop, size, cv2.INTER_NEAREST_EXACT)


def _closed(drawn: DrawnMask) -> DrawnMask:
    contours, _ = cv2.findContours(drawn.values, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros_like(drawn.values), contours, -1, 1, cv2.FILLED)
    return DrawnMask(np.asarray(filled, np.uint8), drawn.kind)


def _coco_kind(category: str) -> MaskKind:
    if category == "person":
        return "human"
    return "stuff" if category.split("-")[0] == "sky" else "object"


def _require(parts: Sequence[object], what: str) -> None:
    if not len(parts):
        raise ValueError(f"There is no {what} to draw masks from.")
