from collections.abc import Callable

import cv2
import numpy as np
import pytest

from crispdepth.data.figures import people
from crispdepth.data.perturb import holes
from crispdepth.data.shapes import THINGS, fence, foliage, hair, net, sky, wires
from crispdepth.data.strokes import Mask, capsules, draw

Drawing = Callable[[np.random.Generator, int], Mask]
DRAWINGS: tuple[Drawing, ...] = (*THINGS, sky, people)


def drawn(drawing: Drawing, count: int, size: int = 96) -> list[Mask]:
    return [drawing(np.random.default_rng([1, i]), size) for i in range(count)]


@pytest.mark.parametrize("drawing", DRAWINGS, ids=lambda drawing: drawing.__name__)
def test_drawings_are_masks_decided_by_the_generator(drawing: Drawing) -> None:
    masks = drawn(drawing, 12)
    for mask, again in zip(masks, drawn(drawing, 12), strict=True):
        assert mask.shape == (96, 96)
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) <= {0, 1}
        np.testing.assert_array_equal(mask, again)
    assert len({mask.tobytes() for mask in masks}) == 12
    assert np.mean([0.005 < mask.mean() < 0.95 for mask in masks]) > 0.7


@pytest.mark.parametrize("drawing", DRAWINGS, ids=lambda drawing: drawing.__name__)
def test_a_drawing_looks_the_same_at_every_size(drawing: Drawing) -> None:
    small, large = (np.mean([m.mean() for m in drawn(drawing, 12, size)]) for size in (96, 192))
    assert small == pytest.approx(large, rel=0.5)


@pytest.mark.parametrize("drawing", [fence, net, foliage, hair, wires], ids=lambda d: d.__name__)
def test_thin_things_have_thin_parts(drawing: Drawing) -> None:
    square = np.ones((5, 5), np.uint8)
    masks = drawn(drawing, 9)
    opened = (cv2.morphologyEx(mask, cv2.MORPH_OPEN, square) for mask in masks)
    lost = [np.any(mask > left) for mask, left in zip(masks, opened, strict=True)]
    assert np.mean(lost) > 0.6


def test_people_often_have_holes_between_limbs_and_body() -> None:
    holed = [bool(holes(mask)) for mask in drawn(people, 40, 160)]
    assert 0.3 < np.mean(holed) < 0.95


def test_the_sky_is_above() -> None:
    for mask in drawn(sky, 12):
        assert mask[:20].mean() >= mask[-20:].mean()


def test_a_capsule_is_its_two_disks_and_what_is_between() -> None:
    ends = np.array([[[20.0, 30.0], [70.0, 30.0]]])
    radii = np.array([[12.0, 6.0]])
    mask = np.zeros((60, 96), np.uint8)
    draw(mask, capsules(ends, radii, steps=40))
    area = np.pi / 2 * (12**2 + 6**2) + 50 * (12 + 6)
    perimeter = np.pi * (12 + 6) + 2 * 50
    # OpenCV also fills the pixels that the outline only touches.
    assert mask.sum() == pytest.approx(area + perimeter / 2, rel=0.02)
    rows, columns = np.nonzero(mask)
    assert rows.mean() + 0.5 == pytest.approx(30, abs=0.3)  # symmetric about its axis
    assert columns.min() == pytest.approx(8, abs=1)
    assert columns.max() == pytest.approx(75, abs=1)
