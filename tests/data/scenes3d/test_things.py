"""Laws that hold for everything that is invented."""

import numpy as np

from crispdepth.data.scenes3d.furniture import draw_furniture
from crispdepth.data.scenes3d.hangings import pendant, picture
from crispdepth.data.scenes3d.smallware import draw_smallware
from crispdepth.data.scenes3d.things import Thing


def many() -> list[tuple[str, Thing]]:
    rng = np.random.default_rng(0)
    return [draw(rng) for draw in (draw_furniture, draw_smallware) for _ in range(120)]


def test_things_stand_on_the_ground_and_fit_into_a_room() -> None:
    for name, thing in many():
        low, high = thing.bounds()
        assert low[2] > -0.05, name
        assert low[2] < 0.06, name
        assert ((high - low) < 3).all(), name
        assert (high - low).max() > 0.03, name


def test_triangles_and_texture_coordinates_are_sound() -> None:
    for name, thing in many():
        for mesh, _ in thing.parts:
            assert np.isfinite(mesh.vertices).all(), name
            assert mesh.faces.min() >= 0, name
            assert mesh.faces.max() < len(mesh.vertices), name
            assert mesh.uv.shape == (len(mesh.vertices), 2), name
            assert mesh.uv.min() >= -1e-9, name
            assert mesh.uv.max() <= 1 + 1e-9, name


def test_what_stands_on_a_place_stands_on_a_surface() -> None:
    rng, seen = np.random.default_rng(1), 0
    for _ in range(60):
        _, thing = draw_furniture(rng)
        heights = np.concatenate([mesh.vertices[:, 2] for mesh, _ in thing.parts])
        for place in thing.places:
            seen += 1
            assert np.abs(heights - place.z).min() < 1e-9
            assert place.high[0] > place.low[0]
            assert place.high[1] > place.low[1]
    assert seen > 10


def test_lamps_hang_below_the_origin_and_pictures_before_it() -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        assert pendant(rng).bounds()[1, 2] < 1e-9
        assert picture(rng).bounds()[1, 1] < 1e-9
