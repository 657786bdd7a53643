"""Results in the frame and scale that a scene came in."""

from dataclasses import replace

import numpy as np

from crispdepth.geometry.rigid import camera_in_frame, scale_of, transform_points
from crispdepth.types import Camera, Gaussians, Mesh, Scene


def unit_of(scene: Scene) -> str:
    """The unit of a scene in words."""
    return "m" if scene.unit == "m" else "units of the scene"


def up_of(scene: Scene) -> tuple[float, float, float]:
    """The axis of the world nearest to what is up in the mean photo."""
    up = -np.mean([camera.cam_from_world[1, :3] for camera in scene.cameras], axis=0)
    axis = int(np.abs(up).argmax())
    x, y, z = (float(np.copysign(i == axis, up[axis])) for i in range(3))
    return x, y, z


def in_source(camera: Camera, scene: Scene) -> Camera:
    """The camera in the frame and scale of the source, where the results are."""
    return Camera(
        camera.K, camera.size, camera_in_frame(camera.cam_from_world, scene.source_from_world)
    )


def mesh_in_source(mesh: Mesh, scene: Scene) -> Mesh:
    """The mesh in the frame and scale that the scene came in."""
    moved = transform_points(scene.source_from_world, mesh.vertices)
    return replace(mesh, vertices=moved.astype(np.float32))


def gaussians_in_source(gaussians: Gaussians, scene: Scene) -> Gaussians:
    """The Gaussians in the frame and scale that the scene came in.

    Raises:
        ValueError: that frame is turned: colours that depend on the direction would have to turn.
    """
    similarity = scene.source_from_world
    scale = scale_of(similarity)
    if not np.allclose(similarity[:3, :3], scale * np.eye(3), atol=1e-6 * abs(scale)):
        raise ValueError("The source's frame is turned against the world of the scene.")
    return replace(
        gaussians,
        means=transform_points(similarity, gaussians.means).astype(np.float32),
        scales=(gaussians.scales * scale).astype(np.float32),
    )
