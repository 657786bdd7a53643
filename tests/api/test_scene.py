"""The whole job on a small analytic ball, seen from all sides, whose depth the views hold."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch

import crispdepth
from crispdepth.api.reconstruction import MESH, SPLATS_FILE
from crispdepth.api.scene import (
    PUT_ASIDE,
    SUMMARY,
    Unwatched,
    reconstruct,
)
from crispdepth.api.scene_report import measure, write_report
from crispdepth.api.source_frame import gaussians_in_source, in_source
from crispdepth.io.scenes import open_scene
from crispdepth.io.scenes.export import write_transforms
from crispdepth.models.export import write_weights
from crispdepth.models.presets import build_volume
from crispdepth.ops.rasterise import rasterise
from crispdepth.tasks.multiview import estimate_depths
from crispdepth.tasks.multiview_config import MultiviewConfig
from crispdepth.tasks.reconstruct_config import ReconstructConfig
from crispdepth.tasks.splat import pixel_gaussians
from crispdepth.types import DepthMap, MaskRole, MaskSet, Mesh, Scene, View, scene_of_views
from tests.analytic import around, rays, sphere_depth

PREVIEW = ReconstructConfig(quality="preview")


@pytest.fixture(scope="module")
def ball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A nerfstudio folder of a ball of radius 1."""
    views = []
    for index, camera in enumerate(around(10, 3.0, (64, 64))):
        depth = sphere_depth(camera)
        centre, direction = rays(camera)
        points = centre + direction * depth[..., None]
        colours = np.where(depth[..., None] > 0, 128 + 100 * np.sin(4 * points), 0)
        mask = (depth > 0).astype(np.float32)
        views.append(
            View(
                colours.clip(0, 255).astype(np.uint8),
                f"{index:02}.png",
                camera,
                DepthMap(depth, "depth", "m", camera=camera),
                MaskSet(mask[None]),
            )
        )
    folder = tmp_path_factory.mktemp("ball")
    write_transforms(scene_of_views(views), folder)
    return folder


@pytest.fixture(scope="module")
def result(ball: Path, tmp_path_factory: pytest.TempPathFactory) -> crispdepth.Reconstruction:
    return reconstruct(ball, tmp_path_factory.mktemp("result"), config=PREVIEW)


