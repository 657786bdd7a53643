"""Layered depth refinement: two completed layers, composited with the full-resolution mask.

*Layered Depth Refinement with Mask Guidance* (CVPR 2022), eq. 1-3 and the supplement's rule for
several masks, with the network as a parameter. Everything that does not depend on how a layer is
completed happens here, once: kinds and scales, resolutions, soft masks, several masks.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.geometry.depth import Scaled, from_inverse_depth, inverse_depth, scale_to_completer
from crispdepth.models.classical import ClassicalCompleter
from crispdepth.ops.fill import pull_push
from crispdepth.ops.images import eight_bit
from crispdepth.ops.resample import joint_upsample, shrink, size_within, upsample
from crispdepth.tasks.mask_advice import advice, evidence, is_black_and_white, is_grey
from crispdepth.types import (
    BoolMap,
    DepthMap,
    Float32Map,
    LayerCompleter,
    LayerPair,
    MaskSet,
    RefinedDepth,
)

FILL_BLUR = 2.5
"""Blur in pixels of the depth edges in invalid regions that are filled."""

OPAQUE = 0.995
"""A mask counts as 1 from here on, and as 0 up to 1 - 0.995: the last step of 8 bits is noise."""

SUPPORT_SIGMA = 0.02
"""Radius, as a share of the longer side, in which kept pixels support a completed one."""


@dataclass(frozen=True)
class RefineConfig:
    """How to composite; how to complete is the completer's business."""

    # Composite with the mask thresholded at 0.5: no depths between the layers (for geometry).
    hard_masks: bool = False
    # Keep every mask's layer pair in the result; without them memory does not grow with masks.
    keep_layers: bool = True


class _Scene(NamedTuple):
    """The inputs, on the completer's scale, at full and at the completer's resolution."""

    inverse: Float32Map  # (h, w) in [0, 10]
    valid: BoolMap  # (h, w)
    photo: NDArray[np.uint8]  # (h, w, 3)
    small_photo: NDArray[np.float32]  # (h', w', 3) in [0, 1]
    small_inverse: Float32Map  # (h', w'), 0 where invalid
    small_valid: Float32Map  # (h', w') in [0, 1]: share of valid pixels


class _Layer(NamedTuple):
    """One completed layer; inverse depth on the completer's scale."""

    values: Float32Map  # (h, w)
    gate: Float32Map  # (h, w)
    confidence: Float32Map  # (h, w)


def refine_depth(
    image: NDArray[np.uint8] | NDArray[np.uint16],  # (h, w, 3), sRGB
    depth: DepthMap,  # (h, w)
    masks: MaskSet,  # (n, h, w)
    *,
    completer: LayerCompleter | None = None,
    config: RefineConfig = RefineConfig(),
) -> RefinedDepth:
    """The depth map with crisp boundaries where the masks have theirs.

    Pixels whose gate is 0 keep the input bit for bit, and invalid pixels stay invalid (the layers
    are defined there too). With several masks each pixel takes the refinement that moves it most
    (the paper's supplement). Refinement is equivariant to positive affine maps of inverse depth.

    A mask that does not follow the edges of the photo is used all the same, and noted.

    Masks of role ``ignore`` do not sharpen anything: what they cover becomes invalid.

    Args:
        image: the photo.
        depth: the rough depth, of any kind and unit.
        masks: soft masks of the photo.
        completer: what completes a layer; None: `ClassicalCompleter`.
        config: see `RefineConfig`.

    Raises:
        ValueError: sizes differ, or the depth map is empty or constant.
    """
    _check_sizes(image, depth, masks)
    if masks.role == "ignore":
        return _without_ignored(image, depth, masks)
    scaled = scale_to_completer(inverse_depth(depth), depth.usable)
    chosen: LayerCompleter = completer or ClassicalCompleter()
    scene = _prepare(image, scaled.values, depth.usable, chosen.resolution)
    size = scene.small_inverse.shape
    edges = evidence(scene.small_photo, scene.small_inverse, scene.small_valid)

    best = scaled.values.copy()
    gate = np.zeros(depth.size, np.float32)
    confidence = np.ones(depth.size, np.float32)
    layers: list[LayerPair] = []
    notes: list[str] = []
    if is_black_and_white(scaled.values, depth.usable):
        notes.append("The depth has hardly any values but two: is it a mask?")
    used = 0
    for index, name in enumerate(masks.names):
        alpha = _cleaned(masks[index], config.hard_masks)
        if problem := _unusable(alpha):
            notes.append(f"Mask {name!r} {problem}")
            continue
        used += 1
        mask = shrink(alpha, size)
        if is_grey(shrink(masks[index], size)):
            notes.append(f"Most of mask {name!r} is neither black nor white: is it a depth map?")
        notes += advice(edges, mask, name, max(depth.size) / max(size))
        front, back = _complete(scene, alpha, mask, chosen)
        if len(masks) == 1 and _is_inverted(front, back, alpha):
            notes.append(
                f"Inside mask {name!r} the depth is farther than around it: if the mask should "
                "be white on the object, invert it (--invert-mask); the depth is the same."
            )
        if config.keep_layers:
            layers.append(
                LayerPair(
                    name, alpha, *(_restored(layer, scaled, depth) for layer in (front, back))
                )
            )
        _merge(scene.inverse, front, back, alpha, best, gate, confidence)
    if used and not gate.any():
        notes.append(
            "Nothing was changed: at the outlines of the masks the depth has no edge to sharpen."
        )
    if scaled.outliers:
        notes.append(
            f"{scaled.outliers} depth value(s) lie far outside the range of the others; "
            "refinement took them for the end of that range."
        )

    values = from_inverse_depth(scaled.restore(best), depth)
    np.copyto(values, depth.values, where=gate == 0)
    return RefinedDepth(
        image=image,
        initial=depth,
        depth=DepthMap(values, depth.kind, depth.unit, depth.usable, depth.camera),
        masks=masks,
        layers=tuple(layers),
        confidence=confidence,
        gate=gate,
        notes=tuple(notes),
    )


