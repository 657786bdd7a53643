import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import trimesh

from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.masks import (
    FILL,
    PEOPLE_DRAWN,
    CocoMasks,
    DrawnMask,
    DrawnShapes,
    FolderMasks,
    InstanceMasks,
    MaskKind,
    MaskSource,
    MixedMasks,
    SilhouetteMasks,
)
from crispdepth.data.perturb import holes
from crispdepth.data.strokes import Mask, Rng
from crispdepth.io.images import write_image

FrameMaker = Callable[[int], RgbdFrame]


def square(rng: Rng, size: int) -> Mask:
    mask = np.zeros((size, size), np.uint8)
    mask[size // 4 : -size // 4, size // 4 : -size // 4] = 1
    return mask


def frame(rng: Rng, size: int) -> Mask:
    mask = square(rng, size)
    mask[size // 2 - 2 : size // 2 + 2, size // 2 - 2 : size // 2 + 2] = 0
    return mask


def blank(rng: Rng, size: int) -> Mask:
    return np.zeros((size, size), np.uint8)


@dataclass
class Alternating:
    """People with and without a hole by turns."""

    drawn: int = 0

    def draw(self, rng: Rng, size: int) -> DrawnMask:
        self.drawn += 1
        return DrawnMask((frame if self.drawn % 2 else square)(rng, size), "human")


def assert_usable(drawn: DrawnMask, size: int, kind: MaskKind) -> None:
    assert drawn.kind == kind
    assert drawn.values.shape == (size, size)
    assert drawn.values.dtype == np.uint8
    assert drawn.values.flags.c_contiguous
    assert set(np.unique(drawn.values)) == {0, 1}
    assert FILL[0] <= drawn.values.mean() <= FILL[1]


def test_kinds_come_in_the_proportions_of_the_paper(rng: np.random.Generator) -> None:
    masks = MixedMasks(
        (DrawnShapes((square,), "object"),), (DrawnShapes((square,), "stuff"),), (Alternating(),)
    )
    draws = [masks.draw(rng, 16) for _ in range(10_000)]
    holed = Counter((d.kind, bool(holes(d.values))) for d in draws)
    observed = np.array(
        [holed["object", False], holed["stuff", False], holed["human", True], holed["human", False]]
    )
    expected = np.array([5000, 2000, 1500, 1500])
    assert observed.sum() == 10_000
    chi_square = float(((observed - expected) ** 2 / expected).sum())
    assert chi_square < 16.27  # 99.9 % of the chi-square distribution of 3 degrees of freedom


def test_sources_of_a_kind_are_equally_likely(rng: np.random.Generator) -> None:
    sources: tuple[MaskSource, ...] = tuple(
        DrawnShapes((shape,), "object") for shape in (square, frame)
    )
    masks = replace(MixedMasks(), objects=sources, shares=(1, 0, 0))
    holed = [bool(holes(masks.draw(rng, 16).values)) for _ in range(400)]
    assert 0.4 < np.mean(holed) < 0.6


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_drawn_people_have_holes_as_asked(share: float, rng: np.random.Generator) -> None:
    masks = MixedMasks(shares=(0, 0, 1), holed=share)
    for _ in range(12):
        drawn = masks.draw(rng, 96)
        assert_usable(drawn, 96, "human")
        assert bool(holes(drawn.values)) == bool(share)


def test_the_mixture_needs_no_data_and_repeats_itself() -> None:
    first, second = (MixedMasks().draw(np.random.default_rng(3), 64) for _ in range(2))
    np.testing.assert_array_equal(first.values, second.values)
    assert_usable(first, 64, second.kind)


def test_a_kind_without_a_source_is_refused() -> None:
    with pytest.raises(ValueError, match="no mask source for stuff"):
        MixedMasks(stuff=())


def test_people_that_never_have_holes_are_reported(rng: np.random.Generator) -> None:
    masks = MixedMasks(humans=(DrawnShapes((square,), "human"),), shares=(0, 0, 1), holed=1)
    with pytest.raises(ValueError, match="pass holed=0"):
        masks.draw(rng, 16)


def test_useless_masks_are_passed_over(rng: np.random.Generator) -> None:
    source = DrawnShapes((blank, square), "object")
    for _ in range(10):
        assert_usable(source.draw(rng, 16), 16, "object")
    with pytest.raises(ValueError, match="could be used"):
        DrawnShapes((blank,), "object").draw(rng, 16)


def test_instances_are_cropped_whole(make_frame: FrameMaker, rng: np.random.Generator) -> None:
    source = InstanceMasks([make_frame(0), replace(make_frame(1), instances=None)])
    for _ in range(20):
        drawn = source.draw(rng, 64)
        assert_usable(drawn, 64, "object")
        assert drawn.values.sum() == 30 * 24  # fits, so it is not resized


def test_silhouettes_of_meshes_are_masks(rng: np.random.Generator) -> None:
    torus = trimesh.creation.torus(1.0, 0.2)
    source = SilhouetteMasks.of_meshes([torus], rng, views=3, size=48)
    for _ in range(5):
        assert_usable(source.draw(rng, 32), 32, "object")


def test_a_folder_of_mask_pictures_is_a_source(tmp_path: Path, rng: np.random.Generator) -> None:
    (tmp_path / "sub").mkdir()
    write_image(tmp_path / "sub" / "a.png", square(rng, 60) * np.uint8(255))
    (tmp_path / "notes.txt").write_text("no mask")
    source = FolderMasks(tmp_path, "human")
    drawn = source.draw(rng, 64)
    assert_usable(drawn, 64, "human")
    assert drawn.values.sum() == 30 * 30


def test_a_folder_without_masks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no mask file"):
        FolderMasks(tmp_path, "object")
    with pytest.raises(FileNotFoundError, match="no mask folder"):
        FolderMasks(tmp_path / "missing", "object")


def test_coco_masks_are_chosen_by_kind(tmp_path: Path, rng: np.random.Generator) -> None:
    names = ("person", "sky-other", "chair")
    content = {
        "images": [{"id": 0, "height": 40, "width": 60}],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
        "annotations": [
            {
                "image_id": 0,
                "category_id": i,
                "segmentation": {"size": [40, 60], "counts": [600, 40 * (i + 20), 1000 - 40 * i]},
            }
            for i in range(3)
        ],
    }
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(content))
    expected: dict[MaskKind, int] = {"human": 20, "object": 22}
    for kind, columns in expected.items():
        drawn = CocoMasks(path, kind).draw(rng, 64)
        assert_usable(drawn, 64, kind)
        assert drawn.values.sum() == 40 * columns
    assert_usable(CocoMasks(path, "stuff").draw(rng, 64), 64, "stuff")


def test_a_coco_file_without_the_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "coco.json"
    path.write_text('{"images": [], "categories": [], "annotations": []}')
    with pytest.raises(ValueError, match="no annotation of kind human"):
        CocoMasks(path, "human")


def test_sources_name_themselves_in_errors_without_their_data(make_frame: FrameMaker) -> None:
    assert len(repr(InstanceMasks([make_frame(0)] * 50))) < 100
    assert "people" in repr(PEOPLE_DRAWN)
