import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from crispdepth.io.splats import read_splats, write_splats
from crispdepth.types import Gaussians


def some(count: int = 50, coefficients: int = 16) -> Gaussians:
    rng = np.random.default_rng(0)
    turns = rng.normal(size=(count, 4))
    return Gaussians(
        means=rng.normal(size=(count, 3)).astype(np.float32),
        scales=np.exp(rng.uniform(-7, 0, (count, 3))).astype(np.float32),
        rotations=(turns / np.linalg.norm(turns, axis=1, keepdims=True)).astype(np.float32),
        opacities=rng.uniform(0.02, 0.98, count).astype(np.float32),
        sh=rng.uniform(-0.8, 0.8, (count, coefficients, 3)).astype(np.float32),
    )


def matrices(turns: NDArray[Any]) -> NDArray[Any]:
    w, x, y, z = turns.T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


@pytest.mark.parametrize("coefficients", [1, 4, 9, 16])
def test_ply_gives_back_what_was_written(tmp_path: Path, coefficients: int) -> None:
    before = some(coefficients=coefficients)
    write_splats(tmp_path / "a.ply", before)
    after = read_splats(tmp_path / "a.ply")
    np.testing.assert_array_equal(after.means, before.means)
    np.testing.assert_array_equal(after.sh, before.sh)
    for name in ("scales", "rotations", "opacities"):
        np.testing.assert_allclose(getattr(after, name), getattr(before, name), rtol=2e-6)


def test_ply_has_the_order_and_the_conventions_of_3dgs(tmp_path: Path) -> None:
    one = some(count=1, coefficients=4)
    write_splats(tmp_path / "a.ply", one)
    header, _, body = (tmp_path / "a.ply").read_bytes().partition(b"end_header\n")
    names = [line.split()[2] for line in header.decode().splitlines() if "property" in line]
    rest = [f"f_rest_{i}" for i in range(9)]
    assert " ".join(names) == (
        f"x y z nx ny nz f_dc_0 f_dc_1 f_dc_2 {' '.join(rest)} "
        "opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3"
    )
    row = dict(zip(names, np.frombuffer(body, "<f4"), strict=True))
    assert row["opacity"] == pytest.approx(np.log(one.opacities[0] / (1 - one.opacities[0])), 1e-5)
    assert row["scale_1"] == pytest.approx(np.log(one.scales[0, 1]), rel=1e-6)
    assert row["rot_0"] == one.rotations[0, 0]
    assert row["f_rest_1"] == one.sh[0, 2, 0]  # red: degree 1, second
    assert row["f_rest_3"] == one.sh[0, 1, 1]  # then green


def test_certain_opacities_have_finite_logits(tmp_path: Path) -> None:
    one = some(count=2)
    sure = Gaussians(one.means, one.scales, one.rotations, np.array([0, 1], np.float32), one.sh)
    write_splats(tmp_path / "a.ply", sure)
    np.testing.assert_allclose(read_splats(tmp_path / "a.ply").opacities, [0, 1], atol=2e-6)


@pytest.mark.parametrize("coefficients", [1, 4, 9, 16])
def test_spz_gives_back_what_its_bits_hold(tmp_path: Path, coefficients: int) -> None:
    before = some(400, coefficients)
    write_splats(tmp_path / "a.spz", before)
    after = read_splats(tmp_path / "a.spz")
    np.testing.assert_allclose(after.means, before.means, atol=0.5 / 4096 + 1e-6)
    np.testing.assert_allclose(np.log(after.scales), np.log(before.scales), atol=1 / 32 + 1e-5)
    np.testing.assert_allclose(after.opacities, before.opacities, atol=0.5 / 255 + 1e-6)
    np.testing.assert_allclose(matrices(after.rotations), matrices(before.rotations), atol=0.006)
    np.testing.assert_allclose(after.sh[:, 0], before.sh[:, 0], atol=0.5 / 255 / 0.15 + 1e-6)
    np.testing.assert_allclose(after.sh[:, 1:], before.sh[:, 1:], atol=9 / 128)


