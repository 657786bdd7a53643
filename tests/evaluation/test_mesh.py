"""Identities of the mesh metrics."""

import numpy as np
import pytest

from crispdepth.evaluation.mesh import (
    ObservedGrid,
    atlas_score,
    sample_surface,
    score_points,
    thin_points,
    transformerfusion_score,
    tsdf_l1,
)
from crispdepth.evaluation.views import silhouette_iou
from crispdepth.ops.rasterise import rasterise
from crispdepth.types import Mesh
from tests.analytic import around, sphere_depth


def plane(height: float = 0.0, size: float = 2.0, step: float = 0.02) -> Mesh:
    """A square in the first quadrant, ``size`` long, of a grid with that step."""
    n = round(size / step) + 1
    x, y = np.meshgrid(np.linspace(0, size, n), np.linspace(0, size, n), indexing="ij")
    vertices = np.stack([x, y, np.full_like(x, height)], axis=-1).reshape(-1, 3)
    at = np.arange(n * n).reshape(n, n)
    quad = np.stack([at[:-1, :-1], at[1:, :-1], at[1:, 1:], at[:-1, 1:]], -1).reshape(-1, 4)
    faces = np.concatenate([quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]])
    return Mesh(vertices.astype(np.float32), faces.astype(np.int32))


def test_the_truth_scores_perfectly() -> None:
    points = plane().vertices
    s = score_points(points, points)
    assert (s.accuracy, s.completeness, s.chamfer) == (0, 0, 0)
    assert (s.precision, s.recall, s.f_score) == (1, 1, 1)
    assert atlas_score(plane(), plane()).f_score == 1


def test_an_offset_is_the_distance() -> None:
    near = score_points(plane(0.03).vertices, plane().vertices, 0.05)
    assert near.accuracy == pytest.approx(0.03, abs=1e-6)
    assert near.completeness == pytest.approx(0.03, abs=1e-6)
    assert near.f_score == 1
    far = score_points(plane(0.06).vertices, plane().vertices, 0.05)
    assert far.f_score == 0
    assert far.chamfer == pytest.approx(0.06, abs=1e-6)


def test_half_a_prediction_has_half_the_recall() -> None:
    truth = plane().vertices
    half = truth[truth[:, 0] < 1]
    s = score_points(half, truth, 0.005)
    assert s.precision == 1
    assert s.recall == pytest.approx(0.5, abs=0.01)
    assert s.f_score == pytest.approx(2 / 3, abs=0.01)


def test_accuracy_asks_of_the_prediction_and_is_not_swapped() -> None:
    """The trap: a prediction with rubbish is complete but not accurate, half a one the reverse."""
    truth = plane().vertices
    rubbish = np.concatenate([truth, truth + np.array([0, 0, 1])])
    s = score_points(rubbish, truth)
    assert s.completeness == 0
    assert s.recall == 1
    assert s.accuracy == pytest.approx(0.5)
    assert s.precision == pytest.approx(0.5)
    other = score_points(truth, rubbish)
    assert (other.accuracy, other.completeness) == (s.completeness, s.accuracy)
    assert (other.precision, other.recall) == (s.recall, s.precision)
    assert other.f_score == s.f_score
    mesh = Mesh(rubbish.astype(np.float32), plane().faces)
    assert atlas_score(mesh, plane()).accuracy > 0.3
    assert atlas_score(mesh, plane()).completeness < 0.02


def test_no_prediction_and_no_truth_have_defined_scores() -> None:
    empty = Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    s = transformerfusion_score(empty, plane())
    assert (s.accuracy, s.completeness, s.precision, s.recall, s.f_score) == (1, 1, 1, 0, 0)
    assert atlas_score(empty, plane()).f_score == 0
    assert np.isnan(atlas_score(empty, plane()).accuracy)
    assert np.isnan(atlas_score(plane(), empty).recall)


