"""Mask files: soft masks, label maps and alpha channels to one `MaskSet`."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crispdepth.io.atomic import read_bytes
from crispdepth.io.images import read_image, read_raw
from crispdepth.types import Float32Map, MaskRole, MaskSet

Layout = Literal["auto", "soft", "labels"]
"""How the numbers of a mask file are meant: coverage, or an id for each object."""

MAX_COLOURS = 64
"""A coloured picture with more colours than this is no label map."""

_LABEL_LIMIT = 128  # ids below it are plausible, a soft mask that stays below half coverage is not


class ReadMasks(NamedTuple):
    """Masks, and sentences on what was assumed or left out."""

    masks: MaskSet
    notes: tuple[str, ...]


class _Stored(NamedTuple):
    """The masks of one file as it means them, before polarity and role."""

    values: NDArray[Any]  # (n, h, w) uint8, uint16 or float32 in [0, 1]
    labels: tuple[str, ...] = ()  # names of the masks where the file is a label map
    notes: tuple[str, ...] = ()


class _Picture(NamedTuple):
    """The numbers of a file that matter for a mask."""

    array: NDArray[Any]  # (h, w), or (n, h, w) from .npy and .npz
    meaning: Literal["alpha", "numbers", "indices", "colours"] = "numbers"


def read_masks(
    files: Sequence[Path],
    *,
    role: MaskRole = "object",
    white: Literal["keep", "ignore"] = "keep",
    invert: bool = False,
    layout: Layout = "auto",
    min_share: float = 0.01,
) -> ReadMasks:
    """The masks of one photo, from one file or several.

    Soft masks stay as they are stored, 8 or 16 bit. An alpha channel that is not constant is the
    mask. Pictures of grey colours are grey, whether RGB or palette; in a file of zeros and ones,
    1 is white.

    A label map gives one mask for each id but 0. Files are label maps if they are coloured (a
    palette, or at most `MAX_COLOURS` RGB colours), or if they hold two or more ids that are all
    below 128, or ids of more than 8 bits in integers of more than 16. Of several ids, those that
    cover no more than ``min_share`` of the photo are left out.

    Args:
        files: The files of the photo: pictures, or ``.npy`` / ``.npz`` with (h, w) or (n, h, w)
            numbers. The masks of several files are named after what tells the files apart.
        role: What 1 says in the result: this is the object, or ignore this.
        white: What white says in the files. Where that is the opposite of ``role``, the result
            is one mask: what no mask of the files covers.
        invert: The files hold the opposite of what they should; each is inverted by itself.
        layout: "soft" or "labels" where the rule above gets it wrong.
        min_share: Share of the photo, in [0, 1].

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is damaged or is no mask, or the sizes of the files differ.
    """
    flip = (white == "keep") != (role == "object")
    # The opposite of a label map is one mask, so there is no use in taking it apart.
    apart = not (flip or invert)
    stored = [_read_file(file, layout, min_share if apart else None) for file in files]
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
    """The alpha channel of a photo, (h, w) in [0, 1], as its mask: what is opaque is the object."""
    return MaskSet((alpha if role == "object" else _opposite(alpha))[None], ("alpha",), role)


def _read_file(file: Path, layout: Layout, min_share: float | None) -> _Stored:
    """The masks of a file; ``min_share`` None: do not take a label map apart."""
    numeric = file.suffix.lower() in (".npy", ".npz")
    array, meaning = _read_numbers(file) if numeric else _read_picture(file, layout)
    if array.dtype == bool:
        array = array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind == "f" or meaning == "alpha":
        return _Stored(_soft(file, array))
    if array.dtype.kind not in "iu":
        raise ValueError(f"{file} holds {array.dtype} values; a mask has integers or floats.")

    wide = array.dtype.itemsize > 2
    array = _narrowed(array)
    ids, counts = _ids(array)
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
    name = "#{:06x}" if meaning == "colours" else "{}"
    labels = [name.format(id_) for id_ in ids]
    masks = _take_apart(file, array, ids, labels, counts > min_share * array.size)
    if guessed:
        assumed = (
            f"{file.name}: read as a label map with ids {_some(labels)}; "
            "with layout 'soft' it is one soft mask."
        )
        return masks._replace(notes=(assumed, *masks.notes))
    return masks


def _take_apart(
    file: Path,
    array: NDArray[Any],
    ids: NDArray[Any],
    labels: Sequence[str],
    large: NDArray[np.bool_],
) -> _Stored:
    """One mask for each large id; an id that is alone is always large enough."""
    if len(ids) == 1:
        large = np.ones(1, bool)
    values = np.zeros((np.count_nonzero(large), *array.shape), np.uint8)
    for mask, id_ in zip(values, ids[large], strict=True):
        mask[array == id_] = 255
    kept = tuple(label for label, is_large in zip(labels, large, strict=True) if is_large)
    left_out = [label for label in labels if label not in kept]
    note = (
        f"{file.name}: {len(left_out)} of {len(labels)} labels cover too little of the photo "
        f"and are left out: {_some(left_out)}."
    )
    return _Stored(values, kept, (note,) if left_out else ())


def _read_picture(file: Path, layout: Layout) -> _Picture:
    """The grey levels, palette indices, packed colours or alpha of a picture, (h, w)."""
    array, mode = read_raw(file)
    if mode == "P":
        photo = read_image(file)  # the same picture in colours
        if photo.alpha is not None and np.ptp(photo.alpha) > 0 and layout != "labels":
            return _Picture(photo.alpha, "alpha")
        return _Picture(photo.rgb[..., 0]) if _is_grey(photo.rgb) else _Picture(array, "indices")
    if mode[-1] in "Aa":
        if np.ptp(array[..., -1]) > 0 and layout != "labels":
            return _Picture(array[..., -1], "alpha")
        array = array[..., :-1]
    if array.ndim == 2:
        return _Picture(array)
    if array.shape[2] == 1 or (mode[:3] == "RGB" and _is_grey(array)):
        return _Picture(array[..., 0])
    if mode[:3] != "RGB" or array.shape[2] != 3 or array.dtype.kind != "u":
        raise ValueError(
            f"{file} has {mode} colours of type {array.dtype}; save the mask as a grey PNG."
        )
    if layout == "soft":
        raise ValueError(f"{file} is coloured, so it is no soft mask; save it as a grey PNG.")
    wide = array.astype(np.uint32 if array.itemsize == 1 else np.uint64)
    red, green, blue = np.moveaxis(wide, 2, 0)
    bits = wide.dtype.type(8 * array.itemsize)
    return _Picture((red << bits | green) << bits | blue, "colours")


def _read_numbers(file: Path) -> _Picture:
    """The array of an ``.npy`` or ``.npz`` file, (h, w) or (n, h, w)."""
    data = io.BytesIO(read_bytes(file))
    try:
        loaded = np.load(data, allow_pickle=False)
        arrays = {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except Exception as error:  # on malformed bytes the readers may raise anything
        raise ValueError(f"{file} is not a whole .npy or .npz file: {error}") from error
    named = [arrays[key] for key in ("masks", "mask") if key in arrays] or list(arrays.values())
    if len(named) != 1:
        raise ValueError(f"{file} holds {sorted(arrays)}; call the array of masks 'masks'.")
    (array,) = named
    if array.ndim not in (2, 3) or 0 in array.shape[-2:]:
        raise ValueError(f"{file} has shape {array.shape}; masks are (h, w) or (n, h, w).")
    return _Picture(array)


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


def _ids(array: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """The different values above 0, ascending, and how often each occurs."""
    if array.dtype in (np.uint8, np.uint16):
        counts = np.bincount(array.ravel())
        ids = np.flatnonzero(counts)
        return ids[ids > 0], counts[ids[ids > 0]]
    ids, counts = np.unique(array, return_counts=True)
    return ids[ids > 0], counts[ids > 0]


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
