"""Encoders of transformers, tiny and of random weights, written to folders and loaded from them."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from crispdepth.models.multiview.config import MultiviewNetworkConfig
from crispdepth.models.multiview.monocular import SmallViT, standardised
from crispdepth.models.multiview.network import MultiviewNetwork
from crispdepth.models.multiview.pretrained import (
    PretrainedViT,
    load_encoder,
    parameter_groups,
)

CONFIG: dict[str, Any] = {
    "hidden_size": 8,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "mlp_ratio": 2,
    "image_size": 28,
    "patch_size": 14,
    "hidden_dropout_prob": 0.3,
    "attention_probs_dropout_prob": 0.3,
}
STAGES = ["stage1", "stage2", "stage3", "stage4"]


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dinov2")
    torch.manual_seed(0)
    model = transformers.Dinov2Model(transformers.Dinov2Config(**CONFIG))
    assert model.embeddings.mask_token is not None
    nn.init.normal_(model.embeddings.mask_token)
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def depth_anything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("depth_anything")
    backbone = {**CONFIG, "out_features": STAGES, "reshape_hidden_states": False}
    config = transformers.DepthAnythingConfig(
        backbone_config=transformers.Dinov2Config(**backbone),
        reassemble_hidden_size=8,
        neck_hidden_sizes=[4, 4, 4, 4],
        fusion_hidden_size=4,
        head_hidden_size=4,
    )
    torch.manual_seed(1)
    transformers.DepthAnythingForDepthEstimation(config).save_pretrained(path)
    return path


@pytest.fixture
def encoder(dinov2: Path) -> nn.Module:
    return load_encoder(dinov2)


def photos(height: int = 56, width: int = 84) -> Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def half_mask(height: int = 56, width: int = 84) -> Tensor:
    mask = torch.zeros(2, 1, height, width)
    mask[..., width // 3 :] = 1
    return mask


def test_features_are_those_of_transformers(dinov2: Path) -> None:
    """At a size of whole patches, which is not the one of the pretraining either."""
    theirs: Any = transformers.Dinov2Backbone.from_pretrained(dinov2, out_features=STAGES)
    theirs.eval()
    with torch.no_grad():
        expected = theirs(standardised(photos())).feature_maps
        found = PretrainedViT(load_encoder(dinov2))(photos())
    for one, other in zip(found, expected, strict=True):
        assert one.shape == (2, 8, 7, 11)
        torch.testing.assert_close(one, F.interpolate(other, (7, 11), mode="bilinear"))


def test_the_encoder_of_a_depth_model_is_taken(depth_anything: Path) -> None:
    theirs = transformers.DepthAnythingForDepthEstimation.from_pretrained(depth_anything).backbone
    model = PretrainedViT(load_encoder(depth_anything))
    ours = model.encoder.state_dict()
    for name, weight in theirs.state_dict().items():
        assert torch.equal(ours[name], weight), name
    assert len(model(photos())) == 4


@pytest.mark.parametrize("size", [(56, 84), (48, 64), (5, 90), (33, 41)])
def test_photos_have_any_size(encoder: nn.Module, size: tuple[int, int]) -> None:
    model = PretrainedViT(encoder)
    for each in model(photos(*size), half_mask(*size)):
        assert each.shape == (2, 8, -(-size[0] // 8), -(-size[1] // 8))
        assert each.isfinite().all()


@pytest.mark.parametrize("background", [False, True])
def test_masks_change_nothing_at_the_start_and_ones_never(
    encoder: nn.Module, background: bool
) -> None:
    model = PretrainedViT(encoder, background=background)
    expected = model(photos())
    for one, other in zip(model(photos(), half_mask()), expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
    with torch.no_grad():
        for each in model.masking.parameters():
            each.normal_()
    for size in ((56, 84), (50, 70)):
        plain = model(photos(*size))
        for one, other in zip(model(photos(*size), torch.ones(2, 1, *size)), plain, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
    for one, other in zip(model(photos(), half_mask()), expected, strict=True):
        assert not torch.equal(one, other)


def test_the_token_of_the_background_is_the_encoder_s(encoder: nn.Module) -> None:
    """Fully replaced, patches are what transformers makes of masked ones."""
    model = PretrainedViT(encoder, alpha=False, background=True)
    nn.init.constant_(model.masking.replacing, 20.0)
    mask = torch.zeros(2, 1, 56, 84)
    mask[..., :14, 28:56] = 1  # a box of whole patches
    hidden = torch.ones(2, 4, 6, dtype=torch.bool)
    hidden[:, :1, 2:4] = False
    theirs: Any = encoder
    with torch.no_grad():
        expected = theirs(standardised(photos()), bool_masked_pos=hidden.flatten(1))
        maps = expected.last_hidden_state[:, 1:].unflatten(1, (4, 6)).movedim(-1, 1)
        found = model(photos(), mask)[-1]
    torch.testing.assert_close(found, F.interpolate(maps, (7, 11), mode="bilinear"))


def test_what_is_frozen_stays(encoder: nn.Module) -> None:
    model = PretrainedViT(encoder).train()
    assert torch.equal(model(photos())[-1], model(photos())[-1])  # no dropout
    torch.autograd.backward(torch.cat(model(photos(), half_mask())).pow(3).sum())
    assert all(each.grad is None for each in model.encoder.parameters())
    assert model.masking.alpha is not None
    assert model.masking.alpha.weight.grad is not None
    assert model.masking.alpha.weight.grad.abs().max() > 0
    learning = PretrainedViT(encoder, frozen=False).train()
    assert not torch.equal(learning(photos())[-1], learning(photos())[-1])


def test_pretrained_weights_learn_slower(dinov2: Path) -> None:
    head = nn.Conv2d(8, 1, 1)
    model = nn.ModuleList([PretrainedViT(load_encoder(dinov2), frozen=False), head])
    new, old = parameter_groups(model, 2e-4)
    assert (new["lr"], old["lr"]) == (2e-4, pytest.approx(2e-6))
    assert len(new["params"]) == 3  # the head and the embedding of the mask
    assert len(new["params"]) + len(old["params"]) == len(list(model.parameters()))
    torch.optim.AdamW([new, old])
    frozen = nn.ModuleList([PretrainedViT(load_encoder(dinov2)), head])
    (only,) = parameter_groups(frozen, 1e-3)
    assert len(only["params"]) == 3
    (only,) = parameter_groups(SmallViT(16, heads=4), 1e-3)
    assert only["lr"] == 1e-3


def test_large_encoders_give_the_layers_of_depth_anything() -> None:
    config = transformers.Dinov2Config(**{**CONFIG, "num_hidden_layers": 24})
    model = PretrainedViT(transformers.Dinov2Model(config))
    assert model.taken == [4, 11, 17, 23]


@pytest.fixture
def edited(dinov2: Path, tmp_path: Path) -> Callable[[dict[str, Any], str], Path]:
    """A copy of the folder with other settings, and without one weight."""

    def make(settings: dict[str, Any], without: str = "") -> Path:
        config = json.loads((dinov2 / "config.json").read_text()) | settings
        (tmp_path / "config.json").write_text(json.dumps(config))
        weights = load_file(dinov2 / "model.safetensors")
        weights.pop(without, None)
        save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
        return tmp_path

    return make


def test_what_is_no_encoder_is_refused(tmp_path: Path, edited: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match="is no model of transformers"):
        load_encoder(tmp_path)  # an empty folder
    (edited({}) / "model.safetensors").unlink()
    with pytest.raises(OSError, match="cannot be loaded"):
        load_encoder(tmp_path)
    with pytest.raises(ValueError, match=r"lacks 1 weights, such as layernorm\.weight"):
        load_encoder(edited({}, "layernorm.weight"))
    with pytest.raises(ValueError, match="is no model of transformers"):
        load_encoder(edited({"hidden_size": 12}))
    with pytest.raises(ValueError, match="is no model of transformers"):
        load_encoder(edited({"model_type": "nothing"}))


def test_another_transformer_is_refused(tmp_path: Path) -> None:
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    transformers.ViTModel(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="of the kind vit; dinov2 was expected"):
        load_encoder(tmp_path)


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r'pip install "crispdepth\[auto\]"'):
        load_encoder("facebook/dinov2-small")


def test_the_network_takes_a_pretrained_encoder(dinov2: Path) -> None:
    config = MultiviewNetworkConfig(
        widths=(8, 8, 16),
        heads=4,
        planes=(8, 4),
        unet_width=16,
        features=8,
        monocular="pretrained",
        encoder=str(dinov2),
    )
    network = MultiviewNetwork(config).train()
    images = torch.rand(1, 2, 3, 32, 32)
    poses = torch.eye(4).repeat(1, 2, 1, 1)
    poses[:, 1, 0, 3] = 0.1
    K = torch.tensor([[32.0, 0, 16], [0, 32, 16], [0, 0, 1]]).expand(1, 2, 3, 3)
    bounds = torch.full((1, 2), 1.0), torch.full((1, 2), 4.0)
    prediction = network(images, K, poses, *bounds)
    torch.autograd.backward(prediction.inverse_depth.sum() + prediction.logits.square().sum())
    frozen = [name for name, each in network.named_parameters() if not each.requires_grad]
    assert frozen
    assert all(name.startswith("monocular.encoder.") for name in frozen)
    assert network.from_monocular.weight.grad is not None
    assert network.from_monocular.weight.grad.abs().max() > 0
    (group,) = parameter_groups(network, 0.5)
    assert group["lr"] == 0.5
    learning = MultiviewNetwork(replace(config, encoder_frozen=False))
    assert [each["lr"] for each in parameter_groups(learning, 0.5)] == [0.5, 0.005]
