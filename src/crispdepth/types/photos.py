"""Values of one photo: camera, depth, masks, layers, the refined depth.

Their arrays refuse writes, but large ones are not copied: whoever goes on writing to the array
that a value was built from changes the value, and passes a copy if that must not be.

Sizes are ``(height, width)``; the centre of the top-left pixel is ``(0.5, 0.5)``.
Wherever a map has a measured and an unmeasured part, ``valid`` says which is which and the
unmeasured part holds 0: no NaN or infinity travels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

Kind = Literal["depth", "inverse_depth"]
"""What a value means: z-depth (larger = farther) or 1 / z-depth (larger = nearer)."""

Unit = Literal["m", "relative"]
"""``m``: metres (or 1/metres for inverse depth). ``relative``: unknown scale, and for inverse
depth unknown shift."""

MaskRole = Literal["object", "ignore"]
"""``object``: what the user means. ``ignore``: pixels that are no evidence for anything."""

Size = tuple[int, int]
Float32Map = NDArray[np.float32]  # (h, w)
BoolMap = NDArray[np.bool_]  # (h, w)


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera, OpenCV axes: x right, y down, z forward.

    ``cam_from_world`` reads right to left: ``x_cam = cam_from_world @ x_world``. The centre of
    the top-left pixel is (0.5, 0.5), so resizing an image only scales ``K``.

    Raises:
        ValueError: a shape is wrong, ``K`` is singular, or a value is not finite.
    """

    K: NDArray[np.float64]  # (3, 3), pixels
    size: Size  # (height, width), pixels
    cam_from_world: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))  # metres

    def __post_init__(self) -> None:
        set_fields(self, K=readonly(np.asarray(self.K, np.float64)))
        set_fields(self, cam_from_world=readonly(np.asarray(self.cam_from_world, np.float64)))
        set_fields(self, size=(int(self.size[0]), int(self.size[1])))
        for name, value, shape in (
            ("K", self.K, (3, 3)),
            ("cam_from_world", self.cam_from_world, (4, 4)),
        ):
            if value.shape != shape or not np.isfinite(value).all():
                raise ValueError(f"Camera.{name} must be a finite {shape} matrix, got {value!r}.")
        if min(self.size) < 1:
            raise ValueError(f"Camera.size must be positive (height, width), got {self.size}.")
        if abs(np.linalg.det(self.K)) < 1e-12:
            raise ValueError(f"Camera.K must be invertible, got {self.K.tolist()}.")

    def resized(self, size: Size) -> "Camera":
        """The same camera for an image resized to ``size`` (height, width)."""
        (height, width), (new_height, new_width) = self.size, size
        scale = np.array([new_width / width, new_height / height, 1.0])
        return replace(self, K=scale[:, None] * self.K, size=size)


@dataclass(frozen=True, eq=False)
class DepthMap:
    """A depth or inverse-depth map that says what its numbers mean.

    Values that are not finite become invalid, and so does anything that cannot be a distance:
    values <= 0 of kind ``depth`` (or too small to have an inverse), values < 0 of kind
    ``inverse_depth`` in 1/m. A *relative* inverse depth has an unknown shift, so its zero and
    negative values are kept. Invalid pixels hold 0.

    Raises:
        ValueError: wrong shapes, or an unknown kind or unit.
    """

    values: Float32Map  # (h, w)
    kind: Kind
    unit: Unit = "relative"
    valid: BoolMap | None = None  # (h, w); None: every usable value is valid
    camera: Camera | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"Depth kind must be one of {get_args(Kind)}, got {self.kind!r}.")
        if self.unit not in get_args(Unit):
            raise ValueError(f"Depth unit must be one of {get_args(Unit)}, got {self.unit!r}.")
        values = np.asarray(self.values)
        if values.ndim != 2 or values.size == 0:
            raise ValueError(f"A depth map is a non-empty (h, w) array, got {values.shape}.")
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf, hence invalid
            values = values.astype(np.float32, copy=False)
        usable = np.isfinite(values)
        if self.kind == "depth":
            usable &= values >= np.finfo(np.float32).tiny  # its inverse is finite
        elif self.unit == "m":
            usable &= values >= 0
        if self.valid is not None:
            valid = np.asarray(self.valid, bool)
            if valid.shape != values.shape:
                raise ValueError(f"valid is {valid.shape}, the depth map is {values.shape}.")
            usable &= valid
        if not usable.all():
            values = np.where(usable, values, np.float32(0))
        if self.camera is not None and self.camera.size != values.shape:
            raise ValueError(
                f"The camera is for {self.camera.size}, the depth map is {values.shape}; "
                "use camera.resized(size)."
            )
        set_fields(self, values=readonly(values), valid=readonly(usable))

    def __repr__(self) -> str:
        return (
            f"DepthMap(size={self.size}, kind={self.kind!r}, unit={self.unit!r}, "
            f"valid={self.usable.mean():.1%}, camera={self.camera!r})"
        )

    @property
    def size(self) -> Size:
        """(height, width) in pixels."""
        height, width = self.values.shape
        return height, width

    @property
    def usable(self) -> BoolMap:
        """Where a value was measured, (h, w) bool: ``valid`` with its type narrowed."""
        assert self.valid is not None  # set in __post_init__
        return self.valid


