import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import DTypeLike, NDArray

from crispdepth.ops.masks import count_labels, instances_from_labels, resize_masks
from crispdepth.types import MaskSet, Size

DTYPES = [np.uint8, np.uint16, np.float32]


def checker(size: Size, cell: int, dtype: DTypeLike) -> NDArray[np.uint8]:
    y, x = np.indices(size) // cell
    full = 1 if np.issubdtype(dtype, np.floating) else np.iinfo(np.dtype(dtype)).max
    board: NDArray[np.uint8] = ((x + y) % 2 * full).astype(dtype)
    return board


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(8, 12), (24, 36), (16, 24), (17, 25)])
def test_resizing_keeps_names_role_and_number_type(dtype: DTypeLike, size: Size) -> None:
    masks = MaskSet(checker((16, 24), 3, dtype)[None], ("left",), "ignore")
    resized = resize_masks(masks, size)
    assert (resized.size, resized.names, resized.role) == (size, ("left",), "ignore")
    assert resized.values.dtype == dtype


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(8, 12), (48, 72), (31, 47)])
def test_resizing_keeps_empty_and_full_masks(dtype: DTypeLike, size: Size) -> None:
    full = checker((16, 24), 1, dtype).max()
    values = np.stack([np.zeros((16, 24), dtype), np.full((16, 24), full, dtype)])
    resized = resize_masks(MaskSet(values), size).values
    np.testing.assert_array_equal(resized[0], 0)
    np.testing.assert_array_equal(resized[1], full)


@pytest.mark.parametrize("dtype", DTYPES)
def test_shrinking_averages_the_area(dtype: DTypeLike) -> None:
    masks = MaskSet(checker((16, 24), 1, dtype)[None])  # finer than the result can show
    np.testing.assert_allclose(resize_masks(masks, (4, 6))[0], 0.5, atol=0.002)
    coarse = MaskSet(checker((16, 24), 4, dtype)[None])
    np.testing.assert_array_equal(resize_masks(coarse, (4, 6))[0], checker((4, 6), 1, np.float32))


@pytest.mark.parametrize("dtype", DTYPES)
def test_growing_makes_a_ramp_of_a_step_and_keeps_it_in_place(dtype: DTypeLike) -> None:
    full = checker((2, 2), 1, dtype).max()
    step = np.repeat(np.array([[0, 0, full, full]], dtype), 4, axis=0)
    grown = resize_masks(MaskSet(step[None]), (16, 16))[0]
    np.testing.assert_allclose(
        grown[0], [0] * 6 + [1 / 8, 3 / 8, 5 / 8, 7 / 8] + [1] * 6, atol=0.003
    )


def test_the_same_size_is_the_same_set() -> None:
    masks = MaskSet(checker((16, 24), 3, np.uint8)[None])
    assert resize_masks(masks, (16, 24)) is masks


def test_no_masks_stay_no_masks() -> None:
    assert resize_masks(MaskSet(np.zeros((0, 4, 6), np.uint8)), (8, 12)).values.shape == (0, 8, 12)


def test_another_aspect_is_refused_with_both_sizes() -> None:
    with pytest.raises(ValueError, match=r"16 x 24 pixels .* 24 x 16"):
        resize_masks(MaskSet(checker((16, 24), 3, np.uint8)[None]), (24, 16))


@given(
    st.sampled_from([np.uint8, np.uint16, np.uint32, np.int16]).flatmap(
        lambda dtype: hnp.arrays(dtype, (6, 7), elements=st.integers(0, 5))
    ),
    st.floats(0, 1),
)
def test_an_instance_is_a_mask_if_it_covers_more_than_the_share(
    labels: NDArray[np.uint32], share: float
) -> None:
    masks, ids, too_small = instances_from_labels(labels, share)
    assert sorted({*ids, *too_small}) == sorted({*labels.ravel().tolist()} - {0})
    assert masks.shape == (len(ids), 6, 7)
    for mask, instance in zip(masks, ids, strict=True):
        small = np.isin(labels, too_small)
        np.testing.assert_array_equal(mask[~small], 255 * (labels == instance)[~small])
        assert np.mean(mask[~small] > 0) > share
    assert all(np.mean(labels == instance) <= share for instance in too_small)


def test_what_is_too_small_goes_to_what_is_nearest() -> None:
    labels = np.zeros((40, 60), np.uint8)
    labels[:, :30] = 1
    labels[10:12, 10:12] = 2  # keys on the table
    labels[20:22, 50:52] = 3  # and a fly on the wall
    masks, ids, _ = instances_from_labels(labels)
    assert ids == (1,)
    np.testing.assert_array_equal(masks[0] > 0, np.arange(60) < np.full((40, 1), 30))


def test_an_instance_of_exactly_one_percent_is_too_small() -> None:
    labels = np.zeros((10, 20), np.uint8)
    labels[0, :2], labels[1, :3] = 7, 9
    assert instances_from_labels(labels)[1:] == ((9,), (7,))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_labels_are_counted_in_less_memory_than_the_map(dtype: DTypeLike) -> None:
    labels: NDArray[np.uint8] = np.full((4000, 5000), 200, dtype)
    labels[-1, -1] = 3
    tracemalloc.start()
    ids, counts = count_labels(labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (ids.tolist(), counts.tolist()) == ([3, 200], [1, labels.size - 1])
    assert peak < labels.size