def test_spz_is_turned_to_its_own_axes_and_laid_out_as_published(tmp_path: Path) -> None:
    quarter = np.array([[np.sqrt(0.5), 0, np.sqrt(0.5), 0]], np.float32)  # about y
    sh = np.zeros((1, 4, 3), np.float32)
    sh[0, 1] = 0.5  # falls with y, which is turned; so is z, x is not
    sh[0, 3] = 0.25
    one = Gaussians(
        np.array([[1, 2, 3]], np.float32), np.full((1, 3), np.exp(-2), np.float32), quarter,
        np.array([1], np.float32), sh,
    )  # fmt: skip
    write_splats(tmp_path / "a.spz", one)
    raw = gzip.decompress((tmp_path / "a.spz").read_bytes())
    assert raw[:4] == b"NGSP"
    assert list(np.frombuffer(raw[4:12], "<u4")) == [3, 1]
    assert list(raw[12:16]) == [1, 12, 0, 0]
    fixed = [int.from_bytes(raw[i : i + 3], "little", signed=True) for i in (16, 19, 22)]
    assert fixed == [4096, -8192, -12288]
    assert raw[25] == 255
    assert list(raw[26:29]) == [128] * 3
    assert list(raw[29:32]) == [128] * 3
    # y = -sqrt(1/2) is the largest or as large as w: whichever is left out, the turn is the same
    after = read_splats(tmp_path / "a.spz")
    np.testing.assert_allclose(matrices(after.rotations), matrices(quarter), atol=0.004)
    assert list(raw[36:45]) == [64] * 3 + [128] * 3 + [160] * 3


def test_mistakes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.ply or \.spz"):
        write_splats(tmp_path / "a.splat", some())
    with pytest.raises(ValueError, match="no Gaussian to write"):
        write_splats(tmp_path / "a.ply", some(count=0))
    far = some()
    far = Gaussians(far.means * 1e4, far.scales, far.rotations, far.opacities, far.sh)
    with pytest.raises(ValueError, match=r"2048 .* write \.ply"):
        write_splats(tmp_path / "a.spz", far)
    assert not list(tmp_path.iterdir())


def test_other_files_are_told_from_gaussians(tmp_path: Path) -> None:
    from crispdepth.io.pointclouds import write_points

    path = tmp_path / "a.ply"
    write_points(path, np.zeros((2, 3), np.float32), np.zeros((2, 3), np.uint8))
    with pytest.raises(ValueError, match="no f_dc_0"):
        read_splats(path)
    path.write_bytes(b"ply\nformat ascii 1.0\nend_header\n")
    with pytest.raises(ValueError, match="cannot be read as PLY"):
        read_splats(path)
    path.write_bytes(b"solid")
    with pytest.raises(ValueError, match="neither PLY nor SPZ"):
        read_splats(path)


@pytest.mark.parametrize("suffix", [".ply", ".spz"])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_splats(path, some())
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"copy it again|it ends before"):
        read_splats(path)
    if suffix == ".spz":
        write_splats(path, some())
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-3]))
        with pytest.raises(ValueError, match="cut off"):
            read_splats(path)


def test_harmonics_turn_with_the_axes_of_spz() -> None:
    import torch

    from crispdepth.io.splats import _SPZ_TURN
    from crispdepth.ops.splat_projection import sh_colours

    sh = torch.from_numpy(np.array(some(20).sh)) * 0.2
    directions = torch.nn.functional.normalize(torch.from_numpy(np.array(some(20).means)), dim=1)
    turned = sh.clone()
    turned[:, 1:] *= torch.from_numpy(_SPZ_TURN)[:, None]
    half_turn = torch.tensor([1.0, -1, -1])
    torch.testing.assert_close(
        sh_colours(turned, directions * half_turn), sh_colours(sh, directions)
    )
