"""What the numbers of a depth file mean, and that they survive being written and read."""

import json
import os
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from crispdepth.io.depth_codecs import encode_exr, encode_npy, encode_pfm
from crispdepth.io.depths import read_depth, write_depth
from crispdepth.types import Camera, DepthMap, Kind, Unit

EXACT = (".exr", ".npy", ".pfm")
quick = settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def png(array: NDArray[Any], suffix: str = ".png") -> bytes:
    return bytes(cv2.imencode(suffix, array)[1].tobytes())


def npz(**named: NDArray[Any]) -> bytes:
    stream = BytesIO()
    np.savez(stream, **named)  # type: ignore[arg-type]
    return stream.getvalue()


def colmap(array: NDArray[np.float32]) -> bytes:
    """As COLMAP's own scripts write: (width, height, channels) in column-major order."""
    height, width = array.shape
    header = f"{width}&{height}&1&".encode()
    return header + array.T[..., None].astype("<f4").tobytes(order="F")


@st.composite
def depth_maps(draw: st.DrawFn) -> DepthMap:
    """Any float32 map of any kind, unit and validity, with and without a camera."""
    size = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    values = draw(arrays(np.float32, size, elements=st.floats(width=32)))
    valid = draw(arrays(bool, size))
    camera = None
    if draw(st.booleans()):
        K = np.array([[draw(st.floats(1, 1e4)), 0, 3.1], [0, 7.7, 0.1], [0, 0, 1]])
        camera = Camera(K, size, np.diag([1, 1, 1, 1]) + draw(st.floats(0, 1e3)))
    kind, unit = draw(st.sampled_from(get_args(Kind))), draw(st.sampled_from(get_args(Unit)))
    return DepthMap(values, kind, unit, valid, camera)


def assert_same_meaning(got: DepthMap, expected: DepthMap) -> None:
    assert (got.kind, got.unit, got.size) == (expected.kind, expected.unit, expected.size)
    np.testing.assert_array_equal(got.usable, expected.usable)
    assert (got.camera is None) == (expected.camera is None)
    if got.camera and expected.camera:
        np.testing.assert_array_equal(got.camera.K, expected.camera.K)
        np.testing.assert_array_equal(got.camera.cam_from_world, expected.camera.cam_from_world)


@pytest.mark.parametrize("suffix", EXACT)
@quick
@given(depth=depth_maps())
def test_float_formats_return_every_bit(tmp_path: Path, suffix: str, depth: DepthMap) -> None:
    write_depth(tmp_path / f"a{suffix}", depth)
    got, stated = read_depth(tmp_path / f"a{suffix}")
    assert_same_meaning(got, depth)
    assert got.values.tobytes() == np.where(depth.usable, depth.values, np.float32(0)).tobytes()
    assert f"a{suffix}.json" in stated


@quick
@given(depth=depth_maps().filter(lambda depth: (depth.kind, depth.unit) != ("depth", "m")))
def test_png_returns_a_stretched_map_to_half_a_step(tmp_path: Path, depth: DepthMap) -> None:
    write_depth(tmp_path / "a.png", depth)
    got = read_depth(tmp_path / "a.png").depth
    assert_same_meaning(got, depth)
    values = depth.values[depth.usable].astype(np.float64)
    if values.size:
        half_step = (values.max() - values.min()) / 65534 / 2
        error = np.abs(got.values[got.usable] - values)
        assert (error <= half_step + 2e-7 * np.abs(values).max() + 1e-45).all()


@quick
@given(
    steps=arrays(np.uint16, (3, 4), elements=st.integers(0, 65535)),
    scale=st.sampled_from([None, 0.001, 0.0002, 0.5]),
)
def test_png_returns_metres_to_half_a_step(
    tmp_path: Path, steps: NDArray[np.uint16], scale: float | None
) -> None:
    step = scale or 0.001
    depth = DepthMap((steps * step).astype(np.float32), "depth", "m")
    write_depth(tmp_path / "a.png", depth, scale=scale)
    got = read_depth(tmp_path / "a.png").depth
    assert_same_meaning(got, depth)
    np.testing.assert_allclose(got.values, depth.values, rtol=1e-7, atol=step / 2)
    stored = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert stored is not None
    np.testing.assert_array_equal(stored, steps)


@pytest.mark.parametrize(
    ("values", "fits"), [([1.0, 66.0], "0.0011"), ([2.0, 1000.0], "0.016"), ([1e-4, 70.0], None)]
)
def test_a_metric_png_out_of_range_is_refused_with_a_scale_that_fits(
    tmp_path: Path, values: list[float], fits: str | None
) -> None:
    depth = DepthMap(np.array([values], np.float32), "depth", "m")
    with pytest.raises(ValueError, match=r"do not fit 16 bits") as caught:
        write_depth(tmp_path / "a.png", depth)
    assert list(tmp_path.iterdir()) == []
    if fits is None:
        assert "no step fits" in str(caught.value)
        return
    assert f"--png-scale {fits}" in str(caught.value)
    write_depth(tmp_path / "a.png", depth, scale=float(fits))


