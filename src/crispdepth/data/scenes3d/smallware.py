"""Random small things that stand on tables and shelves: dishes, books, rings, baskets, toys."""

from collections.abc import Callable

import numpy as np

from crispdepth.data.scenes3d.plants import plant
from crispdepth.data.scenes3d.shapes import (
    Mesh,
    ball,
    bezier,
    box,
    cylinder,
    lathe,
    merge,
    placed,
    ring,
    rod,
    rotation,
    sheet,
    tube,
)
from crispdepth.data.scenes3d.things import Rng, Thing


def carton(rng: Rng) -> Thing:
    """A box or two, one on the other."""
    x, y, z = rng.uniform(0.06, 0.25, 3)
    lower = Thing(((box(x, y, z), "any"),))
    if rng.random() < 0.7:
        return lower
    upper = box(x * 0.8, y * 0.7, z * rng.uniform(0.2, 0.7))
    return Thing((*lower.parts, (upper.moved(placed(0, 0, z, rng.uniform(0, 1))), "accent")))


def books(rng: Rng) -> Thing:
    """A row of books, the last ones leaning, or a pile."""
    meshes: list[Mesh] = []
    at, pile = 0.0, rng.random() < 0.35
    for _ in range(int(rng.integers(3, 10))):
        thick, deep, high = (
            rng.uniform(0.012, 0.05),
            rng.uniform(0.12, 0.18),
            rng.uniform(0.16, 0.28),
        )
        if pile:
            meshes.append(box(high, deep, thick).moved(placed(0, 0, at, rng.normal(0, 0.15))))
        else:
            meshes.append(box(thick, deep, high).at(at + thick / 2, 0, 0))
        at += thick + 0.001
    middle = (0.0 if pile else -at / 2, 0, 0)
    halves = meshes[::2], meshes[1::2]
    first, second = (merge(half).at(*middle) for half in halves)
    return Thing(((first, "any"), (second, "accent")))


def vessel(rng: Rng) -> Thing:
    """A vase, bottle or bowl: a random smooth profile, open at the top."""
    high = rng.uniform(0.06, 0.35)
    wide = high * rng.uniform(0.2, 0.9)
    t = np.linspace(0, 1, 14)
    knots = wide * rng.uniform(0.3, 1, 5)
    outside = np.interp(t, np.linspace(0, 1, 5), knots)
    outside = np.convolve(np.pad(outside, 2, "edge"), np.ones(5) / 5, "valid")
    wall = np.minimum(0.006, outside / 4)
    profile = np.concatenate(
        [
            [(0, 0)],
            np.stack([outside, t * high], axis=1),
            np.stack([outside - wall, t * high], axis=1)[:0:-1],
            [(0, high / 13)],
        ]
    )
    return Thing(((lathe(profile, 20, smooth=True), "any"),))


def mug(rng: Rng) -> Thing:
    """A cup with a handle, or a jug."""
    high, wide = rng.uniform(0.07, 0.2), rng.uniform(0.03, 0.06)
    top = wide * rng.uniform(0.9, 1.3)
    body = lathe(
        [(0, 0), (wide, 0), (top, high), (top - 0.004, high), (wide - 0.004, 0.006), (0, 0.006)], 20
    )
    out = wide * rng.uniform(1.6, 2.4)
    handle = [
        (wide * 0.95, 0, high * 0.2),
        (out, 0, high * 0.1),
        (out, 0, high),
        (top * 0.97, 0, high * 0.85),
    ]
    return Thing(((merge([body, tube(bezier(handle, 12), rng.uniform(0.003, 0.007))]), "any"),))


def toy(rng: Rng) -> Thing:
    """A ball, a few balls, or a lumpy figure."""
    meshes, z = [], 0.0
    for _ in range(int(rng.integers(1, 4))):
        radius = rng.uniform(0.03, 0.09)
        shape = ball(radius, 18)
        way = shape.vertices / radius
        lumps = rng.normal(0, 0.12 * rng.random(), 3)
        scale = 1 + np.sin(way @ rng.normal(0, 2, (3, 3))) @ lumps
        meshes.append(shape._replace(vertices=shape.vertices * scale[:, None]).at(0, 0, z + radius))
        z += 1.8 * radius
    return Thing(((merge(meshes), "any"),))


def rings(rng: Rng) -> Thing:
    """Standing or leaning rings of thin or thick wire."""
    meshes = []
    for index in range(int(rng.integers(1, 4))):
        radius, wire = rng.uniform(0.05, 0.15), rng.uniform(0.002, 0.02)
        pose = rotation((0, 0, 1), rng.uniform(0, 3)) @ rotation(
            (1, 0, 0), rng.uniform(0.9, np.pi / 2)
        )
        mesh = ring(radius, wire).moved(pose)
        meshes.append(mesh.at(0.06 * index, rng.uniform(-0.03, 0.03), -mesh.vertices[:, 2].min()))
    return Thing(((merge(meshes), "metal" if rng.random() < 0.5 else "any"),))


