"""Bokeh: the photo as a lens of large aperture would have taken it, focused where you say.

A layered thin-lens blur: the layers of a refined photo are blurred one by one, each with what it
hides filled in, and laid over each other. So the blurred background carries no halo of a sharp
object before it, and a blurred object shows what is behind its edge.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispdepth.geometry.depth import inverse_depth
from crispdepth.ops.colour import srgb_from_linear
from crispdepth.ops.defocus import defocus
from crispdepth.ops.peel import Layer, peel
from crispdepth.types import DepthMap, Float32Map, LayerPair


@dataclass(frozen=True)
class BokehConfig:
    """The lens.

    Raises:
        ValueError: a value is outside its range.
    """

    # Inverse depth that is sharp, on the scale of the depth map.
    focus: float
    # Radius of blur, pixels, at a difference of 1 in inverse depth: the K of r = K |D - focus|.
    aperture: float
    # 0 to below 1: how much brighter than white clipped lights are taken to be; at 0.9, 10 times.
    highlights: float = 0.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.focus) and 0 <= self.aperture < np.inf):
            raise ValueError(
                f"Focus is a finite inverse depth and aperture is >= 0; "
                f"got {self.focus:g} and {self.aperture:g}."
            )
        if not 0 <= self.highlights < 1:
            raise ValueError(f"Highlights are at least 0 and below 1, got {self.highlights:g}.")


def render_bokeh(
    image: NDArray[Any], depth: DepthMap, layers: Sequence[LayerPair], config: BokehConfig
) -> NDArray[np.uint8]:
    """The photo with the blur of a lens, (h, w, 3) uint8 in sRGB.

    The circle of confusion is linear in inverse depth, as a thin lens has it; light is mixed
    scene-linear. With aperture 0, and in the plane in focus, the photo stays as it is.

    Args:
        image: (h, w, 3) uint8 or uint16, sRGB.
        depth: the refined depth (h, w).
        layers: what refinement completed at each mask; with none, depth edges may bleed.
        config: see `BokehConfig`.

    Raises:
        ValueError: sizes differ, or nothing is known of the depth.
    """
    out = np.zeros(image.shape, np.float32)
    for layer in peel(image, depth, layers):
        colour, alpha = _through_lens(layer, config)
        out *= 1 - alpha[..., None]
        out += colour
    return srgb_from_linear(out)


def focus_at(depth: DepthMap, x: float, y: float) -> float:
    """The inverse depth at a pixel, counted from the top left; the nearest valid one to it.

    Raises:
        ValueError: the point is outside the frame, or no pixel is valid.
    """
    height, width = depth.size
    if not (0 <= x < width and 0 <= y < height):
        raise ValueError(f"The focus {x:g},{y:g} is outside the photo of {width} x {height}.")
    if depth.usable[int(y), int(x)]:
        return float(inverse_depth(depth)[int(y), int(x)])
    rows, columns = np.nonzero(depth.usable)
    if not rows.size:
        raise ValueError("The depth map has no valid pixel to focus on.")
    nearest = np.hypot(rows - int(y), columns - int(x)).argmin()
    return float(inverse_depth(depth)[rows[nearest], columns[nearest]])


def focus_on(depth: DepthMap, alpha: Float32Map) -> float:
    """The median inverse depth of what a mask shows.

    Raises:
        ValueError: no valid pixel is under the mask.
    """
    inside = (alpha >= 0.5) & depth.usable
    if not inside.any():
        raise ValueError("There is no valid depth under the mask to focus on; name a point.")
    return float(np.median(inverse_depth(depth)[inside]))


def _through_lens(layer: Layer, config: BokehConfig) -> tuple[NDArray[np.float32], Float32Map]:
    """Colour, multiplied with alpha, and alpha of a layer as the lens shows it."""
    alpha = layer.alpha[..., None]
    brightness = np.float32(config.highlights)
    # c / (1 - h c), on colours multiplied with alpha; undone by c / (1 + h c) after the blur.
    light = layer.colour
    if brightness:
        rest = alpha - brightness * light
        light = np.divide(light * alpha, rest, out=np.zeros_like(light), where=rest > 0)
    radius = (layer.inverse_depth - np.float32(config.focus)) * np.float32(config.aperture)
    if layer.alpha.min() == 1:  # and it stays so
        light = defocus(light, radius)
    else:
        spread = defocus(np.concatenate([light, alpha], axis=-1), radius)
        light, alpha = spread[..., :3], spread[..., 3:]
    if brightness:
        rest = alpha + brightness * light
        light = np.divide(light * alpha, rest, out=np.zeros_like(light), where=rest > 0)
    return light, alpha[..., 0]
