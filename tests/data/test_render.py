"""Rendering a scene whose depth, ids and light are known in closed form."""

from dataclasses import replace

import numpy as np
import pytest

from crispdepth.data.render import Renderer, Variant, choose_variant, use_mitsuba
from crispdepth.data.scenes3d.atlas import lay_out, to_atlas
from crispdepth.data.scenes3d.cameras import Camera, intrinsics, look_at
from crispdepth.data.scenes3d.scene import Lamp, Scene
from crispdepth.data.scenes3d.shapes import box, merge, quad
from crispdepth.data.scenes3d.textures import TILE, Surface

SIZE = (24, 32)
RADIANCE = 0.5  # of the sky
GREY = Surface(np.full((TILE, TILE, 3), 188, np.uint8), 1.0, 0.0)  # sRGB 188: half of the light


def scene() -> Scene:
    """A wall on the plane y = 2, instance 1, and a glowing cube, instance 2, before it."""
    wall = quad([(-1.5, 2, 1.5), (1.5, 2, 1.5), (-1.5, 2, -1.5), (1.5, 2, -1.5)])
    wall = wall._replace(uv=to_atlas(wall.uv, 0))
    cube = box(0.4, 0.4, 0.4).at(0, 1, -0.2)
    return Scene(
        mesh=wall,
        instances=np.ones(2, np.int32),
        names={1: "wall", 2: "cube"},
        atlas=lay_out([GREY]),
        lamps=(Lamp(cube, np.array([3.0, 2.0, 1.0]), 2),),
        sky=np.full((8, 16, 3), RADIANCE, np.float32),
        eyes=np.zeros((1, 3)),
        targets=np.array([[0.0, 1, 0]]),
    )


def camera(roll: float = 0.0, target: tuple[float, float, float] = (0, 1, 0)) -> Camera:
    return Camera(intrinsics(100, SIZE), look_at((0, 0, 0), target, roll), SIZE)


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    use_mitsuba(choose_variant(), threads=1)
    return Renderer(scene())


def test_depth_and_ids_are_those_of_the_plane_and_the_cube(renderer: Renderer) -> None:
    for view in (camera(), camera(0.3, (0.3, 1, 0.1))):
        depth, ids = renderer.trace([view])[0]
        assert depth.shape == ids.shape == SIZE
        _, ways = view.rays()
        cosine = (ways @ view.cam_from_world[2, :3]).reshape(SIZE)
        hit = {  # where the rays meet the planes y = 2 and y = 0.8
            label: (y / ways[:, 1:2] * ways).reshape(*SIZE, 3) for label, y in ((1, 2), (2, 0.8))
        }
        cube = (np.abs(hit[2][..., 0]) < 0.2) & (np.abs(hit[2][..., 2]) < 0.2)
        wall = (np.abs(hit[1][..., [0, 2]]) < 1.5).all(axis=-1) & ~cube
        np.testing.assert_array_equal(ids == 2, cube)
        np.testing.assert_array_equal(ids == 1, wall)
        for label, where in ((1, wall), (2, cube)):
            expected = np.linalg.norm(hit[label], axis=-1) * cosine
            np.testing.assert_allclose(depth[where], expected[where], rtol=1e-5)
        assert (depth[~wall & ~cube] == 0).all()
        assert cube.any()
        assert (~wall & ~cube).any()


def test_soft_coverage_is_the_share_of_each_pixel(renderer: Renderer) -> None:
    view = camera()
    _, ids = renderer.trace([view])[0]
    mask = renderer.coverage(view, ids, 2)
    half = 0.2 / 0.8 * view.K[0, 0]  # of the cube's front, in pixels
    across, down = (
        np.clip(np.minimum(k + 1, extent / 2 + half) - np.maximum(k, extent / 2 - half), 0, 1)
        for extent, k in ((extent, np.arange(extent)) for extent in SIZE[::-1])
    )
    expected = 255 * down[:, None] * across
    assert ((expected > 0) & (expected < 255)).any()
    np.testing.assert_allclose(mask, expected, atol=255 / 16)
    np.testing.assert_array_equal(mask[expected == 255], 255)
    np.testing.assert_array_equal(mask[expected == 0], 0)
    tilted = camera(0.3, (0.3, 1, 0.1))
    _, ids = renderer.trace([tilted])[0]
    mask = renderer.coverage(tilted, ids, 2)
    assert mask.sum() / 255 == pytest.approx((ids == 2).sum(), rel=0.1)
    assert ((mask >= 128) == (ids == 2)).mean() > 0.98


