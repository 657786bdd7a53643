"""The planes of pixels are the surfaces they come from."""

import numpy as np
import torch

from crispdepth.ops.pixel_planes import centred, pixel_planes
from tests.analytic import looking_at, plane_depth

TRUNCATION = 0.3


def test_every_pixel_of_a_plane_knows_the_distance_of_any_point() -> None:
    camera = looking_at(np.array([1.0, 0, 0]), np.array([1.5, 2, 0.3]), (40, 50), 45)
    normal = np.array([0.2, 0.9, -0.3]) / np.linalg.norm([0.2, 0.9, -0.3])
    depth = torch.from_numpy(plane_depth(camera, normal, 3.0))
    assert bool((depth > 0).all())
    planes = pixel_planes(depth, torch.ones_like(depth), camera, TRUNCATION)
    point = np.array([1.2, 1.0, 0.1])
    p = centred(camera) @ [*point, 1]
    distance = planes.distance - sum(a * float(x) for a, x in zip(planes.along, p, strict=True))
    distance = distance.reshape(42, 52)[1:-1, 1:-1] * TRUNCATION
    assert np.abs(distance.numpy() - abs(3.0 - normal @ point)).max() < 1e-3


def test_what_is_unknown_or_outside_is_zero_and_what_is_seen_through_is_empty() -> None:
    camera = looking_at(np.zeros(3), np.array([0.0, 1, 0]), (20, 30), 30)
    depth = torch.from_numpy(plane_depth(camera, np.array([0.0, 1, 0]), 2.0)).clone()
    depth[5:9, 7:12] = 0
    through = torch.zeros(20, 30, dtype=torch.bool)
    through[5:9, 9:] = True
    planes = pixel_planes(depth, torch.full_like(depth, 0.5), camera, TRUNCATION, through)
    maps = torch.stack([*planes.along, planes.distance, planes.weight]).reshape(5, 22, 32)
    assert bool(maps.isfinite().all())
    for edge in (maps[:, 0], maps[:, -1], maps[:, :, 0], maps[:, :, -1]):
        assert not edge.any()
    maps = maps[:, 1:-1, 1:-1]
    assert not maps[:, 5:9, 7:9].any()
    assert not maps[:3, 5:9, 9:12].any()
    assert bool((maps[3, 5:9, 9:12] > 1e3).all())  # far from any surface
    assert bool((maps[4, 5:9, 9:12] == 1).all())
    assert bool((maps[4, 5:9, 12:] == 0.5).all())  # measured


def test_an_edge_of_depth_has_no_slope() -> None:
    camera = looking_at(np.zeros(3), np.array([0.0, 1, 0]), (8, 8), 10)
    depth = torch.full((8, 8), 2.0)
    depth[:, 4:] = 5.0
    depth[:, 4] = 3.5  # a pixel in between, without a neighbour of its own surface
    planes = pixel_planes(depth, torch.ones_like(depth), camera, TRUNCATION)
    slope = planes.along[0].reshape(10, 10)[1:-1, 1:-1]
    assert not slope.any()
