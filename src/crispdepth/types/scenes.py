"""What a reconstruction starts from and ends in: scenes, depths of views, meshes, Gaussians.

Points are world coordinates in the unit of the scene, axes as the cameras of the scene have them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from crispdepth.types.photos import (
    BoolMap,
    Camera,
    DepthMap,
    Float32Map,
    Unit,
    View,
    readonly,
    set_fields,
)


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Coloured points.

    Raises:
        ValueError: wrong shapes, or a point is not finite.
    """

    points: NDArray[np.float32]  # (n, 3), world
    colours: NDArray[np.uint8] | None = None  # (n, 3), sRGB

    def __post_init__(self) -> None:
        _check_rows("PointCloud.points", self.points, 3)
        if self.colours is not None and self.colours.shape != self.points.shape:
            raise ValueError(f"{len(self.points)} points, but colours are {self.colours.shape}.")
        set_fields(self, points=readonly(np.asarray(self.points, np.float32)))

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh; faces are counter-clockwise seen from outside.

    Raises:
        ValueError: wrong shapes, a vertex is not finite, or a face names a vertex there is not.
    """

    vertices: NDArray[np.float32]  # (n, 3), world
    faces: NDArray[np.int32]  # (m, 3), indices of vertices
    colours: NDArray[np.uint8] | None = None  # (n, 3), sRGB

    def __post_init__(self) -> None:
        _check_rows("Mesh.vertices", self.vertices, 3)
        faces = np.asarray(self.faces)
        if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu":
            raise ValueError(f"Mesh.faces must be (m, 3) integers, got {faces.shape}.")
        if faces.size and not 0 <= faces.min() <= faces.max() < len(self.vertices):
            raise ValueError(
                f"Faces name vertices {faces.min()} to {faces.max()} of {len(self.vertices)}."
            )
        if self.colours is not None and self.colours.shape != self.vertices.shape:
            raise ValueError(
                f"{len(self.vertices)} vertices, but colours are {self.colours.shape}."
            )
        set_fields(
            self,
            vertices=readonly(np.asarray(self.vertices, np.float32)),
            faces=readonly(faces.astype(np.int32, copy=False)),
        )


@dataclass(frozen=True, eq=False)
class Gaussians:
    """Anisotropic 3-D Gaussians with view-dependent colour.

    Raises:
        ValueError: wrong shapes, values that are not finite, or out of their range.
    """

    means: NDArray[np.float32]  # (n, 3), world
    scales: NDArray[np.float32]  # (n, 3), standard deviations > 0 along the axes of `rotations`
    rotations: NDArray[np.float32]  # (n, 4), unit quaternions w x y z: world from the axes
    opacities: NDArray[np.float32]  # (n,), in [0, 1]
    # (n, (degree + 1)^2, 3), real spherical harmonics of sRGB - 0.5, order of 3DGS
    sh: NDArray[np.float32]
    # (n,), 0 = background or no object; the number of the object's mask, from 1, otherwise
    labels: NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        count = len(self.means)
        for name, columns in (("means", 3), ("scales", 3), ("rotations", 4)):
            _check_rows(f"Gaussians.{name}", getattr(self, name), columns, count)
        sh = np.asarray(self.sh)
        if sh.ndim != 3 or sh.shape[0] != count or sh.shape[1] not in (1, 4, 9, 16):
            raise ValueError(f"Gaussians.sh must be ({count}, 1|4|9|16, 3), got {sh.shape}.")
        for name, shape in (("opacities", (count,)), ("labels", (count,))):
            value = getattr(self, name)
            if value is not None and value.shape != shape:
                raise ValueError(f"Gaussians.{name} must be {shape}, got {value.shape}.")
        if not (np.isfinite(sh).all() and np.isfinite(self.opacities).all()):
            raise ValueError("Opacities and spherical harmonics must be finite.")
        if count and not (self.opacities.min() >= 0 and self.opacities.max() <= 1):
            raise ValueError("Opacities are in [0, 1].")
        if count and self.scales.min() <= 0:
            raise ValueError("Scales are standard deviations, so > 0.")
        for name in ("means", "scales", "rotations", "opacities", "sh"):
            set_fields(self, **{name: readonly(np.asarray(getattr(self, name), np.float32))})

    def __len__(self) -> int:
        return len(self.means)


@dataclass(frozen=True, eq=False)
class ViewDepth:
    """The depth of one view as a multi-view method sees it, and how far to trust it.

    Raises:
        ValueError: the confidence has another size, or values outside [0, 1].
    """

    depth: DepthMap  # kind depth, in the unit of the scene
    # (h, w) in [0, 1]; 0 where depth is invalid, and where it was only filled
    confidence: Float32Map = field(repr=False)

    def __post_init__(self) -> None:
        if self.confidence.shape != self.depth.size:
            raise ValueError(
                f"The confidence is {self.confidence.shape}, the depth map {self.depth.size}."
            )
        if not (self.confidence.min() >= 0 and self.confidence.max() <= 1):
            raise ValueError("Confidences are in [0, 1].")
        confidence = np.where(self.depth.usable, self.confidence, 0).astype(np.float32)
        set_fields(self, confidence=readonly(confidence))

    @property
    def trusted(self) -> BoolMap:
        """Whether a depth is evidence, bool (h, w): valid, and not only filled."""
        return np.asarray(self.confidence > 0)


@dataclass(frozen=True, eq=False)
class Scene:
    """Posed photos of one place or thing. Cameras are there; pixels are read when asked for.

    ``scene[i]`` reads view ``i``: photo, camera, masks (None: unknown, not empty) and, where the
    source has it, depth. Distortion is gone and everything fits the camera. The unit is ``m``
    where the source states metres, otherwise ``relative``: its own unit of length.

    Raises:
        ValueError: the numbers of names and cameras differ, names repeat, or a bound makes no
            sense.
    """

    name: str
    names: tuple[str, ...]  # of the views: file names relative to the photos, with suffix
    cameras: tuple[Camera, ...]
    read: Callable[[int], View] = field(repr=False)
    unit: Unit = "m"
    bounds: tuple[float, float] | None = None  # nearest and farthest depth that is of interest
    points: PointCloud | None = None  # sparse points of the source
    mesh: Callable[[], Mesh] | None = field(default=None, repr=False)  # the true surface, if known
    # (4, 4) similarity from this world to the frame and scale of the source, for writing back
    source_from_world: NDArray[np.float64] = field(default_factory=lambda: np.eye(4), repr=False)
    notes: tuple[str, ...] = ()  # what the user should know: what was left out, what was assumed

    def __post_init__(self) -> None:
        if len(self.names) != len(self.cameras):
            raise ValueError(f"{len(self.names)} names for {len(self.cameras)} cameras.")
        if len(set(self.names)) != len(self.names):
            raise ValueError("The names of the views of a scene must differ.")
        if self.unit not in get_args(Unit):
            raise ValueError(f"The unit must be one of {get_args(Unit)}, got {self.unit!r}.")
        if self.bounds is not None and not 0 < self.bounds[0] < self.bounds[1]:
            raise ValueError(f"Bounds are 0 < near < far, got {self.bounds}.")

    def __len__(self) -> int:
        return len(self.cameras)

    def __getitem__(self, index: int) -> View:
        """The view of that number, read now."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"The scene has {len(self)} views, there is no view {index}.")
        return self.read(int(index) % len(self))

    def __iter__(self) -> Iterator[View]:
        return (self.read(index) for index in range(len(self)))

    def subset(self, indices: Sequence[int]) -> "Scene":
        """The scene with only these views, in this order."""
        chosen = tuple(range(len(self))[index] for index in indices)
        return replace(
            self,
            names=tuple(self.names[i] for i in chosen),
            cameras=tuple(self.cameras[i] for i in chosen),
            read=lambda index: self.read(chosen[index]),
        )


def scene_of_views(views: Sequence[View], name: str = "scene", unit: Unit = "m") -> Scene:
    """A scene whose views are in memory.

    Raises:
        ValueError: a view has no camera, or two have the same name.
    """
    cameras = tuple(view.camera for view in views if view.camera is not None)
    if len(cameras) != len(views):
        raise ValueError(f"{len(views) - len(cameras)} of {len(views)} views have no camera.")
    names = tuple(view.name or f"{i:04}.png" for i, view in enumerate(views))
    return Scene(name, names, cameras, lambda index: views[index], unit)


def _check_rows(
    name: str, value: NDArray[np.float32], columns: int, count: int | None = None
) -> None:
    if value.ndim != 2 or value.shape[1] != columns or (count is not None and len(value) != count):
        rows = "n" if count is None else count
        raise ValueError(f"{name} must be ({rows}, {columns}), got {value.shape}.")
    if not np.isfinite(value).all():
        raise ValueError(f"{name} must be finite.")
