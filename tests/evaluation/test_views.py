import numpy as np
import pytest

from crispdepth.evaluation.views import floater_ratio, psnr, silhouette_iou, ssim
from crispdepth.types import Camera, Gaussians

RNG = np.random.default_rng(0)
TRUTH = RNG.random((40, 50, 3)).astype(np.float32)


def test_psnr_is_that_of_a_known_error() -> None:
    grey = np.full((8, 9, 3), 0.5)
    assert psnr(grey, grey + 0.1) == pytest.approx(20)
    assert psnr(grey, grey) == 100
    assert psnr(grey + 3, np.ones((8, 9, 3))) == 100  # clipped


def test_masked_psnr_is_blind_outside_of_the_mask() -> None:
    mask = np.zeros((40, 50), np.float32)
    mask[:, :20] = 1
    other = TRUTH.copy()
    other[:, 20:] = 0
    assert psnr(other, TRUTH, mask) == 100
    assert psnr(other, TRUTH) < 20
    with pytest.raises(ValueError, match="empty"):
        psnr(other, TRUTH, mask * 0)


def test_ssim_is_that_of_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    noisy = (TRUTH + RNG.normal(size=TRUTH.shape) * 0.1).clip(0, 1)
    theirs = metrics.structural_similarity(
        noisy, TRUTH.astype(np.float64), win_size=11, gaussian_weights=True, channel_axis=-1,
        data_range=1.0,
    )  # fmt: skip
    assert ssim(noisy, TRUTH) == pytest.approx(theirs, abs=1e-6)
    assert ssim(TRUTH, TRUTH) == pytest.approx(1)


def test_silhouettes_are_compared_at_a_half() -> None:
    mask = np.zeros((10, 10), np.float32)
    mask[:5] = 1
    shifted = np.roll(mask, 1, axis=0) * 0.6
    assert silhouette_iou(shifted, mask) == pytest.approx(4 / 6)
    assert silhouette_iou(mask * 0, mask * 0) == 1


def test_floaters_are_what_lies_outside_of_any_silhouette() -> None:
    K = np.array([[20.0, 0, 10], [0, 20, 10], [0, 0, 1]])
    front = Camera(K, (20, 20))
    side = np.array([[0, 0, 1.0, -4], [0, 1, 0, 0], [-1, 0, 0, 4], [0, 0, 0, 1]])
    cameras = [front, Camera(K, (20, 20), side)]
    mask = np.zeros((20, 20), np.float32)
    mask[8:12, 8:12] = 1
    # inside; outside for both; hidden behind the object in the first view; behind both cameras
    means = np.array([[0, 0, 4], [1.5, 0, 4], [0, 0, 5.5], [9, 0, -3]], np.float32)
    upright = np.tile(np.array([1, 0, 0, 0], np.float32), (4, 1))
    gaussians = Gaussians(
        means, np.full((4, 3), 0.1, np.float32), upright,
        np.array([0.4, 0.3, 0.2, 0.1], np.float32), np.zeros((4, 1, 3), np.float32),
    )  # fmt: skip
    assert floater_ratio(gaussians, cameras, [mask, mask]) == pytest.approx(0.5)
    assert floater_ratio(gaussians, cameras[:1], [mask]) == pytest.approx(0.3)
    assert floater_ratio(gaussians, [], []) == 0
    with pytest.raises(ValueError, match="camera is for"):
        floater_ratio(gaussians, cameras, [mask, mask[:5]])
