"""From views and depths to a clean mesh: masks, edges, sizes, and mistakes that are named."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from crispdepth.ops.isosurface import extract_mesh
from crispdepth.tasks.fuse import (
    FuseConfig,
    evidence_of,
    fuse,
    integrate_view,
    remove_small_pieces,
    start_volume,
    voxel_size,
)
from crispdepth.types import Camera, DepthMap, Float32Map, MaskSet, Mesh, View, ViewDepth
from tests.analytic import around, looking_at, plane_depth, sphere_depth

VOXEL = 0.06
CONFIG = FuseConfig(voxel=VOXEL)


def seen(
    camera: Camera, depth: Float32Map, masks: MaskSet | None = None, trust: float = 1.0
) -> tuple[View, ViewDepth]:
    image = np.full((*camera.size, 3), 120, np.uint8)
    confidence = np.full(camera.size, trust, np.float32)
    return (
        View(image, "photo.png", camera, masks=masks),
        ViewDepth(DepthMap(depth, "depth"), confidence),
    )


def sphere_before_wall(camera: Camera) -> tuple[Float32Map, np.ndarray]:
    """A sphere and the inside of a cube about everything; where the sphere is."""
    sphere = sphere_depth(camera)
    normal = np.array([0.0, 0, 1])
    walls = [plane_depth(camera, sign * normal, 2.0) for sign in (-1, 1)]
    wall = np.minimum(*(np.where(w > 0, w, np.inf) for w in walls))
    depth = np.where(sphere > 0, sphere, np.where(np.isfinite(wall), wall, 0))
    return depth.astype(np.float32), sphere > 0


LEFT = np.array([-0.8, 0, 0])


def two_balls(camera: Camera) -> tuple[Float32Map, dict[str, Float32Map]]:
    """Depth of two balls of radius .5, of which one may stand before the other, and their masks."""
    far = [sphere_depth(moved(camera, centre), 0.5) for centre in (LEFT, -LEFT)]
    left, right = (np.where(depth > 0, depth, np.inf) for depth in far)
    nearest = np.minimum(left, right)
    seen = np.isfinite(nearest)
    masks = {"left": seen & (left <= right), "right": seen & (right < left)}
    depth = np.where(seen, nearest, 0).astype(np.float32)
    return depth, {name: mask.astype(np.float32) for name, mask in masks.items()}


def moved(camera: Camera, origin: np.ndarray) -> Camera:
    """The same camera in a world whose origin is there."""
    pose = camera.cam_from_world.copy()
    pose[:3, 3] += pose[:3, :3] @ origin
    return Camera(camera.K, camera.size, pose)


@pytest.mark.parametrize("carve", [False, True])
def test_one_of_several_objects_is_fused_alone(carve: bool) -> None:
    views = []
    for camera in around(16, 5.0):
        depth, masks = two_balls(camera)
        views.append(seen(camera, depth, MaskSet(np.stack([*masks.values()]), tuple(masks))))
    config = replace(CONFIG, carve=carve)
    for name, centre in (("left", LEFT), ("right", -LEFT)):
        mesh = fuse(views, replace(config, only=name))
        away = np.linalg.norm(mesh.vertices - centre, axis=1)
        assert np.abs(away - 0.5).max() < VOXEL
        # Where the other one stands before it nothing is known, so nothing is carved.
        directions = (mesh.vertices - centre) / away[:, None]
        assert np.ptp(directions, axis=0).min() > 1.8


def test_what_another_object_covers_is_neither_there_nor_empty() -> None:
    camera = looking_at(np.array([5.0, 0, 0]), np.zeros(3), (96, 96), 120)  # along both
    depth, masks = two_balls(camera)
    both = MaskSet(np.stack([*masks.values()]), tuple(masks))
    right = masks["right"] > 0.5
    evidence = evidence_of(*seen(camera, depth, both), replace(CONFIG, only="left"))
    assert right.any()
    assert not evidence.weight[right].any()
    assert not evidence.empty[right].any()
    assert evidence.empty[(masks["left"] == 0) & ~right].all()
    unknown = MaskSet(masks["right"][None], ("right",))  # nobody looked for the left one here
    evidence = evidence_of(*seen(camera, depth, unknown), replace(CONFIG, only="left"))
    assert not evidence.weight.any()
    assert not evidence.empty.any()
    evidence = evidence_of(*seen(camera, depth), replace(CONFIG, only="left"))
    assert not evidence.weight.any()


def test_views_become_a_mesh_and_are_counted() -> None:
    cameras = around(12, 4.0)
    counted: list[int] = []

    def views() -> Iterator[tuple[View, ViewDepth]]:
        for camera in cameras:
            yield seen(camera, sphere_depth(camera))

    mesh = fuse(views(), CONFIG, on_view=lambda: counted.append(1))
    assert len(counted) == len(cameras)
    assert np.abs(np.linalg.norm(mesh.vertices, axis=1) - 1).max() < VOXEL / 2
    assert mesh.colours is not None
    assert (mesh.colours == 120).all()


def test_smoothing_takes_the_noise_of_depth() -> None:
    rng = np.random.default_rng(0)
    views = []
    for camera in around(12, 4.0):
        depth = sphere_depth(camera)
        noise = rng.normal(0, VOXEL / 3, depth.shape).astype(np.float32)
        views.append(seen(camera, np.where(depth > 0, depth + noise, 0)))
    rough, smooth = (fuse(views, replace(CONFIG, smooth=rounds)) for rounds in (0, 30))
    assert len(rough.faces) == len(smooth.faces)
    off = [np.linalg.norm(mesh.vertices, axis=1) - 1 for mesh in (rough, smooth)]
    assert off[1].std() < 0.7 * off[0].std()
    assert abs(off[1].mean() - off[0].mean()) < VOXEL / 20


def test_object_masks_keep_only_what_is_inside_and_ignored_pixels_say_nothing() -> None:
    for role in ("object", "ignore"):
        views = []
        for camera in around(12, 4.0):
            depth, inside = sphere_before_wall(camera)
            kept = inside if role == "object" else ~inside
            masks = MaskSet(kept[None], role=role)
            views.append(seen(camera, depth, masks))
        mesh = fuse(views, CONFIG)
        assert np.linalg.norm(mesh.vertices, axis=1).max() < 1 + VOXEL


def test_masks_of_ones_and_no_masks_give_the_same() -> None:
    views = []
    for camera in around(4, 4.0):
        views.append(seen(camera, sphere_depth(camera)))
    ones = MaskSet(np.ones((1, 96, 96), np.float32))
    masked = [(replace(view, masks=ones), depth) for view, depth in views]
    for one, other in zip(views, masked, strict=True):
        a, b = evidence_of(*one, CONFIG), evidence_of(*other, CONFIG)
        np.testing.assert_array_equal(a.weight, b.weight)
        np.testing.assert_array_equal(a.depth, b.depth)
        assert not b.empty.any()


def test_soft_masks_are_soft_trust() -> None:
    camera = around(2, 4.0)[0]
    soft = np.linspace(0, 1, 96 * 96, dtype=np.float32).reshape(1, 96, 96)
    view, depth = seen(camera, np.full(camera.size, 3, np.float32), MaskSet(soft), trust=0.8)
    weight = evidence_of(view, depth, CONFIG).weight
    np.testing.assert_allclose(weight, np.where(soft[0] < 0.5, 0, 0.8 * soft[0]), atol=1e-6)


def test_without_the_edges_of_masks_no_voxel_floats_between_two_planes() -> None:
    """Spec B.8: a blurred depth edge votes for surfaces that are not there."""
    camera = looking_at(np.zeros(3), np.array([0.0, 1, 0]), (96, 96), 80)
    mask = np.zeros(camera.size, np.float32)
    mask[:, 48:] = 1
    ramp = np.clip((np.arange(96) - 45.5) / 4, 0, 1)  # two pixels to both sides
    depth = np.broadcast_to(4 - 2 * ramp, camera.size).astype(np.float32)
    floating = []
    for edge in (0, 2):
        config = replace(CONFIG, mask_edge=edge, truncation=2)
        volume = start_volume(VOXEL, config)
        for inside in (mask, 1 - mask):
            view, measured = seen(camera, depth, MaskSet(inside[None]))
            integrate_view(volume, view, measured, config)
        y = extract_mesh(volume).vertices[:, 1]
        floating.append(int((np.minimum(np.abs(y - 2), np.abs(y - 4)) > VOXEL).sum()))
    assert floating[0] > 20
    assert floating[1] == 0


def test_carving_with_object_masks_is_a_visual_hull() -> None:
    """Depth much too far away in one view is emptied by what the others see beside the sphere."""
    cameras = around(10, 4.0)
    views = []
    for number, camera in enumerate(cameras):
        depth = sphere_depth(camera)
        wrong = np.where(depth > 0, depth - 1.0, 0).astype(np.float32) if number == 0 else depth
        masks = MaskSet((depth > 0)[None])
        views.append(seen(camera, wrong, masks))
    farthest = []
    for carve in (False, True):
        config = replace(CONFIG, carve=carve, min_piece=0)
        mesh = fuse(views, config)
        farthest.append(np.linalg.norm(mesh.vertices, axis=1).max())
    assert farthest[0] > 1.5
    assert farthest[1] < 1.1


def test_confidence_decides_what_is_seen_well_enough() -> None:
    cameras = around(12, 4.0)
    unsure = [seen(camera, sphere_depth(camera), trust=0.01) for camera in cameras]
    with pytest.raises(ValueError, match="No surface came out"):
        fuse(unsure, CONFIG)
    assert len(fuse(unsure, replace(CONFIG, min_weight=0)).faces)


def test_small_pieces_are_removed_and_large_ones_kept() -> None:
    vertices = np.array(
        [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [5, 5, 5], [6, 5, 5], [5, 6, 5]]
    )
    faces = np.array([[4, 5, 6], [0, 1, 2], [1, 3, 2]], np.int32)
    colours = np.arange(21, dtype=np.uint8).reshape(7, 3)
    mesh = remove_small_pieces(Mesh(vertices.astype(np.float32), faces, colours), 2)
    np.testing.assert_array_equal(mesh.vertices, vertices[:4])
    np.testing.assert_array_equal(mesh.faces, faces[1:])
    np.testing.assert_array_equal(mesh.colours, colours[:4])


def test_the_voxel_size_follows_the_scene_and_its_pixels() -> None:
    cameras = around(6, 4.0)
    views = [seen(camera, sphere_depth(camera)) for camera in cameras]
    assert voxel_size(views, FuseConfig(resolution=20)) == pytest.approx(2 / 20, rel=0.05)
    pixel = 3.1 / (1.1 * 96)
    assert voxel_size(views, FuseConfig(resolution=4000)) == pytest.approx(2 * pixel, rel=0.05)
    large = []
    for camera, (_, depth) in zip(cameras, views, strict=True):
        pose = camera.cam_from_world.copy()
        pose[:3, 3] *= 10
        large.append(seen(replace(camera, cam_from_world=pose), 10 * depth.depth.values))
    config = FuseConfig(resolution=20)
    assert voxel_size(large, config) == pytest.approx(10 * voxel_size(views, config), rel=1e-5)


def test_huge_scenes_are_refused_with_the_voxel_size_that_fits() -> None:
    camera = around(2, 4.0)[0]
    view = seen(camera, np.full(camera.size, 2e4, np.float32))
    with pytest.raises(ValueError, match=r"GB are there .* Voxels of .* would fit") as error:
        fuse([view], FuseConfig(voxel=0.01))
    fits = float(str(error.value).split("Voxels of ")[2].split(" ")[0])
    assert 0.01 < fits < 2e4
    eye = np.array([1e8, 0, 0])
    lost = looking_at(eye, np.array([1e8, 1, 0]), (8, 8), 8)
    with pytest.raises(ValueError, match="at most"):
        fuse([seen(lost, np.full((8, 8), 2, np.float32))], CONFIG)


def test_mistakes_are_named() -> None:
    camera = around(2, 4.0)[0]
    view, depth = seen(camera, sphere_depth(camera))
    with pytest.raises(ValueError, match="no view"):
        fuse([], CONFIG)
    with pytest.raises(ValueError, match=r"photo\.png has no camera"):
        fuse([(replace(view, camera=None), depth)], CONFIG)
    ones = np.ones(camera.size, np.float32)
    inverse = ViewDepth(DepthMap(ones, "inverse_depth"), ones)
    with pytest.raises(ValueError, match="z-depth"):
        fuse([(view, inverse)], CONFIG)
    small = ViewDepth(DepthMap(ones[:3, :4], "depth"), ones[:3, :4])
    with pytest.raises(ValueError, match="the depth is"):
        fuse([(view, small)], CONFIG)
    nothing = seen(camera, np.zeros(camera.size, np.float32))
    with pytest.raises(ValueError, match="No pixel"):
        fuse([nothing], FuseConfig())
    with pytest.raises(ValueError, match="No surface"):
        fuse([nothing], CONFIG)
    for wrong in (
        {"voxel": 0.0},
        {"resolution": 1},
        {"truncation": 0.5},
        {"smooth": -1},
        {"max_memory": 0.0},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            FuseConfig(**wrong)


def test_a_view_that_sees_nothing_is_no_harm() -> None:
    cameras = around(12, 4.0)
    views = [seen(camera, sphere_depth(camera)) for camera in cameras]
    views.insert(3, seen(cameras[0], np.zeros(cameras[0].size, np.float32)))
    assert len(fuse(views, CONFIG).faces)


def test_the_field_lives_where_it_was_told_to() -> None:
    assert start_volume(0.1, CONFIG, "cpu").device == torch.device("cpu")


def test_voxels_are_at_least_two_pixels_wide() -> None:
    views = [seen(camera, sphere_depth(camera)) for camera in around(3, 4.0)]
    fine = replace(CONFIG, voxel=None, resolution=10_000)
    expected = 2 * 3.2 / (1.1 * 96)  # the middle depth over the focal length
    assert voxel_size(views, fine) == pytest.approx(expected, rel=0.15)
