"""Depth of a wall and a ball before it, by the classical sweep."""

import gc
import threading
import weakref
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from crispdepth.ops.mask_contract import erode
from crispdepth.tasks import multiview
from crispdepth.tasks.multiview import estimate_depths
from crispdepth.tasks.multiview_agreement import (
    Estimate,
    Neighbour,
    agreeing,
    corrected,
    seen_from,
)
from crispdepth.tasks.multiview_config import MultiviewConfig
from crispdepth.tasks.multiview_matching import Matching
from crispdepth.tasks.multiview_photos import Photo, crop
from crispdepth.types import (
    Camera,
    MaskSet,
    PointCloud,
    Scene,
    View,
    ViewDepth,
    scene_of_views,
)
from tests.wall_and_ball import FULL, SIZE, camera, masked, on_ball, row, see

BOUNDS = MultiviewConfig(near=1.5, far=6.0, sources=4)


def depths(scene: Scene, config: MultiviewConfig = BOUNDS) -> list[ViewDepth]:
    found = list(estimate_depths(scene, config))
    assert [index for index, _ in found] == list(range(len(scene)))
    for index, each in found:
        assert each.confidence.shape == each.depth.size
        assert each.depth.camera is not None
        np.testing.assert_allclose(
            each.depth.camera.cam_from_world, scene.cameras[index].cam_from_world
        )
    return [each for _, each in found]


def apart(found: ViewDepth, view: View) -> NDArray[np.float32]:
    """Relative errors of the valid pixels."""
    assert view.depth is not None
    true = view.depth.values[found.depth.usable]
    return np.asarray(np.abs(found.depth.values[found.depth.usable] - true) / true)


@pytest.fixture(scope="module")
def views() -> list[View]:
    return row()


@pytest.fixture(scope="module")
def plain(views: list[View]) -> list[ViewDepth]:
    return depths(scene_of_views(views))


def test_wall_and_ball_are_found(views: list[View], plain: list[ViewDepth]) -> None:
    for view, found in zip(views, plain, strict=True):
        errors = apart(found, view)
        assert found.depth.usable.mean() > 0.7
        assert np.median(errors) < 0.01
        assert (errors < 0.03).mean() > 0.95


def test_confident_pixels_are_the_right_ones(views: list[View], plain: list[ViewDepth]) -> None:
    errors = np.concatenate([apart(f, v) for f, v in zip(plain, views, strict=True)])
    sure = np.concatenate([found.confidence[found.depth.usable] for found in plain])
    best = errors[sure > np.median(sure)]
    assert best.mean() < errors.mean()
    assert (sure[errors > 0.1] < np.median(sure)).mean() > 0.8


def test_with_bounds_of_its_own_a_scene_needs_none_from_the_user(views: list[View]) -> None:
    plain = scene_of_views(views)
    rng = np.random.default_rng(0)
    points = PointCloud(rng.uniform((-1, -1, 2), (1, 1, 4), (200, 3)).astype(np.float32))
    for scene in (replace(plain, bounds=(1.5, 6.0)), replace(plain, points=points), plain):
        ((_, found),) = estimate_depths(scene, MultiviewConfig(sources=4), indices=[2])
        assert (apart(found, views[2]) < 0.03).mean() > 0.9
        assert found.depth.usable.mean() > 0.5


def test_beside_an_object_nothing_is_valid_and_inside_all_is_right(views: list[View]) -> None:
    scene = scene_of_views(masked(views))
    for view, found in zip(views, depths(scene, MultiviewConfig(sources=4)), strict=True):
        inside = on_ball(view)
        assert not found.depth.usable[~inside].any()
        assert (found.confidence[~inside] == 0).all()
        assert found.depth.usable[inside].mean() > 0.7
        assert np.median(apart(found, view)) < 0.02


