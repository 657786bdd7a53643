import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from crispdepth.geometry.align import (
    FARTHEST,
    ScaleShift,
    TargetNorm,
    align_to_points,
    depth_by_points,
    fit_scale_shift,
    fit_scale_shift_robust,
    normalise_target,
    valid_values,
)
from crispdepth.types import DepthMap, Float32Map
from tests.analytic import around, looking_at, plane_depth, rays, sphere_depth

SIZE = (12, 17)
EVERYWHERE = np.ones(SIZE, bool)
NORMS: tuple[TargetNorm, ...] = ("max", "minmax", "none")

scales = st.floats(0.01, 100) | st.floats(-100, -0.01)


def random_map(seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).uniform(0.1, 2.0, SIZE)


@given(scale=scales, shift=st.floats(-100, 100))
def test_alignment_undoes_any_scale_and_shift_even_a_negative_one(
    scale: float, shift: float
) -> None:
    target = random_map()
    prediction = scale * target + shift
    aligned = fit_scale_shift(prediction, target, EVERYWHERE).apply(prediction)
    np.testing.assert_allclose(aligned, target, rtol=1e-9)


@given(seed=st.integers(0, 1000))
def test_the_residual_is_orthogonal_to_one_and_to_the_prediction(seed: int) -> None:
    prediction, target = random_map(seed), random_map(seed + 1)
    residual = fit_scale_shift(prediction, target, EVERYWHERE).apply(prediction) - target
    assert abs(residual.sum()) < 1e-10
    assert abs((residual * prediction).sum()) < 1e-10


def test_a_large_offset_does_not_cost_precision() -> None:
    target = random_map()
    fit = fit_scale_shift(target + 1e6, target, EVERYWHERE)
    assert fit.scale == pytest.approx(1, rel=1e-8)


@pytest.mark.parametrize("garbage", [1e9, np.nan, np.inf])
def test_invalid_pixels_are_irrelevant(garbage: float) -> None:
    prediction, target = random_map(0), random_map(1)
    valid = random_map(2) > 1
    expected = fit_scale_shift(prediction, target, valid)
    prediction[~valid] = garbage
    target[~valid] = garbage
    assert fit_scale_shift(prediction, target, valid) == expected


def test_a_constant_prediction_becomes_the_mean_of_the_target() -> None:
    target = random_map()
    fit = fit_scale_shift(np.full(SIZE, 0.1, np.float32), target, EVERYWHERE)
    assert fit == ScaleShift(0.0, target.mean())


def test_alignment_without_a_valid_pixel_is_refused() -> None:
    with pytest.raises(ValueError, match="No valid pixel"):
        fit_scale_shift(random_map(), random_map(), ~EVERYWHERE)


def test_valid_nan_is_refused_with_its_count() -> None:
    prediction = random_map()
    prediction[0, :3] = np.nan
    with pytest.raises(ValueError, match="3 of 204 valid pixels"):
        fit_scale_shift(prediction, random_map(), EVERYWHERE)


def test_maps_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(17, 12\).*\(12, 17\)"):
        valid_values(EVERYWHERE, random_map().T)


def test_a_valid_map_that_is_not_bool_is_refused() -> None:
    with pytest.raises(ValueError, match="must be bool"):
        valid_values(EVERYWHERE.astype(np.uint8), random_map())


@given(seed=st.integers(0, 1000), scale=st.floats(0.01, 100))
def test_max_normalisation_makes_the_scale_of_the_truth_irrelevant(seed: int, scale: float) -> None:
    valid = random_map(seed + 1) > 1
    once = normalise_target(random_map(seed), valid, "max")
    again = normalise_target(scale * random_map(seed), valid, "max")
    assert once.max() == 1
    np.testing.assert_allclose(again, once, rtol=1e-12)


@given(seed=st.integers(0, 1000), scale=st.floats(0.01, 100), shift=st.floats(-10, 10))
def test_minmax_normalisation_makes_scale_and_shift_irrelevant(
    seed: int, scale: float, shift: float
) -> None:
    valid = random_map(seed + 1) > 1
    once = normalise_target(random_map(seed), valid, "minmax")
    again = normalise_target(scale * random_map(seed) + shift, valid, "minmax")
    assert (once[valid].min(), once[valid].max()) == (0, 1)
    np.testing.assert_allclose(again, once, atol=1e-9)


def test_no_normalisation_keeps_valid_values() -> None:
    target, valid = random_map(), random_map(1) > 1
    np.testing.assert_array_equal(normalise_target(target, valid, "none")[valid], target[valid])


@pytest.mark.parametrize("mode", NORMS)
def test_invalid_pixels_become_zero_and_have_no_say(mode: TargetNorm) -> None:
    target, valid = random_map(), random_map(1) > 1
    expected = normalise_target(target, valid, mode)
    target[~valid] = np.nan
    normalised = normalise_target(target, valid, mode)
    np.testing.assert_array_equal(normalised, expected)
    assert not normalised[~valid].any()


