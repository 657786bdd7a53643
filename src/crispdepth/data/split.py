"""Which frames are trained on, and which are kept to see how well that went."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.datasets.files import LazyFrames
from crispdepth.data.datasets.registry import open_dataset
from crispdepth.data.pack import is_pack, open_pack

MOST = 0.4
"""Scenes that take a larger share of a dataset are divided, unless more is asked for."""

_Place = tuple[Sequence[RgbdFrame], int]  # a dataset, and the number of a frame in it


def open_frames(folder: str | Path, data_format: str) -> Sequence[RgbdFrame]:
    """The frames of a pack, or of a dataset in that format.

    Raises:
        OSError, ValueError: see `open_pack` and `open_dataset`.
    """
    return open_pack(folder) if is_pack(folder) else open_dataset(data_format, folder)


def hold_out(
    datasets: Sequence[Sequence[RgbdFrame]], share: float
) -> tuple[Sequence[RgbdFrame], Sequence[RgbdFrame]]:
    """The frames of all datasets to train on, and those to evaluate on.

    The latter are the last scenes of each dataset, as whole as can be. A scene is what comes first
    in the names of its frames (``room_000001/0003``). Where that would take more than `MOST` of
    the frames, as with one or two scenes, it is the next part of the names (a camera, a
    trajectory), and at last the single frame.

    Args:
        datasets: read lazily, as their frames are.
        share: of the frames to hold out at least, between 0 and 1; one frame stays on either side.

    Raises:
        ValueError: the share is not between 0 and 1, or a dataset has fewer than two frames.
    """
    if not 0 < share < 1:
        raise ValueError(f"The share to hold out must be between 0 and 1, got {share:g}.")
    train: list[_Place] = []
    test: list[_Place] = []
    for frames in datasets:
        if len(frames) < 2:
            raise ValueError(
                f"A dataset needs two frames or more, to train and to evaluate on; "
                f"got {len(frames)}."
            )
        places = [(frames, index) for index in range(len(frames))]
        wanted = min(max(1, round(share * len(frames))), len(frames) - 1)
        for place, held in zip(places, _held([*map(_name, places)], wanted), strict=True):
            (test if held else train).append(place)
    return LazyFrames(tuple(train), _pick, _name), LazyFrames(tuple(test), _pick, _name)


def _held(names: Sequence[str], wanted: int) -> list[bool]:
    """Which frames to hold out: the last scenes, until there are ``wanted`` frames or more."""
    for depth in range(1, max(name.count("/") for name in names) + 2):
        scenes = ["/".join(name.split("/")[:depth]) for name in names]
        held: set[str] = set()
        count = 0
        for scene, frames in reversed(Counter(scenes).items()):
            if count < wanted:
                held.add(scene)
                count += frames
        if count <= max(wanted, MOST * len(names)):
            return [scene in held for scene in scenes]
    return [index >= len(names) - wanted for index in range(len(names))]  # names that repeat


def _name(place: _Place) -> str:
    frames, index = place
    return frames.name(frames.keys[index]) if isinstance(frames, LazyFrames) else frames[index].name


def _pick(place: _Place) -> RgbdFrame:
    frames, index = place
    return frames[index]
