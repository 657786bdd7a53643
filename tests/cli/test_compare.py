import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tyro
from PIL import Image

from crispdepth.cli.compare import CompareOptions, run
from crispdepth.cli.errors import UsageError

Run = Any  # what `measure` returns: the JSON document


@pytest.fixture
def truth() -> np.ndarray:
    """Inverse depth of a box before a wall, (48, 64)."""
    values = np.tile(np.linspace(0.2, 0.3, 64, dtype=np.float32), (48, 1))
    values[16:32, 20:44] = 0.8
    return values


@pytest.fixture
def blurred(truth: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.GaussianBlur(truth, (0, 0), 2), np.float32)


@pytest.fixture
def options(tmp_path: Path) -> CompareOptions:
    return CompareOptions(
        before=tmp_path / "before.npy",
        after=tmp_path / "after.npy",
        before_kind="inverse_depth",
        after_kind="inverse_depth",
        truth_kind="inverse_depth",
        out=tmp_path / "report.html",
        json=True,
    )


def measure(
    options: CompareOptions,
    capsys: pytest.CaptureFixture[str],
    before: np.ndarray,
    after: np.ndarray,
    truth: np.ndarray | None = None,
) -> Run:
    np.save(options.before, before)
    np.save(options.after, after)
    if truth is not None:
        np.save(options.before.with_name("truth.npy"), truth)
        options = replace(options, truth=options.before.with_name("truth.npy"))
    assert run(options) == 0
    return json.loads(capsys.readouterr().out)


def test_a_map_does_not_differ_from_itself(
    options: CompareOptions, capsys: pytest.CaptureFixture[str], blurred: np.ndarray
) -> None:
    found = measure(options, capsys, blurred, blurred)
    assert found["changed_percent"] == 0
    assert found["rms_percent_of_range"] == 0
    assert found["alignment"].startswith("none")
    assert found["errors"] is None
    assert options.out.read_text("utf-8").startswith("<!doctype html>")


def test_relative_maps_are_compared_up_to_scale_and_shift(
    options: CompareOptions, capsys: pytest.CaptureFixture[str], blurred: np.ndarray
) -> None:
    found = measure(options, capsys, blurred, 4 * blurred + 1)
    assert "AFTER times 0.25 plus -0.25" in found["alignment"]
    assert found["changed_percent"] == 0
    assert found["rms_percent_of_range"] == pytest.approx(0, abs=1e-3)


def test_the_same_depth_in_both_kinds_does_not_differ(
    options: CompareOptions, capsys: pytest.CaptureFixture[str], blurred: np.ndarray
) -> None:
    found = measure(replace(options, after_kind="depth"), capsys, blurred, 1 / blurred)
    assert found["changed_percent"] == 0


def test_a_local_change_is_counted_exactly_and_moves_nothing_else(
    options: CompareOptions, capsys: pytest.CaptureFixture[str], truth: np.ndarray
) -> None:
    after = truth.copy()
    after[:12] += 0.5  # a quarter of the pixels
    found = measure(options, capsys, truth, after)
    assert found["alignment"].startswith("none")
    assert found["changed_percent"] == 25
    span = float(np.subtract(*np.percentile(truth, (99, 1))))
    assert found["rms_percent_of_range"] == pytest.approx(100 * 0.5 * 0.5 / span, rel=1e-4)


def test_invalid_pixels_are_no_change(
    options: CompareOptions, capsys: pytest.CaptureFixture[str], truth: np.ndarray
) -> None:
    after = truth.copy()
    after[:30] = np.nan
    assert measure(options, capsys, truth, after)["changed_percent"] == 0


def test_a_map_of_another_size_is_resized_to_the_larger(
    options: CompareOptions, capsys: pytest.CaptureFixture[str], blurred: np.ndarray
) -> None:
    large = cv2.resize(blurred, (256, 192), interpolation=cv2.INTER_LINEAR)
    assert measure(options, capsys, blurred, large)["changed_percent"] < 1
    assert measure(options, capsys, large, blurred)["changed_percent"] < 1


