"""Random plants in pots."""

import numpy as np

from crispdepth.data.scenes3d.shapes import Array, Mesh, bezier, cylinder, lathe, merge, sheet, tube
from crispdepth.data.scenes3d.textures import Finish, Surface
from crispdepth.data.scenes3d.things import Rng, Thing

UP = np.array([0.0, 0.0, 1.0])


def plant(rng: Rng) -> Thing:
    """A plant in a pot: broad leaves, blades or twigs."""
    wide, tall = rng.uniform(0.08, 0.2), rng.uniform(0.1, 0.3)
    pot = lathe([(wide * 0.7, 0), (wide, tall), (wide * 0.9, tall), (wide * 0.85, tall * 0.9)], 16)
    soil = cylinder(wide * 0.87, 0.01).at(0, 0, tall * 0.88)
    high, leaves, stems = rng.uniform(0.3, 1.2), [], []
    style = rng.integers(3)
    for _ in range(int(rng.integers(8, 22) if style else rng.integers(18, 45))):
        angle, lean = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.6) * high
        way = np.array([np.cos(angle), np.sin(angle), 0])
        length = high * rng.uniform(0.5, 1)
        path = [
            0.3 * wide * way + tall * 0.9 * UP,
            (tall + 0.9 * length) * UP,
            (tall + length * rng.uniform(0.7, 1)) * UP + lean * way,
        ]
        points = bezier(path, 7)
        if style == 0:  # blades of grass
            leaves.append(_blade(points, rng.uniform(0.004, 0.02)))
            continue
        stems.append(tube(points, rng.uniform(0.002, 0.006), sections=5))
        spots = [points[-1]] if style == 1 else points[3:]
        for spot in spots:
            turn = way if style == 1 else rng.normal(size=3) * [1, 1, 0.5]
            size = rng.uniform(0.12, 0.3) if style == 1 else rng.uniform(0.03, 0.1)
            leaves.append(_leaf(rng, spot, turn, size))
    parts: list[tuple[Mesh, Finish | Surface]] = [(pot, "any"), (soil, "soil")]
    parts.append((merge(leaves), "leaf"))
    if stems:
        parts.append((merge(stems), "wood"))
    return Thing(tuple(parts))


def _blade(path: Array, wide: float) -> Mesh:
    """A narrow leaf along a path, pointed at its end."""
    along = path[-1] - path[0]
    side = np.cross(along, UP)
    side /= max(float(np.linalg.norm(side)), 1e-9)
    width = wide * np.sqrt(np.linspace(1, 0, len(path)))[:, None]
    return sheet(np.stack([path - side * width, path + side * width], axis=1))


def _leaf(rng: Rng, start: Array, way: Array, length: float) -> Mesh:
    """An oval leaf that starts at a point, goes that way and bends down."""
    ahead = way / max(float(np.linalg.norm(way)), 1e-9)
    side = np.cross(ahead, UP)
    side /= max(float(np.linalg.norm(side)), 1e-9)
    t = np.linspace(0, 1, 6)[:, None]
    middle = start + length * (t * ahead - rng.uniform(0.1, 0.7) * t**2 * UP)
    width = length * rng.uniform(0.15, 0.4) * np.sin(np.pi * np.clip(t, 0.03, 0.98))
    fold = width * rng.uniform(0, 0.5) * UP
    return sheet(np.stack([middle - side * width + fold, middle, middle + side * width + fold], 1))
