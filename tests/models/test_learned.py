from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from crispdepth.models.learned import NEAR_SHARE, REACH, LearnedCompleter, careful
from crispdepth.models.weights import load_model
from crispdepth.ops.band import signed_distance
from crispdepth.ops.resample import shrink, upsample
from crispdepth.tasks.refine import refine_depth
from crispdepth.types import (
    BoolMap,
    Completion,
    DepthMap,
    Float32Map,
    LayerCompleter,
    MaskSet,
    Size,
)

Scene = tuple[NDArray[np.float32], Float32Map, Float32Map]


@pytest.fixture(scope="module")
def completer(tiny_weights: Path) -> LearnedCompleter:
    return LearnedCompleter(tiny_weights, threads=1)


def scene(size: Size, seed: int = 0) -> Scene:
    """Photo, inverse depth and mask; the mask is a disk that leaves the frame."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(size)
    inside = (y - size[0] / 2) ** 2 + (x - size[1] / 4) ** 2 < (min(size) / 2.5) ** 2
    image = rng.random((*size, 3), dtype=np.float32)
    depth = np.where(inside, 7, 2) + rng.random(size, dtype=np.float32)
    return image, depth.astype(np.float32), inside.astype(np.float32)


def test_it_is_a_layer_completer(completer: LearnedCompleter) -> None:
    protocol: LayerCompleter = completer
    assert (protocol.name, protocol.resolution) == ("learned", 320)


@settings(max_examples=12, deadline=None)
@given(height=st.integers(8, 90), width=st.integers(8, 90))
def test_maps_of_any_size_keep_their_size_and_range(
    completer: LearnedCompleter, height: int, width: int
) -> None:
    layer, gate = completer(*scene((height, width)))
    for values, top in ((layer, 10), (gate, 1)):
        assert values.shape == (height, width)
        assert values.dtype == np.float32
        assert values.min() >= 0
        assert values.max() <= top


def test_it_is_the_network_of_its_folder(completer: LearnedCompleter, tiny_weights: Path) -> None:
    image, depth, mask = scene((64, 96))
    inputs = [
        torch.from_numpy(x)[None] for x in (depth[None], image.transpose(2, 0, 1), mask[None])
    ]
    with torch.inference_mode():
        expected = load_model(tiny_weights)(*inputs)
    network = Completion(expected.layer[0, 0].clamp(0, 10).numpy(), expected.gate[0, 0].numpy())
    for found, wanted in zip(
        completer(image, depth, mask), careful(network, depth, mask > 0.5), strict=True
    ):
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def ramp_and_wall(width: int = 320) -> tuple[Float32Map, BoolMap]:
    """Near on the left, where depth recedes to the right; a wall on the right; blurred between."""
    inside = np.zeros((48, width), bool)
    inside[:, : width // 2] = True
    x = np.indices(inside.shape)[1]
    depth = np.where(inside, 8 - 0.01 * x, 2).astype(np.float32)
    blurred = np.asarray(cv2.GaussianBlur(depth, (0, 0), 2), np.float32)
    return blurred, inside


@pytest.mark.parametrize("near_side", [True, False])
def test_each_side_moves_away_from_the_other_or_not_at_all(near_side: bool) -> None:
    depth, left = ramp_and_wall()
    side = left if near_side else ~left
    band = side & (np.abs(signed_distance(left)) < 4)
    for away in (True, False):
        change = 1 if away == near_side else -1
        moved = Completion(depth + np.float32(change), np.ones_like(depth))
        layer, gate = careful(moved, depth, side)
        share = NEAR_SHARE if near_side else 1
        if away:
            assert ((layer - depth)[band] * change >= 0).all()
            np.testing.assert_allclose(gate[band], share)
        else:
            assert not gate[band].any()
        np.testing.assert_array_equal(gate[~side & (np.abs(signed_distance(left)) < 4)], 1)


def test_no_side_moves_past_its_own_continuation() -> None:
    depth, left = ramp_and_wall()
    x = np.indices(depth.shape)[1]
    for side, surface, asked in ((left, 8 - 0.01 * x, 10), (~left, np.full(depth.shape, 2), 0)):
        moved = Completion(np.full_like(depth, asked), np.ones_like(depth))
        layer, _ = careful(moved, depth, side)
        band = side & (np.abs(signed_distance(left)) < 4)
        np.testing.assert_allclose(layer[band], surface[band], atol=0.06)


def test_what_is_too_thin_to_show_its_depth_goes_where_the_network_says() -> None:
    inside = np.zeros((48, 320), bool)
    inside[:, 158:161] = True  # a pole, or a slit
    depth = np.full(inside.shape, 5, np.float32)
    for side in (inside, ~inside):
        for value in (7, 3):
            moved = Completion(np.full_like(depth, value), np.ones_like(depth))
            _, gate = careful(moved, depth, side)
            assert (gate[side & (np.abs(signed_distance(inside)) < 3)] > 0).all()


def test_ripples_of_two_pixels_are_gone() -> None:
    depth, left = ramp_and_wall()
    y, x = np.indices(depth.shape)
    ripple = 0.5 * np.where((x + y) % 2, 1, -1)
    moved = Completion((depth + ripple).astype(np.float32), np.ones_like(depth))
    layer = careful(moved, depth, left).layer[2:-2, 200:]  # of the layer beyond the border
    assert np.abs(np.diff(layer, axis=1)).max() < 0.05


def test_far_from_the_border_of_the_mask_nothing_moves() -> None:
    depth, inside = ramp_and_wall()
    moved = Completion(np.full_like(depth, 9), np.ones_like(depth))
    gate = careful(moved, depth, ~inside).gate
    reach = round(REACH)
    assert not gate[:, : 160 - reach].any()
    assert not gate[:, 160 + reach :].any()
    assert (np.diff(gate[0, :160]) >= 0).all()  # it shuts gradually
    assert np.abs(np.diff(gate[0, :160])).max() < 0.3


def test_not_careful_it_is_the_network_alone(
    completer: LearnedCompleter, tiny_weights: Path
) -> None:
    image, depth, mask = scene((64, 96))
    inputs = [
        torch.from_numpy(x)[None] for x in (depth[None], image.transpose(2, 0, 1), mask[None])
    ]
    with torch.inference_mode():
        expected = load_model(tiny_weights)(*inputs)
    _, gate = replace(completer, careful=False)(image, depth, mask)
    np.testing.assert_allclose(gate, expected.gate[0, 0].numpy(), atol=1e-4)
    assert (gate != completer(image, depth, mask).gate).any()


def test_a_shut_gate_stays_shut() -> None:
    image, depth, mask = scene((40, 50))
    shut = Completion(image[..., 0] * 10, np.zeros_like(depth))
    assert not careful(shut, depth, mask > 0.5).gate.any()


def test_padding_repeats_the_edges(completer: LearnedCompleter) -> None:
    image, depth, mask = scene((50, 70))
    wider = [
        np.pad(x, ((0, 14), (0, 26)) + ((0, 0),) * (x.ndim - 2), "edge")
        for x in (image, depth, mask)
    ]
    network = replace(completer, careful=False)  # being careful goes by the frame
    for values, cropped in zip(network(image, depth, mask), network(*wider), strict=True):
        np.testing.assert_array_equal(values, cropped[:50, :70])


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_a_mask_without_a_border_changes_nothing(completer: LearnedCompleter, value: float) -> None:
    image, depth, mask = scene((40, 40))
    layer, gate = completer(image, depth, np.full_like(mask, value))
    assert not gate.any()
    np.testing.assert_array_equal(layer, depth)


def test_threads_may_share_it(completer: LearnedCompleter) -> None:
    scenes = [scene((64, 64), seed) for seed in range(4)]
    expected = [completer(*each) for each in scenes]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda each: completer(*each), scenes))
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_tiles_replace_what_is_near_the_boundary_only(completer: LearnedCompleter) -> None:
    completer = replace(completer, careful=False)  # that goes by the whole frame
    size = (352, 1120)
    image, depth, _ = scene(size)
    mask = np.zeros(size, np.float32)
    mask[:, :100] = 1
    tiled = replace(completer, resolution=1120, tiled=True)(image, depth, mask)
    small = completer(*(shrink(each, (101, 320)) for each in (image, depth, mask)))
    tile = completer(image[:320, :320], depth[:320, :320], mask[:320, :320])
    for found, coarse, fine in zip(tiled, small, tile, strict=True):
        np.testing.assert_array_equal(found[:, 320:], upsample(coarse, size)[:, 320:])
        np.testing.assert_allclose(found[:64, :240], fine[:64, :240], atol=1e-5)


def test_refinement_takes_it(completer: LearnedCompleter) -> None:
    image, depth, mask = scene((72, 100))
    photo = (255 * image).astype(np.uint8)
    refined = refine_depth(
        photo, DepthMap(depth, "inverse_depth"), MaskSet(mask[None]), completer=completer
    )
    assert refined.changed.any()
    assert np.isfinite(refined.depth.values).all()


def test_numbers_that_make_no_sense_are_refused(tiny_weights: Path) -> None:
    with pytest.raises(ValueError, match="at least 32, got 16"):
        LearnedCompleter(tiny_weights, resolution=16)
    with pytest.raises(ValueError, match="thread"):
        LearnedCompleter(tiny_weights, threads=0)


def test_missing_weights_are_reported_when_it_is_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no weights"):
        LearnedCompleter(tmp_path)
