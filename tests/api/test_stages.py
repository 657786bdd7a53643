import json
import os
from pathlib import Path

import numpy as np
import pytest

from crispdepth.api.stages import STATE, Stages, fingerprint, key_of


def finish(folder: Path, key: str, *, overwrite: bool = False, output: str = "a.txt") -> bool:
    stages = Stages(folder, overwrite=overwrite)
    with stages.begin("mesh", key, [output]) as goes_on:
        (folder / output).write_text("done")
    return goes_on


def test_what_is_done_is_remembered_as_long_as_its_files_are_there(tmp_path: Path) -> None:
    assert not Stages(tmp_path, overwrite=False).is_done("mesh", "k")
    finish(tmp_path, "k")
    stages = Stages(tmp_path, overwrite=False)
    assert stages.is_done("mesh", "k")
    assert not stages.is_done("mesh", "other")
    assert not stages.is_done("splats", "k")
    (tmp_path / "a.txt").unlink()
    assert not Stages(tmp_path, overwrite=False).is_done("mesh", "k")


def test_an_interrupted_stage_goes_on_and_its_time_adds_up(tmp_path: Path) -> None:
    stages = Stages(tmp_path, overwrite=False)
    began = []

    def interrupted() -> None:
        with stages.begin("mesh", "k", ["a.txt"]) as goes_on:
            began.append(goes_on)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert began == [False]
    again = Stages(tmp_path, overwrite=False)
    assert not again.is_done("mesh", "k")
    state = json.loads((tmp_path / STATE).read_text())
    state["stages"]["mesh"]["seconds"] = 5.0
    (tmp_path / STATE).write_text(json.dumps(state))
    assert finish(tmp_path, "k")
    assert Stages(tmp_path, overwrite=False).seconds("mesh") >= 5


def test_results_of_other_settings_are_kept_unless_told(tmp_path: Path) -> None:
    finish(tmp_path, "k")
    with pytest.raises(ValueError, match=r"mesh of other photos or settings.*--overwrite"):
        finish(tmp_path, "other")
    assert (tmp_path / "a.txt").read_text() == "done"
    assert Stages(tmp_path, overwrite=False).is_done("mesh", "k")
    assert not finish(tmp_path, "other", overwrite=True)
    assert Stages(tmp_path, overwrite=False).is_done("mesh", "other")


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    for text in ("{", "[]", '{"stages": {"mesh": 5}}'):
        (tmp_path / STATE).write_text(text)
        with pytest.raises(ValueError, match=r"state\.json is damaged"):
            Stages(tmp_path, overwrite=False)


def test_keys_and_fingerprints_change_with_what_they_are_of(tmp_path: Path) -> None:
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    assert key_of("a", "b") != key_of("ab")
    file = tmp_path / "1.png"
    file.write_text("one")
    before = fingerprint([file])
    assert fingerprint([file]) == before
    os.utime(file, ns=(1, 1))
    assert fingerprint([file]) != before
    assert key_of(np.eye(2)) != key_of(np.zeros((2, 2)))


def test_what_an_interrupted_replacement_left_is_never_taken_for_new(tmp_path: Path) -> None:
    """Two files, of which only the first is made anew before it stops."""
    stages = Stages(tmp_path, overwrite=False)
    with stages.begin("depth", "old", ["depth"]):
        (tmp_path / "depth").mkdir()
        for name in "ab":
            (tmp_path / "depth" / name).write_text("old")

    def interrupted() -> None:
        with Stages(tmp_path, overwrite=True).begin("depth", "new", ["depth"]):
            (tmp_path / "depth").mkdir(exist_ok=True)
            (tmp_path / "depth" / "a").write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with Stages(tmp_path, overwrite=False).begin("depth", "new", ["depth"]) as goes_on:
        assert goes_on
        assert [path.read_text() for path in (tmp_path / "depth").iterdir()] == ["new"]


def test_what_failed_before_anything_was_made_may_be_tried_with_other_settings(
    tmp_path: Path,
) -> None:
    def failing() -> None:
        with Stages(tmp_path, overwrite=False).begin("mesh", "k", ["a.txt"]):
            raise ValueError("another voxel size")

    with pytest.raises(ValueError, match="voxel"):
        failing()
    finish(tmp_path, "other")
    assert Stages(tmp_path, overwrite=False).is_done("mesh", "other")