class Noting(Unwatched):
    """Keeps what is said, and may stop in the middle."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.lines: list[str] = []
        self._left = stop_after

    def say(self, *lines: str) -> None:
        self.lines += lines

    @contextmanager
    def progress(self, total: int) -> Iterator[Callable[[], object]]:
        def advance() -> None:
            if self._left is not None:
                self._left -= 1
                if self._left < 0:
                    raise KeyboardInterrupt

        yield advance


def test_mesh_and_gaussians_lie_on_the_ball(result: crispdepth.Reconstruction) -> None:
    mesh, gaussians = result.mesh, result.gaussians
    assert mesh is not None
    assert gaussians is not None
    assert result.given  # the views hold depth
    radius = np.linalg.norm(mesh.vertices, axis=1)
    np.testing.assert_allclose(radius, 1, atol=0.04)
    assert abs(np.median(np.linalg.norm(gaussians.means, axis=1)) - 1) < 0.03
    summary = json.loads((result.folder / SUMMARY).read_text())
    assert summary["views"] == 10
    assert summary["config"]["quality"] == "preview"


def test_done_stages_are_not_done_again(result: crispdepth.Reconstruction, ball: Path) -> None:
    before = (result.folder / SPLATS_FILE).stat().st_mtime_ns
    noting = Noting()
    reconstruct(ball, result.folder, config=PREVIEW, watch=noting)
    assert (result.folder / SPLATS_FILE).stat().st_mtime_ns == before
    assert not any("Gaussians" in line for line in noting.lines)
    assert any("as the views hold it" in line for line in noting.lines)


def test_other_settings_do_not_replace_results(
    result: crispdepth.Reconstruction, ball: Path
) -> None:
    other = ReconstructConfig(quality="preview", voxel=0.2)
    with pytest.raises(ValueError, match=r"holds the mesh of other photos or settings"):
        reconstruct(ball, result.folder, what=("mesh",), config=other)
    mesh = result.mesh
    assert mesh is not None
    assert len(mesh.faces) > 500


def test_masks_taken_otherwise_are_other_settings(
    result: crispdepth.Reconstruction, ball: Path
) -> None:
    for options in ({"invert_masks": True}, {"mask_role": "ignore"}, {"masks": "none"}):
        opened = open_scene(ball, longest=320, **options)
        with pytest.raises(ValueError, match="of other photos or settings"):
            reconstruct(opened, result.folder, what=("mesh",), config=PREVIEW)


def test_a_refusal_comes_before_any_work(ball: Path, tmp_path: Path) -> None:
    reconstruct(ball, tmp_path, what=("mesh",), config=PREVIEW)
    noting = Noting()
    other = ReconstructConfig(quality="preview", method="classical")
    with pytest.raises(ValueError, match="holds the mesh"):
        reconstruct(ball, tmp_path, what=("mesh",), config=other, watch=noting)
    assert not any("depth of" in line for line in noting.lines)
    assert not (tmp_path / "depth").exists()


def test_results_of_other_settings_are_not_shown(ball: Path, tmp_path: Path) -> None:
    first = reconstruct(ball, tmp_path, what=("mesh",), config=PREVIEW)
    assert first.mesh is not None
    other = replace(PREVIEW, voxel=0.3)
    assert reconstruct(ball, tmp_path, what=("depth",), config=other).mesh is None


def test_a_scene_opened_too_large_is_refused_at_once(ball: Path, tmp_path: Path) -> None:
    views = [scaled_view(view, 400) for view in open_scene(ball).scene]
    folder = tmp_path / "large"
    write_transforms(scene_of_views(views), folder)
    with pytest.raises(ValueError, match=r"works on 320: open_scene\(\.\.\., longest=320\)"):
        reconstruct(open_scene(folder), tmp_path / "out", config=PREVIEW)


def scaled_view(view: View, longest: int) -> View:
    assert view.camera is not None
    return View(
        np.zeros((longest, longest, 3), np.uint8), view.name, view.camera.resized((longest,) * 2)
    )


def test_views_without_masks_or_with_empty_ones_are_reported(ball: Path, tmp_path: Path) -> None:
    views = list(open_scene(ball).scene)
    some = [
        replace(view, masks=None)
        if index == 1
        else replace(view, masks=MaskSet(np.zeros((1, 64, 64), np.uint8)))
        if index == 2
        else view
        for index, view in enumerate(views)
    ]
    folder = tmp_path / "some"
    write_transforms(scene_of_views(some), folder)
    found = reconstruct(folder, tmp_path / "out", what=("mesh",), config=PREVIEW)
    assert 0.5 < measure(found)["mesh: iou"] <= 1
    write_report(found, tmp_path / "report.html")


def test_numbers_make_sense_or_are_refused() -> None:
    for wrong in ({"voxel": -1.0}, {"voxel": 0.0}, {"max_memory": 0.0}):
        with pytest.raises(ValueError, match=r"larger than 0|more than 0"):
            ReconstructConfig(**wrong)  # type: ignore[arg-type]


def test_an_interrupted_job_goes_on(ball: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        reconstruct(ball, tmp_path, what=("mesh",), config=PREVIEW, watch=Noting(stop_after=3))
    assert not (tmp_path / MESH).exists()
    assert reconstruct(ball, tmp_path, what=("mesh",), config=PREVIEW).mesh is not None


def test_learned_fusion_goes_on_where_it_was_interrupted_and_tidies_up(
    ball: Path, volume_weights: Path, tmp_path: Path
) -> None:
    config = replace(
        PREVIEW, fusion="volume", fusion_weights=str(volume_weights), voxel=0.2, max_memory=1.0
    )
    with pytest.raises(KeyboardInterrupt):
        reconstruct(ball, tmp_path, what=("mesh",), config=config, watch=Noting(stop_after=10))
    views = {path: path.stat().st_mtime_ns for path in (tmp_path / PUT_ASIDE).rglob("view-*")}
    assert len(views) == 10
    with pytest.raises(KeyboardInterrupt):  # after the answer of a tile was kept
        reconstruct(ball, tmp_path, what=("mesh",), config=config, watch=Noting(stop_after=10))
    assert {path: path.stat().st_mtime_ns for path in views} == views
    assert list((tmp_path / PUT_ASIDE).rglob("answer-*"))
    noting = Noting()
    found = reconstruct(ball, tmp_path, what=("mesh",), config=config, watch=noting)
    assert any("tile" in line for line in noting.lines)
    assert not (tmp_path / PUT_ASIDE).exists()
    assert found.mesh is not None
    np.testing.assert_allclose(np.linalg.norm(found.mesh.vertices, axis=1), 1, atol=0.15)
    with pytest.raises(ValueError, match="holds the mesh of other photos or settings"):
        reconstruct(ball, tmp_path, what=("mesh",), config=replace(PREVIEW, voxel=0.2))


def test_what_fusion_with_other_weights_has_left_is_not_taken(
    ball: Path, volume_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where it cannot be removed, or the program is stopped meanwhile."""
    views = [replace(view, masks=None) for view in open_scene(ball).scene]  # no hull holds it
    scene = tmp_path / "scene"
    write_transforms(scene_of_views(views), scene)
    network = build_volume("volume-small")
    bias = network.fusion.heads[-1][-1].bias  # type: ignore[index]
    torch.nn.init.constant_(bias, 0.05)
    write_weights(network, "volume-small", tmp_path / "weights", {})
    config = replace(PREVIEW, fusion="volume", fusion_weights=str(tmp_path / "weights"), voxel=0.2)
    other = replace(config, fusion_weights=str(volume_weights))
    expected = reconstruct(scene, tmp_path / "fresh", what=("mesh",), config=other).mesh
    with pytest.raises(KeyboardInterrupt):
        reconstruct(scene, tmp_path / "a", what=("mesh",), config=config, watch=Noting(10))
    assert list((tmp_path / "a" / PUT_ASIDE).rglob("answer-*"))
    monkeypatch.setattr("crispdepth.api.scene.shutil.rmtree", lambda *args, **kwargs: None)
    found = reconstruct(scene, tmp_path / "a", what=("mesh",), config=other).mesh
    assert list((tmp_path / "a" / PUT_ASIDE).rglob("view-*"))
    assert expected is not None
    assert found is not None
    np.testing.assert_array_equal(found.vertices, expected.vertices)


