"""Cameras found for rendered photos: textured planes at several depths, seen by a known path."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from crispdepth.io.scenes import open_scene
from crispdepth.io.scenes.sfm import SfmConfig, find_cameras
from crispdepth.types import MaskRole

from .conftest import photo, save

SIZE = (240, 320)
K = np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]])


def texture(seed: int) -> np.ndarray:
    """Blobs of many sizes: SIFT finds the same ones from everywhere."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.normal(size=(size, size)).astype(np.float32), (800, 800)) * weight
        for size, weight in ((20, 1.0), (50, 0.8), (120, 0.7), (300, 0.5))
    ]
    grey = np.sum(layers, axis=0)
    return np.asarray((128 + 45 * grey).clip(0, 255), np.uint8)


def render(pose: np.ndarray) -> np.ndarray:
    """Two planes, z = 5 and before its left half z = 4, each 6 wide; by homographies."""
    picture = np.zeros(SIZE, np.uint8)
    for depth, left, seed in ((5.0, -3.0, 0), (4.0, -4.6, 1)):
        plane_from_texels = np.array([[6 / 800, 0, left], [0, 6 / 800, -3], [0, 0, 1]])
        # On the plane X = (x, y, depth): K (R[:, :2] (x, y) + depth R[:, 2] + t)
        homography = K @ np.column_stack(
            [pose[:3, 0], pose[:3, 1], depth * pose[:3, 2] + pose[:3, 3]]
        )
        warp = homography @ plane_from_texels
        seen = cv2.warpPerspective(texture(seed), warp, SIZE[::-1])
        where = cv2.warpPerspective(np.full((800, 800), 255, np.uint8), warp, SIZE[::-1])
        picture = np.where(where > 127, seen, picture)
    return np.repeat(picture[..., None], 3, axis=-1)


def path() -> list[np.ndarray]:
    poses = []
    for step in np.linspace(-1, 1, 7):
        rotation, _ = cv2.Rodrigues(np.array([0.02 * step, 0.15 * step, 0.03]))
        pose = np.eye(4)
        pose[:3, :3] = rotation
        pose[:3, 3] = -rotation @ [1.2 * step, 0.2 * step**2, 0.3 * abs(step)]
        poses.append(pose)
    return poses


def centres(poses: list[np.ndarray]) -> np.ndarray:
    return np.stack([-pose[:3, :3].T @ pose[:3, 3] for pose in poses])


def aligned(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Points ``a`` moved onto ``b`` by the best similarity (Umeyama, 1991)."""
    a0, b0 = a - a.mean(axis=0), b - b.mean(axis=0)
    u, s, vt = np.linalg.svd(b0.T @ a0)
    signs = np.array([1, 1, np.linalg.det(u @ vt)])
    rotation = (u * signs) @ vt
    return np.asarray((s * signs).sum() / (a0**2).sum() * a0 @ rotation.T + b.mean(axis=0))


@pytest.mark.slow
def test_the_cameras_of_rendered_photos_are_found(tmp_path: Path) -> None:
    pytest.importorskip("pycolmap")
    for number, pose in enumerate(path()):
        save(tmp_path / f"photos/{number}.png", render(pose))
        # What stands still in every photo must not count: the lower left, under ignore masks.
        mask = np.full(SIZE, 255, np.uint8)
        mask[160:, :120] = 0
        save(tmp_path / f"masks/{number}.png", mask)
        image = render(pose)
        image[160:, :120] = np.repeat(texture(2)[:80, :120, None], 3, -1)
        save(tmp_path / f"photos/{number}.png", image)
    found = find_cameras(
        tmp_path / "photos",
        tmp_path / "work",
        masks=tmp_path / "masks",
        mask_role="ignore",
        config=SfmConfig(lens="SIMPLE_PINHOLE"),
    )
    assert "placed 7 of 7 photos" in found.notes[0]
    assert "features were taken only where the masks allow it" in found.notes
    scene = open_scene(
        found.model, photos=found.photos, masks=tmp_path / "masks", mask_role="ignore"
    ).scene
    assert len(scene) == 7
    assert abs(scene.cameras[0].K[0, 0] / 300 - 1) < 0.02
    truth = centres(path())
    ours = centres([camera.cam_from_world for camera in scene.cameras])
    error = np.linalg.norm(aligned(ours, truth) - truth, axis=1)
    assert error.max() < 0.02  # of a path 2.4 long
    assert scene.points is not None
    masks = scene[0].masks
    assert masks is not None
    assert masks.role == "ignore"


def test_masks_become_what_colmap_ignores(tmp_path: Path) -> None:
    from crispdepth.io.scenes.sfm import _write_masks

    files = [save(tmp_path / f"photos/{name}", photo(0)) for name in ("a.png", "b c.png")]
    inside = np.zeros(photo(0).shape[:2], np.uint8)
    inside[:5], inside[5] = 255, 100
    save(tmp_path / "masks/a.png", inside)
    roles: tuple[MaskRole, ...] = ("object", "ignore")
    for role in roles:  # white is kept in both
        folder = _write_masks(
            tmp_path / "photos", files, tmp_path / role, tmp_path / "masks", role, False
        )
        assert folder is not None
        assert [path.name for path in folder.iterdir()] == ["a.png.png"]
        written = cv2.imread(str(folder / "a.png.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(written == 255, inside > 127)


def test_too_few_photos_and_a_missing_extra_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pycolmap")
    save(tmp_path / "photos/a.png", photo(0))
    save(tmp_path / "photos/a_mask.png", photo(0))
    with pytest.raises(ValueError, match=r"has 1 photos .* needs 3 or more"):
        find_cameras(tmp_path / "photos", tmp_path / "work")
    with pytest.raises(FileNotFoundError, match="no folder of photos"):
        find_cameras(tmp_path / "nothing", tmp_path / "work")
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    with pytest.raises(ImportError, match=r'pip install "crispdepth\[sfm\]"'):
        find_cameras(tmp_path / "photos", tmp_path / "work")
