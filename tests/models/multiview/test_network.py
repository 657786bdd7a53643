"""The whole network: masks of ones, order, scale, sizes, and what it is before any training."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from crispdepth.models.multiview.adopt import adopt
from crispdepth.models.multiview.config import (
    NO_MASKS,
    MaskAttention,
    MaskUse,
    MultiviewNetworkConfig,
)
from crispdepth.models.multiview.cost import Rig, expectation
from crispdepth.models.multiview.gates import MaskAttentionGate
from crispdepth.models.multiview.network import MultiviewNetwork, MultiviewPrediction
from crispdepth.models.multiview.pyramid import Levels

SMALL = MultiviewNetworkConfig(
    widths=(8, 8, 16), attention_blocks=2, heads=4, planes=(16, 6), unet_width=16, features=8
)
SIZE = (48, 64)
NEAR, FAR = 1.0, 4.0

SWITCHES: dict[str, MultiviewNetworkConfig] = {
    "as shipped": SMALL,
    "one scale": replace(SMALL, planes=(16, 0)),
    "all planes": replace(SMALL, peak=0),
    "no view weights": replace(SMALL, view_weights=False),
    "uncertainty": replace(SMALL, uncertainty=True),
    "competing": replace(SMALL, competing=True),
    "epipolar transformer": replace(SMALL, epipolar_transformer=True),
    "sum of edges": replace(SMALL, edge_volume="sum"),
    "convex edges": replace(SMALL, edge_volume="convex"),
    "patch blend": replace(SMALL, patch_blend=True),
    "monocular": replace(SMALL, monocular="vit"),
    "gating": replace(SMALL, masks=MaskUse(gating=True)),
    "skip gates": replace(SMALL, masks=MaskUse(skip_gates=True)),
    "head groups": replace(SMALL, masks=MaskUse(attention="heads")),
    "epipolar lines": replace(SMALL, masks=MaskUse(attention="epipolar")),
    "separable": replace(SMALL, masks=MaskUse(separable=True)),
    "sigmoid": replace(SMALL, masks=MaskUse(confidence="sigmoid")),
    "distance": replace(SMALL, masks=MaskUse(confidence="distance", temperature=1)),
    "hard head groups": replace(SMALL, masks=MaskUse(attention="hard-heads")),
    "free background": replace(SMALL, masks=MaskUse(attention="heads", free_background=True)),
    "hard, free background": replace(
        SMALL, masks=MaskUse(attention="hard-heads", free_background=True)
    ),
    "adaptive convolution": replace(SMALL, masks=MaskUse(pac=True)),
    "tokens of the object": replace(SMALL, monocular="vit", masks=MaskUse(tokens=2)),
    "background replaced": replace(SMALL, monocular="vit", masks=MaskUse(background=True)),
    "heads of patches": replace(SMALL, monocular="vit", masks=MaskUse(patch_heads=True)),
    "gaussians": replace(SMALL, gaussians=True),
}


def views(count: int, batch: int = 1, size: tuple[int, int] = SIZE) -> dict[str, Tensor]:
    """Cameras side by side, each with a K of its own, and photos of smooth noise."""
    height, width = size
    generator = torch.Generator().manual_seed(count)
    coarse = torch.rand(batch * count, 3, height // 4, width // 4, generator=generator)
    images = F.interpolate(coarse, size=size, mode="bilinear").clamp(0, 1)
    K = torch.tensor([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
    K = K.repeat(batch, count, 1, 1)
    K[..., 0, 0] *= 1 + 0.02 * torch.arange(count)
    poses = torch.eye(4).repeat(batch, count, 1, 1)
    poses[..., 0, 3] = 0.1 * torch.arange(count)
    return {
        "images": images.unflatten(0, (batch, count)),  # type: ignore[no-untyped-call]
        "K": K,
        "cam_from_world": poses,
        "near": torch.full((batch, count), NEAR),
        "far": torch.full((batch, count), FAR),
    }


def half_masks(count: int, size: tuple[int, int] = SIZE) -> Tensor:
    masks = torch.zeros(1, count, 1, *size)
    for view in range(count):
        masks[:, view, :, 8:40, 10 + view : 41 + view] = 1
    return masks


def made(config: MultiviewNetworkConfig, *, trained: bool = True) -> MultiviewNetwork:
    """A network; as after a training, no weight is where it began."""
    torch.manual_seed(0)
    network = MultiviewNetwork(config)
    if trained:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
            for module in network.modules():
                if isinstance(module, MaskAttentionGate):  # open everywhere it would not learn
                    for weight in (module.psi.weight, module.mu.weight):
                        weight.abs_()
    return network.eval()


def tensors(prediction: MultiviewPrediction) -> Iterator[Tensor]:
    for part in prediction[:5]:
        yield from [part] if isinstance(part, Tensor) else part
    for splats in prediction.gaussians:
        yield from splats[:5]


def assert_same(one: MultiviewPrediction, other: MultiviewPrediction, atol: float = 1e-6) -> None:
    for a, b in zip(tensors(one), tensors(other), strict=True):
        torch.testing.assert_close(a, b, atol=atol, rtol=1e-5)


@pytest.fixture(params=SWITCHES)
def network(request: pytest.FixtureRequest) -> MultiviewNetwork:
    return made(SWITCHES[request.param])


@torch.no_grad()
def test_masks_of_ones_are_no_masks(network: MultiviewNetwork) -> None:
    scene = views(3)
    ones = torch.ones(1, 3, 1, *SIZE)
    told, without = network(**scene, masks=ones, gaussians=True), network(**scene, gaussians=True)
    assert_same(told, without)


@torch.no_grad()
def test_masks_change_something_unless_all_is_switched_off(network: MultiviewNetwork) -> None:
    scene, masks = views(3), half_masks(3)
    without, told = network(**scene), network(**scene, masks=masks)
    assert (without.inverse_depth - told.inverse_depth).abs().max() > 1e-4
    deaf = made(replace(network.config, masks=NO_MASKS, patch_blend=False, gaussians=False))
    assert_same(deaf(**scene), deaf(**scene, masks=masks))


def test_every_parameter_has_a_finite_gradient(network: MultiviewNetwork) -> None:
    prediction = network(**views(3), masks=half_masks(3), gaussians=True)
    loss = prediction.inverse_depth.square().mean() + prediction.logits.square().mean()
    loss = loss + sum(
        part.square().mean() for splats in prediction.gaussians for part in splats[:5]
    )
    torch.autograd.backward(loss + sum(each.square().mean() for each in prediction.coarse))
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in SWITCHES if name != "convex edges"])
def test_a_network_without_masks_is_adopted_unchanged(name: str) -> None:
    """The convex fusion alone begins with 2 % of the edges, as its source has it."""
    config = SWITCHES[name]
    bare = made(
        MultiviewNetworkConfig(
            **{
                name: getattr(config, name)
                for name in ("widths", "attention_blocks", "heads", "planes", "unet_width")
            },
            features=config.features,
            peak=config.peak,
            view_weights=False,
            masks=NO_MASKS,
        )
    )
    fresh = made(config, trained=False)
    adopt(fresh, bare.state_dict())
    scene = views(3)
    assert_same(fresh(**scene)._replace(gaussians=()), bare(**scene))


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 2, 12])
def test_any_number_of_views_is_finite(count: int) -> None:
    scene = views(count, size=(32, 32))
    for prediction in (
        made(SMALL)(**scene),
        made(SMALL)(**scene, masks=torch.zeros(1, count, 1, 32, 32)),
    ):
        assert all(part.isfinite().all() for part in tensors(prediction))
        assert prediction.inverse_depth.shape == (1, count, 32, 32)
        assert (prediction.inverse_depth >= 1 / FAR).all()
        assert (prediction.inverse_depth <= 1 / NEAR).all()


@torch.no_grad()
def test_views_from_one_place_are_finite() -> None:
    scene = views(3)
    scene["cam_from_world"] = torch.eye(4).repeat(1, 3, 1, 1)
    for attention in ("none", "epipolar"):
        network = made(replace(SMALL, masks=MaskUse(attention=attention)))
        prediction = network(**scene, masks=half_masks(3))
        assert all(part.isfinite().all() for part in tensors(prediction))


@torch.no_grad()
def test_the_order_of_the_sources_does_not_matter() -> None:
    network, scene = made(SMALL), views(4)
    masks = half_masks(4)
    order = [0, 3, 1, 2]
    other = {name: values[:, order] for name, values in scene.items()}
    first = network(**scene, masks=masks, references=1)
    second = network(**other, masks=masks[:, order], references=1)
    assert_same(first, second, atol=2e-4)


@torch.no_grad()
def test_asking_for_fewer_views_changes_none() -> None:
    network, scene = made(SMALL), views(3)
    whole, first = network(**scene), network(**scene, references=1)
    torch.testing.assert_close(whole.inverse_depth[:, :1], first.inverse_depth)
    assert first.inverse_depth.shape[1] == 1


@torch.no_grad()
def test_depth_has_the_scale_of_the_poses() -> None:
    network, scene = made(SMALL), views(3)
    scale = 4.0  # a power of two: the rounding is the same
    larger = dict(scene)
    larger["cam_from_world"] = scene["cam_from_world"].clone()
    larger["cam_from_world"][..., :3, 3] *= scale
    larger["near"], larger["far"] = scale * scene["near"], scale * scene["far"]
    one, other = network(**scene), network(**larger)
    torch.testing.assert_close(one.inverse_depth / scale, other.inverse_depth, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_before_training_depth_is_that_of_the_windows() -> None:
    """A textured plane is found without any learning, by each view's own K (spec 1.14)."""
    network, depth = made(replace(SMALL, planes=(24, 6)), trained=False), 2.0
    size = (64, 96)
    scene = views(3, size=size)
    scene["cam_from_world"][..., 0, 3] *= 2
    texture = torch.rand(1, 1, 120, 160, generator=torch.Generator().manual_seed(1))
    for view in range(3):
        K, x = scene["K"][0, view], scene["cam_from_world"][0, view, 0, 3]
        v, u = torch.meshgrid(
            torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij"
        )
        X = (u - K[0, 2]) / K[0, 0] * depth - x
        Y = (v - K[1, 2]) / K[1, 1] * depth
        grid = torch.stack((X / 1.6, Y / 1.2), dim=-1)[None]
        shade = F.grid_sample(texture, grid, padding_mode="reflection", align_corners=False)
        scene["images"][0, view] = shade[0].expand(3, -1, -1)
    found = network(**scene, references=1)
    middle = found.logits[0, 0, :, 4:-4, 6:-6].argmax(dim=0)
    planes = torch.linspace(1 / FAR, 1 / NEAR, 24)
    nearest = (planes - 1 / depth).abs().argmin()
    assert ((middle - nearest).abs() <= 1).float().mean() > 0.75
    wrong_K = dict(scene, K=scene["K"].clone())
    wrong_K["K"][..., 0, 0] *= torch.tensor([1.0, 1.3, 0.7])
    missed = network(**wrong_K, references=1).logits[0, 0, :, 4:-4, 6:-6].argmax(dim=0)
    assert ((missed - nearest).abs() <= 1).float().mean() < 0.4


