from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import trimesh
from PIL import Image

from crispdepth.data.scenes3d.assets import load_assets, load_model
from crispdepth.data.scenes3d.textures import Surface


def textured_slab(tall_axis: int) -> Any:
    """A slab 0.3 m tall whose texture is red above and blue below."""
    extents = [0.2, 0.2, 0.2]
    extents[tall_axis] = 0.3
    mesh = trimesh.creation.box(extents)
    height = mesh.vertices[:, tall_axis]
    v = (height - height.min()) / np.ptp(height)  # trimesh counts v upwards
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:4, :, 0] = picture[4:, :, 2] = 255
    uv = np.stack([np.full_like(v, 0.5), v], axis=1)
    visual: Any = trimesh.visual
    material = visual.material.SimpleMaterial(image=Image.fromarray(picture))
    mesh.visual = visual.TextureVisuals(uv=uv, material=material)
    return mesh


@pytest.mark.parametrize(("suffix", "tall_axis"), [(".glb", 1), (".obj", 2)])
def test_a_model_stands_upright_with_its_texture_upright(
    tmp_path: Path, suffix: str, tall_axis: int
) -> None:
    path = tmp_path / f"slab{suffix}"
    textured_slab(tall_axis).export(path)
    name, thing = load_model(path)
    assert name == "slab"
    np.testing.assert_allclose(thing.bounds(), [[-0.1, -0.1, 0], [0.1, 0.1, 0.3]], atol=1e-6)
    ((mesh, surface),) = thing.parts
    assert isinstance(surface, Surface)
    rows = np.clip(mesh.uv[:, 1] * 256, 0, 255).astype(int)
    colours = surface.texture[rows, 128]
    top = mesh.vertices[:, 2] > 0.2
    assert (colours[top] == [255, 0, 0]).all()
    assert (colours[~top] == [0, 0, 255]).all()


def test_plain_models_keep_their_colour(tmp_path: Path) -> None:
    mesh = trimesh.creation.icosphere(radius=0.4)
    mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=[10, 200, 30, 255])
    mesh.export(tmp_path / "ball.ply")
    assets = load_assets(tmp_path, None)
    assert [model.name for model in assets.large] == ["ball"]
    surface = assets.large[0].thing.parts[0][1]
    assert isinstance(surface, Surface)
    np.testing.assert_array_equal(surface.texture[0, 0], [10, 200, 30])


def test_textures_that_repeat_show_one_repetition(tmp_path: Path) -> None:
    mesh = textured_slab(2)
    mesh.visual.uv = mesh.visual.uv * [1, 0.9] + [3, 5]
    mesh.export(tmp_path / "slab.obj")
    ((loaded, _),) = load_model(tmp_path / "slab.obj").thing.parts
    corners = loaded.uv[loaded.faces]
    sides = corners[np.ptp(corners[..., 1], axis=1) > 0.5]  # the others see one row of it
    assert len(sides) == 8
    np.testing.assert_allclose(sides.min(axis=(0, 1)), [0.5, 0.1], atol=1e-5)
    np.testing.assert_allclose(sides.max(axis=(0, 1)), [0.5, 1.0], atol=1e-5)


def test_what_cannot_be_used_is_told_and_the_rest_is_used(tmp_path: Path) -> None:
    (tmp_path / "broken.glb").write_bytes(b"no model")
    trimesh.creation.box((300, 300, 300)).export(tmp_path / "millimetres.ply")
    (tmp_path / "deeper").mkdir()
    trimesh.creation.box((0.1, 0.1, 0.1)).export(tmp_path / "deeper" / "cube.ply")
    cv2.imwrite(str(tmp_path / "sky.hdr"), np.full((8, 16, 3), [1, 2, 3], np.float32))
    assets = load_assets(tmp_path, None)
    assert [model.name for model in assets.small] == ["cube"]
    assert len(assets.skipped) == 2
    assert "300 m long" in assets.skipped[1]
    np.testing.assert_allclose(assets.panoramas[0][0, 0], [3, 2, 1], rtol=0.02)  # RGB, not BGR


def test_a_folder_without_anything_usable_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder"):
        load_assets(tmp_path / "absent", None)
    with pytest.raises(ValueError, match="no usable model"):
        load_assets(tmp_path, None)
    with pytest.raises(ValueError, match="no photo"):
        load_assets(None, tmp_path)


def test_every_file_has_a_licence_and_is_noted_when_it_is_taken_out(tmp_path: Path) -> None:
    models, photos = tmp_path / "models", tmp_path / "photos"
    (models / "free").mkdir(parents=True)
    photos.mkdir()
    trimesh.creation.box((0.1, 0.1, 0.1)).export(models / "free/cube.ply")
    trimesh.creation.box((1, 1, 1)).export(models / "wardrobe.ply")
    (models / "free/LICENSE").write_text("CC0 1.0")
    Image.new("RGB", (8, 8)).save(photos / "wall.png")
    assets = load_assets(models, photos)
    assert assets.licences == {
        "models/free/cube.ply": "CC0 1.0 (free/LICENSE)",
        "models/wardrobe.ply": "unknown: see wardrobe.ply",
        "photos/wall.png": "unknown: see wall.png",
    }
    watched, taken = assets.watched()
    assert (len(watched.small), len(watched.large), taken) == (1, 1, set())
    assert watched.large[0] is assets.large[0]
    assert watched.photos[0] is assets.photos[0]
    assert taken == {"models/wardrobe.ply", "photos/wall.png"}
