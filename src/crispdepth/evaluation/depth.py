"""Metrics over all pixels of a map: RMSE, R3, and the ordinal WHDR, ORD and D3R.

Maps are (h, w) inverse depth, the prediction already aligned to the target
(`crispdepth.geometry.align`). Definitions and sources: docs/metrics.md.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crispdepth.geometry.align import valid_values
from crispdepth.types import BoolMap

POSITIVE_FLOOR = 1e-6
"""Metrics that compare ratios clip both maps to this share of the largest true value: an aligned
prediction may be zero or negative, where ratios mean nothing."""


def rmse(prediction: NDArray[Any], target: NDArray[Any], valid: BoolMap) -> float:
    """Root mean square difference over valid pixels, in the target's unit; nan without any.

    Raises:
        ValueError: sizes differ, or a valid pixel is not finite.
    """
    p, t = valid_values(valid, prediction, target)
    return float(np.sqrt(np.mean((p - t) ** 2))) if p.size else float("nan")


@dataclass(frozen=True)
class R3Counts:
    """How many pixels a refinement improved and worsened.

    ``sum(counts, R3Counts())`` pools images.
    """

    improved: int = 0
    worsened: int = 0

    def __add__(self, other: "R3Counts") -> "R3Counts":
        """The counts of both images together."""
        return R3Counts(self.improved + other.improved, self.worsened + other.worsened)

    @property
    def ratio(self) -> float:
        """improved / worsened; inf when nothing got worse, nan when nothing changed either."""
        if self.worsened == 0:
            return float("inf") if self.improved else float("nan")
        return self.improved / self.worsened


def r3(
    initial: NDArray[Any],
    refined: NDArray[Any],
    target: NDArray[Any],
    valid: BoolMap,
    threshold: float = 0.05,
) -> R3Counts:
    """Relative refinement ratio (Kim et al., CVPR 2022).

    A pixel counts when its absolute error changes by more than ``threshold`` (strictly; in the
    target's unit).

    Raises:
        ValueError: sizes differ, or a valid pixel is not finite.
    """
    before, after, t = valid_values(valid, initial, refined, target)
    gain = np.abs(before - t) - np.abs(after - t)
    return R3Counts(
        improved=int(np.count_nonzero(gain > threshold)),
        worsened=int(np.count_nonzero(-gain > threshold)),
    )


def whdr(
    prediction: NDArray[Any],
    target: NDArray[Any],
    valid: BoolMap,
    *,
    pairs: int = 10_000,
    seed: int = 0,
    ratio: float | None = None,
) -> float:
    """Share of random pairs of valid pixels that prediction and target order differently.

    Unweighted. By default the order is the sign of the difference (as evaluated by LeReS, Yin et
    al., CVPR 2021), so the result is invariant to increasing transforms. With ``ratio`` (1.02 in
    older work) values whose ratio lies within [1/ratio, ratio] count as equal; both maps are
    then clipped to `POSITIVE_FLOOR`.

    Args:
        prediction: (h, w) inverse depth.
        target: (h, w) true inverse depth.
        valid: (h, w) pixels to draw from; fewer than two give nan.
        pairs: how many pairs of distinct pixels to draw.
        seed: the same seed and ``valid`` draw the same pairs, whatever the prediction.
        ratio: None, or the width of the band of equality, at least 1.

    Raises:
        ValueError: sizes differ, a valid pixel is not finite, or ``ratio`` is below 1.
    """
    p, t = valid_values(valid, prediction, target)
    if p.size < 2:
        return float("nan")
    if ratio is None:
        ratio = 1.0
    elif ratio < 1:
        raise ValueError(f"ratio must be at least 1 (1.02 is usual), got {ratio:g}.")
    else:
        p, t = _positive(p, t)
    rng = np.random.default_rng(seed)
    first = rng.integers(p.size, size=pairs)
    second = rng.integers(p.size - 1, size=pairs)
    second += second >= first  # never the same pixel twice
    differs = _order(p[first], p[second], ratio) != _order(t[first], t[second], ratio)
    return float(differs.mean())


class Superpixels(NamedTuple):
    """Where ORD and D3R look: depends on the target only, so find them once per target."""

    centres: NDArray[np.intp]  # (n,) flat pixel index
    neighbours: NDArray[np.intp]  # (m, 2) pairs i < j of superpixels that share a border


def find_superpixels(target: NDArray[Any], valid: BoolMap, *, count: int = 5000) -> Superpixels:
    """About ``count`` superpixels of the true inverse depth (SLIC with adaptive compactness).

    The published script runs SLIC0 with compactness 20. That number is taken to be for
    intensities of 0 to 100, the lightness scale; scikit-image works on 0 to 1.

    Raises:
        ImportError: scikit-image is not installed.
        ValueError: sizes differ, or a valid pixel is not finite.
    """
    try:
        from skimage.segmentation import slic
    except ImportError as error:
        raise ImportError(
            'ORD and D3R need scikit-image: pip install "crispdepth[bench]"'
        ) from error
    (t,) = valid_values(valid, target)
    filled = np.zeros(valid.shape)
    filled[valid] = t
    labels = slic(
        filled,
        n_segments=count,
        compactness=20 / 100,
        slic_zero=True,
        start_label=0,
        channel_axis=None,
    )
    rows, columns = np.indices(labels.shape)
    area = np.bincount(labels.ravel())
    row, column = (
        np.bincount(labels.ravel(), weights=index.ravel()) // area for index in (rows, columns)
    )
    touching = np.concatenate(
        [
            np.stack([labels[:, 1:].ravel(), labels[:, :-1].ravel()], axis=1),
            np.stack([labels[1:].ravel(), labels[:-1].ravel()], axis=1),
        ]
    )
    touching = np.sort(touching[touching[:, 0] != touching[:, 1]], axis=1)
    return Superpixels(
        centres=(row * labels.shape[1] + column).astype(np.intp),
        neighbours=np.unique(touching, axis=0).astype(np.intp),
    )


def ord_error(
    prediction: NDArray[Any],
    target: NDArray[Any],
    valid: BoolMap,
    *,
    superpixels: Superpixels | None = None,
    seed: int = 0,
) -> float:
    """ORD: ordinal error between superpixel centres and 3 random partners each, in [0, 2].

    Mean of ``|order(target) - order(prediction)|`` with order in {-1, 0, 1} and values within a
    ratio of 1.03 equal, over the pairs whose true values differ (Xian et al., CVPR 2020; pairs as
    in Miangoleh et al., CVPR 2021). nan when there is no such pair.

    Args:
        prediction: (h, w) inverse depth; clipped to `POSITIVE_FLOOR`.
        target: (h, w) true inverse depth; clipped to `POSITIVE_FLOOR`.
        valid: (h, w); a pair with an invalid member does not count.
        superpixels: `find_superpixels` of the target; None finds them.
        seed: draws the partners.

    Raises:
        ImportError: ``superpixels`` is None and scikit-image is not installed.
        ValueError: sizes differ, or a valid pixel is not finite.
    """
    centres = (superpixels or find_superpixels(target, valid)).centres
    partners = np.random.default_rng(seed).choice(centres, size=(3, centres.size))
    pairs = np.stack([np.tile(centres, 3), partners.ravel()], axis=1)
    return _ordinal_error(prediction, target, valid, pairs, ratio=1.03, min_target_ratio=1.0)


def d3r(
    prediction: NDArray[Any],
    target: NDArray[Any],
    valid: BoolMap,
    *,
    superpixels: Superpixels | None = None,
) -> float:
    """D3R: ordinal error across depth discontinuities, in [0, 2].

    As `ord_error`, over neighbouring superpixels whose true values have a ratio above 1.1, and
    with values within a ratio of 1.01 equal (Miangoleh et al., CVPR 2021). nan when the target
    has no such pair.

    Args:
        prediction: (h, w) inverse depth; clipped to `POSITIVE_FLOOR`.
        target: (h, w) true inverse depth; clipped to `POSITIVE_FLOOR`.
        valid: (h, w); a pair with an invalid member does not count.
        superpixels: `find_superpixels` of the target; None finds them.

    Raises:
        ImportError: ``superpixels`` is None and scikit-image is not installed.
        ValueError: sizes differ, or a valid pixel is not finite.
    """
    centres, neighbours = superpixels or find_superpixels(target, valid)
    return _ordinal_error(
        prediction, target, valid, centres[neighbours], ratio=1.01, min_target_ratio=1.1
    )


def _ordinal_error(
    prediction: NDArray[Any],
    target: NDArray[Any],
    valid: BoolMap,
    pairs: NDArray[np.intp],  # (m, 2) flat pixel indices
    *,
    ratio: float,
    min_target_ratio: float,
) -> float:
    """Mean difference of the two orders, over valid pairs further apart than the minimum."""
    p, t = _positive(*valid_values(valid, prediction, target))
    position = np.cumsum(valid.ravel()) - 1  # of a valid pixel in p and t
    first, second = position[pairs[valid.ravel()[pairs].all(axis=1)]].T
    counts = _order(t[first], t[second], min_target_ratio) != 0
    if not counts.any():
        return float("nan")
    first, second = first[counts], second[counts]
    difference = _order(t[first], t[second], ratio) - _order(p[first], p[second], ratio)
    return float(np.abs(difference).mean())


def _positive(
    prediction: NDArray[np.float64], target: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both vectors clipped to `POSITIVE_FLOOR` of the largest target."""
    floor = POSITIVE_FLOOR * target.max(initial=np.finfo(np.float64).tiny)
    return np.maximum(prediction, floor), np.maximum(target, floor)


def _order(
    first: NDArray[np.float64], second: NDArray[np.float64], ratio: float
) -> NDArray[np.int8]:
    """1 where first / second > ratio, -1 where second / first > ratio, else 0."""
    above = (first > ratio * second).astype(np.int8)
    below = (second > ratio * first).astype(np.int8)
    return above - below


class DepthErrors(NamedTuple):
    """The errors of a depth map in the terms of Eigen et al. and of Atlas.

    Over pixels where both maps have depth; nan without any.
    """

    abs_rel: float  # mean |p - t| / t
    abs_diff: float  # mean |p - t|, unit of the maps
    sq_rel: float  # mean (p - t)^2 / t, unit of the maps
    rmse: float  # unit of the maps
    rmse_log: float  # of natural logarithms
    delta1: float  # share with max(p / t, t / p) < 1.25
    delta2: float  # < 1.25^2
    delta3: float  # < 1.25^3
    completeness: float  # share of the pixels with truth that have a prediction


def depth_errors(prediction: NDArray[Any], target: NDArray[Any], valid: BoolMap) -> DepthErrors:
    """Errors of z-depth, without any alignment.

    Args:
        prediction: (h, w) z-depth; not positive (or not finite) where there is none.
        target: (h, w) true z-depth, positive where valid.
        valid: (h, w) where the truth is known and shall count.

    Raises:
        ValueError: sizes differ, or a valid true depth is not positive.
    """
    if not prediction.shape == target.shape == valid.shape:
        raise ValueError(
            f"The prediction is {prediction.shape}, the truth {target.shape}, valid {valid.shape}."
        )
    if not (target[valid] > 0).all():
        raise ValueError("Valid true depth must be positive; depth errors divide by it.")
    nan = float("nan")
    known = valid & np.isfinite(prediction) & (prediction > 0)
    total = int(valid.sum())
    completeness = float(known.sum()) / total if total else nan
    if not known.any():
        return DepthErrors(nan, nan, nan, nan, nan, nan, nan, nan, completeness)
    p, t = (values[known].astype(np.float64) for values in (prediction, target))
    difference, ratio = np.abs(p - t), np.maximum(p / t, t / p)
    return DepthErrors(
        abs_rel=float((difference / t).mean()),
        abs_diff=float(difference.mean()),
        sq_rel=float((difference**2 / t).mean()),
        rmse=float(np.sqrt((difference**2).mean())),
        rmse_log=float(np.sqrt((np.log(ratio) ** 2).mean())),
        delta1=float((ratio < 1.25).mean()),
        delta2=float((ratio < 1.25**2).mean()),
        delta3=float((ratio < 1.25**3).mean()),
        completeness=completeness,
    )
