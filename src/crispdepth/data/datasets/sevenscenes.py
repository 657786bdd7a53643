"""7-Scenes: Kinect sequences of seven small rooms (Shotton et al., CVPR 2013).

The format is described at
https://www.microsoft.com/en-us/research/project/rgb-d-dataset-7-scenes: ``SCENE/seq-01`` holds
``frame-000000.color.png`` (``.jpg`` in smaller copies), ``frame-000000.depth.png`` (uint16
millimetres, 65535 = not measured; some copies write 0) and ``frame-000000.pose.txt`` (world from
camera, OpenCV axes).

The two cameras of the Kinect were not calibrated: depth and colour are some pixels apart, and the
focal length of 585 px about the middle of the image is the depth camera's default.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.datasets.files import LazyFrames, camera_at, find_files, read_photo
from crispdepth.io.depths import read_depth
from crispdepth.io.scenes.poses import read_matrix

SIZE = (480, 640)
K = np.array([[585.0, 0.0, 320.0], [0.0, 585.0, 240.0], [0.0, 0.0, 1.0]])


def open_sevenscenes(root: str | Path) -> Sequence[RgbdFrame]:
    """The frames of 7-Scenes, of one of its scenes or of one sequence; there are no instances.

    Raises:
        FileNotFoundError: there is no frame below the folder.
    """
    return LazyFrames(find_files(root, "**/frame-*.depth.png", "7-Scenes"), _read, _name)


def _name(path: Path) -> str:
    return "/".join((*path.parts[-3:-1], path.name.removesuffix(".depth.png")))


def _read(path: Path) -> RgbdFrame:
    frame = path.name.removesuffix(".depth.png")
    depth = read_depth(path, kind="depth", unit="m").depth
    pose = read_matrix(path.with_name(f"{frame}.pose.txt"))
    photo = path.with_name(f"{frame}.color.png")
    return RgbdFrame(
        name=_name(path),
        image=read_photo(photo if photo.is_file() else photo.with_suffix(".jpg")),
        depth=replace(depth, camera=camera_at(K, SIZE, pose)),
    )
