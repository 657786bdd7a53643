from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from crispdepth.data.datasets.nyu import FILE, open_nyu

h5py = pytest.importorskip("h5py")

SIZE = HEIGHT, WIDTH = 480, 640
N = 2


def arrays(rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """What MATLAB shows: (h, w, n), frames last."""
    depths = rng.uniform(0.7, 10, (HEIGHT, WIDTH, N)).astype(np.float32)
    raw = depths.copy()
    raw[:50] = 0
    labels = np.zeros((HEIGHT, WIDTH, N), np.uint16)
    numbers = np.zeros((HEIGHT, WIDTH, N), np.uint8)
    labels[:, :200], numbers[:, :200] = 5, 1
    labels[:, 200:300], numbers[:, 200:300] = 5, 2
    labels[:, 300:400], numbers[:, 300:400] = 6, 1
    return {
        "images": rng.integers(0, 256, (HEIGHT, WIDTH, 3, N), np.uint8),
        "depths": depths,
        "rawDepths": raw,
        "labels": labels,
        "instances": numbers,
    }


def write(path: Path, content: dict[str, NDArray[Any]]) -> Path:
    """A MATLAB 7.3 file: HDF5 behind a block of 512 bytes, the axes in reverse order."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in content.items():
            file[name] = array.transpose()
    return path


def test_frames_have_the_rows_and_columns_that_matlab_shows(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    content = arrays(rng)
    write(tmp_path / FILE, content)
    frames = open_nyu(tmp_path)
    assert [frame.name for frame in frames] == ["0001", "0002"]
    for index, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.image, content["images"][..., index])
        valid = frame.depth.usable
        np.testing.assert_array_equal(frame.depth.values[valid], content["depths"][valid, index])


def test_depth_that_was_filled_in_is_no_truth(tmp_path: Path, rng: np.random.Generator) -> None:
    content = arrays(rng)
    frame = open_nyu(write(tmp_path / "any.mat", content))[0]
    np.testing.assert_array_equal(frame.depth.usable, content["rawDepths"][..., 0] > 0)


def test_label_and_number_together_tell_objects_apart(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    ids = open_nyu(write(tmp_path / FILE, arrays(rng)))[1].instances
    assert ids is not None
    regions = [ids[:, columns] for columns in (slice(200), slice(200, 300), slice(300, 400))]
    assert len({int(region[0, 0]) for region in regions}) == 3
    assert all(np.all(region == region[0, 0]) for region in regions)
    np.testing.assert_array_equal(ids[:, 400:], 0)


def test_the_camera_is_that_of_the_toolbox(tmp_path: Path, rng: np.random.Generator) -> None:
    camera = open_nyu(write(tmp_path / FILE, arrays(rng)))[0].depth.camera
    assert camera is not None
    np.testing.assert_allclose(np.diag(camera.K), [518.8579, 519.4697, 1], atol=1e-4)
    np.testing.assert_allclose(camera.K[:2, 2], [325.5824 + 0.5, 253.7362 + 0.5], atol=1e-4)


def test_a_file_without_an_array_is_named(tmp_path: Path, rng: np.random.Generator) -> None:
    content = arrays(rng)
    del content["rawDepths"]
    frames = open_nyu(write(tmp_path / FILE, content))
    with pytest.raises(ValueError, match=r"nyu_depth_v2_labeled\.mat lacks an array.*rawDepths"):
        frames[0]
