"""Layers: a multi-part OpenEXR file for compositing programs, an NPZ file for code.

**EXR.** Each mask has two parts, ``<mask>.background`` and ``<mask>.foreground``:

===========  =======  ==================================================================
channel      type     what it holds
===========  =======  ==================================================================
R G B        half     the colour, scene-linear (sRGB decoded), multiplied with A
A            half     foreground: the mask; background: 1
depth.Z      float    the layer's depth, in the kind and unit of the refined depth
===========  =======  ==================================================================

Foreground over background is the photo. What the foreground hides, or veils at a soft mask, is
filled smoothly from the background around it. Depth is finite everywhere. It is a layer of its
own within the part because Blender makes one image of all the channels that share a layer, and an
image of R, G, B, A and Z is none that it can show; a part shows up there as a colour pass and a
depth pass.

Every part has string attributes: ``crispdepth.kind`` ("depth" or "inverse_depth"),
``crispdepth.unit`` ("m" or "relative"), ``crispdepth.mask`` (the name of the mask),
``crispdepth.layer`` ("foreground" or "background"), ``crispdepth.camera`` (JSON with K and
cam_from_world, or null) and ``crispdepth.version``.

**NPZ.** ``names`` (n,), ``alpha``, ``foreground`` and ``background`` (n, h, w) float32, ``kind``
and ``unit``. It holds no pickled objects.
"""

import io
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import OpenEXR
from numpy.typing import NDArray

from crispdepth import __version__
from crispdepth.io.atomic import atomic_path, read_bytes
from crispdepth.ops.colour import linear_from_srgb, srgb_from_linear
from crispdepth.ops.fill import pull_push
from crispdepth.types import DepthMap, Float32Map, LayerPair, RefinedDepth

DEPTH_CHANNEL = "depth.Z"

_PREFIX = "crispdepth."
_LAYERS = ("background", "foreground")
_LONGEST_NAME = 40  # bytes; programs cut the names of layers, and a cut name may be ambiguous

_ROUNDING = 0.02  # by which photo and mask together may be off, in linear light
_SEEN = 0.25  # up to this alpha a pixel still shows some of the background's own colour

Half = NDArray[np.float16]


class LayeredPhoto(NamedTuple):
    """What a file of layers holds."""

    photo: NDArray[np.uint8]  # (h, w, 3), sRGB
    layers: tuple[LayerPair, ...]  # alpha has half-float precision


class _Colours(NamedTuple):
    """R, G, B of the two layers of a mask, each (h, w), scene-linear, multiplied with alpha."""

    background: dict[str, Half]
    foreground: dict[str, Half]


def write_layers_exr(path: str | Path, refined: RefinedDepth) -> None:
    """Write the layers as a multi-part EXR file, atomically; see the module for what is in it.

    Needs 14 bytes a pixel for each mask.

    Raises:
        ValueError: there are no layers, or a layer's depth is not finite.
        OSError: the file cannot be written.
    """
    _check(refined.layers, path)
    opaque = np.ones(refined.depth.size, np.float16)
    parts = []
    names = part_names([pair.name for pair in refined.layers])
    for pair, name in zip(refined.layers, names, strict=True):
        colours = _colours(refined.image, pair.alpha)
        alphas = {"background": opaque, "foreground": pair.alpha.astype(np.float16)}
        for layer in _LAYERS:
            depth: Float32Map = getattr(pair, layer)
            channels = {
                **getattr(colours, layer),
                "A": alphas[layer],
                DEPTH_CHANNEL: np.ascontiguousarray(depth, np.float32),
            }
            header = _header(refined.depth, pair.name, layer)
            parts.append(OpenEXR.Part(header, channels, f"{name}.{layer}"))
    # Through a stream, because it reports a full disk as an OSError and the library does not.
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        OpenEXR.File(parts).write(stream)


def read_layers_exr(path: str | Path) -> tuple[LayerPair, ...]:
    """The layers in a file that `write_layers_exr` wrote; see `read_layered_photo`."""
    return read_layered_photo(path).layers


def read_layered_photo(path: str | Path) -> LayeredPhoto:
    """The layers in a file that `write_layers_exr` wrote, and the photo that they make.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a whole EXR file, or has no such layers.
    """
    data = io.BytesIO(read_bytes(path))
    try:
        # OpenEXR prints its warnings to stdout, which belongs to results.
        with redirect_stdout(sys.stderr):
            with OpenEXR.File(data, header_only=True) as file:
                announced = len(file.parts)
            data.seek(0)
            with OpenEXR.File(data, separate_channels=True) as file:
                # The library leaves out the parts that it cannot read.
                if len(file.parts) != announced or not announced:
                    raise ValueError("it is truncated or damaged")
                pairs = zip(file.parts[::2], file.parts[1::2], strict=True)
                layers = tuple(_pair(*parts) for parts in pairs)
                return LayeredPhoto(_photo(*file.parts[:2]), layers)
    except Exception as error:  # on malformed bytes the library may raise anything
        raise ValueError(f"{path} is not a whole EXR file of layers: {error!r}") from error


