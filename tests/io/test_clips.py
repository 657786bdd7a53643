from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from crispdepth.io.clips import write_clip

Frames = list[NDArray[np.uint8]]


def frames(count: int = 5, size: tuple[int, int] = (32, 48)) -> Frames:
    """A bright bar on dark ground that moves to the right."""
    result = []
    for index in range(count):
        frame = np.full((*size, 3), (40, 60, 90), np.uint8)
        frame[:, 6 * index : 6 * index + 12] = (200, 180, 60)
        result.append(frame)
    return result


def read_mp4(path: Path) -> tuple[Frames, float]:
    capture = cv2.VideoCapture(str(path))
    rate = capture.get(cv2.CAP_PROP_FPS)
    found: Frames = []
    while True:
        there, frame = capture.read()
        if not there:
            capture.release()
            return found, rate
        found.append(np.asarray(frame[..., ::-1], np.uint8))


def test_an_mp4_holds_the_frames_at_their_rate(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", iter(frames()), 12.5)
    found, rate = read_mp4(tmp_path / "a.mp4")
    assert rate == pytest.approx(12.5)
    assert len(found) == 5
    for frame, written in zip(found, frames(), strict=True):
        assert np.abs(frame.astype(int) - written).mean() < 10


def test_an_mp4_of_odd_size_loses_a_row_and_a_column(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", frames(size=(33, 49)), 25)
    assert read_mp4(tmp_path / "a.mp4")[0][0].shape == (32, 48, 3)


@pytest.mark.parametrize(("suffix", "tolerance"), [(".gif", 3), (".webp", 10)])
def test_animations_hold_the_frames_and_repeat(
    tmp_path: Path, suffix: str, tolerance: float
) -> None:
    write_clip(tmp_path / f"a{suffix}", frames(), 20)
    with Image.open(tmp_path / f"a{suffix}") as animation:
        assert animation.info["loop"] == 0
        found = []
        for frame in ImageSequence.Iterator(animation):
            found.append(np.asarray(frame.convert("RGB"), int))
            assert frame.info["duration"] == 50
    for frame_found, written in zip(found, frames(), strict=True):
        assert np.abs(frame_found - written).mean() < tolerance


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_a_clip_that_fails_on_the_way_leaves_no_file(tmp_path: Path, suffix: str) -> None:
    def broken() -> Iterator[NDArray[np.uint8]]:
        yield from frames(2)
        raise RuntimeError("out of frames")

    with pytest.raises(RuntimeError, match="out of frames"):
        write_clip(tmp_path / f"a{suffix}", broken(), 25)
    assert not list(tmp_path.iterdir())


def test_mistakes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a clip is \.mp4"):
        write_clip(tmp_path / "a.avi", frames(), 25)
    with pytest.raises(ValueError, match="0 and 100 frames a second, got 0"):
        write_clip(tmp_path / "a.gif", frames(), 0)
    with pytest.raises(ValueError, match="no frame"):
        write_clip(tmp_path / "a.gif", [], 25)
    with pytest.raises(ValueError, match="of one size"):
        write_clip(tmp_path / "a.gif", [*frames(1), *frames(1, (9, 9))], 25)
