"""``crispdepth fuse``: the depths of a scene's views as one mesh."""

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitArgPrefixes, Positional, arg

from crispdepth.cli.errors import ExitCode, UsageError
from crispdepth.cli.terminal import Terminal
from crispdepth.tasks.fuse_config import FuseConfig

if TYPE_CHECKING:
    from crispdepth.types import Scene, View, ViewDepth

_SAMPLED = 8  # views that the voxel size is chosen by


@dataclass(frozen=True)
class FuseOptions:
    """Fuse the depths that a scene's views hold into one mesh.

    `crispdepth fuse scene -o mesh.ply`
    Needs pip install "crispdepth[torch]".
    """

    # Folder of the scene: photos with cameras and depth maps.
    scene: Positional[Path]

    # How depths become a surface.
    config: OmitArgPrefixes[FuseConfig] = field(default_factory=FuseConfig)

    # Where to compute: cpu, cuda or another name of torch.
    device: str = "cpu"

    # The mesh to write: .ply and .obj in the frame of the scene, .glb upright.
    out: Annotated[Path, arg(aliases=["-o"], metavar="FILE")] = Path("mesh.ply")

    # Replace the file if it exists.
    overwrite: bool = False

    # Say nothing but errors.
    quiet: Annotated[bool, arg(aliases=["-q"])] = False


def run(options: FuseOptions) -> int:
    """Run ``crispdepth fuse`` and return its exit code.

    Raises:
        UsageError: the name of the mesh has another suffix.
        OSError, ValueError, ImportError: the scene cannot be read or fused, or the mesh not
            written.
    """
    from crispdepth.io.meshes import SUFFIXES, write_mesh

    _check_output(options.out, SUFFIXES, options.overwrite)

    import numpy as np

    from crispdepth.api.scene import mesh_in_source, up_of
    from crispdepth.io.scenes import read_scene
    from crispdepth.tasks.fuse import fuse, voxel_size

    terminal = Terminal(options.quiet, json=False, bar=True)
    scene = read_scene(options.scene)
    terminal.say(*scene.notes)
    config = options.config
    if config.voxel is None:
        chosen = np.unique(np.linspace(0, len(scene) - 1, _SAMPLED).round().astype(int))
        sampled = measured_views(scene.subset(chosen.tolist()))
        config = replace(config, voxel=voxel_size(sampled, config))
        terminal.say(f"voxels of {config.voxel:.3g} {scene.unit} (--voxel)")
    with terminal.progress(len(scene)) as on_view:
        mesh = fuse(measured_views(scene), config, device=options.device, on_view=on_view)
    write_mesh(options.out, mesh_in_source(mesh, scene), up=up_of(scene))
    terminal.say(f"{len(mesh.vertices)} vertices, {len(mesh.faces)} triangles")
    print(options.out)
    return ExitCode.OK


def measured_views(scene: "Scene") -> "Iterator[tuple[View, ViewDepth]]":
    """The views of a scene that hold depth, each pixel of it fully trusted.

    Raises:
        ValueError: none has any, or one holds something else than depth in the scene's unit.
    """
    import numpy as np

    from crispdepth.types import ViewDepth

    found = False
    for view in scene:
        if view.depth is None:
            continue
        found = True
        yield view, ViewDepth(view.depth, view.depth.usable.astype(np.float32))
    if not found:
        raise ValueError(
            f"No view of {scene.name} holds depth. `crispdepth reconstruct` computes it from the "
            "photos."
        )


def _check_output(path: Path, suffixes: tuple[str, ...], overwrite: bool) -> None:
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"-o {path}: the name must end in {', '.join(suffixes)}.")
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder; name a file", str(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(
            errno.ENOENT, "there is no such folder; make it first", str(path.parent)
        )
    if path.exists() and not overwrite:
        raise FileExistsError(errno.EEXIST, "--overwrite is needed to replace", str(path))
