import numpy as np
import pytest

from crispdepth.ops.images import eight_bit


def test_sixteen_bits_become_the_nearest_share_of_white_in_eight() -> None:
    levels = np.arange(65536).astype(np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(eight_bit(levels), np.rint(levels / 257))


@pytest.mark.parametrize("shape", [(16, 16), (8, 8, 4), (4, 16, 4)])
def test_eight_bits_come_back_from_sixteen(shape: tuple[int, ...]) -> None:
    levels = np.arange(256).astype(np.uint8).reshape(shape)
    assert eight_bit(levels) is levels
    deep = eight_bit(levels.astype(np.uint16) * np.uint16(257))
    assert deep.dtype == np.uint8
    np.testing.assert_array_equal(deep, levels)
