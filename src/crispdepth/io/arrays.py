"""NumPy files: bytes to an array, checked before anything is allocated."""

import io
import math
import zipfile
from collections.abc import Sequence
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from crispdepth.io.images import check_pixels


def read_array(data: bytes, keys: Sequence[str]) -> NDArray[Any]:
    """The array in the bytes of an NPY or NPZ file; nothing else in an NPZ is unpacked.

    Args:
        data: the file.
        keys: names of the array in an NPZ; the first that is there counts. An array that is alone
            may have any name.

    Returns:
        Numbers or bools of any shape, read-only.

    Raises:
        ValueError: no array is found, or it is not a whole array of numbers, or its values
            are none or too many (see `check_pixels`). Malformed bytes may raise anything.
    """
    if not data.startswith(b"PK"):
        return _read_npy(io.BytesIO(data))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        found = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        named = [key for key in keys if key in found] or (found if len(found) == 1 else [])
        if not named:
            raise ValueError(f"it holds the arrays {sorted(found)}; call the one meant {keys[0]!r}")
        with archive.open(f"{named[0]}.npy") as member:
            return _read_npy(member)


def _read_npy(stream: IO[bytes]) -> NDArray[Any]:
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"NPY version {version} is for structured arrays; save a plain one")
    if version == (1, 0):
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    else:
        shape, is_fortran, dtype = np.lib.format.read_array_header_2_0(stream)
    if dtype.kind not in "biuf":
        raise ValueError(f"it holds {dtype} values; numbers are needed (float, integer or bool)")
    check_pixels(math.prod(shape[-1:]), math.prod(shape[:-1]), "it")  # the planes of a stack too
    size = math.prod(shape) * dtype.itemsize
    values = stream.read(size)
    stream.read(1)  # at its end a zip member checks its checksum
    if len(values) < size:
        raise ValueError(f"it is truncated: {len(values)} of {size} bytes of values are there")
    return np.frombuffer(values, dtype).reshape(shape, order="F" if is_fortran else "C")
