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
from crispdepth.io.images import read_image, read_raw
from crispdepth.ops.images import eight_bit
from crispdepth.ops.masks import MIN_SHARE, instances_from_labels
from crispdepth.types import DepthMap, MaskSet, Size

SOFT_INSTANCE = 1
"""The instance whose soft mask may lie beside the id map."""

NoSurface = Literal["far", "invalid"]


@dataclass(frozen=True)
class Frame:
    """Where the parts of one sample lie, and how to read them."""

    scene: str
    name: str
    image: Path
    depth: Path
    initial: Path
    instances: Path | None  # id map
    mask: Path | None  # soft mask of `SOFT_INSTANCE`
    labels: Mapping[int, str]  # what each id is
    depth_unit_m: float
    no_surface: NoSurface  # what a depth of 0 means

    def read(self) -> Sample:
        """The sample, read from disk.

        Raises:
            OSError: a file cannot be read.
            ValueError: a file is no such picture, or the files differ in size.
        """
        depth = _plane(self.depth).astype(np.float32) * np.float32(self.depth_unit_m)
        if self.no_surface == "far":
            depth[depth == 0] = depth.max()
        initial = _plane(self.initial).astype(np.float32)
        return Sample(
            scene=self.scene,
            name=self.name,
            image=eight_bit(read_image(self.image).rgb),
            initial=DepthMap(initial, "inverse_depth"),
            depth=DepthMap(depth, "depth", "m"),
            masks=self._masks(initial.shape),
        )

    def _masks(self, size: Size) -> MaskSet:
        planes: dict[str, NDArray[np.uint8]] = {}
        if self.instances is not None:
            found = instances_from_labels(_plane(self.instances))
            planes = {self._label(i): m for i, m in zip(found.ids, found.masks, strict=True)}
        if self.mask is not None:  # better than the same instance cut from the id map
            soft = eight_bit(_plane(self.mask))
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
    folder = Path(folder)
    if first < 0 or every < 1 or (limit is not None and limit < 1):
        raise ValueError(
            f"first must be 0 or more, every and limit 1 or more, got {first}, {every} and {limit}."
        )
    if no_surface not in get_args(NoSurface):
        raise ValueError(f"no_surface must be one of {get_args(NoSurface)}, got {no_surface!r}.")
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no dataset folder {folder}.")
    descriptions = [folder / "scene.json"]
    if not descriptions[0].is_file():
        descriptions = sorted(folder.glob("*/scene.json"))
    if not descriptions:
        raise ValueError(
            f"{folder} is no dataset: neither it nor a folder directly in it has a scene.json. "
            "Pass a scene's folder, or the folder that holds the scenes."
        )
    frames = [frame for path in descriptions for frame in _frames(path, no_surface)[first::every]]
    frames = frames[:limit]
    for frame in frames:
        _require_files(frame)
    return SceneDataset(folder.resolve().name, tuple(frames))


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
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f"Cannot use {description}: {problem}. Expected depth_unit_m and either frames "
            "(a list of {image, depth, init, mask}) or n_frames and image_pattern."
        ) from error


def _rendered_files(facts: Mapping[str, Any], folder: Path) -> Sequence[Mapping[str, str]]:
    """The files of a rendered scene, in the form in which captured scenes list theirs."""
    parts = {"depth": "depth", "init": "init", "instances": "instances", "mask": "masks"}
    if not (folder / parts["mask"]).is_dir():
        del parts["mask"]
    return [
        {"image": str(facts["image_pattern"]) % index}
        | {part: f"{subfolder}/{index:04d}.png" for part, subfolder in parts.items()}
        for index in range(int(facts["n_frames"]))
    ]


def _frame(
    folder: Path,
    index: int,
    files: Mapping[str, str],
    facts: Mapping[str, Any],
    no_surface: NoSurface,
) -> Frame:
    scene = folder.resolve().name
    return Frame(
        scene=scene,
        name=f"{scene}/{index:04d}",
        image=folder / files["image"],
        depth=folder / files["depth"],
        initial=folder / files["init"],
        instances=folder / files["instances"] if "instances" in files else None,
        mask=folder / files["mask"] if "mask" in files else None,
        labels={int(label): str(name) for label, name in facts.get("instances", {}).items()},
        depth_unit_m=float(facts["depth_unit_m"]),
        no_surface=no_surface,
    )


def _require_files(frame: Frame) -> None:
    needed = [frame.image, frame.depth, frame.initial, frame.instances, frame.mask]
    missing = [path for path in needed if path is not None and not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"Frame {frame.name} lacks {', '.join(map(str, missing))}. A benchmark needs the "
            "photo, the true depth, a rough depth (init) and ids or a mask of every frame."
        )


def _plane(path: Path) -> NDArray[Any]:
    """The (h, w) numbers of a one-channel picture."""
    array = read_raw(path).array
    if array.ndim != 2:
        raise ValueError(f"{path} should have one channel, its array is {array.shape}.")
    return array
