"""The job on posed photos: depth of each view, a mesh, Gaussians, and a report of them."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, get_args

import numpy as np

from crispdepth import __version__
from crispdepth.api.stages import Stages, fingerprint, key_of
from crispdepth.geometry.rigid import camera_in_frame, scale_of, transform_points
from crispdepth.io.atomic import write_text
from crispdepth.io.meshes import read_mesh, write_mesh
from crispdepth.io.scenes import OpenScene
from crispdepth.io.splats import read_splats, write_splats
from crispdepth.io.view_depths import has_view_depth, read_view_depth, write_view_depth
from crispdepth.tasks.fuse_config import FuseConfig
from crispdepth.tasks.multiview_config import MultiviewConfig
from crispdepth.tasks.reconstruct_config import MOST_FITTED, SPLATS, ReconstructConfig, What
from crispdepth.types import Camera, Gaussians, Mesh, Scene, View, ViewDepth

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEPTHS, MESH, GLB, SPLATS_FILE = "depth", "mesh.ply", "mesh.glb", "splats.ply"
SUMMARY = "summary.json"

MATCHED_TRUNCATION, MATCHED_WEIGHT = 5.0, 0.1
"""Of fusing matched depth, noisier and less sure than a sensor's: with the usual ones meshes of
objects had holes (docs/experiments.md)."""

_SAMPLED = 8  # views that the voxel size is chosen by


class Watch(Protocol):
    """Who is told what happens; the methods of a command's terminal."""

    def say(self, *lines: str) -> None:
        """Something worth knowing."""

    def progress(self, total: int) -> AbstractContextManager[Callable[[], object]]:
        """A function to call ``total`` times."""
        ...


class Unwatched:
    """Nobody is told."""

    def say(self, *lines: str) -> None:
        """Nothing."""

    @contextmanager
    def progress(self, total: int) -> Iterator[Callable[[], object]]:
        """A function that does nothing."""
        yield lambda: None


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What was made of a scene, in a folder; large things are read when they are asked for."""

    folder: Path
    scene: Scene
    config: ReconstructConfig
    given: bool  # whether the depths are those that the scene's views hold

    def depth(self, index: int) -> ViewDepth:
        """The depth of view ``index``.

        Raises:
            OSError, ValueError: it was not made, or cannot be read.
        """
        if self.given:
            return given_depth(self.scene[index])
        camera = self.scene.cameras[index]
        return read_view_depth(self.folder / DEPTHS, self.scene.names[index], camera)

    def views(self, indices: Sequence[int] | None = None) -> Iterator[tuple[View, ViewDepth]]:
        """The views with their depths; without those that hold none, if it is theirs."""
        for index in range(len(self.scene)) if indices is None else indices:
            view = self.scene[index]
            if not self.given:
                yield view, self.depth(index)
            elif view.depth is not None:
                yield view, given_depth(view)

    @property
    def mesh(self) -> Mesh | None:
        """The mesh in the frame and scale of the source; None if there is none."""
        path = self.folder / MESH
        return read_mesh(path) if path.is_file() else None

    @property
    def gaussians(self) -> Gaussians | None:
        """The Gaussians in the frame and scale of the source; None if there are none."""
        path = self.folder / SPLATS_FILE
        return read_splats(path) if path.is_file() else None


def reconstruct(
    source: str | Path | OpenScene,
    out: str | Path,
    *,
    what: Sequence[What] = get_args(What),
    config: ReconstructConfig | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    watch: Watch | None = None,
) -> Reconstruction:
    """Posed photos with masks to depth, a mesh and Gaussians.

    ``crispdepth.reconstruct("scene", "result")`` writes ``depth/``, ``mesh.ply``, ``mesh.glb``,
    ``splats.ply`` and ``summary.json``; mesh and Gaussians are in the frame and scale of the
    source. An interrupted job goes on where it stopped, and what is there already is not done
    again.

    Args:
        source: the folder of a scene, or what `crispdepth.io.scenes.open_scene` opened with
            options of its own.
        out: the folder of the results, made if it is not there.
        what: "depth", "mesh", "splats"; the depth that a method needs is always made.
        config: see `ReconstructConfig`; None: its defaults.
        device: torch's name of where to compute.
        overwrite: replace results of other photos or settings.
        watch: is told what happens; None: nobody.

    Raises:
        ImportError: torch, scikit-image or SciPy is not installed.
        OSError: a file cannot be read or written.
        ValueError: the scene cannot be read or reconstructed, or the folder holds other results.
    """
    config, watch = config or ReconstructConfig(), watch or Unwatched()
    unknown = set(what) - set(get_args(What))
    if unknown or not what:
        raise ValueError(f"What to make is some of {get_args(What)}, got {tuple(what)}.")
    opened = open_for(source, config)
    scene = opened.scene
    watch.say(*scene.notes)
    stages = Stages(Path(out), overwrite=overwrite)
    result = Reconstruction(stages.folder, scene, config, _is_given(opened, config))
    key = key_of(__version__, _files_of(opened), scene.names, _cameras_key(scene))
    key = _make_depths(result, stages, key, device, watch)
    if "mesh" in what:
        _make_mesh(result, stages, key, device, watch)
    if "splats" in what:
        _make_splats(result, stages, key, device, watch)
    summary = {
        "version": __version__,
        "scene": scene.name,
        "views": len(scene),
        "unit": scene.unit,
        "config": asdict(config),
        "seconds": {name: stages.seconds(name) for name in ("depth", "mesh", "splats")},
        "notes": scene.notes,
    }
    write_text(stages.folder / SUMMARY, json.dumps(summary, indent=2) + "\n")
    return result


def open_for(source: str | Path | OpenScene, config: ReconstructConfig) -> OpenScene:
    """The scene, with photos no larger than the depth maps will be.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    from crispdepth.io.scenes import open_scene
    from crispdepth.tasks.multiview_config import LONGER_SIDE

    if isinstance(source, OpenScene):
        return source
    return open_scene(source, longest=LONGER_SIDE[config.quality])


