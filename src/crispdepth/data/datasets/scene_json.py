"""Rendered and captured scenes described by a ``scene.json``.

A scene folder holds photos, true depth (uint16, ``depth_unit_m`` metres a step, 0 = no surface),
rough depth (uint16, relative inverse depth) and instance id maps, masks or both. The
``scene.json`` of a captured scene lists the files of each frame; that of a rendered scene gives
``n_frames`` and ``image_pattern``, and the other files are called after the frame's number.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from crispdepth.data.datasets import Sample
from crispdepth.data.datasets.files import read_photo, read_plane, require_folder
from crispdepth.ops.images import eight_bit
from crispdepth.ops.masks import MIN_SHARE, instances_from_labels
from crispdepth.types import Camera, DepthMap, Float32Map, MaskSet, Size

SOFT_INSTANCE = 1
"""The instance whose soft mask may lie beside the id map."""

NoSurface = Literal["far", "invalid"]

Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Frame:
    """Where the parts of one frame lie, and how to read them."""

    scene: str
    name: str
    image: Path
    depth: Path
    initial: Path | None
    instances: Path | None  # id map
    mask: Path | None  # soft mask of `SOFT_INSTANCE`
    labels: Mapping[int, str]  # what each id is
    depth_unit_m: float
    no_surface: NoSurface  # what a depth of 0 means to `read`
    K: Matrix | None = None  # (3, 3)
    cam_from_world: Matrix | None = None  # (4, 4)

    def read(self) -> Sample:
        """The frame as a sample to refine, read from disk.

        Raises:
            OSError: a file cannot be read.
            ValueError: a file is no such picture, or the files differ in size.
        """
        assert self.initial is not None  # `open_scenes` has seen to it
        depth = self.read_depth()
        if self.no_surface == "far":
            depth[depth == 0] = depth.max()
        initial = read_plane(self.initial).astype(np.float32)
        return Sample(
            scene=self.scene,
            name=self.name,
            image=read_photo(self.image),
            initial=DepthMap(initial, "inverse_depth"),
            depth=DepthMap(depth, "depth", "m"),
            masks=self._masks(initial.shape),
        )

    def read_depth(self) -> Float32Map:
        """The true z-depth in metres, (h, w), 0 where there is no surface."""
        return read_plane(self.depth).astype(np.float32) * np.float32(self.depth_unit_m)

    def camera(self, size: Size) -> Camera | None:
        """The camera, where the scene states one; without poses the world is the camera's."""
        if self.K is None:
            return None
        pose = np.eye(4) if self.cam_from_world is None else np.array(self.cam_from_world)
        return Camera(np.array(self.K), size, pose)

    def _masks(self, size: Size) -> MaskSet:
        planes: dict[str, NDArray[np.uint8]] = {}
        if self.instances is not None:
            found = instances_from_labels(read_plane(self.instances))
            planes = {self._label(i): m for i, m in zip(found.ids, found.masks, strict=True)}
        if self.mask is not None:  # better than the same instance cut from the id map
            soft = eight_bit(read_plane(self.mask))
            if np.mean(soft >= 128) > MIN_SHARE:
                planes[self._label(SOFT_INSTANCE)] = soft
        stack = np.stack([*planes.values()]) if planes else np.zeros((0, *size), np.uint8)
        return MaskSet(stack, tuple(planes))

    def _label(self, label: int) -> str:
        return f"{label}_{self.labels.get(label, 'object')}"


@dataclass(frozen=True)
class SceneDataset:
    """The samples of one or more scenes; iterating reads them one at a time."""

    name: str
    frames: tuple[Frame, ...]

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Sample]:
        return (frame.read() for frame in self.frames)


def open_scenes(
    folder: str | Path,
    *,
    first: int = 0,
    every: int = 1,
    limit: int | None = None,
    no_surface: NoSurface = "far",
) -> SceneDataset:
    """The frames of a scene folder, or of all scene folders directly inside ``folder``.

    Args:
        folder: holds ``scene.json``, or folders that do.
        first: of each scene the frames ``first``, ``first + every``, ...
        every: see ``first``.
        limit: at most so many frames in all.
        no_surface: what a true depth of 0 means in rendered scenes: ``far``, taken to be as far
            as the farthest surface of that photo, or ``invalid``, not measured. In captured
            scenes it is always not measured.

    Raises:
        FileNotFoundError: the folder, or a file that a frame needs, does not exist.
        ValueError: there is no dataset, a ``scene.json`` is malformed, or an option is out of
            range.
    """
    if first < 0 or every < 1 or (limit is not None and limit < 1):
        raise ValueError(
            f"first must be 0 or more, every and limit 1 or more, got {first}, {every} and {limit}."
        )
    if no_surface not in get_args(NoSurface):
        raise ValueError(f"no_surface must be one of {get_args(NoSurface)}, got {no_surface!r}.")
    frames = find_frames(folder, first=first, every=every, no_surface=no_surface)[:limit]
    for frame in frames:
        _require_files(frame)
    return SceneDataset(Path(folder).resolve().name, tuple(frames))


