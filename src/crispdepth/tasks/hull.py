"""Whole meshes of masked objects: what no depth shows is closed by the silhouettes.

Depth carves into the visual hull and the hull closes what depth leaves open. Matched depth is
noisier than a silhouette is wide at the border of an object, so at last the rays of the masks'
pixels are made to meet the mesh; and no triangle is kept that no photo shows.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crispdepth.geometry.bounds import bounds_from_masks
from crispdepth.geometry.warp import in_camera, sees
from crispdepth.ops.mask_contract import evidence
from crispdepth.ops.rasterise import Raster, rasterise
from crispdepth.ops.resample import size_within
from crispdepth.types import BoolMap, Camera, Mesh, View

if TYPE_CHECKING:
    from torch import Tensor

    from crispdepth.ops.hull import Silhouette
    from crispdepth.ops.tsdf import TsdfVolume

MOST_SILHOUETTES = 64
"""Views that a hull is looked for with; more change little, and these stay in memory."""

_LONGEST = 640  # pixels of the longer side of these
_FEWEST = 3  # silhouettes that enclose something
_WHOLE = 0.5  # share of them that must end before the frame does
_BOXED = 4  # views by which the box about the hull is found
_ROUNDS = 2  # of looking for rays that miss the mesh
_HIDDEN = 2.0  # voxels behind what a view shows from which on it does not show a face
_FACING = 0.15  # cosine from which on a face is not edge-on: silhouettes touch what nobody sees


class Hull(NamedTuple):
    """The silhouettes of some views, and a box (2, 3) about what all of them enclose."""

    silhouettes: "tuple[Silhouette, ...]"
    box: NDArray[np.float64]

    def blocks(self, voxel_size: float, device: str = "cpu") -> "Tensor":
        """Keys of the blocks of a field that the hull touches, see `hull_blocks`."""
        import torch

        from crispdepth.ops.hull import hull_blocks

        return hull_blocks(self.silhouettes, self.box, voxel_size, torch.device(device))


def visual_hull(views: Iterable[View]) -> Hull | None:
    """The visual hull of some views; None where their masks enclose nothing.

    Views whose object is unknown say nothing, nor do empty masks: an object that was not found is
    more likely than one that is not there. Three silhouettes, and half of all, must end before
    their photos do.

    Args:
        views: with cameras; at most `MOST_SILHOUETTES` are enough.

    Raises:
        ImportError: torch is not installed.
    """
    try:
        from crispdepth.ops.hull import Silhouette, is_whole, signed_distance
    except ImportError as error:
        raise ImportError('A visual hull needs torch: pip install "crispdepth[torch]"') from error

    found = []
    for view in views:
        assert view.camera is not None  # a scene's views have one
        size = size_within(_LONGEST, view.camera.size)
        inside = evidence(view.masks, size).inside
        if inside is not None and (inside >= 0.5).any():
            found.append(Silhouette(view.camera.resized(size), signed_distance(inside)))
    # An object that goes on beside the frames is enclosed by none of them.
    whole = [index for index, (_, outside) in enumerate(found) if is_whole(outside)]
    enclosed = len(whole) >= max(_FEWEST, _WHOLE * len(found))
    box = _box(found, whole) if enclosed else None
    return None if box is None else Hull(tuple(found), box)


def solid(volume: "TsdfVolume", hull: Hull, trust: float) -> Mesh:
    """The mesh of a field that was made with the blocks of a hull; without vertices if empty.

    Args:
        volume: with all views taken in; it is changed.
        hull: whose silhouettes the mesh is to fill.
        trust: the hull counts as much as a view of this weight, > 0.

    Raises:
        ImportError: scikit-image is not installed.
    """
    from crispdepth.ops.hull import restore_rays
    from crispdepth.ops.isosurface import extract_mesh

    volume.close(trust)
    for _ in range(_ROUNDS):
        mesh = extract_mesh(volume)
        for camera, outside in hull.silhouettes:
            missed = (outside <= 0) & (rasterise(mesh, camera).depth == 0)
            restore_rays(volume, camera, np.argwhere(missed))
    mesh = extract_mesh(volume)
    seen = np.zeros(len(mesh.faces), bool)
    for camera, _ in hull.silhouettes:
        seen |= shown(mesh, rasterise(mesh, camera), camera, _HIDDEN * volume.voxel_size)
    kept = np.zeros(len(mesh.vertices), bool)
    kept[mesh.faces[seen]] = True  # with all about them, so that a bump casts no holes
    return Mesh(mesh.vertices, mesh.faces[kept[mesh.faces].any(axis=1)], mesh.colours)


def shown(mesh: Mesh, raster: Raster, camera: Camera, tolerance: float) -> BoolMap:
    """Which faces (m,) a view shows from outside: not edge-on, nor behind what is drawn there.

    Args:
        mesh: in the world of the camera.
        raster: of the mesh in this camera.
        camera: of the view.
        tolerance: depth by which the middle of a face may lie behind, in the unit of the mesh.
    """
    corners = in_camera(camera, mesh.vertices)[mesh.faces]
    middle = corners.mean(axis=1)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    size = np.linalg.norm(normal, axis=1) * np.linalg.norm(middle, axis=1)
    turned = np.einsum("ij,ij->i", normal, -middle) > _FACING * size
    faces: BoolMap = sees(camera, middle) & turned
    at = np.flatnonzero(faces)
    pixels = middle[at] @ camera.K.T
    column, row = np.floor(pixels[:, :2] / pixels[:, 2:]).astype(int).T
    depth = raster.depth[row, column]
    faces[at] = (depth == 0) | (middle[at, 2] <= depth + tolerance)
    return faces


def _box(silhouettes: "Sequence[Silhouette]", whole: Sequence[int]) -> NDArray[np.float64] | None:
    """A box about the hull, (2, 3): where the boxes about the sights of some views overlap, of
    views whose silhouettes are whole."""
    cameras = [each.camera for each in silhouettes]
    inside = [(each.outside <= 0).astype(np.float32) for each in silhouettes]
    low, high = np.full(3, -np.inf), np.full(3, np.inf)
    spread = np.linspace(0, len(whole) - 1, min(len(whole), _BOXED)).astype(int)
    for index in np.asarray(whole)[spread].tolist():
        bounds = bounds_from_masks(cameras, inside, index)
        if bounds is None:
            continue
        camera = cameras[index]
        rows, columns = np.nonzero(inside[index])
        corners = (
            np.array(
                [
                    [x, y, 1.0]
                    for x in (columns.min(), columns.max() + 1)
                    for y in (rows.min(), rows.max() + 1)
                ]
            )
            @ np.linalg.inv(camera.K).T
        )
        pose = camera.cam_from_world
        points = np.concatenate([corners * z for z in bounds]) - pose[:3, 3]
        points = points @ np.linalg.inv(pose[:3, :3]).T
        low, high = np.maximum(low, points.min(axis=0)), np.minimum(high, points.max(axis=0))
    if not (np.isfinite(low).all() and (low < high).all()):
        return None
    return np.stack([low, high])
