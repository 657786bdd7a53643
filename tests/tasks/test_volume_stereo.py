"""Depth by a stereo network that is told the answer: what is done before and after it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from crispdepth.models.volume.config import StereoConfig
from crispdepth.models.volume.stereo import StereoNetwork, StereoPrediction
from crispdepth.tasks.multiview import estimate_depths
from crispdepth.tasks.multiview_config import MultiviewConfig
from crispdepth.tasks.multiview_network import Sighting
from crispdepth.tasks.volume_stereo import predict_stereo, unit_of_planes
from crispdepth.types import Camera, View, scene_of_views
from tests.wall_and_ball import FULL, SIZE, WALL, camera, masked, on_ball, row, see

CPU = torch.device("cpu")
CONFIG = StereoConfig(
    channels=4, pyramid=(4, 6, 8), blocks=(1, 1, 1, 1), planes=48, width=4, hourglasses=1
)
STEP = 0.16
"""Between neighbours, where the wall is at `WALL`."""


class Told(StereoNetwork):
    """Says where the wall is in the unit of the poses, turned if asked for, and a ramp of masks."""

    def __init__(self, slope: float = 0.0) -> None:
        super().__init__(CONFIG)
        self.slope = slope

    def forward(
        self, images: Tensor, K: Tensor, cam_from_world: Tensor, references: int | None = None
    ) -> StereoPrediction:
        assert references == 1
        assert images.min() >= 0
        assert images.max() <= 1
        height, width = (side // 4 for side in images.shape[-2:])
        baseline = (cam_from_world[0, 1] - cam_from_world[0, 0])[:3, 3].norm()
        x = (torch.arange(width) + 0.5) / width
        depth = (WALL * baseline / STEP / (1 + self.slope * x)).float().expand(1, 1, height, -1)
        overlap = x.expand_as(depth)
        return StereoPrediction(depth, overlap, images, images)


def sightings(views: list[View]) -> list[Sighting]:
    """The middle view, then the others."""
    middle = len(views) // 2
    found = []
    for index in (middle, *(each for each in range(len(views)) if each != middle)):
        seen_by = views[index].camera
        assert seen_by is not None
        found.append(Sighting(seen_by, views[index].image.astype(np.uint8), None))
    return found


def ramp(width: int) -> np.ndarray:
    """Of the middle of each pixel, as a share of the width."""
    return (np.arange(width) + 0.5) / width


@pytest.mark.parametrize("scale", [1.0, 0.02, 30.0])
def test_answers_come_back_in_the_unit_and_the_pixels_of_the_photo(scale: float) -> None:
    size = (78, 107)  # no multiples
    places = [Camera(FULL, size, camera(x, scale=scale).cam_from_world) for x in (-STEP, 0, STEP)]
    views = [see(place, f"{number}.png", scale) for number, place in enumerate(places)]
    found = predict_stereo(Told(0.5), sightings(views), 1.5 * scale, 6 * scale, CPU)
    inverse, overlap = found.predicted
    assert inverse.shape == overlap.shape == size
    inner = slice(4, -4)  # beyond the first and last cells a map is continued
    expected = (1 + 0.5 * ramp(107)) / (WALL * scale)
    np.testing.assert_allclose(
        inverse[:, inner] * scale, (expected * scale + 0 * inverse)[:, inner], rtol=2e-3
    )
    np.testing.assert_allclose(overlap[:, inner], (ramp(107) + 0 * overlap)[:, inner], atol=2e-3)
    assert found.step == pytest.approx(unit_of_planes(CONFIG, 1.5 * scale, 6 * scale) / 24)


def test_planes_stay_in_metres_where_they_fit_and_else_begin_at_the_nearest() -> None:
    config = StereoConfig()
    assert unit_of_planes(config, 0.5, 24) == 1
    assert unit_of_planes(config, 0.9, 10) == 1
    assert unit_of_planes(config, 0.25, 3) == 2
    assert unit_of_planes(config, 5, 10) == 0.1
    assert unit_of_planes(config, 0.6, 30) == pytest.approx(0.5 / 0.6)


def test_a_network_of_real_layers_takes_the_same_way() -> None:
    torch.manual_seed(0)
    network = StereoNetwork(CONFIG).eval()
    inverse, overlap = predict_stereo(network, sightings(row(3)), 1.5, 6.0, CPU).predicted
    assert inverse.shape == SIZE
    assert inverse.min() >= 1 / (24 * 3) - 1e-6
    assert inverse.max() <= 1 / (0.5 * 3) + 1e-6
    assert overlap.min() >= 0
    assert overlap.max() <= 1


def test_a_scene_gets_depths_whose_confidence_is_the_overlap() -> None:
    views = row(3)
    config = MultiviewConfig(near=1.5, far=6.0, sources=2, consistent=0)
    found = dict(estimate_depths(scene_of_views(views), config, indices=[1], network=Told().eval()))
    depth, confidence = found[1].depth, found[1].confidence
    wall = ~on_ball(views[1])
    assert np.median(np.abs(depth.values - WALL)[wall]) < 0.01 * WALL
    expected = np.broadcast_to(ramp(SIZE[1]), SIZE)[:, 4:-4]
    np.testing.assert_allclose(confidence[:, 4:-4], expected, atol=1e-5)


def test_masks_keep_their_meaning_and_a_lonely_view_gets_no_depth() -> None:
    views = masked(row(3))
    away = np.eye(4)
    away[2, 3] = 100
    lonely = replace(views[0], name="away.png", camera=Camera(FULL, SIZE, away), depth=None)
    config = MultiviewConfig(near=1.5, far=6.0, consistent=0)
    scene = scene_of_views([*views, lonely])
    found = dict(estimate_depths(scene, config, indices=[1, 3], network=Told().eval()))
    assert found[1].depth.usable[on_ball(views[1])].any()
    assert not found[1].depth.usable[~on_ball(views[1])].any()
    assert not found[3].depth.usable.any()
