"""What scene folders are made of: poses around the origin, photos, masks, depth maps."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

SIZE = (24, 32)  # height, width
FOCAL = 30.0
K = np.array([[FOCAL, 0.0, 16.5], [0.0, FOCAL, 11.5], [0.0, 0.0, 1.0]])


def save(path: Path, array: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array)).save(path)
    return path


def photo(number: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """A photo that differs from that of every other number."""
    y, x = np.indices(size)
    return np.stack([8 * x % 256, 10 * y % 256, np.full(size, 7 * number)], axis=-1).astype(
        np.uint8
    )


def orbit(count: int = 4) -> list[NDArray[np.float64]]:
    """``cam_from_world`` of cameras that look at the origin from all around, 3 away."""
    poses = []
    for angle in np.linspace(0, 2 * np.pi, count, endpoint=False):
        centre = np.array([3 * np.cos(angle), 3 * np.sin(angle), 0.5 + 0.1 * angle])
        forward = -centre / np.linalg.norm(centre)
        right = np.cross(forward, [0, 0, 1])
        right /= np.linalg.norm(right)
        pose = np.eye(4)
        pose[:3, :3] = np.stack([right, np.cross(forward, right), forward])
        pose[:3, 3] = -pose[:3, :3] @ centre
        poses.append(pose)
    return poses


def same_poses(scene: Any, poses: list[NDArray[np.float64]], atol: float = 1e-12) -> None:
    assert len(scene) == len(poses)
    for camera, pose in zip(scene.cameras, poses, strict=True):
        np.testing.assert_allclose(camera.cam_from_world, pose, atol=atol)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "scene"
