from pathlib import Path

import numpy as np
import pytest

from crispdepth.io.view_depths import (
    confidence_path,
    depth_path,
    has_view_depth,
    read_view_depth,
    write_view_depth,
)
from crispdepth.types import Camera, DepthMap, ViewDepth

K = np.array([[40.0, 0, 16], [0, 40, 12], [0, 0, 1]])


def found(seed: int = 0) -> ViewDepth:
    rng = np.random.default_rng(seed)
    pose = np.eye(4)
    pose[:3, 3] = rng.random(3)
    depth = DepthMap(
        rng.uniform(1, 5, (24, 32)).astype(np.float32),
        "depth",
        "m",
        rng.random((24, 32)) > 0.3,
        Camera(K, (24, 32), pose),
    )
    return ViewDepth(depth, rng.random((24, 32)).astype(np.float32))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    before = found()
    path = write_view_depth(tmp_path, "left/cam 1/012.jpg", before)
    assert path == tmp_path / "left/cam 1/012.jpg.exr"
    assert has_view_depth(tmp_path, "left/cam 1/012.jpg")
    after = read_view_depth(tmp_path, "left/cam 1/012.jpg")
    np.testing.assert_array_equal(after.depth.values, before.depth.values)
    np.testing.assert_array_equal(after.depth.usable, before.depth.usable)
    assert (after.depth.kind, after.depth.unit) == ("depth", "m")
    assert after.depth.camera is not None
    assert before.depth.camera is not None
    np.testing.assert_array_equal(
        after.depth.camera.cam_from_world, before.depth.camera.cam_from_world
    )
    np.testing.assert_allclose(after.confidence, before.confidence, atol=0.5 / 65535 + 1e-7)


def test_the_camera_of_the_photo_is_scaled_to_the_depth(tmp_path: Path) -> None:
    write_view_depth(tmp_path, "a.png", found())
    photo = Camera(np.diag([4.0, 4, 1]) @ K, (96, 128))
    read = read_view_depth(tmp_path, "a.png", photo)
    assert read.depth.camera is not None
    np.testing.assert_allclose(read.depth.camera.K, K)


def test_photos_that_differ_by_suffix_have_files_of_their_own(tmp_path: Path) -> None:
    write_view_depth(tmp_path, "a.png", found(1))
    write_view_depth(tmp_path, "a.jpg", found(2))
    first, second = (read_view_depth(tmp_path, name) for name in ("a.png", "a.jpg"))
    assert (first.confidence != second.confidence).any()


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "", "x/../../a.png"])
def test_names_do_not_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="inside the folder"):
        depth_path(tmp_path, name)


def test_half_a_result_is_none(tmp_path: Path) -> None:
    write_view_depth(tmp_path, "a.png", found())
    confidence_path(tmp_path, "a.png").unlink()
    assert not has_view_depth(tmp_path, "a.png")
    with pytest.raises(FileNotFoundError, match="No such file"):
        read_view_depth(tmp_path, "a.png")


def test_a_confidence_of_another_size_is_refused(tmp_path: Path) -> None:
    write_view_depth(tmp_path, "a.png", found())
    other = ViewDepth(
        DepthMap(np.ones((4, 4), np.float32), "depth", "m"), np.ones((4, 4), np.float32)
    )
    write_view_depth(tmp_path, "b.png", other)
    confidence_path(tmp_path, "b.png").replace(confidence_path(tmp_path, "a.png"))
    with pytest.raises(ValueError, match="compute the view again"):
        read_view_depth(tmp_path, "a.png")
