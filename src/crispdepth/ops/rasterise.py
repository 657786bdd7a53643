"""Meshes as cameras see them, exactly at pixel centres and without a display.

The faces that a pixel's ray meets are found in homogeneous coordinates (Olano and Greer, 1997):
with corners a, b, c in the camera's frame the ray d meets the face where (b x c) . d, (c x a) . d
and (a x b) . d have one sign, and these are its barycentric coordinates but for their sum. Faces
that reach behind the camera hence need no clipping, and depth is exact.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crispdepth.types import Camera, Float32Map, Mesh

_PAIRS = 1 << 19  # pixels of boxes of faces at once: keeps what a step makes in the cache


class Raster(NamedTuple):
    """What each pixel's centre shows."""

    depth: Float32Map  # (h, w) z-depth in the unit of the mesh, 0 = nothing
    faces: NDArray[np.int32]  # (h, w) number of the face, -1 = nothing


def rasterise(mesh: Mesh, camera: Camera, *, cull: bool = False) -> Raster:
    """The nearest face at each pixel's centre.

    Args:
        mesh: of any number of faces.
        camera: in the world of the mesh.
        cull: leave out faces that are seen from behind (clockwise).
    """
    height, width = camera.size
    pose = camera.cam_from_world
    vertices = mesh.vertices.astype(np.float64) @ pose[:3, :3].T + pose[:3, 3]
    box, faces = _boxes(vertices, mesh.faces, camera)
    corners = vertices[mesh.faces[faces]]
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    sides = np.stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)], axis=1)
    volume = np.einsum("ij,ij->i", a, sides[:, 0])
    # Counter-clockwise from outside: the normal points at the camera, so a . (b x c) < 0.
    visible = (volume < 0) if cull else (volume != 0)
    box, faces, volume = box[visible], faces[visible], volume[visible]
    # Over the volume, the three are the shares of the corners times 1 / z: affine in the pixel.
    affine = (sides[visible] / volume[:, None, None]) @ np.linalg.inv(camera.K)
    nearest = np.zeros(height * width, np.int64)  # bits of 1 / z as float32, then the face
    for face, x, y in _pixels(box):
        share = [
            affine[face, k, 0] * (x + 0.5) + (affine[face, k, 1] * (y + 0.5) + affine[face, k, 2])
            for k in range(3)
        ]
        hit = np.nonzero((share[0] >= 0) & (share[1] >= 0) & (share[2] >= 0))[0]
        inverse = (share[0][hit] + share[1][hit] + share[2][hit]).astype(np.float32)
        order = (inverse.view(np.int32).astype(np.int64) << 32) | (face[hit] + 1)
        np.maximum.at(nearest, y[hit] * width + x[hit], order)
    return _resolve(nearest, affine, faces, camera)


def _resolve(
    nearest: NDArray[np.int64],
    affine: NDArray[np.float64],
    faces: NDArray[np.intp],
    camera: Camera,
) -> Raster:
    """Depth once more for the winners, now in double precision."""
    height, width = camera.size
    seen = np.nonzero(nearest)[0]
    row = (nearest[seen] & 0xFFFFFFFF) - 1
    y, x = np.divmod(seen, width)
    plane = affine.sum(axis=1)[row]
    depth = np.zeros(height * width, np.float32)
    depth[seen] = 1 / (plane[:, 0] * (x + 0.5) + plane[:, 1] * (y + 0.5) + plane[:, 2])
    number = np.full(height * width, -1, np.int32)
    number[seen] = faces[row]
    return Raster(depth.reshape(height, width), number.reshape(height, width))


def interpolate(
    mesh: Mesh, raster: Raster, camera: Camera, values: NDArray[np.generic]
) -> NDArray[np.float32]:
    """Values of the vertices (n, k) at what each pixel shows, (h, w, k); 0 where nothing is."""
    result = np.zeros((*camera.size, values.shape[1]), np.float32)
    y, x = np.nonzero(raster.faces >= 0)
    pose = camera.cam_from_world
    corners = mesh.vertices.astype(np.float64)[mesh.faces[raster.faces[y, x]]]
    a, b, c = np.moveaxis(corners @ pose[:3, :3].T + pose[:3, 3], 1, 0)
    ray = np.stack([x + 0.5, y + 0.5, np.ones(len(x))], axis=1) @ np.linalg.inv(camera.K).T
    sides = (np.cross(b, c), np.cross(c, a), np.cross(a, b))
    share = np.stack([np.einsum("ij,ij->i", side, ray) for side in sides], axis=1)
    share /= share.sum(axis=1, keepdims=True)
    at = values[mesh.faces[raster.faces[y, x]]].astype(np.float64)
    result[y, x] = (at * share[:, :, None]).sum(axis=1)
    return result


