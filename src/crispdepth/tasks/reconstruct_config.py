"""How a scene is reconstructed; apart from the doing, which needs torch."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from crispdepth.tasks.multiview_config import Quality

What = Literal["depth", "mesh", "splats"]
Method = Literal["auto", "classical", "multiview", "stereo", "given"]
Fusion = Literal["tsdf", "volume"]


class SplatBudget(NamedTuple):
    """How much is spent on Gaussians."""

    gaussians: int  # before fitting, about
    steps: int  # of the fit, each on one photo
    size: int  # longer side of the photos that they are fitted to, pixels


SPLATS: dict[Quality, SplatBudget] = {
    "preview": SplatBudget(30_000, 100, 320),
    "normal": SplatBudget(120_000, 400, 480),
    "high": SplatBudget(400_000, 2000, 960),
}

MOST_FITTED = 64
"""Photos that Gaussians are fitted to at most, evenly chosen: they are held in memory."""


@dataclass(frozen=True)
class ReconstructConfig:
    """How a scene is reconstructed."""

    # Where depth comes from: matching the photos classically, with the multi-view network, or by
    # the stereo of volumetric fusion, or depth that the scene's views hold. auto: theirs if all of
    # them hold some, as those of depth cameras do, else multiview with masks of an object, else
    # classical.
    method: Method = "auto"

    # Weights of the network that finds depth: a folder of exported ones. Without it, the shipped
    # ones of the method.
    weights: str | None = None

    # Let matched depth pass through layered refinement, with the masks of objects, before it is
    # used. Off, because it did not measure better (docs/experiments.md).
    refine: bool = False

    # How depths become a mesh: averaged as signed distances, or by the network of volumetric
    # fusion, which reads the photos, too.
    fusion: Fusion = "tsdf"

    # Weights of that network: a folder by `crispdepth train export` of a run of `crispdepth train
    # volume`. Without it, the shipped ones.
    fusion_weights: str | None = None

    # How large the maps, how small the voxels, and how long the Gaussians are fitted.
    quality: Quality = "normal"

    # Side of a voxel of the mesh in the unit of the scene. None: by what the views see.
    voxel: float | None = None

    # Gigabytes that making the mesh may take; what is more goes to a temporary folder.
    max_memory: float = 2.0

    # Of the fit of the Gaussians.
    seed: int = 0

    def __post_init__(self) -> None:
        if self.weights is not None and self.method not in ("multiview", "stereo"):
            raise ValueError(
                f"weights {self.weights!r} are of a network, but the method is {self.method!r}; "
                "leave them out, or choose the method multiview or stereo."
            )
        if self.fusion_weights is not None and self.fusion != "volume":
            raise ValueError(
                f"fusion_weights {self.fusion_weights!r} are of the network, but the fusion is "
                f"{self.fusion!r}; leave them out, or choose the fusion volume."
            )
        if self.voxel is not None and not self.voxel > 0:
            raise ValueError(f"A voxel is larger than 0, got {self.voxel:g}.")
        if not self.max_memory > 0:
            raise ValueError(f"max_memory is more than 0 gigabytes, got {self.max_memory:g}.")
