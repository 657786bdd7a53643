"""Stage 1: planes, warps, expectations, overlap masks, and what the order of views may not do."""

import weakref
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crispdepth.models.volume import stereo
from crispdepth.models.volume.config import StereoConfig
from crispdepth.models.volume.features import FeatureExtractor
from crispdepth.models.volume.stereo import (
    PairConvolution,
    StereoNetwork,
    StereoPrediction,
    depth_weight,
    expected_depth,
    overlap_mask,
    plane_depths,
)
from crispdepth.ops.cost_volume import pixel_transfer, project, warp
from crispdepth.ops.plane_sweep import Projection

SMALL = StereoConfig(
    channels=4, pyramid=(4, 6, 8), blocks=(1, 1, 1, 1), planes=12, width=4, hourglasses=1
)
SIZE = (32, 48)
DEPTHS = plane_depths(0.5, 48)


def views(count: int, batch: int = 1, size: tuple[int, int] = SIZE) -> dict[str, Tensor]:
    """Cameras side by side that turn a little, each with a K of its own, and smooth noise."""
    height, width = size
    generator = torch.Generator().manual_seed(count)
    coarse = torch.rand(batch * count, 3, height // 4, width // 4, generator=generator)
    images = F.interpolate(coarse, size=size, mode="bilinear").clamp(0, 1)
    K = torch.tensor([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
    K = K.repeat(batch, count, 1, 1)
    K[..., 0, 0] *= 1 + 0.02 * torch.arange(count)
    angle = 0.03 * torch.arange(count)
    poses = torch.eye(4).repeat(batch, count, 1, 1)
    poses[..., 0, 0], poses[..., 0, 2] = angle.cos(), angle.sin()
    poses[..., 2, 0], poses[..., 2, 2] = -angle.sin(), angle.cos()
    poses[..., 0, 3] = 0.1 * torch.arange(count)
    return {
        "images": images.unflatten(0, (batch, count)),  # type: ignore[no-untyped-call]
        "K": K,
        "cam_from_world": poses,
    }


def chosen(scene: dict[str, Tensor], order: list[int]) -> dict[str, Tensor]:
    return {name: part[:, order] for name, part in scene.items()}


def made(config: StereoConfig = SMALL) -> StereoNetwork:
    """Normalised as after a training, and of firm opinions."""
    torch.manual_seed(0)
    network = StereoNetwork(config)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.momentum = 1.0
    with torch.no_grad():
        network(**views(3))
        for head in (network.depth_head, network.overlap_head):
            last = head[-1]
            assert isinstance(last, nn.Conv3d)
            last.weight *= 3
    return network.eval()


def assert_same(one: StereoPrediction, other: StereoPrediction) -> None:
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_planes_reach_from_24_m_to_half_a_metre_in_equal_steps_of_inverse_depth() -> None:
    assert DEPTHS[0] == pytest.approx(24)
    assert DEPTHS[-1] == pytest.approx(0.5)
    assert (DEPTHS.diff() < 0).all()
    torch.testing.assert_close((1 / DEPTHS).diff(), torch.full((47,), 1 / 24).double())


@torch.no_grad()
def test_the_same_camera_sees_the_same_on_every_plane() -> None:
    scene = views(2)
    K, pose = scene["K"][:, 0], scene["cam_from_world"][:, 1]
    image = torch.rand(1, 3, *SIZE)
    where = project(pixel_transfer(K, pose, K, pose), (1 / DEPTHS)[None], SIZE, SIZE)
    inner = where.inside[0, :, 1:-1, 1:-1]
    assert inner.all()
    seen = warp(image, where)
    same = image[:, :, None].expand_as(seen)
    torch.testing.assert_close(seen, same, atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_step_to_the_side_shifts_each_plane_by_focal_length_times_step_over_depth() -> None:
    K = torch.tensor([[[60.0, 0, 24], [0, 60, 16], [0, 0, 1]]])
    pose, beside = torch.eye(4)[None], torch.eye(4)[None].clone()
    beside[:, 0, 3] = -0.2
    where = project(pixel_transfer(K, pose, K, beside), (1 / DEPTHS)[None], SIZE, SIZE)
    inside = where.inside[0]
    x = torch.arange(SIZE[1]) + 0.5
    shift = (60 * 0.2 / DEPTHS).float()[:, None, None]
    torch.testing.assert_close(where.x[0][inside], (x - shift).expand_as(inside)[inside])


@torch.no_grad()
def test_a_textured_wall_is_rebuilt_on_its_plane_and_matches_best_there() -> None:
    """Also the sweep of untrained features: the best plane is the wall's."""
    scene = views(2)
    K, poses = scene["K"][0], scene["cam_from_world"][0]
    number = 20
    depth = float(DEPTHS[number])
    photos = torch.stack([_wall(K[view], poses[view], depth) for view in range(2)])
    pixels = pixel_transfer(K[:1], poses[:1], K[1:], poses[1:])
    where = project(pixels, (1 / DEPTHS)[None], SIZE, SIZE)
    seen = warp(photos[1:], where)[0]
    inside = where.inside[0, number]
    assert inside.float().mean() > 0.5
    x, y = where.x[0, number], where.y[0, number]
    between = (x > 0.5) & (x < SIZE[1] - 0.5) & (y > 0.5) & (y < SIZE[0] - 0.5)
    apart = (seen[:, number] - photos[0]).abs().amax(dim=0)
    assert apart[between].max() < 1e-3
    score = F.cosine_similarity(seen - 0.5, photos[0][:, None] - 0.5, dim=0)
    best = torch.where(where.inside[0], score, -1).argmax(dim=0)
    assert (best[inside] == number).float().mean() > 0.95


def _wall(K: Tensor, cam_from_world: Tensor, depth: float) -> Tensor:
    """A photo (12, h, w) of waves of 40 pixels and more on the plane z = depth of the world."""
    y, x = (torch.arange(side) + 0.5 for side in SIZE)
    ray = torch.stack((*torch.meshgrid(x, y, indexing="xy"), torch.ones(SIZE)), dim=-1)
    ray = ray @ K.inverse().T @ cam_from_world[:3, :3]
    centre = -cam_from_world[:3, :3].T @ cam_from_world[:3, 3]
    point = centre + (depth - centre[2]) / ray[..., 2:] * ray
    generator = torch.Generator().manual_seed(1)
    waves = torch.randn(12, 2, generator=generator) * 40 / SIZE[1] / depth * 2
    phase = 6 * torch.rand(12, 1, 1, generator=generator)
    return 0.5 + 0.1 * torch.sin(torch.einsum("hwc,nc->nhw", point[..., :2], waves) + phase)


@pytest.mark.parametrize("expect", ["depth", "inverse"])
def test_a_sure_plane_is_the_depth_and_every_depth_lies_between_the_planes(expect: str) -> None:
    sure = torch.full((1, 48, 6, 8), -1e4, dtype=torch.float64)
    plane = torch.arange(48).view(6, 8)
    sure.scatter_(1, plane[None, None], 0.0)
    torch.testing.assert_close(expected_depth(sure, DEPTHS, expect)[0], DEPTHS[plane])  # type: ignore[arg-type]
    logits = 5 * torch.randn(1, 48, 6, 8, dtype=torch.float64)
    found = expected_depth(logits, DEPTHS, expect)  # type: ignore[arg-type]
    torch.testing.assert_close(expected_depth(logits + 3, DEPTHS, expect), found)  # type: ignore[arg-type]
    assert found.min() >= 0.5
    assert found.max() <= 24


def test_the_expectation_of_equation_3_is_drawn_to_the_far_planes() -> None:
    """Of no preference at all: the numbers of the specification."""
    flat = torch.zeros(1, 48, 1, 1, dtype=torch.float64)
    assert float(expected_depth(flat, DEPTHS)) == pytest.approx(2.229, abs=1e-3)
    assert float(expected_depth(flat, DEPTHS, "inverse")) == pytest.approx(0.980, abs=1e-3)


def test_gradients_of_both_expectations_are_right() -> None:
    logits = torch.randn(1, 6, 2, 2, dtype=torch.float64, requires_grad=True)
    depths = plane_depths(0.5, 6)
    assert torch.autograd.gradcheck(lambda x: expected_depth(x, depths), logits)
    assert torch.autograd.gradcheck(lambda x: expected_depth(x, depths, "inverse"), logits)


def test_overlap_is_a_half_of_nothing_and_follows_the_surest_plane_alone() -> None:
    assert (overlap_mask(torch.zeros(1, 2, 5, 3, 3)) == 0.5).all()
    logits = torch.randn(2, 2, 5, 3, 4, requires_grad=True)
    found = overlap_mask(logits)
    torch.testing.assert_close(found, logits.softmax(dim=1)[:, 1].amax(dim=1))
    torch.autograd.backward(found.sum())
    assert logits.grad is not None
    surest = logits.softmax(dim=1)[:, 1].argmax(dim=1, keepdim=True)
    at = logits.grad.abs().sum(dim=1)
    assert (at.gather(1, surest) > 0).all()
    assert (at.scatter(1, surest, 0.0) == 0).all()
    with torch.no_grad():
        for plane in range(5):
            more = logits.clone()
            more[:, 1, plane] += 1
            assert (overlap_mask(more) >= found).all()
    assert found.min() >= 0
    assert found.max() <= 1


def test_masked_depth_counts_by_threshold_prediction_or_truth() -> None:
    overlap = torch.tensor([0.2, 0.5, 0.7], requires_grad=True)
    assert depth_weight(overlap, "threshold").tolist() == [0, 0, 1]
    assert depth_weight(overlap, "predicted") is overlap
    truth = torch.tensor([True, False, False])
    assert depth_weight(overlap, "truth", truth).tolist() == [1, 0, 0]
    with pytest.raises(ValueError, match="true overlap mask"):
        depth_weight(overlap, "truth")


@pytest.mark.parametrize("planes", [2, 3, 7])
def test_a_convolution_of_pairs_is_that_of_the_concatenated_volume(planes: int) -> None:
    torch.manual_seed(0)
    layer = PairConvolution(3, 5).double()
    own = torch.randn(2, 3, 6, 7, dtype=torch.float64, requires_grad=True)
    other = torch.randn(2, 3, planes, 6, 7, dtype=torch.float64, requires_grad=True)
    pair = torch.cat((own[:, :, None].expand_as(other), other), dim=1)
    outputs = layer.whole(pair), layer(layer.of_reference(own), other)
    torch.testing.assert_close(outputs[1], outputs[0])
    upstream = torch.randn_like(outputs[0])
    inputs = own, other, layer.whole.weight
    expected, found = (torch.autograd.grad(each, inputs, upstream) for each in outputs)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


@torch.no_grad()
def test_a_fresh_comparison_is_of_differences() -> None:
    """A neighbour that looks the same says nothing on any plane."""
    torch.manual_seed(0)
    compare = PairConvolution(3, 5)
    own = torch.randn(2, 3, 6, 7)
    volume = compare(compare.of_reference(own), own[:, :, None].expand(-1, -1, 4, -1, -1))
    torch.testing.assert_close(volume, torch.zeros_like(volume), atol=1e-5, rtol=0)
    other = compare(compare.of_reference(own), torch.randn(2, 3, 4, 6, 7))
    assert other.abs().mean() > 0.1


def test_the_order_of_neighbours_does_not_matter_nor_that_each_comes_twice() -> None:
    network, scene = made(), views(3)
    found = network(**scene, references=1)
    turned = network(**chosen(scene, [0, 2, 1]), references=1)
    twice = network(**chosen(scene, [0, 1, 1, 2, 2]), references=1)
    for other, order in ((turned, [0, 2, 1]), (twice, [0, 1, 1, 2, 2])):
        assert_same(other, found._replace(features=found.features[:, order]))
    other = network(**chosen(scene, [0, 1]), references=1)
    assert (other.depth - found.depth).abs().max() > 1e-3


@torch.no_grad()
def test_without_gradients_one_warped_neighbour_exists_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made_before: list[weakref.ref[Tensor]] = []

    def watched(images: Tensor, where: Projection) -> Tensor:
        assert not any(each() is not None for each in made_before)
        warped = warp(images, where)
        made_before.append(weakref.ref(warped))
        return warped

    network = made()
    monkeypatch.setattr(stereo, "warp", watched)
    network(**views(4), references=2)
    assert len(made_before) == 3


@torch.no_grad()
def test_each_view_of_a_call_has_the_answer_of_a_call_of_its_own() -> None:
    network, scene = made(), views(3, batch=2)
    every = network(**scene)
    assert every.depth.shape == every.overlap.shape == (2, 3, 8, 12)
    assert every.logits.shape == (2, 3, 12, 8, 12)
    assert every.features.shape == (2, 3, 4, 8, 12)
    for view in range(3):
        order = [view, *(other for other in range(3) if other != view)]
        alone = network(**chosen(scene, order), references=1)
        depth, overlap, logits = (part[:, view : view + 1] for part in every[:3])
        assert_same(alone, StereoPrediction(depth, overlap, logits, every.features[:, order]))


@torch.no_grad()
def test_moving_the_world_changes_nothing_and_a_larger_world_is_a_larger_depth() -> None:
    network, scene = made(), views(3)
    found = network(**scene)
    move = torch.eye(4, dtype=torch.float64)
    move[:3, :3] = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    move[:3, 3] = torch.tensor([3.0, -2, 5])
    moved = {**scene, "cam_from_world": scene["cam_from_world"].double() @ move}
    assert_same(network(**moved), found)
    poses = scene["cam_from_world"].clone()
    poses[..., :3, 3] *= 10
    network.config = replace(network.config, nearest=5.0)
    larger = network(**{**scene, "cam_from_world": poses})
    torch.testing.assert_close(larger.depth, 10 * found.depth, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_uncertain_depth_is_nearer_by_the_inverse_expectation() -> None:
    network, scene = made(), views(2)
    far = network(**scene)
    network.config = replace(network.config, expect="inverse")
    near = network(**scene)
    torch.testing.assert_close(near.logits, far.logits)
    assert (near.depth < far.depth).all()


def test_every_weight_has_a_finite_gradient_of_depth_and_overlap() -> None:
    torch.manual_seed(0)
    network = StereoNetwork(SMALL)
    found = network(**views(3))
    torch.autograd.backward(found.depth.mean() + found.overlap.mean())
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_a_neighbour_that_sees_nothing_leaves_finite_values_and_gradients() -> None:
    network, scene = made(), views(2)
    scene["cam_from_world"][:, 1, 2, 3] = -100.0
    found = network(**scene)
    torch.autograd.backward(found.depth.mean())
    assert found.depth.isfinite().all()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


def test_mistakes_are_explained() -> None:
    network = made()
    with pytest.raises(ValueError, match="two views or more, got 1"):
        network(**views(1))
    with pytest.raises(ValueError, match="multiples of 4, got 30 x 48"):
        network(**views(2, size=(30, 48)))
    with pytest.raises(ValueError, match="two planes or more"):
        StereoConfig(planes=1)


@pytest.mark.parametrize("size", [(8, 8), (36, 20), (132, 68)])
@torch.no_grad()
def test_features_of_any_size_are_a_quarter_of_it(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    extractor = FeatureExtractor(SMALL).eval()
    assert extractor(torch.rand(2, 3, *size)).shape == (2, 4, size[0] // 4, size[1] // 4)


@torch.no_grad()
def test_features_in_evaluation_mode_do_not_depend_on_other_photos() -> None:
    torch.manual_seed(0)
    extractor = FeatureExtractor(SMALL)
    extractor(torch.rand(4, 3, 32, 32))
    extractor.eval()
    photos = torch.rand(3, 3, *SIZE)
    alone = torch.cat([extractor(photo[None]) for photo in photos])
    torch.testing.assert_close(extractor(photos), alone, atol=1e-5, rtol=1e-5)


def test_the_paper_s_extractor_has_its_channels() -> None:
    extractor = FeatureExtractor(StereoConfig())
    merged = extractor.merge[0][0]  # type: ignore[index]
    assert isinstance(merged, nn.Conv2d)
    assert merged.in_channels == 320
    assert merged.out_channels == 128
