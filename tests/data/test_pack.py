"""A pack gives back what was packed, to as many readers as there are."""

import json
import pickle
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.pack import INDEX, PIXELS, is_pack, open_pack, pack_frames
from crispdepth.types import Camera, DepthMap, Size

K = np.array([[40.0, 0, 20], [0, 41, 15], [0, 0, 1]])


def make_frame(seed: int = 0, size: Size = (30, 40), instances: int = 5) -> RgbdFrame:
    rng = np.random.default_rng(seed)
    z = rng.uniform(0.5, 60, size).astype(np.float32)
    valid = rng.random(size) > 0.1
    moved = np.eye(4)
    moved[:3, 3] = rng.normal(size=3)
    camera = Camera(K, (30, 40), moved).resized(size)
    ids = 7 * rng.integers(0, instances + 1, size).astype(np.int32)
    image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    return RgbdFrame(f"scene/{seed:04}", image, DepthMap(z, "depth", "m", valid, camera), ids)


def repacked(frames: Sequence[RgbdFrame], folder: Path, **options: bool | int) -> RgbdFrame:
    pack_frames(frames, folder, **options)  # type: ignore[arg-type]
    first: RgbdFrame = open_pack(folder)[0]
    return first


def equal_inverse(a: DepthMap, b: DepthMap) -> bool:
    """To half a step of what is stored, and valid in the same places."""
    inverse = [1 / np.where(d.usable, d.values, np.inf).astype(np.float64) for d in (a, b)]
    tolerance = inverse[0].max() / 65535 * 0.51
    close = np.abs(inverse[0] - inverse[1]).max() <= tolerance
    return bool(close) and np.array_equal(a.usable, b.usable)


@pytest.mark.parametrize("compact", [False, True])
def test_frames_come_back(tmp_path: Path, compact: bool) -> None:
    frames = [make_frame(1), make_frame(2, (24, 50)), make_frame(3)]
    pack_frames(frames, tmp_path, compact=compact)
    again = open_pack(tmp_path)
    assert [frame.name for frame in again] == [frame.name for frame in frames]
    for frame, back in zip(frames, again, strict=True):
        assert equal_inverse(frame.depth, back.depth)
        np.testing.assert_array_equal(back.instances, frame.instances)
        assert frame.depth.camera is not None
        assert back.depth.camera is not None
        np.testing.assert_array_equal(back.depth.camera.K, frame.depth.camera.K)
        pose = frame.depth.camera.cam_from_world
        np.testing.assert_array_equal(back.depth.camera.cam_from_world, pose)
        if not compact:
            np.testing.assert_array_equal(back.image, frame.image)


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("instances", [0, 5])
def test_rough_depth_comes_back_up_to_its_scale(
    tmp_path: Path, compact: bool, instances: int
) -> None:
    rough = np.random.default_rng(0).normal(-3, 2, (30, 40)).astype(np.float32)
    frame = replace(make_frame(), rough=rough)
    if not instances:
        frame = replace(frame, instances=None)
    back = repacked([frame], tmp_path, compact=compact)
    assert back.rough is not None
    assert (back.instances is None) == (frame.instances is None)
    stretched = (rough - rough.min()) * (65535 / np.ptp(rough))
    np.testing.assert_allclose(back.rough, stretched, atol=0.51)
    assert equal_inverse(frame.depth, back.depth)


@pytest.mark.parametrize("compact", [False, True])
def test_soft_masks_come_back(tmp_path: Path, compact: bool) -> None:
    mask = np.random.default_rng(1).integers(0, 256, (30, 40)).astype(np.uint8)
    frames = [replace(make_frame(), mask=mask), make_frame(1)]
    pack_frames(frames, tmp_path, compact=compact)
    first, second = open_pack(tmp_path)
    np.testing.assert_array_equal(first.mask, mask)
    assert second.mask is None
    assert repacked([frames[0]], tmp_path, longest=20).mask is not None


def test_a_pack_from_before_there_were_masks_is_read(tmp_path: Path) -> None:
    frame = repacked([make_frame()], tmp_path)
    index = json.loads((tmp_path / INDEX).read_text())
    index["version"] = 2
    index["frames"][0][3] = index["frames"][0][3][:4]
    (tmp_path / INDEX).write_text(json.dumps(index))
    np.testing.assert_array_equal(open_pack(tmp_path)[0].image, frame.image)


def test_a_frame_without_rough_depth_has_none(tmp_path: Path) -> None:
    assert repacked([make_frame()], tmp_path).rough is None


def test_a_compact_photo_looks_the_same(tmp_path: Path) -> None:
    y, x = np.mgrid[:30, :40]
    image = np.stack([5 * x, 8 * y, 128 + 0 * x], axis=-1).astype(np.uint8)
    frame = replace(make_frame(), image=image)
    back = repacked([frame], tmp_path, compact=True)
    assert np.abs(back.image.astype(int) - image).mean() < 3  # colours are in their places


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=30))
def test_far_depths_stay_valid_and_near_ones_exact(
    tmp_path_factory: pytest.TempPathFactory, depths: list[float]
) -> None:
    z = np.array([depths], np.float32)
    frame = RgbdFrame("a", np.zeros((*z.shape, 3), np.uint8), DepthMap(z, "depth", "m"))
    back = repacked([frame], tmp_path_factory.mktemp("pack")).depth
    assert back.usable.all()
    nearest = np.argmin(z)
    assert back.values.flat[nearest] == pytest.approx(z.flat[nearest], rel=1e-6)
    assert back.values.max() <= 65536 * z.min()


