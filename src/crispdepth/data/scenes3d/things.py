"""What furniture and small things have in common."""

from typing import NamedTuple

import numpy as np

from crispdepth.data.scenes3d.shapes import Array, Mesh
from crispdepth.data.scenes3d.textures import Finish, Surface

Rng = np.random.Generator


class Place(NamedTuple):
    """A level rectangle on which small things can stand, metres."""

    low: tuple[float, float]  # x, y
    high: tuple[float, float]
    z: float
    headroom: float


class Thing(NamedTuple):
    """Parts with the surface they bring, or a finish; those of one finish look alike."""

    parts: tuple[tuple[Mesh, Finish | Surface], ...]
    places: tuple[Place, ...] = ()

    def moved(self, matrix: Array) -> "Thing":
        """The thing under a 4x4 transform. Its places stay in its own frame."""
        return self._replace(parts=tuple((mesh.moved(matrix), kind) for mesh, kind in self.parts))

    def bounds(self) -> Array:
        """(2, 3): the least and the greatest x, y, z of its vertices."""
        points = np.concatenate([mesh.vertices for mesh, _ in self.parts])
        return np.stack([points.min(axis=0), points.max(axis=0)])