@pytest.fixture
def depth() -> DepthMap:
    camera = Camera(np.array([[500.0, 0, 2], [0, 500, 1.5], [0, 0, 1]]), (3, 4))
    values = np.linspace(0.5, 20, 12, dtype=np.float32).reshape(3, 4)
    return DepthMap(values, "depth", "m", values != values[1, 1], camera)


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("unit", get_args(Unit))
@pytest.mark.parametrize("suffix", [".exr", ".png"])
def test_the_header_alone_tells_all(
    tmp_path: Path, depth: DepthMap, kind: Kind, unit: Unit, suffix: str
) -> None:
    depth, path = replace(depth, kind=kind, unit=unit), tmp_path / f"a{suffix}"
    write_depth(path, depth)
    with_sidecar = read_depth(path).depth
    (tmp_path / f"a{suffix}.json").unlink()
    got, stated = read_depth(path)
    assert_same_meaning(got, depth)
    np.testing.assert_array_equal(got.values, with_sidecar.values)
    assert "the file header" in stated
    assert_same_meaning(read_depth(path.read_bytes()).depth, depth)


@pytest.mark.parametrize(("suffix", "kind"), [(".npy", "depth"), (".pfm", "inverse_depth")])
def test_without_sidecar_and_header_the_rule_speaks(
    tmp_path: Path, depth: DepthMap, suffix: str, kind: Kind
) -> None:
    write_depth(tmp_path / f"a{suffix}", depth)
    (tmp_path / f"a{suffix}.json").unlink()
    got, stated = read_depth(tmp_path / f"a{suffix}")
    assert (got.kind, got.unit) == (kind, "relative")
    assert "the rule for" in stated


def test_flag_beats_sidecar_beats_header_and_it_is_said(tmp_path: Path, depth: DepthMap) -> None:
    path = tmp_path / "a.exr"
    write_depth(path, depth)
    path.with_name("a.exr.json").write_text('{"kind": "inverse_depth"}')
    got, stated = read_depth(path)
    assert (got.kind, got.unit) == ("inverse_depth", "m")
    assert "the file header says kind depth and was overruled" in stated
    got, stated = read_depth(path, kind="depth", unit="relative")
    assert (got.kind, got.unit) == ("depth", "relative")
    assert "the sidecar a.exr.json says kind inverse_depth and was overruled" in stated
    assert "kind and unit from the caller" in stated


def test_a_shared_sidecar_counts_when_it_tells_a_kind(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(encode_npy(np.ones((2, 3), np.float32)))
    for text in ("no json", "[1]", '{"kind": "annotation"}', '{"unit": "m"}'):
        (tmp_path / "a.json").write_text(text)
        assert "the rule for NPY" in read_depth(tmp_path / "a.npy").stated
    (tmp_path / "a.json").write_text('{"kind": "depth", "unit": "m", "scale": 0.5}')
    got, stated = read_depth(tmp_path / "a.npy")
    assert "kind and unit from the sidecar a.json" in stated
    np.testing.assert_array_equal(got.values, np.full((2, 3), 0.5, np.float32))


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[1]",
        "",
        "[" * 100_000,
        '{"kind": "disparity"}',
        '{"unit": "mm"}',
        '{"scale": 0}',
        '{"scale": NaN}',
        '{"offset": "1"}',
        '{"invalid": []}',
        '{"width": 7, "height": 2}',
        '{"format_version": 99}',
        '{"camera": [1]}',
        '{"camera": {"K": [[1]], "cam_from_world": 3}}',
    ],
)
def test_a_wrong_sidecar_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.npy").write_bytes(encode_npy(np.ones((2, 3), np.float32)))
    (tmp_path / "a.npy.json").write_text(text)
    with pytest.raises(ValueError, match=r"a\.npy\.json"):
        read_depth(tmp_path / "a.npy")


def test_the_sidecar_says_everything(tmp_path: Path, depth: DepthMap) -> None:
    assert depth.camera is not None
    write_depth(tmp_path / "a.png", depth, provenance={"photo": Path("深.jpg"), "seconds": 1.5})
    facts = json.loads((tmp_path / "a.png.json").read_text())
    assert facts.pop("version")
    assert facts == {
        "format_version": 1,
        "kind": "depth",
        "unit": "m",
        "scale": 0.001,
        "offset": 0.0,
        "invalid": 0,
        "larger_is_nearer": False,
        "width": 4,
        "height": 3,
        "camera": {
            "K": depth.camera.K.tolist(),
            "cam_from_world": depth.camera.cam_from_world.tolist(),
        },
        "tool": "crispdepth",
        "provenance": {"photo": "深.jpg", "seconds": 1.5},
    }


