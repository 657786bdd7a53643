"""`crispdepth train volume` and `train depths` on small scenes, as a person runs them."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from crispdepth.cli.errors import ExitCode
from crispdepth.cli.main import main
from crispdepth.data.pack import pack_frames
from crispdepth.data.posed_scenes import posed_scenes
from crispdepth.geometry.view_selection import select_sources
from crispdepth.io.view_depths import read_view_depth
from crispdepth.models.weights import load_stereo
from crispdepth.tasks.multiview_network import Sighting
from crispdepth.tasks.volume_stereo import predict_stereo
from tests.posed import ball_frames

TINY = (
    *("--workers", "0", "--every", "1", "--held-out", "0.3", "--held-out-samples", "1"),
    *("--size", "48", "64", "--volume", "16", "16", "8", "--views", "2", "3", "--steps", "1"),
    *("--voxel", "0.15", "0.25", "--cpu", "--network", "fusion.width=4", "stereo.planes=8"),
)


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What `main` sets is as before when it ends."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def pack(tmp_path: Path) -> str:
    """Two scenes of three views."""
    pack_frames([*ball_frames("a", 3), *ball_frames("b", 3)], tmp_path / "balls.pack")
    return str(tmp_path / "balls.pack")


def train(*options: str) -> int:
    return main(["train", "volume", *TINY, *options])


def test_depths_are_found_once_and_fused(
    pack: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    depths, run = tmp_path / "balls.depths", tmp_path / "run"
    find = ("train", "depths", pack, "-o", str(depths), "--method", "classical", "--every", "2")
    assert main([*find, "--consistent", "0"]) == ExitCode.OK
    found = sorted(path.relative_to(depths).as_posix() for path in depths.rglob("*.exr"))
    assert found == [f"a/000{number}.exr" for number in range(3)]
    before = [path.stat().st_mtime_ns for path in depths.rglob("*.exr")]
    assert main([*find, "--consistent", "0"]) == ExitCode.OK
    assert [path.stat().st_mtime_ns for path in depths.rglob("*.exr")] == before
    capsys.readouterr()
    options = ("--data", pack, "--depths", str(depths), "-o", str(run))
    assert train(*options, "--synthetic", "0", "--tsdf", "3") == ExitCode.OK
    out, err = capsys.readouterr()
    assert out.strip() == str(run)
    assert "l1_near_fused" in err
    config = json.loads((run / "config.json").read_text())
    assert config["network"]["fusion"]["width"] == 4
    assert config["samples"]["synthetic"] == 0
    assert config["objective"]["tsdf"] == 3
    assert config["depths"] == ["balls.depths"]
    assert train(*options, "--synthetic", "0", "--tsdf", "2") == ExitCode.FAILURE
    assert "objective.tsdf (3.0 before, 2.0 now)" in capsys.readouterr().err


def test_depths_of_the_stereo_have_its_overlap_mask_as_confidence(
    pack: str, volume_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    depths = tmp_path / "balls.depths"
    find = ["train", "depths", pack, "-o", str(depths), "--every", "2", "--consistent", "0"]
    weights = ("--weights", str(volume_weights))
    assert main([*find, "--method", "classical", *weights]) == ExitCode.USAGE
    assert "add --method multiview or --method stereo" in capsys.readouterr().err
    assert main([*find, "--method", "stereo", *weights]) == ExitCode.OK
    network = load_stereo(volume_weights)
    frames = ball_frames("a", 3)
    posed = posed_scenes(frames)[0]
    found = read_view_depth(depths, frames[0].name)
    assert found.depth.usable.all()
    order = 0, *select_sources(posed.cameras, 0, *posed.bounds, 6).indices
    sightings = [Sighting(posed.cameras[i], frames[i].image, None, carves=False) for i in order]
    overlap = predict_stereo(network, sightings, *posed.bounds, torch.device("cpu")).predicted
    assert np.abs(found.confidence - overlap.probability).max() < 1 / 255


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--preset", "volume-tiny"), "There is no preset 'volume-tiny'"),
        (("--network", "colour=3"), "--network colour=3: the names are stereo, fusion"),
        (("--held-out-samples", "0"), "--held-out-samples must be 1 or more"),
    ],
)
def test_wrong_options_are_usage_errors(
    pack: str, tmp_path: Path, options: tuple[str, ...], said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert train("--data", pack, "-o", str(tmp_path / "run"), *options) == ExitCode.USAGE
    assert said in capsys.readouterr().err


def test_scenes_of_one_name_in_two_datasets_are_refused(
    pack: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The depths of one would be taken for those of the other."""
    pack_frames(ball_frames("a", 2), tmp_path / "others.pack")
    words = ("train", "depths", pack, str(tmp_path / "others.pack"), "-o", str(tmp_path / "depths"))
    assert main([*words, "--method", "classical", "--consistent", "0"]) == ExitCode.USAGE
    assert "others.pack both have a scene 'a'" in capsys.readouterr().err


def test_every_zeroth_scene_is_a_usage_error(
    pack: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    depths = ("train", "depths", pack, "-o", str(tmp_path / "depths"), "--every", "0")
    assert main([*depths]) == ExitCode.USAGE
    assert "--every must be 1 or more" in capsys.readouterr().err
