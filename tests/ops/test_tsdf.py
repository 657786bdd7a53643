"""The block-sparse field is the dense one, whatever the order, the blocks and the memory."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from crispdepth.ops.blocks import EDGE, BlockStore, Field, pack, unpack
from crispdepth.ops.tsdf import TsdfVolume
from crispdepth.types import Camera, Float32Map
from tests.analytic import around, box_depth, looking_at, plane_depth, sphere_depth

CPU = torch.device("cpu")
H = 0.1
TRUNCATION = 3 * H


def integrate(
    volume: TsdfVolume,
    cameras: Sequence[Camera],
    depths: Sequence[Float32Map],
    carve: bool = False,
) -> TsdfVolume:
    for number, (camera, depth) in enumerate(zip(cameras, depths, strict=True)):
        value = torch.from_numpy(depth)
        colour = torch.full((*depth.shape, 3), 40 + 10 * (number % 3), dtype=torch.uint8)
        seen = torch.ones_like(value, dtype=torch.bool) if carve else None
        weight = (value > 0).float() * (1 + number % 2)
        volume.integrate(value, weight, colour, camera, carve=seen)
    return volume


def sphere_volume(voxel: float, max_memory: int | None = None) -> TsdfVolume:
    cameras = around(6, 4.0)
    volume = TsdfVolume(voxel, 3 * voxel, device=CPU, max_memory=max_memory)
    return integrate(volume, cameras, [sphere_depth(camera) for camera in cameras])


def contents(volume: TsdfVolume) -> dict[str, torch.Tensor]:
    parts = [values for _, values in volume.store.batches()]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def centres(volume: TsdfVolume) -> NDArray[np.float64]:
    """Voxels in the world, (blocks * EDGE^3, 3), in the order of `contents`."""
    steps = torch.cartesian_prod(*[torch.arange(EDGE)] * 3)
    index = (unpack(volume.store.keys) * EDGE)[:, None] + steps
    return index.reshape(-1, 3).numpy() * volume.voxel_size


def dense_twin(
    volume: TsdfVolume,
    cameras: Sequence[Camera],
    depths: Sequence[Float32Map],
    weights: Sequence[float],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The definition, in double precision and one voxel after the other (as arrays of voxels)."""
    points = centres(volume)
    blocks = np.repeat(volume.store.keys.numpy(), EDGE**3)
    total, weight = np.zeros(len(points)), np.zeros(len(points))
    for camera, depth, trust in zip(cameras, depths, weights, strict=True):
        local = points @ camera.cam_from_world[:3, :3].T + camera.cam_from_world[:3, 3]
        pixels = local @ camera.K.T
        u, v = pixels[:, 0] / pixels[:, 2], pixels[:, 1] / pixels[:, 2]
        height, width = depth.shape
        inside = (local[:, 2] > 0) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
        inside &= np.isin(blocks, volume.blocks_of(torch.from_numpy(depth), camera).numpy())
        for k in np.nonzero(inside)[0]:
            row, column = int(v[k]), int(u[k])
            z = float(depth[row, column])
            if z == 0:
                continue
            sx = slope_of(depth, row, column, (0, 1))
            sy = slope_of(depth, row, column, (1, 0))
            inverse = 1 / z
            rest = inverse - sx * (column + 0.5) - sy * (row + 0.5)
            plane = 1 / np.linalg.norm(np.array([sx, sy, rest]) @ camera.K)
            inverse += sx * (u[k] - column - 0.5) + sy * (v[k] - row - 0.5)
            along = 1 / inverse - local[k, 2]  # to the surface, along the optical axis
            if along >= -TRUNCATION:
                value = along * inverse * plane / TRUNCATION if along <= TRUNCATION else 1
                total[k] += trust * min(value, 1)
                weight[k] += trust
    return total / np.maximum(weight, 1e-12), weight


