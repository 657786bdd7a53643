"""Learned fusion: dense, sparse and tiled agree; so do interrupted runs; the ball is closed."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from crispdepth.geometry.voxel_grid import VoxelGrid
from crispdepth.models.volume.config import FusionConfig, StereoConfig, VolumeNetworkConfig
from crispdepth.models.volume.network import VolumeNetwork
from crispdepth.ops.blocks import EDGE, unpack
from crispdepth.ops.tiles import Tile, block_values
from crispdepth.ops.tsdf import TsdfVolume
from crispdepth.tasks.fuse import FuseConfig, surface
from crispdepth.tasks.volume_fuse import (
    PLANES,
    TILE_SHARE,
    Kept,
    corrected,
    gather,
    is_asked,
    plan,
    regress,
    require_memory,
    volume_config,
    voxel_bytes,
)
from crispdepth.types import Camera, DepthMap, Float32Map, MaskSet, Size, View, ViewDepth
from tests.analytic import around, looking_at, rays, sphere_depth
from tests.posed import painted

VOXEL = 0.16
STEREO = StereoConfig(
    channels=8, pyramid=(4, 4, 4), blocks=(1, 1, 1, 1), planes=8, width=4, hourglasses=1
)
FUSION = FusionConfig(embedding="tsdf", residual=True, width=8, hourglasses=1)
CONFIG = FuseConfig(voxel=VOXEL, min_piece=0)
SIZE = (96, 96)


def network(fusion: FusionConfig = FUSION, *, fresh: bool = False) -> VolumeNetwork:
    """A small one in evaluation mode; unless it is fresh, everything in it does something."""
    torch.manual_seed(1)
    made = VolumeNetwork(VolumeNetworkConfig(STEREO, fusion)).eval()
    if not fresh:
        for part in made.modules():
            if isinstance(part, torch.nn.BatchNorm3d):
                torch.nn.init.normal_(part.bias, std=0.3)
        for head in made.fusion.heads:
            torch.nn.init.normal_(head[-1].weight, std=0.3)  # type: ignore[index]
    return made


def seen(camera: Camera, depth: Float32Map, masks: MaskSet | None = None) -> tuple[View, ViewDepth]:
    centre, direction = rays(camera)
    image = painted(centre + direction * depth[..., None])
    confidence = np.ones(camera.size, np.float32)
    return View(image, "", camera, masks=masks), ViewDepth(DepthMap(depth, "depth"), confidence)


def ball(count: int) -> list[tuple[View, ViewDepth]]:
    return [seen(camera, sphere_depth(camera)) for camera in around(count, 3.0, SIZE)]


def fused(
    views: list[tuple[View, ViewDepth]],
    made: VolumeNetwork,
    config: FuseConfig = CONFIG,
    kept: Kept | None = None,
) -> tuple[TsdfVolume, list[Tile]]:
    config, kept = volume_config(config, made), {} if kept is None else kept
    volume, gathered = gather(views, made, config, kept)
    tiles = plan(volume, made, config)
    regress(volume, gathered, tiles, made, kept)
    return volume, tiles


def gigabytes(made: VolumeNetwork, side: int) -> float:
    """The memory with which tiles have no more voxels than a cube of that side."""
    return voxel_bytes(made.fusion) * (side**3 + 1) / TILE_SHARE / 1e9


@pytest.mark.parametrize(
    "fusion",
    [
        FUSION,
        replace(FUSION, rotation="rbf", embedding="visible", residual=False, truncate=2.0),
        replace(FUSION, rotation="none", embedding="count", residual=False),
    ],
)
def test_tiled_is_dense(fusion: FusionConfig) -> None:
    """The dense volume is one grid about everything, into which all views are put whole.

    One of them looks away: no tile asks it, but it is one of all views.
    """
    away = looking_at(np.array([0, 30.0, 0]), np.array([0, 60.0, 0]), SIZE, 80)
    made, views = network(fusion), [*ball(5), seen(away, np.zeros(SIZE, np.float32))]
    config = volume_config(CONFIG, made)
    kept: Kept = {}
    volume, gathered = gather(views, made, config, kept)
    places = unpack(volume.store.keys)
    low, high = places.amin(0) * EDGE, (places.amax(0) + 1) * EDGE
    grid = VoxelGrid(VOXEL, tuple(low.tolist()), tuple((high - low).tolist())).grown(20)
    whole = made.fusion.accumulator(grid, torch.device("cpu"))
    for each in gathered:
        features, depth, weight = (
            torch.from_numpy(kept[each.name][part]) for part in ("features", "depth", "weight")
        )
        pose = torch.tensor(each.camera.cam_from_world)
        whole.add(features, torch.tensor(each.camera.K), pose, depth, weight)
    with torch.no_grad():
        dense = made.fusion.regress(made.fusion.unify(whole))
    small = replace(config, max_memory=gigabytes(made, 54))
    tiles = plan(volume, made, small)
    assert len(tiles) > 2
    expected = block_values(dense, Tile(volume.store.keys, grid))
    if fusion.embedding == "tsdf":
        known = block_values(whole.observed(), Tile(volume.store.keys, grid))
        assert 0.2 < known.float().mean() < 1
        field = volume.store.read(volume.store.keys)
        start = block_values(whole.depth_channel(), Tile(volume.store.keys, grid))
        moved = corrected(expected, start, field["tsdf"])
        expected = torch.where(known, moved, field["tsdf"])  # it has no evidence there
    regress(volume, gathered, tiles, made, kept)
    found = volume.store.read(volume.store.keys)["tsdf"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert found.std() > 0.02


def test_what_planes_say_beyond_fused_distances_counts_up_to_a_limit() -> None:
    more = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 5.0, -0.5, -1.5, -9.0]) * PLANES
    counted = torch.tensor([0.0, 0.5, 1.0, 0.5, 0.0, 0.0, -0.5, -0.5, 0.0]) * PLANES
    fused = torch.full_like(more, 0.1)
    answer = corrected(torch.full_like(more, -0.3), fused, fused + more)
    torch.testing.assert_close(answer, -0.3 + counted)
    ends = torch.tensor([1.0, -1.0])
    shifted = corrected(ends, torch.zeros(2), PLANES * ends)
    assert torch.equal(shifted, ends)


def test_a_fresh_network_leaves_the_field_but_where_it_differs_by_more_than_planes_do() -> None:
    made, views, kept = network(fresh=True), ball(6), dict[str, Any]()
    config = volume_config(CONFIG, made)
    volume, gathered = gather(views, made, config, kept)
    (tile,) = plan(volume, made, config)
    before = volume.store.read(tile.keys)
    regress(volume, gathered, [tile], made, kept)
    after = volume.store.read(tile.keys)["tsdf"]
    (answer,) = (parts for name, parts in kept.items() if name.startswith("answer-"))
    start, known = (torch.from_numpy(answer[part]) for part in ("fused", "known"))
    apart = (before["tsdf"] - start).abs()
    alike, unlike = known & (apart <= PLANES), known & (apart >= 2 * PLANES)
    torch.testing.assert_close(after[alike], before["tsdf"][alike], rtol=0, atol=1e-6)
    torch.testing.assert_close(after[unlike], start[unlike], rtol=0, atol=1e-6)
    assert min(int(alike.sum()), int(unlike.sum())) > 50


def test_what_one_view_invents_and_another_sees_through_does_not_come_back() -> None:
    """The field does not carve; the fused distances do, and the network has the last word."""

    def wall(x: float, blob: bool) -> tuple[View, ViewDepth]:
        camera = looking_at(np.array([x, 0, 0]), np.array([x, 1.0, 0]), SIZE, 80)
        depth = np.full(SIZE, 4, np.float32)
        if blob:
            depth[30:66, 30:66] = 2
        return seen(camera, depth)

    views = [wall(0, blob=True), wall(0.15, blob=False)]
    config = replace(CONFIG, min_weight=0.5)
    volume, _ = fused(views, network(fresh=True), config)
    assert surface(volume, config).vertices[:, 1].min() > 3.5


def test_a_fresh_network_makes_a_closed_ball_across_the_borders_of_tiles() -> None:
    made, voxel = network(fresh=True), 0.12
    views = [seen(camera, sphere_depth(camera)) for camera in around(20, 4.0, SIZE)]
    config = replace(CONFIG, voxel=voxel, max_memory=gigabytes(made, 64))
    volume, tiles = fused(views, made, config)
    assert len(tiles) > 1
    mesh = surface(volume, CONFIG)
    edges = np.sort(mesh.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    edges, faces = np.unique(edges, axis=0, return_counts=True)
    assert (faces == 2).all()  # no boundary
    assert len(mesh.vertices) - len(edges) + len(mesh.faces) == 2  # Euler: a sphere
    radius = np.linalg.norm(mesh.vertices, axis=1)
    assert np.abs(radius - 1).max() < voxel
    assert np.abs(radius - 1).mean() < voxel / 4
    assert mesh.colours is not None
    np.testing.assert_allclose(mesh.colours, painted(mesh.vertices.astype(float)), atol=30)


class Stopping(dict[str, Mapping[str, NDArray[Any]]]):
    """A dict that is interrupted when it should keep one thing more than it may."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def __setitem__(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        if len(self) == self.most:
            raise KeyboardInterrupt
        super().__setitem__(name, arrays)


