"""NYU Depth V2, the labelled part: 1449 Kinect frames of rooms (Silberman et al., ECCV 2012).

The format is described at https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html: one MATLAB file
of version 7.3, which is HDF5 with the axes in reverse order, ``images`` (n, 3, w, h),
``depths`` (n, w, h) in metres, filled in where the sensor saw nothing, ``rawDepths`` the same
before filling, 0 where nothing was measured, and ``labels`` and ``instances`` (n, w, h), which
together tell objects apart (the toolbox's ``get_instance_masks.m``).

The camera is the toolbox's ``camera_params.m``; images and depth are undistorted already. Its
calibration counts pixel centres as integers.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.datasets.files import LazyFrames, find_files, open_hdf5
from crispdepth.io.scenes.poses import from_integer_centres
from crispdepth.types import Camera, DepthMap

FILE = "nyu_depth_v2_labeled.mat"

SIZE = (480, 640)
K = from_integer_centres(
    np.array(
        [
            [518.85790117450188, 0, 325.58244941119034],
            [0, 519.46961112127485, 253.73616633400465],
            [0, 0, 1],
        ]
    )
)


def open_nyu(root: str | Path) -> Sequence[RgbdFrame]:
    """The labelled frames of NYU Depth V2, from its file or a folder that holds it.

    Frames go by their number in the dataset, from 1. Depth is the filled-in map where the sensor
    measured: what was filled in is no truth. The id of an instance is 256 times its label plus
    its number among those of the label.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it is no HDF5 file.
        ValueError: it lacks one of the arrays.
    """
    path = Path(root)
    if not path.is_file():
        path = find_files(root, f"**/{FILE}", "NYU Depth V2")[0]
    with open_hdf5(path) as file:
        frames = len(file["images"])
    return LazyFrames(tuple(range(frames)), partial(_read, path), _name)


def _name(index: int) -> str:
    return f"{index + 1:04d}"


def _read(path: Path, index: int) -> RgbdFrame:
    with open_hdf5(path) as file:
        image, depth, measured, labels, numbers = (
            np.ascontiguousarray(np.transpose(file[name][index]))
            for name in ("images", "depths", "rawDepths", "labels", "instances")
        )
    return RgbdFrame(
        name=_name(index),
        image=image,
        depth=DepthMap(depth, "depth", "m", measured > 0, Camera(K, SIZE)),
        instances=labels.astype(np.int32) * 256 + numbers,
    )
