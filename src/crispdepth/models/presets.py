"""The networks by name."""

from dataclasses import dataclass, replace
from itertools import accumulate

from crispdepth.models.layered.decoder import Decoder, Head, SubpixelHead
from crispdepth.models.layered.mit import MitLevel
from crispdepth.models.layered.network import DetailEncoder, LayeredNet, LowLevelEncoder
from crispdepth.models.multiview.config import MultiviewNetworkConfig
from crispdepth.models.multiview.network import MultiviewNetwork
from crispdepth.models.volume.config import FusionConfig, StereoConfig, VolumeNetworkConfig
from crispdepth.models.volume.network import VolumeNetwork

STRIDES = (4, 2, 2, 2)
HEADS = (1, 2, 5, 8)
REDUCTIONS = (8, 4, 2, 1)


@dataclass(frozen=True)
class LayeredConfig:
    """The numbers of a `LayeredNet`; the defaults are the paper's."""

    dims: tuple[int, int, int, int] = (64, 128, 320, 512)  # channels of the encoder's levels
    depths: tuple[int, int, int, int] = (3, 4, 18, 3)  # transformer layers of the levels
    rgb_depth: int = 3  # transformer layers of the photo's branch
    features: int = 256  # channels of the decoder
    low_level: tuple[int, int] = (32, 64)  # channels of the low-level encoder
    head: tuple[int, int] = (128, 32)  # channels of the head
    detail: int = 0  # channels of the encoder of detail; 0: the low-level encoder, DPT's head
    gated: bool = False  # whether the network says where its layer replaces the input
    anchored: bool = False  # whether it corrects a first estimate of the layer
    drop_path: float = 0.1  # stochastic depth of the last layer, rising linearly from 0


_SMALL = LayeredConfig(
    dims=(32, 64, 160, 256),
    depths=(1, 2, 2, 2),
    rgb_depth=1,  # on the largest map a layer takes three times as long as on the smallest
    features=32,
    low_level=(16, 16),
    head=(16, 16),
    detail=16,
    gated=True,
    anchored=True,
    drop_path=0.0,  # it is too small to need it
)

LAYERED = {
    "paper": LayeredConfig(),
    "small": _SMALL,
    # What each of the additions to the paper is worth.
    "small-ungated": replace(_SMALL, gated=False),
    "small-unanchored": replace(_SMALL, anchored=False),
    "small-low-level": replace(_SMALL, detail=0),
}

MULTIVIEW = {"multiview-small": MultiviewNetworkConfig()}

_VOLUME_SMALL = VolumeNetworkConfig(
    StereoConfig(channels=16, pyramid=(16, 24, 32), blocks=(1, 2, 1, 1), width=8, hourglasses=1),
    FusionConfig(width=16, hourglasses=1, embedding="tsdf", evidence=True, residual=True),
)

VOLUME = {
    "volume": VolumeNetworkConfig(),  # the paper's
    "volume-small": _VOLUME_SMALL,
    # The same planes but for the nearest third of them, which one in a hundred pixels of a room
    # needs: photos of what is nearer are scaled.
    "volume-stereo-small": replace(
        _VOLUME_SMALL,
        stereo=replace(_VOLUME_SMALL.stereo, planes=32, nearest=0.75, expect="inverse"),
    ),
}


def build_volume(name: str) -> VolumeNetwork:
    """A network of volumetric fusion with fresh weights, drawn from torch's global generator.

    Raises:
        ValueError: there is no preset of that name.
    """
    if name not in VOLUME:
        raise ValueError(f"There is no preset {name!r}; choose one of {', '.join(VOLUME)}.")
    return VolumeNetwork(VOLUME[name])


def build_multiview(name: str) -> MultiviewNetwork:
    """A multi-view network with fresh weights, drawn from torch's global generator.

    Raises:
        ValueError: there is no preset of that name.
    """
    if name not in MULTIVIEW:
        raise ValueError(f"There is no preset {name!r}; choose one of {', '.join(MULTIVIEW)}.")
    return MultiviewNetwork(MULTIVIEW[name])


def build(name: str) -> LayeredNet:
    """A network with fresh weights, drawn from torch's global generator.

    Raises:
        ValueError: there is no preset of that name.
    """
    if name not in LAYERED:
        raise ValueError(f"There is no preset {name!r}; choose one of {', '.join(LAYERED)}.")
    return build_layered(LAYERED[name])


def build_layered(config: LayeredConfig) -> LayeredNet:
    """The network of a config, with fresh weights."""
    layers = sum(config.depths)
    rates = [config.drop_path * index / (layers - 1) for index in range(layers)]
    ends = accumulate(config.depths)
    parts = [rates[end - depth : end] for depth, end in zip(config.depths, ends, strict=True)]

    def level(index: int, channels: int, drop_paths: list[float]) -> MitLevel:
        return MitLevel(
            channels,
            config.dims[index],
            stride=STRIDES[index],
            heads=HEADS[index],
            reduction=REDUCTIONS[index],
            drop_paths=drop_paths,
        )

    channels = (2, *config.dims[:-1])
    detail = config.detail
    head = SubpixelHead if detail else Head
    return LayeredNet(
        encoder=[
            level(index, *each) for index, each in enumerate(zip(channels, parts, strict=True))
        ],
        rgb=level(0, 4, rates[: config.rgb_depth]),
        low_level=DetailEncoder(6, detail) if detail else LowLevelEncoder(config.low_level),
        decoder=Decoder(config.dims, config.features),
        head=head(config.features + (detail or config.low_level[1]), config.head, 1 + config.gated),
        gated=config.gated,
        anchored=config.anchored,
    )
