"""The report of a reconstruction: pictures from all sides, and errors if the truth is known."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crispdepth.api.reconstruction import Reconstruction
from crispdepth.api.source_frame import in_source, mesh_in_source, unit_of, up_of
from crispdepth.evaluation.depth import depth_errors
from crispdepth.evaluation.mesh import transformerfusion_score
from crispdepth.evaluation.views import psnr, silhouette_iou, ssim
from crispdepth.io.atomic import write_text
from crispdepth.ops.images import eight_bit
from crispdepth.ops.rasterise import rasterise, shade
from crispdepth.ops.resample import shrink
from crispdepth.tasks.reconstruct import spread
from crispdepth.tasks.render import gaussian_renderer, orbit_cameras, orbit_points
from crispdepth.types import Camera, Mesh, Scene, View
from crispdepth.viz.html import MetricColumn, MetricTable
from crispdepth.viz.scene_report import ViewFigure, scene_report

SHOWN = 6
"""Views that a report shows, evenly chosen."""

SIDES = 6
"""Pictures of a turntable."""

SURE = 0.5
"""Confidence from which on a depth counts as sure in the table."""

_SIDE = 480  # longer side of renders, pixels
_THRESHOLDS = (0.05, 0.01)  # of F-scores, m
_DEPTH = (
    MetricColumn("abs_rel", "AbsRel %", True, 2),
    MetricColumn("abs_diff", "AbsDiff", True, 4),
    MetricColumn("rmse", "RMSE", True, 4),
    MetricColumn("delta1", "δ < 1.25", False, 3),
    MetricColumn("completeness", "completeness", False, 3),
)
_PHOTO = (
    MetricColumn("psnr", "PSNR dB", False, 2),
    MetricColumn("masked_psnr", "masked PSNR dB", False, 2),
    MetricColumn("ssim", "SSIM", False, 3),
    MetricColumn("iou", "silhouette IoU", False, 3),
)

Draw = Callable[[Camera], NDArray[np.uint8]]


def write_report(result: Reconstruction, path: Path, *, device: str = "cpu") -> None:
    """Write the HTML report of a reconstruction.

    Raises:
        OSError: a result cannot be read, or the report not written.
    """
    scene = result.scene
    mesh, gaussians = result.mesh, result.gaussians
    draws: dict[str, Draw] = {}
    if mesh is not None:
        draws["Mesh"] = lambda camera: shade(mesh, camera)
        draws["Mesh, shape alone"] = lambda camera: shade(mesh, camera, coloured=False)
    if gaussians is not None:
        draws["Gaussians"] = gaussian_renderer(gaussians, device=device)
    usable = result.with_depth
    chosen = [usable[i] for i in spread(len(usable), SHOWN)]
    views = [_figure(result, index, draws) for index in chosen]
    tables = [
        *_depth_tables(result, chosen),
        *_mesh_tables(mesh, scene),
        *_photo_tables(result, chosen, device),
    ]
    facts = {
        "scene": scene.name,
        "views": str(len(scene)),
        "unit": unit_of(scene),
        "depth": _where_from(result),
        "quality": result.config.quality,
    }
    if mesh is not None:
        how = ", by learned fusion" * (result.config.fusion == "volume")
        facts["mesh"] = f"{len(mesh.faces)} triangles{how}"
    if gaussians is not None:
        facts["Gaussians"] = str(len(gaussians))
    facts |= {f"time for {name}": f"{took:.0f} s" for name, took in result.seconds.items()}
    cameras = _around(result)
    around = {
        what: [draw(camera) for camera in cameras]
        for what, draw in draws.items()
        if what != "Mesh, shape alone"
    }
    title = f"Reconstruction of {scene.name}"
    write_text(path, scene_report(title, facts, scene.notes, tables, views, around))


def _where_from(result: Reconstruction) -> str:
    """Where the depth is from, in words."""
    if result.given:
        return "as the views hold it"
    how = {
        "multiview": "with the multi-view network",
        "stereo": "by the stereo of volumetric fusion",
    }.get(result.config.method, "classically")
    return f"matched between the photos, {how}" + ", refined" * result.config.refine


def measure(result: Reconstruction, *, device: str = "cpu") -> dict[str, float]:
    """The numbers of a reconstruction whose truth is known, over all of its views.

    Keys are those of the tables of the report; what cannot be known is absent.
    """
    every = result.with_depth
    tables = [
        *_depth_tables(result, every),
        *_mesh_tables(result.mesh, result.scene),
        *_photo_tables(result, every, device),
    ]
    return {
        f"{row}: {key}": value
        for table in tables
        for row, values in table.rows.items()
        for key, value in values.items()
    }


def _small(camera: Camera) -> Camera:
    height, width = camera.size
    scale = min(1.0, _SIDE / max(height, width))
    return camera.resized((max(1, round(height * scale)), max(1, round(width * scale))))


def _figure(result: Reconstruction, index: int, draws: Mapping[str, Draw]) -> ViewFigure:
    view = result.scene[index]
    camera = _small(in_source(result.scene.cameras[index], result.scene))
    depth = result.depth(index)
    renders = {what: draw(camera) for what, draw in draws.items()}
    return ViewFigure(view.name, view.image, depth, renders, view.masks)


def _around(result: Reconstruction) -> Sequence[Camera]:
    """Cameras around the result; where all look the same way, those of some of the views."""
    scene = result.scene
    cameras = [in_source(camera, scene) for camera in scene.cameras]
    size = (360, 360)
    K = np.array([[400.0, 0, 180], [0, 400, 180], [0, 0, 1]])
    try:
        orbit = orbit_cameras(cameras)
    except ValueError:
        return [_small(cameras[index]) for index in spread(len(cameras), SIDES)]
    mesh, gaussians = result.mesh, result.gaussians
    points = mesh.vertices if mesh is not None else gaussians.means if gaussians else None
    if points is None:
        return ()
    up = np.array(up_of(scene))
    return orbit_points(points, up, K, size, orbit.elevation_deg).cameras(K, size, SIDES)


def _depth_tables(result: Reconstruction, chosen: Sequence[int]) -> list[MetricTable]:
    """Errors of the matched depth against the depth that the views hold, in means over views."""
    if result.given:
        return []
    rows: dict[str, list[dict[str, float]]] = {"all": [], f"confidence over {SURE}": []}
    for index in chosen:
        view, found = result.scene[index], result.depth(index)
        if view.depth is None or view.depth.size != found.depth.size:
            continue
        for name, least in zip(rows, (0.0, SURE), strict=True):
            shown = _in_object(view) & view.depth.usable
            values = np.where(found.confidence > least, found.depth.values, 0)
            errors = depth_errors(values, view.depth.values, shown)._asdict()
            rows[name].append({**errors, "abs_rel": 100 * errors["abs_rel"]})
    means = {name: _means(each) for name, each in rows.items() if each}
    title = f"Depth against the views' own depth, {unit_of(result.scene)}"
    return [MetricTable(title, _DEPTH, means)] if means else []


def _in_object(view: View) -> NDArray[np.bool_]:
    """Where the masks let something be reconstructed, (h, w)."""
    inside = np.ones(view.image.shape[:2], bool)
    if view.masks is not None and len(view.masks):
        union = np.max([view.masks[index] for index in range(len(view.masks))], axis=0)
        inside = union >= 0.5 if view.masks.role == "object" else union < 0.5
    return inside


def _mesh_tables(mesh: Mesh | None, scene: Scene) -> list[MetricTable]:
    """The mesh against the true surface: the part of it that the photos show."""
    is_scaled = not np.allclose(scene.source_from_world, np.eye(4))
    if mesh is None or scene.mesh is None or scene.unit != "m" or is_scaled:
        return []
    true = _seen(mesh_in_source(scene.mesh(), scene), scene)
    row: dict[str, float] = {}
    columns = [
        MetricColumn("accuracy", "accuracy cm", True, 2),
        MetricColumn("completeness", "completeness cm", True, 2),
    ]
    for threshold in _THRESHOLDS:
        score = transformerfusion_score(mesh, true, threshold)
        row["accuracy"], row["completeness"] = 100 * score.accuracy, 100 * score.completeness
        for key, value in (
            ("precision", score.precision),
            ("recall", score.recall),
            ("F", score.f_score),
        ):
            name = f"{key} at {100 * threshold:g} cm"
            columns.append(MetricColumn(name, name, False, 3))
            row[name] = value
    title = "Mesh against the true surface that the photos and masks show"
    return [MetricTable(title, columns, {"mesh": row})]


def _seen(mesh: Mesh, scene: Scene) -> Mesh:
    """The points of a mesh that the views see where their masks let something be reconstructed, at
    their pixels: vertices without faces.
    """
    points = []
    for index in spread(len(scene), 48):
        camera = _small(in_source(scene.cameras[index], scene))
        depth = rasterise(mesh, camera).depth
        wanted = shrink(_in_object(scene[index]).astype(np.float32), camera.size) >= 0.5
        y, x = np.nonzero(depth * wanted)
        rays = np.stack([x + 0.5, y + 0.5, np.ones(len(x))], axis=1) @ np.linalg.inv(camera.K).T
        pose = camera.cam_from_world
        points.append((rays * depth[y, x][:, None] - pose[:3, 3]) @ pose[:3, :3])
    merged = np.concatenate(points).astype(np.float32)
    cell = np.unique(np.floor(merged / 0.005).astype(np.int32), axis=0, return_index=True)[1]
    return Mesh(merged[cell], np.zeros((0, 3), np.int32))


def _photo_tables(result: Reconstruction, chosen: Sequence[int], device: str) -> list[MetricTable]:
    """Renders of the Gaussians, and silhouettes of the mesh, against the photos."""
    gaussians, mesh, scene = result.gaussians, result.mesh, result.scene
    rows: dict[str, list[dict[str, float]]] = {}
    if gaussians is not None:
        black = gaussian_renderer(gaussians, (0, 0, 0), device)
        white = gaussian_renderer(gaussians, (1, 1, 1), device)
    for index in chosen:
        view, camera = scene[index], in_source(scene.cameras[index], scene)
        has_object = view.masks is not None and view.masks.role == "object" and len(view.masks) > 0
        inside = _in_object(view)
        if mesh is not None and has_object:
            shown = rasterise(mesh, camera).depth > 0
            iou = silhouette_iou(shown, inside)
            rows.setdefault("mesh", []).append({"iou": iou})
        if gaussians is None:
            continue
        on_black, on_white = (draw(camera).astype(np.float32) / 255 for draw in (black, white))
        photo = eight_bit(view.image).astype(np.float32) / 255
        mask = inside.astype(np.float32)
        row = {"masked_psnr": psnr(on_black, photo, mask)} if inside.any() else {}
        if has_object:
            alpha = 1 - (on_white - on_black).mean(axis=-1)
            row["iou"] = silhouette_iou(alpha, mask)
            photo = photo * mask[..., None]
        if has_object or inside.all():  # else something is to be ignored
            row |= {"psnr": psnr(on_black, photo), "ssim": ssim(on_black, photo)}
        rows.setdefault("Gaussians", []).append(row)
    means = {name: _means(each) for name, each in rows.items()}
    return [MetricTable("Renders against the photos", _PHOTO, means)] if means else []


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each number over the rows that have it; nan where none has."""
    means = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        values = [row[key] for row in rows if key in row and not math.isnan(row[key])]
        means[key] = float(np.mean(values)) if values else math.nan
    return means
