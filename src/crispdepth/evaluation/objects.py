"""Depth of a masked object against its truth: interior, border and silhouette apart.

Spec 4.1, the object-centric metrics of a depth map. Errors far from the border say how well a
surface is found, those in the band along it how crisp the map is; the silhouette says whether it
is whole.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.evaluation.views import silhouette_iou
from crispdepth.types import BoolMap, DepthMap

BAND = 3
"""Pixels from the border to the interior."""

FLYING = 0.02
"""Share of the depth that a point is from both sides of an edge when it hangs between them."""

TOLERANCES = (1, 2, 3)
"""Pixels within which a border counts as met, one F-score each."""


@dataclass(frozen=True)
class RegionScores:
    """Errors of the valid pixels of a region; nan where it has none."""

    abs_rel: float  # mean |z - z*| / z*
    within: float  # share of them with max(z / z*, z* / z) < 1.03
    completeness: float  # share of the region that is valid; nan for an empty region


@dataclass(frozen=True)
class ObjectScores:
    """How well the depth of an object was found."""

    interior: RegionScores  # more than `BAND` pixels from the border
    band: RegionScores  # inside the mask, up to `BAND` pixels from its border
    silhouette_iou: float  # of the valid pixels with the true mask
    boundary_f1: tuple[float, ...]  # of the silhouettes, at each of `TOLERANCES`
    flying: float  # share of the valid pixels beside a depth edge that hang between its sides


def object_scores(depth: DepthMap, truth: DepthMap, mask: NDArray[Any]) -> ObjectScores:
    """Compare the depth of an object with the truth.

    Args:
        depth: (h, w) of kind depth; valid where the method sees the object.
        truth: (h, w) of kind depth.
        mask: (h, w) in [0, 1], the true object.

    Raises:
        ValueError: sizes or kinds differ.
    """
    if {depth.kind, truth.kind} != {"depth"} or len({depth.size, truth.size, mask.shape}) != 1:
        raise ValueError(
            "Object scores compare maps of kind depth and one size, got "
            f"{depth.kind} {depth.size}, {truth.kind} {truth.size} and a mask {mask.shape}."
        )
    inside: BoolMap = np.asarray(mask) >= 0.5
    interior = _erode(inside, BAND)
    return ObjectScores(
        _region(depth, truth, interior),
        _region(depth, truth, inside & ~interior),
        silhouette_iou(depth.usable, inside),
        tuple(boundary_f1(depth.usable, inside, tolerance) for tolerance in TOLERANCES),
        flying_ratio(depth, truth),
    )


def boundary_f1(found: BoolMap, true: BoolMap, tolerance: float) -> float:
    """F-score of the borders of two silhouettes, within ``tolerance`` pixels of each other.

    A border is made of the pixels of the silhouette that touch its outside; the frame is no
    border. nan when neither has one.
    """
    borders = [each & ~_erode(each, 1) for each in (found, true)]
    if not any(border.any() for border in borders):
        return float("nan")
    if not all(border.any() for border in borders):
        return 0.0
    precision, recall = (
        float((_distance_to(other)[border] <= tolerance).mean())
        for border, other in (borders, borders[::-1])
    )
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def flying_ratio(depth: DepthMap, truth: DepthMap) -> float:
    """Share of the valid pixels beside a true depth edge whose depth is that of neither side.

    An edge is where the true depths of a 5x5 window differ by more than four times `FLYING`. A
    pixel hangs between when it is farther than `FLYING` of its depth from every true depth of the
    window. nan when no valid pixel is beside an edge.
    """
    z = truth.values.astype(np.float64)
    rows, columns = z.shape
    known = np.pad(np.where(truth.usable, z, np.nan), 2, constant_values=np.nan)
    windows = np.stack([known[y : y + rows, x : x + columns] for y in range(5) for x in range(5)])
    nearest = np.where(np.isnan(windows), np.inf, windows).min(axis=0)
    farthest = np.where(np.isnan(windows), -np.inf, windows).max(axis=0)
    at_edge = depth.usable & (farthest > nearest * (1 + 4 * FLYING))
    if not at_edge.any():
        return float("nan")
    found = depth.values[at_edge].astype(np.float64)
    apart = np.abs(windows[:, at_edge] - found)
    closest = np.where(np.isnan(apart), np.inf, apart).min(axis=0)
    between = (found > nearest[at_edge]) & (found < farthest[at_edge])
    return float((between & (closest > FLYING * found)).mean())


def _region(depth: DepthMap, truth: DepthMap, region: BoolMap) -> RegionScores:
    region = region & truth.usable
    both = region & depth.usable
    total = int(np.count_nonzero(region))
    completeness = int(np.count_nonzero(both)) / total if total else float("nan")
    if not both.any():
        return RegionScores(float("nan"), float("nan"), completeness)
    found, true = depth.values[both].astype(np.float64), truth.values[both].astype(np.float64)
    ratio = np.maximum(found / true, true / found)
    return RegionScores(
        float((np.abs(found - true) / true).mean()), float((ratio < 1.03).mean()), completeness
    )


def _erode(mask: BoolMap, radius: int) -> BoolMap:
    """The pixels farther than ``radius`` from the outside; the frame is no border."""
    return _distance_to(~mask) > radius


def _distance_to(mask: BoolMap) -> NDArray[np.float32]:
    """Euclidean distance of every pixel to the nearest True, pixels; inf when there is none."""
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    away = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(away, np.float32)
