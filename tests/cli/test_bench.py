"""`crispdepth bench refine`: what is left of a run that fails."""

from pathlib import Path

import pytest

from crispdepth.cli import bench
from crispdepth.cli.bench import BenchOptions
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
