"""`crispdepth refine` as a real process: what it takes, what it writes, how it ends."""

import hashlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from PIL import Image

from crispdepth.api import FORMATS
from crispdepth.cli import refine
from crispdepth.cli.inputs import OWN_NAMES
from crispdepth.cli.main import main
from crispdepth.cli.refine import result_files
from crispdepth.io.atomic import TEMP_PREFIX
from crispdepth.io.depths import read_depth
from crispdepth.io.images import write_image
from crispdepth.models.weights import read_onnx

Run = Callable[..., subprocess.CompletedProcess[str]]
Scene = Callable[..., None]

FOLDERS = ("photos", "--depth", "depths", "--mask", "masks", "-o", "out")
ONE = ("photos/a.png", "--depth", "depths/a.npy", "--mask", "masks/a.png")
SET = [
    "confidence.png",
    *("depth.exr", "depth.exr.json", "depth.png", "depth.png.json"),
    *("layers.exr", "mask_0.png", "preview.png"),
]


def manifest(folder: Path) -> list[dict[str, Any]]:
    paths = sorted(folder.glob("manifest*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text("utf-8").splitlines()]


def photos_done(folder: Path) -> list[str]:
    """The photos of which the manifest says that they are done."""
    return [record["input"] for record in manifest(folder) if record["status"] == "done"]


def tree(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def results(folder: Path) -> list[str]:
    """The photos, as paths in the result folder, whose depth is there."""
    return sorted(p.parent.relative_to(folder).as_posix() for p in folder.rglob("depth.exr"))


def test_one_photo_into_a_folder_gives_the_whole_set(
    run: Run, scene: Scene, tmp_path: Path
) -> None:
    scene("a")
    first = run("refine", *ONE, "-o", "out")
    assert (first.returncode, first.stdout) == (0, f"{tmp_path / 'out' / 'a'}\n")
    assert tree(tmp_path / "out" / "a") == SET
    assert "relative depth" in first.stderr, "what the numbers were taken to be is said"
    assert "1/1 photos matched" in first.stderr
    assert "\x1b" not in first.stderr, "no progress bar where nobody is watching"
    sidecar = json.loads((tmp_path / "out" / "a" / "depth.exr.json").read_text("utf-8"))
    assert sidecar["provenance"]["photo"] == "a.png"
    summary = json.loads((tmp_path / "out" / "summary.json").read_text("utf-8"))
    assert (summary["done"], summary["failed"]) == (1, 0)
    config = json.loads((tmp_path / "out" / "config.json").read_text("utf-8"))
    assert config["mask_role"] == "object"


def test_only_what_changed_is_done_again(run: Run, scene: Scene, tmp_path: Path) -> None:
    scene("a", "sub/b")
    command = ("refine", *FOLDERS, "--formats", "exr", "--json")

    def counts(*more: str) -> tuple[int, int, int]:
        done = run(*command, *more)
        summary = json.loads(done.stdout)
        assert done.returncode == 0
        return summary["done"], summary["skipped"], summary["failed"]

    assert counts() == (2, 0, 0)
    assert results(tmp_path / "out") == ["a", "sub/b"], "the tree is kept"
    assert tree(tmp_path / "out" / "a") == ["depth.exr", "depth.exr.json"]
    assert counts() == (0, 2, 0)
    mask = np.asarray(Image.open(tmp_path / "masks" / "a.png"))
    Image.fromarray(np.roll(mask, 1, axis=1)).save(tmp_path / "masks" / "a.png")
    assert counts() == (1, 1, 0)
    assert counts("--hard-masks") == (2, 0, 0)
    assert counts("--hard-masks", "--overwrite") == (2, 0, 0)


def test_the_engine_decides_the_result_and_is_loaded_once(
    scene: Scene, tmp_path: Path, learned_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def read(name: str) -> bytes:
        loaded.append(name)
        return read_onnx(name)

    monkeypatch.setattr("crispdepth.models.learned.read_onnx", read)
    monkeypatch.chdir(tmp_path)
    scene("a", "b")
    shutil.copytree(learned_weights, "weights")
    command = ("refine", *FOLDERS, "--formats", "exr")

    def done(*more: str) -> int:
        assert main([*command, *more]) == 0
        return int(json.loads(Path("out/summary.json").read_text("utf-8"))["done"])

    assert done("--engine", "classical") == 2
    network = ("--engine", "learned", "--weights")
    assert done(*network, "weights", "--resolution", "64") == 2
    assert loaded == ["weights"]
    origin = json.loads(Path("out/a/depth.exr.json").read_text("utf-8"))["provenance"]
    digest = hashlib.sha256((learned_weights / "model.onnx").read_bytes()).hexdigest()
    assert {
        "engine": "learned",
        "resolution": 64,
        "tiled": False,
        "weights": digest,
    }.items() <= origin.items()
    assert done(*network, str(learned_weights), "--resolution", "64") == 0, "the same content"
    assert done(*network, "weights") == 2, "another resolution"
    assert done(*network, "weights", "--tiled") == 2


def test_a_depth_model_makes_the_depth_that_is_not_read(
    scene: Scene, tmp_path: Path, write_onnx: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene("a")
    monkeypatch.chdir(tmp_path)
    shutil.copy("depths/a.npy", "photos/a_depth.npy")
    nodes = [
        helper.make_node("Div", ["image", "c"], ["unit"]),
        helper.make_node("ReduceMean", ["unit"], ["depth"], axes=[1]),
    ]
    sizes = {"image": [1, 3, 12, 12]}
    network = write_onnx(tmp_path / "net.onnx", nodes, sizes, ["depth"], {"c": 255.0})
    command = ["refine", "photos", "--mask", "masks", "-o", "out", "--formats", "exr"]

    def done(*more: str) -> int:
        assert main([*command, "--depth-model", "net.onnx", *more]) == 0
        return int(json.loads(Path("out/summary.json").read_text("utf-8"))["done"])

    assert done() == 1
    sidecar = json.loads(Path("out/a/depth.exr.json").read_text("utf-8"))
    assert (sidecar["kind"], sidecar["unit"]) == ("inverse_depth", "relative")
    assert sidecar["provenance"]["depth"] is None
    assert sidecar["provenance"]["depth_model"] == "net.onnx"
    digest = hashlib.sha256(network.read_bytes()).hexdigest()
    assert sidecar["provenance"]["depth_model_sha256"] == digest
    (record,) = (record for record in manifest(Path("out")) if record["status"] == "done")
    assert record["notes"][0].startswith("relative inverse depth from net.onnx (assumed")
    assert done() == 0
    assert done("--depth-kind", "depth") == 1
    assert done("--depth-model-input", "unit", "--depth-kind", "depth") == 1
    write_onnx(network, nodes, sizes, ["depth"], {"c": 254.0})
    assert done() == 1, "another network of the same name"


def test_a_network_finds_the_masks_that_are_not_read(
    scene: Scene,
    tmp_path: Path,
    fake_rembg: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scene("a", "b", "dark")
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save("photos/dark.png")
    loaded = fake_rembg()
    command = ["refine", "photos", "--depth", "depths", "--mask", "auto", "-o", "out"]
    assert main([*command, "--formats", "exr,masks"]) == 3
    assert loaded == ["u2net"], "once for all photos"
    error = "error: dark.png: the network 'u2net' found no object in this photo"
    assert error in capsys.readouterr().err
    assert results(Path("out")) == ["a", "b"]
    found = np.asarray(Image.open("out/a/mask_0.png"))
    np.testing.assert_array_equal(found, np.asarray(Image.open("photos/a.png"))[..., 0])
    origin = json.loads(Path("out/a/depth.exr.json").read_text("utf-8"))["provenance"]
    assert (origin["masks"], origin["mask_model"]) == ([], "u2net")
    records = [record for record in manifest(Path("out")) if record["status"] == "done"]
    assert all("mask from the network u2net of rembg" in record["notes"] for record in records)
    assert main([*command, "--mask-model", "u2netp", "--formats", "exr,masks", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["done"] == 2, "another network"


def test_one_depth_file_and_its_sidecar(run: Run, scene: Scene, tmp_path: Path) -> None:
    scene("a")
    done = run("refine", *ONE, "-o", "made/x.pfm", "--json")
    assert done.returncode == 0
    assert tree(tmp_path / "made") == ["x.pfm", "x.pfm.json"]
    (result,) = json.loads(done.stdout)["results"]
    assert result["outputs"] == ["made/x.pfm", "made/x.pfm.json"]
    assert read_depth(tmp_path / "made" / "x.pfm").depth.kind == "depth"
    refused = run("refine", *ONE, "-o", "made/x.pfm", "--json")
    assert refused.returncode == 1
    assert "--overwrite" in refused.stderr
    summary = json.loads(refused.stdout)
    assert (summary["done"], summary["failed"], summary["interrupted"]) == (0, 1, False)
    assert "--overwrite" in summary["results"][0]["error"]
    assert run("refine", *ONE, "-o", "made/x.pfm", "--overwrite", "-q").stderr == ""


def test_an_interrupted_single_file_has_a_summary_too(
    scene: Scene,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*inputs: object) -> None:
        raise KeyboardInterrupt

    scene("a")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(refine, "_refine_into_file", interrupted)
    assert main(["refine", *ONE, "-o", "x.npy", "--json"]) == 130
    summary = json.loads(capsys.readouterr().out)
    assert (summary["interrupted"], summary["results"]) == (True, [])


def test_an_unrelated_file_in_the_place_of_the_sidecar_is_not_replaced(
    run: Run, scene: Scene, tmp_path: Path
) -> None:
    scene("a")
    notes = tmp_path / "mine.npy.json"
    notes.write_text("precious")
    refused = run("refine", *ONE, "-o", "mine.npy")
    assert refused.returncode == 1
    assert "mine.npy.json" in refused.stderr
    assert notes.read_text() == "precious"
    assert not (tmp_path / "mine.npy").exists()


def test_results_of_other_settings_are_never_taken_for_done(
    run: Run, scene: Scene, tmp_path: Path
) -> None:
    scene("a")
    soft = Image.fromarray(np.tile(np.linspace(0, 255, 32).astype(np.uint8), (24, 1)))
    soft.save(tmp_path / "masks" / "a.png")
    np.save(tmp_path / "depths" / "a.npy", np.load(tmp_path / "depths" / "a.npy") * 40)
    command = ("refine", *ONE, "--depth-unit", "m", "-o", "out")
    first = tmp_path / "out" / "a" / "depth.exr"
    assert run(*command, "--formats", "exr").returncode == 0
    of_soft_masks = first.read_bytes()
    assert run(*command, "--formats", "exr,png", "--hard-masks").returncode == 1, "no PNG fits"
    assert first.read_bytes() != of_soft_masks
    again = json.loads(run(*command, "--formats", "exr", "--json").stdout)
    assert (again["done"], again["skipped"]) == (1, 0)
    assert first.read_bytes() == of_soft_masks


def test_no_file_of_other_settings_or_other_input_stays(
    run: Run, scene: Scene, tmp_path: Path
) -> None:
    scene("a")
    command = ("refine", *ONE, "--depth-unit", "m", "-o", "out")
    folder = tmp_path / "out" / "a"
    assert run(*command, "--formats", "exr,npy,png,masks").returncode == 0
    assert run(*command, "--formats", "exr,npy").returncode == 0
    exr, npy = (["depth.exr", "depth.exr.json"], ["depth.npy", "depth.npy.json"])
    png = ["depth.png", "depth.png.json"]
    assert tree(folder) == [*exr, *npy, *png, "mask_0.png"], "the same, in other formats"
    assert run(*command, "--formats", "exr", "--hard-masks").returncode == 0
    assert tree(folder) == exr
    assert run(*command, "--hard-masks").returncode == 0
    assert tree(folder) == SET
    np.save(tmp_path / "depths" / "a.npy", np.load(tmp_path / "depths" / "a.npy") * 40)
    assert "There is no depth.png" in run(*command, "--hard-masks").stderr
    assert tree(folder) == [name for name in SET if name not in png]


def test_a_failure_says_that_older_results_are_there_and_keeps_them(
    run: Run, scene: Scene, tmp_path: Path
) -> None:
    scene("a")
    command = ("refine", *ONE, "-o", "out", "--formats", "exr", "--json")
    assert run(*command).returncode == 0
    depth = tmp_path / "depths" / "a.npy"
    whole = depth.read_bytes()
    depth.write_bytes(whole[:-100])
    (result,) = json.loads(run(*command).stdout)["results"]
    assert f"{tmp_path / 'out' / 'a'} still holds files of an earlier run" in result["error"]
    assert tree(tmp_path / "out" / "a") == ["depth.exr", "depth.exr.json"]


def test_every_file_of_a_result_is_foreseen(run: Run, scene: Scene, tmp_path: Path) -> None:
    scene("a")
    assert run("refine", *ONE, "-o", "out", "--formats", ",".join(FORMATS)).returncode == 0
    folder = tmp_path / "out" / "a"
    foreseen = result_files(folder, FORMATS, masks=1)
    assert sorted(file.name for file in foreseen) == tree(folder)
    own = [file.name for file in (*foreseen, *(tmp_path / "out").glob("*.*"))]
    assert all(OWN_NAMES.fullmatch(name) for name in own)
    assert {"config.json", "manifest.jsonl", "summary.json"} <= set(own)


def test_photos_called_like_files_of_a_result(run: Run, scene: Scene, tmp_path: Path) -> None:
    scene("config.json", "a", "a/depth.exr")
    finished = run("refine", *FOLDERS, "--formats", "exr")
    assert finished.returncode == 0, finished.stderr
    assert results(tmp_path / "out") == ["a", "a/depth.exr_", "config.json_"]


def test_the_polarity_of_a_mask_is_in_its_name_for_standard_input_too(
    run: Run, scene: Scene, tmp_path: Path
) -> None:
    scene("a")
    (tmp_path / "masks" / "a.png").rename(tmp_path / "dynamic_mask_a.png")
    rest = ("--depth", "depths/a.npy", "--mask", "dynamic_mask_a.png", "--formats", "masks")
    photo = (tmp_path / "photos" / "a.png").read_bytes()
    piped = run("refine", "-", *rest, "-o", "out", stdin=photo)
    assert "white = ignore" in piped.stderr
    assert run("refine", "photos/a.png", *rest, "-o", "out").returncode == 0
    made = (tmp_path / "out" / name / "mask_0.png" for name in ("a", "stdin"))
    assert len({file.read_bytes() for file in made}) == 1


def test_a_project_folder_means_its_images_and_that_is_said(
    run: Run, scene: Scene, tmp_path: Path
) -> None:
    scene("a")
    (tmp_path / "photos").rename(tmp_path / "images")
    finished = run("refine", ".", "--depth", "depths", "--mask", "masks", "--formats", "exr")
    assert finished.returncode == 0
    assert results(tmp_path / "refined") == ["a"]
    assert f"photos: the photos are those in {tmp_path / 'images'}" in finished.stderr


@pytest.mark.parametrize("out", ["out", "x.png"])
def test_a_png_scale_that_scales_nothing_is_told(
    run: Run, scene: Scene, tmp_path: Path, out: str
) -> None:
    scene("a")
    command = ("refine", *ONE, "--png-scale", "0.01", "-o", out)
    assert "--png-scale is unused" in run(*command).stderr
    meant = run(*command, "--depth-unit", "m", "--overwrite")
    assert meant.returncode == 0
    assert "unused" not in meant.stderr


@pytest.mark.parametrize("bits", [8, 16])
def test_a_damaged_photo_is_named_once(run: Run, scene: Scene, tmp_path: Path, bits: int) -> None:
    scene("a")
    photo = tmp_path / "photos" / "a.png"
    if bits == 16:
        deep = np.random.default_rng(0).integers(0, 65535, (24, 32, 3), np.uint16)
        write_image(photo, deep)
    photo.write_bytes(photo.read_bytes()[:-40])
    stderr = run("refine", *ONE, "-o", "out", "-q").stderr
    assert stderr.startswith("error: a.png: the photo is truncated")
    assert stderr.count("a.png") == 1
    assert len(stderr.splitlines()) == 1


def test_a_photo_from_standard_input(run: Run, scene: Scene, tmp_path: Path) -> None:
    scene("a")
    photo = (tmp_path / "photos" / "a.png").read_bytes()
    command = ("refine", "-", *ONE[1:], "-o", "out", "--formats", "exr")
    assert run(*command, stdin=photo).stdout == f"{tmp_path / 'out' / 'stdin'}\n"
    run("refine", *ONE, "-o", "out", "--formats", "exr")
    piped, named = (tmp_path / "out" / name / "depth.exr" for name in ("stdin", "a"))
    assert (read_depth(piped).depth.values == read_depth(named).depth.values).all()
    assert run(*command, stdin=photo[:40]).returncode == 1


def test_a_bad_file_costs_only_itself(run: Run, scene: Scene, tmp_path: Path) -> None:
    scene("a", "b", "c", "d")
    photo, mask = tmp_path / "photos" / "b.png", tmp_path / "masks" / "c.png"
    good = photo.read_bytes()
    photo.write_bytes(b"")
    Image.fromarray(np.zeros((24, 24), np.uint8)).save(mask)
    command = ("refine", *FOLDERS, "--formats", "exr")
    done = run(*command)
    assert done.returncode == 3
    assert results(tmp_path / "out") == ["a", "d"]
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert [line.split(": ")[1] for line in errors] == ["b.png", "c.png"]
    assert "24 x 24" in errors[1], "both sizes are named"
    assert "32 x 24" in errors[1]
    assert "Traceback" not in done.stderr
    assert [record["status"] for record in manifest(tmp_path / "out")] == [
        *("started", "done"),
        *("failed", "failed"),
        *("started", "done"),
    ]
    photo.write_bytes(good)
    mask.write_bytes((tmp_path / "masks" / "a.png").read_bytes())
    mended = run(*command, "--json")
    assert mended.returncode == 0
    assert json.loads(mended.stdout)["skipped"] == 2
    assert results(tmp_path / "out") == ["a", "b", "c", "d"]


def test_stopping_at_the_first_error(run: Run, scene: Scene, tmp_path: Path) -> None:
    scene("a", "b", "c")
    (tmp_path / "photos" / "b.png").write_bytes(b"no picture")
    done = run("refine", *FOLDERS, "--formats", "exr", "--on-error", "stop")
    assert done.returncode == 3
    assert results(tmp_path / "out") == ["a"]
    assert "stopped before 1" in done.stderr


def test_a_batch_of_which_nothing_succeeds_has_failed(
    run: Run, scene: Scene, tmp_path: Path
) -> None:
    scene("a", "b")
    for name in "ab":
        np.save(tmp_path / "depths" / f"{name}.npy", np.full((24, 32), 2, np.float32))
    done = run("refine", *FOLDERS)
    assert done.returncode == 1
    assert "constant" in done.stderr


USAGE = [
    ((), "Name a photo"),
    (("photos", "--depth", "depths", "-o", "x.npy"), "one file"),
    (("photos", "--formats", "exr,tiff"), "tiff"),
    (("photos", "--shard", "2/1"), "--shard"),
    (("photos", "-o", "x.tif"), "x.tif"),
    (("photos", "-o", "notes.txt"), "is a file; name a folder"),
    (("photos", "-o", "result.txt"), "name a folder, or a depth file"),
    (("project", "--depth", "depths", "-o", "project/images"), "folder of the photos"),
    (("photos/a.png", "--png-scale", "0"), "--png-scale is a number above 0"),
    (("photos/a.png", "--depth-scale", "-1"), "--depth-scale is a number above 0"),
    (("photos/a.png", "--depth-scale", "nan"), "--depth-scale is a number above 0"),
    (("photos/a.png", "--png-scale", "0.01", "-o", "x.exr"), "none is written"),
    (("photos/a.png", "--png-scale", "0.01", "--formats", "exr"), "none is written"),
    (("photos/a.png", "--formats", "exr", "-o", "x.exr"), "--formats is for a folder"),
    (("photos/a.png", "--mask"), "--mask needs files"),
    (("photos", "-o", "photos"), "folder of the photos"),
    (("-", "photos/a.png", "--depth", "depths/a.npy"), "one photo"),
    (("-",), "one photo"),
    (("-", "--depth", "depths"), "as files"),
    (("photos/a.png", "--depth", "depths/a.npy", "-o", "depths/a.npy"), "files that are read"),
    ((*ONE, "auto"), "--mask auto stands alone: name photos before it"),
    ((*ONE, "--mask-model", "u2netp"), "--mask-model is for --mask auto"),
    ((*ONE, "--depth-model", "some/name"), "makes it; give one"),
    (("photos/a.png", "--depth", "net.onnx"), "net.onnx is a --depth-model"),
    ((*ONE, "--depth-model-input", "byte"), "--depth-model-input is for a --depth-model"),
    (("photos/a.png", "--depth-model", "a/b", "--depth-scale", "2"), "is for depth files"),
    ((*ONE, "--engine", "classical", "--tiled"), "are for --engine learned"),
    ((*ONE, "--engine", "learned", "--resolution", "8"), "--resolution is at least 32; got 8"),
]
FAILURES = [
    (("nothing.png",), "nothing.png"),
    (("empty",), "No photo in empty"),
    (("photos", "--depth", "empty"), "depth"),
    (("lone/photos/a.png",), "Without any, name a --depth-model"),
    (("photos", "--depth-model", "midas"), "There is no depth model 'midas'"),
    (("photos", "--depth", "depths", "--mask", "empty"), "mask"),
    (("photos", "--depth", "depths", "--mask", "nowhere"), "nowhere"),
    (("photos", "--depth", "depths/a.npy"), "2 photos"),
    (("lone/photos/a.png", "--depth", "depths/a.npy"), "transparency"),
    (("clear.png", "--depth", "depths/a.npy"), "alpha channel is constant"),
    (("photos/a.png", "--depth", "depths/a.npy", "-o", "notes.txt/out"), "is a file; choose"),
    (("photos/a.png", "--depth", "wide.npy", "--mask", "masks/a.png"), "wide.npy, masks/a.png"),
    (("photos/a.png", "--depth", "photos/b.png", "--mask", "masks/a.png"), "photos/b.png"),
    (("photos/a.png", "--depth", "depths/a.npy", "-o", "photos/a.png/out"), "photos/a.png"),
    (("photos/a.png", "--depth", "wide.npy", "--mask", "masks/a.png"), "64 x 24"),
    (("photos/a.png", "--depth", "flat.npy", "--mask", "masks/a.png"), "constant"),
    (("photos/a.png", "--depth", "depths/a.npy", "--mask", "./auto"), "auto does not exist"),
    (("photos/a.png", "--depth", "none.npy", "--mask", "masks/a.png"), "no valid pixel"),
    ((*ONE, "--engine", "learned", "--weights", "nowhere"), "There are no weights 'nowhere'"),
]


@pytest.mark.parametrize(
    ("code", "words", "message"),
    [*((2, *case) for case in USAGE), *((1, *case) for case in FAILURES)],
)
def test_mistakes_are_explained_and_write_nothing(
    code: int,
    words: Sequence[str],
    message: str,
    scene: Scene,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scene("a", "b")
    (tmp_path / "empty").mkdir()
    shutil.copytree(tmp_path / "photos", tmp_path / "lone" / "photos")
    (tmp_path / "project" / "images").mkdir(parents=True)
    (tmp_path / "notes.txt").touch()
    Image.fromarray(np.full((24, 32, 4), 255, np.uint8)).save(tmp_path / "clear.png")
    np.save(tmp_path / "wide.npy", np.ones((24, 64), np.float32))
    np.save(tmp_path / "flat.npy", np.ones((24, 32), np.float32))
    np.save(tmp_path / "none.npy", np.zeros((24, 32), np.float32))
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    assert main(["refine", *words]) == code
    captured = capsys.readouterr()
    (error,) = (line for line in captured.err.splitlines() if line.startswith("error: "))
    assert message in error
    assert captured.out == ""
    assert not results(tmp_path)
    assert set(before) <= set(tree(tmp_path))


def test_usage_errors_leave_the_process_with_code_2(run: Run) -> None:
    assert run("refine").returncode == 2
    assert run("refine", "a.png", "--no-such-flag").returncode == 2


def test_photos_of_one_name_keep_their_suffixes(run: Run, scene: Scene, tmp_path: Path) -> None:
    scene("a", "b")
    scene("a", suffix=".jpg")
    for kind in ("depths/a{}.npy", "masks/a{}.png"):
        shutil.copy(tmp_path / kind.format(""), tmp_path / kind.format(".jpg"))
        (tmp_path / kind.format("")).rename(tmp_path / kind.format(".png"))
    done = run("refine", *FOLDERS, "--formats", "exr")
    assert done.returncode == 0
    assert results(tmp_path / "out") == ["a.jpg", "a.png", "b"]


def test_a_second_photo_never_replaces_the_result_of_the_first(
    run: Run, scene: Scene, tmp_path: Path
) -> None:
    scene("a", "sub/a")
    command = ("--depth", "depths", "--mask", "masks", "-o", "out", "--formats", "exr")
    assert run("refine", "photos/a.png", *command).returncode == 0
    before = (tmp_path / "out" / "a" / "depth.exr").read_bytes()
    other = ("photos/sub/a.png", "--depth", "depths/sub", "--mask", "masks/sub", "-o", "out")
    done = run("refine", *other, "--formats", "exr")
    assert done.returncode == 1
    assert str(tmp_path / "photos" / "a.png") in done.stderr
    assert (tmp_path / "out" / "a" / "depth.exr").read_bytes() == before


def test_companions_beside_the_photos_are_found_and_are_no_photos(
    run: Run, scene: Scene, tmp_path: Path
) -> None:
    scene("a")
    (tmp_path / "depths" / "a.npy").rename(tmp_path / "photos" / "a_depth.npy")
    (tmp_path / "masks" / "a.png").rename(tmp_path / "photos" / "a_mask.png")
    done = run("refine", "photos", "-o", "photos/refined", "--formats", "exr")
    assert done.returncode == 0
    assert results(tmp_path / "photos" / "refined") == ["a"]
    again = run("refine", "photos", "-o", "elsewhere", "--formats", "exr")
    assert again.returncode == 0
    assert results(tmp_path / "elsewhere") == ["a"], "the first results are no photos"


def test_transparency_is_the_mask_when_there_is_no_other(
    run: Run, scene: Scene, tmp_path: Path
) -> None:
    scene("a")
    photo = Image.open(tmp_path / "photos" / "a.png")
    photo.putalpha(Image.open(tmp_path / "masks" / "a.png"))
    photo.save(tmp_path / "photos" / "a.png")
    done = run("refine", *ONE[:3], "-o", "out", "--formats", "masks")
    assert done.returncode == 0
    mask, made = (
        np.asarray(Image.open(tmp_path / path)) for path in ("masks/a.png", "out/a/mask_0.png")
    )
    assert (made.astype(float) / made.max() == mask.astype(float) / 255).all()


def test_several_masks_of_one_photo(run: Run, scene: Scene, tmp_path: Path) -> None:
    scene("a")
    other = np.zeros((24, 32), np.uint8)
    other[:, 2:8] = 255
    Image.fromarray(other).save(tmp_path / "other.png")
    together = run("refine", *ONE, "other.png", "-o", "one", "--formats", "masks")
    repeated = run("refine", *ONE, "--mask", "other.png", "-o", "two", "--formats", "masks")
    assert (together.returncode, repeated.returncode) == (0, 0)
    assert tree(tmp_path / "one" / "a") == ["mask_0.png", "mask_1.png"]
    assert tree(tmp_path / "two" / "a") == ["mask_0.png", "mask_1.png"]


def test_smaller_depth_and_masks_are_enlarged_and_that_is_said(
    run: Run, scene: Scene, tmp_path: Path
) -> None:
    scene("a")
    np.save(tmp_path / "depths" / "a.npy", np.load(tmp_path / "depths" / "a.npy")[::2, ::2])
    Image.open(tmp_path / "masks" / "a.png").resize((16, 12)).save(tmp_path / "masks" / "a.png")
    done = run("refine", *ONE, "-o", "x.npy")
    assert done.returncode == 0
    assert done.stderr.count("resized from 16 x 12 to the 32 x 24") == 2
    assert np.load(tmp_path / "x.npy").shape == (24, 32)


def test_shards_together_do_everything_once(run: Run, scene: Scene, tmp_path: Path) -> None:
    scene("a", "b", "c", "sub/d", "sub/e")
    command = ("refine", *FOLDERS, "--formats", "exr")
    for shard in ("1/2", "2/2"):
        assert run(*command, "--shard", shard).returncode == 0
    assert sorted(photos_done(tmp_path / "out")) == [
        "a.png",
        "b.png",
        "c.png",
        "sub/d.png",
        "sub/e.png",
    ]
    whole = json.loads(run(*command, "--json").stdout)
    assert (whole["done"], whole["skipped"]) == (0, 5)
    assert run(*command, "--shard", "9/9").returncode == 0, "an empty shard is no failure"


def test_patterns_and_lists(run: Run, scene: Scene, tmp_path: Path) -> None:
    scene("a", "b", "sub/c")
    rest = ("--depth", "depths", "--mask", "masks", "--formats", "exr")
    assert run("refine", "photos/[ab].png", *rest, "-o", "globbed").returncode == 0
    assert results(tmp_path / "globbed") == ["a", "b"]
    lines = "# some\nsub/c.png\na.png\na.png\ngone.png\nno/b.png\n"
    (tmp_path / "photos" / "list.txt").write_text(lines)
    listed = run("refine", "photos/list.txt", *rest, "-o", "listed")
    assert listed.returncode == 3, "lines that name nothing cost only themselves"
    assert results(tmp_path / "listed") == ["a", "sub/c"]


NAMES = ["Grüße 深度 🌄", "x" * 200, "-dash", "a b'c\"d"]
if sys.platform == "linux":
    NAMES.append(os.fsdecode(b"latin-\xe9"))


def test_any_name_that_the_file_system_takes(run: Run, scene: Scene, tmp_path: Path) -> None:
    scene(*NAMES)
    done = run("refine", *FOLDERS)
    assert done.returncode == 0, done.stderr
    folders = [Path(line) for line in done.stdout.splitlines()]
    assert sorted(folder.name for folder in folders) == sorted(NAMES)
    assert all(tree(folder) == SET for folder in folders), "paths come out as they went in"
    again = run("refine", *FOLDERS, "--json")
    assert json.loads(again.stdout)["skipped"] == len(folders)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Until the condition holds; an error if the process ends before."""
    while not condition():
        assert process.poll() is None, "it was over before it could be interrupted"
        time.sleep(0.005)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_batch_continues(
    number: signal.Signals, run: Run, scene: Scene, tmp_path: Path
) -> None:
    names = [f"p{i:02}" for i in range(12)]
    scene(*names)
    command = ("refine", *FOLDERS, "--formats", "exr,masks,preview")
    with subprocess.Popen(
        [sys.executable, "-m", "crispdepth", *command, "--json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell lets what it starts in the background ignore Ctrl-C, these tests among it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as started:
        first = tmp_path / "out" / "manifest.jsonl"
        wait_for(lambda: first.is_file() and b'"done"' in first.read_bytes(), started)
        started.send_signal(number)
        stdout, stderr = started.communicate(timeout=60)
    if number == signal.SIGKILL:
        assert started.returncode == -number
    else:
        assert started.returncode == 130
        assert b"the same command does the rest" in stderr
        assert b"Traceback" not in stderr
        printed = json.loads(stdout)
        assert printed["interrupted"]
        assert printed["done"] == len(photos_done(tmp_path / "out"))
        assert printed == json.loads((tmp_path / "out" / "summary.json").read_text("utf-8"))
        assert not list(tmp_path.rglob(f"{TEMP_PREFIX}*")), "nothing half-written stays"
    kept = photos_done(tmp_path / "out")
    assert 0 < len(kept) < len(names)
    for file in (tmp_path / "out").rglob("depth.exr"):
        assert read_depth(file).depth.size == (24, 32), "whatever is there is whole"

    again = run(*command, "--json")
    assert again.returncode == 0
    summary = json.loads(again.stdout)
    assert (summary["skipped"], summary["done"]) == (len(kept), len(names) - len(kept))
    assert results(tmp_path / "out") == names
    assert not list(tmp_path.rglob(f"{TEMP_PREFIX}*"))


def test_a_progress_bar_leaves_the_results_alone(scene: Scene, tmp_path: Path) -> None:
    scene("a", "b")
    screen, terminal = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "crispdepth", "refine", *FOLDERS, "--formats", "exr"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(terminal)
    shown = os.read(screen, 1 << 16).decode()
    os.close(screen)
    assert done.returncode == 0
    assert done.stdout.decode().split() == [str(tmp_path / "out" / name) for name in "ab"]
    assert "2/2" in shown


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_an_error(
    run: Run, scene: Scene, tmp_path: Path
) -> None:
    scene("a")
    (tmp_path / "out").mkdir(mode=0o500)
    done = run("refine", *ONE, "-o", "out")
    assert done.returncode == 1
    assert "ermission denied" in done.stderr
    assert "choose another output folder" in done.stderr


def test_photos_that_cannot_be_written_are_only_read(
    run: Run, scene: Scene, tmp_path: Path
) -> None:
    scene("a")
    files = [tmp_path / word for word in ONE if "/" in word]
    for file in files:
        file.chmod(0o400)
        file.parent.chmod(0o500)
    done = run("refine", *ONE, "-o", "out", "--formats", "exr")
    for file in files:
        file.parent.chmod(0o700)
    assert done.returncode == 0


@pytest.mark.slow
def test_memory_does_not_grow_over_a_long_batch(run: Run, scene: Scene, tmp_path: Path) -> None:
    scene(*(f"p{i:03}" for i in range(300)))
    assert run("refine", *FOLDERS, "-q").returncode == 0
    records = manifest(tmp_path / "out")
    peaks = [record["peak_rss_mb"] for record in records if record["status"] == "done"]
    assert len(peaks) == 300
    assert peaks[-1] - peaks[20] < 8
