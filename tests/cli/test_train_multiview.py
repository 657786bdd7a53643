"""`crispdepth train multiview` on small scenes, as a person runs it."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from crispdepth.cli.errors import ExitCode
from crispdepth.cli.main import main
from crispdepth.data.pack import pack_frames
from tests.posed import ball_frames

TINY = ("--workers", "0", "--every", "1", "--held-out", "0.3", "--held-out-samples", "2")


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What `main` sets is as before when it ends."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def pack(tmp_path: Path) -> str:
    """Two scenes of four views."""
    frames = [*ball_frames("a", 4), *ball_frames("b", 4, masks=True)]
    pack_frames(frames, tmp_path / "balls.pack")
    return str(tmp_path / "balls.pack")


def train(*options: str) -> int:
    return main(["train", "multiview", *TINY, *options])


def test_training_runs_and_goes_on(
    pack: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    options = ("--data", pack, "-o", str(run), "--curriculum", "1 32x32 2 1", "--steps", "1",
               "--network", "planes=16,6")  # fmt: skip
    assert train(*options, "--rgba", "0.2", "--edge", "3") == ExitCode.OK
    out, err = capsys.readouterr()
    assert out.strip() == str(run)
    assert "scene_abs_rel" in err or "object_abs_rel" in err or "rgba_abs_rel" in err
    config = json.loads((run / "config.json").read_text())
    assert config["samples"]["rgba"] == 0.2
    assert config["objective"]["edge"] == 3
    assert config["fit"]["batch"] == 1
    assert config["network"]["planes"] == [16, 6]
    assert config["stages"][0]["size"] == [32, 32]
    assert config["sources"] == {"data": ["balls.pack"]}
    assert train(*options, "--edge", "2") == ExitCode.FAILURE
    assert "objective.edge (3.0 before, 2.0 now)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--curriculum", "1 32x32 2"), "--curriculum: A stage reads SHARE HEIGHTxWIDTH"),
        (("--network", "colour=3"), "--network colour=3: the names are widths"),
        (("--held-out-samples", "0"), "--held-out-samples must be 1 or more"),
    ],
)
def test_wrong_options_are_usage_errors(
    pack: str, tmp_path: Path, options: tuple[str, ...], said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    code = train("--data", pack, "-o", str(tmp_path / "run"), *options)
    assert code == ExitCode.USAGE
    assert said in capsys.readouterr().err


def test_an_unknown_preset_is_answered_with_the_known(
    pack: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(tmp_path / "run")
    assert train("--data", pack, "-o", run, "--preset", "huge") == ExitCode.USAGE
    assert "There is no preset 'huge'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        train("--data", pack, "-o", run, "--wrong", "3")
    assert "wrong must be between 0 and 1" in capsys.readouterr().err