def test_an_interrupted_run_goes_on_where_it_stopped_and_comes_to_the_same() -> None:
    made, views = network(), ball(5)
    whole, tiles = fused(views, made)
    for most in (2, len(views), len(views) + len(tiles) - 1):
        kept = Stopping(most)
        with pytest.raises(KeyboardInterrupt):
            fused(views, made, kept=kept)
        done = dict(kept)
        assert len(done) == most
        kept.most = 1000
        again, _ = fused(views, made, kept=kept)
        assert all(kept[name] is arrays for name, arrays in done.items())  # nothing was done twice
        for field in whole.store.data:
            assert torch.equal(
                whole.store.read(whole.store.keys)[field], again.store.read(whole.store.keys)[field]
            )


def test_without_the_edges_of_masks_no_voxel_floats_between_two_planes() -> None:
    """Spec B.8, as in classical fusion; the edges are left out unasked."""
    camera = looking_at(np.zeros(3), np.array([0.0, 1, 0]), (96, 96), 80)
    mask = np.zeros(camera.size, np.float32)
    mask[:, 48:] = 1
    ramp = np.clip((np.arange(96) - 45.5) / 4, 0, 1)  # two pixels to both sides
    depth = np.broadcast_to(4 - 2 * ramp, camera.size).astype(np.float32)
    made = network(fresh=True)
    masked = [seen(camera, depth, MaskSet(inside[None])) for inside in (mask, 1 - mask)]
    for views, floats in ((masked, False), ([seen(camera, depth)], True)):
        y = surface(fused(views, made)[0], replace(CONFIG, min_weight=0)).vertices[:, 1]
        assert (np.minimum(np.abs(y - 2), np.abs(y - 4)) > VOXEL).any() == floats


