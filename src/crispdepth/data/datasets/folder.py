"""A plain folder: ``images/``, ``depth/`` and, if there are any, ``instances/`` or ``masks/``.

Depth and mask files belong to photos by their names (`crispdepth.io.match`). What the numbers of a
depth file mean is said by its sidecar or follows from `crispdepth.io.depths`; it must come to
depth, or to inverse depth in 1/m. ``instances/`` holds one-channel pictures of ids, ``masks/`` any
mask files, each mask being an instance.
"""

from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.datasets.files import (
    LazyFrames,
    find_files,
    read_ids,
    read_photo,
    require_folder,
)
from crispdepth.io.depths import read_depth
from crispdepth.io.images import is_picture
from crispdepth.io.masks import read_masks
from crispdepth.io.match import Matches, match_depths, match_masks
from crispdepth.types import DepthMap, MaskSet


class _Files(NamedTuple):
    name: str
    photo: Path
    depth: Path
    ids: Path | None
    masks: tuple[Path, ...]


def open_folder(root: str | Path) -> Sequence[RgbdFrame]:
    """The photos below ``root/images``, by their relative paths; each needs a depth file.

    Of overlapping masks the later one's id counts. A photo without ids and masks has no instances.

    Raises:
        FileNotFoundError: a folder does not exist, there are no photos, or one has no depth.
        ValueError: names leave in doubt which file belongs to which photo.
    """
    root = require_folder(root)
    images = (root / "images").resolve()
    if not (images.is_dir() and (root / "depth").is_dir()):
        there = ", ".join(sorted(path.name for path in root.iterdir())) or "nothing"
        raise FileNotFoundError(
            f"{root} should hold a folder images and a folder depth, and may hold instances or "
            f"masks; it holds {there}."
        )
    photos = [path for path in find_files(images, "**/*", "folder") if _is_photo(path)]
    if not photos:
        raise FileNotFoundError(f"There is no photo in {images}.")
    depths = match_depths(photos, images, root / "depth")
    if depths.unmatched:
        raise FileNotFoundError(
            f"{len(depths.unmatched)} of {len(photos)} photos have no depth in {root / 'depth'}, "
            f"{depths.unmatched[0].name} is the first; add their depth or remove the photos."
        )
    ids, masks = (_optional(photos, images, root / name) for name in ("instances", "masks"))
    keys = (
        _Files(
            name=photo.relative_to(images).with_suffix("").as_posix(),
            photo=photo,
            depth=depths.files[photo][0],
            ids=next(iter(ids.files.get(photo, ())), None),
            masks=masks.files.get(photo, ()),
        )
        for photo in photos
    )
    return LazyFrames(tuple(keys), _read, attrgetter("name"))


def _is_photo(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return is_picture(file.read(16))


def _optional(photos: Sequence[Path], images: Path, where: Path) -> Matches:
    return match_masks(photos, images, where) if where.is_dir() else Matches({}, {})


def _read(files: _Files) -> RgbdFrame:
    depth = _z_depth(files.depth)
    instances = None
    if files.ids is not None:
        instances = read_ids(files.ids)
    elif files.masks:
        instances = _painted(read_masks(files.masks).masks)
    return RgbdFrame(files.name, read_photo(files.photo), depth, instances)


def _z_depth(path: Path) -> DepthMap:
    depth, stated = read_depth(path)
    if depth.kind == "depth":
        return depth
    if depth.unit == "relative":
        raise ValueError(
            f"{path} was taken for {stated}. That is no true depth: its scale and shift are "
            f'unknown. If it is, say so in {path.name}.json: {{"kind": "depth", "unit": "m"}}.'
        )
    valid = depth.usable & (depth.values > 0)
    with np.errstate(over="ignore"):  # DepthMap marks what overflows invalid
        z = np.divide(np.float32(1), depth.values, out=np.zeros_like(depth.values), where=valid)
    return DepthMap(z, "depth", "m", valid, depth.camera)


def _painted(masks: MaskSet) -> NDArray[np.int32]:
    """Ids 1, 2, ... (h, w) where the masks cover at least half of a pixel, one over the other."""
    ids = np.zeros(masks.size, np.int32)
    for index in range(len(masks)):
        ids[masks[index] >= 0.5] = index + 1
    return ids
