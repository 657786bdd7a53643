"""The numbers and switches of the multi-view network; imports nothing heavy."""

from dataclasses import dataclass


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
    """Inverse depths swept at 1/4, between near and far, and at 1/2, around the coarse answer."""

    reach: float = 2.0
    """How far the fine planes reach to either side, in steps of the coarse ones."""

    matching: tuple[int, int] = (16, 8)
    """Channels that are correlated at 1/4 and at 1/2."""

    filter_width: int = 8
    """Channels of the filter that all planes of a cost volume share."""

    unet_width: int = 64
    """Channels of the U-Net on the coarse cost volume."""

    features: int = 24
    """Channels of the decoder at 1/2 that the upsampler works with."""

    peak: int = 2
    """Planes to either side of the best one that the expectation of depth is taken over, so that
    it never lies between two surfaces; 0: over all."""
