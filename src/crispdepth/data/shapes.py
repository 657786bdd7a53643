"""Silhouettes of things that rough depth gets wrong: fences, nets, leaves, wires, hair, sky lines.

Each function returns a mask (size, size) of 0 and 1, decided by ``rng`` alone. Coordinates are
shares of the frame, x right, y down.
"""

import cv2
import numpy as np

from crispdepth.data.strokes import Mask, Points, Rng, capsules, draw, draw_lines, wobble


def fence(rng: Rng, size: int) -> Mask:
    """Upright bars or pickets on rails, seen at an angle."""
    bars = int(rng.integers(4, 16))
    width = rng.uniform(0.08, 0.5) / bars
    x = (np.arange(bars) + 0.5) / bars * 1.6 - 0.3
    top, bottom = rng.uniform(-0.3, 0.4), rng.uniform(0.75, 1.5)
    tops = top + rng.normal(0, rng.choice((0, 0.02)), bars)
    rails = rng.uniform(max(top, 0) + 0.03, min(bottom, 1) - 0.1, int(rng.integers(1, 4)))
    upright = np.stack([x, tops, x, np.full(bars, bottom)], axis=1)
    level = np.stack([np.full_like(rails, -0.5), rails, np.full_like(rails, 1.5), rails], axis=1)
    mask: Mask = np.zeros((size, size), np.uint8)
    _strokes(mask, np.concatenate([upright, level]), width, _view(rng))
    return mask


def furniture(rng: Rng, size: int) -> Mask:
    """A chair, table, stool or ladder: thin legs, rungs and slats, and a board."""
    width, height = rng.uniform(0.3, 0.6), rng.uniform(0.3, 0.55)
    left, top = rng.uniform(0.05, 0.9 - width), rng.uniform(0.1, 0.8 - height)
    right, depth = left + width, rng.uniform(0.04, 0.15)
    corners = np.array([(left, top), (right, top), (right - depth, top - depth / 2)])
    corners = np.concatenate([corners, [(left + depth, top - depth / 2)]])
    drop = np.array([(0, height)] * 2 + [(0, height * 0.85)] * 2)
    strokes = [np.concatenate([corners, corners + drop], axis=1)]
    for share in rng.uniform(0.2, 0.9, int(rng.integers(0, 4))):  # rungs
        y = top + share * height
        strokes.append(np.array([(left, y, right, y)]))
    if rng.integers(2):  # a back with slats
        back = rng.uniform(0.2, 0.45)
        x = np.linspace(left + depth, right - depth, int(rng.integers(2, 8)))
        base = np.full_like(x, top - depth / 2)
        strokes.append(np.stack([x, base, x, base - back], axis=1))
        strokes.append(np.array([(x[0], base[0] - back, x[-1], base[0] - back)]))
    mask: Mask = np.zeros((size, size), np.uint8)
    view = _view(rng)
    _strokes(mask, np.concatenate(strokes), rng.uniform(0.008, 0.04), view)
    draw(mask, [_seen(corners, view) * size])
    return mask


def net(rng: Rng, size: int) -> Mask:
    """Crossing threads, sagging and turned, sometimes only within a rim: nets, racks, baskets."""
    count = int(rng.integers(4, 14))
    t = np.linspace(-0.3, 1.3, 24)
    sag = rng.uniform(-0.12, 0.12, 2)
    lines = []
    for at in np.linspace(-0.2, 1.2, count):
        bend = sag[0] * np.sin(np.pi * t) * (at + 0.3)
        lines.append(np.stack([t, at + bend], axis=1))
        lines.append(np.stack([at + sag[1] * np.sin(np.pi * t), t], axis=1))
    view = _view(rng, turn=np.pi / 4 if rng.integers(2) else 0.0)
    thickness = max(1, round(size * rng.uniform(0.003, 0.02)))
    mask: Mask = np.zeros((size, size), np.uint8)
    draw_lines(mask, (_seen(line, view) * size for line in lines), thickness)
    if rng.integers(2):
        inside = blob(rng, size)
        square = np.ones((thickness + 2, thickness + 2), np.uint8)
        mask = (mask & inside) | np.asarray(
            cv2.morphologyEx(inside, cv2.MORPH_GRADIENT, square), np.uint8
        )
    return mask


def blob(rng: Rng, size: int) -> Mask:
    """A smooth irregular thing."""
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    waves = np.arange(1, 7)
    heights = rng.normal(0, 0.25, 6) / waves
    phase = angle[:, None] * waves + rng.uniform(0, 2 * np.pi, 6)
    radius = rng.uniform(0.1, 0.4) * np.exp((heights * np.cos(phase)).sum(1))
    outline = np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius[:, None]
    outline *= (1, rng.uniform(0.5, 1.6))
    outline += rng.uniform(0.3, 0.7, 2)
    mask: Mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [np.rint(outline * size).astype(np.int32)], 1)
    return mask


