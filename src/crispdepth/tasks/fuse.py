"""Fusing the depths of many views into one mesh."""

import shutil
import tempfile
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crispdepth.geometry.backproject import pixel_rays
from crispdepth.ops.mask_contract import erode, grow
from crispdepth.ops.mask_contract import evidence as mask_evidence
from crispdepth.tasks.fuse_config import FuseConfig as FuseConfig
from crispdepth.tasks.hull import Hull, solid
from crispdepth.types import BoolMap, Camera, Float32Map, Mesh, View, ViewDepth

if TYPE_CHECKING:
    from crispdepth.ops.tsdf import TsdfVolume

GIGABYTE = 1e9

_LINKED = 1 << 20  # triangles that are linked at once
_SPREAD = 2.5  # blocks in the band of a surface, per area of a block's side: an estimate


class Evidence(NamedTuple):
    """What a view says about the space before it, each (h, w)."""

    depth: Float32Map  # 0 where nothing is said
    weight: Float32Map
    empty: BoolMap  # where the view sees past the object, whatever its depth


def fuse(
    views: Iterable[tuple[View, ViewDepth]],
    config: FuseConfig | None = None,
    *,
    hull: Hull | None = None,
    device: str = "cpu",
    on_view: Callable[[], object] = lambda: None,
) -> Mesh:
    """The surface that all depths agree on, with colours.

    Views are taken one at a time; memory does not grow with their number. Masks of role object
    keep only what is inside, those of role ignore give no evidence, a view without masks is
    taken as it is.

    Args:
        views: photos with cameras, and their depths in the unit of the scene.
        config: None: the defaults. Without a voxel size, the first view decides it; see
            `voxel_size` to choose by several.
        hull: of the object that is wanted, see `crispdepth.tasks.hull.visual_hull`; the mesh is
            then closed where no depth shows it, and ends at the masks. None: there is a surface
            only where depth shows one.
        device: torch's name of where to compute.
        on_view: called after each view.

    Raises:
        ImportError: torch or scikit-image is not installed.
        ValueError: there is no view or no surface, a view has no camera or does not fit its
            depth, or voxels are so small that they would not fit anywhere.
        OSError: the temporary folder is full.
    """
    volume = None
    config = config or FuseConfig()
    for view, depth in views:
        if volume is None:
            voxel = config.voxel or voxel_size([(view, depth)], config, hull)
            volume = start_volume(voxel, config, device, hull)
        integrate_view(volume, view, depth, config)
        on_view()
    if volume is None:
        raise ValueError("There is no view to fuse.")
    return surface(volume, config, hull)