def test_carving_with_object_masks_empties_what_views_see_past() -> None:
    made, views = network(fresh=True), []
    for number, camera in enumerate(around(10, 4.0, SIZE)):
        depth = sphere_depth(camera)
        wrong = np.where(depth > 0, depth - 1, 0).astype(np.float32) if number == 0 else depth
        views.append(seen(camera, wrong, MaskSet((depth > 0)[None])))
    farthest = []
    for carve in (False, True):
        config = replace(CONFIG, carve=carve)
        mesh = surface(fused(views, made, config)[0], config)
        farthest.append(np.linalg.norm(mesh.vertices, axis=1).max())
    assert farthest[0] > 1.5
    assert farthest[1] < 1.2


def test_to_see_past_an_object_is_to_see_a_background_far_behind() -> None:
    """Samples of whole scenes teach what carving tells; those of an object alone need not."""
    made, views = network(), []
    for camera in around(3, 4.0, SIZE):
        depth = sphere_depth(camera)
        views.append(seen(camera, depth, MaskSet((depth > 0)[None])))
    grid = VoxelGrid(VOXEL, (-16, -16, -16), (32, 32, 32))

    def told(*, carve: bool, background: float | None = None) -> torch.Tensor:
        config, kept = volume_config(replace(CONFIG, carve=carve), made), dict[str, Any]()
        accumulator = made.fusion.accumulator(grid, torch.device("cpu"))
        for view in gather(views, made, config, kept)[1]:
            maps = kept[view.name]
            past = maps["depth"] > 1000
            assert past.any() == carve
            depth = (
                maps["depth"] if background is None else np.where(past, background, maps["depth"])
            )
            accumulator.add(
                torch.from_numpy(maps["features"]),
                torch.tensor(view.camera.K),
                torch.tensor(view.camera.cam_from_world),
                torch.from_numpy(depth.astype(np.float32)),
                torch.from_numpy(maps["weight"]),
            )
        with torch.no_grad():
            return made.fusion.unify(accumulator)

    carved = told(carve=True)
    assert torch.equal(carved, told(carve=True, background=20.0))
    assert not torch.equal(carved, told(carve=False))


