import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from crispdepth.ops.cost_volume import (
    LEAST,
    Aggregate,
    ConfidenceForm,
    Pair,
    aggregate,
    inverse_depth_candidates,
    mask_confidence,
    other_views,
    pixel_transfer,
    project,
    resized_intrinsics,
    source_weight,
    sweep_pairs,
    warp,
)

SIZE = (20, 26)
CPU = torch.device("cpu")
K = torch.tensor([[24.0, 0, 12.2], [0, 25, 9.1], [0, 0, 1]])
OTHER_K = torch.tensor([[31.0, 0, 11], [0, 29, 12], [0, 0, 1]])
RHO = inverse_depth_candidates(torch.tensor(1.0), torch.tensor(5.0), 12)


def pose(x: float = 0.0, y: float = 0.0, angle: float = 0.0) -> Tensor:
    """cam_from_world of a camera at (x, y, 0) turned about the vertical."""
    turn = torch.eye(4)
    turn[0, 0] = turn[2, 2] = math.cos(angle)
    turn[0, 2], turn[2, 0] = math.sin(angle), -math.sin(angle)
    moved = torch.eye(4)
    moved[0, 3], moved[1, 3] = -x, -y
    return turn @ moved


def wall(K: Tensor, cam_from_world: Tensor, depth: float, channels: int = 8) -> Tensor:
    """Features (channels, h, w) of a wall at z = depth of the world, unit vectors of waves."""
    rng = torch.Generator().manual_seed(3)
    frequency = torch.randn(2, channels // 2, generator=rng) * 15 / depth
    y, x = torch.meshgrid(*(torch.arange(side) + 0.5 for side in SIZE), indexing="ij")
    world_from_cam = torch.linalg.inv(cam_from_world)
    rays = torch.stack((x, y, torch.ones_like(x)), -1) @ torch.linalg.inv(K).T
    rays = rays @ world_from_cam[:3, :3].T
    centre = world_from_cam[:3, 3]
    on_wall = centre + rays * ((depth - centre[2]) / rays[..., 2])[..., None]
    phase = on_wall[..., :2] @ frequency
    waves = torch.cat((phase.sin(), phase.cos()), dim=-1) / math.sqrt(channels / 2)
    return waves.movedim(-1, 0)


def swept(
    poses: Sequence[Tensor],
    intrinsics: Sequence[Tensor] | None = None,
    *,
    depth: float = 2.0,
    features: Tensor | None = None,
    confidence: Tensor | None = None,
    groups: int = 1,
    rho: Tensor = RHO,
) -> Aggregate:
    """The volumes of one batch item, N = V."""
    Ks = torch.stack(list(intrinsics or [K] * len(poses)))
    if features is None:
        features = torch.stack([wall(*each, depth) for each in zip(Ks, poses, strict=True)])
    candidates = rho.expand(1, len(poses), *rho.shape[-1:]) if rho.ndim == 1 else rho
    pairs = sweep_pairs(
        features[None],
        Ks[None],
        torch.stack(list(poses))[None],
        candidates,
        groups=groups,
        confidence=confidence,
    )
    return aggregate(pairs, (len(poses), groups, candidates.shape[2], *SIZE), CPU)


# Masks as confidence (spec 2.1)


@pytest.mark.parametrize("form", ["area", "sigmoid", "distance"])
@pytest.mark.parametrize("temperature", [0.03, 1.7])
def test_a_mask_of_ones_is_exact_confidence(form: ConfidenceForm, temperature: float) -> None:
    ones = torch.ones(2, 3, 1, 37, 45)
    found = mask_confidence(ones, (9, 11), form, temperature)
    assert found.shape == (2, 3, 1, 9, 11)
    assert (found == 1).all()
    assert (mask_confidence(torch.zeros(1, 8, 8), (2, 2), form, temperature) == 0).all()


def test_area_confidence_preserves_the_mean() -> None:
    mask = torch.rand(2, 1, 24, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mask_confidence(mask, (6, 8)).mean(), mask.mean())


def test_a_cold_sigmoid_is_the_hard_mask_and_a_half_stays_a_half() -> None:
    mask = torch.tensor([0.0, 0.2, 0.49, 0.5, 0.51, 1]).view(1, 1, 6)
    found = mask_confidence(mask, (1, 6), "sigmoid", 1e-4).flatten()
    assert found.tolist() == [0, 0, 0, 0.5, 1, 1]


@pytest.mark.parametrize("form", ["area", "sigmoid"])
def test_confidence_rises_with_the_mask_and_has_a_gradient(form: ConfidenceForm) -> None:
    temperature = torch.tensor(0.3, requires_grad=True)
    mask = torch.linspace(0, 1, 64).view(1, 1, 64).requires_grad_()
    found = mask_confidence(mask, (1, 16), form, temperature)
    assert (found.diff(dim=-1) > 0).all()
    torch.autograd.backward(found.sum())
    assert mask.grad is not None
    assert (mask.grad > 0).all()
    if form == "sigmoid":
        assert temperature.grad is not None
        assert temperature.grad.isfinite()


def test_distance_confidence_rises_inwards_from_a_half_at_the_border() -> None:
    mask = torch.zeros(1, 1, 32)
    mask[..., 16:] = 1
    found = mask_confidence(mask, (1, 32), "distance", 2).flatten()
    assert (found.diff() >= 0).all()
    assert found[15] + found[16] == pytest.approx(1)
    assert found[18] == pytest.approx(1 / (1 + math.exp(-2.5 / 2)))


def test_an_8_bit_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="divide an 8-bit mask by 255"):
        mask_confidence(torch.tensor([[[0.0, 255]]]), (1, 1))


