"""Random furniture: chairs, tables, shelves, lamps, railings and other large things.

Every maker returns a thing that stands on the origin and faces -y, in metres.
"""

from collections.abc import Callable

import numpy as np

from crispdepth.data.scenes3d.hangings import drape
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
    tube,
)
from crispdepth.data.scenes3d.textures import Finish
from crispdepth.data.scenes3d.things import Place, Rng, Thing


def _legs(rng: Rng, x: float, y: float, z: float, radius: float, splay: float) -> list[Mesh]:
    """Four legs, round or square, whose tops are ``x`` and ``y`` metres apart."""
    corners = [(sx * x / 2, sy * y / 2) for sx in (-1, 1) for sy in (-1, 1)]
    if rng.random() < 0.35:
        return [box(2 * radius, 2 * radius, z).at(cx, cy, 0) for cx, cy in corners]
    tip = radius * rng.uniform(0.5, 1.2)
    return [
        rod((cx * (1 + splay), cy * (1 + splay), 0), (cx, cy, z), tip, radius) for cx, cy in corners
    ]


def table(rng: Rng) -> Thing:
    """A table with four legs, a pedestal or two trestles."""
    x, y, z = rng.uniform(0.6, 1.8), rng.uniform(0.5, 0.95), rng.uniform(0.38, 0.8)
    thick, radius = rng.uniform(0.015, 0.05), rng.uniform(0.008, 0.035)
    top = box(x, y, thick).at(0, 0, z)
    style = rng.random()
    if style < 0.25:
        x = y = rng.uniform(0.5, 1.1)
        top = cylinder(x / 2, thick, 24).at(0, 0, z)
        legs = [cylinder(radius * 1.3, z), lathe([(0, 0), (x / 3, 0), (x / 3, 0.02), (0, 0.04)])]
        half = x / 3
    elif style < 0.45:
        bars = [
            rod((sx * x * 0.4, sy * y * 0.45, 0), (sx * x * 0.4, -sy * y * 0.3, z), radius)
            for sx in (-1, 1)
            for sy in (-1, 1)
        ]
        legs = [*bars, rod((-x * 0.4, 0, z * 0.5), (x * 0.4, 0, z * 0.5), radius)]
        half = 0.0
    else:
        legs = _legs(rng, x * 0.9, y * 0.86, z, radius, rng.uniform(0, 0.12))
        half = 0.0
    half_x, half_y = (half or x / 2), (half or y / 2)
    place = Place((-half_x, -half_y), (half_x, half_y), z + thick, 0.6)
    frame: Finish = "metal" if rng.random() < 0.4 else "wood"
    return Thing(((top, "any"), (merge(legs), frame)), (place,))


def chair(rng: Rng) -> Thing:
    """A chair or a stool; its back is slats, spindles, wires, a board or a hoop."""
    x, y, z = rng.uniform(0.36, 0.5), rng.uniform(0.36, 0.48), rng.uniform(0.4, 0.5)
    radius, high = rng.uniform(0.007, 0.02), rng.uniform(0.35, 0.55)
    seat = (
        cylinder(x / 2, 0.03, 18).at(0, 0, z)
        if rng.random() < 0.25
        else box(x, y, rng.uniform(0.02, 0.07)).at(0, 0, z)
    )
    frame = _legs(rng, x * 0.85, y * 0.85, z, radius, rng.uniform(0, 0.2))
    if rng.random() < 0.5:
        level = z * rng.uniform(0.25, 0.6)
        frame += [
            rod((s * x * 0.43, -y * 0.43, level), (s * x * 0.43, y * 0.43, level), radius * 0.7)
            for s in (-1, 1)
        ]
    back = [] if rng.random() < 0.15 else _back(rng, x * 0.9, high, radius)
    lean = placed(0, y * 0.43, z) @ rotation((1, 0, 0), -rng.uniform(0.02, 0.3))
    frame += [mesh.moved(lean) for mesh in back]
    if back and rng.random() < 0.3:
        level = z + rng.uniform(0.16, 0.24)
        for s in (-1, 1):
            arm = [
                (s * x / 2, y * 0.45, level),
                (s * x / 2, -y * 0.4, level),
                (s * x / 2, -y * 0.45, z),
            ]
            frame.append(tube(bezier([arm[0], arm[1], arm[1], arm[2]]), radius))
    return Thing(((seat, "any"), (merge(frame), "metal" if rng.random() < 0.4 else "wood")))


