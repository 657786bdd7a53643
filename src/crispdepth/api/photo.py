"""The jobs on one photo: refined depth, rough depth."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crispdepth.api.pictures import Picture, depth_of, masks_of, photo_of
from crispdepth.geometry.depth import resize_depth
from crispdepth.models.engines import EngineName, make_completer
from crispdepth.ops.masks import resize_masks
from crispdepth.ops.resample import same_aspect
from crispdepth.tasks.refine import RefineConfig, refine_depth
from crispdepth.types import (
    DepthMap,
    Kind,
    LayerCompleter,
    MaskRole,
    MaskSet,
    RefinedDepth,
    Size,
    Unit,
)

if TYPE_CHECKING:
    from crispdepth.models.monocular import DepthModel, Pixels


def refine(
    image: Picture,
    depth: Picture | DepthMap,
    masks: Picture | Sequence[Picture] | MaskSet | None = None,
    *,
    kind: Kind | None = None,
    unit: Unit | None = None,
    role: MaskRole = "object",
    engine: EngineName | None = None,
    weights: str | Path | None = None,
    resolution: int | None = None,
    tiled: bool = False,
    completer: LayerCompleter | None = None,
    hard_masks: bool = False,
) -> RefinedDepth:
    """The depth map with crisp boundaries where the masks have theirs, in layers.

    ``crispdepth.refine("photo.jpg", "depth.png", "mask.png").save("refined")`` is the whole job.

    A PIL image or an array means what a file with the same numbers means: see `read_depth` and
    `read_masks`. `DepthMap` and `MaskSet` leave nothing to a rule.

    Args:
        image: the photo: a file, a PIL image, or (h, w) or (h, w, c) uint8 or uint16 in sRGB,
            where c is 1, 3, or 4 with alpha.
        depth: a file, a PIL image, an (h, w) array, or a `DepthMap`. It may be smaller or larger
            than the photo if it has the same aspect; the result has the size of the photo.
        masks: one mask or several: files, PIL images, (h, w), (n, h, w) or (h, w, c) arrays of
            bools, integers or floats in [0, 1], or a `MaskSet`; sized as the depth may be. Any
            may be a label map, with a mask for each id. "auto": what a network of rembg finds
            (`crispdepth.models.salient.SalientMask`). None: the photo's transparency.
        kind: what the depth's values are. Needed for arrays and PIL images; a file may say it.
        unit: "m" or "relative". None: what the file or the rule says; floats are relative,
            integers of 16 bits and more that are depth are millimetres.
        role: what the masks mark; a `MaskSet` says it itself.
        engine: what completes a layer: "learned" (a network) or "classical" (no weights).
            None: `DEFAULT_ENGINE` of `crispdepth.models.engines`.
        weights: of the learned engine, by name, or a folder of them; None: those that are shipped.
        resolution: longer side in pixels at which the learned engine works; None: 320.
        tiled: the learned engine works tile by tile along the masks' boundaries, at ``resolution``.
        completer: a completer of your own instead of an engine; or one that `make_completer`
            made once for many photos.
        hard_masks: threshold the masks at 0.5, so that no depth lies between two layers.

    Returns:
        The result; its `notes` say what was assumed, resized or odd.

    Raises:
        ValueError: something is not what it should be: sizes that do not fit, an array without
            a kind, a photo without masks, a constant depth map, a broken file, an engine and a
            completer.
        OSError: a file cannot be read, or there are no such weights.
        ImportError: masks="auto" needs rembg, which is not installed.
    """
    if completer is None:
        completer = make_completer(engine, weights=weights, resolution=resolution, tiled=tiled)
    elif engine or weights or resolution is not None or tiled:
        raise ValueError("Give an engine, with its options, or a completer, not both.")
    photo = photo_of(image)
    depth_map, depth_notes = depth_of(depth, kind, unit)
    mask_set, mask_notes = masks_of(masks, photo, role)
    config = RefineConfig(hard_masks=hard_masks)
    refined = refine_values(photo.rgb, depth_map, mask_set, completer=completer, config=config)
    return replace(refined, notes=(*depth_notes, *mask_notes, *refined.notes))


def estimate_depth(
    image: Picture, model: "str | Path | DepthModel", *, pixels: "Pixels | None" = None
) -> DepthMap:
    """Rough depth of a photo from the photo alone, of the photo's size: what `refine` can take.

    Args:
        image: see `refine`.
        model: an ONNX file, a folder of transformers, a name on Hugging Face such as
            ``depth-anything/Depth-Anything-V2-Small-hf``, or what
            `crispdepth.models.monocular.load_depth_model` loaded once for many photos.
        pixels: what an ONNX file wants to be given: "byte" (0..255), "unit" (0..1) or "imagenet".
            None: 0..255 if it begins by dividing by 255, else "imagenet".

    Returns:
        Depth in metres of a metric model of Hugging Face, else relative inverse depth; an ONNX
        file does not say what it gives.

    Raises:
        OSError: the photo or the model is not there, or cannot be read or fetched.
        ValueError: one of them is not what it should be.
        ImportError: the model needs transformers, which is not installed.
    """
    from crispdepth.models.monocular import DepthModel, load_depth_model

    photo = photo_of(image)
    if not isinstance(model, DepthModel):
        model = load_depth_model(model, pixels)
    elif pixels is not None:
        raise ValueError("A loaded model knows what pixels it takes; give pixels when loading it.")
    return model(photo.rgb).depth


def refine_values(
    image: NDArray[np.uint8] | NDArray[np.uint16],  # (h, w, 3), sRGB
    depth: DepthMap,
    masks: MaskSet,
    *,
    completer: LayerCompleter | None = None,
    config: RefineConfig,
) -> RefinedDepth:
    """`refine_depth` for a depth map and masks of any size that has the aspect of the photo.

    Raises:
        ValueError: another aspect, or what `refine_depth` raises.
    """
    size = (image.shape[0], image.shape[1])
    notes = [
        f"The {what} was resized from {_pixels(found)} to the {_pixels(size)} of the photo."
        for what, found in (("depth map", depth.size), ("mask", masks.size))
        if _must_resize(what, found, size)
    ]
    if depth.size != size:
        depth = resize_depth(depth, size)
    if masks.size != size:
        masks = resize_masks(masks, size)
    refined = refine_depth(image, depth, masks, completer=completer, config=config)
    return replace(refined, notes=(*notes, *refined.notes))


def _must_resize(what: str, found: Size, size: Size) -> bool:
    """Whether the sizes differ; ValueError if they differ by more than a scale."""
    if not same_aspect(found, size):
        raise ValueError(
            f"The {what} is {_pixels(found)} and the photo {_pixels(size)}, another aspect: "
            "check that they belong together, and bring it to the photo's size: cropped or padded "
            "if it shows another part, resized if it shows the same, squeezed."
        )
    return found != size


def _pixels(size: Size) -> str:
    return f"{size[1]} x {size[0]}"