def test_a_mesh_is_that_of_its_fusion_whatever_is_asked_for_next(
    ball: Path, volume_weights: Path, tmp_path: Path
) -> None:
    classical = replace(PREVIEW, voxel=0.2)
    learned = replace(classical, fusion="volume", fusion_weights=str(volume_weights))
    assert reconstruct(ball, tmp_path, what=("mesh",), config=classical).made == {"mesh"}
    assert reconstruct(ball, tmp_path, what=("depth",), config=classical).made == {"mesh"}
    assert reconstruct(ball, tmp_path, what=("depth",), config=learned).made == set()


def test_masks_that_enclose_nothing_are_spoken_of(ball: Path, tmp_path: Path) -> None:
    half = MaskSet((np.arange(64) >= 32)[None, None].repeat(64, axis=1).astype(np.float32))
    views = [
        replace(view, masks=half) if number < 6 else view
        for number, view in enumerate(open_scene(ball).scene)
    ]
    write_transforms(scene_of_views(views), tmp_path / "ball")
    noting, silent = Noting(), Noting()
    for folder, watch in ((tmp_path / "ball", noting), (ball, silent)):
        config = replace(PREVIEW, voxel=0.2)
        with TemporaryDirectory() as out:
            reconstruct(folder, out, what=("mesh",), config=config, watch=watch)
    assert sum("enclose no object" in line for line in noting.lines) == 1
    assert not any("enclose" in line for line in silent.lines)


def test_weights_of_fusion_that_are_not_there_are_missed_before_any_work(
    ball: Path, tmp_path: Path
) -> None:
    config = replace(PREVIEW, fusion="volume", fusion_weights="nowhere", method="classical")
    noting = Noting()
    with pytest.raises(FileNotFoundError, match="There are no weights 'nowhere'"):
        reconstruct(ball, tmp_path / "out", what=("mesh",), config=config, watch=noting)
    other = replace(config, fusion_weights="multiview-small")
    with pytest.raises(ValueError, match="choose weights for this task"):
        reconstruct(ball, tmp_path / "out", what=("mesh",), config=other, watch=noting)
    assert not (tmp_path / "out").exists()
    assert not any("depth of" in line for line in noting.lines)
    with pytest.raises(ValueError, match="or choose the fusion volume"):
        ReconstructConfig(fusion_weights="mine")


