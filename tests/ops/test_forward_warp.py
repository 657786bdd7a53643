from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crispdepth.geometry.backproject import camera_of_view
from crispdepth.ops.forward_warp import forward_warp
from crispdepth.types import Camera

SIZE = 30, 40
CAMERA = camera_of_view(SIZE, 60)
FOCAL = float(CAMERA.K[0, 0])


def moved(right: float = 0, down: float = 0, forward: float = 0) -> Camera:
    pose = np.eye(4)
    pose[:3, 3] = -right, -down, -forward
    return replace(CAMERA, cam_from_world=pose)


def turned(angle: float) -> Camera:
    """About the vertical axis, to the right."""
    pose = np.eye(4)
    pose[[0, 0, 2, 2], [0, 2, 0, 2]] = (
        np.cos(angle),
        -np.sin(angle),
        np.sin(angle),
        np.cos(angle),
    )
    return replace(CAMERA, cam_from_world=pose)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_from_the_same_camera_nothing_changes_whatever_the_depth(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.random((*SIZE, 4), np.float32)
    inverse = rng.uniform(0.05, 2, SIZE).astype(np.float32)
    warped = forward_warp(values, inverse, CAMERA, CAMERA)
    np.testing.assert_allclose(warped.values, values, atol=1e-6)
    np.testing.assert_allclose(warped.inverse_depth, inverse, rtol=1e-6)


@pytest.mark.parametrize("pixels", [3, -5])
def test_a_plane_facing_the_camera_shifts_by_focal_length_over_depth(pixels: int) -> None:
    values = np.random.default_rng(0).random((*SIZE, 1), np.float32)
    inverse = np.full(SIZE, 0.5, np.float32)
    warped = forward_warp(values, inverse, CAMERA, moved(right=pixels / FOCAL / 0.5))
    inside = slice(6, -6)
    np.testing.assert_allclose(
        warped.values[:, inside], np.roll(values, -pixels, axis=1)[:, inside], atol=1e-4
    )


def test_half_a_pixel_is_half_a_pixel() -> None:
    ramp = np.broadcast_to(np.arange(SIZE[1], dtype=np.float32), SIZE)[..., None].copy()
    warped = forward_warp(ramp, np.ones(SIZE, np.float32), CAMERA, moved(right=0.5 / FOCAL))
    np.testing.assert_allclose(warped.values[:, 2:-2], ramp[:, 2:-2] + 0.5, atol=1e-3)


def test_a_turn_moves_everything_alike() -> None:
    rng = np.random.default_rng(0)
    ramp = np.broadcast_to(np.arange(SIZE[1], dtype=np.float32), SIZE)[..., None].copy()
    target = turned(0.05)
    near_and_far = rng.uniform(0.2, 1, SIZE).astype(np.float32)
    a, b = (
        forward_warp(ramp, inverse, CAMERA, target).values
        for inverse in (near_and_far, np.full(SIZE, 0.3, np.float32))
    )
    np.testing.assert_allclose(a[:, 5:-5], b[:, 5:-5], atol=0.05)
    assert a[15, 20, 0] == pytest.approx(20 + FOCAL * np.tan(0.05), abs=0.1)


def test_forward_enlarges_and_brings_near() -> None:
    ramp = np.broadcast_to(np.arange(SIZE[1], dtype=np.float32), SIZE)[..., None].copy()
    warped = forward_warp(ramp, np.full(SIZE, 0.5, np.float32), CAMERA, moved(forward=0.5))
    np.testing.assert_allclose(warped.inverse_depth, 1 / 1.5, rtol=1e-5)  # and no crack
    np.testing.assert_allclose(np.diff(warped.values[15, :, 0]), 0.75, atol=0.04)


def test_the_nearer_of_two_surfaces_is_seen() -> None:
    values = np.zeros((*SIZE, 1), np.float32)
    inverse = np.full(SIZE, 0.25, np.float32)
    values[:, 15:20], inverse[:, 15:20] = 1, 1
    warped = forward_warp(values, inverse, CAMERA, moved(right=-4 / FOCAL))
    np.testing.assert_allclose(warped.inverse_depth[:, 19:24], 1, rtol=1e-6)
    np.testing.assert_allclose(warped.values[:, 19:24], 1, atol=1e-4)
    np.testing.assert_allclose(warped.inverse_depth[:, 26:], 0.25, rtol=1e-6)


def test_what_is_behind_the_other_camera_is_not_seen() -> None:
    values = np.ones((*SIZE, 1), np.float32)
    warped = forward_warp(values, np.ones(SIZE, np.float32), CAMERA, moved(forward=2))
    assert np.isfinite(warped.values).all()


def test_the_target_may_have_another_size() -> None:
    values = np.random.default_rng(0).random((*SIZE, 3), np.float32)
    small = CAMERA.resized((15, 20))
    warped = forward_warp(values, np.ones(SIZE, np.float32), CAMERA, small)
    assert warped.values.shape == (15, 20, 3)
