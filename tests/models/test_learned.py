from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from crispdepth.models.learned import NEAR_SHARE, REACH, LearnedCompleter, careful
from crispdepth.models.weights import load_model
from crispdepth.ops.resample import shrink, upsample
from crispdepth.tasks.refine import refine_depth
from crispdepth.types import Completion, DepthMap, Float32Map, LayerCompleter, MaskSet, Size

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


def test_the_inside_moves_away_from_the_outside_or_not_at_all() -> None:
    inside = np.zeros((48, 320), bool)
    inside[:, :160] = True
    depth = np.where(inside, 6, 2).astype(np.float32)
    whole = np.ones_like(depth)
    near = np.zeros_like(inside)
    near[:, 150:170] = True
    for side, away, towards in (
        (inside, 7, 5),
        (~inside, 1, 3),
    ):  # the near layer, then the far one
        share = NEAR_SHARE if away > towards else 1
        for value, expected in ((away, share), (towards, 0)):
            moved = Completion(np.full_like(depth, value), whole)
            found = careful(moved, depth, side)
            assert found.layer is moved.layer
            np.testing.assert_allclose(found.gate[side & near], expected)
            np.testing.assert_array_equal(found.gate[~side & near], 1)


def test_far_from_the_border_of_the_mask_nothing_moves() -> None:
    inside = np.zeros((48, 320), bool)
    inside[:, :160] = True
    depth = np.where(inside, 6, 2).astype(np.float32)
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
