"""The methods that refinement is measured against, all behind one signature."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from crispdepth.evaluation.baselines.bilateral_median import bmf, bmf_textbook
from crispdepth.evaluation.baselines.bilateral_solver import fast_bilateral_solver
from crispdepth.evaluation.baselines.filters import guided_filter, joint_bilateral
from crispdepth.evaluation.baselines.propagation import layered_propagation
from crispdepth.types import Float32Map, MaskSet

Baseline = Callable[[NDArray[np.uint8], Float32Map, MaskSet], Float32Map]
"""(image (h, w, 3) sRGB, inverse depth (h, w) on any affine scale, masks) -> inverse depth (h, w)
on the same scale."""


def initial(image: NDArray[np.uint8], inverse_depth: Float32Map, masks: MaskSet) -> Float32Map:
    """The rough depth as it came."""
    return inverse_depth


BASELINES: dict[str, Baseline] = {
    "initial": initial,
    "layered-propagation": layered_propagation,
    "bmf": bmf,
    "bmf-textbook": bmf_textbook,
    "guided-filter": guided_filter,
    "joint-bilateral": joint_bilateral,
    "fast-bilateral-solver": fast_bilateral_solver,
}
