"""Objects that depth shows in part, and masks whole, become whole meshes."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from crispdepth.ops.hull import depth_in_hull
from crispdepth.ops.isosurface import extract_mesh
from crispdepth.ops.rasterise import rasterise
from crispdepth.tasks.fuse import FuseConfig, fuse, integrate_view, start_volume, voxel_size
from crispdepth.tasks.hull import shown, solid, visual_hull
from crispdepth.types import Camera, DepthMap, MaskSet, Mesh, View, ViewDepth
from tests.analytic import around, sphere_depth

CONFIG = FuseConfig(voxel=0.08)


def seen(camera: Camera, masked: bool = True, known: bool = True) -> tuple[View, ViewDepth]:
    """A sphere whose depth is known where z > 0 only."""
    depth = sphere_depth(camera)
    rows, columns = np.nonzero(depth)
    pixels = np.column_stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
    points = (pixels @ np.linalg.inv(camera.K).T) * depth[rows, columns][:, None]
    up = ((points - camera.cam_from_world[:3, 3]) @ camera.cam_from_world[:3, :3])[:, 2] > 0
    measured = np.zeros_like(depth)
    measured[rows[up], columns[up]] = depth[rows[up], columns[up]]
    masks = MaskSet((depth > 0)[None] if known else np.zeros((1, *camera.size), bool))
    image = np.full((*camera.size, 3), 120, np.uint8)
    view = View(image, f"{id(camera)}.png", camera, masks=masks if masked else None)
    return view, ViewDepth(DepthMap(measured, "depth"), (measured > 0).astype(np.float32))


def missing(mesh: Mesh, cameras: list[Camera]) -> float:
    """Share of the pixels of the sphere that show no mesh, the worst of the views."""
    shares = []
    for camera in cameras:
        inside = sphere_depth(camera) > 0
        shares.append(float((inside & (rasterise(mesh, camera).depth == 0)).sum() / inside.sum()))
    return max(shares)


def test_what_depth_leaves_open_the_silhouettes_close() -> None:
    cameras = around(14, 4.0)
    views = [seen(camera) for camera in cameras]
    hull = visual_hull(view for view, _ in views)
    assert hull is not None
    assert (hull.box[0] < -1).all()
    assert (hull.box[1] > 1).all()
    half, whole = (fuse(views, CONFIG, hull=each) for each in (None, hull))
    assert missing(half, cameras) > 0.3
    assert missing(whole, cameras) < 0.01
    radius = np.linalg.norm(whole.vertices, axis=1)
    assert np.abs(radius[whole.vertices[:, 2] > 0.2] - 1).max() < 0.06
    assert radius.max() < 1.2
    assert whole.colours is not None
    assert (whole.colours == 120).all()  # where no depth gave one, too


def test_what_silhouettes_say_is_not_smoothed() -> None:
    views = [seen(camera) for camera in around(14, 4.0)]
    hull = visual_hull(view for view, _ in views)
    assert hull is not None
    rough, smooth = (fuse(views, replace(CONFIG, smooth=rounds), hull=hull) for rounds in (0, 30))
    deep = depth_in_hull(hull.silhouettes, rough.vertices)
    moved = np.linalg.norm(smooth.vertices - rough.vertices, axis=1)
    assert (moved[deep <= 0] == 0).all()
    assert (moved[deep > 0] > 0).mean() > 0.9


def test_unknown_and_empty_masks_exclude_nothing() -> None:
    cameras = around(14, 4.0)
    views = [
        seen(camera, masked=number != 3, known=number != 5) for number, camera in enumerate(cameras)
    ]
    hull = visual_hull(view for view, _ in views)
    assert hull is not None
    assert len(hull.silhouettes) == 12
    assert missing(fuse(views, CONFIG, hull=hull), cameras) < 0.01


def test_masks_that_enclose_nothing_have_no_hull() -> None:
    cameras = around(6, 4.0)

    def some(masked: int, role: str = "object") -> Iterator[View]:
        for number, camera in enumerate(cameras):
            view = seen(camera, masked=number < masked)[0]
            if view.masks is not None and role == "ignore":
                view = replace(view, masks=replace(view.masks, role="ignore"))
            yield view

    assert visual_hull(some(6)) is not None
    assert visual_hull(some(2)) is None
    assert visual_hull(some(6, "ignore")) is None
    ones = MaskSet(np.ones((1, 96, 96), np.float32))
    assert visual_hull(replace(view, masks=ones) for view in some(6)) is None


def test_objects_that_some_photos_cut_off_are_enclosed_by_the_others() -> None:
    cameras = around(14, 4.0)

    def some(cut: int) -> Iterator[View]:
        """Every second of the first views loses the half of the photo that is right of it."""
        for number, camera in enumerate(cameras):
            view = seen(camera)[0]
            if number % 2 == 0 and number < 2 * cut:
                height, width = camera.size
                halved = replace(camera, size=(height, width // 2))
                assert view.masks is not None
                masks = replace(view.masks, values=view.masks.values[..., : width // 2])
                view = replace(view, image=view.image[:, : width // 2], camera=halved, masks=masks)
            yield view

    hull = visual_hull(some(6))
    assert hull is not None
    assert (hull.box[0] < -1).all()
    assert (hull.box[1] > 1).all()
    views = [seen(camera) for camera in cameras]
    assert missing(fuse(views, CONFIG, hull=hull), cameras) < 0.01
    assert visual_hull(view for number, view in enumerate(some(7)) if number != 1) is None


def test_voxels_are_smaller_where_silhouettes_are_sharp() -> None:
    views = [seen(camera) for camera in around(6, 4.0)]
    hull = visual_hull(view for view, _ in views)
    config = FuseConfig(resolution=10_000)
    assert voxel_size(views, config, hull) < voxel_size(views, config)


def test_triangles_that_no_photo_shows_are_left_out() -> None:
    cameras = [camera for camera in around(60, 4.0) if -camera.cam_from_world[2, 2] > 0.5]
    views = [seen(camera) for camera in cameras]  # all from above
    hull = visual_hull(view for view, _ in views)
    assert hull is not None
    volume = start_volume(0.08, CONFIG, hull=hull)
    for view, depth in views:
        integrate_view(volume, view, depth, CONFIG)
    mesh = solid(volume, hull, 0.5)
    whole = extract_mesh(volume)
    dropped = len(whole.faces) - len(mesh.faces)
    assert 0 < dropped < len(whole.faces) / 2
    low, lowest = (m.vertices[m.faces][..., 2].min() for m in (mesh, whole))
    assert low > lowest + 0.1  # the tip below the sphere, which the silhouettes leave


def test_a_view_shows_what_is_turned_to_it_and_in_front() -> None:
    camera = around(2, 4.0)[0]
    pose = np.linalg.inv(camera.cam_from_world)
    square = np.array([[-1.0, -1, 0], [-1, 1, 0], [1, 1, 0]])
    ahead = np.array([0.0, 0, 4])
    behind, turned, beside = square * 0.3 + ahead, square[::-1], square - 3 * ahead[::-1]
    places = np.concatenate([square + 0.75 * ahead, behind, turned + 0.74 * ahead, beside])
    world = places @ pose[:3, :3].T + pose[:3, 3]
    faces = np.arange(12, dtype=np.int32).reshape(4, 3)
    mesh = Mesh(world.astype(np.float32), faces)
    found = shown(mesh, rasterise(mesh, camera, cull=True), camera, 0.1)
    assert found.tolist() == [True, False, False, False]
