"""Depth and confidence of the views of a scene, as files beside each other.

For a photo ``sub/012.jpg`` the folder holds ``sub/012.jpg.exr`` (depth, `crispdepth.io.depths`:
kind, unit and camera are in its header and its sidecar) and ``sub/012.jpg.confidence.png`` (16
bits, 65535 = 1). The suffix of the photo stays, so ``012.jpg`` and ``012.png`` do not meet.
"""

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crispdepth.io.atomic import make_folder
from crispdepth.io.depths import read_depth, sidecar_path, write_depth
from crispdepth.io.images import read_raw, write_image
from crispdepth.types import Camera, DepthMap, ViewDepth

_CONFIDENCE = ".confidence.png"
_FULL_SCALE = 65535


def depth_path(folder: str | Path, name: str) -> Path:
    """The depth file of the view ``name``, a path relative to the photos.

    Raises:
        ValueError: the name leads out of the folder.
    """
    relative = PurePosixPath(name)
    if not name or relative.is_absolute() or ".." in relative.parts:
        raise ValueError(
            f"{name!r} cannot name a result: it must be a path inside the folder of the photos."
        )
    return Path(folder, f"{relative}.exr")


def confidence_path(folder: str | Path, name: str) -> Path:
    """The confidence file of the view ``name``; errors are those of `depth_path`."""
    return depth_path(folder, name).with_suffix(_CONFIDENCE)


def has_view_depth(folder: str | Path, name: str) -> bool:
    """Whether the depth of that view has been written whole."""
    depth = depth_path(folder, name)
    parts = depth, sidecar_path(depth), confidence_path(folder, name)
    return all(part.is_file() for part in parts)


def write_view_depth(folder: str | Path, name: str, found: ViewDepth) -> Path:
    """Write depth and confidence of a view, making folders as needed; returns the depth file.

    Each file is written atomically, and the depth last: where it is, the rest is too.

    Raises:
        OSError: a file cannot be written.
        ValueError: the name leads out of the folder.
    """
    path = depth_path(folder, name)
    make_folder(path.parent)
    steps = np.rint(found.confidence * np.float32(_FULL_SCALE)).astype(np.uint16)
    path.unlink(missing_ok=True)  # an older depth must not stand beside the new confidence
    write_image(confidence_path(folder, name), steps)
    write_depth(path, found.depth)
    return path


def read_view_depth(folder: str | Path, name: str, camera: Camera | None = None) -> ViewDepth:
    """The depth and confidence that `write_view_depth` wrote.

    Args:
        folder: as it was given there.
        name: of the view.
        camera: of the view, of any size in the depth's aspect; None: the one in the file.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: a file is damaged, or the two do not fit each other.
    """
    depth = read_depth(depth_path(folder, name)).depth
    if camera is not None:
        depth = replace(depth, camera=camera.resized(depth.size))
    path = confidence_path(folder, name)
    steps = read_raw(path).array
    if not _fits(steps, depth):
        raise ValueError(
            f"{path} is {steps.shape} {steps.dtype}, the depth {depth.size}: it should be 16-bit "
            "grey of that size. Remove both and compute the view again."
        )
    return ViewDepth(depth, steps.astype(np.float32) / np.float32(_FULL_SCALE))


def confirmed(path: Path, depth: DepthMap) -> DepthMap:
    """A depth map without the pixels that the confidence beside its file does not vouch for.

    The whole map if there is none, or something else in its place.

    Raises:
        OSError: it cannot be read.
    """
    beside = path.with_suffix(_CONFIDENCE)
    if not beside.is_file():
        return depth
    steps = read_raw(beside).array
    return replace(depth, valid=depth.usable & (steps > 0)) if _fits(steps, depth) else depth


def _fits(steps: NDArray[Any], depth: DepthMap) -> bool:
    return steps.dtype == np.uint16 and steps.shape == depth.size
