"""Learned fusion of any number of views in a volume of any size (VolumeFusion; spec B.7).

Views are taken in one at a time. Their depths go into the block-sparse field of classical fusion,
which says where surfaces may be, what is known there and which colours it has; their features are
put aside. Then the network goes over the field tile by tile and corrects its distances: a tile has
all that the network reads of, so the answer is that of one volume about everything, but memory is
that of a tile, whatever the number of views and the size of the scene.
"""

import copy
import ctypes
import math
import sys
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crispdepth.geometry.frustum import may_see
from crispdepth.geometry.voxel_grid import VoxelGrid
from crispdepth.models.volume.features import POOLED
from crispdepth.models.volume.features import STRIDE as CELL
from crispdepth.models.volume.fusion import FusionNetwork, sight_limit
from crispdepth.models.volume.layers3d import fold_norms
from crispdepth.models.volume.network import VolumeNetwork
from crispdepth.ops.posed_conv import nearest_octahedral
from crispdepth.ops.tiles import Tile, block_values, cut_into_tiles, fewest_voxels
from crispdepth.ops.tsdf import TsdfVolume
from crispdepth.tasks.fuse import (
    GIGABYTE,
    Evidence,
    FuseConfig,
    camera_of,
    evidence_of,
    integrate_view,
    start_volume,
)
from crispdepth.tasks.hull import Hull
from crispdepth.types import Camera, Float32Map, Size, View, ViewDepth

Kept = MutableMapping[str, Mapping[str, NDArray[Any]]]
"""Arrays under names, by which work goes on where it stopped; a dict, or files."""

MASK_EDGE = 2
"""Pixels beside the edges of masks whose depths do not count, at least (spec B.8)."""

PLANES = 0.2
"""What the planes of pixels say beyond fused distances counts in full up to this, in truncations,
and not at all from twice of it: see `corrected`."""

