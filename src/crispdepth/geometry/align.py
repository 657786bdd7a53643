"""Scale-and-shift alignment of inverse depth, and the scale that errors are reported in."""

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from crispdepth.types import BoolMap

TargetNorm = Literal["max", "minmax", "none"]


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
