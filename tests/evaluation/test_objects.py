import numpy as np
import pytest

from crispdepth.evaluation.objects import (
    boundary_f1,
    flying_ratio,
    object_scores,
)
from crispdepth.evaluation.views import silhouette_iou
from crispdepth.types import BoolMap, DepthMap


def disc(radius: float, size: int = 60, shift: int = 0) -> BoolMap:
    y, x = np.mgrid[:size, :size] - size // 2
    return np.asarray(np.hypot(y, x - shift) <= radius)


def on(mask: BoolMap, near: float = 1.0, far: float = 0.0) -> DepthMap:
    """A depth of ``near`` on the mask and ``far`` (0: invalid) beside it."""
    return DepthMap(np.where(mask, near, far).astype(np.float32), "depth", "m")


def test_the_truth_scores_perfectly() -> None:
    mask = disc(20)
    scores = object_scores(on(mask), on(mask, far=3), mask)
    for region in (scores.interior, scores.band):
        assert (region.abs_rel, region.within, region.completeness) == (0, 1, 1)
    assert scores.silhouette_iou == 1
    assert scores.boundary_f1 == (1, 1, 1)
    assert scores.flying == 0


def test_an_error_counts_in_the_region_where_it_is() -> None:
    mask, interior = disc(20), disc(12)
    values = np.where(interior, 1.1, 1.0).astype(np.float32) * mask
    scores = object_scores(DepthMap(values, "depth", "m"), on(mask), mask)
    assert scores.band.abs_rel == 0
    inside = np.count_nonzero(disc(17))
    assert scores.interior.abs_rel == pytest.approx(
        0.1 * np.count_nonzero(interior) / inside, rel=0.05
    )


def test_holes_cost_completeness_and_not_accuracy() -> None:
    mask = disc(20)
    scores = object_scores(on(mask & ~disc(5)), on(mask), mask)
    assert scores.interior.abs_rel == 0
    assert scores.interior.completeness < 1
    assert scores.band.completeness == 1


def test_silhouettes_shifted_by_two_pixels_meet_within_two() -> None:
    mask, moved = disc(20), disc(20, shift=2)
    assert boundary_f1(moved, mask, 2) == 1
    assert boundary_f1(moved, mask, 1) < 0.9
    assert boundary_f1(mask, moved, 1) == pytest.approx(boundary_f1(moved, mask, 1))
    assert silhouette_iou(mask, moved) == silhouette_iou(moved, mask) < 1


def test_empty_silhouettes_have_defined_scores() -> None:
    nothing = np.zeros((60, 60), bool)
    assert silhouette_iou(nothing, nothing) == 1
    assert np.isnan(boundary_f1(nothing, nothing, 1))
    assert boundary_f1(nothing, disc(5), 1) == 0
    scores = object_scores(on(nothing), on(disc(9)), disc(9))
    assert scores.interior.completeness == 0
    assert np.isnan(scores.interior.abs_rel)
    assert np.isnan(scores.flying)


def test_pixels_between_the_sides_of_an_edge_fly_and_those_on_a_slant_do_not() -> None:
    truth = on(disc(20), 1, 2)
    values = truth.values.copy()
    values[30, 48:52] = 1.5
    hanging = flying_ratio(DepthMap(values, "depth", "m"), truth)
    assert hanging > 0
    assert flying_ratio(truth, truth) == 0
    # Wrong, but on the other side of the edge: no point hangs in the air.
    values[30, 48:52] = 1.0
    assert flying_ratio(DepthMap(values, "depth", "m"), truth) == 0
    slant = DepthMap(np.tile(np.linspace(1, 1.5, 60, dtype=np.float32), (60, 1)), "depth", "m")
    assert np.isnan(flying_ratio(slant, slant))


def test_other_sizes_and_kinds_are_refused() -> None:
    mask = disc(20)
    with pytest.raises(ValueError, match="one size"):
        object_scores(on(mask), on(disc(9, 40)), mask)
    inverse = DepthMap(mask.astype(np.float32), "inverse_depth", "m")
    with pytest.raises(ValueError, match="kind depth"):
        object_scores(inverse, on(mask), mask)
