"""What a camera may see."""

import numpy as np

from crispdepth.geometry.voxel_grid import VoxelGrid
from crispdepth.types import Camera


def may_see(camera: Camera, grid: VoxelGrid, far: float = np.inf, margin: float = 0.0) -> bool:
    """False only if no voxel's centre is before the camera, nearer than ``far`` and in its image.

    Args:
        camera: where from.
        grid: a box of voxels.
        far: z-depth, in the unit of the scene.
        margin: pixels about the image that count, too.
    """
    ends = [axis[[0, -1]] for axis in grid.axes()]
    corners = np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(-1, 3)
    pose = camera.cam_from_world
    x, y, z = camera.K @ (pose[:3, :3] @ corners.T + pose[:3, 3:])
    height, width = camera.size
    # A box beyond one side of the frustum has all its corners beyond it.
    beyond = [z <= 0, z > far]
    beyond += [
        x < -margin * z,
        x > (width + margin) * z,
        y < -margin * z,
        y > (height + margin) * z,
    ]
    return not any(side.all() for side in beyond)
