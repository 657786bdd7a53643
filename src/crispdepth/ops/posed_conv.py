"""Convolutions whose kernels turn with the camera (PosedConv, VolumeFusion, equation 5).

Features that a camera has thrown into a volume lie along its rays, so a kernel of the world would
see another pattern from each direction. Here a kernel W of the camera's axes is read at turned
places, ``K(v') = W(R v')`` with R = cam_from_world, and is then an ordinary kernel of the world.
Everything is linear in W: ``vec(K) = A(R) vec(W)`` with A of 27 x 27, and the camera's features
turn with a world that is turned by 90 degrees (gauge equivariance, spec B.4).

Volumes are (C, X, Y, Z) and kernels (out, in, 3, 3, 3), both indexed x, y, z.
"""

import itertools
from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Turning = Literal["octahedral", "assign", "nearest", "trilinear", "rbf"]

_SPREAD = 0.8  # voxels: of the radial functions of `rbf` (spec B.4)
_TOGETHER = 128  # channels that are convolved at once
_OCTAHEDRAL = [
    matrix.tolist()
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1.0, -1.0), repeat=3)
    if np.linalg.det(matrix := np.eye(3)[list(order)] * np.array(signs)[:, None]) > 0
]


def octahedral_rotations() -> Tensor:
    """The 24 rotations that map a grid onto itself, (24, 3, 3) float64; the identity is first."""
    return torch.tensor(_OCTAHEDRAL, dtype=torch.float64)


def nearest_octahedral(rotation: Tensor) -> Tensor:
    """Which of `octahedral_rotations` is nearest, ``argmax tr(g^T R)``: (...) of (..., 3, 3).

    The first of equally near ones.
    """
    group = octahedral_rotations().to(rotation.device)
    near = torch.einsum("...ij,gij->...g", rotation.double(), group)
    # Rounded, so that ties are ties and not what is left of the arithmetic.
    return (near * 1e6).round().argmax(-1)


def kernel_turn(rotation: Tensor, how: Turning) -> Tensor:
    """A(R), which turns kernels: ``vec(K) = A vec(W)``.

    ``octahedral``: W at the nearest of the 24 rotations; a permutation. ``assign``: the
    permutation, within the 6 faces, 12 edges and 8 corners each, that moves least. ``nearest``: W
    at the rounded place, 0 beyond the kernel. ``trilinear``: W interpolated, 0 beyond; shrinks.
    ``rbf``: W interpolated by Gaussians of 0.8 voxels; smooth in R, and the most exact.

    Args:
        rotation: (..., 3, 3) camera from world.
        how: see above. Differentiable in the rotation for ``trilinear`` and ``rbf``.

    Returns:
        (..., 27, 27) of the rotation's dtype; rows and columns in the order of a flat kernel.
    """
    exact = rotation.double()
    if how == "octahedral":
        exact = octahedral_rotations().to(rotation.device)[nearest_octahedral(rotation)]
        how = "nearest"
    lattice = _lattice().to(rotation.device)
    places = lattice @ exact.mT  # R v' of each v'
    if how == "assign":
        return _assigned(places).to(rotation)
    if how == "nearest":
        # Halves go to even, which is symmetric: a turned grid meets the same ties.
        places = places.round()
    apart = places[..., :, None, :] - lattice
    if how == "rbf":
        return (_bumps(apart) @ _bumps(lattice[:, None] - lattice).inverse()).to(rotation)
    return (1 - apart.abs()).clamp_min(0).prod(-1).to(rotation)


def turned(weight: Tensor, turn: Tensor) -> Tensor:
    """The kernels (out, in, 3, 3, 3) of cameras, as kernels of the world.

    Args:
        weight: in the axes of a camera.
        turn: (27, 27) of `kernel_turn`.
    """
    return (weight.flatten(2) @ turn.to(weight).mT).view_as(weight)


def posed_conv(volume: Tensor, weight: Tensor, rotation: Tensor, how: Turning) -> Tensor:
    """The features of one view, filtered in the axes of its camera; zeros beyond the volume.

    Args:
        volume: (in, X, Y, Z).
        weight: (out, in, 3, 3, 3).
        rotation: (3, 3) camera from world.
        how: see `kernel_turn`.

    Returns:
        (out, X, Y, Z); for the identity exactly that of an ordinary convolution (rbf: nearly).
    """
    return _conv(volume, turned(weight, kernel_turn(rotation, how)))


def binned_conv(sums: Mapping[int, Tensor], weight: Tensor) -> Tensor:
    """The sum of `posed_conv` over all views, at most 24 convolutions for any number of them.

    Args:
        sums: which of `octahedral_rotations` -> features (in, X, Y, Z), summed over the views
            that it is nearest to; one or more.
        weight: (out, in, 3, 3, 3).

    Returns:
        (out, X, Y, Z).
    """
    channels = weight.shape[1]
    bins = sorted(sums)
    turns = kernel_turn(octahedral_rotations()[bins], "octahedral").to(weight)
    kernels = [turned(weight, turn) for turn in turns]
    # Several bins are as many more channels of one convolution, which is much faster.
    at_once = max(1, _TOGETHER // channels)
    total: Tensor | None = None
    for start in range(0, len(bins), at_once):
        # Side by side with channels last, the layout that the volumes have and stay in.
        some = [sums[each].movedim(0, -1) for each in bins[start : start + at_once]]
        part = _conv(
            torch.cat(some, dim=-1).movedim(-1, 0),
            torch.cat(kernels[start : start + at_once], dim=1),
        )
        total = part if total is None else total + part
    assert total is not None, "no bin"
    return total


def batch_of_one(volume: Tensor) -> Tensor:
    """A volume (C, X, Y, Z) as (1, C, X, Y, Z), which keeps channels last where they are.

    ``volume[None]`` would give the batch a stride that convolutions do not take for channels
    last, and they would copy the volume.
    """
    return volume.movedim(0, -1)[None].movedim(-1, 1)


def _conv(volume: Tensor, weight: Tensor) -> Tensor:
    return F.conv3d(batch_of_one(volume), weight, padding=1)[0]


def _lattice() -> Tensor:
    """Offsets (27, 3) of the taps of a kernel from its centre."""
    steps = torch.arange(-1, 2, dtype=torch.float64)
    return torch.cartesian_prod(steps, steps, steps)


def _bumps(apart: Tensor) -> Tensor:
    return (apart.square().sum(-1) / (-2 * _SPREAD**2)).exp()


def _assigned(places: Tensor) -> Tensor:
    from scipy.optimize import linear_sum_assignment  # slow to import, and needed by few

    lattice = _lattice().numpy()
    shell = np.abs(lattice).sum(1)
    flat = places.detach().cpu().numpy().reshape(-1, 27, 3)
    turn = np.zeros((len(flat), 27, 27))
    for view, moved in zip(turn, flat, strict=True):
        for number in range(4):
            members = np.flatnonzero(shell == number)
            # Equal distances up to rounding are equal: the first assignment of them is taken.
            cost = ((moved[members, None] - lattice[None, members]) ** 2).sum(-1).round(9)
            rows, columns = linear_sum_assignment(cost)
            view[members[rows], members[columns]] = 1
    return torch.from_numpy(turn.reshape(*places.shape[:-2], 27, 27)).to(places)