def find_frames(
    folder: str | Path, *, first: int = 0, every: int = 1, no_surface: NoSurface = "far"
) -> list[Frame]:
    """The frames that `open_scenes` chooses from, whether or not their files are there.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: there is no dataset, or a ``scene.json`` is malformed.
    """
    root = require_folder(folder)
    descriptions = [root / "scene.json"]
    if not descriptions[0].is_file():
        descriptions = sorted(root.glob("*/scene.json"))
    if not descriptions:
        raise ValueError(
            f"{root} is no dataset: neither it nor a folder directly in it has a scene.json. "
            "Pass a scene's folder, or the folder that holds the scenes."
        )
    return [frame for path in descriptions for frame in _frames(path, no_surface)[first::every]]


def _frames(description: Path, no_surface: NoSurface) -> list[Frame]:
    """The frames that a ``scene.json`` describes."""
    try:
        facts = json.loads(description.read_text(encoding="utf-8"))
        captured = "frames" in facts
        files = facts["frames"] if captured else _rendered_files(facts, description.parent)
        return [
            _frame(description.parent, index, entry, facts, "invalid" if captured else no_surface)
            for index, entry in enumerate(files)
        ]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        problem = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f"Cannot use {description}: {problem}. Expected depth_unit_m and either frames "
            "(a list of {image, depth, init, mask}) or n_frames and image_pattern."
        ) from error


def _rendered_files(facts: Mapping[str, Any], folder: Path) -> Sequence[Mapping[str, Any]]:
    """The files of a rendered scene, in the form in which captured scenes list theirs."""
    pattern = str(facts["image_pattern"])
    parts = {"depth": "depth", "init": "init"}
    optional = {"instances": "instances", "mask": "masks"}
    parts |= {part: name for part, name in optional.items() if (folder / name).is_dir()}
    poses = facts.get("cam_from_world")
    return [
        {"image": pattern % index}
        | {part: f"{subfolder}/{index:04d}.png" for part, subfolder in parts.items()}
        | ({"cam_from_world": poses[index]} if poses else {})
        for index in range(int(facts["n_frames"]))
    ]


def _frame(
    folder: Path,
    index: int,
    files: Mapping[str, Any],
    facts: Mapping[str, Any],
    no_surface: NoSurface,
) -> Frame:
    def path(part: str) -> Path | None:
        return folder / files[part] if part in files else None

    return Frame(
        scene=folder.name,
        name=f"{folder.name}/{index:04d}",
        image=folder / files["image"],
        depth=folder / files["depth"],
        initial=path("init"),
        instances=path("instances"),
        mask=path("mask"),
        labels={int(label): str(name) for label, name in facts.get("instances", {}).items()},
        depth_unit_m=float(facts["depth_unit_m"]),
        no_surface=no_surface,
        K=_matrix(facts.get("K"), 3),
        cam_from_world=_matrix(files.get("cam_from_world"), 4),
    )


def _matrix(rows: Any, size: int) -> Matrix | None:
    """A square matrix of a ``scene.json``, hashable."""
    if rows is None:
        return None
    values = np.array(rows, np.float64).reshape(size, size)
    return tuple(tuple(row) for row in values.tolist())


def _require_files(frame: Frame) -> None:
    needed = [frame.image, frame.depth, frame.initial, frame.instances, frame.mask]
    missing = [str(path) for path in needed if path is not None and not path.is_file()]
    if frame.initial is None:
        missing.append("a rough depth (init)")
    if frame.instances is None and frame.mask is None:
        missing.append("ids (instances) or a mask")
    if missing:
        raise FileNotFoundError(
            f"Frame {frame.name} lacks {', '.join(missing)}. A benchmark needs the photo, the "
            "true depth, a rough depth (init) and ids or a mask of every frame."
        )
