"""Objaverse-style renders of single objects: numbered RGBA pictures, each with its pose.

As the renderers of Zero-1-to-3 and Objaverse-XL write them
(https://github.com/allenai/objaverse-xl, ``scripts/rendering``): ``OBJECT/000.png`` and
``OBJECT/000.npy``, the (3, 4) pose cam_from_world with the axes of Blender's camera (x right, y up,
z backward). The lens is 35 mm on a sensor of 32 mm, the alpha of a picture the mask of the object,
and there is no depth. Renders with a ``transforms.json`` are of the format ``scenes``.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.datasets.files import LazyFrames, find_files
from crispdepth.io.arrays import read_array
from crispdepth.io.atomic import read_bytes
from crispdepth.io.images import read_image
from crispdepth.io.scenes.poses import OPENCV_FROM_OPENGL
from crispdepth.ops.images import eight_bit
from crispdepth.types import Camera, DepthMap

FOCAL = 35 / 32
"""Focal length in widths of the picture."""


def open_objaverse(root: str | Path) -> Sequence[RgbdFrame]:
    """The views of rendered objects; the mask is the alpha, nothing of the depth is valid.

    Raises:
        FileNotFoundError: there is no view below the folder.
    """
    return LazyFrames(find_files(root, "**/[0-9]*.npy", "Objaverse"), _read, _name)


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def _read(path: Path) -> RgbdFrame:
    pose = read_array(read_bytes(path), ())
    if pose.shape not in ((3, 4), (4, 4)):
        raise ValueError(f"{path} should hold a (3, 4) pose, cam_from_world, got {pose.shape}.")
    cam_from_world = np.eye(4)
    cam_from_world[: len(pose)] = pose
    photo = read_image(path.with_suffix(".png"))
    if photo.alpha is None:
        raise ValueError(f"{path.with_suffix('.png')} has no alpha, which is the object's mask.")
    height, width = photo.alpha.shape
    focal = FOCAL * width
    K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    camera = Camera(K, (height, width), OPENCV_FROM_OPENGL @ cam_from_world)
    nothing = np.zeros((height, width), np.float32)
    return RgbdFrame(
        _name(path),
        eight_bit(photo.rgb),
        DepthMap(nothing, "depth", "relative", camera=camera),
        mask=np.rint(255 * photo.alpha).astype(np.uint8),
    )
