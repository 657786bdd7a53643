"""From linear radiance to a photo: exposure, tone curve, sRGB and the sensor's noise."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)  # Rec. 709


class Film(NamedTuple):
    """How the photos of one scene are developed."""

    exposure: float  # factor of the radiance
    key: float  # what the log-average becomes
    contrast: float  # exponent about the key
    white: float  # exposed radiance that becomes white
    tint: NDArray[np.float32]  # (3,) white balance
    noise: float  # standard deviation, of 255


def choose_film(rng: np.random.Generator, radiance: Sequence[NDArray[np.float32]]) -> Film:
    """A random film with one exposure for all pictures of a scene.

    The log-average luminance goes to a key between dark and bright (Reinhard et al. 2002, eq. 1).
    """
    luminance = np.concatenate([(picture @ LUMINANCE).ravel() for picture in radiance])
    mean = float(luminance.mean()) + 1e-6
    average = float(np.exp(np.mean(np.log(luminance + 0.01 * mean))))
    key = float(np.exp(rng.uniform(np.log(0.1), np.log(0.5))))
    contrast = float(rng.uniform(0.9, 1.6))
    bright = key * (float(np.quantile(luminance, 0.99)) / average) ** contrast
    return Film(
        exposure=key / average,
        key=key,
        contrast=contrast,
        white=max(1.0, bright * rng.uniform(0.6, 1.2)),
        tint=rng.uniform(0.9, 1.1, 3).astype(np.float32),
        noise=float(rng.uniform(0.5, 3)),
    )


def develop(
    rng: np.random.Generator, radiance: NDArray[np.float32], film: Film
) -> NDArray[np.uint8]:
    """An 8-bit sRGB photo of linear radiance (h, w, 3): extended Reinhard curve (ibid., eq. 4)."""
    exposed = np.maximum(radiance, 0) * film.tint * film.exposure
    exposed = film.key * (exposed / film.key) ** film.contrast
    linear = np.clip(exposed * (1 + exposed / film.white**2) / (1 + exposed), 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    noisy = 255 * srgb + rng.normal(0, film.noise, srgb.shape)
    return np.asarray(np.clip(np.rint(noisy), 0, 255), np.uint8)
