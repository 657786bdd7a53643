"""NumPy files are read when they hold numbers, and refused before they can do harm."""

import io
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from crispdepth.io.arrays import read_array

ARRAYS = hnp.arrays(
    st.sampled_from(["?", "<u1", ">u2", "<i4", "<f2", ">f8"]),
    hnp.array_shapes(max_dims=4, max_side=4),
)


def npy(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz(**arrays: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # it takes any name
    return stream.getvalue()


@given(ARRAYS, st.booleans())
def test_numbers_come_back_bit_for_bit(array: NDArray[Any], is_fortran: bool) -> None:
    array = np.asarray(array, order="F" if is_fortran else "C")
    for data in (npy(array), npz(any_name=array), npz(wanted=array, other=np.array([None]))):
        found = read_array(data, ("wanted",))
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


def test_the_first_of_the_names_counts() -> None:
    data = npz(a=np.ones(1), b=np.zeros(1))
    assert read_array(data, ("c", "b", "a")) == 0
    for none in (npz(), data):
        with pytest.raises(ValueError, match=r"holds the arrays .*; call the one meant 'c'"):
            read_array(none, ("c",))


@pytest.mark.parametrize("array", [np.array([None]), np.array(["a"]), np.array([1j])])
def test_what_is_no_number_is_refused(array: NDArray[Any]) -> None:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    with pytest.raises(ValueError, match=f"holds {array.dtype} values"):
        read_array(stream.getvalue(), ())


@pytest.mark.parametrize("shape", [(0, 5), (20_000, 20_000), (2**40, 2**40)])
def test_an_announced_size_is_checked_before_it_is_allocated(shape: tuple[int, ...]) -> None:
    header = io.BytesIO()
    facts = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, facts)
    with pytest.raises(ValueError, match="it announces"):
        read_array(header.getvalue(), ())


def test_truncated_and_altered_files_are_refused() -> None:
    data = npy(np.arange(1000.0))
    with pytest.raises(ValueError, match="truncated: 7990 of 8000 bytes"):
        read_array(data[:-10], ())
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:  # stored, so that a value can be altered
        archive.writestr("a.npy", data)
    altered = bytearray(stream.getvalue())
    altered[4000] ^= 1
    with pytest.raises(zipfile.BadZipFile, match="CRC"):
        read_array(bytes(altered), ())