def rings(rng: Rng, size: int) -> Mask:
    """Handles, rings and wheels: thin closed curves, some with spokes, on or off a body."""
    mask = blob(rng, size) if rng.integers(2) else np.zeros((size, size), np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        centre, radius = rng.uniform(0.2, 0.8, 2), rng.uniform(0.06, 0.3)
        axes = radius * np.array((1, rng.uniform(0.35, 1)))
        angle = np.linspace(0, 2 * np.pi, 49)
        turned = _rotation(rng.uniform(0, np.pi))
        rim = np.stack([np.cos(angle), np.sin(angle)], axis=1) * axes @ turned.T + centre
        lines = [rim]
        if rng.random() < 0.4:
            lines += [np.stack([centre, rim[i]]) for i in range(0, 48, int(rng.integers(3, 13)))]
        thickness = max(1, round(size * radius * rng.uniform(0.03, 0.25)))
        draw_lines(mask, (line * size for line in lines), thickness)
    return mask


def wires(rng: Rng, size: int) -> Mask:
    """Poles, lamps, and cables that hang between them."""
    count = int(rng.integers(1, 5))
    x = np.sort(rng.uniform(0.05, 0.95, count))
    top = rng.uniform(0.02, 0.4, count)
    lean = rng.normal(0, 0.04, count)
    mask: Mask = np.zeros((size, size), np.uint8)
    poles = np.stack([x, top, x + lean, np.full(count, rng.uniform(0.8, 1.3))], axis=1)
    _strokes(mask, poles, rng.uniform(0.006, 0.05), _view(rng, strength=0.05))
    t = np.linspace(0, 1, 24)
    ends = np.concatenate([[-0.2], x, [1.2]])
    heights = np.concatenate([[rng.uniform(0, 0.5)], top, [rng.uniform(0, 0.5)]])
    cables = [
        np.stack([a + (b - a) * t, y0 + (y1 - y0) * t + drop * t * (1 - t)], axis=1)
        for a, b, y0, y1 in zip(ends, ends[1:], heights, heights[1:], strict=False)
        for drop in rng.uniform(0, 1, int(rng.integers(0, 3)))
    ]
    draw_lines(mask, (line * size for line in cables), max(1, round(size * 0.006)))
    if rng.integers(2):  # shades or signs at the tops
        half = rng.uniform(0.03, 0.1)
        draw(mask, (_box(a, b, half) * size for a, b in zip(x, top, strict=True)))
    return mask


def foliage(rng: Rng, size: int) -> Mask:
    """A plant or a branch: bent stems with leaves along them."""
    stems, per_stem = int(rng.integers(2, 9)), int(rng.integers(5, 22))
    root = np.array([rng.uniform(0.2, 0.8), rng.uniform(0.8, 1.1)])
    heading = rng.uniform(-1.2, 1.2, stems)
    reach = rng.uniform(0.4, 0.95, stems)[:, None]
    tip = root + reach * np.stack([np.sin(heading), -np.cos(heading)], axis=1)
    knee = root + (tip - root) * 0.5 + rng.normal(0, 0.12, (stems, 2)) + (0, -0.08)
    t = np.linspace(0, 1, per_stem)[None, :, None]
    curves = (1 - t) ** 2 * root + 2 * t * (1 - t) * knee[:, None] + t**2 * tip[:, None]
    mask: Mask = np.zeros((size, size), np.uint8)
    draw_lines(mask, curves * size, max(1, round(size * rng.uniform(0.003, 0.015))))
    length, width = rng.uniform(0.04, 0.2), rng.uniform(0.15, 0.5)
    origin = curves[:, 1:].reshape(-1, 2)
    angle = rng.uniform(0, 2 * np.pi, len(origin))
    draw(mask, _leaves(origin, angle, length * rng.uniform(0.5, 1.2, len(origin)), width) * size)
    if rng.random() < 0.3:  # a pot
        draw(mask, [_box(root[0], root[1], rng.uniform(0.06, 0.15)) * size])
    return _turned(mask, rng)


def hair(rng: Rng, size: int) -> Mask:
    """A furry or hairy thing: thin strands over the outline of a body."""
    body = blob(rng, size)
    contours, _ = cv2.findContours(body, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(contours, key=len)[:, 0].astype(np.float64)
    roots = outline[rng.integers(0, len(outline), int(rng.integers(40, 200)))]
    away = roots - outline.mean(0)
    away /= np.hypot(away[:, :1], away[:, 1:]) + 1e-9
    drawn = away + rng.normal(0, 0.4, roots.shape) + rng.normal(0, 0.5, 2)
    bent = drawn + rng.normal(0, 0.5, roots.shape) + (0, 0.5)
    length = size * rng.uniform(0.02, 0.15) * rng.uniform(0.5, 1, (len(roots), 1, 1))
    t = np.linspace(0, 1, 8)[None, :, None]
    strands = roots[:, None] + length * (t * drawn[:, None] + t**2 * (bent - drawn)[:, None])
    draw_lines(body, strands, max(1, round(size / 300)))
    return body


def sky(rng: Rng, size: int) -> Mask:
    """The sky over hills, roofs, trees and poles: what is above the sky line."""
    ground = np.zeros((size, size), np.uint8)
    x = np.arange(size) / size
    waves = 2.0 ** np.arange(6)
    phase = x[:, None] * waves * rng.uniform(3, 9) + rng.uniform(0, 2 * np.pi, 6)
    ridge = rng.uniform(0.25, 0.85) + (np.sin(phase) * rng.uniform(0.02, 0.12) / waves).sum(1)
    ground[np.arange(size)[:, None] > ridge * size] = 1
    for _ in range(int(rng.integers(0, 5))):
        _house(ground, rng, ridge)
    for _ in range(int(rng.integers(0, 6))):
        _tree(ground, rng, ridge)
    if rng.random() < 0.3:
        ground |= wires(rng, size)
    if rng.random() < 0.25:  # seen through leaves
        ground |= foliage(rng, size)
    return wobble(1 - ground, rng, 0.004 * size, 0.05 * size) if rng.integers(2) else 1 - ground


THINGS = (fence, furniture, net, blob, rings, wires, foliage, hair)


def _house(ground: Mask, rng: Rng, ridge: Points) -> None:
    """Walls and a flat or gabled roof, with a chimney."""
    size = len(ground)
    half, x = rng.uniform(0.04, 0.2), rng.uniform(0, 1)
    base = ridge[min(int(x * size), size - 1)]
    eaves = base - rng.uniform(0.02, 0.3)
    gable = eaves - half * rng.choice((0.0, rng.uniform(0.4, 1.2)))
    wall = [(x - half, base + 0.1), (x - half, eaves), (x, gable), (x + half, eaves)]
    chimney = _box(x + half * rng.uniform(-0.6, 0.6), gable, 0.015)
    draw(ground, [np.array([*wall, (x + half, base + 0.1)]) * size, chimney * size])


def _tree(ground: Mask, rng: Rng, ridge: Points) -> None:
    """A crown of many small leaves, dense inside and torn at the border, on a trunk."""
    size = len(ground)
    x, height = rng.uniform(0, 1), rng.uniform(0.08, 0.4)
    base = ridge[min(int(x * size), size - 1)] + 0.02
    trunk = np.array([(x, base, x + rng.normal(0, 0.02), base - height)])
    _strokes(ground, trunk, 0.05 * height, np.eye(3))
    count = int(rng.integers(30, 90))
    spread = np.array((rng.uniform(0.1, 0.3), rng.uniform(0.2, 0.35))) * height
    origin = np.array((x, base - 0.65 * height)) + rng.normal(0, 1, (count, 2)) * spread
    length = height * rng.uniform(0.06, 0.2, count)
    draw(ground, _leaves(origin, rng.uniform(0, 6.3, count), length, 0.7) * size)


def _leaves(origin: Points, angle: Points, length: Points, width: float) -> Points:
    """Pointed convex outlines (n, 12, 2) from their stalks; ``width`` is a share of the length."""
    t = np.linspace(0, 1, 7)
    side = width / 2 * np.sin(np.pi * t)
    outline = np.concatenate([np.stack([t, side], 1), np.stack([t, -side], 1)[-2:0:-1]])
    turn = np.stack([np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)], 1)
    leaves: Points = origin[:, None] + length[:, None, None] * (outline @ turn.reshape(-1, 2, 2))
    return leaves


def _box(x: float, y: float, half: float) -> Points:
    """A slightly tapered box (4, 2) about a point."""
    across = np.array([-half, half, 0.7 * half, -0.7 * half])
    return np.stack([x + across, y + half * np.array([-1, -1, 1, 1])], axis=1)


def _strokes(mask: Mask, strokes: Points, width: float, view: Points) -> None:
    """Straight strokes (n, 4) x0, y0, x1, y1, seen through a homography."""
    size = len(mask)
    ends = _seen(strokes.reshape(-1, 2), view).reshape(-1, 2, 2) * size
    radii = np.full((len(strokes), 2), max(width * size / 2, 0.6))
    draw(mask, capsules(ends, radii, 4))


def _view(rng: Rng, strength: float = 0.15, turn: float = 0.0) -> Points:
    """A random homography (3, 3) of the unit square: the same thing from somewhere else."""
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    moved = (corners - 0.5) @ _rotation(turn + rng.normal(0, 0.1)).T + 0.5
    moved += rng.uniform(-strength, strength, (4, 2))
    return np.asarray(
        cv2.getPerspectiveTransform(corners.astype(np.float32), moved.astype(np.float32))
    )


def _seen(points: Points, view: Points) -> Points:
    """Points (n, 2) through a homography."""
    return np.asarray(cv2.perspectiveTransform(points[:, None], view), np.float64)[:, 0]


def _rotation(angle: float) -> Points:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _turned(mask: Mask, rng: Rng) -> Mask:
    """The mask as it is, or with another of its sides up."""
    turns = int(rng.choice((0, 0, 0, 1, 2, 3)))
    return np.ascontiguousarray(np.rot90(mask, turns))
