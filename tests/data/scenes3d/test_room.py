import numpy as np
import pytest

from crispdepth.data.scenes3d.assets import Assets
from crispdepth.data.scenes3d.room import draw_room
from crispdepth.data.scenes3d.scene import Scene
from crispdepth.data.scenes3d.tabletop import draw_tabletop


@pytest.fixture(scope="module", params=[draw_room, draw_tabletop])
def scenes(request: pytest.FixtureRequest) -> list[Scene]:
    return [request.param(np.random.default_rng(seed), Assets()) for seed in range(4)]


def test_every_triangle_has_an_instance_with_a_name(scenes: list[Scene]) -> None:
    for scene in scenes:
        mesh, ids = scene.whole()
        assert len(ids) == len(mesh.faces)
        assert set(np.unique(ids)) == {0, *scene.names}
        assert np.isfinite(mesh.vertices).all()


def test_there_is_light_and_a_place_to_look_from(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert scene.eyes.shape == scene.targets.shape
        assert len(scene.eyes) > 8
        assert scene.sky.min() >= 0
        assert scene.sky.mean() > 0.1
        assert all((lamp.radiance > 0).all() for lamp in scene.lamps)


def test_the_same_seed_gives_the_same_scene_and_another_one_another(scenes: list[Scene]) -> None:
    draw = draw_room if len(scenes[0].names) > 3 else draw_tabletop
    again = draw(np.random.default_rng(0), Assets())
    np.testing.assert_array_equal(again.mesh.vertices, scenes[0].mesh.vertices)
    np.testing.assert_array_equal(again.atlas.colour, scenes[0].atlas.colour)
    np.testing.assert_array_equal(again.sky, scenes[0].sky)
    assert again.mesh.vertices.shape != scenes[1].mesh.vertices.shape


def test_rooms_are_furnished_and_nothing_sticks_out_of_them() -> None:
    counts = []
    for seed in range(5):
        scene = draw_room(np.random.default_rng(seed), Assets())
        walls = scene.mesh.vertices[scene.mesh.faces[scene.instances == 0]].reshape(-1, 3)
        things = scene.mesh.vertices[scene.mesh.faces[scene.instances > 0]].reshape(-1, 3)
        assert (things.min(axis=0) > walls.min(axis=0) - 0.1).all()
        assert (things[:, :2].max(axis=0) < walls[:, :2].max(axis=0) + 0.1).all()
        counts.append(len(scene.names))
    assert min(counts) >= 5
    assert np.mean(counts) > 15