def test_in_the_mask_of_an_object_what_is_not_confirmed_is_as_others_show_it(
    views: list[View],
) -> None:
    strict = replace(BOUNDS, consistent=4)
    every = depths(scene_of_views(masked(views)), strict)
    known = [
        Neighbour.of(
            Estimate.of(replace(found, depth=replace(found.depth, valid=found.trusted))),
            torch.device("cpu"),
        )
        for found in every
    ]
    filled, usable, errors = 0, [], []
    for number, (view, found) in enumerate(zip(views, every, strict=True)):
        assert view.camera is not None
        assert not found.depth.usable[~on_ball(view)].any()
        more = found.depth.usable & (found.confidence == 0)
        filled += int(more.sum())
        shown = [seen_from(view.camera, known[i]) for i in range(len(views)) if i != number]
        apart = np.abs(found.depth.values * torch.stack(shown).numpy() - 1).min(axis=0)
        assert apart[more].max() < 1e-5
        error = np.abs(found.depth.values / (view.depth or found.depth).values - 1)
        usable.append(error[found.depth.usable])
        errors.append(error[more])
    assert filled > 100
    assert np.median(np.concatenate(usable)) < 0.01
    assert np.median(np.concatenate(errors)) < 0.03
    others = [replace(view, masks=None) for view in views], masked(views, "ignore")
    for without in others:
        for found in depths(scene_of_views(without), strict):
            assert (found.confidence[found.depth.usable] > 0).all()


def test_depth_inside_an_object_does_not_depend_on_its_background(views: list[View]) -> None:
    def other_background(view: View) -> View:
        assert view.camera is not None
        noise = np.random.default_rng(ord(view.name[0])).integers(0, 255, (*SIZE, 3), np.uint8)
        return replace(view, image=np.where(on_ball(view)[..., None], view.image, noise))

    first = depths(scene_of_views(masked(views)))[2]
    second = depths(scene_of_views(masked([other_background(view) for view in views])))[2]
    both = first.depth.usable & second.depth.usable
    assert both.sum() > 0.9 * first.depth.usable.sum()
    same = np.isclose(first.depth.values, second.depth.values, rtol=1e-4)[both]
    assert same.mean() > 0.99


def test_masks_of_ones_are_no_masks(views: list[View], plain: list[ViewDepth]) -> None:
    ones = [replace(view, masks=MaskSet(np.ones((1, *SIZE), np.uint8) * 255)) for view in views]
    for found, before in zip(depths(scene_of_views(ones)), plain, strict=True):
        np.testing.assert_array_equal(found.depth.values, before.depth.values)
        np.testing.assert_array_equal(found.confidence, before.confidence)


def test_an_ignored_part_gets_no_depth_and_the_rest_does(views: list[View]) -> None:
    ignoring = [replace(view, masks=MaskSet(on_ball(view)[None], role="ignore")) for view in views]
    found = depths(scene_of_views(ignoring))[2]
    assert not found.depth.usable[on_ball(views[2])].any()
    assert found.depth.usable[~on_ball(views[2])].mean() > 0.6
    assert np.median(apart(found, views[2])) < 0.01


def test_views_with_unknown_and_empty_masks_do_no_harm(views: list[View]) -> None:
    some = masked(views)
    some[0] = replace(views[0], masks=None)
    some[4] = replace(views[4], masks=MaskSet(np.zeros((1, *SIZE), np.uint8)))
    found = depths(scene_of_views(some), MultiviewConfig(sources=4))
    assert not found[4].depth.usable.any()
    assert np.median(apart(found[2], views[2])) < 0.02
    assert found[2].depth.usable[on_ball(views[2])].mean() > 0.5


def test_different_intrinsics_of_every_view(views: list[View]) -> None:
    zoomed = [
        see(camera(x, np.diag([f, f, 1]) @ FULL + [[0, 0, c], [0, 0, -c], [0, 0, 0]]), f"{i}.png")
        for i, (x, f, c) in enumerate(((-0.3, 0.9, 3), (0, 1.1, -5), (0.3, 1.25, -9)))
    ]
    found = depths(scene_of_views(zoomed))
    assert np.median(apart(found[1], zoomed[1])) < 0.01
    assert found[1].depth.usable.mean() > 0.4


