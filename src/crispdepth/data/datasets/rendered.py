"""This project's own scenes as frames: folders with a ``scene.json`` (`scene_json`)."""

from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path

import numpy as np

from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.datasets.files import LazyFrames, read_ids, read_photo, read_plane
from crispdepth.data.datasets.scene_json import Frame, find_frames
from crispdepth.ops.images import eight_bit
from crispdepth.types import DepthMap


def open_rendered(root: str | Path) -> Sequence[RgbdFrame]:
    """The frames of a scene folder, or of all scene folders directly inside ``root``.

    Depth is invalid where there is no surface. Rough depth (``init``) and the soft mask of the
    object are read where there are any.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: neither it nor a folder in it has a ``scene.json``, or one is malformed.
    """
    return LazyFrames(tuple(find_frames(root)), _read, attrgetter("name"))


def _read(frame: Frame) -> RgbdFrame:
    metres = frame.read_depth()
    rough = frame.initial if frame.initial and frame.initial.is_file() else None
    return RgbdFrame(
        name=frame.name,
        image=read_photo(frame.image),
        depth=DepthMap(metres, "depth", "m", camera=frame.camera(metres.shape)),
        instances=None if frame.instances is None else read_ids(frame.instances),
        rough=None if rough is None else read_plane(rough).astype(np.float32),
        mask=None if frame.mask is None else eight_bit(read_plane(frame.mask)),
    )
