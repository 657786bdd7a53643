import numpy as np
import pytest

from crispdepth.data.develop import choose_film, develop


def radiance() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).gamma(1, 1, (20, 30, 3)).astype(np.float32)


def test_the_scale_of_the_light_does_not_matter() -> None:
    photos = []
    for scale in (1e-2, 1, 1e3):
        rng = np.random.default_rng(1)
        picture = radiance() * np.float32(scale)
        photos.append(develop(rng, picture, choose_film(rng, [picture])).astype(int))
    assert np.abs(photos[0] - photos[1]).max() <= 1
    assert np.abs(photos[2] - photos[1]).max() <= 1


def test_more_light_is_brighter() -> None:
    film = choose_film(np.random.default_rng(0), [radiance()])._replace(noise=0)
    ramp = np.repeat(np.linspace(0, 5, 200, dtype=np.float32)[None, :, None], 3, axis=2)
    photo = develop(np.random.default_rng(0), ramp, film).astype(int)
    assert (np.diff(photo, axis=1) >= 0).all()
    assert photo[0, 0].max() == 0
    assert photo.max() > 200


def test_films_differ_and_none_is_black_or_white() -> None:
    means = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        means.append(develop(rng, radiance(), choose_film(rng, [radiance()])).mean())
    assert min(means) > 15
    assert max(means) < 225
    assert np.std(means) > 10


def test_noise_has_the_strength_of_the_film() -> None:
    film = choose_film(np.random.default_rng(0), [radiance()])._replace(noise=2.0)
    grey = np.full((80, 80, 3), 0.3, np.float32)
    assert develop(np.random.default_rng(0), grey, film)[..., 1].std() == pytest.approx(2, rel=0.1)
