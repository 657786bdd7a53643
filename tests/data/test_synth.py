import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray
from PIL import Image
from trimesh.triangles import closest_point

from crispdepth.data.render import choose_variant, use_mitsuba
from crispdepth.data.scenes3d.assets import Assets, load_assets
from crispdepth.data.synth import SynthSettings, make_scene

PATH = SynthSettings("rooms", seed=5, size=(36, 48), samples=1, frames=3, arrangement="path")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    use_mitsuba(choose_variant(), threads=1)
    return make_scene(tmp_path_factory.mktemp("scenes"), 3, PATH, Assets())


def picture(path: Path) -> NDArray[Any]:
    return np.asarray(Image.open(path))


def test_a_scene_folder_has_everything_its_description_names(folder: Path) -> None:
    facts = json.loads((folder / "scene.json").read_text())
    assert folder.name == facts["name"] == "room_000003"
    assert facts["size"] == [48, 36]
    assert facts["n_frames"] == len(facts["cam_from_world"]) == 3
    assert sorted(path.name for path in folder.parent.iterdir()) == [folder.name]
    for index in range(3):
        photo = picture(folder / (facts["image_pattern"] % index))
        depth = picture(folder / f"depth/{index:04d}.png")
        ids = picture(folder / f"instances/{index:04d}.png")
        assert photo.shape == (36, 48, 3)
        assert depth.dtype == np.uint16
        assert ids.dtype == np.uint8
        assert photo.std() > 3
        assert {str(label) for label in np.unique(ids) if label} <= set(facts["instances"])
        metres = depth[depth > 0] * facts["depth_unit_m"]
        assert metres.min() >= facts["near"] - 1e-3
        assert metres.max() <= facts["far"] + 1e-3


def test_a_scene_names_the_licences_of_what_it_is_made_of(folder: Path, tmp_path: Path) -> None:
    invented = json.loads((folder / "scene.json").read_text())["asset_licences"]
    assert invented == {"procedural": "CC0 1.0"}
    for index in range(6):
        trimesh.creation.box((0.1, 0.1, 0.1)).export(tmp_path / f"cube{index}.ply")
    (tmp_path / "LICENSE").write_text("CC BY 4.0")
    settings = replace(PATH, kind="objects", frames=1, arrangement="apart")
    made = [
        make_scene(tmp_path / "out", index, settings, load_assets(tmp_path, None))
        for index in range(4)
    ]
    for scene in made:
        facts = json.loads((scene / "scene.json").read_text())
        used = {name for name in facts["instances"].values() if name.startswith("cube")}
        files = facts["asset_licences"].keys() - {"procedural"}
        assert files == {f"{tmp_path.name}/{name}.ply" for name in used}
        assert {facts["asset_licences"][file] for file in files} <= {"CC BY 4.0 (LICENSE)"}


def test_every_point_of_the_depth_lies_on_the_mesh(folder: Path) -> None:
    facts = json.loads((folder / "scene.json").read_text())
    mesh = trimesh.load_mesh(folder / "mesh.ply", process=False)
    depth = picture(folder / "depth/0001.png") * facts["depth_unit_m"]
    y, x = np.nonzero(depth)
    keep = np.random.default_rng(0).choice(len(y), 25, replace=False)
    y, x = y[keep], x[keep]
    rays = np.stack([x + 0.5, y + 0.5, np.ones(len(x))]) * depth[y, x]
    pose = np.array(facts["cam_from_world"][1])
    points = (np.linalg.inv(facts["K"]) @ rays).T - pose[:3, 3]
    triangles = mesh.vertices[mesh.faces]
    for point in points @ pose[:3, :3]:
        copies = np.broadcast_to(point, (len(triangles), 3))
        near = closest_point(triangles, copies)  # type: ignore[no-untyped-call]
        assert np.linalg.norm(near - point, axis=1).min() < 1e-3


def test_the_same_settings_give_the_same_files(folder: Path, tmp_path: Path) -> None:
    make_scene(tmp_path, 2, PATH, Assets())  # what came before does not matter
    again = make_scene(tmp_path, 3, PATH, Assets())
    for path in folder.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (again / path.relative_to(folder)).read_bytes(), path


def test_another_number_or_seed_is_another_scene(folder: Path, tmp_path: Path) -> None:
    meshes = {(folder / "mesh.ply").read_bytes()}
    meshes.add((make_scene(tmp_path / "a", 4, PATH, Assets()) / "mesh.ply").read_bytes())
    other = replace(PATH, seed=6)
    meshes.add((make_scene(tmp_path / "b", 3, other, Assets()) / "mesh.ply").read_bytes())
    assert len(meshes) == 3


def test_what_a_killed_run_left_is_replaced(folder: Path, tmp_path: Path) -> None:
    left = tmp_path / ".crispdepth-object_000000" / "images"
    left.mkdir(parents=True)
    (left / "0000.jpg").write_bytes(b"torn")
    settings = replace(PATH, kind="objects", arrangement="orbit")
    made = make_scene(tmp_path, 0, settings, Assets())
    assert [path.name for path in tmp_path.iterdir()] == [made.name]
    assert picture(made / "images/0000.jpg").shape == (36, 48, 3)


def test_scenes_of_objects_have_soft_masks_of_the_first(folder: Path, tmp_path: Path) -> None:
    assert not (folder / "masks").exists()
    settings = replace(PATH, kind="objects", arrangement="apart")
    made = make_scene(tmp_path, 0, settings, Assets())
    soft = 0
    for index in range(PATH.frames):
        mask = picture(made / f"masks/{index:04d}.png")
        first = picture(made / f"instances/{index:04d}.png") == 1
        assert mask.dtype == np.uint8
        inside = cv2.erode(first.astype(np.uint8), np.ones((3, 3))) > 0
        outside = cv2.dilate(first.astype(np.uint8), np.ones((3, 3))) == 0
        assert (mask[inside] == 255).all()
        assert (mask[outside] == 0).all()
        assert first.any()
        assert ((mask >= 128) == first).mean() > 0.97
        soft += int(((mask > 0) & (mask < 255)).sum())
    assert soft > 0
