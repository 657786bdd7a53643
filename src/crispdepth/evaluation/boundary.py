"""Metrics at mask and depth boundaries: MBE, DBE, and the boundary scores of Depth Pro.

Definitions and sources: docs/metrics.md.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.geometry.align import valid_values
from crispdepth.types import BoolMap

EdgeVariant = Literal["current", "v0.9", "paper"]

MAX_DISTANCE = 10.0
"""Pixels: the depth boundary errors match edges only within this distance."""

_CANNY_THRESHOLDS: dict[EdgeVariant, tuple[float, float]] = {  # low, high
    "current": (0.15, 0.30),
    "v0.9": (0.1, 0.2),
    "paper": (0.15, 0.30),  # the paper gives none
}

RATIO_THRESHOLDS: NDArray[np.float64] = np.linspace(1.05, 1.25, 10)
"""Depth Pro counts an edge when neighbouring values differ by more than these ratios."""

RATIO_WEIGHTS: NDArray[np.float64] = RATIO_THRESHOLDS / RATIO_THRESHOLDS.sum()


def mask_boundary_error(
    prediction: NDArray[Any],
    target: NDArray[Any],
    valid: BoolMap,
    masks: Iterable[BoolMap],
    *,
    erosion: int = 3,
) -> float:
    """MBE (Kim et al., CVPR 2022): the mean of `mask_boundary_errors`; nan without a boundary.

    Raises:
        ValueError: as `mask_boundary_errors`.
    """
    errors = mask_boundary_errors(prediction, target, valid, masks, erosion=erosion)
    errors = errors[~np.isnan(errors)]
    return float(errors.mean()) if errors.size else float("nan")


def mask_boundary_errors(
    prediction: NDArray[Any],
    target: NDArray[Any],
    valid: BoolMap,
    masks: Iterable[BoolMap],
    *,
    erosion: int = 3,
) -> NDArray[np.float64]:
    """RMSE in the boundary band of each instance: (n,), in the target's unit.

    The band is ``dilate_5x5(mask - erode(mask))``; the border of the image is no boundary. The
    error is nan where the band has no valid pixel: an empty or full mask. To pool instances
    over images, concatenate the results and take the mean without nan.

    Args:
        prediction: (h, w) aligned inverse depth.
        target: (h, w) true inverse depth.
        valid: (h, w) pixels that count.
        masks: (h, w) bool each.
        erosion: side of the square erosion kernel in pixels, odd; 5 is another reading of the
            paper.

    Raises:
        ValueError: sizes differ, a mask is not bool, a valid pixel is not finite, or ``erosion``
            is not an odd number of at least 3.
    """
    if erosion < 3 or erosion % 2 == 0:
        raise ValueError(f"erosion must be an odd kernel size of at least 3, got {erosion}.")
    p, t = valid_values(valid, prediction, target)
    squared = np.zeros(valid.shape)
    squared[valid] = (p - t) ** 2
    errors = []
    for mask in masks:
        _check_mask(mask, valid.shape)
        inside = mask.astype(np.uint8)
        rim = inside - cv2.erode(inside, np.ones((erosion, erosion), np.uint8))
        band = cv2.dilate(rim, np.ones((5, 5), np.uint8)).astype(bool) & valid
        errors.append(np.sqrt(squared[band].mean()) if band.any() else np.nan)
    return np.asarray(errors, np.float64)


class Edges(NamedTuple):
    """The depth edges of one map; made by `edges`."""

    mask: BoolMap  # (h, w)
    distance: NDArray[np.float32]  # (h, w) pixels to the nearest edge; inf when there is none


class BoundaryErrors(NamedTuple):
    """Depth boundary errors in pixels, 0 to 10 (unlimited in ``v0.9``); smaller is better."""

    accuracy: float  # how far predicted edges near a true one are from it
    completeness: float  # how far true edges are from predicted ones


def edges(
    inverse_depth: NDArray[Any], valid: BoolMap, *, variant: EdgeVariant = "current"
) -> Edges:
    """Canny edges of the min-max normalised map, and the Euclidean distance to them.

    Invalid pixels are filled with the nearest valid value, so that holes make no edge, and
    edges found on them are dropped. A constant map has no edge.

    Raises:
        ImportError: scikit-image is not installed.
        ValueError: sizes differ, a valid pixel is not finite, or ``variant`` is unknown.
    """
    try:
        # OpenCV's Canny is not equivalent: no interpolated suppression, other thresholds.
        from skimage import feature
    except ImportError as error:
        raise ImportError(
            'Depth boundary errors need scikit-image: pip install "crispdepth[bench]"'
        ) from error
    if variant not in _CANNY_THRESHOLDS:
        raise ValueError(f"variant must be one of {tuple(_CANNY_THRESHOLDS)}, got {variant!r}.")
    canny: Callable[..., BoolMap] = feature.canny
    low, high = _CANNY_THRESHOLDS[variant]
    (values,) = valid_values(valid, inverse_depth)
    if values.size == 0 or np.ptp(values) == 0:
        return Edges(np.zeros(valid.shape, bool), np.full(valid.shape, np.inf, np.float32))
    unit = ((_fill(values, valid) - values.min()) / np.ptp(values)).astype(np.float32)
    mask = canny(unit, sigma=np.sqrt(2), low_threshold=low, high_threshold=high) & valid
    return Edges(mask, _distance_to(mask))


def depth_boundary_errors(
    prediction: NDArray[Any],
    target: NDArray[Any] | Edges,
    valid: BoolMap,
    *,
    variant: EdgeVariant = "current",
) -> BoundaryErrors:
    """Depth boundary errors eps_acc and eps_comp of iBims-1 (Koch et al., ECCV Workshops 2018).

    ``current`` and ``v0.9`` are the two published versions of the authors' script and ``paper``
    is the text; docs/metrics.md has the formulas. Invariant to the scale and shift of either map.

    Args:
        prediction: (h, w) inverse depth.
        target: (h, w) true inverse depth, or its `edges` of the same ``variant``.
        valid: (h, w) pixels that count, for both maps.
        variant: which definition.

    Returns:
        Both nan when the target has no edge; both 10 when no predicted edge is within 10 pixels
        of a true one.

    Raises:
        ImportError: scikit-image is not installed.
        ValueError: sizes differ, a valid pixel is not finite, or ``variant`` is unknown.
    """
    true = target if isinstance(target, Edges) else edges(target, valid, variant=variant)
    if not true.mask.any():
        return BoundaryErrors(float("nan"), float("nan"))
    found = edges(prediction, valid, variant=variant)
    near = found.mask & (true.distance < MAX_DISTANCE)
    if not near.any():
        return BoundaryErrors(MAX_DISTANCE, MAX_DISTANCE)
    to_found, to_true = found.distance[true.mask], true.distance[found.mask]
    match variant:
        case "v0.9":
            completeness = to_found.mean()
        case "paper":
            completeness = np.minimum(to_found, MAX_DISTANCE).mean()
        case "current":
            both_ways = np.concatenate([to_found, to_true])
            completeness = np.minimum(both_ways, MAX_DISTANCE).mean()
    return BoundaryErrors(float(true.distance[near].mean()), float(completeness))


class BoundaryScores(NamedTuple):
    """Boundary scores of Depth Pro, weighted over `RATIO_THRESHOLDS`; larger is better."""

    f1: float
    precision: float
    recall: float


def boundary_f1(
    prediction_depth: NDArray[Any], target_depth: NDArray[Any], valid: BoolMap
) -> float:
    """The F1 of `boundary_scores`, in [0, 1].

    Raises:
        ValueError: as `boundary_scores`.
    """
    return boundary_scores(prediction_depth, target_depth, valid).f1


def boundary_scores(
    prediction_depth: NDArray[Any], target_depth: NDArray[Any], valid: BoolMap
) -> BoundaryScores:
    """Scale-invariant boundary F1 of Depth Pro (Bochkovskii et al., ICLR 2025).

    Neighbours are an edge in one of four directions when one is nearer by more than a ratio.
    A direction without edges scores 0, as published. Invariant to scale but not to shift: align
    an affine-invariant prediction first.

    Args:
        prediction_depth: (h, w) *depth*, larger = farther; clipped to at least 1e-6.
        target_depth: (h, w) true depth, clipped likewise.
        valid: (h, w); a pair with an invalid member is never an edge.

    Returns:
        All nan when the target has no edge (published: 0, which would punish every method).

    Raises:
        ValueError: sizes differ, or a valid pixel is not finite.
    """
    valid_values(valid, prediction_depth, target_depth)
    found, true = (
        [near / far for near, far in _neighbours(_inverse(depth, valid))]
        for depth in (prediction_depth, target_depth)
    )
    if not any((ratio > RATIO_THRESHOLDS[0]).any() for ratio in true):
        return BoundaryScores(float("nan"), float("nan"), float("nan"))
    scores = []
    for threshold in RATIO_THRESHOLDS:
        found_edges = [ratio > threshold for ratio in found]
        true_edges = [ratio > threshold for ratio in true]
        precision = _mean_recall(true_edges, found_edges)
        recall = _mean_recall(found_edges, true_edges)
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        scores.append((f1, precision, recall))
    return BoundaryScores(*(float(score) for score in RATIO_WEIGHTS @ np.array(scores)))


def mask_recall(prediction_depth: NDArray[Any], mask: NDArray[Any]) -> float:
    """Boundary recall of Depth Pro against a mask, in [0, 1]: needs no true depth.

    Of the mask's boundary, the share where depth falls by more than a ratio into the mask at
    exactly that pixel pair; predicted edges are thinned to the largest ratio of each run along
    the test direction. A direction in which the mask has no boundary scores 0, as published.
    Invariant to scale but not to shift.

    Args:
        prediction_depth: (h, w) *depth*, larger = farther; clipped to at least 1e-6.
        mask: (h, w) bool, or float in [0, 1]; above 0.1 is inside.

    Returns:
        nan when the mask has no boundary (published: 0).

    Raises:
        ValueError: sizes differ, a depth is not finite, or the mask holds integers.
    """
    if mask.dtype.kind not in "bf":
        raise ValueError(
            f"The mask is {mask.dtype}; pass bool or float in [0, 1] (divide by its full scale)."
        )
    inside = mask > 0.1
    valid_values(np.ones(inside.shape, bool), prediction_depth)
    inverse = _inverse(prediction_depth, np.ones(inside.shape, bool))
    ratios = [near / far for near, far in _neighbours(inverse)]
    true_edges = [near & ~far for near, far in _neighbours(inside)]
    if not any(edge.any() for edge in true_edges):
        return float("nan")
    recalls = [
        _mean_recall([_thin(ratio, threshold) for ratio in ratios], true_edges)
        for threshold in RATIO_THRESHOLDS
    ]
    return float(RATIO_WEIGHTS @ np.array(recalls))


def _check_mask(mask: NDArray[Any], size: tuple[int, ...]) -> None:
    if mask.dtype != bool or mask.shape != size:
        raise ValueError(
            f"An instance mask is {mask.shape} {mask.dtype}, expected {size} bool; "
            "threshold a soft mask (mask > 0.5) and resize it to the truth."
        )


def _fill(values: NDArray[np.float64], valid: BoolMap) -> NDArray[np.float64]:
    """The (h, w) map with these valid values, each other pixel taking the nearest of them."""
    _, nearest = cv2.distanceTransformWithLabels(
        (~valid).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    lookup = np.zeros(nearest.max() + 1)
    lookup[nearest[valid]] = values
    filled: NDArray[np.float64] = lookup[nearest]
    return filled


def _distance_to(mask: BoolMap) -> NDArray[np.float32]:
    """Euclidean distance of every pixel to the nearest True, pixels; inf when there is none."""
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    outside = (~mask).astype(np.uint8)
    distance: NDArray[np.float32] = np.asarray(
        cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32
    )
    return distance


def _inverse(depth: NDArray[Any], valid: BoolMap) -> NDArray[np.float64]:
    """1 / depth; nan at invalid pixels, because a ratio with nan is above no threshold."""
    safe = np.where(valid, depth, 1).astype(np.float64)
    return np.where(valid, 1 / np.maximum(safe, 1e-6), np.nan)


def _neighbours(values: NDArray[Any]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Pairs of adjacent values in the four directions; vertical ones transposed to rows."""
    for rows in (values, np.ascontiguousarray(values.T)):
        left, right = rows[:, :-1], rows[:, 1:]
        yield right, left
        yield left, right


def _mean_recall(found: Iterable[BoolMap], true: Iterable[BoolMap]) -> float:
    """Share of true edges that were found, averaged over the directions."""
    recalls = []
    for found_edge, true_edge in zip(found, true, strict=True):
        total = int(np.count_nonzero(true_edge))
        recalls.append(int(np.count_nonzero(found_edge & true_edge)) / max(total, 1))
    return float(np.mean(recalls))


def _thin(ratio: NDArray[np.float64], threshold: float) -> BoolMap:
    """The first largest of each run of ratios above the threshold along the rows."""
    thin = np.zeros(ratio.shape, bool)
    index = np.flatnonzero(ratio > threshold)
    if index.size == 0:
        return thin
    starts = (np.diff(index, prepend=-2) != 1) | (index % ratio.shape[1] == 0)
    values = ratio.ravel()[index]
    largest = np.maximum.reduceat(values, np.flatnonzero(starts))
    run = np.cumsum(starts) - 1
    peaks = np.flatnonzero(values == largest[run])
    peaks = peaks[np.diff(run[peaks], prepend=-1) != 0]
    thin.ravel()[index[peaks]] = True
    return thin
