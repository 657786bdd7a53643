import numpy as np

from crispdepth.data.scenes3d.atlas import CAPACITY, SIDE, lay_out, to_atlas
from crispdepth.data.scenes3d.textures import TILE, Surface, draw_surface


def plain(value: int) -> Surface:
    return Surface(np.full((TILE, TILE, 3), value, np.uint8), value / 255, float(value % 2))


def test_every_surface_is_found_where_its_coordinates_lead() -> None:
    surfaces = [plain(3 * index) for index in range(CAPACITY)]
    atlas = lay_out(surfaces)
    rng = np.random.default_rng(0)
    for index, surface in enumerate(surfaces):
        corners = [(0, 0), (1, 0), (0, 1), (1, 1)]
        uv = to_atlas(np.concatenate([corners, rng.random((20, 2))]), index)
        # The four texels that bilinear interpolation reads, texel centres at +0.5.
        first = np.floor(uv * SIDE - 0.5 + 1e-9).astype(int)
        for step in ((0, 0), (0, 1), (1, 0)):
            column, row = np.minimum(first + step, SIDE - 1).T
            inside = (uv * SIDE - 0.5 - first > 1e-6) | (np.array(step) == 0)
            texels = atlas.colour[row, column][inside.all(axis=1)]
            assert (texels == surface.texture[0, 0]).all()
        tile = divmod(index, 8)
        assert atlas.metallic[tile] == surface.metallic
        np.testing.assert_allclose(atlas.roughness[tile], surface.roughness)


def test_a_texture_is_not_turned_or_mirrored() -> None:
    texture = np.zeros((TILE, TILE, 3), np.uint8)
    texture[:, :, 0] = np.arange(TILE)
    texture[:, :, 1] = np.arange(TILE)[:, None]
    atlas = lay_out([plain(9), Surface(texture, 1, 0)])
    column, row = (to_atlas(np.array([[0.25, 0.75]]), 1)[0] * SIDE).astype(int)
    np.testing.assert_allclose(atlas.colour[row, column, :2], [64, 192], atol=1)


def test_surfaces_of_all_finishes_are_opaque_pictures_of_their_seed() -> None:
    photo = np.random.default_rng(3).integers(0, 255, (40, 60, 3)).astype(np.uint8)
    for finish in ("wall", "wood", "metal", "cloth", "leaf", "soil", "gloss", "glow", "any"):
        for seed in range(8):
            first, again = (
                draw_surface(np.random.default_rng(seed), finish, [photo]) for _ in range(2)
            )
            np.testing.assert_array_equal(first.texture, again.texture)
            assert first.texture.shape == (TILE, TILE, 3)
            assert first.texture.dtype == np.uint8
            assert 0 < first.roughness <= 1
