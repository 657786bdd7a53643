"""Random surroundings: a sky with clouds and sun over a ground, or an environment map."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Panorama = NDArray[np.float32]
"""(h, 2 h, 3) linear radiance all around; the middle row is the horizon, the first is above."""

HEIGHT = 64  # pixels, of a painted sky


def draw_sky(rng: np.random.Generator, panoramas: Sequence[Panorama] = ()) -> Panorama:
    """A panorama of mean radiance 1, turned by a random angle.

    Four times out of five it is one of ``panoramas``, if there are any.
    """
    if panoramas and rng.random() < 0.8:
        sky = panoramas[int(rng.integers(len(panoramas)))]
    else:
        sky = _paint(rng)
    sky = np.roll(sky, int(rng.integers(sky.shape[1])), axis=1)
    return np.ascontiguousarray(sky / max(float(sky.mean()), 1e-6), np.float32)


def _paint(rng: np.random.Generator) -> Panorama:
    size = (2 * HEIGHT, HEIGHT)
    up = np.linspace(1, -1, HEIGHT)[:, None, None]
    zenith, horizon, ground = rng.uniform([0.1, 0.2, 0.4], [0.9, 1.0, 1.2], (3, 3)) * rng.uniform(
        [[0.3], [0.6], [0.1]], [[1.0], [1.5], [0.6]]
    )
    sky = np.where(up > 0, horizon + (zenith - horizon) * np.sqrt(np.abs(up)), ground)
    sky = np.broadcast_to(sky, (HEIGHT, 2 * HEIGHT, 3)).astype(np.float32)
    clouds = np.zeros((HEIGHT, 2 * HEIGHT), np.float32)
    for count in (3, 6, 12, 24):
        cells = rng.random((count, 2 * count), np.float32)
        clouds += cv2.resize(cells, size, interpolation=cv2.INTER_CUBIC) / 2
    sky = sky * (1 + rng.uniform(0, 0.8) * (clouds[..., None] - 1))
    if rng.random() < 0.7:  # the sun, or a bright window: 15 degrees wide at most
        y, x = np.mgrid[:HEIGHT, : 2 * HEIGHT]
        row, column = rng.uniform(0.1, 0.45) * HEIGHT, rng.uniform(0.2, 1.8) * HEIGHT
        near = np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * rng.uniform(1, 3) ** 2))
        sky = sky + near[..., None] * rng.uniform(5, 80) * np.array([1, 0.9, 0.75])
    painted: Panorama = np.maximum(sky, 0.01).astype(np.float32)
    return painted
