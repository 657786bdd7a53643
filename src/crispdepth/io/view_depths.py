"""Depth and confidence of the views of a scene, as files beside each other.

For a photo ``sub/012.jpg`` the folder holds ``sub/012.jpg.exr`` (depth, `crispdepth.io.depths`:
kind, unit and camera are in its header and its sidecar) and ``sub/012.jpg.confidence.png`` (16
bits, 65535 = 1). The suffix of the photo stays, so ``012.jpg`` and ``012.png`` do not meet.
"""

from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from crispdepth.io.atomic import make_folder
from crispdepth.io.depths import read_depth, sidecar_path, write_depth
from crispdepth.io.images import read_raw, write_image
from crispdepth.types import Camera, DepthMap, Float32Map, ViewDepth

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
    return ViewDepth(depth, _confidence(confidence_path(folder, name), depth))


def confirmed(path: Path, depth: DepthMap) -> DepthMap:
    """A depth map without the pixels that the confidence beside its file, if there is one, does not
    vouch for; errors are those of `read_view_depth`."""
    beside = path.with_suffix(_CONFIDENCE)
    if not beside.is_file():
        return depth
    return replace(depth, valid=depth.usable & (_confidence(beside, depth) > 0))


def _confidence(path: Path, depth: DepthMap) -> Float32Map:
    steps = read_raw(path).array
    if steps.dtype != np.uint16 or steps.shape != depth.size:
        raise ValueError(
            f"{path} is {steps.shape} {steps.dtype}, the depth {depth.size}: it should be 16-bit "
            "grey of that size. Remove both and compute the view again."
        )
    return np.asarray(steps.astype(np.float32) / np.float32(_FULL_SCALE), np.float32)
