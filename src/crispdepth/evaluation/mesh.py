"""How near a reconstructed surface is to the true one, in the two protocols of the field.

Directions, once and for all: *accuracy* and *precision* ask of every predicted point how far the
truth is; *completeness* and *recall* ask of every true point how far the prediction is.

**The swapped-accuracy trap.** The script with which the tables of Atlas (Murez et al., ECCV 2020)
were made queries its trees the other way round, so that its Acc is completeness and its Prec is
recall, and so are those of papers that took its numbers over (VolumeFusion's table among them);
F-scores are not touched. Here, as in NeuralRecon and later work, the names mean what they say.

**The double-layer trap.** A prediction that was fused anew from its own renderings is a shell
with two sides. Numbers of such a prediction and of a single-sided one must not stand in one table.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispdepth.types import BoolMap, Mesh

Points = NDArray[Any]  # (n, 3)


@dataclass(frozen=True)
class SurfaceScore:
    """Distances in the unit of the points; shares in [0, 1].

    Without any predicted point: accuracy and completeness are the clamp of the distances (nan
    without one), precision 1 in the protocol of TransformerFusion and nan otherwise, recall and F
    0. Without any true point everything is nan.
    """

    accuracy: float  # mean distance from prediction to truth
    completeness: float  # mean distance from truth to prediction
    precision: float  # share of predicted points that have truth within the threshold
    recall: float  # share of true points that have prediction within the threshold
    threshold: float

    @property
    def chamfer(self) -> float:
        """Mean of accuracy and completeness."""
        return (self.accuracy + self.completeness) / 2

    @property
    def f_score(self) -> float:
        """Harmonic mean of precision and recall; 0 if one of them is 0."""
        if self.recall == 0 or self.precision == 0:
            return 0.0
        return 2 * self.precision * self.recall / (self.precision + self.recall)


def score_points(
    prediction: Points,
    target: Points,
    threshold: float = 0.05,
    *,
    clamp: float | None = None,
    counted: BoolMap | None = None,
) -> SurfaceScore:
    """Both directions of nearest-neighbour distances between two sets of points.

    Args:
        prediction: (n, 3) points of the predicted surface.
        target: (m, 3) points of the true surface.
        threshold: a point within it (inclusive) is right.
        clamp: longer distances count as this long; None: they count in full.
        counted: (n,) the predicted points that are judged; points where nobody could have seen
            the truth are left out of accuracy and precision, but still complete the truth.

    Raises:
        ImportError: SciPy is not installed.
        ValueError: points are not (n, 3), or not finite.
    """
    p, t = _checked("prediction", prediction), _checked("target", target)
    nan = float("nan")
    if not len(t):
        return SurfaceScore(nan, nan, nan, nan, threshold)
    worst = nan if clamp is None else clamp
    if not len(p):
        return SurfaceScore(worst, worst, nan if clamp is None else 1.0, 0.0, threshold)
    judged = p if counted is None else p[counted]
    to_target, to_prediction = nearest(judged, t), nearest(t, p)
    if clamp is not None:
        to_target, to_prediction = to_target.clip(max=clamp), to_prediction.clip(max=clamp)
    within = [d <= threshold for d in (to_target, to_prediction)]
    return SurfaceScore(
        accuracy=float(to_target.mean()) if len(judged) else worst,
        completeness=float(to_prediction.mean()),
        precision=float(within[0].mean()) if len(judged) else 1.0,
        recall=float(within[1].mean()),
        threshold=threshold,
    )


def atlas_score(
    prediction: Mesh, target: Mesh, threshold: float = 0.05, spacing: float = 0.02
) -> SurfaceScore:
    """The protocol of Atlas with the directions put right: vertices, thinned to ``spacing``.

    Raises:
        ImportError: SciPy is not installed.
    """
    predicted, true = (thin_points(mesh.vertices, spacing) for mesh in (prediction, target))
    return score_points(predicted, true, threshold)


def transformerfusion_score(
    prediction: Mesh,
    target: Mesh,
    threshold: float = 0.05,
    *,
    samples: int = 200_000,
    seed: int = 0,
    observed: "ObservedGrid | None" = None,
) -> SurfaceScore:
    """The protocol of TransformerFusion (Bozic et al., NeurIPS 2021), which later papers use.

    ``samples`` uniform points of the prediction against the vertices of the truth, distances
    clamped at 1 m. Precision and accuracy judge only points that ``observed`` calls seen.

    Raises:
        ImportError: SciPy is not installed.
    """
    points = sample_surface(prediction, samples, np.random.default_rng(seed))
    counted = None if observed is None else observed.sees(points)
    return score_points(points, target.vertices, threshold, clamp=1.0, counted=counted)


@dataclass(frozen=True, eq=False)
class ObservedGrid:
    """Where the truth was looked at: visibility at the nodes of a grid, trilinear between."""

    visibility: NDArray[Any]  # (x, y, z), 1 = seen
    origin: NDArray[np.float64]  # (3,): the position of node (0, 0, 0)
    spacing: float

    def sees(self, points: Points) -> BoolMap:
        """(n,): visibility at least 1 - 1e-5; outside the grid nothing is seen."""
        from scipy.ndimage import map_coordinates

        places = (np.asarray(points, np.float64) - self.origin) / self.spacing
        values = map_coordinates(
            np.asarray(self.visibility, np.float64), places.T, order=1, mode="constant"
        )
        seen: BoolMap = values >= 1 - 1e-5
        return seen


def sample_surface(mesh: Mesh, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Points (count, 3), uniform over the area; (0, 3) of a mesh without area."""
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    sides = corners[:, 1:] - corners[:, :1]
    area = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1) if len(corners) else sides
    total = float(area.sum())
    if total == 0:
        return np.zeros((0, 3))
    face = rng.choice(len(area), size=count, p=area / total)
    share = rng.random((count, 2))
    over = share.sum(axis=1) > 1  # fold the square onto the triangle
    share[over] = 1 - share[over]
    points: NDArray[np.float64] = corners[face, 0] + (sides[face] * share[:, :, None]).sum(axis=1)
    return points


