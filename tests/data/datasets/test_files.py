import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.datasets.files import (
    LazyFrames,
    camera_at,
    find_files,
    open_hdf5,
    read_ids,
    read_photo,
    read_plane,
)
from crispdepth.io.scenes.poses import from_integer_centres, read_matrix
from crispdepth.types import DepthMap

K = np.array([[500.0, 0, 319.5], [0, 510, 239.5], [0, 0, 1]])


def frame(brightness: int) -> RgbdFrame:
    image = np.full((2, 3, 3), brightness, np.uint8)
    return RgbdFrame(f"{brightness}", image, DepthMap(np.ones((2, 3), np.float32), "depth"))


def test_a_frame_is_read_only_when_it_is_asked_for() -> None:
    seen: list[int] = []

    def read(key: int) -> RgbdFrame:
        seen.append(key)
        return frame(key)

    frames = LazyFrames((10, 20, 30), read, str)
    assert (len(frames), frames[1:].keys, seen) == (3, (20, 30), [])
    assert frames[-1].name == "30"
    assert [f.name for f in frames[::2]] == ["10", "30"]
    assert seen == [30, 10, 30]
    with pytest.raises(IndexError):
        frames[3]


def test_frames_can_be_sent_to_another_process() -> None:
    sent = pickle.loads(pickle.dumps(LazyFrames((1, 2), frame, str)))
    np.testing.assert_array_equal(sent[1].image, 2)


def test_numbers_in_names_count_as_numbers(tmp_path: Path) -> None:
    names = ["scene2/9.png", "scene2/10.png", "scene10/1.png"]
    for name in reversed(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_files(tmp_path, "**/*.png", "any") == tuple(tmp_path / name for name in names)


def test_linked_scenes_and_strange_folder_names_are_searched(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/1.png").touch()
    root = tmp_path / "set [v1]"
    root.mkdir()
    (root / "scene").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert find_files(root, "**/*.png", "any") == (root / "scene/1.png",)


def test_nothing_found_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no Moon frames: looked for \*\*/\*\.moon"):
        find_files(tmp_path, "**/*.moon", "Moon")
    with pytest.raises(FileNotFoundError, match=r"no dataset folder .*absent"):
        find_files(tmp_path / "absent", "*", "Moon")


def test_integer_centres_move_by_half_a_pixel() -> None:
    ray = np.linalg.inv(K) @ [12, 34, 1]  # the pixel in row 34 and column 12, counted so
    np.testing.assert_allclose(from_integer_centres(K) @ ray, [12.5, 34.5, 1])


def test_a_camera_inverts_its_pose_and_a_lost_one_is_none() -> None:
    pose = np.array([[0.0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])
    camera = camera_at(K, (480, 640), pose)
    assert camera is not None
    np.testing.assert_allclose(camera.cam_from_world @ pose, np.eye(4), atol=1e-12)
    assert camera_at(K, (480, 640), np.full((4, 4), -np.inf)) is None


def test_sixteen_bit_photos_keep_their_upper_byte(
    tmp_path: Path, save: Callable[[Path, Any], Path]
) -> None:
    photo = save(tmp_path / "a.png", np.full((2, 3, 3), 0x1234, np.uint16))
    np.testing.assert_array_equal(read_photo(photo), 0x12)


def test_ids_take_the_nearest_pixel(tmp_path: Path, save: Callable[[Path, Any], Path]) -> None:
    ids = np.arange(5 * 7, dtype=np.uint8).reshape(5, 7)[::-1] * 7
    path = save(tmp_path / "a.png", ids)
    np.testing.assert_array_equal(read_ids(path), ids)
    rows, columns = ((np.arange(n) + 0.5) * old // n for n, old in ((3, 5), (4, 7)))
    expected = ids[rows.astype(int)][:, columns.astype(int)]
    np.testing.assert_array_equal(read_ids(path, (3, 4)), expected)


def test_a_coloured_picture_is_no_plane(tmp_path: Path, save: Callable[[Path, Any], Path]) -> None:
    path = save(tmp_path / "a.png", np.zeros((2, 3, 3), np.uint8))
    with pytest.raises(ValueError, match=r"a\.png should have one channel.*\(2, 3, 3\)"):
        read_plane(path)


@pytest.mark.parametrize("text", ["1 2 3", "1 " * 15 + "x"])
def test_a_broken_matrix_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pose.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"pose\.txt should hold a 4x4 matrix"):
        read_matrix(path)


def test_without_h5py_the_install_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with (
        pytest.raises(ImportError, match=r'pip install "crispdepth\[datasets\]"'),
        open_hdf5(tmp_path / "a.hdf5"),
    ):
        pass


def test_hdf5_mistakes_are_named(tmp_path: Path, save: Callable[[Path, Any], Path]) -> None:
    path = save(tmp_path / "a.hdf5", np.zeros(3))
    with (
        pytest.raises(ValueError, match=r"a\.hdf5 lacks an array.*holds dataset"),
        open_hdf5(path) as file,
    ):
        file["depth"]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(OSError, match=r"a\.hdf5 is not a whole HDF5 file"), open_hdf5(path):
        pass
    absent = tmp_path / "b.hdf5"
    with pytest.raises(FileNotFoundError, match=r"No such file: .*b\.hdf5"), open_hdf5(absent):
        pass
