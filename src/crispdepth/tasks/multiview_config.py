"""How depth is found from several views; apart from the matching, which needs torch."""

from dataclasses import dataclass
from typing import Literal

Quality = Literal["preview", "normal", "high"]

LONGER_SIDE: dict[Quality, int] = {"preview": 320, "normal": 640, "high": 1280}
"""Pixels of the depth maps of each quality."""


@dataclass(frozen=True)
class MultiviewConfig:
    """How depth is found from several views."""

    quality: Quality = "normal"
    """Longer side of the depth maps: 320, 640 or 1280 pixels, never more than the photo's."""

    sources: int = 4
    """Views that each view is matched with."""

    neighbours: int = 6
    """Views that correct and confirm its depth: those, and the next best."""

    corrections: int = 3
    """Times that the views correct each other; none with ``consistent`` = 0. More make the mean
    error of all pixels smaller, but cost fine detail of scenes without masks."""

    consistent: int = 2
    """Views whose depth must agree with a pixel's for it to be valid, or to be more than filled."""

    tolerance: float = 0.02
    """Largest difference of agreeing depths, as a share of the depth."""

    near: float | None = None
    """Nearest depth in the unit of the scene. Without it: the bounds of the scene, else what its
    masks, its sparse points or its cameras say."""

    far: float | None = None
    """Farthest depth."""

    def __post_init__(self) -> None:
        if self.sources < 1 or self.consistent < 0 or not 0 < self.tolerance < 1:
            raise ValueError(
                "Matching needs sources >= 1, consistent >= 0 and 0 < tolerance < 1, got "
                f"{self.sources}, {self.consistent} and {self.tolerance:g}."
            )
        if self.corrections < 1:
            raise ValueError(
                f"Views correct each other once or more, got {self.corrections}; with consistent "
                "= 0 each is left as it is found."
            )
        if self.neighbours < self.sources:
            raise ValueError(
                "A depth is corrected by all views that it was matched with: neighbours >= "
                f"sources, got {self.neighbours} and {self.sources}. State more neighbours."
            )
        if (self.near is None) != (self.far is None):
            raise ValueError("State both the nearest and the farthest depth, or neither.")
        if self.near is not None and self.far is not None and not 0 < self.near < self.far:
            raise ValueError(f"Depths lie between 0 < near < far, got {self.near} and {self.far}.")
