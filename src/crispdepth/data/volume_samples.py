"""Training samples of volumetric fusion: views of a part of a scene, and its true distances.

A sample is a box of voxels about a surface somewhere in a scene, turned about the vertical, with
the views that may see it: photos, cameras, *rough depths with confidence*, and true depths. Rough
are depths that matching has found (`crispdepth train depths`), or true ones with errors
(`crispdepth.data.depth_errors`). The truth may know more views than those that are fused.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from crispdepth.data.crop import large_instances
from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.depth_errors import RoughDepth, with_errors
from crispdepth.data.posed_scenes import choose_views, posed_scenes, with_views
from crispdepth.data.samples import recoloured
from crispdepth.data.strokes import Rng
from crispdepth.data.volume_config import VolumeSampleConfig
from crispdepth.geometry.voxel_grid import VoxelGrid
from crispdepth.io.view_depths import has_view_depth, read_view_depth
from crispdepth.models.volume.features import STRIDE as CELL
from crispdepth.ops.atlas_tsdf import atlas_tsdf
from crispdepth.ops.mask_contract import erode
from crispdepth.ops.resample import shrink, shrink_depth
from crispdepth.types import BoolMap, Camera, Float32Map, Size

LOOK, SLIGHT = 0.3, 0.05
"""Brightness, contrast and saturation change by up to the first share for all views of a sample,
and by up to the second for each."""

OFF_CENTRE = 0.3
"""How far from the middle of the box the surface about which it lies may be, in its sides."""

ROTATION_DEG, SHIFT = 1.0, 0.01
"""Standard deviations of wrong poses, about each axis and along it (m)."""

EDGE = 2
"""Pixels inside an object's outline that have no depth, as in fusion with masks."""


class VolumeSample(NamedTuple):
    """V views and the box of voxels that they are fused in; the origin is the box's middle voxel.

    z is up, but for tilted samples.
    """

    images: NDArray[np.uint8]  # (V, H, W, 3), sRGB
    K: NDArray[np.float32]  # (V, 3, 3), pixels, the centre of the top-left one at (0.5, 0.5)
    cam_from_world: NDArray[np.float32]  # (V, 4, 4), as fusion is told
    rough: NDArray[np.float32]  # (V, H, W) z-depth, 0 = none
    confidence: NDArray[np.float32]  # (V, H, W) in [0, 1], 0 where there is no depth
    depth: NDArray[np.float32]  # (V, H / 4, W / 4) true z-depth, 0 = not measured
    tsdf: NDArray[np.float32]  # (X, Y, Z) of `crispdepth.ops.atlas_tsdf`
    observed: NDArray[np.bool_]  # (X, Y, Z)
    voxel: NDArray[np.float32]  # (), side of a voxel


class _Seen(NamedTuple):
    """A frame at the size of the sample."""

    name: str
    image: NDArray[np.uint8]
    depth: Float32Map
    camera: Camera
    instances: NDArray[np.int32] | None


