from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crispdepth.data.datasets.objaverse import open_objaverse
from crispdepth.data.multiview_config import MultiviewSampleConfig
from crispdepth.data.multiview_samples import KINDS, MultiviewSampler
from crispdepth.io.scenes.poses import OPENCV_FROM_OPENGL
from tests.analytic import looking_at, sphere_depth

Save = Callable[[Path, Any], Path]

SIZE = (32, 32)


def write(root: Path, save: Save, count: int = 3, mode: str = "RGBA") -> Path:
    """Views of a ball from an orbit of radius 3."""
    for number in range(count):
        angle = 2 * np.pi * number / count
        eye = 3 * np.array([np.cos(angle), np.sin(angle), 0.2])
        camera = looking_at(eye, np.zeros(3), SIZE, 35.0)
        save(root / "ball" / f"{number:03}.npy", (OPENCV_FROM_OPENGL @ camera.cam_from_world)[:3])
        alpha = (255 * (sphere_depth(camera, 0.8) > 0)).astype(np.uint8)
        picture = np.dstack([np.full((*SIZE, 3), 90, np.uint8), alpha])
        Image.fromarray(picture).convert(mode).save(root / "ball" / f"{number:03}.png")
    return root


def test_the_alpha_is_the_mask_and_there_is_no_depth(tmp_path: Path, save: Save) -> None:
    frames = open_objaverse(write(tmp_path, save))
    assert [frame.name for frame in frames] == ["ball/000", "ball/001", "ball/002"]
    for frame in frames:
        camera = frame.depth.camera
        assert camera is not None
        assert frame.mask is not None
        np.testing.assert_array_equal(frame.mask > 0, sphere_depth(camera, 0.8) > 0)
        assert not frame.depth.usable.any()
        assert camera.K[0, 0] == 35


def test_samples_have_masks_and_the_range_of_the_hull(tmp_path: Path, save: Save) -> None:
    config = MultiviewSampleConfig(masked_objects=1, rgba=1)
    sampler = MultiviewSampler(open_objaverse(write(tmp_path, save, 12)), config.faultless())
    for index in range(4):
        sample = sampler.draw(0, index, SIZE, 3)
        assert KINDS[int(sample.kind)] == "rgba"
        assert 0.05 < sample.alpha.mean() < 0.9
        assert (sample.near < 2.3).all()  # the ball begins there
        assert (sample.far > 3.7).all()
        assert (sample.far < 12).all()


def test_what_is_no_such_render_is_named(tmp_path: Path, save: Save) -> None:
    with pytest.raises(ValueError, match=r"000\.png has no alpha"):
        open_objaverse(write(tmp_path, save, mode="RGB"))[0]
    save(tmp_path / "ball" / "000.npy", np.eye(3))
    with pytest.raises(ValueError, match=r"000\.npy should hold a \(3, 4\) pose"):
        open_objaverse(tmp_path)[0]