def slope_of(depth: Float32Map, row: int, column: int, step: tuple[int, int]) -> float:
    changes = []
    for sign in (1, -1):
        r, c = row + sign * step[0], column + sign * step[1]
        if 0 <= r < depth.shape[0] and 0 <= c < depth.shape[1] and depth[r, c] > 0:
            changes.append(sign * (1 / float(depth[r, c]) - 1 / float(depth[row, column])))
    smallest = min(changes, key=abs, default=0.0)
    return smallest if abs(smallest) <= TRUNCATION / float(depth[row, column]) ** 2 else 0.0


def test_the_sparse_field_is_the_dense_one() -> None:
    cameras = around(3, 4.0, size=(40, 40))
    depths = [box_depth(camera, np.array([0.5, 0.7, 0.4])) for camera in cameras]
    volume = TsdfVolume(H, TRUNCATION, device=CPU, coloured=False)
    integrate(volume, cameras, depths)
    ours = contents(volume)
    tsdf, weight = dense_twin(volume, cameras, depths, [1, 2, 1])
    same = ours["weight"].reshape(-1).numpy() == weight
    assert same.mean() > 0.9999  # a voxel on the border of a pixel or the band may fall either way
    value = ours["tsdf"].reshape(-1).numpy()
    # Float32 rounds 1 - z / surface, and slopes, which are differences.
    close = np.abs(value - tsdf)[same] < 1e-5
    assert close.mean() > 0.999
    assert (np.abs(value - tsdf)[same] < 1e-3).all()


@pytest.mark.parametrize("smooth", [False, True])
def test_blocks_are_those_with_a_voxel_near_a_depth_and_no_others(smooth: bool) -> None:
    """Every pixel another depth, or large tiles; all voxels of the scene are asked."""
    rng = np.random.default_rng(0)
    camera = looking_at(np.array([2.0, 1, 0.5]), np.zeros(3), (90, 120), 105)
    depth = rng.uniform(0.05, 6, camera.size).astype(np.float32)
    if smooth:
        depth = np.linspace(1, 2, 120, dtype=np.float32)[None].repeat(90, 0)
        depth[:, 40:60] += 2
    depth[30:50, 70:80] = 0
    volume = TsdfVolume(H, TRUNCATION, device=CPU)
    keys = volume.blocks_of(torch.from_numpy(depth), camera)
    grid = np.stack(np.meshgrid(*[np.arange(-70, 71)] * 3, indexing="ij"), -1).reshape(-1, 3)
    local = grid * H @ camera.cam_from_world[:3, :3].T + camera.cam_from_world[:3, 3]
    ahead = local[:, 2] > 0
    grid, local = grid[ahead], local[ahead]
    pixels = local @ camera.K.T
    u, v = pixels[:, 0] / pixels[:, 2], pixels[:, 1] / pixels[:, 2]
    inside = (u >= 0) & (u < 120) & (v >= 0) & (v < 90)
    z = depth[v[inside].astype(int), u[inside].astype(int)]
    before = z - local[inside, 2]
    near = (z > 0) & (before <= 1.5 * TRUNCATION) & (before >= -TRUNCATION)
    needed = torch.unique(pack(torch.from_numpy(np.floor_divide(grid[inside][near], EDGE))))
    assert len(needed) > 100
    differing = len(needed) + len(keys) - 2 * int(torch.isin(needed, keys).sum())
    assert differing <= 2  # a voxel on the border of a pixel may fall either way


@pytest.mark.parametrize("degrees", [0, 45, 65])
def test_a_plane_at_an_angle_gives_euclidean_distance(degrees: float) -> None:
    angle = np.deg2rad(degrees)
    camera = looking_at(np.zeros(3), np.array([1.0, 0, 0]), (80, 80), 90)
    normal = np.array([-np.cos(angle), np.sin(angle), 0])
    depth = plane_depth(camera, normal, -3 * np.cos(angle), limit=4)
    volume = integrate(TsdfVolume(H, TRUNCATION, device=CPU), [camera], [depth])
    seen = contents(volume)["weight"].reshape(-1).numpy() > 0
    value = contents(volume)["tsdf"].reshape(-1).numpy()[seen] * TRUNCATION
    distance = centres(volume)[seen] @ normal + 3 * np.cos(angle)
    # In front of the band space is empty, whatever the distance; at the end of the plane slopes are
    # one-sided, which is exact, too.
    banded = value < TRUNCATION
    error = np.abs(value - distance)[banded]
    assert error.max() < 2e-3 * H  # float32 depth, differentiated