def start_volume(
    voxel: float, config: FuseConfig, device: str = "cpu", hull: Hull | None = None
) -> "TsdfVolume":
    """An empty field for `integrate_view`.

    Raises:
        ImportError: torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError('Fusion needs torch: pip install "crispdepth[torch]"') from error
    from crispdepth.ops.tsdf import TsdfVolume

    return TsdfVolume(
        voxel,
        config.truncation * voxel,
        device=torch.device(device),
        max_memory=int(config.max_memory * GIGABYTE),
        hull=None if hull is None else hull.blocks(voxel, device),
    )


def integrate_view(volume: "TsdfVolume", view: View, depth: ViewDepth, config: FuseConfig) -> None:
    """Add one view to a field.

    Raises:
        ValueError: as `fuse`.
    """
    import torch

    from crispdepth.ops.hull import signed_distance

    camera = camera_of(view)
    evidence = evidence_of(view, depth, config)
    _refuse_huge(volume, evidence.depth, camera, config)
    colour = view.image if view.image.dtype == np.uint8 else (view.image >> 8).astype(np.uint8)
    carve = None
    if volume.hulled:  # which knows better than whole pixels what is beside the object
        carve = evidence.weight > 0
    elif config.carve:
        carve = (evidence.weight > 0) | evidence.empty
    silhouette = None
    inside = mask_evidence(view.masks, camera.size).inside if volume.hulled else None
    if inside is not None and (inside >= 0.5).any():  # one that found nothing says nothing
        silhouette = torch.from_numpy(signed_distance(inside)).to(volume.device)
    on = volume.device
    volume.integrate(
        torch.from_numpy(evidence.depth).to(on),
        torch.from_numpy(evidence.weight).to(on),
        torch.from_numpy(np.array(colour)).to(on),
        camera,
        carve=None if carve is None else torch.from_numpy(carve).to(on),
        silhouette=silhouette,
    )


def surface(volume: "TsdfVolume", config: FuseConfig, hull: Hull | None = None) -> Mesh:
    """The cleaned mesh of a field.

    Raises:
        ImportError: scikit-image is not installed.
        ValueError: there is no surface.
    """
    from crispdepth.ops.isosurface import extract_mesh

    if hull is None:
        mesh = extract_mesh(volume, config.min_weight)
    else:
        mesh = _coloured(solid(volume, hull, config.hull_weight))
    kept = remove_small_pieces(mesh, config.min_piece)
    if not len(kept.faces):
        reason = (
            f"all {len(mesh.faces)} triangles are in pieces of fewer than {config.min_piece}"
            if len(mesh.faces)
            else "no voxel between the front and the back of something was seen well enough"
        )
        raise ValueError(
            f"No surface came out: {reason}. Check the depths and masks, or take another voxel "
            f"size (now {volume.voxel_size:g}) or a smaller min_weight or min_piece."
        )
    if not config.smooth:
        return kept
    from crispdepth.ops.hull import depth_in_hull
    from crispdepth.ops.mesh_smoothing import smooth_mesh

    # Silhouettes are sure to a pixel: what lies less deep in their hull is held by them.
    free = None if hull is None else depth_in_hull(hull.silhouettes, kept.vertices).clip(0, 1)
    return smooth_mesh(kept, config.smooth, free)


def evidence_of(view: View, depth: ViewDepth, config: FuseConfig) -> Evidence:
    """Depth and trust of a view under its masks.

    Raises:
        ValueError: the depth has another size than the photo, or is no z-depth.
    """
    if depth.depth.size != view.image.shape[:2]:
        raise ValueError(
            f"{view.name or 'A view'}: the depth is {depth.depth.size}, the photo "
            f"{view.image.shape[:2]}."
        )
    if depth.depth.kind != "depth":
        raise ValueError(
            f"{view.name or 'A view'}: fusion needs z-depth in the unit of the scene, "
            f"not {depth.depth.kind} ({depth.depth.unit})."
        )
    weight = depth.confidence.copy()
    empty = np.zeros(weight.shape, bool)
    if view.masks is not None:
        inside, others = np.zeros((2, *weight.shape), np.float32)
        edge = np.zeros(weight.shape, bool)
        for index, name in enumerate(view.masks.names):
            mask = view.masks[index]
            if view.masks.role == "ignore" or config.only in (None, name):
                np.maximum(inside, mask, out=inside)
                edge |= _near_edge(mask, config.mask_edge)
            else:
                np.maximum(others, mask, out=others)
        if view.masks.role == "object":
            # Without a mask of the one object, nothing is known about where it is not.
            if config.only is None or config.only in view.masks.names:
                empty = (inside < 0.5) & (others < 0.5) & ~edge
            weight *= np.where((inside < 0.5) | (others > inside), 0, inside)
        else:
            weight *= np.where(inside > 0.5, 0, 1 - inside)
        weight[edge] = 0
    elif config.only is not None:
        weight[:] = 0
    if config.max_depth is not None:
        weight[depth.depth.values > config.max_depth] = 0
    values = np.where(weight > 0, depth.depth.values, np.float32(0))
    return Evidence(values, weight, empty)


def _near_edge(mask: Float32Map, distance: int) -> BoolMap:
    """Pixels at most so far from where the mask passes one half."""
    if not distance:
        return np.zeros(mask.shape, bool)
    hard = (mask >= 0.5).astype(np.float32)
    near: BoolMap = grow(hard, distance) != erode(hard, distance)
    return near


def voxel_size(
    views: Iterable[tuple[View, ViewDepth]], config: FuseConfig, hull: Hull | None = None
) -> float:
    """A voxel size for what these views see; a few, spread over the scene, are enough.

    The longest side of the box about their points (without the outermost half percent) over
    ``config.resolution``, but at least as wide as two pixels at the middle depth; with a hull one
    and a half, because silhouettes are sharper than depth.

    Raises:
        ValueError: no pixel has a depth.
    """
    low, high, widths = [], [], []
    for view, depth in views:
        camera, evidence = camera_of(view), evidence_of(view, depth, config)
        used = evidence.weight > 0
        if not used.any():
            continue
        pose = camera.cam_from_world
        points = (pixel_rays(camera) * evidence.depth[..., None])[used] - pose[:3, 3]
        ends = np.quantile(points @ np.linalg.inv(pose[:3, :3]).T, (0.005, 0.995), axis=0)
        low.append(ends[0])
        high.append(ends[1])
        widths.append(np.median(evidence.depth[used]) / np.sqrt(camera.K[0, 0] * camera.K[1, 1]))
    if not widths:
        raise ValueError(
            "No pixel of the views has a depth that may be used, so there is nothing to fuse. "
            "Check the depths, the masks and their role, and max_depth."
        )
    longest = float((np.max(high, axis=0) - np.min(low, axis=0)).max())
    pixels = 2.0 if hull is None else 1.5
    return max(longest / config.resolution, pixels * float(np.median(widths)))


def remove_small_pieces(mesh: Mesh, min_faces: int) -> Mesh:
    """The mesh without connected pieces of fewer triangles, and without unused vertices."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(mesh.faces) or min_faces <= 1:
        return mesh
    count = len(mesh.vertices)
    piece = np.arange(count, dtype=np.int32)
    for start in range(0, len(mesh.faces), _LINKED):  # the graph is several times the mesh
        one, two, three = piece[mesh.faces[start : start + _LINKED]].T
        links = (np.concatenate([one, two]), np.concatenate([two, three]))
        graph = coo_array((np.ones(len(links[0]), np.int8), links), shape=(count, count))
        count, joined = connected_components(graph, directed=False)
        piece = joined[piece]
    of_face = piece[mesh.faces[:, 0]]
    return _with_faces(mesh, (np.bincount(of_face, minlength=count) >= min_faces)[of_face])


