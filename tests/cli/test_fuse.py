"""``crispdepth fuse``: what is checked before, written, and said."""

import json
from pathlib import Path

import numpy as np
import pytest

from crispdepth.api.source_frame import up_of
from crispdepth.cli.fuse import FuseOptions
from crispdepth.cli.main import main
from crispdepth.io.depths import write_depth
from crispdepth.io.images import write_image
from crispdepth.io.meshes import read_mesh
from crispdepth.io.pointclouds import write_points
from crispdepth.io.scenes.export import write_transforms
from crispdepth.types import DepthMap, View, scene_of_views
from tests.analytic import around, looking_at, sphere_depth


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A sphere as a nerfstudio folder; one view has no depth."""
    views = []
    for number, camera in enumerate(around(12, 4.0)):
        depth = None if number == 0 else DepthMap(sphere_depth(camera), "depth", "m")
        image = np.full((*camera.size, 3), 80, np.uint8)
        views.append(View(image, f"{number:02}.png", camera, depth))
    write_transforms(scene_of_views(views, "ball"), tmp_path / "ball")
    return tmp_path / "ball"


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".glb"])
def test_a_scene_becomes_a_file(
    scene: Path, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / f"ball{suffix}"
    assert main(["fuse", str(scene), "--resolution", "32", "-o", str(out)]) == 0
    said = capsys.readouterr()
    assert said.out == f"{out}\n"
    assert "voxels of" in said.err
    if suffix == ".ply":
        assert np.abs(np.linalg.norm(read_mesh(out).vertices, axis=1) - 1).max() < 0.05
    assert main(["fuse", str(scene), "--voxel", "0.1", "-o", str(out)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main(["fuse", str(scene), "--voxel", "0.1", "-o", str(out), "--overwrite"]) == 0


def test_each_object_has_a_mesh_of_its_own(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    for number in range(12):
        upper = np.zeros((96, 96), np.uint8)
        upper[:48] = 255
        for name, mask in (("upper", upper), ("lower half", 255 - upper)):
            write_image(masks / f"{number:02}.{name}.png", mask)
    out, words = tmp_path / "ball.ply", ["fuse", str(scene), "--masks", str(masks)]
    words += ["--resolution", "32", "-o", str(out)]
    (masks / "03.upper.png").unlink()  # a view that shows one object alone keeps its name
    assert main([*words, "--each-object"]) == 0
    outs = [tmp_path / "ball.upper.ply", tmp_path / "ball.lower_half.ply"]
    assert sorted(capsys.readouterr().out.split()) == sorted(map(str, outs))
    assert all(len(read_mesh(each).faces) > 50 for each in outs)
    assert not out.exists()
    assert main([*words, "--only", "upper"]) == 0
    assert np.array_equal(read_mesh(out).faces, read_mesh(outs[0]).faces)
    assert main([*words, "--only", "middle", "--overwrite"]) == 1
    assert "upper" in capsys.readouterr().err
    assert main([*words, "--each-object"]) == 1
    assert "--overwrite" in capsys.readouterr().err
    for wrong in (["--only", "upper", "--each-object"], ["--each-object", "--mask-role", "ignore"]):
        assert main([*words, *wrong, "--overwrite"]) == 2


def test_an_object_without_a_surface_does_not_keep_the_others(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    for number in range(1, 12):
        whole = np.full((96, 96), 255, np.uint8)
        write_image(masks / f"{number:02}.ball.png", whole)
        if number == 7:  # beside the ball, in a view that the size of voxels is not measured by
            whole[4:] = 0
            write_image(masks / f"{number:02}.nothing.png", whole)
    out = tmp_path / "a.ply"
    words = ["fuse", str(scene), "--masks", str(masks), "-o", str(out), "--each-object", "-q"]
    assert main(words) == 3
    said = capsys.readouterr()
    assert said.out == f"{tmp_path / 'a.ball.ply'}\n"
    assert said.err.startswith("error: nothing: ")


def test_a_wrong_name_is_a_usage_error_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fuse", "nowhere", "-o", str(tmp_path / "a.stl")]) == 2
    assert ".glb" in capsys.readouterr().err
    assert main(["fuse", "nowhere", "-o", str(tmp_path / "no/a.ply")]) == 1
    assert "make it first" in capsys.readouterr().err


def rewrite_without_depth(scene: Path, **more: str) -> None:
    """The scene's own depth is no longer named."""
    facts = json.loads((scene / "transforms.json").read_text())
    for frame in facts["frames"]:
        frame.pop("depth_file_path", None)
    (scene / "transforms.json").write_text(json.dumps(facts | more))