def test_scaling_the_world_scales_the_depths(plain: list[ViewDepth]) -> None:
    config = replace(BOUNDS, near=15.0, far=60.0)
    large = depths(scene_of_views(row(scale=10)), config)[2]
    both = large.depth.usable & plain[2].depth.usable
    assert both.sum() > 0.98 * plain[2].depth.usable.sum()
    np.testing.assert_allclose(
        np.median(large.depth.values[both] / plain[2].depth.values[both]), 10, rtol=1e-5
    )


def test_the_order_of_the_views_does_not_matter(views: list[View], plain: list[ViewDepth]) -> None:
    found = depths(scene_of_views(views[::-1]))[::-1]
    for one, other in zip(found, plain, strict=True):
        same = np.isclose(one.depth.values, other.depth.values, rtol=1e-4)
        assert same.mean() > 0.99


@pytest.mark.parametrize("count", [2, 12])
def test_any_number_of_views_and_twin_cameras(count: int) -> None:
    scene = row(count)
    twin = replace(scene[0], name="twin.png")
    for found in depths(scene_of_views([*scene, twin]), replace(BOUNDS, sources=2)):
        assert np.isfinite(found.depth.values).all()
        assert np.isfinite(found.confidence).all()


def test_a_wanted_part_equals_the_whole(views: list[View], plain: list[ViewDepth]) -> None:
    some = list(estimate_depths(scene_of_views(views), BOUNDS, indices=[1, 3]))
    assert [index for index, _ in some] == [1, 3]
    for index, found in some:
        np.testing.assert_array_equal(found.depth.values, plain[index].depth.values)


@pytest.mark.parametrize("threads", [1, 3])
def test_views_side_by_side_find_the_same(views: list[View], threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        # Each has one thread, so sums have one order.
        ((_, alone),) = estimate_depths(scene_of_views(views), BOUNDS, indices=[2])
        for index, found in estimate_depths(scene_of_views(views), BOUNDS):
            if index == 2:
                np.testing.assert_array_equal(found.depth.values, alone.depth.values)
                np.testing.assert_array_equal(found.confidence, alone.confidence)
    finally:
        torch.set_num_threads(before)


def test_estimates_are_forgotten_when_all_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[NDArray[np.float32]]] = []
    for name in ("_match", "_correct"):
        task = getattr(multiview._Matcher, name)

        def noted(*arguments: Any, task: Callable[..., Estimate] = task) -> Estimate:
            found = task(*arguments)
            made.append(weakref.ref(found.inverse))
            return found

        monkeypatch.setattr(multiview._Matcher, name, noted)
    wanted = estimate_depths(scene_of_views(row(9)), replace(BOUNDS, sources=1, neighbours=1))
    for _ in range(8):
        next(wanted)
    gc.collect()
    assert len(made) > 18
    # Of nine views and three rounds: those of the last and of views that it asks, at most.
    assert sum(each() is not None for each in made) < 9


def test_who_wants_nothing_has_nothing_read() -> None:
    def read(index: int) -> View:
        raise AssertionError(index)

    scene = replace(scene_of_views(row(3)), read=read)
    assert not list(estimate_depths(scene, BOUNDS, indices=[]))


def test_a_view_is_matched_with_its_best_others_and_corrected_by_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts: dict[str, set[int]] = {"match": set(), "compared": set()}
    match, compared = Matching.match, Matching.compared

    def counted_match(self: Matching, index: int, chosen: tuple[int, ...], *rest: Any) -> Estimate:
        counts["match"].add(len(chosen))
        return match(self, index, chosen, *rest)

    def counted_compared(
        self: Matching, photo: Photo, chosen: Sequence[int]
    ) -> Callable[[Tensor], Tensor]:
        counts["compared"].add(len(chosen))
        return compared(self, photo, chosen)

    monkeypatch.setattr(Matching, "match", counted_match)
    monkeypatch.setattr(Matching, "compared", counted_compared)
    asked: set[int] = set()

    def counted(
        camera: Camera, inverse: Tensor, others: Sequence[Neighbour], *rest: Any, **more: Any
    ) -> Tensor:
        asked.add(len(others))
        return corrected(camera, inverse, others, *rest, **more)

    monkeypatch.setattr(multiview, "corrected", counted)
    config = replace(BOUNDS, sources=1, neighbours=3)
    next(estimate_depths(scene_of_views(row(6)), config, indices=[2]))
    assert counts == {"match": {1}, "compared": {1}}
    assert asked == {3}


