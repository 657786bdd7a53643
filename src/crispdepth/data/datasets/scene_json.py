"""The photos of rendered and captured scenes as samples to refine.

What a scene folder and its ``scene.json`` hold: `crispdepth.io.scenes.scene_json`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from crispdepth.data.datasets import Sample
from crispdepth.data.datasets.files import read_photo, read_plane, require_folder
from crispdepth.io.scenes.lens import Matrix
from crispdepth.io.scenes.scene_json import parse_scene_json
from crispdepth.ops.images import eight_bit
from crispdepth.ops.masks import MIN_SHARE, instances_from_labels
from crispdepth.types import Camera, DepthMap, Float32Map, MaskSet, Size

SOFT_INSTANCE = 1
"""The instance whose soft mask may lie beside the id map."""

NoSurface = Literal["far", "invalid"]


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
    content = parse_scene_json(description)
    folder = description.parent
    return [
        Frame(
            scene=folder.name,
            name=f"{folder.name}/{index:04d}",
            image=files.image,
            depth=files.depth,
            initial=files.initial,
            instances=files.instances,
            mask=files.mask,
            labels=content.labels,
            depth_unit_m=content.depth_unit_m,
            no_surface="invalid" if content.captured else no_surface,
            K=content.K,
            cam_from_world=files.cam_from_world,
        )
        for index, files in enumerate(content.frames)
    ]


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
