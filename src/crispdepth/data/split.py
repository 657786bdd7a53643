"""Which frames are trained on, and which are kept to see how well that went."""

from collections.abc import Sequence
from pathlib import Path

from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.datasets.files import LazyFrames
from crispdepth.data.datasets.registry import open_dataset
from crispdepth.data.pack import is_pack, open_pack


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

    The latter are the last ones of each dataset, at least one: frames lie scene by scene, so hardly
    a scene is in both parts.

    Args:
        datasets: read lazily, as their frames are.
        share: of the frames to hold out, between 0 and 1.

    Raises:
        ValueError: the share is not between 0 and 1, or a dataset has fewer than two frames.
    """
    if not 0 < share < 1:
        raise ValueError(f"The share to hold out must be between 0 and 1, got {share:g}.")
    train: list[tuple[Sequence[RgbdFrame], int]] = []
    test: list[tuple[Sequence[RgbdFrame], int]] = []
    for frames in datasets:
        if len(frames) < 2:
            raise ValueError(
                f"A dataset needs two frames or more, to train and to evaluate on; "
                f"got {len(frames)}."
            )
        first = len(frames) - max(1, round(share * len(frames)))
        train += [(frames, index) for index in range(first)]
        test += [(frames, index) for index in range(first, len(frames))]
    return LazyFrames(tuple(train), _pick), LazyFrames(tuple(test), _pick)


def _pick(key: tuple[Sequence[RgbdFrame], int]) -> RgbdFrame:
    frames, index = key
    return frames[index]
