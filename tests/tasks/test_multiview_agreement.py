"""Views that correct each other, on a wall and a ball whose depths are known."""

import numpy as np
import pytest
import torch
from torch import Tensor

from crispdepth.geometry.backproject import pixel_rays
from crispdepth.tasks.multiview_agreement import (
    Estimate,
    Neighbour,
    agreeing,
    corrected,
    largest_about,
    medians_at,
    seen_from,
    shown_by_others,
)
from crispdepth.types import Camera, View
from tests.wall_and_ball import SIZE, WALL, camera, on_ball, row

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def views() -> list[View]:
    return row()


def truth(view: View) -> Tensor:
    assert view.depth is not None
    return torch.tensor(view.depth.values).reciprocal()


def neighbour(view: View, inverse: Tensor | None = None) -> Neighbour:
    assert view.camera is not None
    found = (truth(view) if inverse is None else inverse).numpy()
    return Neighbour.of(Estimate(view.camera, found, np.ones_like(found)), CPU)


def correct(view: View, inverse: Tensor, others: list[Neighbour], cost: Tensor) -> Tensor:
    """With the cost of each depth as wrong as the depth is, or the same everywhere."""
    assert view.camera is not None
    guide = torch.as_tensor(view.image / np.float32(255))
    found = corrected(view.camera, inverse, others, lambda rho: cost + 0 * rho, guide, None, 0.02)
    return found


@pytest.mark.parametrize("radius", [1, 2, 5, 8])
def test_the_largest_of_windows_is_that_of_max_pooling(radius: int) -> None:
    values = torch.randn(2, 13, 22)
    values[0, 3:9] = -torch.inf
    pooled = torch.nn.functional.max_pool2d(values[None], 2 * radius + 1, 1, radius)[0]
    assert (largest_about(values, radius) == pooled).all()


def test_true_depths_agree_wherever_another_view_sees_the_same(views: list[View]) -> None:
    assert views[0].camera is not None
    found = agreeing(views[0].camera, truth(views[0]), [neighbour(views[1])], 0.02)
    seen = (found.views > 0).float()
    assert seen.mean() > 0.8
    assert (found.closeness <= found.views).all()
    wrong = agreeing(views[0].camera, 1.3 * truth(views[0]), [neighbour(views[1])], 0.02)
    assert (wrong.views > 0).float().mean() < 0.02


def test_what_another_view_shows_lies_where_the_own_depth_does(views: list[View]) -> None:
    assert views[0].camera is not None
    seen = seen_from(views[0].camera, neighbour(views[1]))
    there = seen > 0
    assert there.float().mean() > 0.85
    error = (seen / truth(views[0]) - 1).abs()[there]
    assert error.median() < 0.002
    assert (error < 0.02).float().mean() > 0.95


def test_a_view_is_seen_by_itself_as_it_is(views: list[View]) -> None:
    assert views[0].camera is not None
    seen = seen_from(views[0].camera, neighbour(views[0]))
    torch.testing.assert_close(seen, truth(views[0]), rtol=1e-5, atol=0)


def test_a_wrong_patch_is_replaced_by_what_the_others_agree_about(views: list[View]) -> None:
    view, rest = views[2], [neighbour(views[i]) for i in (0, 1, 3)]
    inverse = truth(view).clone()
    patch = (slice(20, 40), slice(20, 40))
    inverse[patch] *= 1.5
    assert view.camera is not None
    guide = torch.as_tensor(view.image / np.float32(255))
    found = corrected(view.camera, inverse, rest, torch.zeros_like, guide, None, 0.02)
    before, after = ((x / truth(view) - 1).abs()[patch] for x in (inverse, found))
    assert before.min() > 0.4
    assert after.median() < 0.01


def test_what_looks_right_stays_whatever_others_say(views: list[View]) -> None:
    view = views[2]
    assert view.camera is not None
    inverse = truth(view)
    others = [neighbour(views[i], 1.5 * truth(views[i])) for i in (0, 1, 3)]
    guide = torch.as_tensor(view.image / np.float32(255))

    def cost(rho: Tensor) -> Tensor:
        return ((rho / inverse - 1).abs() > 0.01).float()

    found = corrected(view.camera, inverse, others, cost, guide, None, 0.02)
    assert ((found / inverse - 1).abs() < 0.01).float().mean() > 0.9  # all but along edges


