"""Composites of two RGB-D patches: the self-supervised samples of layered refinement.

*Layered Depth Refinement with Mask Guidance* (CVPR 2022), section 3.3: where two unrelated patches
are joined along a mask, both layers are known everywhere, under the other one too.
"""

from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.data.strokes import Mask
from crispdepth.geometry.depth import COMPLETER_RANGE
from crispdepth.ops.fill import pull_push
from crispdepth.types import BoolMap, Float32Map

Pixels = TypeVar("Pixels", bound=NDArray[Any])


class RgbdPatch(NamedTuple):
    """A square piece of an RGB-D frame; inverse depth in [0, 10] by its frame's maximum."""

    image: NDArray[np.uint8]  # (s, s, 3), sRGB
    inverse: Float32Map  # (s, s); 0 = infinitely far, and where it is not valid
    valid: BoolMap  # (s, s)


class LayeredSample(NamedTuple):
    """One training sample, all (s, s); inverse depth on the network's scale (about [0, 10]).

    ``composite`` is true where ``where(mask, front_valid, back_valid)``; elsewhere, and in
    ``rough``, what was not measured is continued from what was.
    """

    image: NDArray[np.uint8]  # (s, s, 3), sRGB: the composite I'
    mask: Float32Map  # in [0, 1]; above 0.5 is inside
    rough: Float32Map  # what the network sees: D' in stage 1, P(D') in stage 2; in [0, 10]
    composite: Float32Map  # D'
    front: Float32Map  # D1*: the layer where the mask is 1
    back: Float32Map  # D2*: the layer where the mask is 0
    front_valid: BoolMap  # where D1* is known
    back_valid: BoolMap  # where D2* is known
    bend: (
        Float32Map  # on one scale for the whole photo the truth is this much higher, see `drift_of`
    )


def compose(inside: Pixels, outside: Pixels, mask: Mask) -> Pixels:
    """``M * inside + (1 - M) * outside``, (h, w) or (h, w, c), the values copied bit for bit."""
    composite = outside.copy()
    cv2.copyTo(inside, mask, composite)
    return composite


def soften(
    composite: NDArray[np.uint8],
    inside: NDArray[np.uint8],
    outside: NDArray[np.uint8],
    mask: Mask,
    sigma: float,
) -> NDArray[np.uint8]:
    """A composite image (h, w, 3) whose two sides mix within ``sigma`` pixels of the outline.

    Lenses and pixels mix them in photos; a colour edge cut like a mask would give itself away.
    """
    width = 2 * int(np.ceil(2 * sigma)) + 1
    alpha = cv2.GaussianBlur(mask.astype(np.float32), (width, width), sigma)
    mixed = cv2.blendLinear(inside, outside, alpha, 1 - alpha)
    unmixed = (alpha == 0) | (alpha == 1)
    return np.where(unmixed[..., None], composite, mixed)


def filled(patch: RgbdPatch) -> Float32Map:
    """The inverse depth (s, s) of a patch, unmeasured pixels continued from the measured ones.

    All 0 if nothing was measured.
    """
    if patch.valid.all() or not patch.valid.any():
        return patch.inverse
    return pull_push(patch.inverse, patch.valid.astype(np.float32))


def place_before(
    front: Float32Map, back: Float32Map, mask: Mask, span: float, gap: float
) -> Float32Map:
    """The front layer (h, w) squeezed to ``span`` of its relief and set ``gap`` before the back.

    Things are shallower than scenes and stand before what surrounds them; two random patches know
    nothing of it. Both amounts are measured inside the mask, where the layers meet. Near the end
    of the range [0, 10], which the layer does not leave, the gap gets smaller.
    """
    inside = mask.astype(bool)
    relief = np.float32(span) * (front - front[inside].mean())
    highest = COMPLETER_RANGE - float(relief[inside].max())
    place = min(float(back[inside].mean()) + gap, highest)
    placed: Float32Map = (relief + np.float32(place)).clip(0, COMPLETER_RANGE)
    return placed