def thin_points(points: Points, spacing: float) -> NDArray[np.float64]:
    """The mean of the points in each cube of a grid, (n, 3)."""
    p = _checked("points", points)
    if not len(p):
        return p
    cube = np.floor(p / spacing).astype(np.int64)
    _, number, count = np.unique(cube, axis=0, return_inverse=True, return_counts=True)
    sums = [np.bincount(number.reshape(-1), weights=p[:, axis]) for axis in range(3)]
    means: NDArray[np.float64] = np.stack(sums, axis=1) / count[:, None]
    return means


def nearest(points: Points, others: Points) -> NDArray[np.float64]:
    """The distance of each point (n, 3) to the nearest of the others (m, 3), m > 0.

    Raises:
        ImportError: SciPy is not installed.
    """
    try:
        from scipy.spatial import cKDTree
    except ImportError as error:
        raise ImportError('Mesh metrics need SciPy: pip install "crispdepth[bench]"') from error
    distance: NDArray[np.float64] = cKDTree(others).query(points)[0]
    return distance


def tsdf_l1(prediction: NDArray[Any], target: NDArray[Any], observed: BoolMap) -> float:
    """Mean absolute difference of two voxel-aligned fields over observed voxels.

    In units of the truncation. Atlas counts the voxels whose true value is below 1 in its own
    sign, which is all that was observed. nan without any.

    Args:
        prediction: any shape, values in [-1, 1].
        target: of the same shape and sign.
        observed: of the same shape: where the truth is known.

    Raises:
        ValueError: shapes differ.
    """
    if not prediction.shape == target.shape == observed.shape:
        raise ValueError(
            f"The fields are {prediction.shape} and {target.shape}, observed is {observed.shape}."
        )
    if not observed.any():
        return float("nan")
    p, t = prediction[observed].astype(np.float64), target[observed].astype(np.float64)
    return float(np.abs(p - t).mean())


def _checked(name: str, points: Points) -> NDArray[np.float64]:
    p = np.asarray(points, np.float64)
    if p.ndim != 2 or p.shape[1] != 3 or not np.isfinite(p).all():
        raise ValueError(f"The {name} must be finite (n, 3) points, got {p.shape}.")
    return p
