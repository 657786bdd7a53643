"""The job on posed photos: depth of each view, a mesh, Gaussians, and a report of them."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, get_args

from crispdepth import __version__
from crispdepth.api.networks import Loaded, load_depth_network, load_fusion_network
from crispdepth.api.reconstruction import (
    DEPTHS,
    GLB,
    MESH,
    SPLATS_FILE,
    Reconstruction,
    measured,
)
from crispdepth.api.source_frame import gaussians_in_source, mesh_in_source, unit_of, up_of
from crispdepth.api.stages import Stages, fingerprint, key_of
from crispdepth.geometry.rigid import scale_of
from crispdepth.io.atomic import write_text
from crispdepth.io.meshes import write_mesh
from crispdepth.io.scenes import OpenScene
from crispdepth.io.splats import write_splats
from crispdepth.io.view_depths import has_view_depth, write_view_depth
from crispdepth.tasks.fuse_config import FuseConfig
from crispdepth.tasks.multiview_config import LONGER_SIDE, MultiviewConfig
from crispdepth.tasks.reconstruct_config import MOST_FITTED, SPLATS, Method, ReconstructConfig, What

if TYPE_CHECKING:
    from crispdepth.api.networks import DepthNetwork
    from crispdepth.models.volume.network import VolumeNetwork

SUMMARY = "summary.json"
PUT_ASIDE = "fusion"  # what learned fusion has done so far, while it is not finished

MATCHED_TRUNCATION, MATCHED_WEIGHT, MATCHED_SMOOTHING = 5.0, 0.1, 30
"""Of fusing matched depth, noisier and less sure than a sensor's: with the usual ones meshes of
objects had holes (docs/experiments.md)."""

SCENE_CORRECTIONS = 1
"""Of the depths of scenes without masks of an object: meshes of rooms lose detail with more
(docs/experiments.md)."""

HULL_TRUNCATION, HULL_WEIGHT = 3.0, 1.0
"""Of fusing it where the silhouettes of an object close it (docs/experiments.md)."""

SAMPLED = 8
"""Views that the size of voxels is chosen by."""


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


OUTPUTS: dict[What, tuple[str, ...]] = {
    "depth": (DEPTHS,),
    "mesh": (MESH, GLB),
    "splats": (SPLATS_FILE,),
}


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
    source, depth in the unit of the scene. Stages and depth maps that are there already are not
    made again.

    Args:
        source: the folder of a scene, or what `crispdepth.io.scenes.open_scene` opened with
            options of its own, ``longest`` among them.
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
    watch.say(*opened.scene.notes)
    config = replace(config, method=_method(opened, config))
    result = Reconstruction(Path(out), opened, config)
    if result.given:
        watch.say(
            "depth as the views hold it (--method multiview or classical finds it in the photos)"
        )
    fusing = _fusing(result)
    matcher = load_depth_network(config.method, config.weights)
    fuser = None
    if config.fusion == "volume":  # whatever is made: what is there is of these weights or not
        cameras = opened.scene.cameras
        fuser = load_fusion_network(config.fusion_weights, cameras, config.max_memory)
    keys = _keys(result, fusing, matcher, fuser)
    if not result.given:
        from crispdepth.tasks.multiview import require_matchable

        require_matchable(opened.scene)
    stages = Stages(result.folder, overwrite=overwrite)  # makes the folder: what is wrong has none
    needed = {*what} - {"depth"} if result.given else {*what, "depth"}
    for name in OUTPUTS.keys() & needed:  # before any work
        stages.check(name, keys[name], OUTPUTS[name])
    if not result.given:
        _make_depths(result, matcher, stages, keys["depth"], device, watch)
    if "mesh" in what and not stages.is_done("mesh", keys["mesh"]):
        with stages.begin("mesh", keys["mesh"], OUTPUTS["mesh"]) as goes_on:
            if not goes_on:
                shutil.rmtree(stages.folder / PUT_ASIDE, ignore_errors=True)
            _make_mesh(result, fusing, fuser, keys["mesh"], device, watch)
            shutil.rmtree(stages.folder / PUT_ASIDE, ignore_errors=True)
    if "splats" in what and not stages.is_done("splats", keys["splats"]):
        with stages.begin("splats", keys["splats"], OUTPUTS["splats"]):
            _make_splats(result, device, watch)
    made = frozenset(name for name in OUTPUTS if stages.is_done(name, keys[name]))
    seconds = {str(name): stages.seconds(name) for name in made}
    result = replace(result, made=made, seconds=seconds)
    scene = opened.scene
    summary = {
        "version": __version__,
        "scene": scene.name,
        "views": len(scene),
        "unit": scene.unit,
        "source_scale": scale_of(scene.source_from_world),  # of mesh and Gaussians against depth
        "config": asdict(config),
        "seconds": seconds,
        "notes": scene.notes,
    }
    write_text(stages.folder / SUMMARY, json.dumps(summary, indent=2) + "\n")
    return result


def open_for(source: str | Path | OpenScene, config: ReconstructConfig) -> OpenScene:
    """The scene, with photos no larger than the depth maps will be.

    Raises:
        OSError, ValueError: it cannot be read, or was opened with larger photos.
    """
    from crispdepth.io.scenes import open_scene

    longest = LONGER_SIDE[config.quality]
    if not isinstance(source, OpenScene):
        return open_scene(source, longest=longest)
    largest = max(max(camera.size) for camera in source.scene.cameras)
    if largest > longest:
        raise ValueError(
            f"The scene was opened with photos of {largest} pixels; quality {config.quality!r} "
            f"works on {longest}: open_scene(..., longest={longest})."
        )
    return source


def _method(opened: OpenScene, config: ReconstructConfig) -> Method:
    """How depth is found, if that is not said by what the views hold: see `ReconstructConfig`.

    Raises:
        ValueError: the depth that views hold is asked for, and none holds any.
    """
    if config.method == "given":
        measured(opened)
    if config.method != "auto":
        return config.method
    if all(view.depth for view in opened.files):
        return "given"
    return "multiview" if _shows_objects(opened) else "classical"


def _shows_objects(opened: OpenScene) -> bool:
    """Whether masks say what is wanted."""
    masked = any(view.masks or view.alpha_is_mask for view in opened.files)
    return masked and getattr(opened.scene.read, "role", None) == "object"


def _keys(
    result: Reconstruction,
    fusing: FuseConfig,
    matcher: "Loaded[DepthNetwork] | None",
    fuser: "Loaded[VolumeNetwork] | None",
) -> dict[What, str]:
    """What each stage depends on, hashed: files, how they are read, cameras, settings."""
    opened, scene, config = result.opened, result.scene, result.config
    paths = {path for view in opened.files for path in (view.photo, *view.masks)}
    paths |= {view.depth.path for view in opened.files if view.depth is not None}
    views = [
        (v.name, v.masks, v.white, v.alpha_is_mask, repr(v.lens), v.depth and v.depth.scale)
        for v in opened.files
    ]
    cameras = [(c.K, c.cam_from_world, c.size) for c in scene.cameras]
    reader = (getattr(scene.read, "role", None), getattr(scene.read, "invert", None))
    points = None if scene.points is None else key_of(scene.points.points)
    seen = (scene.source_from_world, scene.unit, scene.bounds, points, reader)
    source = key_of(__version__, fingerprint(sorted(paths)), views, cameras, seen)
    how = "given" if result.given else _matching_facts(result, matcher)
    depth = key_of(source, how)
    fuse = {name: value for name, value in asdict(fusing).items() if name != "max_memory"}
    learned = () if fuser is None else ("volume on planes, two pixels", fuser.sha256)
    return {
        "depth": depth,
        "mesh": key_of(depth, fuse, HULL_TRUNCATION, HULL_WEIGHT, *learned),
        "splats": key_of(depth, SPLATS[config.quality], config.seed),
    }


def _matching(result: Reconstruction) -> MultiviewConfig:
    """How photos are matched."""
    quality = result.config.quality
    if _shows_objects(result.opened):
        return MultiviewConfig(quality=quality)
    return MultiviewConfig(quality=quality, corrections=SCENE_CORRECTIONS)


def _matching_facts(
    result: Reconstruction, matcher: "Loaded[DepthNetwork] | None"
) -> dict[str, object]:
    """What decides depths that are matched."""
    facts: dict[str, object] = asdict(_matching(result))
    if result.config.refine:
        from crispdepth.models.engines import facts_of, make_completer

        facts["refine"] = facts_of(make_completer())
    if matcher is not None:
        facts["weights"] = matcher.sha256
    return facts


def _fusing(result: Reconstruction) -> FuseConfig:
    """How the mesh is made; without a voxel size, that is chosen later."""
    # Where only the object is wanted, what the photos show beside it is known to be empty.
    config, carve = result.config, _shows_objects(result.opened)
    fusing = FuseConfig(voxel=config.voxel, max_memory=config.max_memory, carve=carve)
    if result.given:
        return fusing
    return replace(
        fusing,
        truncation=MATCHED_TRUNCATION,
        min_weight=MATCHED_WEIGHT,
        smooth=MATCHED_SMOOTHING if config.fusion == "tsdf" else 0,  # the network smooths
    )


def _make_depths(
    result: Reconstruction,
    matcher: "Loaded[DepthNetwork] | None",
    stages: Stages,
    key: str,
    device: str,
    watch: Watch,
) -> None:
    """Depth of the views that have none yet."""
    scene, folder = result.scene, result.folder / DEPTHS
    whole = all(has_view_depth(folder, name) for name in scene.names)
    if whole and stages.is_done("depth", key):
        return
    import torch

    from crispdepth.tasks.multiview import estimate_depths
    from crispdepth.tasks.reconstruct import refined_depth

    config = result.config
    with stages.begin("depth", key, OUTPUTS["depth"]):
        missing = [i for i, name in enumerate(scene.names) if not has_view_depth(folder, name)]
        watch.say(f"finding the depth of {len(missing)} of {len(scene)} views")
        with watch.progress(len(missing)) as advance:
            depths = estimate_depths(
                scene,
                _matching(result),
                indices=missing,
                network=None if matcher is None else matcher.network,
                device=torch.device(device),
                note=watch.say,
            )
            for index, depth in depths:
                if config.refine:
                    depth = refined_depth(scene[index], depth)
                write_view_depth(folder, scene.names[index], depth)
                advance()


def _make_mesh(
    result: Reconstruction,
    fusing: FuseConfig,
    fuser: "Loaded[VolumeNetwork] | None",
    key: str,
    device: str,
    watch: Watch,
) -> None:
    """The mesh of the depths; ``key`` is all that it depends on."""
    from crispdepth.tasks.fuse import fuse, voxel_size
    from crispdepth.tasks.hull import MOST_SILHOUETTES, visual_hull
    from crispdepth.tasks.reconstruct import spread

    scene, usable = result.scene, result.with_depth
    hull = None
    if fusing.carve:
        hull = visual_hull(scene[i] for i in spread(len(scene), MOST_SILHOUETTES))
        if hull is None:
            watch.say(
                "the masks enclose no object, so the mesh stays open where no photo has a depth: "
                "they are of fewer than three photos, or reach the edge in most, or poses and "
                "masks do not agree about a place"
            )
        elif not result.given:
            fusing = replace(fusing, truncation=HULL_TRUNCATION, hull_weight=HULL_WEIGHT)
    if fusing.voxel is None:
        sampled = [usable[i] for i in spread(len(usable), SAMPLED)]
        fusing = replace(fusing, voxel=voxel_size(result.views(sampled), fusing, hull))
    watch.say(f"mesh with voxels of {fusing.voxel:.3g} {unit_of(scene)}")
    views = result.views(usable)
    if fuser is None:
        with watch.progress(len(usable)) as advance:
            mesh = fuse(views, fusing, hull=hull, device=device, on_view=advance)
    else:
        from crispdepth.api.learned_mesh import learned_mesh

        folder = result.folder / PUT_ASIDE / key  # what others have left there is never taken
        mesh = learned_mesh(
            views,
            len(usable),
            fuser.network,
            fusing,
            folder,
            hull=hull,
            device=device,
            watch=watch,
        )
    mesh = mesh_in_source(mesh, scene)
    write_mesh(result.folder / MESH, mesh)
    write_mesh(result.folder / GLB, mesh, up=up_of(scene))
    watch.say(f"{len(mesh.faces)} triangles")


def _make_splats(result: Reconstruction, device: str, watch: Watch) -> None:
    """The Gaussians of the depths and photos."""
    from crispdepth.tasks.reconstruct import make_splats, spread

    scene, config, usable = result.scene, result.config, result.with_depth
    chosen = [usable[i] for i in spread(len(usable), MOST_FITTED)]
    budget = SPLATS[config.quality]
    watch.say(f"Gaussians, fitted to {len(chosen)} photos in {budget.steps} steps")
    with watch.progress(budget.steps) as advance:
        gaussians = make_splats(result.views(chosen), config, device=device, on_step=advance)
    write_splats(result.folder / SPLATS_FILE, gaussians_in_source(gaussians, scene))
    watch.say(f"{len(gaussians)} Gaussians")
