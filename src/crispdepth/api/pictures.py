"""What a caller may hold, as the values that tasks take: files, PIL images, arrays."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from crispdepth.io.depths import read_depth
from crispdepth.io.images import Photo, read_image
from crispdepth.io.masks import masks_from_alpha, read_masks
from crispdepth.types import DepthMap, Kind, MaskRole, MaskSet, Unit

Picture: TypeAlias = str | Path | Image.Image | NDArray[Any]
"""A file, or the pixels themselves."""

_STORABLE = {"PA": "RGBA", "La": "LA", "RGBa": "RGBA", "HSV": "RGB"}  # PIL modes of no file format


def photo_of(image: Picture) -> Photo:
    """The photo in a file, a PIL image or an array, see `crispdepth.refine`."""
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


def depth_of(
    depth: Picture | DepthMap, kind: Kind | None, unit: Unit | None
) -> tuple[DepthMap, tuple[str, ...]]:
    """The depth map, and what was assumed about it, see `crispdepth.refine`."""
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


def masks_of(
    masks: Picture | Sequence[Picture] | MaskSet | None, photo: Photo, role: MaskRole
) -> tuple[MaskSet, tuple[str, ...]]:
    """The masks of a photo, and notes about them, see `crispdepth.refine`."""
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
