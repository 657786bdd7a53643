"""Distortion laws against COLMAP's own, and photos without it."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from crispdepth.io.scenes.colmap import MODELS, lens_of
from crispdepth.io.scenes.lens import (
    WIDEST,
    Lens,
    distort,
    lens_from_matrix,
    pinhole_camera,
    pixel_rays,
    sampling_grid,
    undistort,
)

SIZE = (480, 640)
VALUES = {
    "f": 500.0, "fx": 500.0, "fy": 510.0, "cx": 322.0, "cy": 235.0,
    "k1": -0.12, "k2": 0.03, "p1": 0.002, "p2": -0.001, "k3": 0.004, "k4": 0.01, "k5": 0.002,
    "k6": 0.001,
}  # fmt: skip


def colmap_lens(model: str) -> tuple[Lens, list[float]]:
    names = dict(MODELS.values())[model]
    values = [VALUES[name] for name in names]
    return lens_of(model, SIZE, tuple(values)), values


@pytest.mark.parametrize("model", [name for name, _ in MODELS.values()])
def test_every_model_images_points_as_colmap_does(model: str) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    lens, values = colmap_lens(model)
    camera = pycolmap.Camera(model=model, width=SIZE[1], height=SIZE[0], params=values)
    x, y = np.random.default_rng(0).uniform(-0.6, 0.6, (2, 200))
    expected = camera.img_from_cam(np.stack([x, y, np.ones_like(x)], axis=1))
    u, v = distort(lens, x, y)
    ours = np.stack([lens.fx * u + lens.cx, lens.fy * v + lens.cy], axis=1)
    np.testing.assert_allclose(ours, expected, atol=1e-9)


@pytest.mark.parametrize("model", [name for name, _ in MODELS.values()])
def test_undistort_inverts_distort(model: str) -> None:
    lens, _ = colmap_lens(model)
    x, y = np.random.default_rng(1).uniform(-0.6, 0.6, (2, 200))
    u, v = undistort(lens, *distort(lens, x, y))
    tolerance = 1e-6 if lens.law == "fisheye" else 1e-9  # the former looks it up in a table
    np.testing.assert_allclose([u, v], [x, y], atol=tolerance)


@pytest.mark.parametrize("model", [name for name, _ in MODELS.values()])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_new_photo_shows_only_what_the_old_one_saw(model: str, sign: int) -> None:
    lens, _ = colmap_lens(model)
    lens = replace(lens, distortion=tuple(sign * k for k in lens.distortion))
    camera = pinhole_camera(lens, np.eye(4))
    grid = sampling_grid(lens, camera.K, camera.size)
    assert grid.min() > 0
    assert (grid < (SIZE[1], SIZE[0])).all()
    # ... and all of it, in one direction at least, up to the pixel that rounding costs.
    reach = np.stack([grid.min(axis=(0, 1)), (SIZE[1], SIZE[0]) - grid.max(axis=(0, 1))])
    assert reach.min() < 1.5
    assert camera.K[0, 0] == lens.fx  # the middle keeps its scale


def test_a_pinhole_stays_as_it_is() -> None:
    lens = lens_from_matrix(np.array([[500, 0.5, 320], [0, 505, 240], [0, 0, 1.0]]), SIZE)
    camera = pinhole_camera(lens, np.eye(4))
    np.testing.assert_array_equal(camera.K, lens.K)
    assert camera.size == SIZE
    rows, columns = np.indices(SIZE) + 0.5
    grid = sampling_grid(lens, camera.K, camera.size)
    np.testing.assert_allclose(grid, np.stack([columns, rows], axis=-1), atol=1e-3)


def test_lines_that_a_lens_bent_are_straight_again() -> None:
    """A checkerboard is imaged through the lens; taking the lens away gives the checkerboard."""
    lens, _ = colmap_lens("OPENCV")

    def board(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return 127 + 100 * np.sin(12 * x) * np.sin(12 * y)

    rays = pixel_rays(lens.K, SIZE)
    bent = board(*undistort(lens, rays[..., 0].ravel(), rays[..., 1].ravel())).reshape(SIZE)
    camera = pinhole_camera(lens, np.eye(4))
    grid = sampling_grid(lens, camera.K, camera.size) - np.float32(0.5)
    x, y = cv2.split(grid)
    straight = cv2.remap(bent.astype(np.float32), x, y, cv2.INTER_LINEAR)
    rays = pixel_rays(camera.K, camera.size)
    np.testing.assert_allclose(straight, board(rays[..., 0], rays[..., 1]), atol=0.1)


def test_of_a_fisheye_beyond_half_a_turn_the_middle_is_kept() -> None:
    lens = Lens(150, 150, 320, 240, SIZE, "fisheye", (0.0, 0.0, 0.0, 0.0))  # 122 degrees to a side
    camera = pinhole_camera(lens, np.eye(4))
    half_width = camera.size[1] / 2 / camera.K[0, 0]
    assert 0.5 * np.tan(WIDEST) < half_width <= np.tan(WIDEST) + 1e-9


def test_a_distortion_that_folds_the_picture_is_refused() -> None:
    lens = Lens(300, 300, 320, 240, SIZE, distortion=(-0.9,))
    with pytest.raises(ValueError, match="not one-to-one"):
        pinhole_camera(lens, np.eye(4))


def test_a_resized_photo_has_the_same_rays() -> None:
    lens, _ = colmap_lens("FULL_OPENCV")
    half = lens.resized((240, 320))
    assert half.size == (240, 320)
    rays, small = pixel_rays(lens.K, SIZE), pixel_rays(half.K, (240, 320))
    np.testing.assert_allclose(small, rays.reshape(240, 2, 320, 2, 2).mean(axis=(1, 3)), atol=1e-12)


def test_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match="positive focal"):
        Lens(-1, 1, 0, 0)
    with pytest.raises(ValueError, match="finite"):
        Lens(1, 1, float("nan"), 0)
    with pytest.raises(ValueError, match="camera matrix is"):
        lens_from_matrix(np.array([[1, 0, 0], [0, 1, 0], [0, 1, 1.0]]))
    with pytest.raises(ValueError, match=r"FOV is not supported.*image_undistorter"):
        lens_of("FOV", SIZE, (1.0,))
    with pytest.raises(ValueError, match="4 parameters, got 3"):
        lens_of("PINHOLE", SIZE, (1.0, 2.0, 3.0))
