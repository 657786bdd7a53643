"""The doctor runs what it reports on."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from crispdepth.cli import doctor
from crispdepth.cli.doctor import CHECKS, NEEDED, DoctorOptions
from crispdepth.cli.errors import ExitCode
from crispdepth.models import weights

Run = Callable[..., CompletedProcess[str]]


def test_a_sound_installation_is_found_sound(run: Run) -> None:
    done = run("doctor", "--json")
    assert done.returncode == 0, done.stdout
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)}
    assert {"Python", "memory", "processors", "this folder", *NEEDED, *CHECKS} <= set(findings)
    assert all(findings[name]["state"] == "ok" for name in (*NEEDED, *CHECKS))
    shipped = {found["name"] for found in findings.values() if "weights" in found["name"]}
    folders = (path.parent.name for path in weights._SHIPPED.glob("*/config.json"))
    assert shipped == {f"weights {name}" for name in folders}
    assert all(findings[name]["state"] == "ok" for name in shipped)


def _raise(folder: Path) -> str:
    raise RuntimeError("codec is gone")


def test_something_broken_is_named_and_ends_in_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "CHECKS", {"EXR": _raise})
    assert doctor.run(DoctorOptions()) == ExitCode.FAILURE
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("broken"))
    assert "EXR" in line
    assert "RuntimeError: codec is gone" in line


def test_a_missing_package_is_broken_and_a_missing_extra_is_absent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "CHECKS", {})
    monkeypatch.setattr(doctor, "EXTRAS", {"bench": {"scipy": "no_such_module"}})
    assert doctor.run(DoctorOptions()) == ExitCode.OK
    assert 'pip install "crispdepth[bench]"' in capsys.readouterr().out
    monkeypatch.setattr(doctor, "NEEDED", {"numpy": "no_such_module"})
    assert doctor.run(DoctorOptions()) == ExitCode.FAILURE


def test_weights_run_or_are_broken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, learned_weights: Path
) -> None:
    def state() -> str:
        name = f"weights {weights.DEFAULT}"
        (found,) = (finding for finding in doctor._examine() if finding.name == name)
        return found.state

    monkeypatch.setattr(doctor, "CHECKS", {})
    monkeypatch.setattr(doctor, "EXTRAS", {})
    monkeypatch.setattr(weights, "_SHIPPED", tmp_path)
    assert state() == "broken"  # an installation that lost them
    shutil.copytree(learned_weights, tmp_path / weights.DEFAULT)
    assert state() == "ok"
    (tmp_path / weights.DEFAULT / "model.onnx").write_bytes(b"damaged")
    assert state() == "broken"


@pytest.mark.parametrize(
    "name", [weights.DEFAULT_MULTIVIEW, weights.DEFAULT_VOLUME, weights.DEFAULT_STEREO]
)
def test_weights_for_torch_are_whole_or_broken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """Without torch, which the light installation does not have."""

    def found() -> tuple[str, str]:
        (one,) = (each for each in doctor._examine() if each.name == f"weights {name}")
        return one.state, one.detail

    monkeypatch.setattr(doctor, "CHECKS", {})
    monkeypatch.setattr(doctor, "EXTRAS", {})
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it raises
    shutil.copytree(weights._SHIPPED / name, tmp_path / name)
    monkeypatch.setattr(weights, "_SHIPPED", tmp_path)
    assert found()[0] == "ok"
    file = tmp_path / name / weights.SAFETENSORS
    data = file.read_bytes()
    file.write_bytes(data[:-1])
    state, detail = found()
    assert state == "broken"
    assert f"{weights.SAFETENSORS} is damaged" in detail
    file.unlink()
    state, detail = found()
    assert state == "broken"
    assert f"has no {weights.SAFETENSORS}" in detail


def test_a_folder_that_cannot_be_written_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setattr(doctor, "CHECKS", {})
    assert doctor.run(DoctorOptions()) == ExitCode.OK
    (line,) = (row for row in capsys.readouterr().out.splitlines() if "cannot be written" in row)
    assert line.startswith("warning this folder")