def given_depth(view: View) -> ViewDepth:
    """The depth that a view holds, fully trusted.

    Raises:
        ValueError: it holds none.
    """
    if view.depth is None:
        raise ValueError(f"View {view.name} holds no depth; let it be made (--method classical).")
    return ViewDepth(view.depth, view.depth.usable.astype(np.float32))


def _is_given(opened: OpenScene, config: ReconstructConfig) -> bool:
    """Whether to take the depth that the views hold.

    Raises:
        ValueError: it is asked for and no view holds any.
    """
    if config.method != "auto":
        if config.method == "given" and not any(view.depth for view in opened.files):
            raise ValueError(
                f"No view of {opened.scene.name} holds depth; let it be made: --method classical."
            )
        return config.method == "given"
    return all(view.depth for view in opened.files)


def _files_of(opened: OpenScene) -> str:
    """A fingerprint of every file that the scene is read from."""
    paths = {path for view in opened.files for path in (view.photo, *view.masks)}
    paths |= {view.depth.path for view in opened.files if view.depth is not None}
    return fingerprint(*sorted(paths))


def _cameras_key(scene: Scene) -> str:
    poses = [
        (camera.K.tolist(), camera.cam_from_world.tolist(), camera.size) for camera in scene.cameras
    ]
    return key_of(poses, scene.bounds)


def _make_depths(
    result: Reconstruction, stages: Stages, key: str, device: str, watch: Watch
) -> str:
    """Depth of all views; the key of what it is."""
    scene, config = result.scene, result.config
    if result.given:
        return key_of(key, "given")
    matching = MultiviewConfig(quality=config.quality)
    key = key_of(key, asdict(matching))
    if stages.is_done("depth", key):
        return key
    import torch

    from crispdepth.tasks.multiview import estimate_depths

    folder = result.folder / DEPTHS
    with stages.begin("depth", key, [DEPTHS]) as goes_on:
        missing = [
            index
            for index, name in enumerate(scene.names)
            if not (goes_on and has_view_depth(folder, name))
        ]
        watch.say(f"depth of {len(missing)} of {len(scene)} views")
        with watch.progress(len(missing)) as advance:
            depths = estimate_depths(
                scene, matching, indices=missing, device=torch.device(device), note=watch.say
            )
            for index, depth in depths:
                write_view_depth(folder, scene.names[index], depth)
                advance()
    return key


def _make_mesh(result: Reconstruction, stages: Stages, key: str, device: str, watch: Watch) -> None:
    """The mesh of the depths."""
    from crispdepth.tasks.fuse import fuse, voxel_size
    from crispdepth.tasks.reconstruct import spread

    scene, config = result.scene, result.config
    # Where only the object is wanted, what the photos show beside it is known to be empty.
    first = scene[0].masks
    carve = first is not None and first.role == "object" and len(first) > 0
    fusing = FuseConfig(voxel=config.voxel, max_memory=config.max_memory, carve=carve)
    if not result.given:
        fusing = replace(fusing, truncation=MATCHED_TRUNCATION, min_weight=MATCHED_WEIGHT)
    key = key_of(key, asdict(fusing))
    if stages.is_done("mesh", key):
        return
    with stages.begin("mesh", key, [MESH, GLB]):
        if fusing.voxel is None:
            sampled = result.views(spread(len(scene), _SAMPLED))
            fusing = replace(fusing, voxel=voxel_size(sampled, fusing))
        watch.say(f"mesh with voxels of {fusing.voxel:.3g} {unit_of(scene)}")
        with watch.progress(len(scene)) as advance:
            mesh = fuse(result.views(), fusing, device=device, on_view=advance)
        mesh = mesh_in_source(mesh, scene)
        up = up_of(scene)
        write_mesh(result.folder / MESH, mesh)
        write_mesh(result.folder / GLB, mesh, up=(float(up[0]), float(up[1]), float(up[2])))
        watch.say(f"{len(mesh.faces)} triangles")


def _make_splats(
    result: Reconstruction, stages: Stages, key: str, device: str, watch: Watch
) -> None:
    """The Gaussians of the depths and photos."""
    from crispdepth.tasks.reconstruct import make_splats, spread

    scene, config = result.scene, result.config
    key = key_of(key, SPLATS[config.quality], config.seed)
    if stages.is_done("splats", key):
        return
    chosen = spread(len(scene), MOST_FITTED)
    with stages.begin("splats", key, [SPLATS_FILE]):
        budget = SPLATS[config.quality]
        watch.say(f"Gaussians, fitted to {len(chosen)} photos in {budget.steps} steps")
        with watch.progress(budget.steps) as advance:
            gaussians = make_splats(result.views(chosen), config, device=device, on_step=advance)
        write_splats(result.folder / SPLATS_FILE, gaussians_in_source(gaussians, scene))
        watch.say(f"{len(gaussians)} Gaussians")


def unit_of(scene: Scene) -> str:
    """The unit of a scene in words."""
    return "m" if scene.unit == "m" else "units of the scene"


def up_of(scene: Scene) -> "NDArray[np.float64]":
    """The axis of the world nearest to what is up in the mean photo, (3,)."""
    up = -np.mean([camera.cam_from_world[1, :3] for camera in scene.cameras], axis=0)
    axis = int(np.abs(up).argmax())
    return np.asarray(np.sign(up[axis]) * np.eye(3)[axis], np.float64)


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
