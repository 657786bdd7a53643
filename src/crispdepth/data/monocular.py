"""True depth on the scale of what a monocular network made of the same photo.

Beyond the paper: where rendered frames come with the rough depth of a real network, samples need
not simulate its errors.
"""

from typing import NamedTuple

import cv2
import numpy as np

from crispdepth.geometry.align import fit_scale_shift
from crispdepth.ops.resample import shrink, upsample
from crispdepth.types import BoolMap, Float32Map

COARSE = 4
"""Pixels a side of the cells in which the drift is measured; it is smooth."""

WINDOW = 0.12
"""Sigma of the window in which it is measured, as a share of the longer side."""

TRUST = 0.3
"""Variance of the truth, as a share of that of the whole photo, at which a window's own gain counts
as much as that of the photo."""

MAX_CHANGE = 2.0
"""By how much a window's gain may differ from that of the photo, as a factor."""


class Drift(NamedTuple):
    """The smooth affine map from true to rough inverse depth, (h, w) each."""

    gain: Float32Map
    offset: Float32Map
    bend: Float32Map  # what to add to the mapped truth to have it on one scale for the whole photo
    correlation: float  # of the rough depth and the mapped truth, where that is known; flat: 0


def drift_of(rough: Float32Map, true: Float32Map, valid: BoolMap) -> Drift:
    """How the scale of rough depth drifts over a photo: ``rough ~ gain * true + offset``.

    Networks bend whole scenes. Refining shall give the true edges and shapes without straightening
    those bends, so its target is the truth on the local scale of the rough depth: a guided filter
    (He et al., *Guided Image Filtering*, 2010) of the rough depth with the truth as its guide, in
    windows so wide that edges, lost parts and misplaced small things do not decide. How much better
    the photo as a whole becomes is told by ``bend``.

    Args:
        rough: (h, w) relative inverse depth, on any affine scale.
        true: (h, w) inverse depth.
        valid: (h, w), where the truth is known; somewhere it must be.
    """
    height, width = rough.shape
    small = (max(1, height // COARSE), max(1, width // COARSE))
    sigma = WINDOW * max(small)
    whole = fit_scale_shift(true, rough, valid)

    weight = shrink(valid.astype(np.float32), small)
    known = np.where(valid, true, np.float32(0))
    x, y = (
        np.divide(shrink(values, small), weight, out=np.zeros_like(weight), where=weight > 0)
        for values in (known, np.where(valid, rough, np.float32(0)))
    )
    x, y = x - x[weight > 0].mean(), y - y[weight > 0].mean()  # of products, digits get lost
    total = cv2.GaussianBlur(weight, (0, 0), sigma) + np.float32(1e-6)

    def mean(values: Float32Map) -> Float32Map:
        return np.asarray(cv2.GaussianBlur(weight * values, (0, 0), sigma) / total)

    mean_x, mean_y = mean(x), mean(y)
    covariance, variance = mean(x * y) - mean_x * mean_y, mean(x * x) - mean_x**2
    prior = np.float32(TRUST * np.average(x * x, weights=weight) + 1e-12)
    gain = (covariance + prior * np.float32(whole.scale)) / (variance + prior)
    low, high = sorted((whole.scale / MAX_CHANGE, whole.scale * MAX_CHANGE))
    gain = upsample(mean(gain.clip(low, high).astype(np.float32)), (height, width))
    residual = shrink(np.where(valid, rough - gain * true, np.float32(0)), small)
    offset = cv2.GaussianBlur(residual, (0, 0), sigma) / total
    offset = upsample(offset, (height, width))
    mapped = gain * true + offset
    bend = np.where(valid, whole.apply(true).astype(np.float32) - mapped, np.float32(0))
    pair = np.stack([mapped[valid], rough[valid]]).astype(np.float64)
    pair -= pair.mean(axis=1, keepdims=True)
    norm = float(np.sqrt((pair**2).sum(axis=1).prod()))
    return Drift(gain, offset, bend, float((pair[0] @ pair[1]) / norm) if norm else 0.0)