def _check_sizes(image: NDArray[Any], depth: DepthMap, masks: MaskSet) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"A photo is (h, w, 3) uint8 or uint16, got {image.shape} {image.dtype}.")
    for what, size in (("depth map", depth.size), ("mask", masks.size)):
        if size != image.shape[:2]:
            raise ValueError(
                f"The {what} is {size} (height, width), the photo {image.shape[:2]}; "
                "resize it first (crispdepth.refine does, if the aspect is the same)."
            )


def _without_ignored(image: NDArray[Any], depth: DepthMap, masks: MaskSet) -> RefinedDepth:
    """The depth map with everything under the masks invalid."""
    valid = depth.usable.copy()
    for index in range(len(masks)):
        valid &= masks[index] < 0.5
    return RefinedDepth(
        image=image,
        initial=depth,
        depth=DepthMap(depth.values, depth.kind, depth.unit, valid, depth.camera),
        masks=masks,
        layers=(),
        confidence=valid.astype(np.float32),
        gate=(depth.usable & ~valid).astype(np.float32),
        notes=(
            "Masks of role 'ignore' mark pixels as unmeasured and sharpen nothing; "
            "use --mask-role object to refine at their borders.",
        ),
    )


def _prepare(image: NDArray[Any], inverse: Float32Map, valid: BoolMap, resolution: int) -> _Scene:
    """Bring the inputs to the completer's resolution; invalid pixels have no influence."""
    photo = eight_bit(image)
    size = size_within(resolution, inverse.shape)
    share = shrink(valid.astype(np.float32), size)
    known = np.where(valid, inverse, np.float32(0))
    small = np.divide(shrink(known, size), share, out=np.zeros(size, np.float32), where=share > 0)
    small_photo = shrink(photo, size).astype(np.float32) / np.float32(255)
    return _Scene(inverse, valid, photo, small_photo, small, share)


def _cleaned(alpha: Float32Map, hard: bool) -> Float32Map:
    """The mask (h, w) without noise at its two ends, or thresholded at one half."""
    if hard:
        return (alpha >= 0.5).astype(np.float32)
    alpha = np.where(alpha >= OPAQUE, np.float32(1), alpha)
    return np.where(alpha <= 1 - OPAQUE, np.float32(0), alpha)


def _unusable(alpha: Float32Map) -> str | None:
    """Why a mask has no boundary to refine at, or None."""
    inside = int(np.count_nonzero(alpha >= 0.5))
    outside = alpha.size - inside
    if inside == 0:
        return "is empty: nothing in it reaches one half; it was not used."
    if inside == alpha.size:
        return "covers the whole photo, so it has no boundary; it was not used."
    if inside < 4:
        return f"covers only {inside} pixel(s); it was not used."
    if outside < 4:
        return f"covers all but {outside} pixel(s); it was not used."
    return None


def _complete(
    scene: _Scene, alpha: Float32Map, mask: Float32Map, completer: LayerCompleter
) -> tuple[_Layer, _Layer]:
    """The foreground and the background layer at full resolution (eq. 1-2).

    ``alpha`` (h, w) is the mask, ``mask`` (h', w') the same at the completer's resolution.
    """
    inverse = _filled(scene.small_inverse, scene.small_valid, mask)
    front, back = (
        _complete_layer(scene, inverse, side, completer, hidden)
        for side, hidden in ((mask, 1 - alpha), (1 - mask, alpha))
    )
    return front, back