@pytest.mark.parametrize(
    ("target", "mode", "message"),
    [
        (np.zeros(SIZE), "max", "must be positive"),
        (np.ones(SIZE), "minmax", "use mode 'max'"),
        (np.ones(SIZE), "log", "must be one of"),
    ],
)
def test_a_target_that_cannot_be_normalised_is_refused(
    target: NDArray[np.float64], mode: TargetNorm, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        normalise_target(target, EVERYWHERE, mode)


def test_normalising_without_a_valid_pixel_is_refused() -> None:
    with pytest.raises(ValueError, match="no valid pixel"):
        normalise_target(random_map(), ~EVERYWHERE)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@given(scale=st.floats(0.01, 100), shift=st.floats(-100, 100))
def test_the_robust_fit_is_exact_on_affine_data(scale: float, shift: float) -> None:
    x = random_map().ravel()
    fit = fit_scale_shift_robust(x, scale * x + shift, rng())
    np.testing.assert_allclose(fit, (scale, shift), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_a_third_of_outliers_does_not_matter_to_the_robust_fit(seed: int) -> None:
    random = np.random.default_rng(seed)
    x = random.uniform(0.1, 1, 400)
    y = 0.7 * x + 0.2 + random.normal(0, 1e-3, 400)
    wrong = random.permutation(400)[:120]
    y[wrong] += random.uniform(0.5, 3, 120)
    fit = fit_scale_shift_robust(x, y, random)
    np.testing.assert_allclose(fit, (0.7, 0.2), rtol=0.01)
    plain = fit_scale_shift(x[None], y[None], np.ones((1, 400), bool))
    assert abs(plain.shift - 0.2) > 0.1


def test_a_robust_fit_that_nothing_tells_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Two different values or more .* got 1 in 5 points"):
        fit_scale_shift_robust(np.ones(5), np.arange(5.0), rng())
    with pytest.raises(ValueError, match="got 0 in 0 points"):
        fit_scale_shift_robust(np.zeros(0), np.zeros(0), rng())
    with pytest.raises(ValueError, match="The scale would be -1"):
        fit_scale_shift_robust(np.arange(9.0), -np.arange(9.0), rng())
    with pytest.raises(ValueError, match="two finite vectors"):
        fit_scale_shift_robust(np.array([1.0, np.nan]), np.arange(2.0), rng())


def test_a_relative_map_is_aligned_to_sparse_points() -> None:
    camera = looking_at(np.array([4.0, 0, 2]), np.zeros(3), (48, 64), 60.0)
    depth = plane_depth(camera, np.array([0.0, 0, 1]), -1.0)
    relative = np.divide(3, depth, out=np.zeros_like(depth), where=depth > 0) - 0.4
    centre, direction = rays(camera)
    points = (centre + depth[..., None] * direction)[30::3, ::3].reshape(-1, 3)
    fit = align_to_points(relative, camera, points, rng())
    np.testing.assert_allclose(fit.apply(relative)[30:], 1 / depth[30:], rtol=1e-4)
    hidden = np.concatenate([points, points[::3] * 2 - centre])  # behind the plane
    np.testing.assert_allclose(align_to_points(relative, camera, hidden, rng()), fit, rtol=1e-3)
    bent = np.where(np.arange(64) < 40, relative, 9 - relative)
    left = np.broadcast_to(np.arange(64) < 40, bent.shape)
    fit = align_to_points(bent, camera, points, rng(), inside=left)
    np.testing.assert_allclose(fit, (1 / 3, 0.4 / 3), rtol=1e-3)
    with pytest.raises(ValueError, match="the camera's"):
        align_to_points(relative[1:], camera, points, rng())


def sphere_points(count: int = 3000) -> NDArray[np.float64]:
    """Points all over a sphere of radius 1: a camera sees fewer than half of them."""
    points = rng().normal(size=(count, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points


@pytest.mark.parametrize("shift", [-0.1, 0.0, 0.7])
def test_points_on_the_far_side_of_a_thing_do_not_mislead(shift: float) -> None:
    for camera in around(4, 3.0, (96, 128)):
        depth = sphere_depth(camera)
        relative = np.divide(4, depth, out=np.zeros_like(depth), where=depth > 0) - shift
        fit = align_to_points(relative, camera, sphere_points(), rng(), inside=depth > 0)
        np.testing.assert_allclose(fit.apply(relative)[depth > 0], 1 / depth[depth > 0], rtol=0.02)


def test_a_relative_map_becomes_depth_in_the_unit_of_the_points() -> None:
    camera = around(4, 3.0, (96, 128))[0]
    depth = sphere_depth(camera)
    relative: Float32Map = np.divide(4, depth, out=np.zeros_like(depth), where=depth > 0)
    relative -= np.float32(0.3)
    valid = depth > 0
    relative[:, :5], valid[:, :5] = -0.5, True  # the sky, and what is nearly sky
    relative[:, 5:8], valid[:, 5:8] = 4 / (4 * FARTHEST) - 0.3, True
    given = DepthMap(relative, "inverse_depth", "relative", valid, camera)
    found = depth_by_points(given, sphere_points(), "m", rng())
    assert (found.kind, found.unit, found.camera) == ("depth", "m", camera)
    np.testing.assert_array_equal(found.usable, depth > 0)
    np.testing.assert_allclose(found.values[depth > 0], depth[depth > 0], rtol=0.02)
    with pytest.raises(ValueError, match="without a camera"):
        depth_by_points(DepthMap(relative, "inverse_depth"), sphere_points(), "m", rng())


def test_depth_of_another_unit_is_scaled() -> None:
    camera = around(4, 3.0, (96, 128))[1]
    depth = sphere_depth(camera)
    found = depth_by_points(
        DepthMap(1000 * depth, "depth", "m", camera=camera), sphere_points(), "relative", rng()
    )
    np.testing.assert_allclose(found.values[depth > 0], depth[depth > 0], rtol=0.02)
