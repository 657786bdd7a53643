"""Every frame is trained on or evaluated on, and none is both."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.pack import pack_frames
from crispdepth.data.split import hold_out, open_frames
from crispdepth.types import DepthMap


def make(name: str, count: int) -> list[RgbdFrame]:
    depth = DepthMap(np.ones((2, 3), np.float32), "depth", "m")
    image = np.zeros((2, 3, 3), np.uint8)
    return [RgbdFrame(f"{name}/{index}", image, depth) for index in range(count)]


@given(st.lists(st.integers(2, 60), min_size=1, max_size=3), st.floats(0.01, 0.6))
def test_the_parts_are_the_whole_and_share_nothing(counts: list[int], share: float) -> None:
    datasets = [make(str(index), count) for index, count in enumerate(counts)]
    train, test = hold_out(datasets, share)
    names = [[frame.name for frame in part] for part in (train, test)]
    assert sorted(names[0] + names[1]) == sorted(f.name for frames in datasets for f in frames)
    assert set(names[0]).isdisjoint(names[1])


def test_the_last_frames_of_each_dataset_are_held_out() -> None:
    _, test = hold_out([make("a", 20), make("b", 3)], 0.1)
    assert [frame.name for frame in test] == ["a/18", "a/19", "b/2"]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_that_leaves_nothing_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        hold_out([make("a", 20)], share)


def test_one_frame_cannot_be_split() -> None:
    with pytest.raises(ValueError, match=r"two frames or more.*got 1"):
        hold_out([make("a", 20), make("b", 1)], 0.1)


def test_a_folder_is_a_pack_if_it_holds_one(tmp_path: Path) -> None:
    pack_frames(make("a", 2), tmp_path)
    assert [frame.name for frame in open_frames(tmp_path, "rendered")] == ["a/0", "a/1"]
    with pytest.raises(FileNotFoundError, match="no dataset folder"):
        open_frames(tmp_path / "nothing", "rendered")