def _complete_layer(
    scene: _Scene,
    inverse: Float32Map,
    mask: Float32Map,
    completer: LayerCompleter,
    other: Float32Map,
) -> _Layer:
    """One layer; the more the ``other`` (h, w) covers of it, the less input there is to keep."""
    hidden = other == 1
    size = (hidden.shape[0], hidden.shape[1])
    layer, gate = completer(scene.small_photo, inverse, mask)
    # What the other layer covers is the completer's, whatever its gate says.
    taken = np.maximum(gate, (1 - 2 * mask).clip(0))
    confidence = 1 - taken * (1 - _support(taken, mask))
    if inverse.shape == size:
        values = layer
    else:
        gate, confidence = upsample(gate, size), upsample(confidence, size)
        # Where the gate is closed, and the input valid, the layer is the input. Of what is hidden
        # the photo shows nothing.
        where = ~hidden & ((gate > 0) | ~scene.valid)
        values = joint_upsample(layer, scene.small_photo, scene.photo, where)
        # A pixel whose detail the small map does not show must not move against the completer.
        against = (values - scene.inverse) * upsample(layer - inverse, size) < 0
        np.copyto(values, scene.inverse, where=against & scene.valid & ~hidden)
    gate = np.maximum(gate, (2 * other - 1).clip(0))
    # What the gate leaves alone keeps the full-resolution detail of the input.
    kept = scene.inverse + gate * (values - scene.inverse)
    values = np.where(scene.valid, kept, values)
    return _Layer(values, gate, confidence)


def _filled(inverse: Float32Map, valid: Float32Map, mask: Float32Map) -> Float32Map:
    """Inverse depth with invalid pixels filled from valid ones of their own side of the mask.

    Between the sides the filling is as blurred as rough depth usually is: a completer that judges
    the blur by what it sees must not take the map for a sharp one.
    """
    missing = valid == 0
    if not missing.any():
        return inverse
    inside = mask >= 0.5
    front, back = (
        pull_push(inverse, (known if known.any() else ~missing).astype(np.float32))
        for known in (inside & ~missing, ~inside & ~missing)
    )
    share = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), FILL_BLUR)
    return np.where(missing, back + share * (front - back), inverse)


def _support(gate: Float32Map, mask: Float32Map) -> Float32Map:
    """Share of the layer nearby that was kept: what a completed value can lean on, 0..1."""
    height, width = gate.shape
    small = (-(-height // 4), -(-width // 4))  # a wide blur of a quarter of the size is the same
    sigma = SUPPORT_SIGMA * max(small)
    kept, there = (
        upsample(cv2.GaussianBlur(shrink(part, small), (0, 0), sigma), (height, width))
        for part in (mask * (1 - gate), mask)
    )
    return np.divide(kept, there, out=np.zeros_like(kept), where=there > 1e-6).clip(0, 1)


def _is_inverted(front: _Layer, back: _Layer, alpha: Float32Map) -> bool:
    """Whether the inside of the mask is clearly farther than the outside, where it was refined."""
    every = (slice(None, None, 4),) * 2 if alpha.size > 2**20 else (slice(None),) * 2  # a sample
    weight = front.gate[every] * back.gate[every] * alpha[every]
    total = float(weight.sum())
    difference = float(((front.values[every] - back.values[every]) * weight).sum())
    return total > 0 and difference < -0.2 * total


def _restored(layer: _Layer, scaled: Scaled, depth: DepthMap) -> Float32Map:
    """A layer in the kind and unit of the input, which it equals exactly where its gate is 0."""
    values = from_inverse_depth(scaled.restore(layer.values), depth)
    np.copyto(values, depth.values, where=(layer.gate == 0) & depth.usable)
    return values


def _merge(
    initial: Float32Map,
    front: _Layer,
    back: _Layer,
    alpha: Float32Map,
    best: Float32Map,
    gate: Float32Map,
    confidence: Float32Map,
) -> None:
    """Composite one mask (eq. 3) and keep it, in place, where it moves a pixel most."""
    composite_gate = _blend(alpha, front.gate, back.gate)
    at = np.nonzero(composite_gate)  # mostly a band: the rest needs no compositing
    composite = _blend(alpha[at], front.values[at], back.values[at])
    wins = np.abs(composite - initial[at]) > np.abs(best[at] - initial[at])
    at = (at[0][wins], at[1][wins])
    best[at] = composite[wins]
    gate[at] = composite_gate[at]
    confidence[at] = _blend(alpha[at], front.confidence[at], back.confidence[at])


def _blend(alpha: Float32Map, front: Float32Map, back: Float32Map) -> Float32Map:
    """``alpha * front + (1 - alpha) * back``, exactly ``front`` or ``back`` at alpha 1 or 0."""
    blended = front - back
    blended *= alpha
    blended += back
    np.copyto(blended, front, where=alpha == 1)
    return blended