def test_what_views_have_told_each_other_is_no_evidence(views: list[View]) -> None:
    scene = scene_of_views(views)
    config = replace(BOUNDS, consistent=1, tolerance=0.02)
    alone = dict(estimate_depths(scene, replace(config, consistent=0)))
    cpu = torch.device("cpu")

    def found(index: int) -> Estimate:
        depth = alone[index].depth
        assert depth.camera is not None
        return Estimate(depth.camera, np.reciprocal(depth.values), alone[index].confidence)

    others = [Neighbour.of(found(index), cpu) for index in range(len(views)) if index != 2]
    ((_, confirmed),) = estimate_depths(scene, config, indices=[2])
    inverse = torch.as_tensor(1 / np.where(confirmed.depth.usable, confirmed.depth.values, 1))
    agree = agreeing(scene.cameras[2], inverse, others, config.tolerance).views.numpy()
    # Those whose depth is not their own agree with one view more: with the one that had it.
    own = np.abs(alone[2].depth.values * inverse.numpy() - 1) <= config.tolerance
    assert (agree >= np.where(own, 1, 2))[confirmed.depth.usable].all()
    assert (~own & confirmed.depth.usable).any()


def test_who_wants_no_more_depths_leaves_nothing_running(views: list[View]) -> None:
    before = threading.active_count()
    wanted = estimate_depths(scene_of_views(views), BOUNDS)
    assert isinstance(wanted, Generator)
    assert next(wanted)[0] == 0
    wanted.close()
    assert threading.active_count() == before


def test_a_photo_that_cannot_be_read_says_so(views: list[View]) -> None:
    def read(index: int) -> View:
        if index == 3:
            raise OSError("gone.png cannot be read")
        return views[index]

    with pytest.raises(OSError, match=r"gone\.png"):
        list(estimate_depths(replace(scene_of_views(views), read=read), BOUNDS))


def test_a_wall_without_texture_is_no_crash_and_nothing_to_be_sure_of(views: list[View]) -> None:
    blank = [replace(view, image=np.full_like(view.image, 127)) for view in views]
    for found in depths(scene_of_views(blank)):
        assert found.confidence.max() < 0.1


def test_a_view_that_no_other_overlaps_gets_no_depth_and_a_note(views: list[View]) -> None:
    away = np.diag([-1.0, 1, -1, 1])
    away[0, 3] = 0.3
    alone = replace(views[0], name="away.png", camera=Camera(FULL, SIZE, away), depth=None)
    notes: list[str] = []
    scene = scene_of_views([*views, alone])
    found = dict(estimate_depths(scene, BOUNDS, note=notes.append))
    assert not found[5].depth.usable.any()
    assert (found[5].confidence == 0).all()
    assert [note for note in notes if "away.png" in note]
    assert found[2].depth.usable.mean() > 0.7


def test_without_a_baseline_the_error_says_so(views: list[View]) -> None:
    with pytest.raises(ValueError, match="needs two or more"):
        estimate_depths(scene_of_views(views[:1]))
    twins = [replace(views[0], name=name) for name in ("a.png", "b.png")]
    with pytest.raises(ValueError, match="in one place"):
        estimate_depths(scene_of_views(twins))


def test_photos_are_refined_at_their_own_size() -> None:
    K = np.diag([4.75, 4.75, 1]) @ FULL
    large = []
    for i, x in enumerate((-0.16, 0, 0.16)):
        seen_by = Camera(K, (285, 380), camera(x).cam_from_world)
        large.append(see(seen_by, f"{i}.png"))
    config = replace(BOUNDS, quality="normal")
    ((_, found),) = estimate_depths(scene_of_views(large), config, indices=[1])
    assert found.depth.size == (285, 380)
    assert found.depth.usable.mean() > 0.6
    assert np.median(apart(found, large[1])) < 0.007


