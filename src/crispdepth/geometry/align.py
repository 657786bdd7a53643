"""Scale-and-shift alignment of inverse depth, and the scale that errors are reported in."""

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from crispdepth.geometry.depth import inverse_depth
from crispdepth.geometry.warp import in_camera, sees
from crispdepth.types import BoolMap, Camera, DepthMap, Unit

TargetNorm = Literal["max", "minmax", "none"]

PAIRS, JUDGES = 300, 2000
"""Lines that a robust fit tries, and points that judge them."""

INLYING = 2.5
"""Robust standard deviations within which a point belongs to the fit."""


CELLS = 32
"""Cells along the longer side of a view; of the sparse points in one the nearest counts."""

FARTHEST = 50.0
"""Depth in that of half of the pixels beyond which aligned depth is sky."""


class ScaleShift(NamedTuple):
    """The affine map ``scale * inverse_depth + shift``."""

    scale: float
    shift: float

    def apply(self, inverse_depth: NDArray[Any]) -> NDArray[np.float64]:
        """The map, scaled and shifted, in float64."""
        return self.scale * np.asarray(inverse_depth, np.float64) + self.shift


def valid_values(valid: BoolMap, *maps: NDArray[Any]) -> tuple[NDArray[np.float64], ...]:
    """The valid pixels of each (h, w) map as an (n,) float64 vector, in row order.

    Raises:
        ValueError: sizes differ, ``valid`` is not bool, or a valid pixel is NaN or infinite.
    """
    valid = np.asarray(valid)
    if valid.dtype != bool:
        raise ValueError(f"valid must be bool, got {valid.dtype}; compare it with a threshold.")
    for values in maps:
        if values.shape != valid.shape:
            raise ValueError(
                f"A map is {values.shape}, valid is {valid.shape}; resize the map to the size "
                "of the truth first."
            )
    vectors = tuple(np.asarray(values[valid], np.float64) for values in maps)
    for vector in vectors:
        if not np.isfinite(vector).all():
            raise ValueError(
                f"{np.count_nonzero(~np.isfinite(vector))} of {vector.size} valid pixels are NaN "
                "or infinite; set valid to False there."
            )
    return vectors


def fit_scale_shift(prediction: NDArray[Any], target: NDArray[Any], valid: BoolMap) -> ScaleShift:
    """The least-squares scale and shift that take ``prediction`` to ``target``.

    Minimises ``sum((scale * prediction + shift - target) ** 2)`` over valid pixels, in closed
    form and float64: the protocol of MiDaS (Ranftl et al., TPAMI 2020). A constant
    prediction gives scale 0 and the mean of the target.

    Args:
        prediction: (h, w) inverse depth of unknown scale and shift.
        target: (h, w) true inverse depth.
        valid: (h, w) pixels that count.

    Raises:
        ValueError: no pixel is valid, sizes differ, or a valid pixel is not finite.
    """
    p, t = valid_values(valid, prediction, target)
    if p.size == 0:
        raise ValueError("No valid pixel to align on; check the valid map of the truth.")
    if np.ptp(p) == 0:
        return ScaleShift(0.0, float(t.mean()))
    # Centred, so that a large common offset does not cancel the digits that matter.
    centred = p - p.mean()
    scale = float(centred @ (t - t.mean()) / (centred @ centred))
    return ScaleShift(scale, float(t.mean() - scale * p.mean()))


def normalise_target(
    gt_inverse: NDArray[Any], valid: BoolMap, mode: TargetNorm = "max"
) -> NDArray[np.float64]:
    """True inverse depth on the scale that errors are reported in; 0 where it is invalid.

    ``max`` divides by the largest valid value, ``minmax`` maps the valid range to [0, 1] and
    ``none`` keeps the values. RMSE and MBE scale with the choice, R3 depends on it, WHDR and
    the depth boundary errors do not.

    Raises:
        ValueError: no pixel is valid, the maximum is not positive (``max``), the valid values
            are all equal (``minmax``), or the mode is unknown.
    """
    (t,) = valid_values(valid, gt_inverse)
    if t.size == 0:
        raise ValueError("The truth has no valid pixel to normalise by.")
    low, high = 0.0, float(t.max())
    match mode:
        case "none":
            high = 1.0
        case "max" if high <= 0:
            raise ValueError(f"The largest true inverse depth is {high:g}; it must be positive.")
        case "max":
            pass
        case "minmax":
            low = float(t.min())
            if low == high:
                raise ValueError(f"The true inverse depth is {high:g} everywhere; use mode 'max'.")
        case _:
            raise ValueError(f"mode must be one of {get_args(TargetNorm)}, got {mode!r}.")
    normalised = np.zeros(valid.shape)
    normalised[valid] = (t - low) / (high - low)
    return normalised