# Candidates (spec 1.6, 1.14 (3))


def test_candidates_have_exact_ends_and_equal_steps() -> None:
    near, far = torch.tensor([[0.3, 0.7]]), torch.tensor([[9.1, torch.inf]])
    rho = inverse_depth_candidates(near, far, 17)
    assert rho.shape == (1, 2, 17)
    assert (rho[..., 0] == 1 / far).all()
    assert (rho[..., -1] == 1 / near).all()
    steps = rho.diff()
    torch.testing.assert_close(steps, steps.mean(-1, keepdim=True).expand_as(steps))


def test_candidates_without_a_range_are_refused() -> None:
    one = torch.ones(2)
    with pytest.raises(ValueError, match="0 < near < far"):
        inverse_depth_candidates(one, one, 8)
    with pytest.raises(ValueError, match="two candidates"):
        inverse_depth_candidates(one, 2 * one, 1)


# Where sources see what (spec 1.14 (5), (6))


def test_unprojected_pixels_come_back() -> None:
    """Project to a source and back, with the principal points off the centres."""
    there = project(
        pixel_transfer(K[None], pose()[None], OTHER_K[None], pose(0.2, 0.1, 0.15)[None]),
        torch.tensor([[0.4]]),
        SIZE,
        SIZE,
    )
    x, y, depth = (part[0, 0].double() for part in (there.x, there.y, there.stretch / 0.4))
    rays = torch.stack((x, y, torch.ones_like(x))) * depth
    points = torch.linalg.inv(OTHER_K.double()) @ rays.flatten(1)
    world = torch.linalg.inv(pose(0.2, 0.1, 0.15).double()) @ torch.cat(
        (points, torch.ones(1, points.shape[1]))
    )
    back = K.double() @ world[:3]
    back = (back[:2] / back[2]).view(2, *SIZE)
    columns, rows = torch.arange(SIZE[1]) + 0.5, torch.arange(SIZE[0]) + 0.5
    assert (back[0] - columns).abs().max() < 1e-4
    assert (back[1] - rows[:, None]).abs().max() < 1e-4


def test_a_baseline_far_from_the_origin_is_not_lost() -> None:
    away = torch.eye(4, dtype=torch.float64)
    away[:3, 3] = torch.tensor([5e5, -4e6, 120])
    poses = torch.stack([pose(), pose(0.2, angle=0.1)]).double()
    here, there = (pixel_transfer(K, each[0], OTHER_K, each[1]) for each in (poses, poses @ away))
    torch.testing.assert_close(here.b, there.b, atol=1e-6, rtol=1e-6)