def _back(rng: Rng, x: float, high: float, radius: float) -> list[Mesh]:
    posts = [rod((s * x / 2, 0, 0), (s * x / 2, 0, high), radius) for s in (-1, 1)]
    count = int(rng.integers(3, 9))
    across = np.linspace(-x / 2, x / 2, count + 2)[1:-1]
    match rng.integers(5):
        case 0:  # slats
            width = high / (2.2 * count)
            levels = np.linspace(high * 0.3, high - width, count)
            return posts + [box(x, 0.012, width).at(0, 0, level) for level in levels]
        case 1:  # spindles under a rail
            rail = rod((-x / 2, 0, high), (x / 2, 0, high), radius * 1.3)
            return [*posts, rail, *(rod((a, 0, 0), (a, 0, high), radius * 0.5) for a in across)]
        case 2:  # a net of wires
            levels = np.linspace(0.1, high, count)
            wires = [rod((a, 0, 0), (a, 0, high), 0.003) for a in across]
            return posts + wires + [rod((-x / 2, 0, z), (x / 2, 0, z), 0.003) for z in levels]
        case 3:
            return [*posts, box(x, 0.02, high * 0.45).at(0, 0, high * 0.5)]
        case _:  # a hoop
            corners = [
                (-x / 2, 0, 0),
                (-x / 2, 0, high * 1.3),
                (x / 2, 0, high * 1.3),
                (x / 2, 0, 0),
            ]
            hoop = tube(bezier(corners, 16), radius)
            return [hoop, *(rod((a, 0, 0), (a, 0, high * 0.7), radius * 0.5) for a in across[1:-1])]


def sofa(rng: Rng) -> Thing:
    """A sofa or an armchair on short feet."""
    x, y, z = rng.uniform(0.8, 2.1), rng.uniform(0.75, 0.95), rng.uniform(0.35, 0.45)
    arm, back = rng.uniform(0.1, 0.22), rng.uniform(0.3, 0.5)
    body = [
        box(x, y, z - 0.1).at(0, 0, 0.1),
        box(x, 0.2, back + 0.1).at(0, y / 2 - 0.1, z - 0.1),
        *(box(arm, y, z + 0.15).at(s * (x - arm) / 2, 0, 0.1) for s in (-1, 1)),
    ]
    feet = _legs(rng, x * 0.9, y * 0.8, 0.1, 0.02, 0)
    cushion = box(0.4, 0.14, 0.36).moved(
        placed(rng.uniform(-0.3, 0.3) * x, y / 2 - 0.3, z, 0) @ rotation((1, 0, 0), -0.25)
    )
    return Thing(((merge(body), "cloth"), (merge(feet), "wood"), (cushion, "accent")))


def shelf(rng: Rng) -> Thing:
    """An open shelf between boards, posts or ladders of thin rods."""
    x, y, z = rng.uniform(0.5, 1.3), rng.uniform(0.22, 0.4), rng.uniform(0.7, 2.0)
    count, thick = int(rng.integers(3, 6)), rng.uniform(0.008, 0.03)
    levels = np.linspace(rng.uniform(0.03, 0.15), z - thick, count)
    boards = [box(x, y, thick).at(0, 0, level) for level in levels]
    if rng.random() < 0.5:
        sides = [box(thick, y, z).at(s * x / 2, 0, 0) for s in (-1, 1)]
        if rng.random() < 0.4:
            sides.append(box(x, 0.006, z).at(0, y / 2, 0))
    else:
        radius = rng.uniform(0.006, 0.015)
        sides = [
            rod((s * x / 2, t * y / 2, 0), (s * x / 2, t * y / 2, z), radius)
            for s in (-1, 1)
            for t in (-1, 1)
        ]
        if rng.random() < 0.5:  # braces
            sides += [
                rod((-x / 2, y / 2, 0.05), (x / 2, y / 2, z), radius / 2),
                rod((x / 2, y / 2, 0.05), (-x / 2, y / 2, z), radius / 2),
            ]
    gap = float(levels[1] - levels[0]) - thick
    places = tuple(
        Place((-x / 2 + 0.03, -y / 2), (x / 2 - 0.03, y / 2), level + thick, gap - 0.02)
        for level in levels
    )
    frame: Finish = "metal" if rng.random() < 0.4 else "wood"
    return Thing(((merge(boards), "wood"), (merge(sides), frame)), places)


