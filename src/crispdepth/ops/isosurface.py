"""The surface of a block-sparse TSDF as triangles, piece by piece and without seams."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crispdepth.ops.blocks import EDGE, pack, unpack
from crispdepth.ops.tsdf import COLOUR_STEPS, TsdfVolume
from crispdepth.types import Mesh

_PIECE = 8  # blocks along the side of what is triangulated at once
_SIDE = _PIECE * EDGE  # cells of a piece; it has one more voxel, shared with the next piece
_NUDGE = 1e-4  # of the truncation: no vertex lies on a voxel, so each has its own edge of the grid


class _Part(NamedTuple):
    """Triangles of one piece; vertices are voxels from the corner of the piece."""

    corner: NDArray[np.int64]  # (3,) voxels
    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]
    colours: NDArray[np.uint8] | None


def extract_mesh(volume: TsdfVolume, min_weight: float = 0.0) -> Mesh:
    """Marching cubes (Lewiner et al., 2003) over all voxels that were seen.

    A cube with a voxel that was not seen gives nothing, so no surface appears where knowledge
    ends. Pieces share the voxels of their borders, and the vertices there are made one, so that
    a closed surface is watertight. Faces are counter-clockwise seen from outside.

    Args:
        volume: what to triangulate.
        min_weight: a voxel counts as seen when its weight is larger than this.

    Raises:
        ImportError: scikit-image is missing.
    """
    parts = list(_parts(volume, min_weight))
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    kept, number = _join(parts, starts)
    vertices = np.empty((int(kept.sum()), 3), np.float32)
    faces = np.empty((sum(len(part.faces) for part in parts), 3), np.int32)
    colours = np.empty(vertices.shape, np.uint8) if volume.coloured else None
    vertex = face = 0
    parts.reverse()  # one is let go of after the other
    for start in starts[:-1]:
        part = parts.pop()
        mine = kept[start : start + len(part.vertices)]
        rows = slice(vertex, vertex := vertex + int(mine.sum()))
        vertices[rows] = (part.vertices[mine] + part.corner) * volume.voxel_size
        faces[face : (face := face + len(part.faces))] = number[part.faces + start]
        if colours is not None:
            assert part.colours is not None
            colours[rows] = part.colours[mine]
    return Mesh(vertices, faces, colours)


def _join(
    parts: list[_Part], starts: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
    """Which vertices to keep, and the new number of each old one; those of parts after each other.

    A vertex is its edge of the voxel grid: the lower voxel and the axis. Only those in a border
    plane of a piece can be there twice.
    """
    shared, edges = [starts[:0]], [np.zeros((0, 4), np.int64)]
    for part, start in zip(parts, starts, strict=False):
        border = ((part.vertices == 0) | (part.vertices == _SIDE)).any(axis=1)
        place = part.vertices[border].astype(np.float64)
        axis = np.abs(place - np.rint(place)).argmax(axis=1)
        voxel = np.floor(place).astype(np.int64) + part.corner
        shared.append(start + np.nonzero(border)[0])
        edges.append(np.concatenate([voxel, axis[:, None]], axis=1))
    at = np.concatenate(shared)
    number = np.arange(starts[-1], dtype=np.int32)
    _, first, same = np.unique(
        np.concatenate(edges), axis=0, return_index=True, return_inverse=True
    )
    number[at] = at[first][same.reshape(-1)]
    kept = number == np.arange(starts[-1], dtype=np.int32)
    new = np.cumsum(kept, dtype=np.int32) - 1
    return kept, new[number]


def _parts(volume: TsdfVolume, min_weight: float) -> Iterator[_Part]:
    try:
        from skimage.measure import marching_cubes
    except ImportError as error:
        raise ImportError('Meshes need scikit-image: pip install "crispdepth[torch]"') from error
    places = unpack(volume.store.keys)
    pieces = torch.unique(torch.div(places, _PIECE, rounding_mode="floor"), dim=0)
    steps = torch.arange(_PIECE + 1, device=volume.device)
    around = torch.cartesian_prod(steps, steps, steps)
    for piece in pieces:
        fields = _dense(volume, piece * _PIECE + around, around)
        tsdf, known = fields["tsdf"], fields["weight"] > min_weight
        cells = known[:-1, :-1, :-1]
        for shift in range(1, 8):
            x, y, z = shift >> 2, shift >> 1 & 1, shift & 1
            cells = cells & known[x : x + _SIDE, y : y + _SIDE, z : z + _SIDE]
        tsdf = np.where(np.abs(tsdf) < _NUDGE, np.copysign(np.float32(_NUDGE), tsdf), tsdf)
        if not (cells.any() and tsdf[known].min() < 0 < tsdf[known].max()):
            continue
        mask = np.zeros(tsdf.shape, bool)
        mask[1:, 1:, 1:] = cells  # the implementation asks for the far corner of a cube
        try:
            vertices, faces, _, _ = marching_cubes(tsdf, 0.0, mask=mask)  # type: ignore[no-untyped-call]
        except RuntimeError:  # no surface within the cells that are known
            continue
        vertices = _snap(vertices)
        colours = _colours(fields["colour"], vertices) if volume.coloured else None
        corner = (piece * _SIDE).cpu().numpy()
        yield _Part(corner, vertices, faces.astype(np.int32), colours)


def _dense(volume: TsdfVolume, blocks: Tensor, around: Tensor) -> dict[str, NDArray[Any]]:
    """The voxels of a piece and one more to the far sides, (_SIDE + 1)^3 each; unseen: 0."""
    keys = pack(blocks)
    there = volume.store.contains(keys)
    values = volume.store.read(keys[there])
    where = around[there].cpu().numpy()
    fields = {}
    for name, value in values.items():
        block = value.cpu().numpy()
        block = block.reshape(len(block), EDGE, EDGE, EDGE, *block.shape[2:])
        whole = np.zeros((_PIECE + 1, _PIECE + 1, _PIECE + 1, *block.shape[1:]), block.dtype)
        whole[where[:, 0], where[:, 1], where[:, 2]] = block
        whole = np.moveaxis(whole, (0, 1, 2), (0, 2, 4))
        side = (_PIECE + 1) * EDGE
        grid = whole.reshape(side, side, side, *block.shape[4:])
        fields[name] = grid[: _SIDE + 1, : _SIDE + 1, : _SIDE + 1]
    return fields


def _snap(vertices: NDArray[np.float32]) -> NDArray[np.float32]:
    """Whole voxels where a vertex lies on them but for rounding, far below `_NUDGE` / 2."""
    whole = np.rint(vertices)
    return np.where(np.abs(vertices - whole) < _NUDGE / 8, whole, vertices)


def _colours(colour: NDArray[Any], vertices: NDArray[np.float32]) -> NDArray[np.uint8]:
    low, high = np.floor(vertices).astype(np.intp), np.ceil(vertices).astype(np.intp)
    share = (vertices - low).max(axis=1, keepdims=True)
    ends = [colour[tuple(end.T)].astype(np.float64) / COLOUR_STEPS for end in (low, high)]
    bare = [~end.any(axis=1, keepdims=True) for end in ends]  # seen through only
    ends = [np.where(bare[0], ends[1], ends[0]), np.where(bare[1], ends[0], ends[1])]
    mixed = ends[0] * (1 - share) + ends[1] * share
    colours: NDArray[np.uint8] = np.rint(mixed).clip(0, 255).astype(np.uint8)
    return colours
