"""One to three random things close to the camera, on a table or the ground."""

import numpy as np

from crispdepth.data.scenes3d.assets import Assets
from crispdepth.data.scenes3d.furniture import draw_furniture
from crispdepth.data.scenes3d.scene import Scene, SceneBuilder
from crispdepth.data.scenes3d.shapes import Array, bezier, box, cylinder, placed, sheet
from crispdepth.data.scenes3d.sky import draw_sky
from crispdepth.data.scenes3d.smallware import draw_smallware
from crispdepth.data.scenes3d.things import Rng, Thing

CANDIDATES = 24  # places where a camera may be
MODEL_SHARE = 0.4  # of the things, if there are models


def draw_tabletop(rng: Rng, assets: Assets) -> Scene:
    """Things side by side, before a backdrop or before nothing but the sky."""
    scene = SceneBuilder(rng, assets.photos)
    width, height = _line_up(scene, assets)
    extent = max(width, height)
    middle = np.array([0, 0, height * 0.45])
    backdrop = bool(rng.random() < 0.6)
    _surround(scene, extent, backdrop=backdrop)
    # With a backdrop behind them (+y) the things are seen from the front.
    spread = 0.9 if backdrop else np.pi
    azimuth = -np.pi / 2 + rng.uniform(-spread, spread, CANDIDATES)
    rise = rng.uniform(0.05, 0.85, CANDIDATES)
    level = np.sqrt(1 - rise**2)
    ways = np.stack([np.cos(azimuth) * level, np.sin(azimuth) * level, rise], axis=1)
    eyes = middle + extent * rng.uniform(0.8, 1.8, (CANDIDATES, 1)) * ways
    targets = middle + rng.normal(0, 0.12 * extent, (CANDIDATES, 3))
    sky = draw_sky(rng, assets.panoramas) * float(rng.uniform(0.6, 2))
    return scene.build(sky, eyes, targets)


def _line_up(scene: SceneBuilder, assets: Assets) -> tuple[float, float]:
    """Add the things, centred in x; how far they reach across and up, metres."""
    rng = scene.rng
    things = []
    large = bool(rng.random() < 0.35)
    models = assets.large if large else assets.small
    for _ in range(int(rng.integers(1, 4))):
        if models and rng.random() < MODEL_SHARE:
            name, thing = models[int(rng.integers(len(models)))]
        else:
            name, thing = (draw_furniture if large else draw_smallware)(rng)
        things.append((name, thing.moved(placed(0, 0, 0, rng.uniform(0, 2 * np.pi)))))
    bounds = np.array([thing.bounds() for _, thing in things])  # (n, 2, 3)
    extents = bounds[:, 1] - bounds[:, 0]
    ends = np.cumsum(extents[:, 0] * rng.uniform(1.02, 1.3, len(things)))
    starts = np.r_[0, ends[:-1]] - ends[-1] / 2
    for (name, thing), low, extent, start in zip(
        things, bounds[:, 0], extents, starts, strict=True
    ):
        stand = placed(start - low[0], rng.normal(0, 0.4) * extent[1])
        lit = bool(rng.random() < 0.4)
        scene.add(name, thing.moved(stand), glow=float(rng.uniform(2, 20)) * lit)
    return float(ends[-1]), float(bounds[:, 1, 2].max())


def _surround(scene: SceneBuilder, extent: float, *, backdrop: bool) -> None:
    """A table top or ground, perhaps with a backdrop behind it, and up to two lamps."""
    rng = scene.rng
    side = extent * rng.uniform(1.5, 3)
    if backdrop:
        scene.add_structure(Thing(((sheet(_backdrop(rng, side)), "wall"),)))
    round_top = not backdrop and rng.random() < 0.5
    top = cylinder(side, 0.04, 40) if round_top else box(2 * side, 2 * side, 0.04)
    # A little lower, so that what is exactly on the ground is not in it.
    scene.add_structure(Thing(((top.at(0, 0, -0.0401), "any"),)))
    for _ in range(int(rng.integers(0, 3))):
        size = extent * rng.uniform(0.2, 0.8)
        spot = extent * rng.uniform([-2, -2, 1.8], [2, 0.5, 3])
        panel = box(size, size, 0.02).at(*spot)
        power = rng.uniform(0.4, 3) * (extent / size) ** 2
        scene.add_structure(Thing(((panel, "glow"),)), glow=float(power))


def _backdrop(rng: Rng, side: float) -> Array:
    """A wall or a bent paper at the far edge of a table, (rows, columns, 3)."""
    tall, bend = side * rng.uniform(1, 2), side * rng.uniform(0.02, 0.4)
    foot = side * rng.uniform(0.5, 0.95)  # where it leaves the table
    profile = bezier([(0, foot + bend, tall), (0, foot + bend, 0), (0, foot, 0)], 14)
    grid = np.repeat(profile[:, None], 2, axis=1)
    grid[..., 0] = [-2 * side, 2 * side]
    return grid
