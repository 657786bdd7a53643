"""`bokeh`, `cloud` and `novel`: from files to files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crispdepth.api import refine, save
from crispdepth.cli import bokeh, cloud, novel
from crispdepth.cli.bokeh import BokehOptions
from crispdepth.cli.cloud import CloudOptions
from crispdepth.cli.engine import EngineOptions
from crispdepth.cli.errors import ExitCode, UsageError
from crispdepth.cli.layered import LayeredOptions, read_layered
from crispdepth.cli.main import main
from crispdepth.cli.novel import NovelOptions

Scene = Callable[..., None]


@pytest.fixture
def files(scene: Scene, tmp_path: Path) -> tuple[Path, Path, tuple[Path, ...]]:
    """A photo, its depth and its mask."""
    scene("a")
    return tmp_path / "photos/a.png", tmp_path / "depths/a.npy", (tmp_path / "masks/a.png",)


@pytest.fixture
def result(files: tuple[Path, Path, tuple[Path, ...]], tmp_path: Path) -> Path:
    """What `crispdepth refine` writes for them."""
    return save(refine(*files[:2], list(files[2])), tmp_path / "refined/a")


def test_a_folder_of_results_holds_what_refining_the_photo_gives(
    files: tuple[Path, Path, tuple[Path, ...]], result: Path
) -> None:
    folder, photo = read_layered(LayeredOptions(result)), read_layered(LayeredOptions(*files))
    np.testing.assert_array_equal(folder.image, photo.image)
    np.testing.assert_array_equal(folder.depth.values, photo.depth.values)
    assert folder.depth.kind == photo.depth.kind
    assert folder.initial is None
    assert photo.initial is not None
    for ours, theirs in zip(folder.layers, photo.layers, strict=True):
        np.testing.assert_allclose(ours.alpha, theirs.alpha, atol=2**-11)
        np.testing.assert_array_equal(ours.background, theirs.background)


def test_a_photo_is_refined_by_the_engine_that_is_named(
    files: tuple[Path, Path, tuple[Path, ...]], result: Path, learned_weights: Path
) -> None:
    engine = EngineOptions("learned", str(learned_weights))
    classical, learned = (
        read_layered(LayeredOptions(*files, engine=each))
        for each in (EngineOptions("classical"), engine)
    )
    assert (classical.depth.values != learned.depth.values).any()
    with pytest.raises(UsageError, match="refined by its own --engine"):
        read_layered(LayeredOptions(result, engine=engine))


def test_the_folder_above_the_only_result_will_do(result: Path) -> None:
    assert read_layered(LayeredOptions(result.parent)).image.shape == (24, 32, 3)


def test_of_several_results_one_must_be_named(result: Path) -> None:
    save(
        refine(
            np.zeros((9, 9, 3), np.uint8), np.arange(81.0).reshape(9, 9), np.tri(9), kind="depth"
        ),
        result.parent / "b",
    )
    with pytest.raises(UsageError, match="holds 2 results; name one of them"):
        read_layered(LayeredOptions(result.parent))


def test_what_is_missing_is_named(result: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="rough --depth"):
        read_layered(LayeredOptions(tmp_path / "photos/a.png"))
    with pytest.raises(UsageError, match="has its depth and masks in it"):
        read_layered(LayeredOptions(result, depth=tmp_path / "depths/a.npy"))
    with pytest.raises(FileNotFoundError, match=r"There is no layers\.exr"):
        read_layered(LayeredOptions(tmp_path / "photos"))
    for file in result.glob("depth.*"):
        file.unlink()
    with pytest.raises(FileNotFoundError, match="no depth map in"):
        read_layered(LayeredOptions(result))


def test_bokeh_keeps_the_object_and_blurs_the_rest(
    files: tuple[Path, Path, tuple[Path, ...]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (24, 32, 3)).astype(np.uint8)
    Image.fromarray(image).save(files[0])
    assert bokeh.run(BokehOptions(*files, aperture=20, out=tmp_path / "b.png")) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{tmp_path / 'b.png'}\n"
    assert "focus: what 'mask0' shows" in printed.err
    blurred = np.asarray(Image.open(tmp_path / "b.png"))
    # The object is at the right; it fills the rest of the frame.
    np.testing.assert_allclose(blurred[:, 26:].astype(int), image[:, 26:], atol=2)
    assert blurred[:, :10].std() < 0.6 * image[:, :10].std()


def test_the_ways_to_focus_agree(result: Path, tmp_path: Path) -> None:
    depth = read_layered(LayeredOptions(result)).depth
    value = float(depth.values[12, 28])
    for name, options in {
        "point": BokehOptions(result, focus="28,12", out=tmp_path / "point.png"),
        "value": BokehOptions(result, focus_depth=value, out=tmp_path / "value.png"),
    }.items():
        bokeh.run(options)
        assert (tmp_path / f"{name}.png").exists()
    point, other = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("point", "value"))
    np.testing.assert_array_equal(point, other)


def test_focus_mistakes_are_usage_errors(result: Path, tmp_path: Path) -> None:
    out = tmp_path / "b.png"
    with pytest.raises(UsageError, match="not both"):
        bokeh.run(BokehOptions(result, focus="1,1", focus_depth=1, out=out))
    with pytest.raises(UsageError, match="a pixel as X,Y"):
        bokeh.run(BokehOptions(result, focus="middle", out=out))
    with pytest.raises(UsageError, match="a depth is above 0"):
        bokeh.run(BokehOptions(result, focus_depth=-1, out=out))
    with pytest.raises(UsageError, match=r"must end in \.jpg"):
        bokeh.run(BokehOptions(result, out=tmp_path / "b.gif"))


@pytest.mark.parametrize("suffix", [".ply", ".glb"])
def test_cloud_says_what_it_assumed_and_how_clean_it_is(
    files: tuple[Path, Path, tuple[Path, ...]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    suffix: str,
) -> None:
    out = tmp_path / f"c{suffix}"
    assert cloud.run(CloudOptions(*files, depth_kind="inverse_depth", out=out)) == 0
    said = capsys.readouterr().err
    assert "60 degrees of view (assumed; --fov states it)" in said
    assert "placed from 1 to 10 (--near, --far)" in said
    assert "before refinement" in said
    assert out.stat().st_size > 24 * 32 * 15


def test_cloud_can_leave_flying_points_out(
    files: tuple[Path, Path, tuple[Path, ...]], tmp_path: Path
) -> None:
    depth = np.load(files[1])
    depth[5, 5] = 90  # a point that hangs alone
    np.save(files[1], depth)
    sizes = []
    for drop in (False, True):
        out = tmp_path / f"{drop}.ply"
        cloud.run(CloudOptions(*files, drop_flying=drop, out=out))
        sizes.append(out.stat().st_size)
    assert sizes[1] < sizes[0]


def test_the_shares_of_flying_points_before_and_after_are_of_what_was_measured(
    files: tuple[Path, Path, tuple[Path, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = np.load(files[1])
    values[::2] = values[:, ::2] = np.nan  # no pixel has a neighbour: all of them fly
    np.save(files[1], values)
    assert cloud.run(CloudOptions(*files, out=tmp_path / "c.ply")) == 0
    assert "100.00% of the points (100.00% before refinement)" in capsys.readouterr().err


def test_novel_needs_no_depth_of_the_object(
    files: tuple[Path, Path, tuple[Path, ...]], tmp_path: Path
) -> None:
    values = np.load(files[1])
    values[np.asarray(Image.open(files[2][0])) > 0] = np.nan
    np.save(files[1], values)
    assert novel.run(NovelOptions(*files, out=tmp_path / "n.png")) == 0


def test_novel_writes_clips_and_pictures(result: Path, tmp_path: Path) -> None:
    for suffix in (".mp4", ".gif", ".webp", ".png"):
        options = NovelOptions(result, seconds=0.2, fps=20, amount=8, out=tmp_path / f"n{suffix}")
        assert novel.run(options) == 0
        assert options.out.stat().st_size
    with Image.open(tmp_path / "n.gif") as clip:
        assert getattr(clip, "n_frames", 1) == 4
    photo = read_layered(LayeredOptions(result)).image
    view = np.asarray(Image.open(tmp_path / "n.png"))
    assert view.shape == photo.shape
    assert (view != photo).any()


def test_novel_scales_large_photos_down(result: Path, tmp_path: Path) -> None:
    novel.run(NovelOptions(result, size=16, out=tmp_path / "n.png"))
    with Image.open(tmp_path / "n.png") as view:
        assert view.size == (16, 12)


def test_nothing_is_replaced_unasked(
    files: tuple[Path, Path, tuple[Path, ...]], tmp_path: Path
) -> None:
    out = tmp_path / "b.png"
    out.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="--overwrite is needed"):
        bokeh.run(BokehOptions(*files, out=out))
    assert out.read_bytes() == b"precious"
    bokeh.run(BokehOptions(*files, out=out, overwrite=True))
    with pytest.raises(UsageError, match="one of the files that are read"):
        bokeh.run(BokehOptions(*files, out=files[0], overwrite=True))


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("bokeh", ["--aperture", "-1"], "--aperture is a percentage, from 0 to 100, got -1"),
        ("bokeh", ["--aperture", "nan"], "--aperture is a percentage"),
        ("bokeh", ["--highlights", "1"], "--highlights is from 0 to below 1"),
        ("novel", ["--amount", "30"], "--amount is a percentage above 0, up to 20, got 30"),
        ("novel", ["--at", "3"], "--at is from 0 to 1, got 3"),
        ("novel", ["--fps", "200"], "--fps is above 0, up to 100"),
        ("novel", ["--seconds", "nan"], "--seconds is above 0"),
        ("novel", ["--seconds", "0.01"], "is not two frames"),
        ("novel", ["--size", "8"], "--size is 16 pixels or more"),
    ],
)
def test_options_out_of_range_are_usage_errors_in_the_users_units(
    tmp_path: Path,
    command: str,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = str(tmp_path / "out.png")
    assert main([command, str(tmp_path), *options, "-o", out]) == ExitCode.USAGE
    assert message in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_told_before_any_work(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.png"  # would be missed first, if it were read
    with pytest.raises(FileNotFoundError, match="no such folder; make it first"):
        bokeh.run(BokehOptions(nothing, nothing, out=tmp_path / "absent/b.png"))
    (tmp_path / "b.png").mkdir()
    with pytest.raises(IsADirectoryError, match="name a file"):
        bokeh.run(BokehOptions(nothing, nothing, out=tmp_path / "b.png", overwrite=True))


def test_the_commands_take_their_flags_from_the_command_line(
    result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "c.ply"
    assert main(["cloud", str(result), "--fov", "40", "-q", "-o", str(out)]) == 0
    assert out.exists()
    assert capsys.readouterr().err == ""
