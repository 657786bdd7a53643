"""What a scene format says, before photos are opened: the parsers' answer, `read`'s input."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crispdepth.io.scenes.lens import Lens
from crispdepth.types import PointCloud, Unit


@dataclass(frozen=True)
class DepthFile:
    """A depth map of a view: z-depth in metres after scaling, or what the file itself says."""

    path: Path
    scale: float | None  # metres per stored step; None: the file says what it holds
    lens: Lens | None = None  # of a depth camera at the photo's place; None: that of the photo


@dataclass(frozen=True)
class SourceView:
    """One posed photo of a source."""

    photo: Path
    lens: Lens
    cam_from_world: NDArray[np.float64]  # (4, 4), OpenCV axes; not finite: tracking was lost
    mask: Path | None = None  # that the source itself names
    depth: DepthFile | None = None


@dataclass(frozen=True)
class Source:
    """A scene as its files describe it."""

    name: str
    photo_root: Path  # the names of the views are relative to it
    views: tuple[SourceView, ...]
    unit: Unit = "relative"
    bounds: tuple[float, float] | None = None
    points: PointCloud | None = None
    mesh: Path | None = None
    source_scale: float = 1.0  # length of the unit in the source's: it stores world * source_scale
    notes: tuple[str, ...] = ()


class NoPhotoError(FileNotFoundError):
    """None of the photos that a scene names is there."""
