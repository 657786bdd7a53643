"""A wall and a ball before it, painted in space, seen by cameras in a row; the truth is exact."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from crispdepth.types import Camera, DepthMap, MaskRole, MaskSet, View

SIZE = (60, 80)
WALL, BALL, RADIUS = 4.0, np.array([0.0, 0.0, 2.6]), 0.6
FULL = np.array([[75.0, 0, 40], [0, 75, 30], [0, 0, 1]])


def camera(x: float, K: NDArray[np.float64] = FULL, scale: float = 1.0) -> Camera:
    pose = np.eye(4)
    pose[0, 3] = -x * scale
    return Camera(K, SIZE, pose)


def paint(points: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A colour for every point of space, in waves of a tenth of a metre and more."""
    rng = np.random.default_rng(3)
    waves = rng.normal(size=(24, 3)) * 14
    grey = 0.5 + np.sin(points @ waves.T + rng.uniform(0, 6, 24)).sum(axis=-1) / 24
    return np.repeat((255 * grey.clip(0, 1)).astype(np.uint8)[..., None], 3, axis=-1)


def see(seen_by: Camera, name: str, scale: float = 1.0) -> View:
    """The photo with its true depth; the world ``scale`` times as large."""
    rows, columns = seen_by.size
    y, x = np.mgrid[:rows, :columns] + 0.5
    rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ np.linalg.inv(seen_by.K).T
    centre = -seen_by.cam_from_world[:3, 3] / scale
    to_ball = centre - BALL
    a, b = (rays**2).sum(axis=-1), rays @ to_ball
    inner = b**2 - a * (to_ball @ to_ball - RADIUS**2)
    hits = inner > 0
    depth = np.where(hits, (-b - np.sqrt(np.maximum(inner, 0))) / a, WALL)
    image = paint(centre + rays * depth[..., None])
    return View(image, name, seen_by, DepthMap((depth * scale).astype(np.float32), "depth", "m"))


def row(count: int = 5, scale: float = 1.0) -> list[View]:
    places = (np.arange(count) - count // 2) * 0.16
    return [see(camera(x, scale=scale), f"{i}.png", scale) for i, x in enumerate(places)]


def on_ball(view: View) -> NDArray[np.bool_]:
    assert view.depth is not None
    return view.depth.values < WALL * 0.95


def masked(views: Sequence[View], role: MaskRole = "object") -> list[View]:
    return [
        replace(view, masks=MaskSet((on_ball(view) == (role == "object"))[None], role=role))
        for view in views
    ]
