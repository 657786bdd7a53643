"""An outline that lies on the edges passes; a displaced one is found, and so is the way back."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from crispdepth.data.strokes import wobble
from crispdepth.ops.outline import Misfit, edges, find_misfit
from crispdepth.types import BoolMap, Float32Map, Size

SIZE = (240, 320)
Photo = NDArray[np.float32]


def disk(x: float = 150, y: float = 115, radius: float = 50, size: Size = SIZE) -> BoolMap:
    rows, columns = np.indices(size) + 0.5
    inside: BoolMap = np.hypot(columns - x, rows - y) < radius
    return inside


def blob(x: float = 0, y: float = 0, grown: float = 0) -> BoolMap:
    """Three discs in one, so that only one displacement puts it on itself."""
    parts = [disk(cx + x, cy + y, r + grown) for cx, cy, r in ((130, 110, 40), (185, 120, 30))]
    return parts[0] | parts[1] | disk(120 + x, 150 + y, 25 + grown)


def textured(inside: BoolMap, seed: int = 0) -> Photo:
    """Two surfaces of different colours, both with a texture weaker than the edge between them."""
    rng = np.random.default_rng(seed)
    colours = np.where(inside[..., None], [0.7, 0.4, 0.2], [0.2, 0.4, 0.6])
    texture = cv2.GaussianBlur(rng.normal(0, 0.12, inside.shape), (0, 0), 1.2)
    return np.asarray((colours + texture[..., None]).clip(0, 1), np.float32)


def blurred(inside: BoolMap, sigma: float = 4) -> Float32Map:
    return np.asarray(cv2.GaussianBlur(inside.astype(np.float32), (0, 0), sigma), np.float32)


def judged(mask: NDArray[np.generic], photo: Photo, depth: Float32Map) -> Misfit | None:
    return find_misfit(edges(photo), edges(depth), mask.astype(np.float32))


INSIDE = blob()
PHOTO, DEPTH = textured(INSIDE), blurred(INSIDE)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.floats(80, 230), st.floats(80, 160), st.floats(20, 60))
def test_a_disc_on_its_own_photo_is_never_questioned(
    seed: int, x: float, y: float, radius: float
) -> None:
    inside = disk(x, y, radius)
    photo = textured(inside, seed)
    for mask in (inside, blurred(inside, 2), 1 - blurred(inside, 2)):
        assert judged(mask, photo, blurred(inside)) is None


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 2 * np.pi), st.floats(5, 14))
def test_a_moved_mask_is_found_with_the_way_back(angle: float, length: float) -> None:
    x, y = length * np.cos(angle), length * np.sin(angle)
    found = judged(blob(x, y), PHOTO, DEPTH)
    assert found is not None
    assert found.whole
    assert found.moved == pytest.approx((-x, -y), abs=1)
    assert found.grown is None


@pytest.mark.parametrize("by", [-12, -8, -5, 5, 8, 12])
def test_a_grown_or_shrunk_mask_is_found_with_the_way_back(by: int) -> None:
    found = judged(blob(grown=by), PHOTO, DEPTH)
    assert found is not None
    assert found.grown == pytest.approx(-by, abs=1)
    assert found.moved is None


@pytest.mark.parametrize("seed", range(4))
def test_a_ragged_outline_is_found_and_fits_nowhere(seed: int) -> None:
    ragged = wobble(INSIDE.astype(np.uint8), np.random.default_rng(seed), 6, 12)
    assert judged(ragged, PHOTO, DEPTH) == Misfit(whole=True)


def test_holes_that_the_photo_does_not_have_are_found_and_those_it_has_are_not() -> None:
    holed = INSIDE & ~disk(120, 105, 9) & ~disk(145, 118, 8) & ~disk(185, 120, 9)
    assert judged(holed, PHOTO, DEPTH) == Misfit(whole=False)
    assert judged(holed, textured(holed), DEPTH) is None


@pytest.mark.parametrize("mask", [INSIDE, blob(9, 3), blob(grown=8), blob(grown=-8)])
def test_the_inverted_mask_is_judged_alike(mask: BoolMap) -> None:
    upright, inverted = judged(mask, PHOTO, DEPTH), judged(~mask, PHOTO, DEPTH)
    if upright is not None and upright.grown is not None:
        upright = upright._replace(grown=-upright.grown)
    assert inverted == upright


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([0.125, 0.5, 2, 64]), st.sampled_from([-0.5, 0, 0.25, 3]))
@pytest.mark.parametrize("mask", [INSIDE, blob(9, 3), blob(grown=8)])
def test_brightness_and_contrast_do_not_matter(mask: BoolMap, gain: float, shift: float) -> None:
    photo = np.round(PHOTO * 256) / np.float32(256)  # so that gain and shift are exact
    moved = (np.float32(gain) * (photo + np.float32(shift))).astype(np.float32)
    depth = (np.float32(gain) * DEPTH).astype(np.float32)
    assert judged(mask, moved, depth) == judged(mask, photo, DEPTH)


@pytest.mark.parametrize("mask", [INSIDE, blob(9, 3), blob(grown=8)])
def test_of_a_flat_photo_nothing_is_said(mask: BoolMap) -> None:
    assert judged(mask, np.full((*SIZE, 3), 0.3, np.float32), DEPTH) is None


def test_where_the_photo_is_nothing_but_texture_the_depth_decides() -> None:
    photo = textured(np.zeros(SIZE, bool))
    assert judged(INSIDE, photo, DEPTH) is None
    assert judged(INSIDE, photo, blurred(disk(40, 40, 20))) == Misfit(whole=True)


def test_the_frame_of_the_photo_is_no_outline() -> None:
    half = np.zeros(SIZE, bool)
    half[:, :150] = True
    assert judged(half, textured(half), blurred(half)) is None
    assert judged(np.ones(SIZE, bool), PHOTO, DEPTH) is None


@pytest.mark.parametrize("size", [(1, 40), (40, 1), (2, 2), (9, 300), (30, 30)])
def test_any_size_is_judged(size: Size) -> None:
    mask = np.zeros(size, np.float32)
    mask[: (size[0] + 1) // 2, : (size[1] + 1) // 2] = 1
    photo = np.random.default_rng(0).random((*size, 3), dtype=np.float32)
    found = judged(mask, photo, photo[..., 0].copy())
    assert found is None or found.whole in (True, False)
