"""Boxes of voxels in the world; imports nothing heavy."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Index = tuple[int, int, int]


@dataclass(frozen=True)
class VoxelGrid:
    """A box of voxels; voxel ``i`` of the world has its centre at ``i * voxel_size``.

    Indices are of the world and not of the box, so that boxes of the same voxel size share
    voxels exactly, and those of a `TsdfVolume`.
    """

    voxel_size: float
    """Side of a voxel, in the unit of the scene."""

    first: Index
    """Index (x, y, z) of the voxel at [0, 0, 0]."""

    shape: Index
    """Voxels along x, y and z."""

    def __post_init__(self) -> None:
        """Raises ValueError: the voxel size is not positive, or a side is empty."""
        if not 0 < self.voxel_size < math.inf:
            raise ValueError(f"The side of a voxel must be positive, got {self.voxel_size:g}.")
        if min(self.shape) < 1:
            raise ValueError(f"A grid has a voxel or more along each axis, got {self.shape}.")

    def __len__(self) -> int:
        """Voxels in all."""
        return math.prod(self.shape)

    @classmethod
    def around(
        cls, low: NDArray[np.floating], high: NDArray[np.floating], voxel_size: float
    ) -> "VoxelGrid":
        """The smallest grid whose centres reach from ``low`` or below to ``high`` or above.

        Args:
            low, high: corners (3,) in the world.
            voxel_size: in the unit of the scene.
        """
        first = np.floor(np.asarray(low, float) / voxel_size).astype(int)
        last = np.ceil(np.asarray(high, float) / voxel_size).astype(int)
        return cls(voxel_size, _index(first), _index(last - first + 1))

    def grown(self, voxels: int) -> "VoxelGrid":
        """The grid with as many more voxels on all six sides."""
        first = _index(np.subtract(self.first, voxels))
        return VoxelGrid(self.voxel_size, first, _index(np.add(self.shape, 2 * voxels)))

    def divisible(self, by: int) -> "VoxelGrid":
        """The grid with sides rounded up to multiples of ``by``, grown at the far ends."""
        shape = _index(-(-np.array(self.shape) // by) * by)
        return VoxelGrid(self.voxel_size, self.first, shape)

    def axes(self) -> tuple[NDArray[np.float64], ...]:
        """Centres along x, y and z, each (n,), in the world."""
        return tuple(
            (start + np.arange(count, dtype=np.float64)) * self.voxel_size
            for start, count in zip(self.first, self.shape, strict=True)
        )


def _index(values: NDArray[np.integer]) -> Index:
    x, y, z = (int(value) for value in values)
    return x, y, z
