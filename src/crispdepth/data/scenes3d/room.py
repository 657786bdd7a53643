"""A random furnished room."""

from collections.abc import Sequence

import numpy as np

from crispdepth.data.scenes3d.assets import Assets
from crispdepth.data.scenes3d.furniture import draw_furniture
from crispdepth.data.scenes3d.hangings import curtain, pendant, picture, wire
from crispdepth.data.scenes3d.scene import Scene, SceneBuilder
from crispdepth.data.scenes3d.shapes import Array, Mesh, box, merge, placed, quad, rod
from crispdepth.data.scenes3d.sky import draw_sky
from crispdepth.data.scenes3d.smallware import draw_smallware
from crispdepth.data.scenes3d.things import Place, Rng, Thing

SIZE_M = ((3.0, 3.0, 2.3), (6.5, 6.5, 3.2))
MARGIN_M = 0.08  # between things on the floor
TRIES = 30  # to find a place for a thing
MODEL_SHARE = 1 / 3  # of the things, if there are models
MAX_SMALL = 90  # instances after which no small things are added
CANDIDATES = 32  # places where a camera may be


def draw_room(rng: Rng, assets: Assets) -> Scene:
    """A room of 3 to 6.5 m with furniture, things on it, lamps, pictures and wires."""
    size = rng.uniform(*SIZE_M)
    scene = SceneBuilder(rng, assets.photos)
    window = int(rng.integers(4)) if rng.random() < 0.7 else None
    dark = window is not None and rng.random() < 0.4  # no light from the ceiling
    _structure(scene, size, window, glow=0.0 if dark else float(rng.uniform(3, 12)))
    taken: list[Array] = []  # the bounds (2, 3) of what stands on the floor
    for _ in range(int(rng.integers(9, 20))):
        _furnish(scene, size, assets, taken, lit=dark or rng.random() < 0.4)
    _hang_on_walls(scene, size)
    _hang_from_ceiling(scene, size, lit=dark or rng.random() < 0.3)
    eyes, targets = _stands(rng, size, taken)
    sky = draw_sky(rng, assets.panoramas) * float(rng.uniform(0.3, 4))
    return scene.build(sky, eyes, targets)


def _structure(scene: SceneBuilder, size: Array, window: int | None, glow: float) -> None:
    """Floor, ceiling and walls of a room from (0, 0, 0) to ``size``."""
    rng = scene.rng
    x, y, z = size
    floor = quad([(0, y, 0), (x, y, 0), (0, 0, 0), (x, 0, 0)])
    scene.add_structure(Thing(((floor, "wood" if rng.random() < 0.5 else "any"),)))
    corners = np.array([(0, 0), (x, 0), (x, y), (0, y)])
    walls = [_wall(rng, corners[k], corners[k - 3], z, window=k == window) for k in range(4)]
    for wall in [merge(walls)] if rng.random() < 0.7 else walls:
        scene.add_structure(Thing(((wall, "wall"),)))
    if window is None and rng.random() < 0.4:
        return  # open to the sky
    ceiling = quad([(0, 0, z), (x, 0, z), (0, y, z), (x, y, z)])
    scene.add_structure(Thing(((ceiling, "wall"),)))
    for _ in range(int(rng.integers(1, 4))):
        panel = box(rng.uniform(0.2, 1.2), rng.uniform(0.2, 1.2), 0.02)
        across, along = rng.uniform(0.2, 0.8, 2) * size[:2]
        scene.add_structure(Thing(((panel.at(across, along, z - 0.025), "glow"),)), glow=glow)


def _wall(rng: Rng, start: Array, end: Array, high: float, *, window: bool) -> Mesh:
    """The wall between two corners of the floor, seen from inside, perhaps with an opening."""

    def panel(left: float, right: float, low: float, top: float) -> Mesh:
        a, b = start + left * (end - start), start + right * (end - start)
        return quad([(*a, top * high), (*b, top * high), (*a, low * high), (*b, low * high)])

    if not window:
        return panel(0, 1, 0, 1)
    left, right = rng.uniform(0.1, 0.35), rng.uniform(0.6, 0.9)
    low, top = rng.choice([0.02, 0.35]), rng.uniform(0.75, 0.92)
    frame = [panel(0, left, 0, 1), panel(right, 1, 0, 1)]
    frame += [panel(left, right, 0, low), panel(left, right, top, 1)]
    for share in np.linspace(left, right, int(rng.integers(2, 5))):
        foot = start + share * (end - start)
        frame.append(rod((*foot, low * high), (*foot, top * high), 0.02))
    return merge(frame)


def _furnish(
    scene: SceneBuilder, size: Array, assets: Assets, taken: list[Array], *, lit: bool
) -> None:
    """Put one thing on the floor if there is room, and small things on it."""
    rng = scene.rng
    if assets.large and rng.random() < MODEL_SHARE:
        name, thing = assets.large[int(rng.integers(len(assets.large)))]
    else:
        name, thing = draw_furniture(rng)
    pose = _free_spot(rng, thing, size, taken)
    if pose is None:
        return
    moved = thing.moved(pose)
    taken.append(moved.bounds())
    scene.add(name, moved, glow=float(rng.uniform(20, 80)) * lit)
    for place in thing.places:
        _set_out(scene, place, pose, assets)


