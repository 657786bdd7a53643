"""A mask that does not fit is named, with the way back in pixels of the photo; the depth is not
touched by that."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from crispdepth.models.classical import ClassicalCompleter
from crispdepth.tasks.mask_advice import NOT_FOLLOWED
from crispdepth.tasks.refine import refine_depth
from crispdepth.types import BoolMap, DepthMap, Float32Map, MaskSet, RefinedDepth

SIZE = (480, 640)


def disk(x: float, y: float, radius: float) -> BoolMap:
    rows, columns = np.indices(SIZE) + 0.5
    inside: BoolMap = np.hypot(columns - x, rows - y) < radius
    return inside


def thing(x: float = 0, y: float = 0, grown: float = 0) -> BoolMap:
    return disk(260 + x, 220 + y, 80 + grown) | disk(370 + x, 240 + y, 60 + grown)


def photo(inside: BoolMap) -> NDArray[np.uint8]:
    colours = np.where(inside[..., None], [200, 80, 30], [40, 90, 160])
    noise = np.random.default_rng(0).normal(0, 50, SIZE)
    texture = cv2.GaussianBlur(noise, (0, 0), 2.4)[..., None]
    return np.asarray((colours + texture).clip(0, 255), np.uint8)


def rough(inside: BoolMap) -> Float32Map:
    sharp = np.where(inside, np.float32(6), np.float32(2))
    return np.asarray(cv2.GaussianBlur(sharp, (0, 0), 5), np.float32)


PHOTO, ROUGH = photo(thing()), rough(thing())


def refine(
    *masks: BoolMap | Float32Map, resolution: int = 896, rough: Float32Map = ROUGH
) -> RefinedDepth:
    values = np.stack([mask.astype(np.float32) for mask in masks])
    names = ("cat", "dog", "hen")[: len(masks)]
    return refine_depth(
        PHOTO,
        DepthMap(rough, "inverse_depth"),
        MaskSet(values, names),
        completer=ClassicalCompleter(resolution=resolution),
    )


def soft(mask: BoolMap) -> Float32Map:
    blurred = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 3)
    return np.asarray(blurred.clip(0, 1), np.float32)


@pytest.mark.parametrize("resolution", [320, 400, 896])
@pytest.mark.parametrize("mask", [thing(), soft(thing())], ids=["hard", "soft"])
def test_a_mask_that_fits_is_not_advised_against(mask: BoolMap, resolution: int) -> None:
    assert refine(mask, resolution=resolution).notes == ()


@pytest.mark.parametrize("resolution", [320, 400, 896])
@pytest.mark.parametrize(
    ("mask", "advice"),
    [
        (thing(x=20), "moved by 20 px to the left"),
        (thing(x=-24), "moved by 24 px to the right"),
        (thing(y=-18), "moved by 18 px down"),
        (thing(x=-16, y=16), "moved by 16 px to the right and 16 px up"),
        (thing(grown=14), "shrunk by 14 px"),
        (thing(grown=-14), "grown by 14 px"),
    ],
)
def test_the_way_back_is_told_in_pixels_of_the_photo_whatever_the_engine(
    mask: BoolMap, advice: str, resolution: int
) -> None:
    notes = refine(mask, resolution=resolution).notes
    assert "'cat'" in notes[0]
    assert NOT_FOLLOWED in notes[0]
    assert f"fits best when {advice};" in notes[0]


def test_only_the_masks_that_do_not_fit_are_named() -> None:
    notes = refine(thing(), thing(x=30), disk(90, 380, 60)).notes
    assert [name for note in notes for name in ("cat", "dog", "hen") if repr(name) in note] == [
        "dog",
        "hen",
    ]


def test_holes_that_the_photo_does_not_show_are_named() -> None:
    holed = thing() & ~disk(245, 210, 16) & ~disk(290, 240, 18) & ~disk(375, 240, 16)
    (note,) = refine(holed).notes
    assert note.startswith("The holes or smaller pieces of mask 'cat'")


def test_advice_changes_no_depth() -> None:
    """Together with a mask that fits, a wrong one does what it does alone."""
    wrong = refine(thing(x=30))
    assert wrong.changed.any()
    both = refine(thing(x=30), thing(x=30))
    np.testing.assert_array_equal(both.depth.values, wrong.depth.values)
    assert len(both.notes) == 2


def test_where_no_depth_was_measured_it_gives_no_advice() -> None:
    holed = ROUGH.copy()
    holed[50:150, 100:600] = np.nan
    assert refine(thing(), rough=holed).notes == ()


def test_a_depth_map_given_as_a_mask_is_asked_about() -> None:
    ramp = np.tile(np.linspace(0, 1, SIZE[1], dtype=np.float32), (SIZE[0], 1))
    asked = "neither black nor white: is it a depth map?"
    notes = [
        refine_depth(PHOTO, DepthMap(ROUGH, "inverse_depth"), MaskSet(mask[None])).notes
        for mask in (ramp, thing().astype(np.float32))
    ]
    assert [any(asked in note for note in each) for each in notes] == [True, False]


def test_a_mask_given_as_a_depth_map_is_asked_about() -> None:
    asked = "hardly any values but two: is it a mask?"
    outlier, outdoors = ROUGH.copy(), np.linspace(2, 20, ROUGH.size).reshape(ROUGH.shape)
    outlier[0, 0] = 1e6
    outdoors[:5] = 65504.0  # the sky, as half floats end
    notes = [
        refine_depth(PHOTO, rough, MaskSet(thing()[None])).notes
        for rough in (
            DepthMap(thing().astype(np.float32), "inverse_depth"),
            DepthMap(ROUGH, "inverse_depth"),
            DepthMap(outlier, "inverse_depth"),
            DepthMap(outdoors.astype(np.float32), "depth", "m"),
        )
    ]
    assert [any(asked in note for note in each) for each in notes] == [True, False, False, False]
