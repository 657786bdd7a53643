from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crispdepth.data.datasets.middlebury import open_middlebury
from crispdepth.io.depth_codecs import encode_pfm

Save = Callable[[Path, Any], Path]

SIZE = (10, 14)
FOCAL_PX, DOFFS_PX, BASELINE_MM = 3979.911, 124.343, 193.001
CALIBRATION = f"""cam0=[{FOCAL_PX} 0 1244.772; 0 {FOCAL_PX} 1019.507; 0 0 1]
cam1=[{FOCAL_PX} 0 1369.115; 0 {FOCAL_PX} 1019.507; 0 0 1]
doffs={DOFFS_PX}
baseline={BASELINE_MM}
width=2964
height=1988
ndisp=280
isint=0
vmin=31
vmax=257
dyavg=0.918
dymax=1.516
"""


def write(root: Path, save: Save, disparity: Any, calibration: str = CALIBRATION) -> Path:
    scene = root / "Adirondack-perfect"
    save(scene / "im0.png", np.full((*SIZE, 3), 90, np.uint8))
    save(scene / "calib.txt", calibration)
    (scene / "disp0.pfm").write_bytes(encode_pfm(np.asarray(disparity, np.float32)))
    return scene


def test_disparity_becomes_depth(tmp_path: Path, save: Save, rng: np.random.Generator) -> None:
    # The two principal points are doffs apart, so that infinitely far is a disparity of -doffs.
    depth_mm = rng.uniform(2000, 5000, SIZE)
    write(tmp_path, save, FOCAL_PX * BASELINE_MM / depth_mm - DOFFS_PX)
    (frame,) = open_middlebury(tmp_path)
    assert (frame.name, frame.depth.unit, frame.instances) == ("Adirondack-perfect", "m", None)
    np.testing.assert_allclose(frame.depth.values, depth_mm / 1000, rtol=1e-5)
    assert frame.depth.usable.all()


def test_unknown_and_impossible_disparities_are_invalid(tmp_path: Path, save: Save) -> None:
    disparity = np.full(SIZE, 50.0)
    disparity[0], disparity[1], disparity[2] = np.inf, -DOFFS_PX, -300
    disparity[3] = -10  # beyond the point where the axes cross, and fine
    (frame,) = open_middlebury(write(tmp_path, save, disparity))
    np.testing.assert_array_equal(frame.depth.usable[:, 0], [False] * 3 + [True] * 7)


def test_the_camera_is_that_of_the_left_photo(tmp_path: Path, save: Save) -> None:
    camera = open_middlebury(write(tmp_path, save, np.full(SIZE, 50.0)))[0].depth.camera
    assert camera is not None
    expected = np.array([[FOCAL_PX, 0, 1245.272], [0, FOCAL_PX, 1020.007], [0, 0, 1]])
    np.testing.assert_allclose(camera.K, expected)


@pytest.mark.parametrize(
    "calibration",
    [
        CALIBRATION.replace("doffs", "offset"),
        CALIBRATION.replace("; 0 0 1]", "]"),
        CALIBRATION.replace(f"{BASELINE_MM}", "wide"),
        "\x89\n",
    ],
)
def test_a_broken_calibration_is_named(tmp_path: Path, save: Save, calibration: str) -> None:
    scene = write(tmp_path, save, np.full(SIZE, 50.0), calibration)
    with pytest.raises(ValueError, match=r"calib\.txt should state cam0=.*doffs and baseline"):
        open_middlebury(scene)[0]