def _free_spot(rng: Rng, thing: Thing, size: Array, taken: Sequence[Array]) -> Array | None:
    """A pose on the floor where the thing touches no other; None if none was found."""
    yaw = float(rng.integers(4) * np.pi / 2 + rng.normal(0, 0.15))
    low, high = thing.moved(placed(0, 0, 0, yaw)).bounds()
    room = size - (high - low)
    if (room < 0.1).any():
        return None
    for _ in range(TRIES):
        share = rng.beta(0.6, 0.6, 2)  # more along the walls than in the middle
        spot = 0.02 - low[:2] + share * (room[:2] - 0.04)
        near, far = low[:2] + spot - MARGIN_M, high[:2] + spot + MARGIN_M
        if all((near > other[1, :2]).any() or (far < other[0, :2]).any() for other in taken):
            return placed(spot[0], spot[1], 0, yaw)
    return None


def _set_out(scene: SceneBuilder, place: Place, pose: Array, assets: Assets) -> None:
    """Put small things side by side on a place of a thing that stands at ``pose``."""
    rng = scene.rng
    at, end = place.low[0], place.high[0]
    while at < end and len(scene.names) < MAX_SMALL:
        at += rng.exponential(0.12)
        if assets.small and rng.random() < MODEL_SHARE:
            name, thing = assets.small[int(rng.integers(len(assets.small)))]
        else:
            name, thing = draw_smallware(rng)
        if rng.random() < 0.6:
            thing = thing.moved(placed(0, 0, 0, rng.uniform(0, 2 * np.pi)))
        low, high = thing.bounds()
        wide, deep = high[:2] - low[:2]
        free = place.high[1] - place.low[1] - deep
        if at + wide > end or free < 0 or high[2] > place.headroom:
            at += 0.1
            continue
        stand = placed(at - low[0], place.low[1] - low[1] + rng.uniform(0, free), place.z)
        lit = bool(rng.random() < 0.3)
        scene.add(name, thing.moved(pose @ stand), glow=float(rng.uniform(10, 60)) * lit)
        at += wide


def _hang_on_walls(scene: SceneBuilder, size: Array) -> None:
    """Pictures and curtains."""
    rng = scene.rng
    for _ in range(int(rng.integers(1, 7))):
        hanging, level = (picture, rng.uniform(1.2, 1.8)) if rng.random() < 0.75 else (curtain, 0)
        thing = hanging(rng)
        low, high = thing.bounds()
        wall = int(rng.integers(4))
        wide = size[wall % 2]
        along = rng.uniform(0.15, 0.85) * wide
        if level + high[2] > size[2] or not -low[0] < along < wide - high[0]:
            continue
        # Each wall from its left end, seen from inside; the things face -y.
        corner = [(0, size[1]), (size[0], size[1]), (size[0], 0), (0, 0)][wall]
        pose = placed(*corner, 0, -wall * np.pi / 2) @ placed(along, -0.03 - high[1], level)
        scene.add(hanging.__name__, thing.moved(pose))


def _hang_from_ceiling(scene: SceneBuilder, size: Array, *, lit: bool) -> None:
    """Lamps and wires."""
    rng = scene.rng
    for _ in range(int(rng.integers(0, 3))):
        across, along = rng.uniform(0.2, 0.8, 2) * size[:2]
        thing = pendant(rng).moved(placed(across, along, size[2]))
        scene.add("pendant", thing, glow=float(rng.uniform(20, 80)) * lit)
    for _ in range(int(rng.integers(0, 4))):
        start, end = rng.uniform(0.05, 0.95, (2, 3)) * size
        start[2], end[2] = rng.uniform(1.2, size[2], 2)
        start[rng.integers(2)] = 0.01  # from a wall
        scene.add("wire", wire(rng, start, end))


def _stands(rng: Rng, size: Array, taken: Sequence[Array]) -> tuple[Array, Array]:
    """Eyes that are in no thing, and targets on things or beside them, (n, 3) each."""
    low, high = np.array([0.25, 0.25, 0.5]), np.array([*(size[:2] - 0.25), 1.9])
    eyes = rng.uniform(low, high, (8 * CANDIDATES, 3))
    inside = np.zeros(len(eyes), bool)
    for bounds in taken:
        inside |= ((eyes > bounds[0] - 0.2) & (eyes < bounds[1] + 0.2)).all(axis=1)
    eyes = np.concatenate([eyes[~inside], eyes[inside]])[:CANDIDATES]
    middles = np.array([bounds.mean(axis=0) for bounds in taken] or [size / 2])
    targets = middles[rng.integers(len(middles), size=CANDIDATES)]
    return eyes, targets + rng.normal(0, [0.4, 0.4, 0.25], targets.shape)
