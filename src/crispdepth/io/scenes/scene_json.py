"""The ``scene.json`` of this project's own scenes.

A scene folder holds photos, true depth (uint16, ``depth_unit_m`` metres a step, 0 = no surface),
rough depth (uint16, relative inverse depth) and instance id maps, masks or both. The
``scene.json`` of a captured scene lists the files of each frame; that of a rendered scene gives
``n_frames`` and ``image_pattern``, and the other files are called after the frame's number.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crispdepth.io.scenes.lens import Matrix, lens_from_matrix
from crispdepth.io.scenes.source import DepthFile, Source, SourceView


@dataclass(frozen=True)
class FrameFiles:
    """Where the parts of one frame lie."""

    image: Path
    depth: Path
    initial: Path | None
    instances: Path | None  # id map
    mask: Path | None  # soft mask
    cam_from_world: Matrix | None = None  # (4, 4)


@dataclass(frozen=True)
class SceneFile:
    """What a ``scene.json`` says."""

    frames: tuple[FrameFiles, ...]
    captured: bool  # it lists the files of each frame
    depth_unit_m: float
    labels: Mapping[int, str]  # what each id is
    K: Matrix | None = None  # (3, 3)
    size: tuple[int, int] | None = None  # (height, width)
    bounds: tuple[float, float] | None = None  # near, far in metres
    mesh: Path | None = None


def parse_scene_json(path: Path) -> SceneFile:
    """What the file says, whether or not the files it names are there.

    Raises:
        OSError: it cannot be read.
        ValueError: it is malformed.
    """
    folder = path.parent
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        captured = "frames" in facts
        entries = facts["frames"] if captured else _rendered_files(facts, folder)
        mesh = facts.get("mesh")
        mesh = mesh.get("file") if isinstance(mesh, Mapping) else mesh
        size = facts.get("size") if not captured else None
        return SceneFile(
            frames=tuple(_frame(folder, entry) for entry in entries),
            captured=captured,
            depth_unit_m=float(facts["depth_unit_m"]),
            labels={int(label): str(name) for label, name in facts.get("instances", {}).items()},
            K=_matrix(facts.get("K"), 3),
            size=(int(size[1]), int(size[0])) if size else None,
            bounds=(float(facts["near"]), float(facts["far"])) if "far" in facts else None,
            mesh=folder / mesh if mesh else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        problem = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f"Cannot use {path}: {problem}. Expected depth_unit_m and either frames "
            "(a list of {image, depth, init, mask}) or n_frames and image_pattern."
        ) from error


def read_scene_json(path: Path) -> Source:
    """The posed photos of the file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is malformed, or has no cameras.
    """
    content = parse_scene_json(path)
    if content.K is None or any(frame.cam_from_world is None for frame in content.frames):
        raise ValueError(
            f"{path} gives no K or no cam_from_world, so its photos are not posed; "
            "they can be refined one by one (crispdepth refine)."
        )
    lens = lens_from_matrix(np.array(content.K), content.size)
    views = tuple(
        SourceView(
            photo=frame.image,
            lens=lens,
            cam_from_world=np.array(frame.cam_from_world),
            mask=frame.mask,
            depth=DepthFile(frame.depth, content.depth_unit_m) if frame.depth.is_file() else None,
        )
        for frame in content.frames
    )
    if not views:
        raise ValueError(f"{path} has no frames.")
    bounds = (
        content.bounds if content.bounds and 0 < content.bounds[0] < content.bounds[1] else None
    )
    mesh = content.mesh if content.mesh and content.mesh.is_file() else None
    root = views[0].photo.parent
    return Source(path.resolve().parent.name, root, views, "m", bounds, mesh=mesh)


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


def _frame(folder: Path, files: Mapping[str, Any]) -> FrameFiles:
    def path(part: str) -> Path | None:
        return folder / files[part] if part in files else None

    return FrameFiles(
        image=folder / files["image"],
        depth=folder / files["depth"],
        initial=path("init"),
        instances=path("instances"),
        mask=path("mask"),
        cam_from_world=_matrix(files.get("cam_from_world"), 4),
    )


def _matrix(rows: Any, size: int) -> Matrix | None:
    """A square matrix of a ``scene.json``, hashable."""
    if rows is None:
        return None
    values = np.array(rows, np.float64).reshape(size, size)
    return tuple(tuple(row) for row in values.tolist())
