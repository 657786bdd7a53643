"""What a reconstruction is: files in a folder, and the depths that it was made from."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from crispdepth.io.meshes import read_mesh
from crispdepth.io.scenes import OpenScene
from crispdepth.io.splats import read_splats
from crispdepth.io.view_depths import read_view_depth
from crispdepth.tasks.reconstruct_config import ReconstructConfig, What
from crispdepth.types import Gaussians, Mesh, Scene, View, ViewDepth

DEPTHS, MESH, GLB, SPLATS_FILE = "depth", "mesh.ply", "mesh.glb", "splats.ply"


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What was made of a scene, in a folder; large things are read when they are asked for."""

    folder: Path
    opened: OpenScene
    config: ReconstructConfig  # with the method that was chosen, if it was "auto"
    made: frozenset[What] = frozenset()  # what is there, and of these photos and settings
    seconds: Mapping[str, float] = field(default_factory=dict)  # of each stage, over all runs

    @property
    def scene(self) -> Scene:
        """The scene, in its world; the mesh and the Gaussians are in the frame of the source."""
        return self.opened.scene

    @property
    def given(self) -> bool:
        """Whether the depths are those that the scene's views hold."""
        return self.config.method == "given"

    @property
    def with_depth(self) -> list[int]:
        """The views that have a depth: all, if it was matched."""
        return measured(self.opened) if self.given else list(range(len(self.scene)))

    def depth(self, index: int) -> ViewDepth:
        """The depth of view ``index``.

        Raises:
            OSError, ValueError: it was not made, or cannot be read.
        """
        if self.given:
            return given_depth(self.scene[index])
        camera = self.scene.cameras[index]
        return read_view_depth(self.folder / DEPTHS, self.scene.names[index], camera)

    def views(self, indices: Iterable[int]) -> Iterator[tuple[View, ViewDepth]]:
        """Views with their depths."""
        if self.given:
            yield from given_views(self.scene, indices)
        else:
            yield from ((self.scene[index], self.depth(index)) for index in indices)

    @cached_property
    def mesh(self) -> Mesh | None:
        """The mesh in the frame and scale of the source; None if there is none."""
        return read_mesh(self.folder / MESH) if "mesh" in self.made else None

    @cached_property
    def gaussians(self) -> Gaussians | None:
        """The Gaussians in the frame and scale of the source; None if there are none."""
        return read_splats(self.folder / SPLATS_FILE) if "splats" in self.made else None


def given_depth(view: View) -> ViewDepth:
    """The depth that a view holds, fully trusted.

    Raises:
        ValueError: it holds none.
    """
    if view.depth is None:
        raise ValueError(f"View {view.name} holds no depth; let it be made (--method classical).")
    return ViewDepth(view.depth, view.depth.usable.astype(np.float32))


def given_views(scene: Scene, indices: Iterable[int]) -> Iterator[tuple[View, ViewDepth]]:
    """Views with the depth that they hold, see `given_depth` and `measured`."""
    for index in indices:
        view = scene[index]
        yield view, given_depth(view)


def measured(opened: OpenScene) -> list[int]:
    """The views that hold depth.

    Raises:
        ValueError: none does.
    """
    found = [index for index, view in enumerate(opened.files) if view.depth is not None]
    if not found:
        raise ValueError(
            f"No view of {opened.scene.name} holds depth. `crispdepth multiview` finds it in the "
            "photos, for --depths; `crispdepth reconstruct` does all in one."
        )
    return found
