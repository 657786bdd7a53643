import numpy as np
import pytest

from crispdepth.ops.colour import linear_from_srgb, srgb_from_linear


def test_bytes_survive_the_way_to_linear_and_back() -> None:
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(srgb_from_linear(linear_from_srgb(levels)), levels)


@pytest.mark.parametrize(("srgb", "linear"), [(0, 0), (10, 10 / 255 / 12.92), (255, 1)])
def test_the_curve_is_that_of_the_standard(srgb: int, linear: float) -> None:
    np.testing.assert_allclose(linear_from_srgb(np.array([srgb], np.uint8)), linear, rtol=1e-6)


def test_the_middle_of_linear_light_is_level_188() -> None:
    np.testing.assert_array_equal(srgb_from_linear(np.array([0.5], np.float32)), 188)


def test_what_is_darker_than_black_or_brighter_than_white_is_clipped() -> None:
    values = np.array([-0.5, 1.5], np.float32)
    np.testing.assert_array_equal(srgb_from_linear(values), [0, 255])
    np.testing.assert_array_equal(values, [-0.5, 1.5])  # and not written to


def test_deep_photos_keep_their_steps() -> None:
    deep = linear_from_srgb(np.arange(0, 65536, 257, dtype=np.uint16))
    np.testing.assert_allclose(deep, linear_from_srgb(np.arange(256, dtype=np.uint8)), atol=1e-7)
