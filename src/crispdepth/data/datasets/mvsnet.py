"""DTU and BlendedMVS as MVSNet's authors prepared them for training (Yao et al., 2018 and 2020).

A camera is a text ``extrinsic`` (4x4, cam_from_world, OpenCV axes) and ``intrinsic`` (3x3, the
centre of the top-left pixel at (0, 0)), then a range of depths. Depth is z-depth in PFM files, 0 =
not measured. ``pair.txt``, which lists views that go together, is not read: cameras tell it too.

DTU (https://github.com/YoYo000/MVSNet) holds ``Rectified/scan1_train/rect_001_3_r5000.png`` (view
0 in light 3; 640 x 512), ``Cameras/train/00000000_cam.txt`` (or ``Cameras/``; K is for 160 x 128),
``Depths/scan1_train/depth_map_0000.pfm`` and ``depth_visual_0000.png`` (160 x 128; where depth can
be trusted). Lengths are millimetres there and metres here.

BlendedMVS (https://github.com/YoYo000/BlendedMVS) holds, in a folder for each scene,
``blended_images/00000000.jpg``, ``cams/00000000_cam.txt`` and ``rendered_depth_maps/00000000.pfm``,
all of one size. Its scenes have no scale.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.datasets.files import LazyFrames, find_files, read_photo, read_plane
from crispdepth.io.atomic import read_bytes
from crispdepth.io.depths import read_depth
from crispdepth.io.scenes.poses import from_integer_centres
from crispdepth.ops.resample import shrink
from crispdepth.types import Camera, DepthMap, Size

LIGHT = 3
"""Of the seven lights of DTU the one that comes from all sides."""

_DTU_STRIDE = 4  # photos are so many times larger than depth maps and K
_MILLIMETRE = 1e-3

Matrix = NDArray[np.float64]


def open_dtu(root: str | Path) -> Sequence[RgbdFrame]:
    """The frames of DTU's training set, at the size of the depth maps; there are no instances.

    Raises:
        FileNotFoundError: there is no frame below the folder.
    """
    return LazyFrames(find_files(root, "**/Depths/*/depth_map_*.pfm", "DTU"), _read_dtu, _dtu_name)


def open_blendedmvs(root: str | Path) -> Sequence[RgbdFrame]:
    """The frames of BlendedMVS, or of one of its scenes; there are no instances.

    Raises:
        FileNotFoundError: there is no frame below the folder.
    """
    files = find_files(root, "**/rendered_depth_maps/*.pfm", "BlendedMVS")
    return LazyFrames(files, _read_blendedmvs, _blendedmvs_name)


def read_camera(path: Path) -> tuple[Matrix, Matrix]:
    """``K`` (3, 3), as it is stored, and ``cam_from_world`` (4, 4) of a ``_cam.txt``.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds something else.
    """
    words = read_bytes(path).decode(errors="replace").split()
    try:
        pose, K = words.index("extrinsic") + 1, words.index("intrinsic") + 1
        cam_from_world = np.array(words[pose : pose + 16], np.float64).reshape(4, 4)
        intrinsic = np.array(words[K : K + 9], np.float64).reshape(3, 3)
    except ValueError as error:
        raise ValueError(
            f"{path} should hold `extrinsic` and a 4x4 matrix, `intrinsic` and a 3x3 one: {error}."
        ) from error
    return intrinsic, cam_from_world


def _dtu_name(path: Path) -> str:
    return f"{path.parent.name.removesuffix('_train')}/{_number(path):04d}"


def _blendedmvs_name(path: Path) -> str:
    return f"{path.parents[1].name}/{path.stem}"


def _number(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])


def _read_dtu(path: Path) -> RgbdFrame:
    root, scan, view = path.parents[2], path.parent.name, _number(path)
    folder = root / "Cameras" / "train"
    K, pose = read_camera((folder if folder.is_dir() else folder.parent) / f"{view:08d}_cam.txt")
    # It was divided where the centre of the top-left pixel is at (0, 0).
    K = from_integer_centres(np.diag([_DTU_STRIDE, _DTU_STRIDE, 1.0]) @ K)
    pose[:3, 3] *= _MILLIMETRE
    depth = read_depth(path, kind="depth", unit="m", scale=_MILLIMETRE).depth
    trusted = path.with_name(f"depth_visual_{view:04d}.png")
    if trusted.is_file():
        depth = replace(depth, valid=depth.usable & (read_plane(trusted) > 10))
    height, width = depth.size
    camera = Camera(K, (height * _DTU_STRIDE, width * _DTU_STRIDE), pose).resized(depth.size)
    photo = read_photo(root / "Rectified" / scan / f"rect_{view + 1:03d}_{LIGHT}_r5000.png")
    return RgbdFrame(_dtu_name(path), shrink(photo, depth.size), replace(depth, camera=camera))


def _read_blendedmvs(path: Path) -> RgbdFrame:
    scene = path.parents[1]
    K, pose = read_camera(scene / "cams" / f"{path.stem}_cam.txt")
    stored = read_depth(path, kind="depth", unit="relative").depth
    photo = read_photo(scene / "blended_images" / f"{path.stem}.jpg")
    size: Size = (photo.shape[0], photo.shape[1])
    camera = Camera(from_integer_centres(K), size, pose).resized(stored.size)
    depth = DepthMap(stored.values, "depth", "relative", stored.usable, camera)
    return RgbdFrame(_blendedmvs_name(path), shrink(photo, stored.size), depth)