@pytest.mark.parametrize("blind", [0, 2])
def test_a_corridor_is_read_as_often_as_it_is_long(blind: int) -> None:
    """Views say nothing beyond what they measured, so tiles far ahead do not ask for them; those
    without any depth, every second or none, nothing at all.
    """
    made, reads = network(), []
    for count in (8, 32):
        views = []
        for number in range(count):
            pose = np.eye(4)
            pose[2, 3] = -2.0 * number
            camera = Camera(np.array([[40.0, 0, 32], [0, 40, 24], [0, 0, 1]]), (48, 64), pose)
            direction = rays(camera)[1]
            with np.errstate(divide="ignore"):
                depth = np.minimum(1 / np.abs(direction[..., 0]), 1.2 / np.abs(direction[..., 1]))
            far = 0 if blind and number % blind else 3
            views.append(seen(camera, np.where(depth < far, depth, 0).astype(np.float32)))
        config = volume_config(replace(CONFIG, max_memory=gigabytes(made, 64)), made)
        volume, gathered = gather(views, made, config, {})
        tiles = plan(volume, made, config)
        reads.append(sum(is_asked(view, tile.grid) for view in gathered for tile in tiles))
    assert 3 * reads[0] < reads[1] < 6 * reads[0]  # 4 and the ends of the short one


@pytest.mark.parametrize(
    ("size", "reason"), [(SIZE, "the smallest tile"), ((3000, 4000), "photo has 4000 x 3000")]
)
def test_too_little_memory_is_refused_before_and_what_is_named_is_enough(
    size: Size, reason: str
) -> None:
    made = network()
    with pytest.raises(ValueError, match=reason) as refused:
        require_memory(made, 0.002, size)
    (named,) = re.findall(r"--max-memory ([0-9.]+)\)", str(refused.value))
    require_memory(made, float(named), size)
    with pytest.raises(ValueError, match=reason):
        require_memory(made, float(named) - 0.011, size)
    config = volume_config(replace(CONFIG, max_memory=float(named)), made)
    volume, _ = gather(ball(2), made, config, {})
    assert plan(volume, made, config)


def test_nothing_to_fuse_is_named() -> None:
    with pytest.raises(ValueError, match="no view"):
        fused([], network())
