"""What a renderer is given: triangles, surfaces, instance ids, lamps, sky and places to stand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crispdepth.data.scenes3d.atlas import CAPACITY, Atlas, lay_out, to_atlas
from crispdepth.data.scenes3d.shapes import Array, Mesh, merge
from crispdepth.data.scenes3d.sky import Panorama
from crispdepth.data.scenes3d.textures import Finish, Picture, Surface, draw_surface
from crispdepth.data.scenes3d.things import Thing

STRUCTURE = 0
"""The instance id of walls, floor, ceiling and everything else that is no thing."""

MAX_INSTANCES = 255  # ids are stored in 8 bits


class Lamp(NamedTuple):
    """Triangles that emit light."""

    mesh: Mesh
    radiance: Array  # (3,) linear RGB
    instance: int


@dataclass(frozen=True, eq=False)
class Scene:
    """Geometry in world axes (z up, metres) with everything a renderer needs."""

    mesh: Mesh  # all that emits no light; texture coordinates in the atlas
    instances: NDArray[np.int32]  # (m,) id of each triangle of `mesh`; 0 = structure
    names: Mapping[int, str]  # what each id is
    atlas: Atlas
    lamps: tuple[Lamp, ...]
    sky: Panorama
    eyes: Array  # (n, 3) places where a camera may be
    targets: Array  # (n, 3) and what it may look at from there

    def whole(self) -> tuple[Mesh, NDArray[np.int32]]:
        """All triangles, those of the lamps last and in their order, and the id of each."""
        meshes = [self.mesh, *(lamp.mesh for lamp in self.lamps)]
        ids = [np.full(len(lamp.mesh.faces), lamp.instance, np.int32) for lamp in self.lamps]
        return merge(meshes), np.concatenate([self.instances, *ids])


@dataclass(eq=False)
class SceneBuilder:
    """Collects things, and gives each of them surfaces of its own until the atlas is full."""

    rng: np.random.Generator
    photos: Sequence[Picture]
    names: dict[int, str] = field(default_factory=dict)  # of the instances so far
    _lamps: list[Lamp] = field(default_factory=list)
    _meshes: list[Mesh] = field(default_factory=list)
    _instances: list[NDArray[np.int32]] = field(default_factory=list)
    _surfaces: list[tuple[Finish | Surface, Surface]] = field(default_factory=list)

    def add(self, name: str, thing: Thing, *, glow: float = 0.0) -> None:
        """Add a thing as a new instance, unless there are `MAX_INSTANCES` already.

        Its glowing parts emit ``glow`` as radiance; 0 switches them off.
        """
        if len(self.names) < MAX_INSTANCES:
            instance = len(self.names) + 1
            self.names[instance] = name
            self._put(thing, instance, glow)

    def add_structure(self, thing: Thing, *, glow: float = 0.0) -> None:
        """Add walls and the like, which are no instance."""
        self._put(thing, STRUCTURE, glow)

    def build(self, sky: Panorama, eyes: Array, targets: Array) -> Scene:
        """The scene of all that was added."""
        return Scene(
            mesh=merge(self._meshes),
            instances=np.concatenate(self._instances),
            names=dict(self.names),
            atlas=lay_out([surface for _, surface in self._surfaces]),
            lamps=tuple(self._lamps),
            sky=sky,
            eyes=eyes,
            targets=targets,
        )

    def _put(self, thing: Thing, instance: int, glow: float) -> None:
        chosen: dict[Finish, int] = {}
        for mesh, finish in thing.parts:
            if finish == "glow" and glow > 0:
                # From daylight to candle light.
                tint = 1 - self.rng.uniform(0, 0.35) * np.array([0, 0.4, 1.0])
                self._lamps.append(Lamp(mesh, glow * tint, instance))
                continue
            if isinstance(finish, Surface):
                index = self._number(finish)
            else:
                index = chosen.setdefault(finish, -1)
                if index < 0:
                    index = chosen[finish] = self._number(finish)
            self._meshes.append(mesh._replace(uv=to_atlas(mesh.uv, index)))
            self._instances.append(np.full(len(mesh.faces), instance, np.int32))

    def _number(self, wanted: Finish | Surface) -> int:
        """The number of a new surface; of an old one of that kind if the atlas is full."""
        same = [index for index, (kind, _) in enumerate(self._surfaces) if kind is wanted]
        if isinstance(wanted, Surface) and same:
            return same[0]
        if len(self._surfaces) == CAPACITY:
            return int(self.rng.choice(same or CAPACITY))
        drawn = (
            wanted if isinstance(wanted, Surface) else draw_surface(self.rng, wanted, self.photos)
        )
        self._surfaces.append((wanted, drawn))
        return len(self._surfaces) - 1