def test_the_order_of_views_does_not_matter() -> None:
    cameras = around(6, 4.0, size=(64, 64))
    depths = [sphere_depth(camera) for camera in cameras]
    weights = [float(1 + i % 3) for i in range(6)]
    results = []
    for order in ([0, 1, 2, 3, 4, 5], [5, 2, 0, 3, 1, 4]):
        volume = TsdfVolume(H, TRUNCATION, device=CPU, coloured=False)
        for i in order:
            depth = torch.from_numpy(depths[i])
            volume.integrate(depth, (depth > 0) * weights[i], None, cameras[i])
        results.append(contents(volume))
    for name, value in results[0].items():
        torch.testing.assert_close(value, results[1][name], atol=1e-5, rtol=1e-5)


def test_a_view_seen_many_times_changes_nothing_but_the_weight() -> None:
    camera = around(2, 4.0)[0]
    depth = sphere_depth(camera)
    once, often = (
        contents(integrate(TsdfVolume(H, TRUNCATION, device=CPU), [camera] * n, [depth] * n))
        for n in (1, 7)
    )
    torch.testing.assert_close(once["tsdf"], often["tsdf"], atol=1e-6, rtol=0)
    assert often["weight"].max() == 10  # four times 1, three times 2


def test_memory_does_not_grow_with_the_views() -> None:
    cameras = around(4, 4.0)
    depths = [sphere_depth(camera) for camera in cameras]
    volume = integrate(TsdfVolume(H, TRUNCATION, device=CPU), cameras, depths)
    before = volume.store.memory
    for _ in range(5):
        integrate(volume, cameras, depths)
    assert volume.store.memory == before


def test_memory_is_that_of_the_blocks_there_are() -> None:
    """Linear in them, and they are as many as a corridor is long."""
    counts = []
    for length in (4, 8, 16):
        volume = TsdfVolume(H, TRUNCATION, device=CPU)
        for x in range(length):
            camera = looking_at(np.array([x, 0.0, 0]), np.array([x, 1.0, 0]), (24, 24), 20)
            integrate(volume, [camera], [plane_depth(camera, np.array([0.0, 1, 0]), 2.0)])
        assert volume.store.memory == len(volume.store) * volume.store.block_bytes
        counts.append(len(volume.store))
    assert counts[2] - counts[1] == pytest.approx(2 * (counts[1] - counts[0]), rel=0.05)


def test_blocks_beyond_the_memory_come_back_bit_for_bit() -> None:
    free = sphere_volume(0.05)
    budget = 64 * free.store.block_bytes
    assert len(free.store) > 2 * 64
    bounded = sphere_volume(0.05, max_memory=budget)
    assert bounded.store.memory <= budget
    assert torch.equal(free.store.keys, bounded.store.keys)
    for name, value in contents(free).items():
        assert torch.equal(value, contents(bounded)[name]), name


def test_a_corridor_ten_times_longer_needs_the_same_memory() -> None:
    """Walking along walls, blocks left behind leave memory."""
    budget = 100 * 14 * EDGE**3
    peaks = []
    for length in (10, 100):
        volume = TsdfVolume(H, TRUNCATION, device=CPU, max_memory=budget)
        peak = 0
        for x in np.arange(0, length, 1.0):
            camera = looking_at(np.array([x, 0, 0]), np.array([x, 1.0, 0]), (24, 24), 20)
            depth = plane_depth(camera, np.array([0.0, 1, 0]), 2.0)
            integrate(volume, [camera], [depth])
            peak = max(peak, volume.store.memory)
        peaks.append((peak, len(volume.store)))
    assert peaks[1][0] <= budget
    assert peaks[1][1] <= 10.5 * peaks[0][1]
    assert peaks[1][1] * 14 * EDGE**3 > 2 * budget  # so it did not fit