RAMP = np.array([[0, 1, 200], [300, 5000, 60000]], np.uint16)


@pytest.mark.parametrize(
    ("data", "flags", "expected"),
    [
        (png(RAMP.astype(np.uint8)), {}, ("inverse_depth", "relative", 200, 6)),
        (png(RAMP.astype(np.uint8)), {"kind": "depth"}, ("depth", "relative", 200, 5)),
        (png(RAMP.astype(np.uint8)), {"scale": 0.5}, ("depth", "m", 100, 5)),
        (png(RAMP), {}, ("depth", "m", 0.2, 5)),
        (png(RAMP, ".tiff"), {}, ("depth", "m", 0.2, 5)),
        (encode_npy(RAMP), {}, ("depth", "m", 0.2, 5)),  # type: ignore[arg-type]
        (encode_npy(RAMP.astype(">u2")), {}, ("depth", "m", 0.2, 5)),
        (png(RAMP), {"scale": 0.0002}, ("depth", "m", 0.04, 5)),
        (png(RAMP), {"unit": "relative"}, ("depth", "relative", 200, 5)),
        (png(RAMP), {"kind": "inverse_depth"}, ("inverse_depth", "relative", 200, 6)),
        (png(RAMP + 5535), {}, ("inverse_depth", "relative", 5735, 6)),
        (png(RAMP + 5535), {"kind": "depth"}, ("depth", "m", 5.735, 5)),  # 65535: saturated
        (png(RAMP + 5535), {"unit": "m"}, ("depth", "m", 5.735, 5)),
        (encode_npy(RAMP.astype(np.float64)), {}, ("depth", "relative", 200, 5)),
        (encode_npy(RAMP.astype(">f4")), {}, ("depth", "relative", 200, 5)),
        (encode_npy(np.asfortranarray(RAMP, np.float16)), {}, ("depth", "relative", 200, 5)),
        (encode_npy(RAMP.astype(np.float32)[None]), {}, ("depth", "relative", 200, 5)),
        (encode_npy(RAMP.astype(np.float32)[..., None]), {}, ("depth", "relative", 200, 5)),
        (npz(other=RAMP, depth=RAMP * 1.0), {}, ("depth", "relative", 200, 5)),
        (npz(only=RAMP * 1.0), {"unit": "m"}, ("depth", "m", 200, 5)),
        (png(RAMP.astype(np.float32), ".tiff"), {}, ("depth", "relative", 200, 5)),
        (png(RAMP.astype(np.float64), ".tiff"), {}, ("depth", "relative", 200, 5)),
        (encode_pfm(RAMP.astype(np.float32)), {}, ("inverse_depth", "relative", 200, 6)),
        (encode_pfm(RAMP.astype(np.float32)), {"unit": "m"}, ("depth", "m", 200, 5)),
        (colmap(RAMP.astype(np.float32)), {}, ("depth", "relative", 200, 5)),
        (encode_exr(RAMP.astype(np.float32), "Z", {}), {}, ("depth", "relative", 200, 5)),
        (encode_exr(RAMP.astype(np.float32) * 1e6, "Z", {}), {}, ("depth", "relative", 2e8, 4)),
    ],
)
def test_the_rule_is_the_table(
    data: bytes, flags: dict[str, Any], expected: tuple[Kind, Unit, float, int]
) -> None:
    got = read_depth(data, **flags).depth
    value = got.values[0, 2]
    assert (got.kind, got.unit, got.usable.sum()) == (*expected[:2], expected[3])
    assert value == np.float32(expected[2])


@pytest.mark.parametrize("flags", [{"unit": "m"}, {"unit": "m", "kind": "inverse_depth"}])
def test_a_step_of_unknown_size_is_not_guessed(flags: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="state the scale"):
        read_depth(png(RAMP.astype(np.uint8)), **flags)


@pytest.mark.parametrize(
    "flags", [{"kind": "disparity"}, {"unit": "mm"}, {"scale": 0.0}, {"scale": float("nan")}]
)
def test_an_impossible_request_is_refused(flags: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        read_depth(png(RAMP), **flags)


@pytest.mark.parametrize("array", [RAMP.astype(np.float32), RAMP])
def test_a_scale_is_said_whatever_the_numbers_are(array: NDArray[Any]) -> None:
    got, stated = read_depth(encode_npy(array), scale=2.0, unit="relative")
    assert got.values[1, 2] == 2 * float(array[1, 2])
    assert "the stored numbers times 2" in stated


def test_an_unknown_suffix_is_refused_with_the_list(tmp_path: Path, depth: DepthMap) -> None:
    with pytest.raises(ValueError, match=r"\.exr, \.png, \.npy or \.pfm"):
        write_depth(tmp_path / "a.jpg", depth)


def test_a_file_that_is_missing_or_empty_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "empty.exr").touch()
    with pytest.raises(FileNotFoundError, match=r"none\.exr"):
        read_depth(tmp_path / "none.exr")
    with pytest.raises(IsADirectoryError, match="folder"):
        read_depth(tmp_path)
    with pytest.raises(ValueError, match=r"empty\.exr is empty"):
        read_depth(tmp_path / "empty.exr")


