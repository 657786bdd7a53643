"""ScanNet: rooms scanned with a tablet and a depth sensor (Dai et al., CVPR 2017).

The format is that which ``SensReader/python`` of https://github.com/ScanNet/ScanNet exports from
a scene's ``.sens`` file: ``color/0.jpg``, ``depth/0.png`` (uint16 millimetres, 0 = not measured),
``pose/0.txt`` (world from camera, OpenCV axes; ``-inf`` where tracking was lost) and
``intrinsic/intrinsic_depth.txt``; and, unpacked from ``…_2d-instance-filt.zip`` beside them,
``instance-filt/0.png`` (uint8, 0 = not annotated, as large as the colour).

Colour and depth are registered up to their sizes (the authors, issues 2 and 92 there), so colour
and ids are brought to the size of the depth.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.datasets.files import LazyFrames, camera_at, find_files, read_ids, read_photo
from crispdepth.io.depths import read_depth
from crispdepth.io.scenes.poses import from_integer_centres, read_matrix
from crispdepth.ops.resample import shrink


def open_scannet(root: str | Path) -> Sequence[RgbdFrame]:
    """The frames of exported ScanNet scenes, all of them at the size of the depth maps.

    A frame whose tracking was lost has no camera.

    Raises:
        FileNotFoundError: there is no frame below the folder.
    """
    return LazyFrames(find_files(root, "**/depth/*.png", "exported ScanNet"), _read, _name)


def _name(path: Path) -> str:
    return f"{path.parents[1].name}/{path.stem}"


def _read(path: Path) -> RgbdFrame:
    scene, number = path.parents[1], path.stem
    depth = read_depth(path, kind="depth", unit="m").depth
    K = read_matrix(scene / "intrinsic" / "intrinsic_depth.txt")[:3, :3]
    pose = read_matrix(scene / "pose" / f"{number}.txt")
    ids = scene / "instance-filt" / f"{number}.png"
    return RgbdFrame(
        name=_name(path),
        image=shrink(read_photo(scene / "color" / f"{number}.jpg"), depth.size),
        depth=replace(depth, camera=camera_at(from_integer_centres(K), depth.size, pose)),
        instances=read_ids(ids, depth.size) if ids.is_file() else None,
    )
