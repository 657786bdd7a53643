"""Short films to files: MP4 for players and web pages, GIF and WebP for anything with pictures."""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crispdepth.io.atomic import atomic_path

SUFFIXES = (".mp4", ".gif", ".webp")

_CODECS = ("vp09", "mp4v")
"""OpenCV's wheels leave out H.264 for its licence; VP9 plays in browsers, VLC and on phones. What
every build has is MPEG-4 Part 2, which browsers do not play."""

Frame = NDArray[np.uint8]  # (h, w, 3), sRGB


def write_clip(path: str | Path, frames: Iterable[Frame], fps: float) -> None:
    """Write a clip, atomically; GIF and WebP repeat for ever.

    Frames of MP4 are written one at a time; those of the others are in memory together.

    MP4 needs even sizes: an odd last row or column is left out.

    Args:
        path: the file; its suffix chooses the format.
        frames: at least one, (h, w, 3) uint8 in sRGB, all of one size.
        fps: frames per second; GIF counts in hundredths of a second.

    Raises:
        ValueError: the suffix, a frame or the rate cannot be written, or there is no frame.
        OSError: the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"Cannot write {path}: a clip is {', '.join(SUFFIXES)}.")
    if not 0 < fps <= 100:
        raise ValueError(f"A clip has between 0 and 100 frames a second, got {fps:g}.")
    checked = _checked(frames, path)
    with atomic_path(path) as temporary:
        if suffix == ".mp4":
            _write_mp4(temporary, checked, fps)
        else:
            _write_animation(temporary, checked, fps)


def _checked(frames: Iterable[Frame], path: Path) -> Iterator[Frame]:
    size = None
    for frame in frames:
        size = size or frame.shape
        if frame.dtype != np.uint8 or frame.shape != size or size[2:] != (3,):
            raise ValueError(
                f"The frames of {path} are (h, w, 3) uint8 of one size; got {frame.shape} "
                f"{frame.dtype} after {size}."
            )
        yield frame
    if size is None:
        raise ValueError(f"There is no frame to write to {path}.")


def _write_mp4(path: Path, frames: Iterator[Frame], fps: float) -> None:
    first = next(frames)
    height, width = first.shape[0] // 2 * 2, first.shape[1] // 2 * 2
    writer = _open_mp4(path, fps, (width, height))
    try:
        for frame in chain([first], frames):
            writer.write(np.ascontiguousarray(frame[:height, :width, ::-1]))
    finally:
        writer.release()
    if not path.stat().st_size:
        raise OSError(f"The video encoder wrote nothing to {path}; write .webp or .gif instead.")


def _open_mp4(path: Path, fps: float, size: tuple[int, int]) -> cv2.VideoWriter:
    for codec in _CODECS:
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, size)
        if writer.isOpened():
            return writer
        writer.release()
    raise ValueError(
        "This build of OpenCV has no encoder for MP4; write .webp or .gif instead, or reinstall "
        "opencv-python-headless."
    )


def _write_animation(path: Path, frames: Iterator[Frame], fps: float) -> None:
    first, *rest = (Image.fromarray(frame) for frame in frames)
    first.save(path, save_all=True, append_images=rest, duration=round(1000 / fps), loop=0)