def basket(rng: Rng) -> Thing:
    """A basket or cage of wires."""
    low, high, tall = rng.uniform(0.06, 0.12), rng.uniform(0.08, 0.16), rng.uniform(0.06, 0.2)
    wire, count = rng.uniform(0.0015, 0.004), int(rng.integers(10, 28))
    levels = np.linspace(0, 1, int(rng.integers(2, 6)))
    meshes = [ring(low + (high - low) * t, wire).at(0, 0, wire + t * tall) for t in levels]
    for angle in np.arange(count) * 2 * np.pi / count:
        way = np.array([np.cos(angle), np.sin(angle), 0])
        meshes.append(rod(low * way + [0, 0, wire], high * way + [0, 0, tall], wire))
        meshes.append(rod((0, 0, wire), low * way + [0, 0, wire], wire))
    return Thing(((merge(meshes), "metal"),))


def desk_lamp(rng: Rng) -> Thing:
    """A lamp on a jointed arm of thin rods."""
    first, second = rng.uniform(0.15, 0.3), rng.uniform(0.15, 0.3)
    knee = np.array([-0.5 * first, 0, first])
    head = knee + second * np.array([1, 0, rng.uniform(-0.2, 0.6)])
    meshes = [cylinder(0.07, 0.015)]
    for offset in (-0.012, 0.012):
        side = np.array([0, offset, 0])
        meshes += [rod(side, knee + side, 0.003), rod(knee + side, head + side, 0.003)]
    shade = lathe([(0.07, 0), (0.025, 0.09), (0, 0.1)], 16).at(*(head - [0, 0, 0.06]))
    bulb = ball(0.02, 8).at(*(head - [0, 0, 0.03]))
    return Thing(((merge(meshes), "metal"), (shade, "any"), (bulb, "glow")))


def flowers(rng: Rng) -> Thing:
    """Stalks with blossoms in a glassless vase."""
    vase = lathe([(0, 0), (0.04, 0), (0.03, 0.1), (0.045, 0.18), (0.04, 0.18), (0.026, 0.1)], 16)
    stalks, blossoms = [], []
    for _ in range(int(rng.integers(3, 10))):
        lean = rng.normal(0, 0.08, 2)
        top = np.array([*lean, rng.uniform(0.28, 0.45)])
        stalks.append(tube(bezier([(0, 0, 0.05), (0, 0, 0.25), top], 7), 0.0018, sections=5))
        blossoms.append(ball(rng.uniform(0.008, 0.03), 8).at(*top))
    return Thing(((vase, "any"), (merge(stalks), "leaf"), (merge(blossoms), "accent")))


def brushes(rng: Rng) -> Thing:
    """Pens, sticks and brushes in a holder."""
    holder = lathe([(0, 0), (0.04, 0), (0.04, 0.1), (0.036, 0.1), (0.036, 0.005)], 16)
    sticks = []
    for _ in range(int(rng.integers(3, 12))):
        foot, lean = rng.uniform(-0.02, 0.02, 2), rng.uniform(-0.06, 0.06, 2)
        sticks.append(
            rod(
                (*foot, 0.01), (*(foot + lean), rng.uniform(0.14, 0.26)), rng.uniform(0.0015, 0.005)
            )
        )
    return Thing(((holder, "any"), (merge(sticks), "accent")))


def easel(rng: Rng) -> Thing:
    """A card or screen on a wire stand."""
    x, z = rng.uniform(0.1, 0.35), rng.uniform(0.1, 0.28)
    lean = rotation((1, 0, 0), -rng.uniform(0.1, 0.35))
    card = box(x, 0.008, z).moved(lean).at(0, 0, 0.02)
    stand = [rod((s * x * 0.4, -0.02, 0), (s * x * 0.3, z * 0.3, z * 0.8), 0.003) for s in (-1, 1)]
    stand.append(rod((0, z * 0.6, 0), (0, z * 0.3, z * 0.8), 0.003))
    return Thing(((card, "cloth"), (merge(stand), "metal")))


def cloth(rng: Rng) -> Thing:
    """A crumpled cloth."""
    side = rng.uniform(0.12, 0.3)
    u, v = np.meshgrid(np.linspace(-0.5, 0.5, 14), np.linspace(-0.5, 0.5, 14))
    rate, phase = rng.normal(0, 9, (2, 4, 1, 1)), rng.uniform(0, 6, (4, 1, 1))
    waves = np.sin(rate[0] * u + rate[1] * v + phase).sum(axis=0)
    height = 0.002 + rng.uniform(0.01, 0.03) * (waves - waves.min())
    return Thing(((sheet(np.stack([u * side, -v * side, height], axis=-1)), "cloth"),))


def small_plant(rng: Rng) -> Thing:
    """A plant of a third of its size."""
    return plant(rng).moved(np.diag([0.35, 0.35, 0.35, 1.0]))


_MAKERS: tuple[Callable[[Rng], Thing], ...] = (
    carton, books, books, vessel, vessel, mug, toy, rings, basket, desk_lamp, flowers, brushes,
    easel, cloth, small_plant,
)  # fmt: skip


def draw_smallware(rng: Rng) -> tuple[str, Thing]:
    """A random thing that stands on a table or a shelf, and its name."""
    maker = _MAKERS[int(rng.integers(len(_MAKERS)))]
    return maker.__name__, maker(rng)
