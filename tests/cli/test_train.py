"""`crispdepth train layered` and `train pack` on small frames, as a person runs them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from PIL import Image
from safetensors.torch import load_file

from crispdepth.cli.errors import ExitCode
from crispdepth.cli.main import main
from crispdepth.data.pack import open_pack

SIZE = (48, 64)
TINY = ("--size", "32", "--batch", "2", "--workers", "0", "--every", "2", "--held-out", "0.3")


@pytest.fixture(autouse=True)
def _in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Paths are relative to the test's folder; what `main` sets is as before when it ends."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def train(*options: str) -> int:
    return main(["train", "layered", *TINY, *options])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A plain folder of four photos with depth and instances."""
    folder = tmp_path / "data"
    rng = np.random.default_rng(0)
    for name in ("images", "depth", "instances"):
        (folder / name).mkdir(parents=True)
    for index in range(4):
        z = np.full(SIZE, 4, np.float32)
        ids = np.zeros(SIZE, np.uint8)
        row, column = rng.integers(4, 16, 2)
        box = (slice(row, row + 24), slice(column, column + 24))
        z[box], ids[box] = 2, 1
        image = rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
        Image.fromarray(image).save(folder / f"images/{index}.png")
        Image.fromarray(ids).save(folder / f"instances/{index}.png")
        np.save(folder / f"depth/{index}.npy", z)
        description = json.dumps({"kind": "depth", "unit": "m"})
        (folder / f"depth/{index}.npy.json").write_text(description)
    return folder


@pytest.fixture
def pack(data: Path, tmp_path: Path) -> Path:
    code = main(["train", "pack", str(data), "--data-format", "folder", "-o", f"{tmp_path}/pack"])
    assert code == ExitCode.OK
    return tmp_path / "pack"


def test_a_dataset_is_packed(pack: Path) -> None:
    frames = open_pack(pack)
    assert len(frames) == 4
    assert frames[2].depth.size == SIZE
    assert frames[2].instances is not None


def test_packs_can_be_thinned_shrunk_and_packed_again(pack: Path, tmp_path: Path) -> None:
    out = tmp_path / "small"
    command = ["train", "pack", str(pack), str(pack), "-o", str(out), "--every", "2"]
    assert main([*command, "--longest", "32", "--compact"]) == ExitCode.OK
    frames = open_pack(out)
    assert [frame.name for frame in frames] == ["0", "2", "0", "2"]
    assert frames[0].depth.size == (24, 32)


def test_packs_can_bring_what_a_network_makes_of_the_photos(
    data: Path, tmp_path: Path, write_onnx: Callable[..., Path]
) -> None:
    node = helper.make_node("ReduceMean", ["image"], ["depth"], axes=[1], keepdims=1)
    model = write_onnx(tmp_path / "net.onnx", [node], {"image": [1, 3, *SIZE]}, ["depth"])
    out = tmp_path / "rough"
    command = ["train", "pack", str(data), "--data-format", "folder", "-o", str(out)]
    options = ["--depth-model", str(model), "--depth-model-input", "byte"]
    assert main([*command, *options]) == ExitCode.OK
    for frame in open_pack(out):
        assert frame.rough is not None
        grey = frame.image.mean(axis=2)
        assert np.corrcoef(frame.rough.ravel(), grey.ravel())[0, 1] > 0.999


def test_pixels_of_no_depth_model_are_a_usage_error(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "pack", str(data), "-o", "pack", "--depth-model-input", "unit"]
    assert main(command) == ExitCode.USAGE
    assert "--depth-model" in capsys.readouterr().err


def test_a_pack_is_not_written_over_what_is_read(
    pack: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for same in (str(pack), pack.name):  # one path is absolute, the other is not
        assert main(["train", "pack", str(pack), "-o", same]) == ExitCode.USAGE
        assert "name another" in capsys.readouterr().err
    assert len(open_pack(pack)) == 4


def test_packing_nothing_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "pack", "-o", "pack"]) == ExitCode.USAGE
    assert "at least one folder" in capsys.readouterr().err