def test_a_frame_without_any_depth_or_instances_comes_back(tmp_path: Path) -> None:
    nothing = DepthMap(np.zeros((4, 5), np.float32), "depth", "m")
    back = repacked([RgbdFrame("a", np.zeros((4, 5, 3), np.uint8), nothing)], tmp_path)
    assert not back.depth.usable.any()
    assert back.instances is None
    assert back.depth.camera is None


def test_of_too_many_instances_the_largest_are_kept(tmp_path: Path) -> None:
    ids = np.zeros((30, 40), np.int32)
    ids.flat[:600] = np.repeat(np.arange(1, 301), 2)
    ids.flat[600:900] = 9000
    back = repacked([replace(make_frame(), instances=ids)], tmp_path)
    assert back.instances is not None
    kept = np.unique(back.instances)
    assert len(kept) == 1 + 255
    assert {0, 9000} <= {*kept.tolist()}
    np.testing.assert_array_equal(back.instances[np.isin(ids, kept)], ids[np.isin(ids, kept)])


def test_shrinking_keeps_the_frame_together(tmp_path: Path) -> None:
    frame = make_frame(size=(60, 80))
    back = repacked([frame], tmp_path, longest=40)
    assert back.depth.size == (30, 40)
    assert back.depth.camera is not None
    np.testing.assert_allclose(back.depth.camera.K, K)
    assert frame.instances is not None
    assert back.instances is not None
    assert np.isin(back.instances, frame.instances).all()
    assert back.depth.usable.mean() == pytest.approx(frame.depth.usable.mean(), abs=0.05)


def test_shrinking_makes_no_depth_between_two_surfaces(tmp_path: Path) -> None:
    near = np.indices((64, 64)).sum(axis=0) % 14 < 7
    z = np.where(near, 2, 8).astype(np.float32)
    frame = RgbdFrame("a", np.zeros((64, 64, 3), np.uint8), DepthMap(z, "depth", "m"))
    values = repacked([frame], tmp_path, longest=24).depth.values
    assert np.isclose(values, 2, rtol=1e-4).any()
    assert (np.isclose(values, 2, rtol=1e-4) | np.isclose(values, 8, rtol=1e-4)).all()


def test_frames_that_are_small_enough_are_not_resized(tmp_path: Path) -> None:
    frame = make_frame()
    np.testing.assert_array_equal(repacked([frame], tmp_path, longest=40).image, frame.image)


def _mean_of(frames: Sequence[RgbdFrame], index: int) -> float:
    return float(frames[index].image.mean())


def test_other_processes_read_it_too(tmp_path: Path) -> None:
    frames = [make_frame(seed) for seed in range(4)]
    pack_frames(frames, tmp_path)
    pack = open_pack(tmp_path)
    assert len(pickle.dumps(pack)) < 6000  # what travels are entries, not pixels
    _mean_of(pack, 0)  # mapped here already
    with ProcessPoolExecutor(2) as pool:
        means = list(pool.map(_mean_of, [pack] * 4, range(4)))
    assert means == [frame.image.mean() for frame in frames]


def test_a_slice_is_a_pack_of_fewer_frames(tmp_path: Path) -> None:
    pack_frames([make_frame(seed) for seed in range(5)], tmp_path)
    assert [frame.name for frame in open_pack(tmp_path)[1:4:2]] == ["scene/0001", "scene/0003"]


def test_a_raw_pack_takes_six_bytes_per_pixel(tmp_path: Path) -> None:
    pack_frames([make_frame(seed) for seed in range(3)], tmp_path)
    assert (tmp_path / PIXELS).stat().st_size == 3 * 6 * 30 * 40


def test_packing_replaces_a_pack(tmp_path: Path) -> None:
    pack_frames([make_frame(seed) for seed in range(3)], tmp_path)
    assert repacked([make_frame(9)], tmp_path).name == "scene/0009"
    assert len(open_pack(tmp_path)) == 1


def _broken_off() -> Iterator[RgbdFrame]:
    yield make_frame()
    raise OSError("the disk was unplugged")


def test_a_pack_that_was_not_finished_is_none(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="unplugged"):
        pack_frames(_broken_off(), tmp_path)
    assert not is_pack(tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no pack"):
        open_pack(tmp_path)


def test_a_pack_stays_until_the_one_that_replaces_it_is_whole(tmp_path: Path) -> None:
    pack_frames([make_frame(1)], tmp_path)
    with pytest.raises(OSError, match="unplugged"):
        pack_frames(_broken_off(), tmp_path)
    with pytest.raises(ValueError, match="no frame to pack"):
        pack_frames([], tmp_path)
    assert [frame.name for frame in open_pack(tmp_path)] == ["scene/0001"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [PIXELS, INDEX]


def test_no_frames_make_no_pack(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no frame to pack"):
        pack_frames([], tmp_path)
    assert not is_pack(tmp_path)


def test_a_size_below_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="longest must be 1 or more pixels, got 0"):
        pack_frames([make_frame()], tmp_path, longest=0)


@pytest.mark.parametrize("damage", ["cut", "version", "json"])
def test_a_damaged_pack_is_refused(tmp_path: Path, damage: str) -> None:
    pack_frames([make_frame()], tmp_path)
    index = json.loads((tmp_path / INDEX).read_text("utf-8"))
    if damage == "cut":
        (tmp_path / PIXELS).write_bytes((tmp_path / PIXELS).read_bytes()[:-1])
    elif damage == "version":
        (tmp_path / INDEX).write_text(json.dumps({**index, "version": 99}))
    else:
        (tmp_path / INDEX).write_text(json.dumps(index)[:-9])
    with pytest.raises(ValueError, match=r"Cannot use the pack .*Make it again"):
        open_pack(tmp_path)