def test_of_depths_that_as_many_show_the_nearest_is_taken(views: list[View]) -> None:
    view, own = views[0], truth(views[0])
    assert view.camera is not None
    others = [neighbour(view, factor * own) for factor in (1.2, 1.6, 1.1, 1.4, 1.3)]
    guide = torch.as_tensor(view.image / np.float32(255))
    found = corrected(view.camera, own, others, lambda rho: (rho == own).float(), guide, None, 0.02)
    assert ((found / own - 1.6).abs() < 1e-3).float().mean() > 0.9


def test_the_median_of_depths_that_agree_is_less_noisy(views: list[View]) -> None:
    view = views[2]
    rng = torch.Generator().manual_seed(0)

    def noisy(view: View) -> Tensor:
        true = truth(view)
        return true * (1 + 0.003 * torch.randn(true.shape, generator=rng))

    inverse = noisy(view)
    others = [neighbour(views[i], noisy(views[i])) for i in (0, 1, 3, 4)]
    found = correct(view, inverse, others, torch.zeros_like(inverse))
    before, after = ((x / truth(view) - 1).abs().median() for x in (inverse, found))
    assert after < 0.8 * before


@pytest.mark.parametrize(("count", "left"), [(1, 0.8), (2, 0.8), (3, 0.7), (4, 0.7)])
def test_what_noisy_views_agree_about_is_neither_nearer_nor_farther_than_the_surface(
    count: int, left: float
) -> None:
    K = np.array([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]])
    rng = np.random.default_rng(0)

    def shown(place: float) -> tuple[Neighbour, Tensor]:
        pose = np.eye(4)
        pose[0, 3] = -place
        eye = Camera(K, (48, 64), pose)
        inverse = pixel_rays(eye) @ np.array([0.4, 0.3, 1.0]) / (3 - 0.4 * place)
        noisy = (inverse * (1 + 0.005 * rng.standard_normal(inverse.shape))).astype(np.float32)
        told = Neighbour.of(Estimate(eye, noisy, np.ones_like(noisy)), CPU)
        return told, torch.tensor(inverse, dtype=torch.float32)

    (own, true), *others = (shown(place) for place in (0.0, 0.11, -0.07, 0.2, -0.16))
    guide, rest = torch.zeros(48, 64, 3), [other for other, _ in others[:count]]
    found = corrected(own.camera, own.inverse, rest, torch.zeros_like, guide, None, 0.02)
    found, own_error = found / true - 1, own.inverse / true - 1
    # Of what falls into a pixel the nearest counts, which noise makes nearer.
    seen = seen_from(own.camera, others[2][0])
    assert (seen / true - 1)[seen > 0].mean() > 0.0005
    middle = (slice(8, -8), slice(12, -12))  # not every view sees the rest
    assert found[middle].mean().abs() < 0.0003
    assert found[middle].std() < left * own_error[middle].std()


@pytest.mark.parametrize("forward", [(0.5, 1.0), (2.0, 2.2), (3.0, 3.1), (-4.0, -3.0)])
def test_views_that_are_nearer_or_farther_tell_their_own_depth(
    forward: tuple[float, float],
) -> None:
    """A wall at z = 4 that cameras look at from other distances, which know its depth."""
    K = np.array([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]])

    def before(place: float) -> Neighbour:
        pose = np.eye(4)
        pose[2, 3] = -place
        inverse = np.full((48, 64), 1 / (4 - place), np.float32)
        return Neighbour.of(Estimate(Camera(K, (48, 64), pose), inverse, inverse), CPU)

    own, rest = before(0), [before(each) for each in forward]
    middle = (slice(20, 28), slice(27, 37))  # what the nearest see
    off = own.inverse * 1.003
    guide = torch.zeros(48, 64, 3)
    found = corrected(own.camera, off, rest, torch.zeros_like, guide, None, 0.02)
    assert (found / own.inverse - 1)[middle].abs().max() < 1e-5
    assert (agreeing(own.camera, own.inverse * 1.015, rest, 0.02).views[middle] == 2).all()
    assert (agreeing(own.camera, own.inverse * 1.025, rest, 0.02).views[middle] == 0).all()


def test_without_others_and_with_others_that_know_nothing_the_depth_stays(
    views: list[View],
) -> None:
    view = views[2]
    inverse = truth(view)
    cost = torch.zeros_like(inverse)
    assert (correct(view, inverse, [], cost) == inverse).all()
    blind = neighbour(views[1])._replace(known=torch.zeros_like(truth(views[1])))
    found = correct(view, inverse, [blind], cost)
    assert (found / inverse - 1).abs().median() < 1e-6


