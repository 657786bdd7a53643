"""`crispdepth synth`."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from crispdepth.cli import synth
from crispdepth.cli.errors import UsageError

Run = Callable[..., subprocess.CompletedProcess[str]]
TINY = ("--size", "32x24", "--spp", "1", "--frames-per-scene", "1")


def test_scenes_are_made_once_and_more_can_be_added(run: Run, tmp_path: Path) -> None:
    first = run("synth", "objects", "-o", "out", "--count", "2", "--jobs", "1", *TINY)
    assert first.returncode == 0, first.stderr
    assert first.stdout.split() == ["out/object_000000", "out/object_000001"]
    photo = tmp_path / "out/object_000000/images/0000.jpg"
    before = photo.stat().st_mtime_ns
    (tmp_path / "out/object_000001").rename(tmp_path / "elsewhere")
    second = run("synth", "objects", "-o", "out", "--count", "3", "--jobs", "2", *TINY)
    assert second.returncode == 0, second.stderr
    assert sorted(second.stdout.split()) == ["out/object_000001", "out/object_000002"]
    assert "2 of 3 scenes" in second.stderr
    assert photo.stat().st_mtime_ns == before
    # One process or two, the same scene comes of it.
    for path in (tmp_path / "elsewhere").rglob("*.*g"):
        again = tmp_path / "out/object_000001" / path.relative_to(tmp_path / "elsewhere")
        assert again.read_bytes() == path.read_bytes(), path


def test_mistakes_are_told_before_anything_is_rendered(tmp_path: Path) -> None:
    good = synth.SynthOptions("rooms", tmp_path / "out")
    for wrong, words in (
        (replace(good, size="big"), "WIDTHxHEIGHT"),
        (replace(good, spp=0), "--spp must be 1 or more"),
        (replace(good, frames_per_scene=0), "--frames-per-scene must be"),
        (replace(good, jobs=-1), "--jobs must be 0 or more"),
        (replace(good, shard="3/2"), "--shard is i/n"),
    ):
        with pytest.raises(UsageError, match=words):
            synth.run(wrong)
    with pytest.raises(FileNotFoundError, match="no folder"):
        synth.run(replace(good, assets=tmp_path / "absent"))
    assert not (tmp_path / "out").exists()


def test_scenes_of_other_options_are_not_mixed(tmp_path: Path) -> None:
    (tmp_path / "config.rooms.json").write_text("{}")
    with pytest.raises(UsageError, match="other options"):
        synth.run(synth.SynthOptions("rooms", tmp_path))
