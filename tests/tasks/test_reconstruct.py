from dataclasses import replace

import cv2
import numpy as np
import pytest

from crispdepth.tasks.reconstruct import make_splats, refined_depth, spread
from crispdepth.tasks.reconstruct_config import SPLATS, ReconstructConfig
from crispdepth.types import DepthMap, MaskSet, View, ViewDepth
from tests.analytic import around, sphere_depth


def ball_views(count: int, size: int) -> list[tuple[View, ViewDepth]]:
    views = []
    for index, camera in enumerate(around(count, 3.0, (size, size))):
        values = sphere_depth(camera)
        depth = DepthMap(values, "depth", "m", camera=camera)
        image = np.where(values[..., None] > 0, 150, 0).astype(np.uint8).repeat(3, axis=2)
        masks = MaskSet((values > 0).astype(np.float32)[None])
        view = View(image, f"{index}.png", camera, depth, masks)
        views.append((view, ViewDepth(depth, depth.usable.astype(np.float32))))
    return views


@pytest.mark.parametrize(("count", "most"), [(5, 8), (8, 8), (125, 64), (3, 1)])
def test_a_spread_is_even_and_keeps_the_ends(count: int, most: int) -> None:
    chosen = spread(count, most)
    assert len(chosen) == len(set(chosen)) == min(count, most)
    assert chosen == sorted(chosen)
    assert chosen[0] == 0
    if most > 1:
        assert chosen[-1] == count - 1
        steps = np.diff(chosen)
        assert steps.max() - steps.min() <= 1


def test_there_are_about_as_many_gaussians_as_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = SPLATS["preview"]._replace(gaussians=400, steps=0)
    monkeypatch.setitem(SPLATS, "preview", budget)
    views = ball_views(12, 96)
    assert sum(int(depth.depth.usable.sum()) for _, depth in views) > 20 * 400
    found = make_splats(views, ReconstructConfig(quality="preview"))
    assert 0.4 * 400 < len(found) <= 2 * 400
    np.testing.assert_allclose(np.linalg.norm(found.means, axis=1), 1, atol=0.1)


def test_without_any_depth_there_is_nothing_to_start_from() -> None:
    (view, depth), *_ = ball_views(1, 32)
    none = ViewDepth(depth.depth, np.zeros_like(depth.confidence))
    with pytest.raises(ValueError, match="No view has a pixel of known depth"):
        make_splats([(view, none)], ReconstructConfig(quality="preview"))


def test_refining_leaves_validity_and_trust_and_needs_masks_of_objects() -> None:
    (view, found), *_ = ball_views(1, 96)
    camera = view.camera
    behind = np.where(found.depth.values > 0, found.depth.values, 4).astype(np.float32)
    soft = cv2.GaussianBlur(behind, (0, 0), 3).astype(np.float32)
    valid = np.ones_like(found.depth.usable)
    valid[:4] = False
    rough = ViewDepth(DepthMap(soft, "depth", "m", valid, camera), valid * np.float32(0.5))
    crisp = refined_depth(view, rough)
    np.testing.assert_array_equal(crisp.depth.usable, rough.depth.usable)
    np.testing.assert_array_equal(crisp.confidence, rough.confidence)
    rim = np.abs(soft - behind) > 0.1
    rim[:4] = False
    before, after = (np.abs(each - behind)[rim].mean() for each in (soft, crisp.depth.values))
    assert after < 0.7 * before
    assert refined_depth(replace(view, masks=None), rough) is rough
    # What was only filled stays, and has no say in what becomes of the rest.
    hole = rough.trusted.copy()
    hole[20:30, 20:30] = False
    filled = ViewDepth(rough.depth, hole.astype(np.float32))
    without = ViewDepth(replace(rough.depth, valid=hole), hole.astype(np.float32))
    told, untold = (refined_depth(view, each).depth.values for each in (filled, without))
    np.testing.assert_array_equal(told[hole], untold[hole])
    np.testing.assert_array_equal(told[20:30, 20:30], rough.depth.values[20:30, 20:30])
    assert view.masks is not None
    ignoring = replace(view, masks=replace(view.masks, role="ignore"))
    assert refined_depth(ignoring, rough) is rough
