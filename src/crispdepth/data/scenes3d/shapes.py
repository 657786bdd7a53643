"""The four shapes that everything is made of: boxes, lathes, tubes and sheets.

Right-handed axes, z up, metres. A vertex that two faces share is shaded smoothly; at a sharp edge
every face has its own. Texture coordinates are those of a picture: (0, 0) is its top-left corner,
v points down, and every shape stays inside [0, 1].
"""

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


class Mesh(NamedTuple):
    """Triangles with texture coordinates."""

    vertices: Array  # (n, 3), metres
    faces: NDArray[np.int64]  # (m, 3), counter-clockwise seen from outside
    uv: Array  # (n, 2) in [0, 1]

    def moved(self, matrix: Array) -> "Mesh":
        """The mesh under a 4x4 transform."""
        return self._replace(vertices=self.vertices @ matrix[:3, :3].T + matrix[:3, 3])

    def at(self, x: float, y: float, z: float) -> "Mesh":
        """The mesh shifted by so many metres."""
        return self._replace(vertices=self.vertices + np.array([x, y, z]))


def merge(meshes: Iterable[Mesh]) -> Mesh:
    """All triangles in one mesh, in the order given."""
    parts = [Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int64), np.zeros((0, 2))), *meshes]
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    faces = [part.faces + start for part, start in zip(parts, starts[:-1], strict=True)]
    vertices, uv = ([part[field] for part in parts] for field in (0, 2))
    return Mesh(np.concatenate(vertices), np.concatenate(faces), np.concatenate(uv))


def rotation(axis: ArrayLike, angle: float) -> Array:
    """The 4x4 rotation by ``angle`` radians about ``axis`` (Rodrigues)."""
    x, y, z = np.asarray(axis, float) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    matrix = np.eye(4)
    matrix[:3, :3] += np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return matrix


def placed(x: float, y: float, z: float = 0.0, yaw: float = 0.0) -> Array:
    """The 4x4 transform that turns by ``yaw`` radians about z, then shifts."""
    matrix = rotation((0, 0, 1), yaw)
    matrix[:3, 3] = x, y, z
    return matrix


def box(x: float, y: float, z: float) -> Mesh:
    """A box that stands on the origin, centred in x and y; one texture scale on all faces."""
    size = np.array([x, y, z])
    corners, uv = np.zeros((6, 4, 3)), np.zeros((6, 4, 2))
    for face in range(6):
        axis, side = divmod(face, 2)
        across, up = (axis + 1) % 3, (axis + 2) % 3
        order = [0, 1, 3, 2] if side else [0, 2, 3, 1]
        corners[face, :, axis] = side
        corners[face, :, across] = np.array([0, 1, 0, 1])[order]
        corners[face, :, up] = np.array([0, 0, 1, 1])[order]
        wide, high = (up, across) if axis == 1 else (across, up)  # pictures stand upright
        uv[face, :, 0] = corners[face, :, wide] * size[wide] / size.max()
        uv[face, :, 1] = (1 - corners[face, :, high]) * size[high] / size.max()
    faces = 4 * np.arange(6)[:, None, None] + np.array([(0, 1, 2), (0, 2, 3)])
    vertices = (corners * size - [x / 2, y / 2, 0]).reshape(-1, 3)
    return Mesh(vertices, faces.reshape(-1, 3), uv.reshape(-1, 2))


def sheet(points: Array) -> Mesh:
    """A smooth surface through a (rows, columns, 3) grid, with the whole texture on it."""
    rows, columns = points.shape[:2]
    v, u = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (
        index[i : rows - 1 + i, j : columns - 1 + j].ravel() for i in (0, 1) for j in (0, 1)
    )
    faces = np.concatenate([np.stack([a, c, b], axis=1), np.stack([b, c, d], axis=1)])
    return Mesh(
        points.reshape(-1, 3).astype(float), faces, np.stack([u, v], axis=-1).reshape(-1, 2)
    )


def quad(corners: ArrayLike) -> Mesh:
    """A flat patch through its top-left, top-right, bottom-left and bottom-right corner.

    The texture keeps its aspect ratio.
    """
    points = np.asarray(corners, float).reshape(2, 2, 3)
    mesh = sheet(points)
    extent = np.linalg.norm([points[0, 1] - points[0, 0], points[1, 0] - points[0, 0]], axis=1)
    return mesh._replace(uv=mesh.uv * (extent / extent.max()))