def test_transformerfusion_samples_clamps_and_leaves_out_the_unseen() -> None:
    far = plane(10.0)
    s = transformerfusion_score(far, plane(), samples=500)
    assert (s.accuracy, s.completeness, s.f_score) == (1, 1, 0)
    seen = np.zeros((5, 5, 5))
    seen[:3] = 1  # x up to 1
    grid = ObservedGrid(seen, np.array([0.0, 0, -1]), 0.5)
    wrong = plane(0.5)
    mixed = Mesh(
        np.concatenate([plane().vertices, wrong.vertices + np.array([1.01, 0, 0])]).astype(
            np.float32
        ),
        np.concatenate([plane().faces, wrong.faces + len(plane().vertices)]),
    )
    assert transformerfusion_score(mixed, plane(), samples=2000).precision < 0.6
    judged = transformerfusion_score(mixed, plane(), samples=2000, observed=grid)
    assert judged.precision == 1


def test_samples_are_uniform_over_the_area() -> None:
    """Two triangles, one of nine times the area."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 0, 0], [8, 0, 0], [5, 3, 0]])
    mesh = Mesh(corners.astype(np.float32), np.array([[0, 1, 2], [3, 4, 5]], np.int32))
    points = sample_surface(mesh, 20_000, np.random.default_rng(0))
    assert (points[:, 0] > 4).mean() == pytest.approx(0.9, abs=0.01)
    large = points[points[:, 0] > 4]
    np.testing.assert_allclose(large.mean(axis=0), [6, 1, 0], atol=0.03)
    assert ((large[:, 0] - 5) + large[:, 1] <= 3 + 1e-9).all()


def test_thinning_leaves_one_point_a_cube() -> None:
    points = np.array([[0.01, 0, 0], [0.03, 0, 0], [0.11, 0, 0], [-0.01, 0, 0]])
    np.testing.assert_allclose(
        thin_points(points, 0.1), [[-0.01, 0, 0], [0.02, 0, 0], [0.11, 0, 0]]
    )


def test_tsdf_difference_counts_observed_voxels_only() -> None:
    rng = np.random.default_rng(0)
    field = rng.uniform(-1, 1, (4, 5, 6))
    observed = rng.random(field.shape) < 0.5
    assert tsdf_l1(field, field, observed) == 0
    other = np.where(observed, field + 0.25, -9)
    assert tsdf_l1(other, field, observed) == pytest.approx(0.25)
    assert np.isnan(tsdf_l1(field, field, np.zeros_like(observed)))
    with pytest.raises(ValueError, match="fields are"):
        tsdf_l1(field, field[1:], observed)


def test_silhouettes_of_a_sphere() -> None:
    cameras = around(3, 4.0)
    true = [sphere_depth(camera) > 0 for camera in cameras]
    turn, rise = np.meshgrid(np.linspace(0, 2 * np.pi, 97), np.linspace(0, np.pi, 49))
    at = np.arange(turn.size).reshape(turn.shape)
    flat = np.sin(rise)
    vertices = np.stack([flat * np.cos(turn), flat * np.sin(turn), np.cos(rise)], -1).reshape(-1, 3)
    quad = np.stack([at[:-1, :-1], at[1:, :-1], at[1:, 1:], at[:-1, 1:]], -1).reshape(-1, 4)
    faces = np.concatenate([quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]]).astype(np.int32)
    ball = Mesh(vertices.astype(np.float32), faces)
    small = Mesh((0.5 * vertices).astype(np.float32), faces)
    for camera, mask in zip(cameras, true, strict=True):
        drawn, drawn_small = (rasterise(mesh, camera).depth > 0 for mesh in (ball, small))
        assert silhouette_iou(drawn, mask) > 0.98
        assert silhouette_iou(drawn_small, mask) == pytest.approx(0.25, abs=0.03)
        assert silhouette_iou(drawn, mask * np.float32(0.7)) > 0.98


def test_wrong_points_are_refused() -> None:
    with pytest.raises(ValueError, match="prediction must be"):
        score_points(np.zeros((3, 2)), np.zeros((3, 3)))
    with pytest.raises(ValueError, match="target must be"):
        score_points(np.zeros((3, 3)), np.full((3, 3), np.nan))
