"""Features of one photo from DINOv2, or the encoder of Depth Anything, through transformers.

The weights are fetched by name or read from a folder. They stay as they are, or learn at a
hundredth of the rate of the rest. The mask comes in as in `crispdepth.models.multiview.monocular`,
for the encoder itself has no way to be told of it.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crispdepth.models.multiview.gates import mask_at
from crispdepth.models.multiview.monocular import STRIDE, PatchMasking, quarters, standardised

SLOWER = 0.01
"""The learning rate of pretrained weights relative to that of new ones."""

_TAKEN = {24: [4, 11, 17, 23]}  # where Depth Anything departs from the ends of the quarters


def load_encoder(name: str | Path) -> nn.Module:
    """The DINOv2 in a folder of transformers or of a name on Hugging Face; see `PretrainedViT`.

    Args:
        name: such as ``facebook/dinov2-small``, or ``depth-anything/Depth-Anything-V2-Small-hf``,
            whose encoder it is.

    Raises:
        ImportError: transformers is not installed.
        OSError: there is no such model, or it cannot be read or fetched.
        ValueError: it is no DINOv2, or weights are missing.
    """
    try:
        from transformers import AutoConfig, AutoModel, AutoModelForDepthEstimation
    except ImportError as error:
        raise ImportError(
            'Pretrained features need transformers: pip install "crispdepth[auto]"'
        ) from error
    name = str(name)
    try:
        kind = AutoConfig.from_pretrained(name).model_type
        deep = kind == "depth_anything"
        load: Any = (AutoModelForDepthEstimation if deep else AutoModel).from_pretrained
        model, told = load(name, output_loading_info=True)
    except OSError as error:
        raise OSError(f"The encoder {name!r} cannot be loaded: {_brief(error)}") from error
    except (KeyError, RuntimeError, ValueError) as error:
        raise ValueError(f"{name!r} is no model of transformers: {_brief(error)}") from error
    encoder: nn.Module = model.backbone if deep else model
    kind = getattr(encoder.config, "model_type", kind)
    if kind != "dinov2":
        raise ValueError(f"{name!r} is a model of the kind {kind}; dinov2 was expected.")
    missing = [key for key in told["missing_keys"] if not key.endswith("mask_token")]
    if missing:
        raise ValueError(f"{name!r} lacks {len(missing)} weights, such as {min(missing)}.")
    return encoder


class PretrainedViT(nn.Module):
    """The maps of `SmallViT` from a DINOv2: patches of 14 pixels, resized photos."""

    def __init__(
        self,
        encoder: nn.Module,
        *,
        frozen: bool = True,
        alpha: bool = True,
        background: bool = False,
    ) -> None:
        """An encoder from `load_encoder` with fresh weights for the mask.

        Args:
            encoder: its layers are 4 or more (else ValueError).
            frozen: its weights get no gradient, and it never drops anything.
            alpha, background: as of `SmallViT`; the token is the encoder's own if it has one.
        """
        super().__init__()
        config: Any = encoder.config
        self.encoder, self.frozen = encoder.requires_grad_(not frozen), frozen
        self.channels, self.patch = int(config.hidden_size), int(config.patch_size)
        depth = int(config.num_hidden_layers)
        self.taken = _TAKEN.get(depth) or quarters(depth)
        self.masking = PatchMasking(self.channels, self.patch, alpha=alpha, background=background)
        token = self._embeddings.mask_token
        if self.masking.background is not None and token is not None:
            with torch.no_grad():
                self.masking.background.copy_(token[0])
        self.train(self.training)

    @property
    def _embeddings(self) -> Any:  # transformers has no types
        return self.encoder.embeddings

    def train(self, mode: bool = True) -> "PretrainedViT":
        """As of every module, but what is frozen stays in evaluation."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, images: Tensor, masks: Tensor | None = None) -> tuple[Tensor, ...]:
        """Four maps (N, channels, ceil(H / 8), ceil(W / 8)).

        Args:
            images: (N, 3, H, W) in [0, 1].
            masks: (N, 1, H, W) in [0, 1], or None.
        """
        height, width = images.shape[-2:]
        grid = [max(1, round(side / self.patch)) for side in (height, width)]
        sides = [count * self.patch for count in grid]
        photo = F.interpolate(standardised(images), sides, mode="bilinear", antialias=True)
        embed = self._embeddings
        patches = embed.patch_embeddings(photo)  # (N, n, channels)
        if masks is not None:
            maps = torch.unflatten(patches, 1, grid).movedim(-1, 1)
            patches = self.masking(maps, mask_at(masks, sides)).flatten(2).mT
        tokens = torch.cat([embed.cls_token.expand(len(patches), -1, -1), patches], dim=1)
        tokens = embed.dropout(tokens + embed.interpolate_pos_encoding(tokens, *sides))
        encoder: Any = self.encoder
        cells = (-(-height // STRIDE), -(-width // STRIDE))
        found = []
        for index, layer in enumerate(encoder.encoder.layer):
            tokens = layer(tokens)
            if index in self.taken:
                maps = torch.unflatten(encoder.layernorm(tokens)[:, 1:], 1, grid).movedim(-1, 1)
                found.append(F.interpolate(maps, cells, mode="bilinear"))
        return tuple(found)


def parameter_groups(
    model: nn.Module, learning_rate: float, slower: float = SLOWER
) -> list[dict[str, Any]]:
    """What an optimiser of torch takes: new weights, and those of pretrained encoders, slower.

    Weights without a gradient are left out, and groups without weights.
    """
    pretrained = {
        id(weight)
        for module in model.modules()
        if isinstance(module, PretrainedViT)
        for weight in module.encoder.parameters()
    }
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    groups = [
        {"params": [each for each in learning if id(each) not in pretrained], "lr": learning_rate},
        {
            "params": [each for each in learning if id(each) in pretrained],
            "lr": slower * learning_rate,
        },
    ]
    return [group for group in groups if group["params"]]


def _brief(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