def shade(
    mesh: Mesh,
    camera: Camera,
    *,
    coloured: bool = True,
    background: tuple[float, float, float] = (1, 1, 1),
) -> NDArray[np.uint8]:
    """A picture of a mesh, (h, w, 3) sRGB: lit from the camera, both sides of faces.

    Args:
        mesh: grey where it has no colours.
        camera: in the world of the mesh.
        coloured: False draws the shape alone, grey.
        background: sRGB in [0, 1] where nothing is.
    """
    raster = rasterise(mesh, camera)
    picture = np.full((*camera.size, 3), 255 * np.array(background), np.float32)
    seen = raster.faces >= 0
    corners = mesh.vertices.astype(np.float64)[mesh.faces[raster.faces[seen]]]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    pose = camera.cam_from_world
    centre = -np.linalg.solve(pose[:3, :3], pose[:3, 3])
    ray = corners.mean(axis=1) - centre
    length = np.linalg.norm(normal, axis=1) * np.linalg.norm(ray, axis=1)
    facing = np.abs(np.einsum("ij,ij->i", normal, ray)) / np.maximum(length, 1e-30)
    if coloured and mesh.colours is not None:
        base = interpolate(mesh, raster, camera, mesh.colours)[seen]
        picture[seen] = base * (0.6 + 0.4 * facing[:, None])
    else:
        picture[seen] = (60 + 170 * facing)[:, None]
    return np.rint(picture).clip(0, 255).astype(np.uint8)


def _boxes(
    vertices: NDArray[np.float64], faces: NDArray[np.int32], camera: Camera
) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """The pixels whose centres a face may cover: x and y from, x and y to (exclusive), (n, 4).

    Only of faces with any; their numbers (n,). Faces that reach behind the camera get all pixels.
    """
    height, width = camera.size
    end = np.array([width, height])
    ahead = vertices[:, 2] > 1e-9
    pixels = vertices @ camera.K.T
    with np.errstate(divide="ignore", invalid="ignore"):
        places = pixels[:, :2] / pixels[:, 2:]
    # A face is out of sight when all of it is beyond one side of the image; this holds behind the
    # camera, too, where pixels mean nothing.
    beyond = [pixels[:, 2] <= 1e-9]
    for axis, size in enumerate(end):
        beyond += [pixels[:, axis] < 0, pixels[:, axis] > size * pixels[:, 2]]
    out = np.stack(beyond, axis=1)
    unseen = np.any(out[faces[:, 0]] & out[faces[:, 1]] & out[faces[:, 2]], axis=1)
    number = np.nonzero(~unseen)[0]
    corners = places[faces[number]]
    low = np.clip(np.ceil(corners.min(axis=1) - 0.5 - 1e-9), 0, end)
    high = np.clip(np.floor(corners.max(axis=1) - 0.5 + 1e-9) + 1, 0, end)
    straddles = ~np.all(ahead[faces[number]], axis=1)
    low[straddles], high[straddles] = 0, end
    covers = np.all(high > low, axis=1)
    box = np.concatenate([low, high], axis=1)[covers].astype(np.int64)
    return box, number[covers]


def _pixels(
    box: NDArray[np.int64],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Rows of ``box`` with each pixel (x, y) of it, in portions of about `_PAIRS`."""
    wide, high = box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]
    ends = np.cumsum(wide * high)
    first = 0
    while first < len(box):
        done = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, done + _PAIRS, side="right")))
        count = (wide * high)[first:last]
        face = np.repeat(np.arange(first, last), count)
        start = np.repeat(ends[first:last] - count, count)
        y, x = np.divmod(np.arange(done, ends[last - 1]) - start, wide[face])
        yield face, x + box[face, 0], y + box[face, 1]
        first = last