def _coloured(mesh: Mesh) -> Mesh:
    """Vertices that no depth has given a colour (black) take that of the nearest that has one."""
    from scipy.spatial import cKDTree

    if mesh.colours is None:
        return mesh
    bare = ~mesh.colours.any(axis=1)
    if bare.all() or not bare.any():
        return mesh
    colours = mesh.colours.copy()
    _, nearest = cKDTree(mesh.vertices[~bare]).query(mesh.vertices[bare])
    colours[bare] = mesh.colours[~bare][nearest]
    return Mesh(mesh.vertices, mesh.faces, colours)


def _with_faces(mesh: Mesh, kept: BoolMap) -> Mesh:
    faces = mesh.faces[kept]
    used = np.zeros(len(mesh.vertices), bool)
    used[faces] = True
    number: NDArray[np.int64] = np.cumsum(used) - 1
    colours = None if mesh.colours is None else mesh.colours[used]
    return Mesh(mesh.vertices[used], number[faces].astype(np.int32), colours)


def camera_of(view: View) -> Camera:
    """The camera of a view; a ValueError without one."""
    if view.camera is None:
        raise ValueError(f"{view.name or 'A view'} has no camera, so its depth has no place.")
    return view.camera


def _refuse_huge(
    volume: "TsdfVolume", depth: Float32Map, camera: Camera, config: FuseConfig
) -> None:
    """Raise before a view fills memory and disk, and say which voxels would fit."""
    area = float(np.square(depth, dtype=np.float64).sum() / (camera.K[0, 0] * camera.K[1, 1]))
    from crispdepth.ops.blocks import EDGE

    side = EDGE * volume.voxel_size
    needed = _SPREAD * area / side**2 * volume.store.block_bytes
    folder = tempfile.gettempdir()
    room = config.max_memory * GIGABYTE + 0.9 * shutil.disk_usage(folder).free
    if needed > room:
        fits = volume.voxel_size * float(np.sqrt(needed / room))
        raise ValueError(
            f"Voxels of {volume.voxel_size:g} are too small for this scene: one view alone needs "
            f"{needed / GIGABYTE:.3g} GB, and {room / GIGABYTE:.3g} GB are there (max_memory "
            f"{config.max_memory:g} GB and the free space of {folder}). Voxels of {fits:.2g} "
            "would fit; or leave out what is far away with max_depth."
        )
