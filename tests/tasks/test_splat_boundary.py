"""Boundary decomposition: the laws of spec 2.23."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from crispdepth.evaluation.views import silhouette_iou
from crispdepth.geometry.rigid import matrix_from_quaternion
from crispdepth.ops.splat import Splats, render
from crispdepth.tasks.splat_boundary import Way, decompose
from crispdepth.types import Camera, Gaussians

SIZE = (60, 80)
CAMERA = Camera(np.array([[100.0, 0, 38], [0, 100, 31], [0, 0, 1]]), SIZE)
MASK = np.zeros(SIZE, np.float32)
MASK[15:45, 20:60] = 1
WAYS = pytest.mark.parametrize("way", ["shrink", "split"])


def some(count: int = 300) -> Gaussians:
    rng = np.random.default_rng(1)
    turns = rng.normal(size=(count, 4))
    means = np.column_stack(
        [rng.uniform(-0.6, 0.7, count), rng.uniform(-0.5, 0.4, count), rng.uniform(1.9, 2.1, count)]
    )
    return Gaussians(
        means.astype(np.float32),
        rng.uniform(0.01, 0.08, (count, 3)).astype(np.float32),
        (turns / np.linalg.norm(turns, axis=1, keepdims=True)).astype(np.float32),
        rng.uniform(0.3, 0.9, count).astype(np.float32),
        rng.normal(size=(count, 1, 3)).astype(np.float32),
        np.ones(count, np.int32),
    )


def ends(gaussians: Gaussians) -> NDArray[np.float64]:
    """The ends (n, 2, 2) in pixels of the longest axis, 1.5 standard deviations from the mean."""
    axes = (
        matrix_from_quaternion(gaussians.rotations.astype(np.float64)) * gaussians.scales[:, None]
    )
    half = 1.5 * axes.swapaxes(1, 2)[:, :, None] * np.array([-1, 1])[:, None]  # (n, axis, end, 3)
    points = gaussians.means[:, None, None] + half
    flat = points @ CAMERA.K.T
    flat = flat[..., :2] / flat[..., 2:]  # (n, axis, end, 2)
    longest = np.linalg.norm(flat[:, :, 1] - flat[:, :, 0], axis=-1).argmax(axis=1)
    return np.asarray(flat[np.arange(len(flat)), longest])


def inside(pixels: NDArray[np.float64], slack: float = 0) -> NDArray[np.bool_]:
    low, high = np.array([20, 15]) - slack, np.array([60, 45]) + slack
    return np.asarray(((pixels >= low) & (pixels < high)).all(axis=-1))


def in_frame(pixels: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(((pixels >= 0) & (pixels < SIZE[::-1])).all(axis=(-2, -1)))


def crossing(gaussians: Gaussians) -> NDArray[np.bool_]:
    at = inside(ends(gaussians))
    return np.asarray((at[:, 0] != at[:, 1]) & in_frame(ends(gaussians)))


def test_the_cases_have_enough_of_both() -> None:
    assert 30 < crossing(some()).sum() < 200


@WAYS
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_mask_without_a_border_changes_nothing(way: Way, value: float) -> None:
    before = some()
    assert decompose(before, CAMERA, np.full(SIZE, value, np.float32), way) is before


@WAYS
def test_what_does_not_cross_is_the_same_bit_for_bit(way: Way) -> None:
    before, crosses = some(), crossing(some())
    after = decompose(before, CAMERA, MASK, way)
    assert len(after) == len(before)
    for name in ("means", "scales", "rotations", "opacities", "sh"):
        np.testing.assert_array_equal(
            getattr(after, name)[~crosses], getattr(before, name)[~crosses]
        )
    changed = (after.means != before.means).any(axis=1)
    np.testing.assert_array_equal(changed, crosses)


@WAYS
def test_afterwards_segments_lie_inside(way: Way) -> None:
    crosses = crossing(some())
    after = decompose(some(), CAMERA, MASK, way)
    moved = ends(after)[crosses]
    if way == "split":  # another axis may be the longest now, and cross
        after = decompose(decompose(after, CAMERA, MASK, way), CAMERA, MASK, way)
        moved = ends(after)[crosses]
    assert inside(moved, slack=1.0).all(axis=1).mean() > 0.97


@pytest.mark.parametrize(("way", "passes"), [("shrink", 2), ("split", 4)])
def test_a_few_passes_are_enough(way: Way, passes: int) -> None:
    """A split leaves two axes as they were, which may cross in turn."""
    after = some()
    for _ in range(passes):
        before, after = after, decompose(after, CAMERA, MASK, way)
    assert (after.means != before.means).any(axis=1).mean() < 0.01


def test_the_boundary_test_is_symmetric() -> None:
    before = some()
    turned = replace(  # a half turn about the first axis: the same ellipsoid
        before, rotations=before.rotations[:, [1, 0, 3, 2]] * np.array([-1, 1, 1, -1], np.float32)
    )
    one, other = (decompose(g, CAMERA, MASK, "shrink") for g in (before, turned))
    np.testing.assert_allclose(one.means, other.means, atol=1e-5)
    np.testing.assert_allclose(one.scales, other.scales, rtol=1e-4)


def test_both_parts_of_a_split_make_the_whole() -> None:
    before, crosses = some(), crossing(some())
    after = decompose(before, CAMERA, MASK, "split", keep_outside=True)
    inner, outer = after.scales[: len(before)][crosses], after.scales[len(before) :]
    assert len(outer) == crosses.sum()
    whole = before.scales[crosses]
    cut = (inner != whole).argmax(axis=1)
    rows = np.arange(len(cut))
    assert ((inner != whole).sum(axis=1) == 1).all()
    np.testing.assert_allclose(inner[rows, cut] + outer[rows, cut], whole[rows, cut], rtol=1e-5)
    # the ends of both are the ends of the whole: weighted by length, the middle has not moved
    share = (inner / whole)[rows, cut][:, None]
    middle = share * after.means[: len(before)][crosses] + (1 - share) * after.means[len(before) :]
    np.testing.assert_allclose(middle, before.means[crosses], atol=1e-5)
    assert after.labels is not None
    assert (after.labels[len(before) :] == 0).all()


def test_shrinking_is_the_published_formula() -> None:
    long = Gaussians(
        np.array([[0.435, 0, 2]], np.float32), np.array([[0.1, 0.02, 0.02]], np.float32),
        np.array([[1, 0, 0, 0]], np.float32), np.array([0.5], np.float32),
        np.zeros((1, 1, 3), np.float32),
    )  # fmt: skip
    # the segment is x from 52.25 to 67.25, the border at 60: 0.517 of it are inside
    after = decompose(long, CAMERA, MASK, "shrink")
    share = 7.75 / 15
    np.testing.assert_allclose(after.scales, 0.8 * share * long.scales, rtol=0.03)
    assert after.means[0, 0] == pytest.approx(0.435 - (1 - share) / 2 * 0.3, abs=0.003)


@WAYS
def test_the_silhouette_does_not_get_worse(way: Way) -> None:
    rng = np.random.default_rng(2)
    count = 1500
    base = some(count)
    means = np.column_stack([rng.uniform(-0.36, 0.44, count), rng.uniform(-0.32, 0.28, count)])
    before = replace(
        base,
        means=np.column_stack([means, np.full(count, 2.0)]).astype(np.float32),
        opacities=np.full(count, 0.9, np.float32),
    )

    def iou(gaussians: Gaussians) -> float:
        names = ("means", "scales", "rotations", "opacities", "sh")
        values = [torch.tensor(getattr(gaussians, name)) for name in names]
        K, world = torch.tensor(CAMERA.K).float(), torch.eye(4)
        return silhouette_iou(render(Splats(*values), K, world, SIZE).alpha.numpy(), MASK)

    worse, better = iou(before), iou(decompose(before, CAMERA, MASK, way))
    assert better >= worse
    assert better > worse + 0.02


def test_what_is_behind_or_leaves_the_frame_is_left_alone() -> None:
    before = some()
    behind = replace(before, means=before.means * np.array([1, 1, -1], np.float32))
    assert decompose(behind, CAMERA, MASK) is behind


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="its camera is for"):
        decompose(some(), CAMERA, MASK[:9])