def lathe(profile: ArrayLike, sections: int = 14, *, smooth: bool = False) -> Mesh:
    """A profile turned about z; the texture is wound around it, and lies flat on level parts.

    Args:
        profile: (k, 2) radius and height, metres, along the outside from the bottom to the top.
        sections: corners of the circle.
        smooth: whether the profile is a curve; otherwise its corners are sharp.
    """
    line = np.asarray(profile, float)
    length = np.r_[0, np.cumsum(np.hypot(*np.diff(line, axis=0).T))]
    cuts = (
        [np.arange(len(line))] if smooth else [np.array([k, k + 1]) for k in range(len(line) - 1)]
    )
    angle = np.linspace(0, 2 * np.pi, sections + 1)
    around = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=-1)
    meshes = []
    for cut in cuts:
        grid = line[cut, 0, None, None] * around
        grid[..., 2] = line[cut, 1, None]
        # The rows of a sheet face to the back when they go upwards.
        mesh = sheet(grid[::-1])
        v = 1 - length[cut[::-1]] / max(length[-1], 1e-9)
        mesh.uv[:, 1] = np.repeat(v, sections + 1)
        if np.ptp(line[cut, 1]) == 0:
            mesh.uv[:] = 0.5 + mesh.vertices[:, :2] / (2 * line[:, 0].max())
        meshes.append(mesh)
    return merge(meshes)


def cylinder(radius: float, height: float, sections: int = 14) -> Mesh:
    """A closed cylinder that stands on the origin."""
    return lathe([(0, 0), (radius, 0), (radius, height), (0, height)], sections)


def ball(radius: float, sections: int = 14) -> Mesh:
    """A sphere about the origin."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, sections // 2 + 1)
    profile = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return lathe(profile, sections, smooth=True)


def rod(start: ArrayLike, end: ArrayLike, radius: float, tip: float | None = None) -> Mesh:
    """A straight closed stick whose radius goes from ``radius`` to ``tip`` (the same)."""
    origin = np.asarray(start, float)
    along = np.asarray(end, float) - origin
    side, up = _frames(along[None])
    stick = _unit_stick()
    x, y, z = stick.vertices.T
    wide = radius + ((radius if tip is None else tip) - radius) * z
    axes = np.stack([side[0], up[0], along])
    return stick._replace(vertices=np.stack([x * wide, y * wide, z], axis=1) @ axes + origin)


@cache
def _unit_stick() -> Mesh:
    return cylinder(1, 1, 7)


def tube(path: ArrayLike, radius: float, *, closed: bool = False, sections: int = 6) -> Mesh:
    """A round wire along (k, 3) points; ``closed`` joins the last to the first."""
    centre = np.asarray(path, float)
    if closed:
        centre = np.concatenate([centre, centre[:1]])
    tangent = np.gradient(centre, axis=0)
    if closed:
        tangent[0] = tangent[-1] = centre[1] - centre[-2]
    side, up = _frames(tangent)
    angle = np.linspace(2 * np.pi, 0, sections + 1)[:, None]  # seen from outside it goes right
    around = np.cos(angle) * side[:, None] + np.sin(angle) * up[:, None]
    mesh = sheet(centre[:, None] + radius * around)
    return mesh._replace(uv=mesh.uv[:, ::-1] * [1.0, 0.1])  # the texture runs along the wire


def ring(radius: float, thickness: float, sections: int = 24) -> Mesh:
    """A torus about z; ``thickness`` is the radius of the wire."""
    angle = np.linspace(0, 2 * np.pi, sections, endpoint=False)
    path = radius * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    return tube(path, thickness, closed=True)


def bezier(control: Sequence[ArrayLike], samples: int = 10) -> Array:
    """(samples, 3) points of the Bezier curve with these control points (de Casteljau)."""
    t = np.linspace(0, 1, samples)[:, None]
    points = [np.broadcast_to(np.asarray(point, float), (samples, 3)) for point in control]
    while len(points) > 1:
        points = [(1 - t) * a + t * b for a, b in pairwise(points)]
    return points[0]


def _frames(tangent: Array) -> tuple[Array, Array]:
    """Unit vectors across each tangent (k, 3) that make a right-handed frame with it.

    They are taken from the direction to which the tangents, together, are most perpendicular:
    the normal of a plane curve, so that its tube is not twisted.
    """
    reference = np.linalg.eigh(tangent.T @ tangent)[1][:, 0]
    side = np.cross(reference, tangent)
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-12)
    up = np.cross(tangent, side)
    return side, up / np.maximum(np.linalg.norm(up, axis=1, keepdims=True), 1e-12)
