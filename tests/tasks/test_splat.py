"""Gaussians from pixels: places, sizes, masks, merging, and no flying ones."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from crispdepth.geometry.rigid import matrix_from_quaternion
from crispdepth.tasks.splat import (
    SH_0,
    PixelOptions,
    concatenate,
    merge_gaussians,
    pixel_gaussians,
    select,
)
from crispdepth.types import Camera, DepthMap, Gaussians, MaskSet, View, ViewDepth

SIZE = (24, 30)
K = np.array([[40.0, 0, 11], [0, 40, 14], [0, 0, 1]])
RNG = np.random.default_rng(0)


def pose() -> NDArray[np.float64]:
    out = np.eye(4)
    out[:3, :3] = matrix_from_quaternion(np.array([0.9, 0.1, -0.3, 0.2]))
    out[:3, 3] = 0.3, -0.2, 1.5
    return out


def slanted(slope: float = 0.5, size: tuple[int, int] = SIZE) -> NDArray[np.floating]:
    """z of the plane z = 2 + slope * X seen by the camera."""
    x = (np.arange(size[1]) + 0.5 - K[0, 2]) / K[0, 0]
    return np.broadcast_to(2 / (1 - slope * x), size).astype(np.float32)


def view_of(
    z: NDArray[np.floating],
    masks: MaskSet | None = None,
    confidence: float = 1.0,
    cam_from_world: NDArray[np.float64] | None = None,
) -> tuple[View, ViewDepth]:
    image = RNG.integers(0, 256, (*z.shape, 3)).astype(np.uint8)
    camera = Camera(K, z.shape, pose() if cam_from_world is None else cam_from_world)
    depth = DepthMap(z, "depth", "m")
    trust = np.full(z.shape, confidence, np.float32)
    return View(image, "a", camera, depth, masks), ViewDepth(depth, trust)


def in_camera(gaussians: Gaussians, camera: Camera) -> NDArray[np.floating]:
    return gaussians.means @ camera.cam_from_world[:3, :3].T + camera.cam_from_world[:3, 3]


def test_every_mean_projects_onto_the_centre_of_its_pixel() -> None:
    view, depth = view_of(slanted())
    gaussians = pixel_gaussians(view, depth)
    assert view.camera is not None
    points = in_camera(gaussians, view.camera)
    flat = points @ K.T
    x, y = np.meshgrid(np.arange(30) + 0.5, np.arange(24) + 0.5)
    np.testing.assert_allclose(flat[:, 0] / flat[:, 2], x.ravel(), atol=1e-3)
    np.testing.assert_allclose(flat[:, 1] / flat[:, 2], y.ravel(), atol=1e-3)
    np.testing.assert_allclose(points[:, 2], slanted().ravel(), rtol=1e-6)
    colours = gaussians.sh[:, 0] * SH_0 + 0.5
    np.testing.assert_allclose(colours.reshape(*SIZE, 3), view.image / 255, atol=1e-6)


def test_discs_lie_on_the_surface_and_fill_their_pixels() -> None:
    view, depth = view_of(slanted(0.5))
    gaussians = pixel_gaussians(view, depth)
    axes = pose()[:3, :3] @ matrix_from_quaternion(gaussians.rotations.astype(np.float64))
    normal = np.array([0.5, 0, -1]) / np.sqrt(1.25)
    np.testing.assert_allclose(np.abs(axes[:, :, 2] @ normal), 1, atol=1e-4)
    pitch = slanted(0.5).ravel() / 40
    np.testing.assert_allclose(gaussians.scales[:, 1], pitch / 2, rtol=1e-5)
    # seen by the camera, the long axis has the same length as the short one, but for perspective
    middle = 14 * 30 + 11
    spread = axes[middle][:, 0] * gaussians.scales[middle, 0]
    ray = in_camera(gaussians, view.camera)[middle]  # type: ignore[arg-type]
    across = spread - ray * (spread @ ray) / (ray @ ray)
    assert np.linalg.norm(across) == pytest.approx(gaussians.scales[middle, 1], rel=1e-2)


def test_only_what_the_mask_shows_becomes_gaussians() -> None:
    mask = np.zeros((2, *SIZE), np.float32)
    mask[0, :, :10], mask[1, :, 10:15] = 1, 0.6
    mask[1, :, 15:20] = 0.4
    view, depth = view_of(slanted(), MaskSet(mask))
    gaussians = pixel_gaussians(view, depth)
    assert len(gaussians) == np.count_nonzero(mask.max(axis=0) >= 0.5)
    assert gaussians.labels is not None
    assert np.bincount(gaussians.labels).tolist() == [0, 240, 120]
    every = pixel_gaussians(view, depth, PixelOptions(only_object=False))
    assert len(every) == 24 * 30
    empty, depth = view_of(slanted(), MaskSet(np.zeros((1, *SIZE), np.float32)))
    assert len(pixel_gaussians(empty, depth)) == 0


def test_ignored_pixels_become_none_and_a_view_without_masks_is_whole() -> None:
    mask = np.zeros((1, *SIZE), np.float32)
    mask[0, :5] = 1
    assert len(pixel_gaussians(*view_of(slanted(), MaskSet(mask, role="ignore")))) == 19 * 30
    assert len(pixel_gaussians(*view_of(slanted()))) == 24 * 30


def test_opacity_follows_confidence_and_what_is_not_trusted_is_left_out() -> None:
    sure = pixel_gaussians(*view_of(slanted(), confidence=1.0))
    half = pixel_gaussians(*view_of(slanted(), confidence=0.5))
    np.testing.assert_allclose(half.opacities, sure.opacities / 2)
    assert len(pixel_gaussians(*view_of(slanted(), confidence=0.05))) == 0


def test_what_was_only_filled_changes_no_gaussian() -> None:
    view, depth = view_of(slanted())
    hole = np.ones(SIZE, bool)
    hole[8:14, 10:16] = False
    filled = np.where(hole, depth.depth.values, 1.5 * depth.depth.values)
    without, told = (
        pixel_gaussians(
            view, ViewDepth(DepthMap(filled, "depth", "m", valid), hole + np.float32(0))
        )
        for valid in (hole, None)
    )
    assert 0 < len(without) < 24 * 30
    for name in ("means", "scales", "rotations", "opacities"):
        np.testing.assert_array_equal(getattr(told, name), getattr(without, name))


@pytest.mark.parametrize("slope", [0.0, 0.5, 2.0])
def test_a_plane_has_no_edges(slope: float) -> None:
    assert len(pixel_gaussians(*view_of(slanted(slope)))) > 0.99 * 24 * 30


def test_at_a_step_a_pixel_on_each_side_is_left_out() -> None:
    z = np.full(SIZE, 2.0, np.float32)
    z[:, 12:] = 3
    z[:, 12] = 2.4  # a flying column
    view, depth = view_of(z, cam_from_world=np.eye(4))
    points = pixel_gaussians(view, depth).means
    column = np.round(points[:, 0] / points[:, 2] * 40 + 11 - 0.5).astype(int)
    missing = set(range(30)) - set(column.tolist())
    assert 12 in missing
    assert missing <= {10, 11, 12, 13, 14}


@pytest.mark.parametrize("factor", [0.01, 30.0])
def test_a_larger_world_has_larger_gaussians_in_the_same_places(factor: float) -> None:
    larger = pose()
    larger[:3, 3] *= factor
    view, depth = view_of(slanted())
    one = pixel_gaussians(view, depth)
    other = pixel_gaussians(*view_of(slanted() * np.float32(factor), cam_from_world=larger))
    np.testing.assert_allclose(other.means, one.means * factor, rtol=1e-4, atol=1e-5 * factor)
    np.testing.assert_allclose(other.scales, one.scales * factor, rtol=1e-3)


def test_the_same_view_twice_merges_into_one() -> None:
    once = pixel_gaussians(*view_of(slanted()))
    merged, again = merge_gaussians([once], 2.0), merge_gaussians([once, once], 2.0)
    assert len(merged) < len(once)
    np.testing.assert_allclose(again.means, merged.means, atol=1e-6)
    np.testing.assert_allclose(again.sh, merged.sh, atol=1e-5)


def test_merging_keeps_apart_what_differs() -> None:
    one = select(pixel_gaussians(*view_of(slanted())), np.arange(1))
    red, blue = (
        replace(one, sh=np.array([[colour]], np.float32))
        for colour in ((1.5, -1, -1), (-1, -1, 1.5))
    )
    assert len(merge_gaussians([red, red])) == 1
    assert len(merge_gaussians([red, blue])) == 2
    turned = one.rotations @ np.array([[0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1], [0, 0, -1, 0]])
    back = Gaussians(one.means, one.scales, turned.astype(np.float32), one.opacities, one.sh)
    assert len(merge_gaussians([one, back])) == 2  # the other side of a thin thing
    larger = Gaussians(one.means, one.scales * 8, one.rotations, one.opacities, one.sh)
    assert len(merge_gaussians([one, larger])) == 2
    assert len(concatenate([one, larger])) == 2


def test_mistakes_are_refused() -> None:
    view, depth = view_of(slanted())
    with pytest.raises(ValueError, match="no camera"):
        pixel_gaussians(View(view.image, "a"), depth)
    inverse = DepthMap(slanted(), "inverse_depth", "m")
    with pytest.raises(ValueError, match="inverse_depth of"):
        pixel_gaussians(view, ViewDepth(inverse, np.ones(SIZE, np.float32)))
    with pytest.raises(ValueError, match="depth where their masks are"):
        merge_gaussians([])
