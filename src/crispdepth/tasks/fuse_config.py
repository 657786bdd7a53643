"""The choices of fusion; imports nothing heavy, because they are flags of the command line."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class FuseConfig:
    """How depths become a surface."""

    # Side of a voxel, in the unit of the scene; without it, chosen by --resolution.
    voxel: float | None = None

    # Voxels along the longest side of what the views see, if --voxel is not given. Voxels are
    # never chosen smaller than two pixels.
    resolution: int = 256

    # How far around a surface it is measured, in voxels. More stands more noise, and rounds off
    # what is thinner.
    truncation: float = 3.0

    # Depths beyond this are not used; unit of the scene.
    max_depth: float | None = None

    # Voxels whose views trust them less than this in all are left out. A pixel counts with its
    # confidence, so 2.5 asks for three sure views.
    min_weight: float = 0.5

    # Pixels this near to the edge of a mask have no say: depth is least sure there.
    mask_edge: int = 0

    # Of several objects with masks, the one to fuse, by the name of its masks. Pixels of the others
    # say nothing about it: neither where it is nor that it is not there.
    only: str | None = None

    # Empty the space that views see through: in front of what they measured and, with masks of
    # objects, all that they see beside the object.
    carve: bool = False

    # With a visual hull: what it counts where depth says something else, as a view that is sure
    # counts 1. --min-weight is not asked then.
    hull_weight: float = 0.5

    # Pieces of surface with fewer triangles than this are left out.
    min_piece: int = 100

    # Rounds in which the mesh is smoothed: 30 take what is as short as a few edges. Where a visual
    # hull says how far the object goes it stays, but only `reconstruct` makes one.
    smooth: int = 0

    # Gigabytes of voxels in memory; what is more waits in a temporary file. With learned fusion
    # also of tiles and photos: less than the smallest tile takes is refused.
    max_memory: float = 2.0

    def __post_init__(self) -> None:
        for name in ("voxel", "max_depth"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive, got {value:g}.")
        if self.resolution < 8:
            raise ValueError(f"resolution must be 8 or more, got {self.resolution}.")
        if not 1 <= self.truncation < math.inf:
            raise ValueError(f"truncation must be 1 voxel or more, got {self.truncation:g}.")
        counts = self.min_weight, self.mask_edge, self.min_piece, self.smooth
        if not all(count >= 0 for count in counts):
            raise ValueError("min_weight, mask_edge, min_piece and smooth must not be negative.")
        if not 0 < self.hull_weight < math.inf:
            raise ValueError(f"hull_weight must be positive, got {self.hull_weight:g}.")
        if not 0.001 <= self.max_memory < math.inf:
            raise ValueError(f"max_memory must be 0.001 GB or more, got {self.max_memory:g}.")
