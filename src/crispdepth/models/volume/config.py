"""The numbers and switches of learned volumetric fusion; imports nothing heavy.

Sections are those of part B of the specification; defaults are the paper's.
"""

from dataclasses import dataclass, field
from typing import Literal

Expectation = Literal["depth", "inverse"]
Rotation = Literal["none", "octahedral", "assign", "nearest", "trilinear", "rbf"]
Sampling = Literal["nearest", "bilinear"]
Embedding = Literal["none", "count", "visible", "splat", "tsdf"]
MaskSource = Literal["threshold", "predicted", "truth"]


@dataclass(frozen=True)
class StereoConfig:
    """Stage 1, local stereo with overlap masks (B.2)."""

    channels: int = 32
    """Of the features at 1/4 that both stages share."""

    pyramid: tuple[int, int, int] = (32, 64, 128)
    """Channels inside the extractor of features: at 1/2, and in two stages at 1/4."""

    blocks: tuple[int, int, int, int] = (3, 16, 3, 3)
    """Residual blocks at 1/2, at 1/4, with more channels, and with holes of two pixels."""

    planes: int = 48
    """Depths swept, z = nearest * planes / d for d = 1 .. planes."""

    nearest: float = 0.5
    """The nearest of them, in the unit of the poses (m)."""

    width: int = 32
    """Channels of the filter of the cost volume."""

    hourglasses: int = 2
    """Hourglasses in a row."""

    expect: Expectation = "depth"
    """Whether the expectation is taken of depth (equation 3) or of inverse depth."""

    def __post_init__(self) -> None:
        """Raises ValueError: there is nothing to sweep."""
        if self.planes < 2 or self.nearest <= 0:
            raise ValueError(
                "A sweep needs two planes or more and a nearest depth > 0, got "
                f"{self.planes} and {self.nearest:g}."
            )


@dataclass(frozen=True)
class FusionConfig:
    """Stage 2, from posed features and depth to signed distances (B.3-B.5)."""

    rotation: Rotation = "octahedral"
    """How kernels turn with the cameras in PosedConv; none: an ordinary convolution."""

    sampling: Sampling = "bilinear"
    """How a voxel reads a view's features."""

    truncate: float = 0.0
    """Features count only within as many voxels of the view's depth; 0: along the whole ray."""

    embedding: Embedding = "visible"
    """The channel of depth: share of all views with depth in a voxel (count), of those that see
    it (visible), the same with trilinear weights (splat), or the depths' fused signed distance
    (tsdf)."""

    evidence: bool = False
    """A second channel of depth: how much evidence the fused signed distance has, so that what one
    unsure view says can be told from what all agree on; needs the embedding tsdf."""

    residual: bool = False
    """The network corrects the depths' fused signed distance, from which it starts; needs the
    embedding tsdf."""

    width: int = 32
    """Channels of the hourglasses."""

    hourglasses: int = 2
    """Hourglasses in a row, each of two down-samplings."""

    truncation: float = 3.0
    """Of signed distances, in voxels."""

    log: bool = False
    """The loss is of ``sign(x) log(1 + |x|)``."""

    @property
    def reads_depth(self) -> bool:
        """Whether depths make a difference to the features and channels of the volume."""
        return self.embedding != "none" or self.truncate > 0

    def __post_init__(self) -> None:
        """Raises ValueError: there is nothing to correct, or no evidence."""
        for name in ("residual", "evidence"):
            if getattr(self, name) and self.embedding != "tsdf":
                raise ValueError(
                    f"{name} is of the embedding tsdf, got the embedding {self.embedding}."
                )


@dataclass(frozen=True)
class VolumeNetworkConfig:
    """The numbers of a `VolumeNetwork`."""

    stereo: StereoConfig = field(default_factory=StereoConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