def fit_scale_shift_robust(
    prediction: NDArray[Any], target: NDArray[Any], rng: np.random.Generator
) -> ScaleShift:
    """Scale and shift that take most of ``prediction`` to ``target``, whatever the rest does.

    Of the lines through random pairs the one with the least median of absolute residuals
    (Rousseeuw 1984), then least squares over what is within `INLYING` robust deviations of it.

    Args:
        prediction: (n,).
        target: (n,); up to almost half of them may be wrong.
        rng: draws the pairs.

    Raises:
        ValueError: the vectors differ in length or are not finite, all values of the prediction
            are equal, or the scale is not above 0: the two are not the same quantity.
    """
    x, y = np.asarray(prediction, np.float64), np.asarray(target, np.float64)
    if x.shape != y.shape or x.ndim != 1 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError(f"Need two finite vectors of one length, got {x.shape} and {y.shape}.")
    if x.size < 2 or np.ptp(x) == 0:
        raise ValueError(
            f"Two different values or more tell scale and shift, got {np.unique(x).size} in "
            f"{x.size} points; give more points, or points farther apart in depth."
        )
    first, second = rng.integers(x.size, size=(2, PAIRS))
    apart = x[first] != x[second]
    if not apart.any():  # few differ from the rest: then there is no majority to find
        return _positive(fit_scale_shift(x[None], y[None], np.ones((1, x.size), bool)))
    first, second = first[apart], second[apart]
    scales = (y[first] - y[second]) / (x[first] - x[second])
    shifts = y[first] - scales * x[first]
    chosen = np.arange(x.size) if x.size <= JUDGES else rng.choice(x.size, JUDGES, replace=False)
    residuals = np.abs(scales[:, None] * x[chosen] + shifts[:, None] - y[chosen])
    medians = np.median(residuals, axis=1)
    best = int(medians.argmin())
    reach = INLYING * 1.4826 * medians[best] + 1e-9 * np.abs(y).max()
    inlying = np.abs(scales[best] * x + shifts[best] - y) <= reach
    return _positive(fit_scale_shift(x[None], y[None], inlying[None]))


def align_to_points(
    inverse_depth: NDArray[Any],
    camera: Camera,
    points: NDArray[np.floating[Any]],
    rng: np.random.Generator,
    *,
    inside: BoolMap | None = None,
) -> ScaleShift:
    """Scale and shift that take a relative inverse depth to that of sparse points.

    Of points close to each other in the picture only the nearest counts, for others may be hidden.
    What is hidden all the same, or was triangulated wrongly, does not matter as long as it is the
    lesser part (`fit_scale_shift_robust`).

    Args:
        inverse_depth: (h, w), relative, as MiDaS and its kind see it.
        camera: of the map.
        points: (n, 3), world.
        rng: see `fit_scale_shift_robust`.
        inside: (h, w), the pixels whose points count; None: all.

    Raises:
        ValueError: fewer than two different values are left, the sizes differ, or the scale is
            not above 0.
    """
    if inverse_depth.shape != camera.size or (inside is not None and inside.shape != camera.size):
        raise ValueError(
            f"The map is {inverse_depth.shape}, the camera's {camera.size}"
            + ("." if inside is None else f", the mask {inside.shape}.")
        )
    seen = in_camera(camera, points)
    seen = seen[sees(camera, seen)]
    pixels = seen @ camera.K.T
    column, row = np.floor(pixels[:, :2] / pixels[:, 2:]).astype(np.intp).T
    if inside is not None:
        counts = inside[row, column]
        seen, row, column = seen[counts], row[counts], column[counts]
    side = -(-max(camera.size) // CELLS)
    order = np.argsort(seen[:, 2], kind="stable")
    cell = row // side * camera.size[1] + column // side
    nearest = order[np.unique(cell[order], return_index=True)[1]]
    return fit_scale_shift_robust(
        inverse_depth[row[nearest], column[nearest]], 1 / seen[nearest, 2], rng
    )


def depth_by_points(
    depth: DepthMap, points: NDArray[np.floating[Any]], unit: Unit, rng: np.random.Generator
) -> DepthMap:
    """Depth in the unit of sparse points, of a map that is known up to scale and shift (2.22).

    What would be behind the camera, or deeper than `FARTHEST` times the median, is invalid.

    Args:
        depth: of any kind, with its camera.
        points: (n, 3), world.
        unit: theirs.
        rng: see `fit_scale_shift_robust`.

    Raises:
        ValueError: the map has no camera, or see `align_to_points`.
    """
    if depth.camera is None:
        raise ValueError("A map without a camera cannot be aligned to points.")
    inverse = inverse_depth(depth)
    fit = align_to_points(inverse, depth.camera, points, rng, inside=depth.usable)
    aligned = fit.apply(inverse)
    known = depth.usable & (aligned > max(0.0, np.median(aligned[depth.usable])) / FARTHEST)
    values = np.divide(1, aligned, out=np.zeros_like(aligned), where=known)
    return DepthMap(values.astype(np.float32), "depth", unit, known, depth.camera)


def _positive(fit: ScaleShift) -> ScaleShift:
    if not fit.scale > 0:
        raise ValueError(
            f"The scale would be {fit.scale:g}: what is near in one is far in the other, or "
            "the points have nothing to do with the map. Check the poses, or that both are inverse "
            "depth."
        )
    return fit
