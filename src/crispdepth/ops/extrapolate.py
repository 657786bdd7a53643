"""Continuing a map from where it is trusted: local planes, then a photo-guided correction."""

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.types import BoolMap, Float32Map, Size

VALUE_PRIOR = 0.5
"""Weight, in trusted pixels, of the coarser level's value in a local fit."""

SLOPE_PRIOR = 2.0
"""Weight, in trusted pixels at one pixel's distance, of the coarser level's slope."""

CELL = 2
"""Width in pixels of the finest cells to which planes are fitted."""

GUIDE_BINS = 12
"""Brightness levels between which the guided correction tells surfaces apart."""

GUIDE_STEP = 8
"""Pixels per cell of the grid on which the correction is smoothed."""

GUIDE_PRIOR = 0.02
"""Share of trusted pixels in a cell at which the correction counts half."""

_Planes = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def extrapolate(values: Float32Map, trusted: BoolMap, guide: Float32Map) -> Float32Map:
    """The map continued from its trusted pixels over the whole frame.

    A smooth surface of local planes (`fit_planes`), plus what the trusted pixels differ from it,
    carried to pixels of similar brightness nearby. Exact on planes; where the map is not planar
    the correction is an average of trusted differences, so it cannot overshoot them. The time is
    linear in the number of pixels.

    Args:
        values: (h, w).
        trusted: (h, w), with at least one pixel.
        guide: (h, w) brightness of the photo in [0, 1].
    """
    surface = fit_planes(values, trusted)
    return surface + _guided_mean(values - surface, trusted, guide)


def fit_planes(values: Float32Map, trusted: BoolMap) -> Float32Map:
    """A smooth surface through the trusted pixels: weighted least squares on a pyramid.

    Every cell of a Gaussian pyramid fits a plane to the trusted pixels under it by least squares,
    with the coarser level's plane as prior: fine where there is evidence, coarse where there is
    little, the global plane where there is none. The finest cells are `CELL` pixels wide.
    """
    height, width = values.shape
    pyramid = [_cell_moments(values, trusted)]
    while max(pyramid[-1][0].shape) > 2:
        pyramid.append([4 * _half(moment) for moment in pyramid[-1]])
    pyramid.append([moment.sum(keepdims=True) for moment in pyramid[0]])  # the global plane
    planes: _Planes | None = None
    for level in range(len(pyramid) - 1, -1, -1):
        planes = _fit_level(pyramid[level], CELL * 2**level, planes)
    assert planes is not None  # a pyramid has a level
    size = (width + width % CELL, height + height % CELL)
    intercept, slope_x, slope_y = (
        cv2.resize(plane.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)[:height, :width]
        for plane in planes
    )
    x = np.arange(width, dtype=np.float32) + np.float32(0.5)
    y = np.arange(height, dtype=np.float32)[:, None] + np.float32(0.5)
    return np.asarray(intercept + slope_x * x + slope_y * y, np.float32)


