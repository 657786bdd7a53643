import pytest
import torch
from torch import Tensor

from crispdepth.geometry.voxel_grid import VoxelGrid
from crispdepth.models.volume.config import (
    Embedding,
    FusionConfig,
    StereoConfig,
    VolumeNetworkConfig,
)
from crispdepth.models.volume.network import VolumeNetwork
from crispdepth.models.volume.stereo import OVERLAPS

SIZE = (32, 48)
GRID = VoxelGrid(0.2, (-6, -4, 4), (12, 8, 16))
NEIGHBOURS = torch.tensor([[1, 2], [0, 2], [1, 0]])


def network(embedding: Embedding = "tsdf") -> VolumeNetwork:
    torch.manual_seed(0)
    config = VolumeNetworkConfig(
        StereoConfig(channels=8, pyramid=(4, 8, 8), planes=6, width=4, hourglasses=1),
        FusionConfig(embedding=embedding, width=4, hourglasses=1),
    )
    return VolumeNetwork(config).eval()


def scene() -> tuple[Tensor, Tensor, Tensor]:
    """Images, K and poses of three views side by side."""
    images = torch.rand(3, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    K = torch.tensor([[40.0, 0, 24], [0, 40, 16], [0, 0, 1]]).expand(3, 3, 3)
    poses = torch.eye(4).repeat(3, 1, 1)
    poses[:, 0, 3] = torch.tensor([0.0, -0.2, -0.4])
    return images, K, poses


def test_a_scene_is_one_volume() -> None:
    made = network()
    with torch.no_grad():
        tsdf, stereo = made(*scene(), GRID, NEIGHBOURS)
    assert [each.shape for each in tsdf] == [GRID.shape]
    assert tsdf[-1].abs().max() <= 1
    assert stereo.depth.shape == stereo.overlap.shape == (1, 3, 8, 12)
    assert stereo.logits.shape == (1, 3, 6, 8, 12)
    assert stereo.features.shape == (1, 3, 8, 8, 12)


def test_it_is_stereo_of_each_view_with_its_neighbours_and_then_fusion() -> None:
    made = network()
    images, K, poses = scene()
    with torch.no_grad():
        tsdf, found = made(images, K, poses, GRID, NEIGHBOURS)
        accumulator = made.fusion.accumulator(GRID, images.device)
        for view, others in enumerate(NEIGHBOURS.tolist()):
            group = [view, *others]
            alone = made.stereo(images[group][None], K[group][None], poses[group][None], 1)
            torch.testing.assert_close(found.depth[0, view], alone.depth[0, 0])
            small = K[view].clone()
            small[:2] /= 4
            weight = (alone.overlap[0, 0] > OVERLAPS).float()
            accumulator.add(alone.features[0, 0], small, poses[view], alone.depth[0, 0], weight)
        expected = made.fusion.regress(made.fusion.unify(accumulator))
    torch.testing.assert_close(tsdf[-1], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("embedding", ["tsdf", "splat"])
def test_distances_teach_both_stages(embedding: Embedding) -> None:
    made = network(embedding)
    tsdf, _ = made(*scene(), GRID, NEIGHBOURS, mask_source="predicted")
    torch.autograd.backward(tsdf[-1].square().sum())
    for part in (
        made.stereo.features,
        made.stereo.depth_head,
        made.stereo.overlap_head,
        made.fusion.posed,
        made.fusion.hourglasses,
    ):
        gradients = [each.grad for each in part.parameters()]
        assert all(each is not None and each.isfinite().all() for each in gradients)
        assert any(each is not None and each.abs().sum() > 0 for each in gradients)


def test_the_true_mask_may_take_the_place_of_the_predicted_one() -> None:
    made = network()
    with torch.no_grad():
        empty = torch.zeros(3, 8, 12)
        tsdf, _ = made(*scene(), GRID, NEIGHBOURS, mask_source="truth", overlap=empty)
        # Nothing counts, so that the channel of depth is that of no depth at all.
        images, K, poses = scene()
        accumulator = made.fusion.accumulator(GRID, images.device)
        small = K.clone()
        small[:, :2] /= 4
        for view in zip(made.stereo.features(images), small, poses, strict=True):
            accumulator.add(*view)
        expected = made.fusion.regress(made.fusion.unify(accumulator))
    torch.testing.assert_close(tsdf[-1], expected, rtol=1e-4, atol=1e-4)