@dataclass(frozen=True, eq=False)
class MaskSet:
    """Soft masks of one photo, all of one role.

    Indexing gives mask ``i`` as float32 in [0, 1] with 1 = inside. The values are kept as stored
    (integers count from 0 to the largest value of their type) because many masks of a large
    photo would not fit as floats.

    Raises:
        ValueError: wrong shape or type, values outside the range, names that do not fit.
    """

    # (n, h, w); kept as uint8, uint16 or float32
    values: NDArray[np.bool_] | NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.floating[Any]]
    names: tuple[str, ...] = ()
    role: MaskRole = "object"

    def __post_init__(self) -> None:
        values: NDArray[Any] = np.asarray(self.values)
        if values.dtype == bool:
            values = values.astype(np.uint8) * np.uint8(255)
        elif values.dtype.kind == "f":
            values = values.astype(np.float32, copy=False)
            if not (np.isfinite(values).all() and values.min(initial=0) >= 0):
                raise ValueError("Mask values must be finite and >= 0.")
            if values.max(initial=0) > 1:
                raise ValueError(
                    f"Float masks are in [0, 1], got a value of {values.max():g}; "
                    "divide by its full scale or pass uint8 or uint16."
                )
        elif values.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"Masks are bool, uint8, uint16 or float, got {values.dtype}.")
        if values.ndim != 3 or 0 in values.shape[1:]:
            raise ValueError(f"A mask set is an (n, h, w) array, got {values.shape}.")
        if self.role not in get_args(MaskRole):
            raise ValueError(f"Mask role must be one of {get_args(MaskRole)}, got {self.role!r}.")
        names = tuple(self.names) or tuple(f"mask{i}" for i in range(len(values)))
        if len(names) != len(values) or len(set(names)) != len(names):
            raise ValueError(f"Need {len(values)} distinct mask names, got {names}.")
        set_fields(self, values=readonly(values), names=names)

    def __repr__(self) -> str:
        stored = f"{self.values.shape} {self.values.dtype}"
        return f"MaskSet({stored}, names={self.names}, role={self.role!r})"

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> Float32Map:
        mask = self.values[index]
        if np.issubdtype(mask.dtype, np.floating):
            return np.asarray(mask, np.float32)
        scaled: Float32Map = np.divide(mask, np.iinfo(mask.dtype).max, dtype=np.float32)
        return scaled

    @property
    def size(self) -> Size:
        """(height, width) in pixels."""
        _, height, width = self.values.shape
        return height, width


@dataclass(frozen=True, eq=False)
class View:
    """One photo and what is known about it; every map has the size of the photo.

    Raises:
        ValueError: the photo is not (h, w, 3) uint8 or uint16, or a part has another size.
    """

    image: NDArray[np.uint8] | NDArray[np.uint16] = field(repr=False)  # (h, w, 3), sRGB
    name: str = ""
    camera: Camera | None = None
    depth: DepthMap | None = None
    masks: MaskSet | None = None

    def __post_init__(self) -> None:
        image = np.asarray(self.image)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.uint16):
            raise ValueError(
                f"A photo is (h, w, 3) uint8 or uint16, got {image.shape} {image.dtype}."
            )
        size = image.shape[:2]
        for part in (self.camera, self.depth, self.masks):
            if part is not None and part.size != size:
                raise ValueError(f"{type(part).__name__} is {part.size}, the photo is {size}.")
        set_fields(self, image=readonly(image))


