from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from crispdepth.ops.colour import linear_from_srgb
from crispdepth.tasks.bokeh import BokehConfig, focus_at, focus_on, render_bokeh
from crispdepth.types import DepthMap, Float32Map, LayerPair

SIZE = 60, 72
RED, BLUE = np.array([230, 20, 10], np.uint8), np.array([10, 30, 240], np.uint8)


def disc(radius: float = 16) -> Float32Map:
    y, x = np.indices(SIZE)
    return (np.hypot(y - 30, x - 36) < radius).astype(np.float32)


def scene(alpha: Float32Map) -> tuple[DepthMap, list[LayerPair]]:
    """An object at inverse depth 3 before a wall at 1."""
    depth = DepthMap(1 + 2 * alpha, "inverse_depth")
    near, far = np.full(SIZE, 3, np.float32), np.full(SIZE, 1, np.float32)
    return depth, [LayerPair("object", alpha, near, far)]


def noise(seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3)).astype(np.uint8)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), focus=st.floats(-1, 5), highlights=st.floats(0, 0.95))
def test_without_aperture_the_photo_stays_as_it_is(
    seed: int, focus: float, highlights: float
) -> None:
    alpha = np.random.default_rng(seed).random(SIZE, np.float32)
    image = noise(seed)
    result = render_bokeh(image, *scene(alpha), BokehConfig(focus, 0, highlights))
    assert np.abs(result.astype(int) - image).max() <= (1 if highlights else 0)


@pytest.mark.parametrize("highlights", [0, 0.8])
@pytest.mark.parametrize("focus", [1.0, 2.0, 3.0])
def test_a_constant_photo_stays_constant(focus: float, highlights: float) -> None:
    image = np.broadcast_to(RED, (*SIZE, 3)).copy()
    result = render_bokeh(image, *scene(disc()), BokehConfig(focus, 6, highlights))
    assert np.abs(result.astype(int) - image).max() <= 1


def test_the_plane_in_focus_is_unchanged_where_nothing_nearer_is_blurred() -> None:
    image, alpha = noise(), disc()
    result = render_bokeh(image, *scene(alpha), BokehConfig(focus=3, aperture=4))
    inside = disc(12) == 1
    np.testing.assert_array_equal(result[inside], image[inside])
    outside = disc(20) == 0
    assert result[outside].std() < 0.5 * image[outside].std()

    result = render_bokeh(image, *scene(alpha), BokehConfig(focus=1, aperture=2))
    outside = disc(16 + 2 * 2 + 3) == 0
    np.testing.assert_array_equal(result[outside], image[outside])


def test_a_sharp_object_leaves_no_halo_in_the_blur_behind_it() -> None:
    alpha = disc()
    image = np.where(alpha[..., None] == 1, RED, BLUE)
    result = render_bokeh(image, *scene(alpha), BokehConfig(focus=3, aperture=5))
    np.testing.assert_allclose(result.astype(int), image, atol=2)


def test_a_blurred_object_shows_what_is_behind_its_edge() -> None:
    alpha = disc()
    image = np.where(alpha[..., None] == 1, RED, BLUE)
    result = render_bokeh(image, *scene(alpha), BokehConfig(focus=1, aperture=4))
    # Front light is spread, not lost; the wall is behind all of it.
    red, wall = (linear_from_srgb(colour)[0] for colour in (RED, BLUE))
    cover = (linear_from_srgb(result)[..., 0] - wall) / (red - wall)
    assert cover.sum() == pytest.approx(alpha.sum(), rel=0.01)
    assert 0.3 < cover[30, 36 + 16] < 0.6  # on its outline
    assert cover[30, 36 + 16 + 9] == pytest.approx(0, abs=1e-3)


def test_more_aperture_blurs_more() -> None:
    image = noise()
    contrast = [
        float(render_bokeh(image, *scene(disc()), BokehConfig(3, k))[:8].std())
        for k in (0, 0.5, 1, 2, 4)
    ]
    assert (np.diff(contrast) < 0).all()


def test_the_blur_grows_linearly_with_inverse_depth() -> None:
    """r = K |D - focus|: a wall twice as far off in inverse depth has twice the radius."""

    def radius(wall: float) -> float:
        image = np.zeros((*SIZE, 3), np.uint8)
        image[30, 36] = 255
        depth = DepthMap(np.full(SIZE, wall, np.float32), "inverse_depth")
        light = linear_from_srgb(render_bokeh(image, depth, [], BokehConfig(2, 3)))[..., 0]
        assert light.sum() == pytest.approx(1, rel=0.05)  # to bytes, that is: none of it is lost
        return float(np.sqrt((light > light.max() / 2).sum() / np.pi))

    assert radius(1) == pytest.approx(3, abs=0.3)
    assert radius(0) == pytest.approx(6, abs=0.8)
    assert radius(4) == pytest.approx(6, abs=0.8)


def test_highlights_shine_longer_than_greys() -> None:
    image = np.full((*SIZE, 3), 60, np.uint8)
    image[30, 36] = 255
    depth = DepthMap(np.ones(SIZE, np.float32), "inverse_depth")
    plain, bright = (
        render_bokeh(image, depth, [], BokehConfig(0, 3, highlights)) for highlights in (0, 0.9)
    )
    assert bright[30, 36, 0] > int(plain[30, 36, 0]) + 5


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_photos_of_both_depths_give_bytes(dtype: type[Any]) -> None:
    image = np.full((*SIZE, 3), np.iinfo(dtype).max, dtype)
    result = render_bokeh(image, *scene(disc()), BokehConfig(1, 2))
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, 255)


def test_focus_is_taken_from_a_pixel_or_from_an_object() -> None:
    values = 1 + 2 * disc()
    values[:, :5] = np.nan
    depth = DepthMap(values, "inverse_depth")
    assert focus_at(depth, 36, 30) == focus_on(depth, disc()) == 3
    assert focus_at(depth, 0, 0) == 1  # the nearest pixel that was measured
    assert focus_at(DepthMap(values, "depth"), 36.9, 30.9) == pytest.approx(1 / 3)


def test_mistakes_are_refused() -> None:
    depth, _ = scene(disc())
    with pytest.raises(ValueError, match="72,0 is outside the photo of 72 x 60"):
        focus_at(depth, 72, 0)
    with pytest.raises(ValueError, match="no valid depth under the mask"):
        focus_on(depth, np.zeros(SIZE, np.float32))
    with pytest.raises(ValueError, match="aperture is >= 0"):
        BokehConfig(0, -1)
    with pytest.raises(ValueError, match="below 1, got 1"):
        BokehConfig(0, 1, 1)