TILE_SHARE = 0.9
"""Of the memory that is allowed for a photo, then for a tile; the rest is for the field."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_... of malloc.h
_LARGE = 1 << 21  # bytes
_EVERYTHING = 1e6  # voxels to what is behind everything, where a view sees past the object


class GatheredView(NamedTuple):
    """What is remembered of a view between the passes; its maps are put aside under its name."""

    name: str
    camera: Camera  # of the features
    far: float  # beyond this it says nothing; z-depth, 0: no tile asks it
    turn: int  # which of the 24 rotations it is nearest to


def volume_config(config: FuseConfig, network: VolumeNetwork) -> FuseConfig:
    """The choices of fusion for `gather`: what the network says comes first.

    Its truncation is taken, and pixels beside the edges of masks have no say.
    """
    truncation = network.fusion.config.truncation
    return replace(config, truncation=truncation, mask_edge=max(config.mask_edge, MASK_EDGE))


def gather(
    views: Iterable[tuple[View, ViewDepth]],
    network: VolumeNetwork,
    config: FuseConfig,
    kept: Kept,
    *,
    hull: Hull | None = None,
    device: str = "cpu",
    on_view: Callable[[], object] = lambda: None,
) -> tuple[TsdfVolume, list[GatheredView]]:
    """The first pass, over the views: the field of their depths, and their features in ``kept``.

    Features that are there already are not made again: ``kept`` is of these views in this order.

    Args:
        views: photos with cameras, and their depths in the unit of the scene.
        network: in evaluation mode.
        config: of `volume_config`, with a voxel size.
        kept: gets the maps of each view.
        hull: see `crispdepth.tasks.fuse.fuse`.
        device: torch's name of where to compute.
        on_view: called after each view.

    Raises:
        ValueError: as `crispdepth.tasks.fuse.fuse`.
        OSError: the temporary folder is full.
    """
    assert config.voxel is not None
    _return_what_is_freed()
    network.to(device)
    field_memory = max((1 - TILE_SHARE) * config.max_memory, 0.001)
    volume = start_volume(config.voxel, replace(config, max_memory=field_memory), device, hull)
    carves = config.carve and hull is None  # a hull knows better what is beside the object
    gathered = []
    for number, (view, depth) in enumerate(views):
        integrate_view(volume, view, depth, config)
        name = f"view-{number:06}"
        maps, camera = _maps(view, evidence_of(view, depth, config), config, carves=carves)
        if name not in kept:
            kept[name] = maps | {"features": _features(view, camera, network, device)}
        gathered.append(_gathered(name, camera, maps, network.fusion, config))
        on_view()
    if not gathered:
        raise ValueError("There is no view to fuse.")
    return volume, gathered


def require_memory(network: VolumeNetwork, max_memory: float, size: Size) -> None:
    """Refuse to begin with less memory than the fusion of any scene takes.

    Args:
        network: that is to be asked.
        max_memory: gigabytes, see `FuseConfig`.
        size: height and width of the largest photo.

    Raises:
        ValueError: it is too small for a photo, or for the smallest tile.
    """
    fusion, (height, width) = network.fusion, size
    voxels = fewest_voxels(fusion.halo, fusion.stride)
    photo, tile = width * height * pixel_bytes(network), voxels * voxel_bytes(fusion)
    needed, what, instead = max(
        (tile, f"the smallest tile has {voxels} voxels", ""),
        (photo, f"the largest photo has {width} x {height} pixels", "smaller photos or "),
    )
    gigabytes = math.ceil(100 * needed / TILE_SHARE / GIGABYTE) / 100
    if gigabytes > max_memory:
        raise ValueError(
            f"Learned fusion with these weights needs {gigabytes:g} GB or more ({what}), but "
            f"max_memory is {max_memory:g} GB. Allow more (--max-memory {gigabytes:g}), or take "
            f"{instead}--fusion tsdf."
        )


def plan(volume: TsdfVolume, network: VolumeNetwork, config: FuseConfig) -> list[Tile]:
    """The tiles that `regress` goes over.

    Raises:
        ValueError: none fits into the memory, see `require_memory`.
    """
    fusion, memory = network.fusion, TILE_SHARE * config.max_memory * GIGABYTE
    return cut_into_tiles(
        volume.store.keys,
        volume.voxel_size,
        halo=fusion.halo,
        stride=fusion.stride,
        most_voxels=int(memory / voxel_bytes(fusion)),
    )


@torch.inference_mode()
def regress(
    volume: TsdfVolume,
    gathered: Sequence[GatheredView],
    tiles: Iterable[Tile],
    network: VolumeNetwork,
    kept: Kept,
    *,
    on_tile: Callable[[], object] = lambda: None,
) -> None:
    """The second pass, over the tiles: the network's distances take the place of the depths'.

    Theirs stay at the borders of what is seen, where it has no evidence,
    and what no depth says anything about stays unknown. A network that corrects distances along
    the optical axes has its corrections on those of the field (`corrected`), so this is done once.
    Tiles that are in ``kept`` are not computed again.

    Args:
        volume: of `gather`; it is changed.
        gathered: of `gather`.
        tiles: of `plan`.
        network: the same as there.
        kept: with the maps of the views; gets the answer of each tile.
        on_tile: called after each tile.
    """
    fusion = copy.deepcopy(network.fusion)
    fold_norms(fusion)
    for tile in tiles:
        name = "answer-" + "_".join(map(str, (*tile.grid.first, *tile.grid.shape)))
        if name not in kept:
            _return_what_is_freed()
            kept[name] = _answer(tile, gathered, fusion, kept, volume.device)
        answer, group = kept[name], volume.store.group
        slices = [
            torch.split(torch.from_numpy(answer[part]).to(volume.device), group)
            for part in ("distance", "fused", "known")
        ]
        for keys, distance, fused, known in zip(
            torch.split(tile.keys, group), *slices, strict=True
        ):
            slots, data = volume.store.slots(keys), volume.store.data
            before = data["tsdf"][slots]
            if fusion.config.residual:
                distance = corrected(distance, fused, before)
            data["tsdf"][slots] = torch.where(known, distance, before)
        on_tile()


def corrected(distance: Tensor, fused: Tensor, planes: Tensor) -> Tensor:
    """A network's corrections on the distances to the planes of pixels.

    It starts from fused distances along the optical axes, which its training needs: they have
    gradients, and the truth is of that kind. Those of `crispdepth.ops.tsdf` are Euclidean, to
    the plane that each pixel is, and agree better where views look from different sides; what they
    say otherwise moves the network's answer, too. Where they differ by more than planes can, by
    twice `PLANES`, they differ in what is carved, or noise tilts the planes: the network is right.

    Args:
        distance: the network's, in [-1, 1] truncations.
        fused: that it started from.
        planes: of the field of the same depths; all of one shape.
    """
    more = planes - fused
    size = more.abs()
    counted = torch.minimum(size, 2 * PLANES - size).clamp_min(0)
    return (distance + more.sign() * counted).clamp(-1, 1)


def is_asked(view: GatheredView, grid: VoxelGrid) -> bool:
    """Whether a view may say something about a grid of voxels, so that its tile reads the view."""
    return view.far > 0 and may_see(view.camera, grid, view.far, margin=1.0)


def voxel_bytes(fusion: FusionNetwork) -> float:
    """Memory of a tile in all, for each of its voxels with the halo; measured, and a fifth more."""
    return 4.0 * (3 * fusion.channels + 3 * fusion.config.width + 24)


def pixel_bytes(network: VolumeNetwork) -> float:
    """Memory of making features, for each pixel of a photo; measured, and a fifth more."""
    half, quarter, deep = network.config.stereo.pyramid
    return 24 + 1.5 * (quarter + deep + len(POOLED) * half)


def _answer(
    tile: Tile,
    gathered: Sequence[GatheredView],
    fusion: FusionNetwork,
    kept: Kept,
    device: torch.device,
) -> dict[str, NDArray[Any]]:
    """What the network says at the voxels of a tile's blocks, (n, VOXELS) each.

    Its distance, the fused one that it corrects (0 if it does not), and where it has evidence.
    """
    accumulator = fusion.accumulator(tile.grid, device)
    seeing = [each for each in gathered if is_asked(each, tile.grid)]
    # Views of one rotation after the other: their sums become one before the next are begun.
    for _, group in groupby(sorted(seeing, key=lambda each: each.turn), lambda each: each.turn):
        for view in group:
            maps = kept[view.name]
            accumulator.add(
                torch.from_numpy(maps["features"]).to(device),
                torch.tensor(view.camera.K, device=device),
                torch.tensor(view.camera.cam_from_world, device=device),
                torch.from_numpy(maps["depth"]).to(device),
                torch.from_numpy(maps["weight"]).to(device),
            )
        fusion.settle(accumulator)
    accumulator.views = len(gathered)  # a share of all views (count) is not one of a tile's
    known = torch.ones(tile.grid.shape, dtype=torch.bool, device=device)
    if fusion.config.embedding == "tsdf":
        known = accumulator.observed()
    unified = fusion.unify(accumulator)
    distance = fusion.regress(unified)
    fused = unified[-1] if fusion.config.residual else torch.zeros_like(distance)
    parts = {"distance": distance, "fused": fused, "known": known}
    return {name: block_values(part, tile).cpu().numpy() for name, part in parts.items()}


def _maps(
    view: View, evidence: Evidence, config: FuseConfig, *, carves: bool
) -> tuple[dict[str, Float32Map], Camera]:
    """Depth and weight of a view, and the camera of its features."""
    height, width = (max(1, round(side / CELL)) for side in view.image.shape[:2])
    camera = camera_of(view).resized((height, width))
    depth, weight = evidence.depth, evidence.weight.clip(0, 1)
    if carves:
        past = evidence.empty & (depth == 0)
        assert config.voxel is not None
        depth = np.where(past, np.float32(_EVERYTHING * config.voxel), depth)
        weight[past] = 1
    return {"depth": depth, "weight": weight}, camera


def _return_what_is_freed() -> None:
    """Let the C library give large arrays back at once, where it is glibc, and what it keeps now.

    It would take them from its heap after the first, and there thousands of views and tiles leave
    holes behind, the more of them the more, into which no tile fits. For all of the process, which
    takes up to a tenth longer where it makes many.
    """
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "mallopt") and hasattr(library, "malloc_trim"):
            library.mallopt(_TRIM_THRESHOLD, _LARGE)
            library.mallopt(_MMAP_THRESHOLD, _LARGE)
            library.malloc_trim(0)


@torch.inference_mode()
def _features(
    view: View, camera: Camera, network: VolumeNetwork, device: str
) -> NDArray[np.float32]:
    """(C, h, w) of the photo."""
    full = 255 if view.image.dtype == np.uint8 else 65535
    height, width = (CELL * side for side in camera.size)
    photo: NDArray[Any] = view.image.astype(np.float32) / np.float32(full)
    if photo.shape[:2] != (height, width):
        photo = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
    images = torch.from_numpy(photo).permute(2, 0, 1)[None].to(device)
    features: Tensor = network.stereo.features(images)
    return features[0].cpu().numpy()


def _gathered(
    name: str,
    camera: Camera,
    maps: Mapping[str, Float32Map],
    fusion: FusionNetwork,
    config: FuseConfig,
) -> GatheredView:
    assert config.voxel is not None
    far = math.inf
    if fusion.config.reads_depth:
        depth, weight = (torch.from_numpy(maps[part]) for part in ("depth", "weight"))
        far = sight_limit(depth, weight, fusion.config.truncation * config.voxel)
        if math.isinf(far):  # all tiles along its rays would ask what it shows, to no use
            far = 0.0
    rotation = torch.from_numpy(camera.cam_from_world[:3, :3].copy())
    return GatheredView(name, camera, far, int(nearest_octahedral(rotation)))
