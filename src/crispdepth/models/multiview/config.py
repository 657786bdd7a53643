"""The numbers and switches of the multi-view network; imports nothing heavy."""

from dataclasses import dataclass, field
from typing import Literal

MaskAttention = Literal["none", "heads", "hard-heads", "epipolar"]
MaskConfidence = Literal["area", "sigmoid", "distance"]
EdgeVolume = Literal["none", "sum", "convex"]
Monocular = Literal["none", "vit", "pretrained"]


@dataclass(frozen=True)
class MaskUse:
    """Where the network knows the masks. With all of it off it does not.

    Sections are those of the specification of mask-guided multi-view depth.
    """

    sources: bool = True
    """Pixels of the sources count by their masks in the cost volumes (2.1, 2.2)."""

    confidence: MaskConfidence = "area"
    """How much they count at the stride of the features, and with them the hull: by the average of
    the mask, a sigmoid of it, or the distance to its border (2.1)."""

    temperature: float = 0.1
    """Of the sigmoid, in values of the mask, or of the distance, in pixels (1 to 2); towards 0 the
    mask is hard."""

    hull: bool = True
    """Planes at which a point would lie beside the object in other views lose (as the visual hull
    has it)."""

    guide: bool = True
    """Depth may jump at the border of the mask, and only there, when it is upsampled (2.15)."""

    lateral: bool = True
    """Features of the mask and its border are added to those of the photo at each level."""

    regulariser: bool = True
    """The U-Net on the cost volume sees the mask of the reference."""

    alpha: bool = True
    """The monocular transformer, if there is one, embeds the mask with its patches (2.17 a)."""

    tokens: int = 0
    """Tokens about the object that its patches may read (2.17 b); of the small one (vit) only."""

    background: bool = False
    """It moves patches beside the object towards a learned token (2.17 c)."""

    patch_heads: bool = False
    """Its heads look at the object, beside it, and everywhere (2.17 e); of the small one only."""

    gating: bool = False
    """Features beside the object are damped (2.14)."""

    skip_gates: bool = False
    """Gates in the skips of the U-Net and of the decoder (2.16)."""

    attention: MaskAttention = "none"
    """heads: groups of heads look at the object, beside it, and everywhere, by its soft mask, or by
    one cut at 1/2 (hard-heads) (2.10 b); epipolar: tokens of the object look along epipolar lines,
    at the object (2.11)."""

    free_background: bool = False
    """Groups of heads hold tokens of the object only; those beside it look everywhere (2.10 b)."""

    separable: bool = False
    """Attention over channels inside, beside and everywhere, at 1/8 (2.10 a)."""

    pac: bool = False
    """A pixel-adaptive convolution of the features at 1/4 mixes nothing across the border of the
    mask (2.15)."""

    def __post_init__(self) -> None:
        if not self.temperature > 0 or self.tokens < 0:
            raise ValueError(
                "A temperature is above 0 and tokens are at least 0, got "
                f"{self.temperature:g} and {self.tokens}."
            )


NO_MASKS = MaskUse(
    sources=False, hull=False, guide=False, lateral=False, regulariser=False, alpha=False
)


@dataclass(frozen=True)
class MultiviewNetworkConfig:
    """The numbers of a `MultiviewNetwork`."""

    widths: tuple[int, int, int] = (24, 48, 96)
    """Channels of the pyramid at 1/2, 1/4 and 1/8."""

    attention_blocks: int = 2
    """Blocks of self and cross attention at 1/8, every second one with shifted windows."""

    heads: int = 8
    """Heads of the attention."""

    planes: tuple[int, int] = (48, 12)
    """Inverse depths swept at 1/4, between near and far, and at 1/2, around the coarse answer; 0
    of these: there is no finer sweep."""

    reach: float = 2.0
    """How far the fine planes reach to either side, in steps of the coarse ones."""

    matching: tuple[int, int] = (16, 8)
    """Learned channels that are correlated at 1/4 and at 1/2, multiples of 4."""

    filter_width: int = 8
    """Channels of the filter that all planes of a cost volume share."""

    unet_width: int = 64
    """Channels of the U-Net on the coarse cost volume."""

    features: int = 24
    """Channels of the decoder at 1/2 that the upsampler works with."""

    peak: int = 2
    """Planes to either side of the best one that the expectation of depth is taken over, so that
    it never lies between two surfaces; 0: over all."""

    view_weights: bool = True
    """Each pixel of a source has a learned weight (2.4)."""

    uncertainty: bool = False
    """A source counts less where it is not sure of any plane (2.3)."""

    competing: bool = False
    """The weights of the sources are a softmax over them, with a learned temperature (2.5)."""

    epipolar_transformer: bool = False
    """A source counts more at the planes where it agrees (2.6)."""

    edge_volume: EdgeVolume = "none"
    """A second cost volume, of features of edges, is joined with the first (2.7)."""

    patch_blend: bool = False
    """Where a pixel is not sure, the costs of its window on its side of the mask count (2.8)."""

    monocular: Monocular = "none"
    """Features of each photo alone, by a transformer, join those of the pyramid (1.8): a small one,
    or a pretrained one of the library transformers."""

    encoder: str = "facebook/dinov2-small"
    """The pretrained one: a name on Hugging Face, or a folder."""

    encoder_frozen: bool = True
    """Whether it stays as it is; else it learns at a hundredth of the rate."""

    gaussians: bool = False
    """A head makes a Gaussian of each pixel (2.20)."""

    masks: MaskUse = field(default_factory=MaskUse)