@torch.no_grad()
def test_before_training_full_depth_is_the_fine_one_made_larger() -> None:
    network = made(SMALL, trained=False)
    torch.nn.init.zeros_(network.guide_full.second.weight)  # of a guide that tells nothing apart
    prediction = network(**views(3))
    fine = prediction.coarse[1]
    expected = F.interpolate(fine, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(
        prediction.inverse_depth, expected.clamp(1 / FAR, 1 / NEAR), rtol=1e-5, atol=1e-6
    )


@torch.no_grad()
def test_before_training_one_scale_is_the_soft_argmax_made_larger() -> None:
    network = made(replace(SMALL, planes=(16, 0)), trained=False)
    for guide in (network.guide_half, network.guide_full):
        torch.nn.init.zeros_(guide.second.weight)
    prediction = network(**views(3))
    planes = torch.linspace(1 / FAR, 1 / NEAR, 16)[None, :, None, None]
    coarse, _ = expectation(prediction.logits[0], planes, SMALL.peak)
    expected = coarse[:, None]
    for _ in range(2):
        expected = F.interpolate(expected, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(prediction.inverse_depth[0], expected[:, 0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(40, 64), (48, 50)])
def test_sizes_that_do_not_fit_are_refused(height: int, width: int) -> None:
    scene: dict[str, Any] = views(2)
    scene["images"] = torch.rand(1, 2, 3, height, width)
    with pytest.raises(ValueError, match=f"multiples of 16, got {height} x {width}"):
        made(SMALL)(**scene)


@torch.no_grad()
def test_what_each_source_says_alone_is_there_if_it_is_asked() -> None:
    scene = views(3)
    assert made(SMALL)(**scene).pairs == ()
    prediction = made(replace(SMALL, uncertainty=True))(**scene, references=2)
    assert [len(level) for level in prediction.pairs] == [2, 2]
    for level, coarse in zip(prediction.pairs, prediction.coarse, strict=True):
        for said in level:
            assert said.inverse_depth.shape == said.log_uncertainty.shape == coarse.shape[1:]
            assert (said.step > 0).all()
    (said, _), _ = prediction.pairs
    assert (said.inverse_depth >= 1 / FAR - 1e-6).all()
    assert (said.inverse_depth <= 1 / NEAR + 1e-6).all()
    torch.testing.assert_close(said.step.flatten(), torch.full((2,), 0.75 / 15))


@torch.no_grad()
def test_queries_without_the_object_on_their_lines_are_reported() -> None:
    network = made(replace(SMALL, masks=MaskUse(attention="epipolar")))
    dead = network(**views(3), masks=half_masks(3)).dead
    assert dead is not None
    assert 0 <= dead < 0.5
    assert network(**views(3)).dead is None
    assert made(SMALL)(**views(3), masks=half_masks(3)).dead is None


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (replace(SMALL, masks=MaskUse(tokens=2)), "masks.tokens .* set monocular=vit"),
        (replace(SMALL, masks=MaskUse(background=True)), "masks.background .* monocular is 'none'"),
        (replace(SMALL, masks=MaskUse(patch_heads=True)), "masks.patch_heads"),
        (replace(SMALL, masks=MaskUse(free_background=True)), "set masks.attention=heads"),
    ],
)
def test_switches_of_parts_that_are_not_there_are_refused(
    config: MultiviewNetworkConfig, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        MultiviewNetwork(config)


def test_a_temperature_is_above_0() -> None:
    with pytest.raises(ValueError, match="above 0 and tokens are at least 0, got 0 and 0"):
        MaskUse(temperature=0)


# Views that hear some of the others (features that several references share)


@torch.no_grad()
def test_views_that_hear_all_others_know_what_they_know_together(
    network: MultiviewNetwork,
) -> None:
    scene, masks = views(3), half_masks(3)
    rig = Rig(*(scene[name] for name in ("K", "cam_from_world", "near", "far")))
    seen = [network.look(scene["images"][:, v], masks[:, v], rig.view(v)) for v in range(3)]
    for _ in range(network.config.attention_blocks):
        seen = [network.listen(one, [each for each in seen if each is not one]) for one in seen]
    maps = Levels(*(torch.cat(level) for level in zip(*(each.maps for each in seen), strict=True)))
    # Sums are in another order.
    assert_same(network(**scene, masks=masks, maps=maps), network(**scene, masks=masks), atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("attention", ["none", "heads", "epipolar"])
def test_views_may_be_of_several_sizes(attention: MaskAttention) -> None:
    """A view that is told twice by one that shows the same hears it once: softmax is a mean."""
    network = made(replace(SMALL, masks=MaskUse(attention=attention)))
    scene, wider = views(2), views(2, size=(48, 96))
    rig = Rig(*(scene[name] for name in ("K", "cam_from_world", "near", "far")))
    masks, wide_masks = half_masks(2), half_masks(2, (48, 96))
    own = network.look(scene["images"][:, 0], masks[:, 0], rig.view(0))
    other = network.look(wider["images"][:, 1], wide_masks[:, 1], rig.view(1))
    twice = network.listen(own, [other, other]).maps.eighth
    once = network.listen(own, [other]).maps.eighth
    assert once.isfinite().all()
    torch.testing.assert_close(twice, once, atol=1e-5, rtol=1e-5)
    assert (once - network.listen(own, []).maps.eighth).abs().max() > 1e-4