def cabinet(rng: Rng) -> Thing:
    """A chest of drawers on feet, with handles."""
    x, y, z = rng.uniform(0.4, 1.5), rng.uniform(0.35, 0.5), rng.uniform(0.4, 1.3)
    foot, rows, columns = rng.uniform(0.05, 0.2), int(rng.integers(1, 5)), int(rng.integers(1, 4))
    body = box(x, y, z - foot).at(0, 0, foot)
    fronts, handles = [], []
    wide, high = x / columns, (z - foot) / rows
    for row in range(rows):
        for column in range(columns):
            cx, cz = (column + 0.5) * wide - x / 2, foot + row * high
            fronts.append(box(wide - 0.015, 0.015, high - 0.015).at(cx, -y / 2 - 0.007, cz + 0.007))
            grip = [
                (cx - 0.05, -y / 2 - 0.01, cz + high / 2),
                (cx - 0.05, -y / 2 - 0.05, cz + high / 2),
            ]
            far = [(cx + 0.05, b, c) for _, b, c in grip[::-1]]
            handles.append(tube(bezier([*grip, *far], 7), 0.005))
    legs = _legs(rng, x * 0.9, y * 0.85, foot, 0.02, 0.05)
    place = Place((-x / 2, -y / 2), (x / 2, y / 2), z, 0.6)
    return Thing(
        (
            (body, "any"),
            (merge(fronts), "accent"),
            (merge(legs), "wood"),
            (merge(handles), "metal"),
        ),
        (place,),
    )


def floor_lamp(rng: Rng) -> Thing:
    """A lamp on a thin pole, straight, bent over, or on three legs; it may be switched on."""
    z, radius = rng.uniform(1.1, 1.8), rng.uniform(0.005, 0.014)
    reach = 0.0
    if rng.random() < 0.35:
        legs = [(0.3 * np.cos(a), 0.3 * np.sin(a), 0) for a in np.arange(3) * 2 * np.pi / 3]
        stand = [rod(leg, (0, 0, z), radius) for leg in legs]
    elif rng.random() < 0.4:
        reach = rng.uniform(0.3, 0.7)
        bend = bezier([(0, 0, 0), (0, 0, z * 1.3), (reach * 0.7, 0, z * 1.4), (reach, 0, z)], 16)
        stand = [tube(bend, radius), cylinder(0.14, 0.03)]
    else:
        stand = [cylinder(radius, z, 7), lathe([(0, 0), (0.14, 0), (0.14, 0.015), (0, 0.03)])]
    low, high, tall = rng.uniform(0.1, 0.22), rng.uniform(0.05, 0.15), rng.uniform(0.12, 0.28)
    shade = lathe([(low, 0), (high, tall)], 18).at(reach, 0, z - tall * 0.6)
    bulb = ball(0.04, 10).at(reach, 0, z - tall * 0.3)
    return Thing(((merge(stand), "metal"), (shade, "any"), (bulb, "glow")))


def coat_stand(rng: Rng) -> Thing:
    """A pole with arms in several directions."""
    z, radius = rng.uniform(1.3, 1.9), rng.uniform(0.008, 0.02)
    sticks = [rod((0, 0, 0), (0, 0, z), radius)]
    for angle in np.arange(4) * np.pi / 2 + rng.uniform(0, 1):
        way = np.array([np.cos(angle), np.sin(angle), 0])
        sticks.append(rod(0.28 * way, (0, 0, 0.2), radius * 0.8))
        for level in (z - 0.05, z - rng.uniform(0.2, 0.4)):
            start = np.array([0, 0, level])
            hook = [start, start + 0.12 * way, start + 0.16 * way + [0, 0, 0.12]]
            sticks.append(tube(bezier(hook, 7), radius * 0.6))
    return Thing(((merge(sticks), "metal" if rng.random() < 0.5 else "wood"),))


