"""Samples of volumes: what they hold fits together, whatever the draw."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.volume_config import VolumeSampleConfig
from crispdepth.data.volume_samples import VolumeSample, VolumeSampler, box_of
from crispdepth.geometry.warp import in_camera, sees
from crispdepth.io.view_depths import write_view_depth
from crispdepth.ops.resample import shrink_depth
from crispdepth.types import Camera, DepthMap, ViewDepth
from tests.posed import ball_frames

PLAIN = VolumeSampleConfig(
    volume=(16, 16, 12),
    voxel=(0.15, 0.2),
    size=(96, 128),
    views=(3, 3),
    synthetic=0,
    tilted=0,
    pose_errors=0,
    masked=0,
    colour=0,
)


@pytest.fixture(scope="module")
def frames() -> list[RgbdFrame]:
    return ball_frames("balls")


def points_of(sample: VolumeSample, depth: NDArray[np.float32]) -> NDArray[np.float64]:
    """What the pixels of the small depth maps show, in the frame of the box."""
    found = []
    height, width = depth.shape[1:]
    for values, K, pose in zip(depth, sample.K, sample.cam_from_world, strict=True):
        rows, columns = np.nonzero(values)
        z = values[rows, columns]
        small = np.diag([0.25, 0.25, 1]) @ K
        pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(len(z))])
        points = np.linalg.inv(small) @ pixels * z
        found.append((pose[:3, :3].T @ (points - pose[:3, 3:])).T)
    assert (height, width) == (sample.images.shape[1] // 4, sample.images.shape[2] // 4)
    return np.concatenate(found)


def field_at(sample: VolumeSample, points: NDArray[np.float64]) -> NDArray[np.float32]:
    """Signed distances, in voxels, of the voxels that points of the box fall into."""
    grid = box_of(sample.tsdf.shape, float(sample.voxel))
    cell = np.rint(points / grid.voxel_size).astype(int) - np.array(grid.first)
    inside = ((cell >= 0) & (cell < np.array(grid.shape))).all(axis=1)
    found: NDArray[np.float32] = 3 * sample.tsdf[tuple(cell[inside].T)]
    return found


def test_the_surface_of_the_truth_is_where_the_depths_say(frames: list[RgbdFrame]) -> None:
    sampler = VolumeSampler(frames, PLAIN)
    for index in range(4):
        sample = sampler.draw(0, index, 3)
        distance = field_at(sample, points_of(sample, sample.depth))
        assert len(distance) > 50
        assert np.quantile(np.abs(distance), 0.9) < 2
        assert sample.observed.any()
        assert (sample.tsdf[~sample.observed] == -1).all()


def test_a_sample_is_a_function_of_its_number(frames: list[RgbdFrame]) -> None:
    sampler = VolumeSampler(frames, VolumeSampleConfig(size=(48, 64), volume=(8, 8, 8)))
    first, again, other = (sampler.draw(3, index, 4) for index in (5, 5, 6))
    for part, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(part, same)
    assert not np.array_equal(first.tsdf, other.tsdf)


def test_the_world_is_turned_about_the_vertical_unless_it_is_tilted(
    frames: list[RgbdFrame],
) -> None:
    def ups(config: VolumeSampleConfig) -> list[NDArray[np.float64]]:
        found = []
        for index in range(4):
            sample = VolumeSampler(frames, config).draw(0, index, 3)
            # All cameras look at the ball from one height, so they are alike but for a turn.
            centres = [-pose[:3, :3].T @ pose[:3, 3] for pose in sample.cam_from_world]
            normal = np.cross(centres[1] - centres[0], centres[2] - centres[0])
            found.append(np.abs(normal / np.linalg.norm(normal)))
        return found

    for up in ups(PLAIN):
        np.testing.assert_allclose(up, [0, 0, 1], atol=1e-3)
    assert min(up[2] for up in ups(replace(PLAIN, tilted=1))) < 0.9


def test_depths_are_the_true_ones_with_errors_or_those_that_were_found(
    frames: list[RgbdFrame], tmp_path: Path
) -> None:
    for frame in frames:
        values = 1.02 * frame.depth.values
        found = ViewDepth(DepthMap(values, "depth", "m"), np.full(values.shape, 0.5, np.float32))
        write_view_depth(tmp_path, frame.name, found)
    sample = VolumeSampler(frames, PLAIN, [tmp_path]).draw(0, 0, 3)
    size = sample.depth.shape[1:]
    rough = [
        shrink_depth(*each, size)[0] for each in zip(sample.rough, sample.confidence, strict=True)
    ]
    known = sample.depth > 0
    assert known.sum() > 1000
    np.testing.assert_allclose(np.stack(rough)[known], 1.02 * sample.depth[known], rtol=1e-4)
    assert sample.confidence.max() == pytest.approx(0.5, abs=1e-4)
    synthetic = VolumeSampler(frames, replace(PLAIN, synthetic=1), [tmp_path]).draw(0, 0, 3)
    assert not np.array_equal(synthetic.rough, sample.rough)
    np.testing.assert_array_equal(synthetic.tsdf, sample.tsdf)


def test_wrong_poses_do_not_move_the_truth(frames: list[RgbdFrame]) -> None:
    right, wrong = (
        VolumeSampler(frames, replace(PLAIN, pose_errors=chance)).draw(0, 1, 3) for chance in (0, 1)
    )
    np.testing.assert_array_equal(right.tsdf, wrong.tsdf)
    assert 0 < np.abs(right.cam_from_world - wrong.cam_from_world).max() < 0.3


def test_an_object_alone_has_depth_and_truth_of_nothing_else(frames: list[RgbdFrame]) -> None:
    sample = VolumeSampler(frames, replace(PLAIN, masked=1)).draw(0, 0, 3)
    turned_back = points_of(sample, sample.depth)
    assert len(turned_back) > 20
    spread = np.linalg.norm(turned_back - turned_back.mean(axis=0), axis=1)
    assert spread.max() < 1.3  # the half of a ball of radius 1 that is seen
    assert 0 < (sample.rough > 0).mean() < (sample.depth > 0).mean()  # the outline has no vote
    whole = VolumeSampler(frames, PLAIN).draw(0, 0, 3)
    assert sample.observed.sum() < whole.observed.sum()


def test_the_truth_knows_more_views_than_are_fused(frames: list[RgbdFrame]) -> None:
    few, many = (
        VolumeSampler(frames, replace(PLAIN, truth=truth)).draw(0, 2, 3) for truth in (3, 6)
    )
    assert few.images.shape == many.images.shape
    assert many.observed.mean() != few.observed.mean()


def test_boxes_lie_where_the_views_see_something(frames: list[RgbdFrame]) -> None:
    sampler = VolumeSampler(frames, PLAIN)
    sample = sampler.draw(0, 3, 3)
    camera = Camera(sample.K[0], PLAIN.size, sample.cam_from_world[0].astype(np.float64))
    grid = box_of(PLAIN.volume, float(sample.voxel))
    centres = np.stack(np.meshgrid(*grid.axes(), indexing="ij"), axis=-1).reshape(-1, 3)
    assert sees(camera, in_camera(camera, centres.astype(np.float32))).any()
    assert torch.from_numpy(sample.tsdf).isfinite().all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"synthetic": 1.5}, "synthetic"),
        ({"volume": (16, 18, 12)}, "multiples of 4"),
        ({"size": (60, 80)}, "multiples of 16"),
        ({"voxel": (0.2, 0.1)}, "smallest first"),
        ({"views": (4, 3)}, "fewest first"),
    ],
)
def test_numbers_out_of_range_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(PLAIN, **changes)  # type: ignore[arg-type]


def test_more_views_than_a_scene_has_are_refused(frames: list[RgbdFrame]) -> None:
    with pytest.raises(ValueError, match="the most are 6"):
        VolumeSampler(frames, PLAIN).draw(0, 0, 7)
