"""Scenes that `volume.py` fuses, with their truth, and what is done to spoil them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from crispdepth.api.scene import SCENE_CORRECTIONS
from crispdepth.data.datasets.registry import open_dataset
from crispdepth.data.posed_scenes import posed_scenes
from crispdepth.evaluation.mesh import thin_points
from crispdepth.geometry.backproject import pixel_rays
from crispdepth.geometry.voxel_grid import VoxelGrid
from crispdepth.io.view_depths import read_view_depth
from crispdepth.models.multiview.network import MultiviewNetwork
from crispdepth.models.volume.stereo import StereoNetwork
from crispdepth.ops.atlas_tsdf import AtlasTsdf, atlas_tsdf, field_mesh, scene_grid
from crispdepth.ops.resample import shrink
from crispdepth.tasks.multiview_config import MultiviewConfig
from crispdepth.training.rough_depths import cache_depths
from crispdepth.types import Camera, DepthMap, Float32Map, Mesh, View, ViewDepth

VOXEL, SIZE = 0.04, (240, 320)
FARTHEST = 6.0  # m; what is farther is not measured


class Shot(NamedTuple):
    """A view at `SIZE`: what is fused, and the truth."""

    view: View
    rough: ViewDepth
    true: Float32Map


class Place(NamedTuple):
    """A scene and its truth."""

    group: str
    name: str
    shots: list[Shot]
    grid: VoxelGrid
    truth: AtlasTsdf
    target: Mesh


def places(
    data: Path | None,
    held_out: Path | None,
    depths: Path,
    network: MultiviewNetwork | StereoNetwork,
    *,
    consistent: int,
    every: int,
) -> Iterator[Place]:
    """All scenes, one in memory at a time, with the depths that a network finds.

    These are kept in the folder ``depths``. See the options of `volume.py measure`.
    """
    for group, kind, root, step in (
        ("held-out rooms", "rendered", held_out, 1),
        ("rooms", "rendered", data and data / "rooms", 1),
        ("7-Scenes", "sevenscenes", data and data / "sevenscenes", every),
    ):
        if root is None or not root.is_dir():
            continue
        frames = open_dataset(kind, root)[::step]
        for posed in posed_scenes(frames):
            folder = depths / group
            config = MultiviewConfig(
                quality="preview", consistent=consistent, corrections=SCENE_CORRECTIONS
            )
            cache_depths([posed], frames, folder, config, network)
            shots = []
            for index in posed.indices:
                frame = frames[index]
                camera = frame.depth.camera
                assert camera is not None
                true = nearest(frame.depth.values)
                true[true > FARTHEST] = 0
                found = read_view_depth(folder, frame.name)
                rough = ViewDepth(
                    DepthMap(nearest(found.depth.values), "depth", "m"), nearest(found.confidence)
                )
                view = View(shrink(frame.image, SIZE), frame.name, camera.resized(SIZE))
                shots.append(Shot(view, rough, true))
            yield place_of(group, posed.name, shots, exact=kind == "rendered")


def nearest(values: Float32Map) -> Float32Map:
    return np.array(cv2.resize(values, SIZE[::-1], interpolation=cv2.INTER_NEAREST_EXACT))


def place_of(group: str, name: str, shots: list[Shot], *, exact: bool) -> Place:
    cameras = [camera_of(shot) for shot in shots]
    depths = [shot.true for shot in shots]
    grid = scene_grid(depths, cameras, VOXEL, margin=0.2).divisible(4)
    truth = true_field(depths, cameras, grid)
    if not exact:
        tsdf, observed = arrays(truth)
        return Place(group, name, shots, grid, truth, field_mesh(tsdf, observed, grid))
    points = []
    for depth, camera in zip(depths, cameras, strict=True):
        pose = camera.cam_from_world
        seen = (pixel_rays(camera) * depth[..., None])[depth > 0]
        points.append((seen - pose[:3, 3]) @ pose[:3, :3])
    target = thin_points(np.concatenate(points), 0.01).astype(np.float32)
    return Place(group, name, shots, grid, truth, Mesh(target, np.zeros((0, 3), np.int32)))


def arrays(parts: Sequence[torch.Tensor]) -> list[NDArray[Any]]:
    return [part.numpy() for part in parts]


def camera_of(shot: Shot) -> Camera:
    assert shot.view.camera is not None
    return shot.view.camera


def true_field(
    depths: Sequence[Float32Map], cameras: Sequence[Camera], grid: VoxelGrid
) -> AtlasTsdf:
    """The distances that depth maps tell, by the scheme of the ground truth."""
    return atlas_tsdf(
        torch.from_numpy(np.stack(depths)),
        torch.from_numpy(np.stack([camera.K for camera in cameras])),
        torch.from_numpy(np.stack([camera.cam_from_world for camera in cameras])),
        grid,
    )


def spoils(shots: list[Shot]) -> Iterator[tuple[str, list[Shot]]]:
    """The same views, their depths or poses worse, or fewer."""
    for percent in (1, 2, 4):
        yield (
            f"depth noise {percent} %",
            [spoilt(shot, i, percent / 100) for i, shot in number(shots)],
        )
    for percent in (5, 10, 20):
        yield (
            f"outliers {percent} %",
            [spoilt(shot, i, outliers=percent / 100) for i, shot in number(shots)],
        )
    for share in (0.25, 0.5, 1.0):
        yield (
            f"poses {5 * share:g} deg, {2 * share:g} cm",
            [moved(shot, i, 5 * share, 0.02 * share) for i, shot in number(shots)],
        )
    yield "half the views", shots[::2]


def number(shots: list[Shot]) -> Iterator[tuple[int, Shot]]:
    return iter(enumerate(shots))


def spoilt(shot: Shot, index: int, noise: float = 0, outliers: float = 0) -> Shot:
    """Relative noise of every pixel, and pixels with any depth between 0.5 m and the farthest."""
    rng = np.random.default_rng(index)
    depth = shot.rough.depth.values
    values = depth * (1 + noise * rng.standard_normal(depth.shape)).clip(0.5, 1.5)
    wrong = rng.random(depth.shape) < outliers
    values = np.where(wrong & (depth > 0), rng.uniform(0.5, FARTHEST, depth.shape), values)
    rough = ViewDepth(DepthMap(values.astype(np.float32), "depth", "m"), shot.rough.confidence)
    return shot._replace(rough=rough)


def moved(shot: Shot, index: int, degrees: float, metres: float) -> Shot:
    """Turned about a random axis by that angle, and shifted by that length."""
    rng = np.random.default_rng(index)
    axis, way = (part / np.linalg.norm(part) for part in rng.normal(size=(2, 3)))
    wrong = np.eye(4)
    wrong[:3, :3] = cv2.Rodrigues(np.radians(degrees) * axis)[0]
    wrong[:3, 3] = metres * way
    camera = camera_of(shot)
    camera = replace(camera, cam_from_world=wrong @ camera.cam_from_world)
    return shot._replace(view=replace(shot.view, camera=camera))
