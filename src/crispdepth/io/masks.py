"""Mask files and arrays: soft masks, label maps and alpha channels to one `MaskSet`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crispdepth.io.arrays import read_array
from crispdepth.io.atomic import read_bytes
from crispdepth.io.images import FORMATS, is_picture, read_image, read_raw
from crispdepth.ops.masks import MIN_SHARE, count_labels, instances_from_labels
from crispdepth.types import Float32Map, MaskRole, MaskSet

Layout = Literal["auto", "soft", "labels"]
"""How the numbers of a mask are meant: coverage, or an id for each object."""

MAX_COLOURS = 64
"""A coloured picture with more colours than this is no label map."""

_LABEL_LIMIT = 128  # ids below it are plausible, a soft mask that stays below half coverage is not


class ReadMasks(NamedTuple):
    """Masks, and sentences on what was assumed or left out."""

    masks: MaskSet
    notes: tuple[str, ...]


class _Stored(NamedTuple):
    """The masks of one source as it means them, before polarity and role."""

    values: NDArray[Any]  # (n, h, w) uint8, uint16 or float32 in [0, 1]
    labels: tuple[str, ...] = ()  # names of the masks where the source is a label map
    notes: tuple[str, ...] = ()


class _Numbers(NamedTuple):
    """The numbers of a source that matter for a mask."""

    array: NDArray[Any]  # (h, w), or (n, h, w) from an array
    meaning: Literal["alpha", "numbers", "indices", "colours"] = "numbers"


def read_masks(
    sources: Sequence[Path | bytes | NDArray[Any]],
    *,
    role: MaskRole = "object",
    white: Literal["keep", "ignore"] = "keep",
    invert: bool = False,
    layout: Layout = "auto",
    min_share: float = MIN_SHARE,
) -> ReadMasks:
    """The masks of one photo, from one source or several; an array means what its file would.

    Soft masks stay as they are stored, 8 or 16 bit. An alpha channel that is not constant is the
    mask. Pictures of grey colours are grey, whether RGB or palette; in a source of zeros and ones,
    1 is white.

    A label map gives one mask for each id but 0. Sources are label maps if they are coloured (a
    palette, or at most `MAX_COLOURS` RGB colours), or if they hold two or more ids that are all
    below 128, or ids of more than 8 bits in integers of more than 16. Of several ids, those that
    cover no more than ``min_share`` of the photo are left out.

    Args:
        sources: Files, the bytes of files, or arrays. A file is a picture, ``.npy`` or ``.npz``;
            an array is (h, w), (n, h, w), or a picture's (h, w, c) with c <= 4, of bools, integers
            or floats in [0, 1]. The masks of several files are named after what tells the files
            apart, those of the others ``mask0``, ...
        role: What 1 says in the result: this is the object, or ignore this.
        white: What white says in the sources. Where that is the opposite of ``role``, the result
            is one mask: what no mask of the sources covers.
        invert: The sources hold the opposite of what they should; each is inverted by itself.
        layout: "soft" or "labels" where the rule above gets it wrong.
        min_share: Share of the photo, in [0, 1].

    Raises:
        OSError: a file cannot be read.
        ValueError: a source is damaged or is no mask, or the sizes of the sources differ.
    """
    flip = (white == "keep") != (role == "object")
    # The opposite of a label map is one mask, so there is no use in taking it apart.
    apart = not (flip or invert)
    files = [s if isinstance(s, Path) else Path(f"mask{i}") for i, s in enumerate(sources)]
    stored = [
        _read_source(source, file, layout, min_share if apart else None)
        for source, file in zip(sources, files, strict=True)
    ]
    for file, mask in zip(files, stored, strict=True):
        if mask.values.shape[1:] != stored[0].values.shape[1:]:
            raise ValueError(
                f"The masks of one photo must have one size, but {files[0]} is "
                f"{stored[0].values.shape[1:]} and {file} is {mask.values.shape[1:]} (height, "
                "width); export them alike."
            )
    values = _concatenate([_opposite(s.values) if invert else s.values for s in stored])
    names = _names(files, stored)
    if flip:
        names = names if len(values) == 1 else ("outside",)
        values = _opposite(values.max(axis=0, keepdims=True, initial=0))
    return ReadMasks(MaskSet(values, names, role), tuple(n for s in stored for n in s.notes))


def masks_from_alpha(alpha: Float32Map, role: MaskRole = "object") -> MaskSet:
    """The alpha channel of a photo, (h, w) in [0, 1], as its mask: what is opaque is the object.

    Raises:
        ValueError: the alpha channel is constant, so it marks nothing.
    """
    if np.ptp(alpha) == 0:
        raise ValueError(
            "No mask was given, and the photo has none: its alpha channel is constant, so it is "
            "opaque everywhere or transparent everywhere. Give a mask."
        )
    return MaskSet((alpha if role == "object" else _opposite(alpha))[None], ("alpha",), role)


def _read_source(
    source: Path | bytes | NDArray[Any], file: Path, layout: Layout, min_share: float | None
) -> _Stored:
    """The masks of a source that is called ``file``; ``min_share`` None: keep label maps whole."""
    array, meaning = _numbers(source, file, layout)
    if array.dtype.kind == "f" or meaning == "alpha":
        return _Stored(_soft(file, array))
    if array.dtype.kind not in "iu":
        raise ValueError(f"{file} holds {array.dtype} values; a mask has integers or floats.")

    wide = array.dtype.itemsize > 2
    array = _narrowed(array)
    ids, _ = count_labels(array)
    if len(ids) == 1 and (ids[0] == 1 or (layout == "auto" and 2 * ids[0] < _full(array))):
        return _Stored(_soft(file, array > 0))  # zeros and ones, or zeros and one id
    several_ids = len(ids) > 1 and (ids[-1] < _LABEL_LIMIT or (wide and ids[-1] > 255))
    guessed = layout == "auto" and meaning == "numbers" and array.ndim == 2 and several_ids
    if not (guessed or layout == "labels" or meaning in ("indices", "colours")):
        return _Stored(_soft(file, array))
    if array.ndim != 2:
        raise ValueError(f"{file} is a stack {array.shape}; a label map is one (h, w) array.")
    if meaning == "colours" and len(ids) > MAX_COLOURS:
        raise ValueError(
            f"{file} has {len(ids)} colours, so it is neither a soft mask (grey) nor a label map "
            f"(at most {MAX_COLOURS} flat colours). Is it a photo, or a blended or JPEG-compressed "
            "label map? Export the mask as a grey PNG or a palette PNG."
        )
    if min_share is None:
        return _Stored(_soft(file, array > 0))
    # An id that is alone is what the user means, however small.
    found = instances_from_labels(array, min_share if len(ids) > 1 else 0)
    name = "#{:06x}" if meaning == "colours" else "{}"
    names, left_out, every = (
        tuple(map(name.format, some)) for some in (found.ids, found.too_small, ids)
    )
    notes = []
    if guessed:
        notes.append(
            f"{file.name}: read as a label map with ids {_some(every)}; "
            "with layout 'soft' it is one soft mask."
        )
    if left_out:
        notes.append(
            f"{file.name}: {len(left_out)} of {len(ids)} labels cover too little of the photo "
            f"for a mask and go to their neighbours: {_some(left_out)}."
        )
    return _Stored(found.masks, names, tuple(notes))


def _numbers(source: Path | bytes | NDArray[Any], file: Path, layout: Layout) -> _Numbers:
    if isinstance(source, np.ndarray):
        return _from_array(source, file, layout)
    data = source if isinstance(source, bytes) else read_bytes(source)
    if is_picture(data):
        return _from_picture(data, file, layout)
    if not data.startswith((b"\x93NUMPY", b"PK")):
        raise ValueError(f"{file} is no picture ({FORMATS}) and no NumPy file of masks.")
    try:
        array = read_array(data, ("masks", "mask"))
    except Exception as error:  # on malformed bytes the readers may raise anything
        raise ValueError(
            f"{file} is no picture ({FORMATS}) and no NumPy file of masks: {error}"
        ) from error
    return _from_array(array, file, layout)


def _from_array(array: NDArray[Any], file: Path, layout: Layout) -> _Numbers:
    """The (h, w) or (n, h, w) numbers of an array; the last axis of a picture is its channels."""
    if array.ndim not in (2, 3) or 0 in array.shape[-2:]:
        raise ValueError(f"{file} has shape {array.shape}; masks are (h, w) or (n, h, w).")
    if array.dtype == bool:
        array = array.astype(np.uint8) * np.uint8(255)
    if array.ndim == 3 and array.shape[2] <= 4:  # no photo is so narrow
        return _from_channels(array, ("L", "LA", "RGB", "RGBA")[array.shape[2] - 1], file, layout)
    return _Numbers(array)


def _from_picture(data: bytes, file: Path, layout: Layout) -> _Numbers:
    """The grey levels, palette indices, packed colours or alpha of a picture, (h, w)."""
    array, mode = read_raw(data, str(file))
    if mode != "P":
        return _from_channels(array, mode, file, layout)
    photo = read_image(data, str(file))  # the same picture in colours
    if photo.alpha is not None and np.ptp(photo.alpha) > 0 and layout != "labels":
        return _Numbers(photo.alpha, "alpha")
    return _Numbers(photo.rgb[..., 0]) if _is_grey(photo.rgb) else _Numbers(array, "indices")


def _from_channels(array: NDArray[Any], mode: str, file: Path, layout: Layout) -> _Numbers:
    """The same from the channels that ``mode`` names as Pillow does."""
    if mode[-1] in "Aa":
        if np.ptp(array[..., -1]) > 0 and layout != "labels":
            return _Numbers(array[..., -1], "alpha")
        array = array[..., :-1]
    if array.ndim == 2:
        return _Numbers(array)
    if array.shape[2] == 1 or (mode[:3] == "RGB" and _is_grey(array)):
        return _Numbers(array[..., 0])
    if mode[:3] != "RGB" or array.shape[2] != 3 or array.dtype.kind != "u":
        raise ValueError(
            f"{file} has {mode} colours of type {array.dtype}; save the mask as a grey PNG."
        )
    if layout == "soft":
        raise ValueError(f"{file} is coloured, so it is no soft mask; save it as a grey PNG.")
    wide = array.astype(np.uint32 if array.itemsize == 1 else np.uint64)
    red, green, blue = np.moveaxis(wide, 2, 0)
    bits = wide.dtype.type(8 * array.itemsize)
    return _Numbers((red << bits | green) << bits | blue, "colours")


def _soft(file: Path, array: NDArray[Any]) -> NDArray[Any]:
    """(h, w) or (n, h, w) coverage as (n, h, w) in a type that a `MaskSet` keeps."""
    if array.dtype == bool:
        array = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype.kind == "f":
        array = array.astype(np.float32)
        if not (array.min(initial=0) >= 0 and array.max(initial=0) <= 1):  # also false for NaN
            raise ValueError(
                f"{file} holds floats from {array.min():g} to {array.max():g}; a float mask is in "
                "[0, 1]: divide it by its full scale."
            )
    elif array.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"{file} holds integers up to {array.max()}; a soft mask has 8 or 16 bits, and for "
            "a label map there is layout 'labels'."
        )
    return array.reshape(-1, *array.shape[-2:])


def _narrowed(array: NDArray[Any]) -> NDArray[Any]:
    """Integers in 8 or 16 bits if they fit; what is negative (often "void") becomes 0."""
    if array.dtype in (np.uint8, np.uint16):
        return array
    array = np.maximum(array, 0)
    fitting = [t for t in (np.uint8, np.uint16) if array.max(initial=0) <= np.iinfo(t).max]
    return array.astype(fitting[0]) if fitting else array


def _is_grey(rgb: NDArray[Any]) -> bool:
    return all(np.array_equal(rgb[..., 0], rgb[..., i]) for i in (1, 2))


def _full(array: NDArray[Any]) -> float:
    """The number that stands for full coverage."""
    return 1.0 if array.dtype.kind == "f" else float(np.iinfo(array.dtype).max)


def _opposite(array: NDArray[Any]) -> NDArray[Any]:
    """Full coverage minus the array, exact for integers."""
    opposite: NDArray[Any] = array.dtype.type(_full(array)) - array
    return opposite


def _concatenate(stacks: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """(n, h, w) stacks as one, in the finest of their types."""
    types = {stack.dtype for stack in stacks}
    if len(types) == 1:
        return np.concatenate(stacks) if len(stacks) > 1 else stacks[0]
    if any(kind.kind == "f" for kind in types):
        return np.concatenate([stack / np.float32(_full(stack)) for stack in stacks])
    # 257 * 255 = 65535: the same coverage in 16 bits
    return np.concatenate([s * np.uint16(257) if s.itemsize == 1 else s for s in stacks])


def _names(files: Sequence[Path], stored: Sequence[_Stored]) -> tuple[str, ...]:
    """Names of all masks; empty leaves them to `MaskSet`."""
    if len(files) == 1:
        return stored[0].labels
    stems = [file.stem for file in files]
    labels = [stem.rpartition(".")[2] for stem in stems]  # 012.person.png: person
    unique = (c for c in (labels, stems) if len(set(c)) == len(files))
    names: list[str] = []
    for label, (values, inner, _) in zip(next(unique, list(map(str, files))), stored, strict=True):
        inner = inner or tuple(str(i) for i in range(len(values)))
        names += [f"{label}.{name}" for name in inner] if len(inner) > 1 else [label]
    return tuple(names)


def _some(names: Sequence[str], limit: int = 8) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
