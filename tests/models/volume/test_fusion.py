import math
import pickle
from collections.abc import Sequence
from typing import get_args

import pytest
import torch
from torch import Tensor

from crispdepth.geometry.voxel_grid import VoxelGrid
from crispdepth.models.volume.config import Embedding, FusionConfig, Rotation
from crispdepth.models.volume.fusion import Accumulator, FusionNetwork, sight_limit
from crispdepth.ops.posed_conv import posed_conv
from crispdepth.ops.volume_features import backproject, in_sight, taps

CPU = torch.device("cpu")
SIZE = (12, 16)
GRID = VoxelGrid(0.1, (-8, -6, 10), (16, 12, 20))
K = torch.tensor([[14.0, 0, 8.2], [0, 14, 5.9], [0, 0, 1]])


def pose(turn: float = 0.0, x: float = 0.0) -> Tensor:
    """cam_from_world of a camera beside the origin, turned about its optical axis."""
    moved = torch.eye(4)
    moved[:2, :2] = torch.tensor(
        [[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]
    )
    moved[0, 3] = x
    return moved


def views(count: int = 5) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Features, K, pose and depth of views of a slanted wall, from different rotations."""
    rng = torch.Generator().manual_seed(2)
    column = torch.arange(SIZE[1]) + 0.5
    depth = 1 / (0.5 - 0.004 * column).expand(SIZE)
    return [
        (torch.randn(4, *SIZE, generator=rng), K, pose(0.7 * turn, 0.1 * turn), depth + 0.02 * turn)
        for turn in range(count)
    ]


def network(**settings: object) -> FusionNetwork:
    """A small network in evaluation mode, with norms that do something."""
    torch.manual_seed(1)
    made = FusionNetwork(FusionConfig(width=4, hourglasses=1, **settings), 4).eval()  # type: ignore[arg-type]
    for part in made.modules():
        if isinstance(part, torch.nn.BatchNorm3d):
            torch.nn.init.normal_(part.running_mean, std=0.1)  # type: ignore[arg-type]
            torch.nn.init.uniform_(part.weight, 0.5, 1.5)
            torch.nn.init.normal_(part.bias, std=0.1)
    return made


def test_a_fresh_residual_network_returns_the_fused_signed_distance() -> None:
    made = network(embedding="tsdf", residual=True)
    accumulator = made.accumulator(GRID, CPU)
    for view in views():
        accumulator.add(*view)
    fused = accumulator.depth_channel()
    assert fused.abs().max() <= 1
    assert (fused.abs() < 0.9).sum() > 100
    assert torch.equal(made.regress(made.unify(accumulator)), fused)


def accumulated(made: FusionNetwork, given: Sequence[tuple[Tensor, ...]]) -> Accumulator:
    accumulator = made.accumulator(GRID, CPU)
    for view in given:
        accumulator.add(*view)
    return accumulator


@pytest.mark.parametrize("rotation", get_args(Rotation))
def test_sums_of_a_stream_are_the_mean_over_all_views(rotation: Rotation) -> None:
    made = network(rotation=rotation, embedding="none")
    total, counts = torch.zeros(4, *GRID.shape), torch.zeros(GRID.shape)
    for features, intrinsics, place, _ in views():
        sight = in_sight(GRID, intrinsics, place, SIZE)
        rows = backproject(features, sight, taps(sight, SIZE, "bilinear"), len(GRID))
        volume = rows.T.reshape(4, *GRID.shape)
        if rotation == "none":
            total += made.posed(volume[None])[0]
        else:
            total += posed_conv(volume, made.posed.weight, place[:3, :3], rotation)
        counts.view(-1)[sight.voxels] += 1
    mean = torch.where(counts > 0, total / counts.clamp_min(1), 0)
    expected = made.posed_norm(mean[None])[0].relu()
    found = made.unify(accumulated(made, views()))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("embedding", get_args(Embedding))
def test_views_have_no_order(embedding: Embedding) -> None:
    made = network(embedding=embedding)
    here = made.unify(accumulated(made, views()))
    there = made.unify(accumulated(made, views()[::-1]))
    torch.testing.assert_close(here, there, rtol=1e-5, atol=1e-5)
    assert len(here) == 4 + (embedding != "none")


@pytest.mark.parametrize("embedding", ["count", "visible", "splat", "tsdf"])
def test_the_same_view_again_changes_nothing(embedding: Embedding) -> None:
    made = network(embedding=embedding)
    once = made.unify(accumulated(made, views()[:1]))
    thrice = made.unify(accumulated(made, views()[:1] * 3))
    torch.testing.assert_close(once, thrice, rtol=1e-5, atol=1e-5)


def test_votes_of_a_view_are_zero_or_one_and_add_up_over_views() -> None:
    """Many pixels of a view in one voxel are one vote; of the same view thrice, three."""
    made, view = network(embedding="count"), views(1)[0]
    once, thrice = (accumulated(made, [view] * count) for count in (1, 3))
    channel = once.depth_channel()
    assert torch.unique(channel).tolist() == [0, 1]
    assert 10 < channel.sum() < (view[3] > 0).sum()
    torch.testing.assert_close(thrice.depth_channel() * thrice.views, 3 * channel)


def reachable(thing: object) -> int:
    """Bytes of all arrays that an object holds, however deep."""
    return len(pickle.dumps(thing))


@torch.no_grad()
def test_memory_does_not_grow_with_the_number_of_views() -> None:
    made = network(embedding="tsdf")
    few, many = accumulated(made, views(5)), accumulated(made, views(5) * 4)
    size = reachable(few)
    assert size > 4 * made.channels * len(GRID)
    assert reachable(many) == pytest.approx(size, abs=100)
    many.kept = [torch.zeros(100)]  # type: ignore[attr-defined]
    assert reachable(many) > size + 300, "what is kept would be seen"


def test_settled_rotations_give_the_same() -> None:
    made = network()
    accumulator = made.accumulator(GRID, CPU)
    for view in views():
        accumulator.add(*view)
        made.settle(accumulator)
    assert not accumulator.sums
    expected = made.unify(accumulated(made, views()))
    torch.testing.assert_close(made.unify(accumulator), expected, rtol=1e-5, atol=1e-5)


def test_votes_are_the_share_of_views() -> None:
    features, intrinsics, place, depth = views(1)[0]
    past = torch.zeros(SIZE)
    past[0, 0] = 100  # sees all voxels, and no surface among them
    given = [(features, intrinsics, place, depth), (features, intrinsics, place, past)]
    values = {}
    for embedding in ("count", "visible"):
        channel = accumulated(network(embedding=embedding), given).depth_channel()
        values[embedding] = torch.unique(channel).tolist()
    assert values == {"count": [0, 0.5], "visible": [0, 0.5]}
    # A view that looks away is one more of all, but not of those that see a voxel.
    away = torch.diag(torch.tensor([-1.0, 1, -1, 1]))
    given.append((features, intrinsics, away, depth))
    for embedding, most in (("count", 1 / 3), ("visible", 0.5)):
        channel = accumulated(network(embedding=embedding), given).depth_channel()
        assert float(channel.max()) == pytest.approx(most)


def test_a_surface_seen_from_the_front_fills_its_voxels_once_when_splat() -> None:
    intrinsics = torch.tensor([[40.0, 0, 20], [0, 40, 20], [0, 0, 1]])
    grid = VoxelGrid(0.1, (-5, -5, 10), (11, 11, 10))
    made = network(embedding="splat")
    accumulator = made.accumulator(grid, CPU)
    accumulator.add(torch.zeros(4, 40, 40), intrinsics, torch.eye(4), torch.full((40, 40), 1.5))
    channel = accumulator.depth_channel()
    torch.testing.assert_close(channel[2:-2, 2:-2, 5], torch.ones(7, 7), rtol=0.1, atol=0)
    assert float(channel[:, :, :5].abs().max()) == float(channel[:, :, 6:].abs().max()) == 0


def test_signed_distances_are_those_of_a_plane() -> None:
    wall = [
        (each, intrinsics, place, torch.full(SIZE, 2.0)) for each, intrinsics, place, _ in views()
    ]
    accumulator = accumulated(network(embedding="tsdf", truncation=4.0), wall)
    z = torch.from_numpy(GRID.axes()[2]).float()
    expected = ((2 - z) / 0.4).clamp(-1, 1).expand(GRID.shape)
    known = accumulator.observed()
    # Nothing is known of what lies more than the truncation behind the wall, or beside all views.
    assert not known[:, :, z > 2.45].any()
    assert known[:, :, z < 2.35].sum() == (accumulator.seen > 0)[:, :, z < 2.35].sum() > 0
    torch.testing.assert_close(accumulator.depth_channel()[known], expected[known])
    assert (accumulator.depth_channel()[~known] == -1).all()


@pytest.mark.parametrize("embedding", ["tsdf", "none"])
@pytest.mark.parametrize("truncate", [0.0, 3.0])
def test_depth_may_be_of_another_size_than_features(embedding: Embedding, truncate: float) -> None:
    """A plane across the view is the same in any size, and so is what is read of features."""
    made = network(embedding=embedding, truncate=truncate)
    features = views(1)[0][0]
    volumes = [
        made.unify(
            accumulated(made, [(features, K, pose(), torch.full(size, 1.63), torch.ones(size))])
        )
        for size in (SIZE, (36, 80), (5, 7))
    ]
    assert (volumes[0] != 0).any()
    for other in volumes[1:]:
        torch.testing.assert_close(other, volumes[0], rtol=1e-5, atol=1e-5)


def test_a_weight_of_zero_casts_no_vote() -> None:
    """Of two walls whose depth edge is blurred, nothing stays between them (spec B.8)."""
    near, far, edge = 1.4, 2.4, 8
    depth = torch.full(SIZE, near)
    depth[:, edge:] = far
    soft = torch.nn.functional.avg_pool2d(depth[None], (1, 5), 1, (0, 2), count_include_pad=False)
    blurred = soft[0]
    weight = torch.ones(SIZE)
    weight[:, edge - 2 : edge + 2] = 0
    z = torch.from_numpy(GRID.axes()[2])
    between = ((z - near).abs() > GRID.voxel_size) & ((z - far).abs() > GRID.voxel_size)
    filled = {}
    for name, given in (("all", None), ("masked", weight)):
        accumulator = network(embedding="count").accumulator(GRID, CPU)
        accumulator.add(torch.zeros(4, *SIZE), K, pose(), blurred, given)
        filled[name] = int((accumulator.depth_channel()[:, :, between] > 0).sum())
    assert filled["all"] > 10
    assert filled["masked"] == 0
    fused = network(embedding="tsdf").accumulator(GRID, CPU)
    fused.add(torch.zeros(4, *SIZE), K, pose(), blurred, torch.zeros(SIZE))
    assert not fused.observed().any()


def test_a_view_says_nothing_beyond_the_farthest_that_counts() -> None:
    """The same in training and in use, which asks tiles by it."""
    features, _, place, depth = views(1)[0]
    depth, weight = depth.clone(), torch.ones(SIZE)
    depth[0, 0], weight[0, 0] = 100, 0  # does not count
    limit = sight_limit(depth, weight, 0.3)
    assert limit == pytest.approx(float(views(1)[0][3].max()) + 0.3)
    assert sight_limit(depth, None, 0.3) == pytest.approx(100.3)
    assert sight_limit(0 * depth, weight, 0.3) == math.inf
    z = torch.from_numpy(GRID.axes()[2])
    for embedding, last in (("tsdf", limit), ("visible", limit), ("none", math.inf)):
        accumulator = network(embedding=embedding).accumulator(GRID, CPU)
        accumulator.add(features, K, place, depth, weight)
        reached = accumulator.seen.amax(dim=(0, 1)) > 0
        assert torch.equal(reached, z <= last)
        assert not accumulator.sums[0].view(*GRID.shape, -1)[:, :, ~reached].any()


def test_features_may_be_kept_to_the_surface() -> None:
    made = network(truncate=2.0, embedding="tsdf", rotation="none")
    accumulator = accumulated(made, views(1))
    rows = accumulator.sums[0].view(*GRID.shape, 4).abs().sum(-1)
    z = torch.from_numpy(GRID.axes()[2])
    depth = views(1)[0][3]
    outside = (z < float(depth.min()) - 0.21) | (z > float(depth.max()) + 0.21)
    assert (rows[:, :, outside] == 0).all()
    assert (accumulator.counts[:, :, outside] == 0).all()
    assert torch.equal(rows > 0, accumulator.counts > 0)
    assert accumulator.counts.sum() > 100


@pytest.mark.parametrize("hourglasses", [1, 2])
def test_the_halo_is_what_an_answer_depends_on(hourglasses: int) -> None:
    torch.manual_seed(0)
    made = FusionNetwork(
        FusionConfig(rotation="none", embedding="none", width=1, hourglasses=hourglasses), 1
    )
    made.double().eval()
    for parameter in made.parameters():
        parameter.data.abs_()  # nothing is cut off by a ReLU or cancels
    side = 2 * made.halo + 4 + 4
    side += -side % made.stride
    reach = 0
    for axis in range(3):
        shape = [8, 8, 8]
        shape[axis] = side
        for place in range(made.halo, made.halo + made.stride):
            # So little that no hyperbolic tangent is full.
            volume = torch.full((1, 1, *shape), 1e-9, dtype=torch.float64, requires_grad=True)
            mean = made.posed(volume)[0]
            answer = made.regress(made.posed_norm(mean[None])[0].relu())
            at = [4, 4, 4]
            at[axis] = place
            (gradient,) = torch.autograd.grad(answer[tuple(at)], volume)
            touched = (gradient[0, 0] != 0).nonzero()[:, axis]
            reach = max(reach, int((touched - place).abs().max()))
    assert reach == made.halo


def test_a_tile_with_its_halo_answers_as_the_whole() -> None:
    made = network(embedding="tsdf", residual=True)
    for head in made.heads:
        torch.nn.init.normal_(head[-1].weight, std=0.3)  # type: ignore[index]
    grid = VoxelGrid(0.05, (-20, -16, 20), (40, 32, 56))
    whole = made.accumulator(grid, CPU)
    halo = -(-made.halo // made.stride) * made.stride
    tile = VoxelGrid(0.05, (-20, -16, 20), (40, 32, 8 + halo + 12))
    part = made.accumulator(tile, CPU)
    for view in views():
        whole.add(*view)
        part.add(*view)
    with torch.no_grad():
        expected, found = (made.regress(made.unify(each)) for each in (whole, part))
    assert (expected - whole.depth_channel()).abs().max() > 0.1
    kept = slice(0, tile.shape[2] - made.halo)
    torch.testing.assert_close(found[:, :, kept], expected[:, :, kept], rtol=1e-5, atol=1e-5)
    beyond = slice(tile.shape[2] - 2, None)
    assert (found[:, :, beyond] - expected[:, :, : tile.shape[2]][:, :, beyond]).abs().max() > 1e-4


def test_tiles_may_be_answered_together() -> None:
    made = network()
    volumes = torch.randn(2, 5, 8, 12, 8, generator=torch.Generator().manual_seed(0))
    together = made.regress(volumes)
    for volume, answer in zip(volumes, together, strict=True):
        torch.testing.assert_close(made.regress(volume), answer, rtol=1e-5, atol=1e-5)


def test_every_hourglass_answers_in_training() -> None:
    made = FusionNetwork(FusionConfig(width=4, hourglasses=3), 4)
    answers = made.predictions(torch.randn(5, 8, 8, 8))
    assert [each.shape for each in answers] == [(8, 8, 8)] * 3
    assert all(each.abs().max() <= 1 for each in answers)
    made.eval()
    volume = torch.randn(5, 8, 8, 8)
    torch.testing.assert_close(made.regress(volume), made.predictions(volume)[-1])


@pytest.mark.parametrize("embedding", ["visible", "splat", "tsdf"])
@pytest.mark.parametrize("rotation", ["octahedral", "rbf"])
def test_gradients_reach_features_weights_and_depths(
    embedding: Embedding, rotation: Rotation
) -> None:
    made = network(embedding=embedding, rotation=rotation)
    accumulator = made.accumulator(GRID, CPU)
    leaves = []
    for features, intrinsics, place, depth in views(3):
        depth = depth.clone()
        depth[:2] = 0
        leaf = (features, depth, torch.full(SIZE, 0.7))
        leaves.append(tuple(each.requires_grad_() for each in leaf))
        accumulator.add(leaf[0], intrinsics, place, leaf[1], leaf[2])
    torch.autograd.backward(made.regress(made.unify(accumulator)).square().sum())
    for features, depth, weight in leaves:
        assert features.grad is not None
        assert weight.grad is not None
        assert features.grad.abs().sum() > 0
        assert features.grad.isfinite().all()
        assert weight.grad.isfinite().all()
        assert weight.grad.abs().sum() > 0
        if embedding != "visible":
            assert depth.grad is not None
            assert depth.grad.isfinite().all()
            assert (depth.grad[:2] == 0).all()
            assert depth.grad.abs().sum() > 0


def test_a_correction_that_has_overshot_comes_back() -> None:
    made = network(embedding="tsdf", residual=True)
    with torch.no_grad():
        made.heads[-1][-1].bias.fill_(2.0)  # type: ignore[index]
    volume = torch.ones(5, 8, 8, 8)
    answer = made.regress(volume)
    assert (answer == 1).all()
    torch.autograd.backward(answer.sum())
    assert (made.heads[-1][-1].bias.grad > 0).all()  # type: ignore[index]


def test_no_view_is_no_evidence() -> None:
    made = network(embedding="tsdf")
    accumulator = made.accumulator(GRID, CPU)
    volume = made.unify(accumulator)
    assert volume.shape == (5, *GRID.shape)
    assert volume.isfinite().all()
    assert not accumulator.observed().any()


def test_what_does_not_fit_is_refused() -> None:
    accumulator = network().accumulator(GRID, CPU)
    with pytest.raises(ValueError, match=r"Features are \(4, h, w\), got \(3, 12, 16\)"):
        accumulator.add(torch.zeros(3, *SIZE), K, pose())
    with pytest.raises(ValueError, match=r"A depth is \(H, W\), got \(1, 6, 8\)"):
        accumulator.add(torch.zeros(4, *SIZE), K, pose(), torch.ones(1, 6, 8))
    with pytest.raises(ValueError, match=r"size of its depth, \(6, 8\); got \(12, 16\)"):
        accumulator.add(torch.zeros(4, *SIZE), K, pose(), torch.ones(6, 8), torch.ones(12, 16))
