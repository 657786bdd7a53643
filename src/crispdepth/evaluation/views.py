"""How well views are synthesised: PSNR, SSIM, silhouettes, and opacity where nothing is."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from crispdepth.types import Camera, Float32Map, Gaussians

_WINDOW, _SIGMA = 11, 1.5
_MOST_DB = 100.0  # of images that are the same

Image = NDArray[np.floating]  # (h, w, 3) in [0, 1]


def psnr(image: Image, truth: Image, mask: Float32Map | None = None) -> float:
    """Peak signal-to-noise ratio in dB of values clipped to [0, 1], at most 100.

    Args:
        image: (h, w, 3).
        truth: (h, w, 3).
        mask: (h, w) in [0, 1], how much a pixel counts: for an object alone, since an empty
            background is easy and flatters.

    Raises:
        ValueError: the sizes differ, or no pixel counts.
    """
    _same_size(image, truth)
    weight = np.ones(image.shape[:2], np.float32) if mask is None else mask
    if not weight.sum() > 0:
        raise ValueError("No pixel counts: the mask is empty.")
    squares = np.square(np.clip(image, 0, 1) - np.clip(truth, 0, 1)).mean(axis=-1)
    error = float((weight * squares).sum() / weight.sum())
    return min(_MOST_DB, -10 * np.log10(error)) if error > 0 else _MOST_DB


def ssim(image: Image, truth: Image) -> float:
    """Structural similarity, at most 1 (Wang et al., 2004), as scikit-image has it.

    A Gaussian window of 11 pixels, sigma 1.5, sample covariances, values from 0 to 1; the border
    that a window does not fit on does not count; mean of the channels.

    Raises:
        ValueError: the sizes differ, or the images are smaller than the window.
    """
    _same_size(image, truth)
    if min(image.shape[:2]) < _WINDOW:
        raise ValueError(f"SSIM needs images of {_WINDOW} pixels or more, got {image.shape[:2]}.")
    a, b = (np.clip(part, 0, 1).astype(np.float64) for part in (image, truth))
    mean_a, mean_b = _blur(a), _blur(b)
    sample = _WINDOW**2 / (_WINDOW**2 - 1)
    var_a = sample * (_blur(a * a) - mean_a**2)
    var_b = sample * (_blur(b * b) - mean_b**2)
    covariance = sample * (_blur(a * b) - mean_a * mean_b)
    c1, c2 = 0.01**2, 0.03**2
    similar = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    similar /= (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    edge = _WINDOW // 2
    return float(similar[edge:-edge, edge:-edge].mean())


def silhouette_iou(alpha: NDArray[Any], mask: NDArray[Any]) -> float:
    """Intersection over union of where alpha and the mask are above a half; 1 if nowhere.

    Both are (h, w), bools or from 0 to 1.

    Raises:
        ValueError: the sizes differ.
    """
    _same_size(alpha, mask)
    ours, theirs = alpha > 0.5, mask > 0.5
    union = np.count_nonzero(ours | theirs)
    return np.count_nonzero(ours & theirs) / union if union else 1.0


def floater_ratio(
    gaussians: Gaussians, cameras: Sequence[Camera], masks: Sequence[Float32Map]
) -> float:
    """Share of opacity outside of the visual hull of the masks (spec 4.1), 0 to 1.

    A Gaussian is outside if its mean falls on a pixel that a mask leaves empty, in any of the
    views; views that do not see it say nothing. A pixel beside the mask is still inside, for the
    pixel's own size.

    Args:
        gaussians: in the world of the cameras.
        cameras: of the masks.
        masks: (h, w) in [0, 1] each, of what is not empty.

    Raises:
        ValueError: there is not one mask for each camera, of its size.
    """
    outside = np.zeros(len(gaussians), bool)
    for camera, mask in zip(cameras, masks, strict=True):
        if mask.shape != camera.size:
            raise ValueError(f"The mask is {mask.shape}, its camera is for {camera.size}.")
        full = cv2.dilate((mask > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        pose = camera.cam_from_world
        points = gaussians.means @ pose[:3, :3].T + pose[:3, 3]
        front = points[:, 2] > 0
        flat = points[front] @ camera.K.T
        x, y = np.floor(flat[:, :2] / flat[:, 2:]).T
        height, width = camera.size
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        seen = np.nonzero(front)[0][inside]
        outside[seen] |= ~full[y[inside].astype(int), x[inside].astype(int)]
    total = float(gaussians.opacities.sum())
    return float(gaussians.opacities[outside].sum()) / total if total > 0 else 0.0


def _blur(values: NDArray[np.float64]) -> NDArray[np.float64]:
    window = (_WINDOW, _WINDOW)
    return np.asarray(cv2.GaussianBlur(values, window, _SIGMA, borderType=cv2.BORDER_REFLECT))


def _same_size(image: NDArray[np.floating], truth: NDArray[np.floating]) -> None:
    if image.shape != truth.shape:
        raise ValueError(f"The images are {image.shape} and {truth.shape}; resize one of them.")
