"""Smoothing of meshes: noise of the length of a few edges goes, the shape does not shrink."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from crispdepth.types import Mesh

_IN, _OUT = 0.5, -0.53  # share of the way to the middle of its neighbours, there and back


def smooth_mesh(mesh: Mesh, rounds: int, share: NDArray[np.floating] | None = None) -> Mesh:
    """The mesh after ``rounds`` of smoothing (Taubin, SIGGRAPH 1995).

    In each, vertices go half of the way to the mean of their neighbours, and a little more than
    half of the way back from it: waves as short as a few edges are damped, long ones stay.

    Args:
        mesh: also with borders; what is on one stays, or holes would grow.
        rounds: >= 0.
        share: (n,) in [0, 1], how much of each step a vertex takes; None: ones. With 0 it stays
            bit for bit.
    """
    count = len(mesh.vertices)
    if not rounds or not len(mesh.faces):
        return mesh
    one, two, three = mesh.faces.T
    start, end = np.concatenate((one, two, three)), np.concatenate((two, three, one))
    links = np.concatenate((start, end)), np.concatenate((end, start))
    neighbours = csr_array((np.ones(len(links[0]), np.float32), links), shape=(count, count))
    border = np.zeros(count, bool)
    border[neighbours.indices[neighbours.data == 1]] = True  # an edge of one face alone
    neighbours.data[:] = 1
    number = np.asarray(neighbours.sum(axis=1)).reshape(-1, 1)
    free = (number > 0) & ~border[:, None]
    taken = free * (1.0 if share is None else share[:, None])
    vertices = mesh.vertices.astype(np.float64)
    for _ in range(rounds):
        for part in (_IN, _OUT):
            middle = neighbours @ vertices / np.maximum(number, 1)
            vertices += part * taken * (middle - vertices)
    kept = taken[:, 0] == 0
    moved = vertices.astype(np.float32)
    moved[kept] = mesh.vertices[kept]
    return Mesh(moved, mesh.faces, mesh.colours)
