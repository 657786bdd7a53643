"""What the package does, from whatever the caller holds to whatever is asked for."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from crispdepth.geometry.depth import resize_depth
from crispdepth.io.depths import read_depth, sidecar_path, write_depth
from crispdepth.io.images import Photo, read_image, write_image
from crispdepth.io.layers import write_layers_exr, write_layers_npz
from crispdepth.io.masks import masks_from_alpha, read_masks
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
from crispdepth.viz.sheet import preview

if TYPE_CHECKING:
    from crispdepth.models.monocular import DepthModel, Pixels

Picture: TypeAlias = str | Path | Image.Image | NDArray[Any]
"""A file, or the pixels themselves."""

DEPTH_FORMATS = ("exr", "npy", "pfm", "png")
FORMATS = (*DEPTH_FORMATS, "layers", "npz", "masks", "confidence", "preview")
"""What a result can be written as; see `save`."""

DEFAULT_FORMATS = ("exr", "png", "layers", "masks", "confidence", "preview")
"""Everything once: the other formats hold the same numbers."""

_SAMPLED = 100_000  # values suffice for a percentile
_STORABLE = {"PA": "RGBA", "La": "LA", "RGBa": "RGBA", "HSV": "RGB"}  # PIL modes of no file format


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
    photo = _photo(image)
    depth_map, depth_notes = _depth(depth, kind, unit)
    mask_set, mask_notes = _masks(masks, photo, role)
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

    photo = _photo(image)
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


class Written(NamedTuple):
    """The files of one result, and what was left out and why."""

    files: tuple[Path, ...]
    notes: tuple[str, ...]


def save(refined: RefinedDepth, path: str | Path, formats: Sequence[str] | None = None) -> Path:
    """Write a result into a folder, or its depth to one file, and return the path.

    A name that ends in .exr, .png, .npy or .pfm is that of a depth file, unless there is such a
    folder or formats are given. Missing folders are made. The formats, and what they write:

    - ``exr``, ``png``, ``npy``, ``pfm``: the refined depth as ``depth.exr`` ..., each with a
      sidecar ``depth.exr.json`` that says what the numbers mean. PNG has 16 bits and refuses
      values that do not fit.
    - ``layers``: ``layers.exr``, one part per layer with R, G, B, A, depth.Z; ``npz``: the same as
      arrays.
    - ``masks``: ``mask_0.png`` ...; ``confidence``: ``confidence.png``, white = sure.
    - ``preview``: ``preview.png``, before and after for the eye.

    Args:
        refined: the result.
        path: where the files go; files of the same name are replaced, each at once.
        formats: names from `FORMATS`. None: `DEFAULT_FORMATS` as far as the values allow.

    Raises:
        ValueError: an unknown format, or PNG was asked for and cannot hold the values; the other
            files are written then.
        OSError: a file cannot be written.
    """
    path = Path(path)
    if formats is None and path.suffix.lower()[1:] in DEPTH_FORMATS and not path.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_depth(path, refined.depth)
    else:
        write_files(refined, path, formats)
    return path


def write_files(
    refined: RefinedDepth,
    folder: str | Path,
    formats: Sequence[str] | None = None,
    *,
    png_scale: float | None = None,
    provenance: Mapping[str, object] = {},
) -> Written:
    """`save` into a folder, with the files named.

    Args:
        refined: the result.
        folder: where the files go.
        formats: see `save`.
        png_scale: metres per step of a metric ``depth.png``; None: 0.001.
        provenance: what the sidecars say about the origin, JSON values.

    Raises: see `save`.
    """
    folder = Path(folder)
    chosen = check_formats(DEFAULT_FORMATS if formats is None else formats)
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    notes: list[str] = []
    for name in chosen:
        if name in ("layers", "npz") and not refined.layers:
            notes.append(f"There are no layers to write as {name}.")
        elif name in DEPTH_FORMATS and name != "png":
            files += _write_depth(folder / f"depth.{name}", refined, None, provenance)
        elif name != "png":
            files += _WRITERS[name](refined, folder)
    if "png" in chosen:  # last, because it may refuse
        try:
            files += _write_depth(folder / "depth.png", refined, png_scale, provenance)
        except ValueError as error:
            if formats is not None:
                raise ValueError(f"{error} The other files are in {folder}.") from error
            notes.append(f"There is no depth.png: {error}")
        else:
            notes += _coarse(refined.depth, folder / "depth.png")
    return Written(tuple(files), tuple(notes))


def check_formats(names: Sequence[str]) -> tuple[str, ...]:
    """The names, each once; ValueError if one is not in `FORMATS`."""
    unknown = [name for name in names if name not in FORMATS]
    if unknown or not names or isinstance(names, str):
        raise ValueError(f"Formats are some of {', '.join(FORMATS)}; got {names!r}.")
    return tuple(dict.fromkeys(names))


def _write_depth(
    path: Path, refined: RefinedDepth, scale: float | None, provenance: Mapping[str, object]
) -> list[Path]:
    write_depth(path, refined.depth, scale=scale, provenance=provenance)
    return [path, sidecar_path(path)]


def _coarse(depth: DepthMap, png: Path) -> list[str]:
    """A note if a few values far off left the others less than 8 bits of the 16."""
    values = depth.values[depth.usable]
    if not values.size:
        return []
    low, high = np.percentile(values[:: values.size // _SAMPLED + 1], (1, 99))
    steps = round((high - low) / json.loads(sidecar_path(png).read_text("utf-8"))["scale"])
    if low == high or steps >= 256:
        return []
    return [f"depth.png has only {steps} steps over the middle 98 % of the values: use depth.exr."]


def _write_layers(refined: RefinedDepth, folder: Path) -> list[Path]:
    write_layers_exr(folder / "layers.exr", refined)
    return [folder / "layers.exr"]


def _write_npz(refined: RefinedDepth, folder: Path) -> list[Path]:
    write_layers_npz(folder / "layers.npz", refined)
    return [folder / "layers.npz"]


def _write_masks(refined: RefinedDepth, folder: Path) -> list[Path]:
    paths = [folder / f"mask_{k}.png" for k in range(len(refined.masks))]
    for path, mask in zip(paths, refined.masks.values, strict=True):
        stored = mask if mask.dtype.kind == "u" else np.rint(mask * 65535).astype(np.uint16)
        write_image(path, stored)
    return paths


def _write_confidence(refined: RefinedDepth, folder: Path) -> list[Path]:
    path = folder / "confidence.png"
    write_image(path, np.rint(refined.confidence * 255).astype(np.uint8))
    return [path]


def _write_preview(refined: RefinedDepth, folder: Path) -> list[Path]:
    write_image(folder / "preview.png", preview(refined))
    return [folder / "preview.png"]


_WRITERS: dict[str, Callable[[RefinedDepth, Path], list[Path]]] = {
    "layers": _write_layers,
    "npz": _write_npz,
    "masks": _write_masks,
    "confidence": _write_confidence,
    "preview": _write_preview,
}


def _photo(image: Picture) -> Photo:
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Image.Image):
        return read_image(_encoded(image), name="the PIL image")
    array = np.asarray(image)
    if array.dtype.kind != "u" or array.dtype.itemsize > 2:
        raise ValueError(f"A photo array is uint8 or uint16, got {array.dtype}.")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise ValueError(
            f"A photo array is (h, w) or (h, w, c) with c = 1, 3 or 4, got {array.shape}."
        )
    if array.shape[2] == 1:
        return Photo(np.repeat(array, 3, axis=2))
    alpha = None if array.shape[2] == 3 else MaskSet(array[None, ..., 3])[0]
    return Photo(np.ascontiguousarray(array[..., :3]), alpha)


def _depth(
    depth: Picture | DepthMap, kind: Kind | None, unit: Unit | None
) -> tuple[DepthMap, tuple[str, ...]]:
    if isinstance(depth, DepthMap):
        return depth, ()
    if isinstance(depth, str | Path):
        found = read_depth(depth, kind=kind, unit=unit)
        return found.depth, (found.stated,)
    if kind is None:
        raise ValueError(
            "Say what the values of a depth array or PIL image mean: kind='depth' (larger = "
            "farther) or kind='inverse_depth' (larger = nearer)."
        )
    data = _encoded(depth) if isinstance(depth, Image.Image) else _encoded_array(np.asarray(depth))
    found = read_depth(data, kind=kind, unit=unit, name="the depth array")
    return found.depth, (found.stated,)


def _masks(
    masks: Picture | Sequence[Picture] | MaskSet | None, photo: Photo, role: MaskRole
) -> tuple[MaskSet, tuple[str, ...]]:
    if isinstance(masks, MaskSet):
        return masks, ()
    if masks is None:
        if photo.alpha is None:
            raise ValueError("The photo has no transparency that could be its mask; give masks.")
        return masks_from_alpha(photo.alpha, role), ()
    if isinstance(masks, str) and masks == "auto":
        from crispdepth.models.salient import SalientMask

        return read_masks([SalientMask()(photo.rgb)], role=role, layout="soft")
    if isinstance(masks, str | Path | Image.Image | np.ndarray):
        masks = [masks]
    if not masks:
        raise ValueError("The list of masks is empty; give at least one, or None.")
    read = read_masks([_mask_source(mask) for mask in masks], role=role)
    return read.masks, read.notes


def _mask_source(mask: Picture) -> Path | bytes | NDArray[Any]:
    if isinstance(mask, Image.Image):
        return _encoded(mask)
    return Path(mask) if isinstance(mask, str | Path) else np.asarray(mask)


def _encoded(image: Image.Image) -> bytes:
    """A PIL image as a file: what modes, palettes and orientation mean is decided in one place."""
    image = ImageOps.exif_transpose(image)
    if image.mode in _STORABLE:
        image = image.convert(_STORABLE[image.mode])
    # TIFF has every number type; PNG has transparency of a palette and of a single colour.
    is_keyed = "transparency" in image.info and image.mode in ("1", "L", "I;16", "P", "RGB")
    stream = BytesIO()
    image.save(stream, "PNG" if is_keyed else "TIFF", compression="raw")
    return stream.getvalue()


def _encoded_array(array: NDArray[Any]) -> bytes:
    """An array as a file: a picture if it is what a colour picture is as an array, else NPY."""
    if array.dtype == np.uint8 and array.shape[2:] in ((3,), (4,)):
        return _encoded(Image.fromarray(array))
    stream = BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


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