def test_cameras_in_double_precision_are_welcome() -> None:
    poses = torch.stack([pose(), pose(0.25)])
    features = torch.stack([wall(K, each, 2.0) for each in poses])[None]
    Ks, rho = K.expand(1, 2, 3, 3), RHO.expand(1, 2, -1)
    (one,) = sweep_pairs(features, Ks, poses[None], rho)
    (other,) = sweep_pairs(features, Ks.double(), poses[None].double(), rho.double())
    torch.testing.assert_close(one.cost, other.cost, atol=1e-4, rtol=1e-4)


def test_resizing_features_moves_no_ray() -> None:
    small = resized_intrinsics(K, SIZE, (10, 13))
    whole, half = (
        project(
            pixel_transfer(each[None], pose()[None], each[None], pose(0.2)[None]),
            torch.tensor([[0.3, 0.9]]),
            size,
            size,
        )
        for each, size in ((K, SIZE), (small, (10, 13)))
    )
    centres = torch.unflatten(whole.x, 3, (13, 2)).mean(dim=4)[:, :, ::2]
    torch.testing.assert_close(half.x, centres / 2)


def test_points_behind_a_source_are_finite_and_not_inside() -> None:
    there = project(
        pixel_transfer(K[None], pose()[None], K[None], pose(angle=math.pi)[None]),
        torch.tensor([[0.0, 0.5]]),
        SIZE,
        SIZE,
    )
    assert not there.inside.any()
    assert there.x.isfinite().all()
    assert there.y.isfinite().all()


def test_planes_and_the_same_planes_per_pixel_are_one() -> None:
    poses = [pose(), pose(0.25, angle=0.05)]
    per_pixel = RHO[None, None, :, None, None].expand(1, 2, -1, *SIZE)
    torch.testing.assert_close(swept(poses).cost, swept(poses, rho=per_pixel).cost)


def test_warping_to_the_wall_gives_the_reference_back() -> None:
    source_pose = pose(0.2, 0.1, 0.05)
    where = project(
        pixel_transfer(K[None], pose()[None], OTHER_K[None], source_pose[None]),
        torch.tensor([[0.5]]),
        SIZE,
        SIZE,
    )
    found = warp(wall(OTHER_K, source_pose, 2.0)[None], where)[0, :, 0]
    off = (found - wall(K, pose(), 2.0)).abs().amax(dim=0)
    inner = where.inside[0, 0][3:-3, 3:-3]
    assert inner.float().mean() > 0.6
    assert off[3:-3, 3:-3][inner].median() < 0.03


# Laws of the volume (spec 1.14 (1), (2), (5), (7), (8))


def test_a_source_in_the_same_place_costs_the_same_at_every_depth() -> None:
    cost = swept([pose(), pose()]).cost
    torch.testing.assert_close(cost, cost[:, :, :1].expand_as(cost))


@pytest.mark.parametrize("depth", [1.3, 2.0, 3.1])
@pytest.mark.parametrize("groups", [1, 4])
def test_a_wall_is_found_at_the_candidate_nearest_to_it(depth: float, groups: int) -> None:
    cost = swept([pose(), pose(0.5), pose(-0.5, 0.1)], depth=depth, groups=groups).cost
    found = cost[0].mean(dim=0).argmax(dim=0)[4:-4, 8:-8]
    right = int((RHO - 1 / depth).abs().argmin())
    assert ((found - right).abs() <= 1).float().mean() > 0.97
    assert int(found.flatten().mode().values) == right


def test_each_view_needs_its_own_intrinsics() -> None:
    right = int((RHO - 0.5).abs().argmin())
    poses = [pose(), pose(0.25)]
    inner = (0, 0, right, slice(5, -5), slice(8, -8))
    own = swept(poses, [K, OTHER_K]).cost[inner]
    features = torch.stack([wall(K, poses[0], 2.0), wall(OTHER_K, poses[1], 2.0)])
    # The reference's K in the source's place, as published code has it.
    mistaken = swept(poses, [K, K], features=features).cost[inner]
    most = 1 / 8**0.5  # unit vectors of 8 channels
    assert own.mean() > 0.95 * most
    assert mistaken.mean() < 0.7 * most