class Completion(NamedTuple):
    """What a `LayerCompleter` returns, both (h, w) float32."""

    layer: Float32Map  # inverse depth of the layer, defined on the whole frame
    # 0..1: how much of the layer replaces the input; 0 keeps it exactly, where mask >= 0.5.
    gate: Float32Map


class LayerCompleter(Protocol):
    """Completes one layer: what depth would be if only the masked thing were there.

    ``R(D, I, M)`` of *Layered Depth Refinement with Mask Guidance* (eq. 1-2): correct the region
    where the mask is 1 and continue it over the region where it is 0. Calling it with ``1 - M``
    gives the other layer. Kind, scale, resolution, soft masks and several masks are the caller's
    business (`crispdepth.tasks.refine`).
    """

    @property
    def name(self) -> str:
        """What the completer is called in results and tables."""
        ...

    @property
    def resolution(self) -> int:
        """Length in pixels of the longer image side at which the completer works best."""
        ...

    def __call__(
        self, image: NDArray[np.float32], inverse_depth: Float32Map, mask: Float32Map
    ) -> Completion:
        """Complete one layer.

        Args:
            image: (h, w, 3) sRGB in [0, 1].
            inverse_depth: (h, w) in [0, 10], larger = nearer, finite everywhere.
            mask: (h, w) in [0, 1], 1 = belongs to this layer.
        """
        ...


@dataclass(frozen=True, eq=False)
class LayerPair:
    """The two layers at one mask, both defined on the whole frame, in the depth's kind and unit.

    ``alpha * foreground + (1 - alpha) * background``, blended in inverse depth, is the depth
    refined with this mask (eq. 3 of the paper).
    """

    name: str
    alpha: Float32Map = field(repr=False)  # (h, w) in [0, 1]: the mask
    foreground: Float32Map = field(repr=False)  # (h, w)
    background: Float32Map = field(repr=False)  # (h, w)

    def __post_init__(self) -> None:
        for name in ("alpha", "foreground", "background"):
            set_fields(self, **{name: readonly(getattr(self, name))})


@dataclass(frozen=True, eq=False)
class RefinedDepth:
    """The answer of `crispdepth.refine`.

    ``gate`` is 0 where the input was kept bit for bit; ``confidence`` is 1 there and falls with
    the share of a refined value that is not supported by kept pixels of its own layer nearby.
    """

    image: NDArray[np.uint8] | NDArray[np.uint16] = field(repr=False)  # (h, w, 3), sRGB
    initial: DepthMap
    depth: DepthMap  # same kind, unit, camera as `initial`
    masks: MaskSet
    layers: tuple[LayerPair, ...]  # one per mask that was used; empty if they were not kept
    confidence: Float32Map = field(repr=False)  # (h, w) in [0, 1]
    gate: Float32Map = field(repr=False)  # (h, w) in [0, 1]
    notes: tuple[str, ...] = ()  # what the user should know: warnings, assumptions

    def __post_init__(self) -> None:
        for name in ("image", "confidence", "gate"):
            set_fields(self, **{name: readonly(getattr(self, name))})

    @property
    def changed(self) -> BoolMap:
        """Where the refined depth may differ from the input, (h, w) bool."""
        return self.gate > 0

    def save(self, path: str | Path, formats: Sequence[str] | None = None) -> Path:
        """Write the result into a folder, or to one depth file; see `crispdepth.api.save`."""
        from crispdepth.api import save

        return save(self, path, formats)


def readonly(array: NDArray[Any]) -> Any:
    """A view of the array that refuses writes; the array itself stays as writable as it was."""
    view = array.view()
    view.flags.writeable = False
    return view


def set_fields(instance: object, **fields: Any) -> None:
    """Assign fields of a frozen dataclass while it is being built."""
    for name, value in fields.items():
        object.__setattr__(instance, name, value)