def test_a_scene_without_depth_says_what_to_do(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite_without_depth(scene)
    assert main(["fuse", str(scene), "-o", str(tmp_path / "a.ply")]) == 1
    assert "crispdepth reconstruct" in capsys.readouterr().err


def test_relative_depth_from_a_folder_is_fused_at_the_scale_of_the_sparse_points(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rough").mkdir()
    for number, camera in enumerate(around(12, 4.0)):
        depth = sphere_depth(camera)
        inverse = np.divide(3 + number, depth, out=np.zeros_like(depth), where=depth > 0)
        inverse -= np.float32(0.5)
        rough = DepthMap(inverse, "inverse_depth", "relative", depth > 0)
        write_depth(tmp_path / f"rough/{number:02}.exr", rough)
    ball = np.random.default_rng(0).normal(size=(2000, 3))
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    write_points(scene / "points.ply", ball.astype(np.float32), np.zeros((2000, 3), np.uint8))
    rewrite_without_depth(scene, ply_file_path="points.ply")
    out = tmp_path / "ball.ply"
    words = ["fuse", str(scene), "--depths", str(tmp_path / "rough"), "--resolution", "32"]
    assert main([*words, "-o", str(out)]) == 0
    assert "depths: 12/12 photos matched" in capsys.readouterr().err
    assert np.abs(np.linalg.norm(read_mesh(out).vertices, axis=1) - 1).max() < 0.07


def test_a_device_that_is_not_there_is_a_usage_error(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "a.ply")
    assert main(["fuse", str(scene), "-o", out, "--device", "abacus"]) == 2
    assert "--device cpu" in capsys.readouterr().err


def test_up_is_the_axis_nearest_to_up_in_the_photos() -> None:
    image = np.zeros((4, 5, 3), np.uint8)
    eye = np.array([3.0, 1, 0.8])
    level = View(image, "a", looking_at(eye, np.zeros(3), (4, 5), 5))
    assert up_of(scene_of_views([level])) == (0, 0, 1)


def test_the_network_sees_photos_as_reconstruct_makes_them(
    scene: Path, volume_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int | None] = []

    def note_size(options: FuseOptions) -> None:
        sizes.append(options.longest)
        raise ValueError("that was all")

    monkeypatch.setattr("crispdepth.cli.fuse.open_input", note_size)
    words = ["fuse", str(scene), "-o", str(tmp_path / "ball.ply")]
    learned = [*words, "--fusion", "volume", "--fusion-weights", str(volume_weights)]
    for each in (words, learned, [*learned, "--longest", "200"]):
        assert main(each) == 1
    assert sizes == [None, 640, 200]


def test_the_network_fuses_with_weights_and_says_what_is_missing(
    scene: Path, volume_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "ball.ply"
    words = ["fuse", str(scene), "--voxel", "0.15", "-o", str(out)]
    learned = [*words, "--fusion", "volume", "--fusion-weights"]
    assert main([*learned, str(tmp_path)]) == 1
    assert "There are no weights" in capsys.readouterr().err
    assert main([*words, "--fusion-weights", str(volume_weights)]) == 2
    assert "--fusion volume" in capsys.readouterr().err
    assert main([*learned, str(volume_weights), "--truncation", "4"]) == 2
    assert "--truncation is of --fusion tsdf" in capsys.readouterr().err
    assert main([*learned, str(volume_weights), "--max-memory", "0.02"]) == 1
    said = capsys.readouterr().err
    assert "max_memory is 0.02 GB. Allow more (--max-memory" in said
    assert "blocks" not in said, "nothing was begun"
    assert not out.exists()
    assert main([*learned, str(volume_weights)]) == 0
    said = capsys.readouterr().err
    assert "tile" in said
    assert "blocks" in said
    mesh = read_mesh(out)
    assert np.abs(np.linalg.norm(mesh.vertices, axis=1) - 1).max() < 0.2
    assert mesh.colours is not None