def test_views_traced_together_are_those_traced_alone(renderer: Renderer) -> None:
    views = [camera(roll) for roll in (0.0, 0.2, 0.4)]
    for view, together in zip(views, renderer.trace(views), strict=True):
        alone = renderer.trace([view])[0]
        np.testing.assert_array_equal(together.depth, alone.depth)
        np.testing.assert_array_equal(together.instances, alone.instances)


def test_light_comes_from_the_sky_and_the_lamp(renderer: Renderer) -> None:
    photo = renderer.photograph(camera(), samples=16, seed=0)
    ids = renderer.trace([camera()])[0].instances
    depth = renderer.trace([camera()])[0].depth
    assert photo.shape == (*SIZE, 3)
    sky, lamp, wall = (ids == 0) & (depth == 0), ids == 2, ids == 1
    np.testing.assert_allclose(np.median(photo[sky], axis=0), RADIANCE, rtol=0.05)
    np.testing.assert_allclose(np.median(photo[lamp], axis=0), [3, 2, 1], rtol=0.05)
    # A wall that reflects half of what it gets is darker than the sky, and reddened by the lamp.
    red, _, blue = np.median(photo[wall], axis=0)
    assert 0.25 * RADIANCE < blue < red < 2 * RADIANCE


def test_the_seed_decides_the_noise_and_nothing_else(renderer: Renderer) -> None:
    first, again, other = (
        renderer.photograph(camera(), samples=2, seed=seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert np.median(np.abs(first - other)) < 0.1


@pytest.mark.parametrize("variant", ["llvm_ad_rgb", "scalar_rgb"])
def test_ids_are_right_however_many_lamps_there_are(variant: Variant) -> None:
    if variant == "llvm_ad_rgb" != choose_variant():
        pytest.skip("there is no libLLVM")
    base = scene()
    lamps = tuple(
        Lamp(box(0.2, 0.02, 0.2).at(x, 1.5, 0), np.full(3, 1.0 + x * x), 10 + k)
        for k, x in enumerate((-0.8, -0.4, 0.0, 0.4, 0.8))
    )
    mesh = merge([base.mesh, base.mesh.at(0, -1.5, 1.7)])  # the second is above, near
    instances = np.array([1, 1, 3, 3], np.int32)
    use_mitsuba(variant, threads=1)
    try:
        several = Renderer(replace(base, mesh=mesh, instances=instances, lamps=lamps))
        ids = several.trace([camera()])[0].instances
    finally:
        use_mitsuba(choose_variant(), threads=1)
    assert {0, 1, 3, *range(10, 15)} == set(np.unique(ids).tolist())
    columns = [np.nonzero(ids == label)[1].mean() for label in range(10, 15)]
    assert (np.diff(columns) > 0).all()
    assert np.nonzero(ids == 3)[0].max() < np.nonzero(ids == 10)[0].min()


def test_the_slow_variant_sees_the_same(renderer: Renderer) -> None:
    view = camera(0.1)
    expected = renderer.trace([view])[0]
    light = np.median(renderer.photograph(view, samples=16, seed=0), axis=(0, 1))
    use_mitsuba("scalar_rgb", threads=1)
    try:
        slow = Renderer(scene())
        depth, ids = slow.trace([view])[0]
        slow_light = np.median(slow.photograph(view, samples=16, seed=0), axis=(0, 1))
    finally:
        use_mitsuba(choose_variant(), threads=1)
    np.testing.assert_array_equal(ids, expected.instances)
    np.testing.assert_allclose(depth, expected.depth, rtol=1e-5)
    np.testing.assert_allclose(slow_light, light, rtol=0.1)