def test_the_errors_know_which_map_is_nearer_the_truth(
    options: CompareOptions,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    truth: np.ndarray,
    blurred: np.ndarray,
) -> None:
    pytest.importorskip("skimage")
    Image.fromarray(np.uint8(255) * (truth > 0.5)).save(tmp_path / "mask.png")
    Image.fromarray(np.zeros((96, 128, 3), np.uint8)).save(tmp_path / "photo.png")
    options = replace(options, mask=((tmp_path / "mask.png",),), image=tmp_path / "photo.png")
    errors = measure(options, capsys, 3 * blurred, 2 * truth + 1, truth)["errors"]
    for metric in ("rmse", "mbe", "eps_acc", "whdr"):
        assert errors["after"][metric] == pytest.approx(0, abs=1e-6)
        assert errors["before"][metric] > 0.01
    assert errors["after"]["mask_recall"] == pytest.approx(1)
    assert errors["before"]["mask_recall"] < 0.9
    assert errors["after"]["r3"] is None  # infinite: nothing got worse
    assert "seconds" not in errors["after"]
    assert "Where the error fell" in options.out.read_text("utf-8")


def test_the_numbers_are_printed_for_people_too(
    options: CompareOptions,
    capsys: pytest.CaptureFixture[str],
    truth: np.ndarray,
    blurred: np.ndarray,
) -> None:
    pytest.importorskip("skimage")
    np.save(options.before, blurred)
    np.save(options.after, truth)
    assert run(replace(options, json=False, truth=options.after)) == 0
    printed = capsys.readouterr()
    assert "changed" in printed.out
    assert any(
        line.startswith("RMSE ↓") and line.endswith("0.0000") for line in printed.out.splitlines()
    )
    assert str(options.out) in printed.err


def test_another_aspect_is_refused_with_both_sizes(
    options: CompareOptions, blurred: np.ndarray
) -> None:
    np.save(options.before, blurred)
    np.save(options.after, blurred[:, :40])
    with pytest.raises(ValueError, match=r"(64 x 48.*40 x 48|40 x 48.*64 x 48)"):
        run(options)
    assert not options.out.exists()


def test_maps_without_a_common_pixel_are_refused(
    options: CompareOptions, truth: np.ndarray
) -> None:
    left, right = truth.copy(), truth.copy()
    left[:, 32:] = right[:, :32] = np.nan
    np.save(options.before, left)
    np.save(options.after, right)
    with pytest.raises(ValueError, match="no valid pixel in common"):
        run(options)


@pytest.mark.parametrize("name", ["BEFORE", "AFTER"])
def test_a_constant_map_cannot_be_aligned(
    options: CompareOptions, truth: np.ndarray, name: str
) -> None:
    maps = (np.ones_like(truth), 2 * truth)
    before, after = maps if name == "BEFORE" else maps[::-1]
    np.save(options.before, before)
    np.save(options.after, after)
    with pytest.raises(ValueError, match=f"{name} is constant"):
        run(options)


def test_an_empty_mask_is_said_to_be(
    options: CompareOptions,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    truth: np.ndarray,
) -> None:
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(tmp_path / "none.png")
    Image.fromarray(np.uint8(255) * (truth > 0.5)).save(tmp_path / "box.png")
    files = (tmp_path / "none.png", tmp_path / "box.png")
    found = measure(replace(options, mask=(files,)), capsys, truth, truth)
    assert found["stated"]["masks"] == "The mask none is empty."


def test_a_mask_without_a_file_is_a_usage_error(options: CompareOptions) -> None:
    with pytest.raises(UsageError, match="--mask needs files"):
        run(replace(options, mask=((),)))


def test_a_missing_file_is_named(options: CompareOptions, truth: np.ndarray) -> None:
    np.save(options.before, truth)
    with pytest.raises(FileNotFoundError, match=r"after\.npy"):
        run(options)


def test_a_report_that_would_replace_a_depth_file_is_refused(
    options: CompareOptions, truth: np.ndarray
) -> None:
    np.save(options.after, truth)
    with pytest.raises(UsageError, match="HTML"):
        run(replace(options, out=options.after))
    assert np.array_equal(np.load(options.after), truth)


def test_the_command_line_is_the_options() -> None:
    words = ["a.exr", "b.png", "--mask", "m1.png", "m2.png", "--truth", "t.exr", "-o", "r.html"]
    assert tyro.cli(CompareOptions, args=words) == CompareOptions(
        Path("a.exr"),
        Path("b.png"),
        mask=((Path("m1.png"), Path("m2.png")),),
        truth=Path("t.exr"),
        out=Path("r.html"),
    )