def test_what_cannot_be_done_leaves_no_folder(
    ball: Path, volume_weights: Path, tmp_path: Path
) -> None:
    out, noting = tmp_path / "out", Noting()
    network = replace(PREVIEW, method="multiview", weights="layered-small")
    fusion = replace(PREVIEW, fusion="volume", fusion_weights=str(volume_weights), max_memory=0.01)
    for config, error in (
        (network, "choose weights for this task"),
        (replace(network, method="stereo"), "choose weights for this task"),
        (replace(fusion, method="classical"), r"needs .* GB or more .* is 0\.01 GB"),
    ):
        with pytest.raises(ValueError, match=error):
            reconstruct(ball, out, config=config, watch=noting)
    alone = tmp_path / "alone"
    write_transforms(scene_of_views([open_scene(ball).scene[0]]), alone)
    with pytest.raises(ValueError, match="two or more"):
        reconstruct(alone, out, config=replace(PREVIEW, method="classical"), watch=noting)
    assert not out.exists()
    assert not any("depth of" in line for line in noting.lines)


def test_stereo_is_another_depth(ball: Path, volume_weights: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    shutil.copytree(volume_weights, weights)
    config = ReconstructConfig(quality="preview", method="stereo", weights=str(weights))
    noting = Noting()
    found = reconstruct(ball, tmp_path / "out", what=("depth",), config=config, watch=noting)
    assert "finding the depth of 10 of 10 views" in noting.lines
    assert found.depth(0).depth.size == found.scene.cameras[0].size
    again = Noting()
    reconstruct(ball, tmp_path / "out", what=("depth",), config=config, watch=again)
    assert not any("depth of" in line for line in again.lines)
    torch.manual_seed(5)
    write_weights(build_volume("volume-small"), "volume-small", weights, {})
    with pytest.raises(ValueError, match="holds the depth of other photos or settings"):
        reconstruct(ball, tmp_path / "out", what=("depth",), config=config)


def test_matched_depth_is_resumed_view_by_view(ball: Path, tmp_path: Path) -> None:
    config = ReconstructConfig(quality="preview", method="classical")
    first = Noting(stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        reconstruct(ball, tmp_path, what=("depth",), config=config, watch=first)
    second = Noting()
    found = reconstruct(ball, tmp_path, what=("depth",), config=config, watch=second)
    assert "finding the depth of 10 of 10 views" in first.lines
    # The third was written before it stopped.
    assert "finding the depth of 7 of 10 views" in second.lines
    depths = [found.depth(index) for index in range(10)]
    assert np.mean([each.depth.usable.mean() for each in depths]) > 0.01


def test_the_network_and_refinement_are_other_depths(ball: Path, tmp_path: Path) -> None:
    config = ReconstructConfig(quality="preview", method="multiview")
    found = reconstruct(ball, tmp_path, what=("depth",), config=config)
    assert found.depth(0).depth.size == found.scene.cameras[0].size
    assert np.mean([found.depth(index).depth.usable.mean() for index in range(10)]) > 0.01
    for other in (
        replace(config, refine=True),
        ReconstructConfig(quality="preview", method="classical"),
    ):
        with pytest.raises(ValueError, match="holds the depth of other photos or settings"):
            reconstruct(ball, tmp_path, what=("depth",), config=other)
    refined = reconstruct(
        ball, tmp_path, what=("depth",), config=replace(config, refine=True), overwrite=True
    )
    assert refined.depth(0).depth.size == found.scene.cameras[0].size


@pytest.mark.parametrize(
    ("folders", "role", "method"),
    [
        ({"depth", "masks"}, "object", "given"),
        ({"masks"}, "object", "multiview"),
        ({"masks"}, "ignore", "classical"),
        (set(), "object", "classical"),
    ],
)
def test_without_a_method_it_depends_on_what_is_there(
    ball: Path,
    tmp_path: Path,
    folders: set[str],
    role: MaskRole,
    method: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    corrections: list[int] = []

    def spy(scene: Scene, config: MultiviewConfig, **options: Any) -> Any:
        corrections.append(config.corrections)
        return estimate_depths(scene, config, **options)

    monkeypatch.setattr("crispdepth.tasks.multiview.estimate_depths", spy)
    for part in ("images", *folders):
        (tmp_path / part).symlink_to(ball / part)
    facts = json.loads((ball / "transforms.json").read_text())
    for frame in facts["frames"]:
        for key, part in (("mask_path", "masks"), ("depth_file_path", "depth")):
            if part not in folders:
                frame.pop(key, None)
    facts["frames"] = facts["frames"][:3]
    (tmp_path / "transforms.json").write_text(json.dumps(facts))
    opened = open_scene(tmp_path, mask_role=role, longest=320)
    found = reconstruct(opened, tmp_path / "out", what=("depth",), config=PREVIEW)
    assert found.config.method == method
    assert corrections == {"given": [], "multiview": [3], "classical": [1]}[method]
    assert found.given == (method == "given")
    assert found.depth(0).depth.size == (64, 64)


def test_weights_without_the_network_are_refused() -> None:
    with pytest.raises(ValueError, match="leave them out, or choose the method multiview"):
        ReconstructConfig(weights="mine")


def test_the_report_and_its_numbers(result: crispdepth.Reconstruction, tmp_path: Path) -> None:
    numbers = measure(result)
    assert numbers["Gaussians: iou"] > 0.93
    assert numbers["mesh: iou"] > 0.93
    assert numbers["Gaussians: masked_psnr"] > 20
    write_report(result, tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text("utf-8")
    assert html.count("from all sides") == 2
    assert "silhouette IoU" in html


def test_what_masks_leave_out_is_no_part_of_the_true_surface(
    result: crispdepth.Reconstruction,
) -> None:
    own = result.mesh
    assert own is not None
    wall = np.array([[-5, -5, -5], [5, -5, -5], [5, 5, -5], [-5, 5, -5]], np.float32)
    walls = [np.roll(sign * wall, axis, axis=1) for axis in range(3) for sign in (1, -1)]
    corners = np.array([[0, 1, 2], [0, 2, 3]])
    faces = [corners + len(own.vertices) + 4 * number for number in range(len(walls))]
    whole = Mesh(
        np.concatenate((own.vertices, *walls)),
        np.concatenate((own.faces, *faces)).astype(np.int32),
    )
    scene = replace(result.scene, mesh=lambda: whole)
    numbers = measure(replace(result, opened=replace(result.opened, scene=scene)))
    assert numbers["mesh: recall at 5 cm"] > 0.97
    assert numbers["mesh: precision at 5 cm"] > 0.97


def test_results_are_in_the_frame_and_scale_of_the_source(ball: Path, tmp_path: Path) -> None:
    """nerfstudio's ``applied_scale``: the poses of the file are three times the metres."""
    folder = tmp_path / "scaled"
    folder.mkdir()
    for part in ("images", "masks", "depth"):
        (folder / part).symlink_to(ball / part)
    facts = json.loads((ball / "transforms.json").read_text())
    for frame in facts["frames"]:
        pose = np.array(frame["transform_matrix"])
        pose[:3, 3] *= 3
        frame["transform_matrix"] = pose.tolist()
    facts["applied_scale"] = 3.0
    (folder / "transforms.json").write_text(json.dumps(facts))
    found = reconstruct(folder, tmp_path / "out", what=("mesh",), config=PREVIEW)
    mesh = found.mesh
    assert mesh is not None
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=1), 3, atol=0.12)
    camera = in_source(found.scene.cameras[0], found.scene)
    shown = rasterise(mesh, camera).depth > 0
    masks = found.scene[0].masks
    assert masks is not None
    assert (shown & (masks[0] > 0.5)).sum() > 0.9 * (shown | (masks[0] > 0.5)).sum()
    view, depth = next(found.views([0]))
    gaussians = pixel_gaussians(view, depth)
    moved = gaussians_in_source(gaussians, found.scene)
    np.testing.assert_allclose(moved.means, 3 * gaussians.means, rtol=1e-5)
    np.testing.assert_allclose(moved.scales, 3 * gaussians.scales, rtol=1e-5)


def test_mistakes_are_named(ball: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="What to make is some of"):
        reconstruct(ball, tmp_path, what=("texture",))  # type: ignore[arg-type]
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "images").symlink_to(ball / "images")
    facts = json.loads((ball / "transforms.json").read_text())
    for frame in facts["frames"]:
        frame.pop("depth_file_path"), frame.pop("mask_path", None)
    (bare / "transforms.json").write_text(json.dumps(facts))
    given = ReconstructConfig(quality="preview", method="given")
    with pytest.raises(ValueError, match=r"No view of .* holds depth"):
        reconstruct(bare, tmp_path / "out", config=given)
