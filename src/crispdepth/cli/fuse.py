"""``crispdepth fuse``: the depths of a scene's views as one mesh."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitArgPrefixes, arg

from crispdepth.cli.errors import ExitCode, UsageError
from crispdepth.cli.layered import check_output
from crispdepth.cli.scene_input import SceneOptions, open_input
from crispdepth.cli.terminal import Terminal
from crispdepth.cli.torch_extra import require_device, require_torch
from crispdepth.tasks.fuse_config import FuseConfig
from crispdepth.tasks.multiview_config import LONGER_SIDE
from crispdepth.tasks.reconstruct_config import Fusion

if TYPE_CHECKING:
    from crispdepth.types import View


@dataclass(frozen=True)
class FuseOptions(SceneOptions):
    """Fuse the depths that a scene's views hold into one mesh.

    `crispdepth fuse scene -o mesh.ply`
    Needs pip install "crispdepth[torch]".
    """

    # How depths become a mesh: averaged as signed distances, or by the network of volumetric
    # fusion, which reads the photos, too; without --longest at 640 pixels.
    fusion: Fusion = "tsdf"

    # Weights of that network: a folder by `crispdepth train export` of a run of `crispdepth train
    # volume`. Without it, the shipped ones.
    fusion_weights: str | None = None

    # How depths become a surface.
    config: OmitArgPrefixes[FuseConfig] = field(default_factory=FuseConfig)

    # A mesh for each object that has masks of its own, in a volume of its own: mesh.NAME.ply, with
    # _ for what is no letter or digit.
    each_object: bool = False

    # Where to compute: cpu, cuda or another name of torch.
    device: str = "cpu"

    # The mesh to write: .ply and .obj in the frame of the scene, .glb upright.
    out: Annotated[Path, arg(aliases=["-o"], metavar="FILE")] = Path("mesh.ply")

    # Replace the file if it exists.
    overwrite: bool = False


def run(options: FuseOptions) -> int:
    """Run ``crispdepth fuse`` and return its exit code.

    Raises:
        UsageError: the name of the mesh has another suffix, or options do not fit together.
        OSError, ValueError, ImportError: the scene cannot be read or fused, or the mesh not
            written.
    """
    from crispdepth.io.meshes import SUFFIXES, write_mesh

    if options.fusion_weights is not None and options.fusion != "volume":
        raise UsageError("--fusion-weights are those of --fusion volume.")
    if options.fusion == "volume" and options.config.truncation != FuseConfig.truncation:
        raise UsageError(
            "--truncation is of --fusion tsdf: a network fuses with that of its training."
        )
    if options.each_object and options.config.only is not None:
        raise UsageError("--only names one object, --each-object takes all; choose one of them.")
    apart = options.each_object or options.config.only is not None
    if apart and options.mask_role == "ignore":
        raise UsageError("--each-object and --only are of masks that say what an object is.")
    check_output(options.out, SUFFIXES, overwrite=options.overwrite or options.each_object)
    require_torch("Fusion")
    require_device(options.device)

    from crispdepth.api.reconstruction import given_views, measured
    from crispdepth.api.scene import SAMPLED
    from crispdepth.api.source_frame import mesh_in_source, up_of
    from crispdepth.tasks.fuse import fuse, voxel_size
    from crispdepth.tasks.reconstruct import spread

    opened = open_input(_as_network_sees(options))
    scene, usable = opened.scene, measured(opened)
    terminal = Terminal(options.quiet, json=False, bar=not options.no_progress)
    terminal.say(*scene.notes)
    config, network = options.config, None
    shown: dict[str | None, list[int]] = {None: usable}  # the views that each object is in
    if apart:
        objects = _objects((index, scene[index]) for index in usable)
        shown = {name: objects[name] for name in objects if config.only in (None, name)}
        if not shown:
            wanted = "has a mask of an object" if config.only is None else f"shows {config.only!r}"
            there = f"; there are {', '.join(objects)}" if objects else ""
            raise ValueError(f"No view with depth {wanted}{there}.")
    outs: dict[str | None, Path] = dict.fromkeys(shown, options.out)
    if options.each_object:
        outs = {name: _named(options.out, str(name)) for name in shown}
        if len({str(out).casefold() for out in outs.values()}) < len(outs):
            raise ValueError(
                f"Some of these names make the same file name: {', '.join(map(str, outs))}."
            )
        for out in outs.values():
            check_output(out, SUFFIXES, overwrite=options.overwrite)
    if options.fusion == "volume":
        from crispdepth.api.networks import load_fusion_network

        network = load_fusion_network(
            options.fusion_weights, scene.cameras, config.max_memory
        ).network
    device = options.device

    def make(name: str | None, out: Path) -> None:
        usable, object_config = shown[name], replace(config, only=name)
        if config.voxel is None:
            chosen = [usable[i] for i in spread(len(usable), SAMPLED)]
            voxel = voxel_size(given_views(scene, chosen), object_config)
            object_config = replace(object_config, voxel=voxel)
            of = "" if name is None else f"{name}: "
            terminal.say(f"{of}voxels of {voxel:.3g} {scene.unit} (--voxel)")
        views = given_views(scene, usable)
        if network is None:
            with terminal.progress(len(usable)) as on_view:
                mesh = fuse(views, object_config, device=device, on_view=on_view)
        else:
            from crispdepth.api.learned_mesh import learned_mesh

            with TemporaryDirectory(prefix="crispdepth-") as folder:
                mesh = learned_mesh(
                    views, len(usable), network, object_config, folder, device=device,
                    watch=terminal,
                )  # fmt: skip
        write_mesh(out, mesh_in_source(mesh, scene), up=up_of(scene))
        terminal.say(f"{len(mesh.vertices)} vertices, {len(mesh.faces)} triangles")
        print(out)

    failed = 0
    for name, out in outs.items():
        try:
            make(name, out)
        except ValueError as error:
            if len(outs) == 1:
                raise
            failed += 1
            terminal.warn(f"error: {name}: {error}")
    if failed == len(outs):
        raise ValueError(f"None of {len(outs)} objects could be fused.")
    return ExitCode.PARTIAL if failed else ExitCode.OK


def _objects(views: Iterable[tuple[int, "View"]]) -> dict[str, list[int]]:
    """The views that have a mask of each object, in the order in which these come up."""
    found: dict[str, list[int]] = {}
    for index, view in views:
        for name in () if view.masks is None else view.masks.names:
            found.setdefault(name, []).append(index)
    return found


def _named(out: Path, name: str) -> Path:
    """The mesh of one object beside the others."""
    plain = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)
    return out.with_name(f"{out.stem}.{plain}{out.suffix}")


def _as_network_sees(options: FuseOptions) -> FuseOptions:
    """If no size is said, the network gets photos of that of `reconstruct --quality normal`."""
    if options.fusion == "tsdf" or options.longest is not None:
        return options
    return replace(options, longest=LONGER_SIDE["normal"])