@pytest.mark.parametrize(
    "wrong",
    [
        {"sources": 0},
        {"sources": 5, "neighbours": 4},
        {"corrections": 0},
        {"consistent": -1},
        {"tolerance": 0.0},
        {"near": 1.0},
        {"near": 2.0, "far": 1.0},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"got|neither"):
        MultiviewConfig(**wrong)  # type: ignore[arg-type]


def test_without_confirmation_no_other_view_is_matched(views: list[View]) -> None:
    asked: list[int] = []
    scene = scene_of_views(views)

    def read(index: int) -> View:
        asked.append(index)
        return views[index]

    config = replace(BOUNDS, consistent=0, sources=1, neighbours=1)
    ((index, found),) = estimate_depths(replace(scene, read=read), config, indices=[2])
    assert index == 2
    assert 2 in asked
    assert len(set(asked)) == 2  # itself and its source
    assert found.depth.usable.mean() > 0.9


def test_a_mask_without_anything_costs_the_other_views_little(views: list[View]) -> None:
    """As if its view were not there; bounds are those of the masks."""
    config = MultiviewConfig(sources=4, consistent=1)
    shown, nothing = masked(views), MaskSet(np.zeros((1, *SIZE), np.uint8))
    without = depths(scene_of_views([shown[i] for i in (0, 2, 3, 4)]), config)
    shown[1] = replace(shown[1], masks=nothing)
    found = depths(scene_of_views(shown), config)
    for one, other in zip([found[i] for i in (0, 2, 3, 4)], without, strict=True):
        assert one.trusted.sum() > 0.9 * other.trusted.sum()


def test_a_view_whose_mask_is_empty_is_named_and_others_are_as_if_it_were_not_there(
    views: list[View],
) -> None:
    shown = masked(views)
    others = depths(scene_of_views([shown[i] for i in (0, 2, 3)]))
    shown[1] = replace(shown[1], masks=MaskSet(np.zeros((1, *SIZE), np.uint8)))
    said: list[str] = []
    found = [
        found for _, found in estimate_depths(scene_of_views(shown[:4]), BOUNDS, note=said.append)
    ]
    assert [line.split(":")[0] for line in said] == ["1.png"]
    assert "its mask is empty" in said[0]
    for one, other in zip([found[i] for i in (0, 2, 3)], others, strict=True):
        np.testing.assert_array_equal(one.depth.usable, other.depth.usable)
        np.testing.assert_array_equal(one.depth.values, other.depth.values)


def test_views_of_which_nothing_is_confirmed_are_named(views: list[View]) -> None:
    said: list[str] = []
    scene = scene_of_views([views[0], replace(views[1], name="other.png")])
    for _ in estimate_depths(scene, replace(BOUNDS, tolerance=1e-7), note=said.append):
        pass
    assert [line.split(":")[0] for line in said] == ["0.png", "other.png"]
    assert "confirm" in said[0]


def test_at_the_rim_of_a_mask_depth_before_the_true_one_costs_as_much_as_behind(
    views: list[View],
) -> None:
    """Cut exactly there, of the depths before it less would lie within the other silhouettes."""
    matching = Matching(scene_of_views(masked(views)), BOUNDS, None, torch.device("cpu"))
    photo = matching.photo(2, SIZE)
    _, region = crop(photo)
    cost = matching.compared(photo, (0, 1, 3, 4))
    inside = on_ball(views[2])
    rim = (inside & ~erode(inside.astype(np.float32), 1).astype(bool))[region]
    assert views[2].depth is not None
    true = torch.tensor(1 / views[2].depth.values[region])
    before, behind = (float(cost(true * share).numpy()[rim].mean()) for share in (1.02, 0.98))
    assert abs(before - behind) < 0.01


def test_what_is_round_is_not_flattened(views: list[View]) -> None:
    alone, scene = replace(BOUNDS, consistent=0), scene_of_views(masked(views))
    signed = [
        (found.depth.values / view.depth.values - 1)[found.depth.usable]
        for view, found in zip(views, depths(scene, alone), strict=True)
        if view.depth is not None
    ]
    assert abs(np.median(np.concatenate(signed))) < 0.007  # planes are 0.03 apart
