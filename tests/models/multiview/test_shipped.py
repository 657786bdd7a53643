"""The shipped weights: whole, light, described, and worth their place beside fresh ones.

The scene is analytic, a textured ball before a wall; it tells a good network from a broken one. The
real figures are those of ``benchmarks/multiview_network.py``.
"""

import cv2
import numpy as np
import pytest
import torch

from crispdepth.models.multiview.config import MultiviewNetworkConfig
from crispdepth.models.multiview.network import MultiviewNetwork
from crispdepth.models.presets import MULTIVIEW
from crispdepth.models.weights import DEFAULT_MULTIVIEW, find, load_multiview, read_config
from crispdepth.tasks.multiview_network import Sighting
from crispdepth.types import BoolMap, Camera, Float32Map, View
from tests.seen_together import seen_together
from tests.wall_and_ball import FULL, camera, on_ball, see

NEAR, FAR = 1.5, 6.0
MOST_MB = 15.0

WORST_MEDIAN, WORST_BAND = 0.012, 0.05
"""What the shipped network must stay below on the ball: the median relative error, and the mean one
within 3 pixels of its outline."""


@pytest.fixture(scope="module")
def shipped() -> MultiviewNetwork:
    return load_multiview()


@pytest.fixture(scope="module")
def views() -> list[View]:
    K = np.diag([4, 4, 1.0]) @ FULL
    return [
        see(Camera(K, (240, 320), camera(x).cam_from_world), f"{x}.png")
        for x in (0, -0.16, 0.16, -0.32, 0.32)
    ]


def errors(network: MultiviewNetwork, views: list[View], *, masked: bool) -> Float32Map:
    """Relative errors of the first view."""
    sightings = [
        Sighting(
            view.camera or Camera(FULL, (1, 1), np.eye(4)),
            view.image.astype(np.uint8),
            on_ball(view).astype(np.float32) if masked else None,
        )
        for view in views
    ]
    found = seen_together(network, sightings, NEAR, FAR)
    assert views[0].depth is not None
    true = views[0].depth.values
    return np.asarray(np.abs(1 / found.inverse - true) / true, np.float32)


def near_outline(inside: BoolMap) -> BoolMap:
    """Pixels of the ball within 3 pixels of what is not."""
    outside = cv2.dilate((~inside).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    return np.asarray(inside & outside)


def test_they_are_light_and_say_what_they_are() -> None:
    folder = find(DEFAULT_MULTIVIEW)
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    assert size < MOST_MB
    config = read_config(DEFAULT_MULTIVIEW)
    assert config["preset"] in MULTIVIEW
    card = (folder / "README.md").read_text("utf-8")
    assert f"{config['parameters']:,} parameters" in card
    assert "licence" in card


def test_the_ball_is_found_with_masks_and_without(
    shipped: MultiviewNetwork, views: list[View]
) -> None:
    inside = on_ball(views[0])
    band = near_outline(inside)
    plain, masked = (errors(shipped, views, masked=told) for told in (False, True))
    assert np.median(plain[inside]) < WORST_MEDIAN
    assert np.median(masked[inside]) < WORST_MEDIAN
    assert masked[band].mean() < WORST_BAND
    assert masked[band].mean() < plain[band].mean()


def test_fresh_weights_are_worse(shipped: MultiviewNetwork, views: list[View]) -> None:
    torch.manual_seed(0)
    fresh = MultiviewNetwork(MultiviewNetworkConfig()).eval()
    band = near_outline(on_ball(views[0]))
    trained, untrained = (
        errors(network, views, masked=True)[band].mean() for network in (shipped, fresh)
    )
    assert trained < 0.7 * untrained
