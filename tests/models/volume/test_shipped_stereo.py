"""The shipped weights of the stereo: whole, light, described, and they match.

The scene is analytic, a textured ball before a wall; it tells a good network from a broken one. The
real figures are those of ``benchmarks/volume_stereo.py``.
"""

import numpy as np
import pytest
import torch

from crispdepth.models.presets import VOLUME
from crispdepth.models.volume.stereo import StereoNetwork
from crispdepth.models.weights import (
    DEFAULT_STEREO,
    find,
    load_multiview,
    load_stereo,
    load_volume,
    read_config,
)
from crispdepth.tasks.multiview_network import Sighting
from crispdepth.tasks.volume_stereo import predict_stereo
from crispdepth.types import Camera, Float32Map, View
from tests.wall_and_ball import FULL, camera, see

NEAR, FAR = 1.5, 6.0
MOST_MB = 15.0

WORST, WORST_MEDIAN = 0.04, 0.03
"""What the shipped network must stay below: the mean and the median relative error."""


@pytest.fixture(scope="module")
def shipped() -> StereoNetwork:
    return load_stereo()


@pytest.fixture(scope="module")
def views() -> list[View]:
    K = np.diag([3, 3, 1.0]) @ FULL
    return [
        see(Camera(K, (180, 240), camera(x).cam_from_world), f"{x}.png") for x in (0, -0.16, 0.16)
    ]


def predicted(network: StereoNetwork, views: list[View]) -> tuple[Float32Map, Float32Map]:
    """Relative errors and the overlap mask of the first view."""
    sightings = []
    for view in views:
        assert view.camera is not None
        sightings.append(Sighting(view.camera, view.image.astype(np.uint8), None))
    found = predict_stereo(network, sightings, NEAR, FAR, torch.device("cpu")).predicted
    assert views[0].depth is not None
    true = views[0].depth.values
    return np.asarray(np.abs(1 / found.inverse / true - 1), np.float32), found.probability


def test_they_are_light_and_say_what_they_are() -> None:
    folder = find(DEFAULT_STEREO)
    assert sum(path.stat().st_size for path in folder.iterdir()) < MOST_MB * 1e6
    config = read_config(DEFAULT_STEREO)
    assert config["preset"] == DEFAULT_STEREO
    assert config["preset"] in VOLUME
    card = (folder / "README.md").read_text("utf-8")
    assert f"{config['parameters']:,} parameters" in card
    for word in ("Data and licences", "Training", "Figures", "Limits"):
        assert f"## {word}" in card


def test_the_ball_and_the_wall_are_found(shipped: StereoNetwork, views: list[View]) -> None:
    error, overlap = predicted(shipped, views)
    assert error.mean() < WORST
    assert np.median(error) < WORST_MEDIAN
    torch.manual_seed(0)
    fresh, _ = predicted(StereoNetwork(shipped.config).eval(), views)
    assert error.mean() < 0.5 * fresh.mean()
    assert overlap.mean() > 0.8


def test_views_that_show_something_else_are_told_apart(
    shipped: StereoNetwork, views: list[View]
) -> None:
    """The mask falls where photos of another place are said to be neighbours."""
    other = [
        View(view.image[::-1, ::-1].astype(np.uint8), view.name, view.camera) for view in views[1:]
    ]
    _, right = predicted(shipped, views)
    _, wrong = predicted(shipped, [views[0], *other])
    assert wrong.mean() < right.mean() - 0.4


def test_they_are_for_the_stereo_alone() -> None:
    with pytest.raises(ValueError, match="of a training with --stage stereo"):
        load_volume(DEFAULT_STEREO)
    with pytest.raises(ValueError, match="choose weights for this task"):
        load_multiview(DEFAULT_STEREO)