@pytest.mark.parametrize("suffix", [*EXACT, ".png"])
@pytest.mark.parametrize("name", ["ünï/深度", "a" * 246])
def test_any_legal_name_works(tmp_path: Path, depth: DepthMap, name: str, suffix: str) -> None:
    path = tmp_path / (name + suffix)
    path.parent.mkdir(exist_ok=True)
    write_depth(path, depth)
    assert_same_meaning(read_depth(path).depth, depth)


def test_a_name_too_long_for_a_sidecar_is_read_and_not_written(
    tmp_path: Path, depth: DepthMap
) -> None:
    path = tmp_path / ("a" * 251 + ".npy")
    path.write_bytes(encode_npy(depth.values))
    assert "the rule" in read_depth(path).stated
    with pytest.raises(OSError, match="shorter name"):
        write_depth(path, depth)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def contents(folder: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in folder.iterdir()}


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()])
@pytest.mark.parametrize("moment", [1, 2, 3, 4])
def test_a_rename_that_fails_leaves_the_old_pair(
    tmp_path: Path,
    depth: DepthMap,
    monkeypatch: pytest.MonkeyPatch,
    moment: int,
    error: BaseException,
) -> None:
    """Two old files are set aside, two new ones are named: each of the four may fail."""
    path = tmp_path / "a.npy"
    write_depth(path, depth)
    before = contents(tmp_path)
    renames = 0
    rename = os.replace

    def failing(source: Path, target: Path) -> None:
        nonlocal renames
        renames += 1
        if renames == moment:
            raise error
        rename(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(type(error)):
        write_depth(path, replace(depth, kind="inverse_depth"))
    assert renames >= moment
    assert contents(tmp_path) == before


def test_a_kill_between_two_renames_never_mixes_old_and_new(
    tmp_path: Path, depth: DepthMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before and after each rename, what is there under its name can be read rightly."""
    path, kinds = tmp_path / "a.npy", list[Kind | None]()
    write_depth(path, depth)
    rename = os.replace

    def watched(source: Path, target: Path) -> None:
        rename(source, target)
        kinds.append(read_depth(path).depth.kind if path.exists() else None)

    monkeypatch.setattr(os, "replace", watched)
    other = replace(depth, kind="inverse_depth")
    write_depth(path, other)
    assert kinds == [None, None, None, "inverse_depth"]
    assert_same_meaning(read_depth(path).depth, other)
    assert len(contents(tmp_path)) == 2


@pytest.mark.parametrize(("owner", "name"), [(Path, "write_bytes"), (os, "fsync")])
def test_a_full_disk_leaves_the_old_pair(
    tmp_path: Path, depth: DepthMap, monkeypatch: pytest.MonkeyPatch, owner: object, name: str
) -> None:
    path = tmp_path / "a.npy"
    write_depth(path, depth)
    before = contents(tmp_path)

    def full(*args: object, **options: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(owner, name, full)
    with pytest.raises(OSError, match=r"No space left on device while writing .*a\.npy; free"):
        write_depth(path, replace(depth, kind="inverse_depth"))
    monkeypatch.undo()
    assert contents(tmp_path) == before


@settings(deadline=None, max_examples=100)
@given(
    suffix=st.sampled_from([".exr", ".png"]),
    position=st.floats(0, 1, exclude_max=True),
    values=st.binary(min_size=1, max_size=8),
)
def test_damaged_facts_in_a_header_give_a_map_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, position: float, values: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / f"whole{suffix}"
    if not path.exists():
        write_depth(path, DepthMap(np.eye(3, dtype=np.float32), "depth"))
    data = bytearray(path.read_bytes())
    start = int(position * (len(data) - len(values)))
    data[start : start + len(values)] = values
    try:
        read_depth(bytes(data), name="fuzz")
    except ValueError as error:
        assert "fuzz" in str(error)  # noqa: PT017 -- some examples still are maps


@pytest.mark.parametrize(
    ("key", "value"),
    [("kind", "disparity"), ("unit", "mm"), ("scale", "-1"), ("width", "9"), ("camera", "[[]]")],
)
def test_a_wrong_header_is_refused_by_the_name_of_its_file(key: str, value: str) -> None:
    with pytest.raises(ValueError, match=r"header of a\.exr"):
        read_depth(encode_exr(np.ones((2, 3), np.float32), "Z", {key: value}), name="a.exr")