def test_one_view_alone_is_flat_and_without_evidence() -> None:
    alone = swept([pose()])
    assert (alone.cost == 0).all()
    assert (alone.evidence == 0).all()
    assert alone.cost.shape == (1, 1, 12, *SIZE)


def test_the_order_of_twelve_views_with_equal_centres_does_not_matter() -> None:
    poses = [pose()] * 4 + [pose(0.1 * i, angle=0.02 * i) for i in range(8)]
    order = torch.randperm(11, generator=torch.Generator().manual_seed(0)) + 1
    one = swept(poses).cost[0]
    assert one.isfinite().all()
    other = swept([poses[0], *(poses[i] for i in order)]).cost[0]
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_the_scale_of_the_scene_does_not_matter() -> None:
    poses = [pose(), pose(0.2, angle=0.1), pose(-0.2)]
    larger = [each.clone() for each in poses]
    for each in larger:
        each[:3, 3] *= 7
    features = torch.stack([wall(K, each, 2.0) for each in poses])
    torch.testing.assert_close(
        swept(poses, features=features).cost,
        swept(larger, features=features, rho=RHO / 7).cost,
        atol=1e-5,
        rtol=1e-5,
    )


def test_batches_and_chosen_sources_do_not_mix() -> None:
    poses = torch.stack([pose(), pose(0.2), pose(-0.2), pose(0.3)]).view(2, 2, 4, 4)
    features = torch.stack([wall(K, each, 2.0) for each in poses.flatten(0, 1)])
    both = aggregate(
        sweep_pairs(
            torch.unflatten(features, 0, (2, 2)), K.expand(2, 2, 3, 3), poses, RHO.expand(2, 2, -1)
        ),
        (4, 1, 12, *SIZE),
        CPU,
    )
    for item in range(2):
        alone = swept(list(poses[item])).cost
        torch.testing.assert_close(both.cost[2 * item : 2 * item + 2], alone)
    assert other_views(3, CPU).tolist() == [[1, 2], [2, 0], [0, 1]]
    (chosen,) = sweep_pairs(
        features[None, :3],
        K.expand(1, 3, 3, 3),
        poses.flatten(0, 1)[None, :3],
        RHO.expand(1, 3, -1),
        sources=torch.tensor([[[2], [0], [1]]]),
    )
    pair = swept([poses[0, 0], poses[1, 0]]).cost[0]
    torch.testing.assert_close(chosen.cost[0] * chosen.weight[0], pair)


# Weighted aggregation (spec 2.2)


def pairs(weights: Sequence[float], scale: float = 1) -> tuple[list[Pair], Tensor]:
    """Random pairs of (2, 3, 4, 5, 6) with these constant weights, and their costs (S, ...)."""
    rng = torch.Generator().manual_seed(0)
    costs = torch.randn(len(weights), 2, 3, 4, 5, 6, generator=rng)
    return [
        Pair(cost, torch.full((2, 1, 1, 5, 6), float(scale * weight)))
        for cost, weight in zip(costs, weights, strict=True)
    ], costs


VOLUME = (2, 3, 4, 5, 6)


def test_equal_weights_are_the_mean() -> None:
    weighted, costs = pairs([0.4, 0.4, 0.4])
    found = aggregate(weighted, VOLUME, CPU)
    torch.testing.assert_close(found.cost, costs.mean(dim=0))
    torch.testing.assert_close(found.evidence, torch.full((2, 1, 4, 5, 6), 0.4))


def test_one_weight_alone_is_that_view() -> None:
    weighted, costs = pairs([0, 1, 0])
    torch.testing.assert_close(aggregate(weighted, VOLUME, CPU).cost, costs[1])