def write_layers_npz(path: str | Path, refined: RefinedDepth) -> None:
    """Write the layers as arrays, atomically; see the module for their names.

    Raises:
        ValueError: there are no layers, or a layer's depth is not finite.
        OSError: the file cannot be written.
    """
    _check(refined.layers, path)
    arrays: dict[str, Any] = {
        name: np.stack([getattr(pair, name) for pair in refined.layers]).astype(
            np.float32, copy=False
        )
        for name in ("alpha", *_LAYERS)
    }
    names = np.array([pair.name for pair in refined.layers])
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, names=names, kind=refined.depth.kind, unit=refined.depth.unit, **arrays)


def read_layers_npz(path: str | Path) -> tuple[LayerPair, ...]:
    """The layers in a file that `write_layers_npz` wrote.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a whole NPZ file, or has no such layers.
    """
    data = io.BytesIO(read_bytes(path))
    try:
        with np.load(data, allow_pickle=False) as file:
            maps = (file["alpha"], file["foreground"], file["background"])
            return tuple(
                LayerPair(str(name), *layers)
                for name, *layers in zip(file["names"], *maps, strict=True)
            )
    except Exception as error:  # on malformed bytes the readers may raise anything
        raise ValueError(f"{path} is not a whole NPZ file of layers: {error!r}") from error


def part_names(names: Sequence[str]) -> list[str]:
    """Mask names as the names of EXR layers: printable, short, without dots, all different.

    Dots separate layers from channels.
    """
    legal: list[str] = []
    for name in names:
        plain = "".join(c if c.isprintable() and c != "." else "_" for c in name).strip()
        base = plain.encode()[:_LONGEST_NAME].decode(errors="ignore") or "mask"
        candidate, count = base, 1
        while candidate in legal:
            count += 1
            candidate = f"{base}_{count}"
        legal.append(candidate)
    return legal


def _check(layers: Sequence[LayerPair], path: str | Path) -> None:
    if not layers:
        raise ValueError(f"There are no layers to write to {path}: no mask was used or kept.")
    for pair in layers:
        for layer in _LAYERS:
            if not np.isfinite(getattr(pair, layer)).all():
                raise ValueError(
                    f"The {layer} of mask {pair.name!r} has values that are not finite, so it "
                    f"cannot be written to {path}."
                )


def _header(depth: DepthMap, mask: str, layer: str) -> dict[str, Any]:
    camera = depth.camera and {
        "K": depth.camera.K.tolist(),
        "cam_from_world": depth.camera.cam_from_world.tolist(),
    }
    facts = {
        "kind": depth.kind,
        "unit": depth.unit,
        "mask": mask.encode(errors="replace").decode(),  # a file name may be no Unicode
        "layer": layer,
        "camera": json.dumps(camera),
        "version": __version__,
    }
    return {
        "type": OpenEXR.scanlineimage,
        "compression": OpenEXR.ZIP_COMPRESSION,
        **{_PREFIX + key: value for key, value in facts.items()},
    }


def _colours(image: NDArray[Any], alpha: Float32Map) -> _Colours:
    """The colours of the layers of one mask; channel by channel, for memory's sake.

    The background is what is seen beside the mask, continued under it. At a soft pixel it is
    bounded to what leaves the foreground a colour, so that foreground over background is the
    photo, and a mask that is nearly opaque inside hides the object as an opaque one does.
    """
    weights = np.square(np.maximum(1 - alpha / _SEEN, 0))
    through = np.maximum(1 - alpha, np.float32(1e-6))
    stored_alpha = alpha.astype(np.float16).astype(np.float32)
    colours = _Colours({}, {})
    for index, name in enumerate("RGB"):
        photo = linear_from_srgb(image[..., index])
        background = photo
        if weights.any():  # else nothing is known of it
            filled = pull_push(photo, weights)
            slack = _ROUNDING * alpha
            background = filled.clip((photo - alpha - slack) / through, (photo + slack) / through)
        rounded = background.astype(np.float16)
        # Of what will be read back, so that only its own rounding is left; nothing where it is not.
        foreground = photo - (1 - stored_alpha) * rounded.astype(np.float32)
        foreground[alpha == 0] = 0
        colours.foreground[name] = foreground.astype(np.float16)
        colours.background[name] = rounded
    return colours


def _photo(background: Any, foreground: Any) -> NDArray[np.uint8]:
    """Foreground over background, in sRGB."""
    cover = 1 - foreground.channels["A"].pixels.astype(np.float32)
    linear = [
        foreground.channels[name].pixels + cover * background.channels[name].pixels
        for name in "RGB"
    ]
    return srgb_from_linear(np.stack(linear, axis=-1))


def _pair(background: Any, foreground: Any) -> LayerPair:
    """The layers of one mask from its two EXR parts."""
    found = tuple(part.header[_PREFIX + "layer"] for part in (background, foreground))
    if found != _LAYERS:
        raise ValueError(f"its parts come in the order {found}, not {_LAYERS}")
    return LayerPair(
        background.header[_PREFIX + "mask"],
        foreground.channels["A"].pixels.astype(np.float32),
        foreground.channels[DEPTH_CHANNEL].pixels,
        background.channels[DEPTH_CHANNEL].pixels,
    )
