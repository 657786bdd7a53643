"""Silhouettes of triangle meshes, without a renderer."""

from collections.abc import Iterable
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.data.strokes import Mask, Points, Rng, draw

SUPERSAMPLING = 2
COVERED = 0.94
"""Share of the square's side that a silhouette spans."""

POINT = 1.0
"""Triangles no larger than this, in pixels of the drawing, are drawn as points."""


class TriangleMesh(Protocol):
    """What is needed of a mesh; a `trimesh.Trimesh` has it."""

    @property
    def vertices(self) -> NDArray[Any]:
        """(n, 3), y up as in glTF."""
        ...

    @property
    def faces(self) -> NDArray[Any]:
        """(m, 3) indices of vertices."""
        ...


def silhouettes(meshes: Iterable[TriangleMesh], views: int, size: int, rng: Rng) -> list[Mask]:
    """Every mesh from ``views`` random sides, (size, size) of 0 and 1 each.

    Raises:
        ValueError: a mesh has no face.
    """
    return [silhouette(mesh, random_view(rng), size) for mesh in meshes for _ in range(views)]


def random_view(rng: Rng) -> Points:
    """A rotation (3, 3) to camera axes: any azimuth, -10 to 60 degrees from above, little roll."""
    azimuth, roll = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.15)
    elevation = rng.uniform(-np.pi / 18, np.pi / 3)
    turn = _about(1, azimuth)
    flipped = np.diag([1.0, -1.0, -1.0])  # y up, looking along -z, to OpenCV axes
    view: Points = flipped @ _about(2, roll) @ _about(0, elevation) @ turn
    return view


def silhouette(mesh: TriangleMesh, rotation: Points, size: int) -> Mask:
    """A mesh in perspective, in the middle of (size, size) and nearly filling it, of 0 and 1.

    Args:
        mesh: closed or not; both sides of a face count.
        rotation: (3, 3) to camera axes.
        size: side of the square, pixels.

    Raises:
        ValueError: the mesh has no face, or its faces no extent.
    """
    triangles = np.asarray(mesh.vertices, np.float64)[np.asarray(mesh.faces)] @ rotation.T
    if not len(triangles) or not np.ptp(triangles, axis=(0, 1)).any():
        raise ValueError("The mesh has no face of any extent, so it has no silhouette.")
    triangles -= (triangles.min((0, 1)) + triangles.max((0, 1))) / 2
    distance = 3 * np.linalg.norm(triangles, axis=2).max()
    xy = triangles[..., :2] / (triangles[..., 2:] + distance)
    drawn = size * SUPERSAMPLING
    xy *= COVERED * drawn / np.ptp(xy, axis=(0, 1)).max()
    xy += (drawn - xy.min((0, 1)) - xy.max((0, 1))) / 2
    mask: Mask = np.zeros((drawn, drawn), np.uint8)
    large = np.ptp(xy, axis=1).max(1) > POINT
    dots = np.concatenate([xy[~large].reshape(-1, 2), xy[~large].mean(1)])
    columns, rows = dots.astype(np.intp).T
    mask[rows, columns] = 1
    draw(mask, xy[large])
    closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    share = cv2.resize(closed * np.uint8(255), (size, size), interpolation=cv2.INTER_AREA)
    return (np.asarray(share) >= 128).astype(np.uint8)


def _about(axis: int, angle: float) -> Points:
    """The rotation (3, 3) about a coordinate axis."""
    i, j = (axis + 1) % 3, (axis + 2) % 3
    rotation = np.eye(3)
    rotation[[i, i, j, j], [i, j, i, j]] = (
        np.cos(angle),
        -np.sin(angle),
        np.sin(angle),
        np.cos(angle),
    )
    return rotation