def _cell_moments(values: Float32Map, trusted: BoolMap) -> list[NDArray[np.float64]]:
    """Sums of 1, x, y, xx, xy, yy, v, vx, vy over the trusted pixels of each cell, (h', w') each.

    A cell counts as its number of trusted pixels at their mean place with their mean value,
    which loses nothing on a plane.
    """
    height, width = values.shape
    weight = trusted.astype(np.float32)
    x = np.arange(width, dtype=np.float32) + np.float32(0.5)
    y = np.arange(height, dtype=np.float32)[:, None] + np.float32(0.5)
    sums = cv2.merge([weight, weight * x, weight * y, weight * values])
    odd = (height % CELL, width % CELL)
    if any(odd):
        sums = cv2.copyMakeBorder(sums, 0, odd[0], 0, odd[1], cv2.BORDER_CONSTANT, value=0)
    cells = (sums.shape[1] // CELL, sums.shape[0] // CELL)
    mean = cv2.resize(sums, cells, interpolation=cv2.INTER_AREA).astype(np.float64)
    n = mean[..., 0] * CELL**2
    x_mean, y_mean, v_mean = (
        np.divide(mean[..., k] * CELL**2, n, out=np.zeros_like(n), where=n > 0) for k in (1, 2, 3)
    )
    nx, ny, nv = n * x_mean, n * y_mean, n * v_mean
    second = [nx * x_mean, nx * y_mean, ny * y_mean]
    return [n, nx, ny, *second, nv, nv * x_mean, nv * y_mean]


def _half(moment: NDArray[np.float64]) -> NDArray[np.float64]:
    """Every second pixel of a blurred map."""
    smaller = cv2.pyrDown(moment, borderType=cv2.BORDER_REFLECT)
    return np.asarray(smaller, np.float64)


def _double(plane: NDArray[np.float64], size: Size) -> NDArray[np.float64]:
    return np.asarray(cv2.pyrUp(plane, dstsize=size[::-1]), np.float64)


def _fit_level(
    moments: list[NDArray[np.float64]],  # (h, w) each: sums of 1, x, y, xx, xy, yy, v, vx, vy
    step: int,  # pixels per cell
    coarser: _Planes | None,
) -> _Planes:
    """Planes ``v = intercept + slope_x x + slope_y y`` of one level's cells, in image pixels.

    Planes are passed between levels by their value at the origin and their slopes: any weighted
    mean of equal planes is that plane, so a planar map stays exact at its borders too.
    """
    n, sx, sy, sxx, sxy, syy, sv, svx, svy = moments
    size = n.shape
    x = np.arange(size[1]) * step + CELL / 2
    y = (np.arange(size[0]) * step + CELL / 2)[:, None]
    # Moments about the centre of the cell, where they are well conditioned.
    cx, cy = sx - x * n, sy - y * n
    cxx = sxx - 2 * x * sx + x * x * n
    cyy = syy - 2 * y * sy + y * y * n
    cxy = sxy - x * sy - y * sx + x * y * n
    cvx, cvy = svx - x * sv, svy - y * sv
    if coarser is None:
        value = np.full(size, sv.sum() / n.sum())
        slope_x, slope_y = np.zeros(size), np.zeros(size)
        value_prior, slope_prior = 1e-6, 1e-6 * step**2
    else:
        intercept, slope_x, slope_y = (_double(plane, size) for plane in coarser)
        value = intercept + slope_x * x + slope_y * y
        value_prior, slope_prior = VALUE_PRIOR, SLOPE_PRIOR * step**2
    # Normal equations for the difference from the prior, solved by Cramer's rule.
    rv = sv - value * n - slope_x * cx - slope_y * cy
    rx = cvx - value * cx - slope_x * cxx - slope_y * cxy
    ry = cvy - value * cy - slope_x * cxy - slope_y * cyy
    a, d, f = n + value_prior, cxx + slope_prior, cyy + slope_prior
    b, c, e = cx, cy, cxy
    m00, m01, m02 = d * f - e * e, c * e - b * f, b * e - c * d
    m11, m12, m22 = a * f - c * c, b * c - a * e, a * d - b * b
    determinant = a * m00 + b * m01 + c * m02
    value = value + (m00 * rv + m01 * rx + m02 * ry) / determinant
    slope_x = slope_x + (m01 * rv + m11 * rx + m12 * ry) / determinant
    slope_y = slope_y + (m02 * rv + m12 * rx + m22 * ry) / determinant
    return value - slope_x * x - slope_y * y, slope_x, slope_y


def _guided_mean(residual: Float32Map, trusted: BoolMap, guide: Float32Map) -> Float32Map:
    """Mean of the trusted residuals near each pixel in place and brightness, 0 where none is.

    A bilateral grid (Chen, Paris, Durand 2007) walked one brightness level at a time.
    """
    height, width = residual.shape
    cells = (max(1, width // GUIDE_STEP), max(1, height // GUIDE_STEP))
    weight = trusted.astype(np.float32)
    weighted = weight * residual
    brightness = guide * np.float32(GUIDE_BINS - 1)
    mean = np.zeros_like(residual)
    for level in range(GUIDE_BINS):
        near = np.maximum(1 - np.abs(brightness - level), 0)
        count, total = (
            cv2.GaussianBlur(
                cv2.resize(part * near, cells, interpolation=cv2.INTER_AREA), (0, 0), 1.0
            )
            for part in (weight, weighted)
        )
        level_mean = total / (count + GUIDE_PRIOR)
        mean += near * cv2.resize(level_mean, (width, height), interpolation=cv2.INTER_LINEAR)
    return mean