def test_depth_does_not_move_across_the_mask(views: list[View]) -> None:
    view = views[2]
    assert view.camera is not None
    inverse = truth(view)
    mask = torch.zeros_like(inverse)
    mask[:, : mask.shape[1] // 2] = 1
    guide = torch.full((*inverse.shape, 3), 0.5)
    other = neighbour(views[1])._replace(known=torch.zeros_like(inverse))
    results = []
    for beside in (inverse, 3 * inverse):
        known = torch.where(mask > 0, inverse, beside)
        found = corrected(view.camera, known, [other], torch.zeros_like, guide, mask, 0.02)
        results.append(found)
    assert (results[0] == results[1])[mask > 0].all()


@pytest.mark.parametrize("scale", [1.0, 1.5, 2.0, 3.125, 3.75, 4.0])
def test_medians_reach_across_edges_that_the_sweep_has_widened(scale: float) -> None:
    """A near half has grown by one swept pixel; the photo says where it ends."""
    width, wide = 80, round(scale)
    true = torch.where(torch.arange(width) < 40, 1.0, 0.4).expand(60, -1).contiguous()
    grown = torch.where(torch.arange(width) < 40 + wide, 1.0, 0.4).expand(60, -1).contiguous()
    guide = true[..., None].expand(-1, -1, 3).contiguous()
    blind = neighbour(row(1)[0])._replace(known=torch.zeros(SIZE))
    found = corrected(camera(0), grown, [blind], torch.zeros_like, guide, None, 0.02, scale=scale)
    inner = slice(20, 40)  # away from the frame, where windows are cut
    assert (found[inner] == true[inner]).float().mean() > 0.99


def test_windows_of_medians_are_larger_than_the_edges_they_mend() -> None:
    for longer in range(320, 1281):
        edge, radius, step = medians_at(longer / 320)
        assert abs(edge - 4 * longer / 320) <= 0.5
        assert edge < radius <= edge + step
        assert radius % step == 0


@pytest.fixture
def holes(views: list[View]) -> Tensor:
    """A view knows nothing in a patch of the wall and in the middle of the ball."""
    known = torch.ones_like(truth(views[2]), dtype=torch.bool)
    known[4:12, 4:12] = False
    known[26:34, 36:44] = False
    assert on_ball(views[2])[26:34, 36:44].all()
    return known


def test_holes_get_what_others_show_there(views: list[View], holes: Tensor) -> None:
    view, others = views[2], [neighbour(views[i]) for i in (0, 1, 3, 4)]
    assert view.camera is not None
    found = shown_by_others(view.camera, truth(view), holes, others)
    assert (found[holes] == 0).all()
    assert (found[~holes] > 0).float().mean() > 0.9
    assert ((found / truth(view) - 1).abs()[found > 0] < 0.01).float().mean() > 0.95


@pytest.mark.parametrize(
    ("shares", "middle"), [((1.3, 1.0, 1.1), 1.1), ((1.3, 1.0, 1.2, 1.1), 1.1)]
)
def test_the_median_of_what_others_show_is_taken(
    views: list[View], holes: Tensor, shares: tuple[float, ...], middle: float
) -> None:
    own = truth(views[2])
    assert views[2].camera is not None
    others = [neighbour(views[2], share * own) for share in shares]
    found = shown_by_others(views[2].camera, own, holes, others)
    assert (found[~holes] > 0).float().mean() > 0.9
    shown = found[found > 0] / own[found > 0]
    torch.testing.assert_close(shown, torch.full_like(shown, middle))


def test_what_is_behind_a_thing_that_nobody_found_does_not_shine_through(
    views: list[View], holes: Tensor
) -> None:
    view = views[2]
    wall = torch.full_like(truth(view), 1 / WALL)
    assert view.camera is not None
    others = [neighbour(views[i], wall) for i in (0, 1, 3, 4)]
    found = shown_by_others(view.camera, truth(view), holes, others)
    assert (found[4:12, 4:12] > 0).float().mean() > 0.9
    assert (found[26:34, 36:44] == 0).all()


def test_who_knows_nothing_or_everything_or_nobody_else_is_shown_nothing(
    views: list[View], holes: Tensor
) -> None:
    view, other = views[2], neighbour(views[1])
    assert view.camera is not None
    for known, others in (
        (torch.zeros_like(holes), [other]),
        (torch.ones_like(holes), [other]),
        (holes, []),
        (holes, [other._replace(known=torch.zeros_like(other.known))]),
    ):
        assert (shown_by_others(view.camera, truth(view), known, others) == 0).all()
