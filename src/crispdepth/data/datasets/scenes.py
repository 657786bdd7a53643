"""Scenes of posed photos in any format that is reconstructed from, as frames.

nerfstudio's and NeRF's ``transforms.json``, COLMAP, ScanNet, Polycam, TUM RGB-D, ...: see
`crispdepth.io.scenes`. Masks and alpha come along; depth where the source has it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.datasets.files import LazyFrames, require_folder
from crispdepth.io.naming import some
from crispdepth.io.scenes.formats import KINDS
from crispdepth.io.scenes.read import read_scene
from crispdepth.ops.images import eight_bit
from crispdepth.ops.mask_contract import evidence
from crispdepth.types import DepthMap, Scene


class _Place(NamedTuple):
    """A view of a scene."""

    scene: Scene
    folder: str
    number: int


def open_scenes(root: str | Path) -> Sequence[RgbdFrame]:
    """The frames of a scene folder, or of all scene folders directly inside ``root``.

    Raises:
        FileNotFoundError: the folder, or a photo that a scene names, does not exist.
        ValueError: there is no scene, or one is malformed.
    """
    folder = require_folder(root)
    places = [folder] if _is_scene(folder) else [*filter(_is_scene, sorted(folder.iterdir()))]
    if not places:
        looked_for = "; ".join(f"{name}: {kind.looked_for}" for name, kind in KINDS.items())
        raise ValueError(
            f"{folder} is no scene of posed photos, and holds none. Looked for: {looked_for}. "
            f"It holds {some([path.name for path in sorted(folder.iterdir())]) or 'nothing'}."
        )
    scenes = [(read_scene(place), place.name) for place in places]
    keys = (_Place(scene, name, i) for scene, name in scenes for i in range(len(scene)))
    return LazyFrames(tuple(keys), _read, _name)


def _is_scene(folder: Path) -> bool:
    return folder.is_dir() and any(kind.find(folder) for kind in KINDS.values())


def _name(place: _Place) -> str:
    return f"{place.folder}/{Path(place.scene.names[place.number]).with_suffix('')}".replace(
        "\\", "/"
    )


def _read(place: _Place) -> RgbdFrame:
    view = place.scene[place.number]
    camera = place.scene.cameras[place.number]
    depth = view.depth
    if depth is None:
        nothing = np.zeros(camera.size, np.float32)
        depth = DepthMap(nothing, "depth", place.scene.unit, camera=camera)
    inside = evidence(view.masks, camera.size).inside
    return RgbdFrame(
        _name(place),
        eight_bit(view.image),
        DepthMap(depth.values, "depth", place.scene.unit, depth.usable, camera),
        mask=None if inside is None else np.rint(255 * inside).astype(np.uint8),
    )