def test_carving_empties_what_a_view_sees_through() -> None:
    """A floating mistake of one view vanishes when another sees the wall behind it."""
    camera = looking_at(np.zeros(3), np.array([0.0, 1, 0]), (60, 60), 50)
    wall = plane_depth(camera, np.array([0.0, 1, 0]), 4.0)
    wrong = wall.copy()
    wrong[25:35, 25:35] = 2
    for carve in (False, True):
        volume = integrate(TsdfVolume(H, TRUNCATION, device=CPU), [camera], [wrong])
        integrate(volume, [camera] * 2, [wall] * 2, carve=carve)
        at = np.abs(centres(volume) - [0, 2.1, 0]).max(axis=1) < 0.05  # behind the mistake
        assert at.sum() == 1
        value = float(contents(volume)["tsdf"].reshape(-1)[torch.from_numpy(at)])
        assert value > 0.5 if carve else value < 0
        # The wall itself is not harmed.
        behind = np.abs(centres(volume) - [1.5, 4.1, 0]).max(axis=1) < 0.05
        assert float(contents(volume)["tsdf"].reshape(-1)[torch.from_numpy(behind)]) < 0


def test_pixels_without_weight_say_nothing() -> None:
    camera = around(2, 4.0)[0]
    depth = torch.from_numpy(sphere_depth(camera))
    volume = TsdfVolume(H, TRUNCATION, device=CPU, coloured=False)
    volume.integrate(depth, torch.zeros_like(depth), None, camera)
    assert len(volume.store) == 0


def test_colours_are_the_average_of_the_views() -> None:
    camera = around(2, 4.0)[0]
    depth = torch.from_numpy(sphere_depth(camera))
    volume = TsdfVolume(H, TRUNCATION, device=CPU)
    for level, trust in ((10, 1.0), (200, 3.0)):
        colour = torch.full((*depth.shape, 3), level, dtype=torch.uint8)
        volume.integrate(depth, (depth > 0) * trust, colour, camera)
    values = contents(volume)
    seen = (values["weight"] > 0) & (values["tsdf"].abs() < 1)
    assert (values["colour"][seen].float() / 128 - 152.5).abs().max() < 0.05


def test_blocks_that_come_in_any_order_keep_their_values() -> None:
    store = BlockStore({"a": Field(torch.float32)}, CPU, max_memory=64 * 4 * EDGE**3)
    rng = np.random.default_rng(0)
    truth: dict[int, float] = {}
    for step in range(30):
        keys = torch.from_numpy(np.unique(rng.integers(0, 300, 40)))
        store.put(keys, {"a": torch.full((len(keys), EDGE**3), float(step))})
        truth |= dict.fromkeys(keys.tolist(), float(step))
    assert store.keys.tolist() == sorted(truth)
    values = store.read(store.keys)["a"]
    assert values[:, 0].tolist() == [truth[key] for key in sorted(truth)]
    assert bool((values == values[:, :1]).all())


def test_keys_sort_like_places_and_say_how_far_is_too_far() -> None:
    places = torch.tensor([[-3, 7, 0], [-3, 7, 1], [0, -5, 9], [400_000, 2, -400_000]])
    keys = pack(places)
    assert torch.equal(unpack(keys), places)
    assert (keys.diff() > 0).all()
    with pytest.raises(ValueError, match="larger voxels"):
        pack(torch.tensor([[0, 0, 1 << 20]]))


def test_wrong_sizes_are_refused() -> None:
    camera = around(2, 4.0)[0]
    volume = TsdfVolume(H, TRUNCATION, device=CPU)
    ones = torch.ones(camera.size)
    with pytest.raises(ValueError, match="camera is for"):
        volume.integrate(torch.ones(3, 4), torch.ones(3, 4), None, camera)
    with pytest.raises(ValueError, match="colours of"):
        volume.integrate(ones, ones, None, camera)
    with pytest.raises(ValueError, match="voxel size"):
        TsdfVolume(0.1, 0.05, device=CPU)
    with pytest.raises(ValueError, match="bytes are needed"):
        BlockStore({"a": Field(torch.float32)}, CPU, max_memory=1000)