@pytest.mark.parametrize("scale", [1e-3, 30])
def test_the_scale_of_the_weights_does_not_matter(scale: float) -> None:
    one = aggregate(pairs([0.2, 0.9])[0], VOLUME, CPU).cost
    torch.testing.assert_close(one, aggregate(pairs([0.2, 0.9], scale)[0], VOLUME, CPU).cost)


def test_no_evidence_is_flat_with_finite_gradients() -> None:
    costs, weights = pairs([0, 0])[0][0]
    costs, weights = costs.requires_grad_(), weights.requires_grad_()
    found = aggregate([Pair(costs, weights)] * 2, VOLUME, CPU)
    assert (found.cost == 0).all()
    assert (found.evidence == 0).all()
    for gradient in torch.autograd.grad(
        found.cost.square().sum() + found.cost.sum(), (costs, weights)
    ):
        assert gradient.isfinite().all()


def test_half_precision_pairs_are_summed_in_single() -> None:
    weighted = [Pair(cost.half(), weight.half()) for cost, weight in pairs([1e-4, 1e-4])[0]]
    found = aggregate(weighted, VOLUME, CPU).cost
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, pairs([1, 1])[1].mean(dim=0), atol=2e-3, rtol=0)


def test_a_hidden_source_gets_no_gradient_and_the_others_do() -> None:
    features = torch.stack([wall(K, pose(x), 2.0) for x in (0, 0.2, -0.2)]).requires_grad_()
    poses = torch.stack([pose(0), pose(0.2), pose(-0.2)])
    confidence = torch.ones(1, 3, 1, *SIZE)
    confidence[:, 1] = 0
    every = sweep_pairs(
        features[None],
        K.expand(1, 3, 3, 3),
        poses[None],
        RHO.expand(1, 3, -1),
        confidence=confidence,
        least=0,
    )
    total = aggregate(every, (3, 1, 12, *SIZE), CPU).cost[0].square().sum()
    (gradient,) = torch.autograd.grad(total, features)
    assert (gradient[1] == 0).all()
    assert gradient[0].abs().sum() > 0
    assert gradient[2].abs().sum() > 0
    assert gradient.isfinite().all()


def test_masks_of_ones_change_nothing() -> None:
    poses = [pose(), pose(0.25, angle=0.05), pose(-0.25, 0.1)]
    masked = swept(poses, confidence=torch.ones(1, 3, 1, *SIZE))
    plain = swept(poses)
    torch.testing.assert_close(masked.cost, plain.cost, atol=1e-6, rtol=0)
    torch.testing.assert_close(masked.evidence, plain.evidence, atol=1e-6, rtol=0)


def test_masks_of_sources_do_not_cancel() -> None:
    poses = [pose(), pose(0.25), pose(-0.25)]
    features = torch.stack([wall(K, each, 2.0) for each in poses])
    features[2] *= -1  # a source that shows the opposite
    confidence = torch.ones(1, 3, 1, *SIZE)
    confidence[:, 2] = 0
    right = int((RHO - 0.5).abs().argmin())
    inner = (0, 0, right, slice(5, -5), slice(8, -8))
    plain, masked = (
        swept(poses, features=features, confidence=mask).cost[inner].mean()
        for mask in (None, confidence)
    )
    most = 1 / 8**0.5
    assert plain.abs() < 0.1 * most
    assert masked > 0.8 * most


def test_weight_is_least_beside_a_mask_and_zero_out_of_frame() -> None:
    transfer = pixel_transfer(K[None], pose()[None], K[None], pose(0.4)[None])
    where = project(transfer, torch.tensor([[0.2, 1.0]]), SIZE, SIZE)
    beside = source_weight(where, torch.zeros(1, 1, *SIZE))
    assert not where.inside.all()
    assert (beside[:, 0][~where.inside] == 0).all()
    torch.testing.assert_close(
        beside[:, 0][where.inside], torch.tensor(LEAST).expand(int(where.inside.sum()))
    )
    ones = source_weight(where, torch.ones(1, 1, *SIZE), sharpness=3)
    assert torch.equal(ones, source_weight(where, None))