def test_training_runs_and_says_how_it_goes(
    pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert train("--data", "pack", "-o", "out", "--steps", "4") == ExitCode.OK
    printed = capsys.readouterr()
    assert printed.out.split() == ["out"]
    (second, last) = printed.err.splitlines()[-2:]
    assert "step 2/4" in second
    assert "step 4/4" in last
    for word in ("loss", "samples/s", "steps/s", "error", "best", "left"):
        assert word in last
    config = json.loads((tmp_path / "out/config.json").read_text("utf-8"))
    assert config["preset"] == "small"
    assert config["samples"]["size"] == 32
    assert load_file(tmp_path / "out/best.safetensors")


def test_a_training_is_exported(
    pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--data", "pack", "-o", "out", "--steps", "1") == ExitCode.OK
    capsys.readouterr()
    assert main(["train", "export", "out", "-o", "weights"]) == ExitCode.OK
    assert capsys.readouterr().out == "weights\n"
    config = json.loads((tmp_path / "weights/config.json").read_text("utf-8"))
    assert config["sources"]["data"] == ["pack"]
    gate = ["--gate-threshold", "0.9", "--gate-sharpness", "2"]
    assert main(["train", "export", "out", "-o", "careful", *gate]) == ExitCode.OK
    config = json.loads((tmp_path / "careful/config.json").read_text("utf-8"))
    assert config["gate"] == {"threshold": 0.9, "sharpness": 2.0}
    assert main(["train", "export", "nothing", "-o", "weights"]) == ExitCode.FAILURE
    assert "nothing" in capsys.readouterr().err
    wrong = ["train", "export", "out", "-o", "weights", "--gate-threshold", "1"]
    assert main(wrong) == ExitCode.USAGE


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_saves_and_the_same_command_goes_on(
    pack: Path, tmp_path: Path, number: signal.Signals
) -> None:
    options = ["--data", "pack", "-o", "out", "--steps", "300", *TINY, "--workers", "1"]
    command = [sys.executable, "-m", "crispdepth", "train", "layered", *options]
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "step 2/300" in line:
            os.killpg(process.pid, number)  # the workers get it, too
            break
    _, end = process.communicate(timeout=60)
    assert process.returncode == ExitCode.INTERRUPTED
    assert "Error" not in end
    assert "of 300; to go on: crispdepth train layered --data pack -o out --steps 300" in end
    assert (tmp_path / "out/last.safetensors").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "100"], "--size must be a multiple of 32, got 100"),
        (["--set", "rain=1"], "--set rain=1: the names are morphology"),
        (["--set", "blur=often"], "--set blur=often: blur must be a number"),
        (["--set", "colour=1"], "--set colour=1: colour must be true or false"),
    ],
)
def test_wrong_options_are_usage_errors(
    pack: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--data", "pack", "-o", "out", *options) == ExitCode.USAGE
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "nothing"], "There is no dataset folder nothing"),
        (["--preset", "large"], "There is no preset 'large'"),
        (["--init", "nothing"], "There is no checkpoint nothing"),
        (["--stage", "1", "--variant", "direct-composite"], "train it with stage 2"),
        (["--objects", "nothing"], "There is no mask folder nothing"),
        (["--held-out", "0"], "between 0 and 1"),
    ],
)
def test_what_cannot_be_used_is_named(
    pack: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--data", "pack", "-o", "out", *options) == ExitCode.FAILURE
    assert message in capsys.readouterr().err


def test_settings_and_sources_reach_the_samples(pack: Path, tmp_path: Path) -> None:
    mesh = "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"
    (tmp_path / "meshes").mkdir()
    (tmp_path / "meshes/triangle.obj").write_text(mesh)
    options = ["--variant", "direct-paired", "--perturb", "paper", "--set", "human_holes=0"]
    masks = ["--objects", "data/instances", "--people", "data/instances", "--meshes", "meshes"]
    assert train("--data", "pack", "-o", "out", "--steps", "1", *options, *masks) == ExitCode.OK
    config = json.loads((tmp_path / "out/config.json").read_text("utf-8"))
    assert config["sources"]["people"] == ["instances"]
    samples = config["samples"]
    assert samples["real_edges"] == 1
    assert samples["perturbations"]["human_holes"] == 0
    assert samples["perturbations"]["blur"] == 1
