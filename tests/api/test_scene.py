"""The whole job on a small analytic ball, seen from all sides, whose depth the views hold."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import crispdepth
from crispdepth.api.scene import MESH, SPLATS_FILE, SUMMARY, Unwatched, reconstruct
from crispdepth.api.scene_report import measure, write_report
from crispdepth.io.scenes.export import write_transforms
from crispdepth.tasks.reconstruct_config import ReconstructConfig
from crispdepth.types import DepthMap, MaskSet, View, scene_of_views
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


def test_other_settings_do_not_replace_results(
    result: crispdepth.Reconstruction, ball: Path
) -> None:
    other = ReconstructConfig(quality="preview", voxel=0.2)
    with pytest.raises(ValueError, match=r"holds the mesh of other photos or settings"):
        reconstruct(ball, result.folder, what=("mesh",), config=other)
    mesh = result.mesh
    assert mesh is not None
    assert len(mesh.faces) > 500


def test_an_interrupted_job_goes_on(ball: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        reconstruct(ball, tmp_path, what=("mesh",), config=PREVIEW, watch=Noting(stop_after=3))
    assert not (tmp_path / MESH).exists()
    assert reconstruct(ball, tmp_path, what=("mesh",), config=PREVIEW).mesh is not None


def test_matched_depth_is_resumed_view_by_view(ball: Path, tmp_path: Path) -> None:
    config = ReconstructConfig(quality="preview", method="classical")
    first = Noting(stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        reconstruct(ball, tmp_path, what=("depth",), config=config, watch=first)
    second = Noting()
    found = reconstruct(ball, tmp_path, what=("depth",), config=config, watch=second)
    assert "depth of 10 of 10 views" in first.lines
    assert "depth of 7 of 10 views" in second.lines  # the third was written before it stopped
    depths = [found.depth(index) for index in range(10)]
    assert np.mean([each.depth.usable.mean() for each in depths]) > 0.01


def test_the_report_and_its_numbers(result: crispdepth.Reconstruction, tmp_path: Path) -> None:
    numbers = measure(result)
    assert numbers["Gaussians: iou"] > 0.93
    assert numbers["mesh: iou"] > 0.93
    assert numbers["Gaussians: masked_psnr"] > 20
    write_report(result, tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text("utf-8")
    assert html.count("from all sides") == 2
    assert "silhouette IoU" in html


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