def box_of(shape: Sequence[int], voxel: float) -> VoxelGrid:
    """The grid of a sample's box of so many voxels along x, y and z, about the origin."""
    x, y, z = shape
    return VoxelGrid(voxel, (-(x // 2), -(y // 2), -(z // 2)), (x, y, z))


class VolumeSampler:
    """Samples by number: the same (seed, index) gives the same sample, in whatever order."""

    def __init__(
        self,
        frames: Sequence[RgbdFrame],
        config: VolumeSampleConfig,
        depths: Sequence[Path] = (),
        *,
        truncation: float = 3.0,
    ) -> None:
        """Frames are read anew for every sample: hand over a pack.

        Args:
            frames: with cameras and true depth, z of the world up.
            config: what samples look like.
            depths: folders of depths that matching found in these frames, each of one method; not
                all frames need be in them.
            truncation: of the true signed distances, in voxels.

        Raises:
            ValueError: no scene has two posed frames.
        """
        self.frames, self.config, self.scenes = frames, config, posed_scenes(frames)
        self._depths, self._truncation = tuple(depths), truncation

    def draw(self, seed: int, index: int, views: int) -> VolumeSample:
        """Sample ``index`` of the endless stream ``seed``.

        Args:
            seed, index: decide the sample.
            views: how many are fused; from scenes that have as many.

        Raises:
            ValueError: no scene has so many views.
            OSError: a depth cannot be read.
        """
        rng, config = np.random.default_rng([seed, index]), self.config
        scenes = with_views(self.scenes, views)
        scene = scenes[int(rng.integers(len(scenes)))]
        chosen = choose_views(scene, min(max(views, config.truth), len(scene)), rng)
        known = [_seen(self.frames[scene.indices[number]], config.size) for number in chosen]
        seen = known[:views]
        rough = self._rough(seen, np.random.default_rng([seed, index, 1]))
        if rng.random() < config.masked:
            known, rough = _alone(known, rough, rng)
        voxel = float(rng.uniform(*config.voxel))
        new_from_world = _box_frame(known[:views], config, voxel, rng)
        poses = [each.camera.cam_from_world @ np.linalg.inv(new_from_world) for each in known]
        field = atlas_tsdf(
            torch.from_numpy(np.stack([each.depth for each in known])),
            torch.from_numpy(np.stack([each.camera.K for each in known])),
            torch.from_numpy(np.stack(poses)),
            box_of(config.volume, voxel),
            truncation=self._truncation,
        )
        told = poses[:views]
        if rng.random() < config.pose_errors:
            strength = rng.random()
            told = [_nudged(pose, strength, rng) for pose in told]
        images = [each.image for each in seen]
        if rng.random() < config.colour:
            look = rng.uniform(1 - LOOK, 1 + LOOK, 3)
            images = [
                recoloured(image, *look * rng.uniform(1 - SLIGHT, 1 + SLIGHT, 3))
                for image in images
            ]
        small = config.size[0] // CELL, config.size[1] // CELL
        true = [shrink_depth(each.depth, np.sign(each.depth), small)[0] for each in known[:views]]
        return VolumeSample(
            np.stack(images),
            np.stack([each.camera.K for each in seen]).astype(np.float32),
            np.stack(told).astype(np.float32),
            np.stack([each.depth for each in rough]),
            np.stack([each.confidence for each in rough]),
            np.stack(true),
            field.tsdf.numpy(),
            field.observed.numpy(),
            np.array(voxel, np.float32),
        )

    def _rough(self, seen: Sequence[_Seen], rng: Rng) -> list[RoughDepth]:
        """The depths that are fused."""
        found = [
            folder
            for folder in self._depths
            if all(has_view_depth(folder, view.name) for view in seen)
        ]
        if not found or rng.random() < self.config.synthetic:
            strength = float(rng.random())
            return [with_errors(view.depth, strength, rng) for view in seen]
        folder = found[int(rng.integers(len(found)))]
        return [_found(folder, view) for view in seen]


def _seen(frame: RgbdFrame, size: Size) -> _Seen:
    camera = frame.depth.camera
    assert camera is not None  # `posed_scenes` has left out others
    image, depth, instances = frame.image, frame.depth.values, frame.instances
    if camera.size != size:
        image = (
            shrink(image, size)
            if image.shape[0] >= size[0] and image.shape[1] >= size[1]
            else np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)
        )
        depth = _nearest(depth, size)
        instances = None if instances is None else _nearest(instances, size)
    return _Seen(frame.name, image, depth, camera.resized(size), instances)


def _found(folder: Path, view: _Seen) -> RoughDepth:
    """What matching found, at the size of the view."""
    found = read_view_depth(folder, view.name)
    parts = found.depth.values, found.confidence
    return RoughDepth(*(_nearest(part, view.camera.size) for part in parts))


def _nearest(values: NDArray[Any], size: Size) -> NDArray[Any]:
    if values.shape == size:
        return values
    return np.asarray(cv2.resize(values, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT))


def _alone(
    known: list[_Seen], rough: list[RoughDepth], rng: Rng
) -> tuple[list[_Seen], list[RoughDepth]]:
    """Views in which one instance alone has depth; the views as they are, if none is in most."""
    maps = [view.instances for view in known if view.instances is not None]
    if len(maps) < len(known):
        return known, rough
    ids, counts = np.unique(
        np.concatenate([large_instances(each) for each in maps]), return_counts=True
    )
    common = ids[2 * counts > len(maps)]
    if not len(common):
        return known, rough
    wanted = rng.choice(common)
    inside: list[BoolMap] = [each == wanted for each in maps]
    alone = [
        view._replace(depth=np.where(where, view.depth, np.float32(0)))
        for view, where in zip(known, inside, strict=True)
    ]
    cores = [erode(where.astype(np.float32), EDGE) for where in inside[: len(rough)]]
    fused = [
        RoughDepth(*(part * core for part in each)) for each, core in zip(rough, cores, strict=True)
    ]
    return alone, fused


def _box_frame(
    seen: Sequence[_Seen], config: VolumeSampleConfig, voxel: float, rng: Rng
) -> NDArray[np.float64]:
    """The rigid map (4, 4) from the world to the frame of a box about some surface of a view."""
    measured = [view for view in seen if (view.depth > 0).any()]
    centre = np.zeros(3)
    if measured:
        view = measured[int(rng.integers(len(measured)))]
        rows, columns = np.nonzero(view.depth)
        pixel = int(rng.integers(len(rows)))
        row, column = rows[pixel], columns[pixel]
        ray = np.linalg.solve(view.camera.K, [column + 0.5, row + 0.5, 1.0])
        pose = view.camera.cam_from_world
        centre = pose[:3, :3].T @ (view.depth[row, column] * ray - pose[:3, 3])
    if rng.random() < config.tilted:
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        turn *= np.sign(np.linalg.det(turn))
    else:
        turn = cv2.Rodrigues(np.array([0, 0, rng.uniform(0, 2 * np.pi)]))[0]
    new_from_world = np.eye(4)
    new_from_world[:3, :3] = turn
    sides = voxel * np.array(config.volume)
    new_from_world[:3, 3] = -turn @ centre + rng.uniform(-OFF_CENTRE, OFF_CENTRE, 3) * sides
    return new_from_world


def _nudged(cam_from_world: NDArray[np.float64], strength: float, rng: Rng) -> NDArray[np.float64]:
    """A camera a little off its place."""
    wrong_from_cam = np.eye(4)
    turn = np.radians(ROTATION_DEG) * strength * rng.normal(size=3)
    wrong_from_cam[:3, :3] = cv2.Rodrigues(turn)[0]
    wrong_from_cam[:3, 3] = SHIFT * strength * rng.normal(size=3)
    nudged: NDArray[np.float64] = wrong_from_cam @ cam_from_world
    return nudged
