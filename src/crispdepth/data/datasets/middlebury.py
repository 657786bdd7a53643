"""Middlebury stereo 2014 and 2021: still lifes with structured-light truth (Scharstein et al.).

The format is described at https://vision.middlebury.edu/stereo/data/scenes2014/: a scene's folder
holds the left photo ``im0.png``, its disparity ``disp0.pfm`` (pixels, inf = unknown) and
``calib.txt`` with ``cam0=[f 0 cx; 0 f cy; 0 0 1]``, ``doffs`` (pixels) and ``baseline``
(millimetres), from which depth follows as ``z = baseline f / (disparity + doffs)``.

The page does not say where pixel centres lie; they are taken to be integers, as in the tools the
rigs were calibrated with.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.datasets.files import LazyFrames, find_files, read_photo
from crispdepth.io.atomic import read_bytes
from crispdepth.io.depths import read_depth
from crispdepth.io.scenes.poses import from_integer_centres
from crispdepth.types import Camera, DepthMap


def open_middlebury(root: str | Path) -> Sequence[RgbdFrame]:
    """The left views of Middlebury scenes; the world is the camera's, and there are no instances.

    Raises:
        FileNotFoundError: there is no scene below the folder.
    """
    return LazyFrames(find_files(root, "**/disp0.pfm", "Middlebury"), _read, _name)


def _name(path: Path) -> str:
    return path.parent.name


def _read(path: Path) -> RgbdFrame:
    scene = path.parent
    K, doffs_px, baseline_m = _calibration(scene / "calib.txt")
    disparity = read_depth(path, kind="inverse_depth", unit="relative").depth
    shifted = disparity.values + doffs_px
    valid = disparity.usable & (shifted > 0)
    z = np.divide(baseline_m * K[0, 0], shifted, out=np.zeros_like(shifted), where=valid)
    return RgbdFrame(
        name=_name(path),
        image=read_photo(scene / "im0.png"),
        depth=DepthMap(z, "depth", "m", valid, Camera(K, disparity.size)),
    )


def _calibration(path: Path) -> tuple[NDArray[np.float64], float, float]:
    """``K`` (3, 3), ``doffs`` in pixels and the baseline in metres."""
    text = read_bytes(path).decode(errors="replace")
    facts = dict(re.findall(r"^\s*(\w+)\s*=\s*(.*?)\s*$", text, re.MULTILINE))
    try:
        rows = [row.split() for row in facts["cam0"].strip("[]").split(";")]
        K = from_integer_centres(np.array(rows, np.float64).reshape(3, 3))
        return K, float(facts["doffs"]), float(facts["baseline"]) / 1000
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{path} should state cam0=[f 0 cx; 0 f cy; 0 0 1], doffs and baseline ({error!r})."
        ) from error
