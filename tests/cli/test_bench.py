"""`crispdepth bench refine`: what is left of a run that fails."""

import json
from pathlib import Path

import pytest

from crispdepth.cli import bench
from crispdepth.cli.bench import BenchOptions, choose_methods
from crispdepth.cli.errors import UsageError
from crispdepth.data.datasets import scene_json


@pytest.mark.parametrize("existed", [True, False])
def test_a_failed_run_leaves_no_folder_that_it_made(
    existed: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def without_extra(*inputs: object) -> None:
        assert (tmp_path / "out").is_dir(), "made before the work: it could not be made later"
        raise ImportError('pip install "crispdepth[bench]"')

    monkeypatch.setattr(scene_json, "open_scenes", lambda folder, **how: [])
    monkeypatch.setattr(bench, "_score", without_extra)
    if existed:
        (tmp_path / "out").mkdir()
    with pytest.raises(ImportError, match="bench"):
        bench.run(BenchOptions((tmp_path,), out=tmp_path / "out"))
    assert (tmp_path / "out").exists() == existed


def test_weights_are_methods_beside_those_of_the_package(tmp_path: Path) -> None:
    config = {"preset": "small", "architecture": {}, "sha256": {}, "variant": "layered"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    given = [f"mine={tmp_path}"]
    assert {"initial", "classical", "crispdepth", "mine", "mine-hard"} < choose_methods(
        [], given
    ).keys()
    assert [*choose_methods(["mine-hard", "initial"], given)] == ["mine-hard", "initial"]


@pytest.mark.parametrize("given", ["folder", "=folder", "name="])
def test_weights_need_a_name_and_a_folder(given: str) -> None:
    with pytest.raises(UsageError, match="NAME=DIR"):
        choose_methods([], [given])


def test_an_unknown_method_lists_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"Unknown method best; .*initial.*crispdepth"):
        choose_methods(["best"])