def railing(rng: Rng) -> Thing:
    """Bars between two rails: a railing, a ladder's side or a fence."""
    x, z = rng.uniform(0.8, 2.2), rng.uniform(0.5, 1.1)
    radius, count = rng.uniform(0.004, 0.014), int(rng.integers(6, 24))
    across = np.linspace(-x / 2, x / 2, count)
    slant = rng.choice([0.0, 0.0, 0.15])
    bars = [rod((a, 0, 0.06), (a + slant, 0, z), radius) for a in across]
    bars += [
        rod((-x / 2, 0, h), (x / 2 + slant * (h > 0.1), 0, h), radius * 1.6) for h in (0.06, z)
    ]
    bars += [rod((s * x / 2, 0, 0), (s * x / 2, 0, z + 0.05), radius * 2) for s in (-1, 1)]
    return Thing(((merge(bars), "metal" if rng.random() < 0.6 else "wood"),))


def clothes_rack(rng: Rng) -> Thing:
    """Two frames and a bar with cloths, or a drying rack with wires."""
    x, z, radius = rng.uniform(0.7, 1.3), rng.uniform(0.9, 1.6), rng.uniform(0.006, 0.014)
    bars = [
        rod((s * x / 2, t * 0.22, 0), (s * x / 2, 0, z), radius) for s in (-1, 1) for t in (-1, 1)
    ]
    bars.append(rod((-x / 2, 0, z), (x / 2, 0, z), radius))
    cloths = []
    for middle in rng.uniform(-0.4, 0.4, rng.integers(1, 4)) * x:
        wide, long = rng.uniform(0.2, 0.4), rng.uniform(0.3, 0.7) * z
        cloths.append(drape(rng, wide, long).at(middle, 0, z))
    wires = [
        rod((-x / 2, y, z - 0.1), (x / 2, y, z - 0.1), 0.002) for y in np.linspace(-0.2, 0.2, 6)
    ]
    return Thing(((merge(bars + wires), "metal"), (merge(cloths), "cloth")))


def lattice(rng: Rng) -> Thing:
    """A screen of crossed slats or wires, or a net, in a frame."""
    x, z, step = rng.uniform(0.6, 1.2), rng.uniform(0.8, 1.7), rng.uniform(0.05, 0.16)
    radius = rng.uniform(0.0015, 0.008)
    bars = [rod((a, 0, 0.05), (a, 0, z), radius) for a in np.arange(-x / 2, x / 2, step)]
    bars += [rod((-x / 2, 0, h), (x / 2, 0, h), radius) for h in np.arange(0.05, z, step)]
    frame = [(-x / 2, 0, 0.05), (x / 2, 0, 0.05), (x / 2, 0, z), (-x / 2, 0, z)]
    bars += [rod(frame[k - 1], frame[k], 0.012) for k in range(4)]
    bars += [
        rod((s * x / 2, t * 0.2, 0), (s * x / 2, 0, 0.15), 0.012) for s in (-1, 1) for t in (-1, 1)
    ]
    return Thing(((merge(bars), "metal" if rng.random() < 0.5 else "wood"),))


def wheel(rng: Rng) -> Thing:
    """A wheel with spokes, leaning on nothing."""
    radius, count = rng.uniform(0.2, 0.4), int(rng.integers(8, 26))
    rim = [ring(radius, rng.uniform(0.008, 0.02), 32), ring(0.03, 0.015, 12)]
    spokes = [
        rod((0, 0, 0), (radius * np.cos(a), radius * np.sin(a), 0), 0.0025)
        for a in np.arange(count) * 2 * np.pi / count
    ]
    upright = placed(0, 0, radius + 0.01) @ rotation((1, 0, 0), np.pi / 2 - rng.uniform(0, 0.2))
    return Thing(((merge(rim), "any"), (merge(spokes), "metal"))).moved(upright)


_MAKERS: dict[Callable[[Rng], Thing], float] = {
    chair: 4.0,
    plant: 2.5,
    table: 2.0,
    shelf: 2.0,
    cabinet: 1.5,
    floor_lamp: 1.5,
    railing: 1.2,
    sofa: 1.0,
    coat_stand: 1.0,
    clothes_rack: 1.0,
    lattice: 0.7,
    wheel: 0.7,
}
"""How often each comes, relative to the others."""


def draw_furniture(rng: Rng) -> tuple[str, Thing]:
    """A random thing that stands on the floor, and its name."""
    shares = np.array([*_MAKERS.values()])
    maker = list(_MAKERS)[int(rng.choice(len(shares), p=shares / shares.sum()))]
    return maker.__name__, maker(rng)
