"""Photos at working size: what their masks let them say to other views."""

import numpy as np
from numpy.typing import NDArray

from crispdepth.ops.mask_contract import grow
from crispdepth.tasks.multiview_photos import crop, prepare
from crispdepth.types import Camera, MaskRole, MaskSet, View

SIZE = (48, 64)


def shown(mask: NDArray[np.bool_], role: MaskRole = "object") -> View:
    image = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)
    camera = Camera(np.array([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]]), SIZE)
    return View(image, "a.png", camera, masks=MaskSet(mask[None], role=role))


def test_what_grazes_a_thick_silhouette_may_speak_and_beside_a_wire_nothing() -> None:
    thick, wire = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    thick[10:40, 8:30] = True
    wire[:, 50:53] = True
    photo = prepare(shown(thick | wire), SIZE)
    assert photo.source_weight is not None
    assert (photo.source_weight[:, 42:] == wire[:, 42:]).all()
    beside = grow(thick.astype(np.float32), 2)
    assert (photo.source_weight[14:36, :42] == beside[14:36, :42]).all()  # corners are round
    assert (photo.source_weight[:, :42] <= beside[:, :42]).all()
    assert photo.evidence.weight is not None
    assert (photo.source_weight >= photo.evidence.weight).all()


def test_what_is_ignored_and_what_has_no_mask_stays_as_it_is() -> None:
    mask = np.zeros(SIZE, bool)
    mask[10:40, 8:30] = True
    photo = prepare(shown(mask, "ignore"), SIZE)
    assert photo.source_weight is photo.evidence.weight
    assert prepare(shown(np.ones(SIZE, bool)), SIZE).source_weight is None


def test_a_crop_has_the_part_that_is_cut_out() -> None:
    mask = np.zeros(SIZE, bool)
    mask[10:40, 8:30] = True
    photo = prepare(shown(mask), SIZE)
    part, region = crop(photo)
    assert part.source_weight is not None
    assert photo.source_weight is not None
    assert (part.source_weight == photo.source_weight[region]).all()
