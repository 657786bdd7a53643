"""What hangs on walls and from ceilings."""

import numpy as np

from crispdepth.data.scenes3d.shapes import (
    Array,
    Mesh,
    ball,
    bezier,
    box,
    lathe,
    merge,
    quad,
    rod,
    sheet,
    tube,
)
from crispdepth.data.scenes3d.things import Rng, Thing


def drape(rng: Rng, wide: float, long: float) -> Mesh:
    """A wavy cloth that hangs down from the x axis."""
    u, v = np.meshgrid(np.linspace(-0.5, 0.5, 14), np.linspace(0, 1, 5))
    depth = rng.uniform(0.01, 0.05)
    waves = depth * np.sin(u * rng.uniform(8, 40) + rng.uniform(0, 6)) * (0.4 + v)
    return sheet(np.stack([u * wide, waves, -v * long], axis=-1))


def curtain(rng: Rng) -> Thing:
    """A curtain on a rail."""
    wide, long = rng.uniform(0.4, 1.0), rng.uniform(1.5, 2.2)
    rail = rod((-wide, 0, long + 0.02), (wide, 0, long + 0.02), 0.01)
    return Thing(((drape(rng, wide, long).at(0, 0, long), "cloth"), (rail, "metal")))


def picture(rng: Rng) -> Thing:
    """A framed picture that hangs on the plane y = 0, its middle at the origin."""
    x, z, rim = rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.7), rng.uniform(0.01, 0.05)
    face = quad(
        [
            (-x / 2, -0.015, z / 2),
            (x / 2, -0.015, z / 2),
            (-x / 2, -0.015, -z / 2),
            (x / 2, -0.015, -z / 2),
        ]
    )
    frame = [box(x + 2 * rim, 0.03, rim).at(0, -0.015, s) for s in (-z / 2 - rim, z / 2)]
    frame += [box(rim, 0.03, z).at(s * (x + rim) / 2, -0.015, -z / 2) for s in (-1, 1)]
    return Thing(((face, "cloth"), (merge(frame), "wood" if rng.random() < 0.6 else "metal")))


def pendant(rng: Rng) -> Thing:
    """A lamp on a wire that hangs from the origin."""
    drop, wide, tall = rng.uniform(0.4, 1.2), rng.uniform(0.1, 0.25), rng.uniform(0.08, 0.25)
    wire = rod((0, 0, -drop), (0, 0, 0), 0.004)
    shade = lathe([(wide, 0), (wide * rng.uniform(0.1, 0.9), tall), (0.01, tall)], 18)
    bulb = ball(0.035, 10).at(0, 0, -drop - tall * 0.6)
    return Thing(((wire, "metal"), (shade.at(0, 0, -drop - tall), "any"), (bulb, "glow")))


def wire(rng: Rng, start: Array, end: Array) -> Thing:
    """A cable that sags between two points."""
    sag = np.array([0, 0, -rng.uniform(0.05, 0.6)])
    path = bezier([start, start * 0.7 + end * 0.3 + sag, start * 0.3 + end * 0.7 + sag, end], 18)
    return Thing(((tube(path, rng.uniform(0.002, 0.006), sections=5), "any"),))
