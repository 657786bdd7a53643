"""Training samples of layered refinement, drawn from RGB-D frames and masks.

*Layered Depth Refinement with Mask Guidance* (CVPR 2022), section 3.3 and supplement; what goes
beyond it can be switched off in `SampleConfig`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.data.compose import LayeredSample, RgbdPatch, compose, filled, place_before, soften
from crispdepth.data.crop import (
    Square,
    cut,
    cut_frame,
    frame_crop,
    large_instances,
    object_crop,
)
from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.masks import MaskKind, MaskSource
from crispdepth.data.monocular import drift_of
from crispdepth.data.perturb import Perturbations, drift, perturb
from crispdepth.data.strokes import Rng
from crispdepth.geometry.depth import COMPLETER_RANGE, scale_to_completer
from crispdepth.types import Float32Map

JITTER = 0.4
"""Contrast, saturation and brightness change by up to this share."""

JPEG, JPEG_CHANCE = (30, 95), 0.5
GREY_CHANCE = 0.1

SPAN, GAP = (0.05, 0.6), (0.3, 4.0)
"""Relief of a thing as a share of a scene's, and its distance before what is around it."""

SOFTNESS = (0.25, 0.7)
"""Sigmas in pixels of the border of a soft mask."""

MIN_CORRELATION = 0.7
"""Rough depth of a network that has less to do with the truth teaches nothing about edges."""

MIN_RANGE = 2.0
"""Rough depth of a smaller range is not stretched to [0, 10]: its errors would be, too."""


@dataclass(frozen=True)
class SampleConfig:
    """What samples look like."""

    # Side of a sample, pixels.
    size: int = 320
    # 1: learn to complete layers of true depth. 2: of rough depth.
    stage: Literal[1, 2] = 2
    # The errors of the rough depth in stage 2.
    perturbations: Perturbations = field(default_factory=Perturbations)
    # Share of samples that are no composites but one frame with one of its own instances.
    real_edges: float = 0.2
    # Share of these whose rough depth is that of a network, for frames that come with it.
    real_rough: float = 0.7
    # Share of composites whose masked layer (for stuff, the other one) is set before the other.
    in_front: float = 0.5
    # Share of samples whose scale, rough and true alike, drifts over the frame.
    drift: float = 0.3
    # Share of composites whose colours mix along the outline, as in photos.
    soft_edges: float = 0.5
    # Share of samples whose mask is soft along its border, as one of a larger photo is when shrunk.
    soft_masks: float = 0.5
    # Change contrast, saturation, brightness and quality of the photo.
    colour: bool = True
    # Bring rough depth to minimum 0 and maximum 10, as refining does, and the truth along with it.
    inference_scale: bool = True
    # Invalid depth is infinitely far (renders: there is no surface), not unknown (sensors).
    invalid_is_far: bool = False


class _Drawn(NamedTuple):
    """A sample, what its mask shows, and whether its rough depth is rough already."""

    sample: LayeredSample
    kind: MaskKind
    is_rough: bool = False


