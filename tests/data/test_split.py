"""Every frame is trained on or evaluated on, and none is both; nor is a scene, if names tell it."""

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


@given(st.lists(st.integers(1, 9), min_size=4, max_size=12), st.floats(0.01, 0.4))
def test_no_scene_is_in_both_parts(counts: list[int], share: float) -> None:
    frames = [frame for index, count in enumerate(counts) for frame in make(f"{index}", count)]
    train, test = hold_out([frames], share)
    scenes = [{frame.name.split("/")[0] for frame in part} for part in (train, test)]
    if max(counts) <= 0.4 * len(frames) - share * len(frames):  # else one may be too large
        assert scenes[0].isdisjoint(scenes[1])
    assert len(test) >= max(1, round(share * len(frames)))
    assert len(train) > 0


def test_whole_scenes_are_held_out_even_if_they_are_more_than_was_asked_for() -> None:
    _, test = hold_out([make("a", 6) + make("b", 6) + make("c", 6)], 0.05)
    assert [frame.name for frame in test] == [f"c/{index}" for index in range(6)]


def test_a_scene_that_is_most_of_a_dataset_is_divided_by_its_next_part() -> None:
    cameras = make("a/cam_00", 4) + make("a/cam_01", 3) + make("a/cam_02", 3)
    train, test = hold_out([cameras], 0.05)
    assert {frame.name.split("/")[1] for frame in test} == {"cam_02"}
    assert len(train) == 7


def test_a_scene_that_comes_twice_is_on_one_side() -> None:
    train, test = hold_out([make("a", 3) + make("b", 3) + make("c", 3) + make("b", 1)], 0.1)
    assert {frame.name[0] for frame in test}.isdisjoint(frame.name[0] for frame in train)
    same = [*make("a", 1) * 5]
    assert [len(part) for part in hold_out([same], 0.4)] == [3, 2]


def test_something_is_left_to_train_on() -> None:
    assert [len(part) for part in hold_out([make("a", 2)], 0.99)] == [1, 1]


def test_scenes_of_a_pack_are_told_without_reading_its_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack_frames(make("a", 3) + make("b", 3) + make("c", 3), tmp_path)
    frames = open_frames(tmp_path, "rendered")
    with monkeypatch.context() as patch:
        patch.setattr("crispdepth.data.pack._frame", None)
        train, test = hold_out([frames], 0.1)
    assert [frame.name for frame in test] == ["c/0", "c/1", "c/2"]
    assert len(train) == 6


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