class LayeredSampler:
    """Samples by number: the same (seed, index) gives the same sample, in whatever order."""

    def __init__(
        self, frames: Sequence[RgbdFrame], masks: MaskSource, config: SampleConfig
    ) -> None:
        """Frames are read anew for every sample: hand over a sequence that keeps them in memory.

        Raises:
            ValueError: there is no frame.
        """
        if not len(frames):
            raise ValueError("There is no frame to draw samples from.")
        self.frames, self.masks, self.config = frames, masks, config

    def draw(self, seed: int, index: int) -> LayeredSample:
        """Sample ``index`` of the endless stream ``seed``."""
        rng = np.random.default_rng([seed, index])
        config = self.config
        real = self._real(rng) if rng.random() < config.real_edges else None
        sample, kind, is_rough = real or self._composite(rng)
        if config.stage == 2 and not is_rough:
            mask, human = sample.mask.astype(np.uint8), kind == "human"
            rough = perturb(sample.composite, mask, human, rng, config.perturbations)
            sample = sample._replace(rough=rough)
        if rng.random() < config.drift:
            sample = _rescaled(sample, *drift(sample.composite, rng))
        if rng.random() < config.soft_masks:
            sample = sample._replace(mask=softened(sample.mask, rng.uniform(*SOFTNESS)))
        if config.colour:
            sample = sample._replace(image=change_colours(sample.image, rng))
        return at_inference_scale(sample) if config.inference_scale else sample

    def _composite(self, rng: Rng) -> _Drawn:
        """Two frames joined along a mask, not yet perturbed."""
        config = self.config
        mask, kind = self.masks.draw(rng, config.size)
        inside, outside = self._random_patch(rng), self._random_patch(rng)
        front, back = filled(inside), filled(outside)
        if rng.random() < config.in_front:
            span, gap = rng.uniform(*SPAN), rng.uniform(*GAP)
            if kind == "stuff":
                back = place_before(back, front, 1 - mask, span, gap)
            else:
                front = place_before(front, back, mask, span, gap)
        image = compose(inside.image, outside.image, mask)
        if rng.random() < config.soft_edges:
            image = soften(image, inside.image, outside.image, mask, rng.uniform(0.3, 1))
        depth = compose(front, back, mask)
        values = mask.astype(np.float32)
        straight = np.zeros_like(depth)
        sample = LayeredSample(
            image, values, depth, depth, front, back, inside.valid, outside.valid, straight
        )
        return _Drawn(sample, kind)

    def _real(self, rng: Rng) -> _Drawn | None:
        """One frame with one of its instances: each layer is known where it is seen.

        Where the frame has the rough depth of a network, that may be the sample's.

        None if the frame that was drawn has no instance of some size.
        """
        size = self.config.size
        frame = self._frame(rng)
        labels = () if frame.instances is None else large_instances(frame.instances)
        if frame.instances is None or not len(labels):
            return None
        whole = (frame.instances == rng.choice(labels)).view(np.uint8)
        square = object_crop(whole, size, rng).within(whole.shape)
        mask = cut(whole, square, size, cv2.INTER_NEAREST_EXACT)
        if not 0 < mask.mean() < 1:
            return None
        patch = self._patch(frame, square)
        depth = filled(patch)
        rough, bend = None, np.zeros_like(depth)
        if self.config.stage == 2 and rng.random() < self.config.real_rough:
            seen = self._as_a_network_saw_it(frame, square, depth)
            if seen is not None:
                rough, depth, bend = seen
        inside = mask.astype(bool)
        sample = LayeredSample(
            patch.image,
            mask.astype(np.float32),
            depth if rough is None else rough,
            *(depth,) * 3,
            front_valid=patch.valid & inside,
            back_valid=patch.valid & ~inside,
            bend=bend,
        )
        if rng.integers(2):
            sample = LayeredSample(*map(_mirrored, sample))
        return _Drawn(sample, "object", is_rough=rough is not None)

    def _as_a_network_saw_it(
        self, frame: RgbdFrame, square: Square, depth: Float32Map
    ) -> tuple[Float32Map, Float32Map, Float32Map] | None:
        """The rough depth of a square, its true ``depth`` on the scale of that, and the bend.

        None if the frame has no rough depth, or a useless one.
        """
        usable = frame.depth.usable
        if frame.rough is None or not usable.any() or not np.ptp(frame.rough):
            return None
        stretch = np.float32(COMPLETER_RANGE / np.ptp(frame.rough))
        rough = (frame.rough - frame.rough.min()) * stretch
        nearest = np.float32(COMPLETER_RANGE) * frame.depth.values[usable].min()
        true = np.divide(nearest, frame.depth.values, out=np.zeros_like(rough), where=usable)
        drift = drift_of(rough, true, usable)
        if drift.correlation < MIN_CORRELATION:
            return None
        size = self.config.size
        gain, offset, bend, rough = (
            cut(values, square, size, cv2.INTER_LINEAR)
            for values in (drift.gain, drift.offset, drift.bend, rough)
        )
        return rough, gain * depth + offset, bend

    def _frame(self, rng: Rng) -> RgbdFrame:
        return self.frames[int(rng.integers(len(self.frames)))]

    def _random_patch(self, rng: Rng) -> RgbdPatch:
        frame = self._frame(rng)
        patch = self._patch(frame, frame_crop(frame.depth.size, rng))
        return _flipped(patch) if rng.integers(2) else patch

    def _patch(self, frame: RgbdFrame, square: Square) -> RgbdPatch:
        return cut_frame(frame, square, self.config.size, self.config.invalid_is_far)


def softened(mask: Float32Map, sigma: float) -> Float32Map:
    """A mask of 0 and 1 whose border is ``sigma`` pixels soft; on either side of 0.5 as before."""
    soft = cv2.GaussianBlur(mask, (0, 0), sigma)
    half = np.float32(0.5)
    return np.where(
        mask > half, np.maximum(soft, np.nextafter(half, np.float32(1))), np.minimum(soft, half)
    )


def at_inference_scale(sample: LayeredSample) -> LayeredSample:
    """The sample with rough depth brought to [0, 10] as refining does it, the truth along with it.

    The truth may leave [0, 10] then, for instance where a thin near thing was lost.
    """
    if np.ptp(sample.rough) < MIN_RANGE:
        return sample
    scaled = scale_to_completer(sample.rough, np.ones(sample.rough.shape, bool))
    gain, offset = np.float32(scaled.gain), np.float32(-scaled.gain * scaled.offset)
    return _rescaled(sample, gain, offset)._replace(rough=scaled.values)


def change_colours(image: NDArray[np.uint8], rng: Rng) -> NDArray[np.uint8]:
    """A photo (h, w, 3) of other brightness, contrast and saturation; some grey, some JPEG."""
    brightness, contrast, saturation = rng.uniform(1 - JITTER, 1 + JITTER, 3)
    if rng.random() < GREY_CHANCE:
        saturation = 0.0
    changed = recoloured(image, brightness, contrast, saturation)
    if rng.random() < JPEG_CHANCE:
        changed = compressed(changed, int(rng.integers(JPEG[0], JPEG[1] + 1)))
    return changed


def recoloured(
    image: NDArray[np.uint8], brightness: float, contrast: float, saturation: float
) -> NDArray[np.uint8]:
    """A photo (h, w, 3) with these changed by factors; 1, 1, 1 keep it."""
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    middle = float(grey.mean())
    curve = brightness * (middle + contrast * (np.arange(256) - middle))
    saturated = cv2.addWeighted(
        image, saturation, cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), 1 - saturation, 0
    )
    return np.asarray(cv2.LUT(saturated, np.rint(curve).clip(0, 255).astype(np.uint8)), np.uint8)


def compressed(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """A photo (h, w, 3) as it comes back from a JPEG file of that quality."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None  # what was just encoded
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


def _rescaled(
    sample: LayeredSample, gain: Float32Map | np.float32, offset: Float32Map | np.float32
) -> LayeredSample:
    """The sample with an affine map, which may vary over the frame, applied to all its depths."""
    return sample._replace(
        rough=gain * sample.rough + offset,
        composite=gain * sample.composite + offset,
        front=gain * sample.front + offset,
        back=gain * sample.back + offset,
        bend=gain * sample.bend,
    )


def _flipped(patch: RgbdPatch) -> RgbdPatch:
    return RgbdPatch(*map(_mirrored, patch))


def _mirrored(pixels: Any) -> Any:
    return np.ascontiguousarray(pixels[:, ::-1])
