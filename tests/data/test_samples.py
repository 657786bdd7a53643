from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest

from crispdepth.data.compose import LayeredSample
from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.masks import MixedMasks
from crispdepth.data.samples import (
    MIN_RANGE,
    LayeredSampler,
    SampleConfig,
    at_inference_scale,
    change_colours,
    softened,
)
from crispdepth.types import DepthMap

FrameMaker = Callable[[int], RgbdFrame]

PLAIN = SampleConfig(
    size=64,
    stage=1,
    real_edges=0,
    in_front=0,
    drift=0,
    soft_edges=0,
    soft_masks=0,
    colour=False,
    inference_scale=False,
)
FULL = SampleConfig(size=64)
DEPTHS = ("rough", "composite", "front", "back")


@pytest.fixture
def frames(make_frame: FrameMaker) -> list[RgbdFrame]:
    return [make_frame(seed) for seed in range(4)]


def assert_equal(first: LayeredSample, second: LayeredSample) -> None:
    for name, a, b in zip(first._fields, first, second, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


def test_a_sample_depends_on_its_seed_and_index_alone(frames: list[RgbdFrame]) -> None:
    one, other = (LayeredSampler(frames, MixedMasks(), FULL) for _ in range(2))
    forwards = [one.draw(5, index) for index in range(6)]
    backwards = [other.draw(5, index) for index in reversed(range(6))][::-1]
    for first, second in zip(forwards, backwards, strict=True):
        assert_equal(first, second)
    images = {sample.image.tobytes() for sample in (*forwards, one.draw(6, 0))}
    assert len(images) == 7


@pytest.mark.parametrize("stage", [1, 2])
def test_samples_are_as_promised(stage: int, frames: list[RgbdFrame]) -> None:
    config = replace(FULL, stage=1 if stage == 1 else 2)
    sampler = LayeredSampler(frames, MixedMasks(), config)
    for index in range(25):
        sample = sampler.draw(0, index)
        assert sample.image.shape == (64, 64, 3)
        assert sample.image.dtype == np.uint8
        for name in ("mask", *DEPTHS):
            values = getattr(sample, name)
            assert (values.shape, values.dtype) == ((64, 64), np.float32)
            assert np.isfinite(values).all()
        assert sample.front_valid.dtype == sample.back_valid.dtype == bool
        assert sample.mask.min() >= 0
        assert sample.mask.max() <= 1
        layered = np.where(sample.mask > 0.5, sample.front, sample.back)
        np.testing.assert_allclose(sample.composite, layered, atol=1e-4)
        assert all(part.flags.c_contiguous for part in sample)


def test_the_first_stage_sees_the_truth(frames: list[RgbdFrame]) -> None:
    sampler = LayeredSampler(frames, MixedMasks(), replace(PLAIN, drift=1, real_edges=0.5))
    for index in range(8):
        sample = sampler.draw(0, index)
        np.testing.assert_array_equal(sample.rough, sample.composite)


def test_the_second_stage_does_not(frames: list[RgbdFrame]) -> None:
    sampler = LayeredSampler(frames, MixedMasks(), replace(PLAIN, stage=2))
    errors = [
        np.abs(sample.rough - sample.composite).mean()
        for sample in (sampler.draw(0, index) for index in range(20))
    ]
    assert np.mean(np.array(errors) > 0.01) > 0.8


def test_photos_are_composed_as_depth_is(make_frame: FrameMaker) -> None:
    white, black = (
        replace(make_frame(0), image=np.full((60, 80, 3), v, np.uint8)) for v in (255, 0)
    )
    sampler = LayeredSampler([white, black], MixedMasks(), PLAIN)
    samples = [sampler.draw(0, index) for index in range(20)]
    mixed = [s for s in samples if np.ptp(s.image)]
    assert mixed
    for sample in mixed:
        bright = sample.image[..., 0] == 255
        assert np.array_equal(bright, sample.mask > 0.5) or np.array_equal(
            bright, sample.mask <= 0.5
        )


def test_the_scale_of_inference_is_one_affine_map_of_all_depths(frames: list[RgbdFrame]) -> None:
    plain = LayeredSampler(frames, MixedMasks(), replace(FULL, inference_scale=False))
    scaled = LayeredSampler(frames, MixedMasks(), FULL)
    for index in range(12):
        before, after = plain.draw(1, index), scaled.draw(1, index)
        if np.ptp(before.rough) < MIN_RANGE:
            assert_equal(before, after)
            continue
        assert after.rough.min() == 0
        assert after.rough.max() == pytest.approx(10, abs=1e-4)
        gain = np.ptp(after.composite) / np.ptp(before.composite)
        for name in DEPTHS[1:]:
            shift = after.composite[0, 0] - gain * before.composite[0, 0]
            np.testing.assert_allclose(
                getattr(after, name), gain * getattr(before, name) + shift, atol=2e-3
            )


def test_flat_rough_depth_is_not_stretched(frames: list[RgbdFrame]) -> None:
    sample = LayeredSampler(frames, MixedMasks(), PLAIN).draw(0, 0)
    flat = sample._replace(rough=np.full_like(sample.rough, 4))
    assert at_inference_scale(flat) is flat


def test_real_edges_know_each_layer_where_it_is_seen(frames: list[RgbdFrame]) -> None:
    sampler = LayeredSampler(frames, MixedMasks(), replace(PLAIN, real_edges=1))
    for index in range(8):
        sample = sampler.draw(0, index)
        np.testing.assert_array_equal(sample.front_valid, sample.mask > 0.5)
        np.testing.assert_array_equal(sample.back_valid, sample.mask <= 0.5)
        np.testing.assert_array_equal(sample.front, sample.composite)
        np.testing.assert_array_equal(sample.back, sample.composite)
        inside = sample.composite[sample.mask > 0.5]
        assert inside.min() == pytest.approx(10, abs=1e-4)  # the nearest thing in the frame


def test_rough_depth_of_a_network_is_kept_and_the_truth_brought_to_its_scale(
    frames: list[RgbdFrame],
) -> None:
    seen = []
    for frame in frames:
        true = 1 / frame.depth.values
        blurred = cv2.GaussianBlur(100 * true + 7, (0, 0), 3)
        seen.append(replace(frame, rough=blurred.astype(np.float32)))
    config = replace(PLAIN, stage=2, real_edges=1, real_rough=1, inference_scale=True)
    for index in range(8):
        sample = LayeredSampler(seen, MixedMasks(), config).draw(0, index)
        assert sample.rough.min() == 0
        assert sample.rough.max() == pytest.approx(10, abs=1e-4)
        far_from_edges = cv2.dilate(sample.mask, np.ones((25, 25))) == cv2.erode(
            sample.mask, np.ones((25, 25))
        )
        apart = np.abs(sample.rough - sample.composite)
        assert apart[far_from_edges].mean() < 0.4  # blur alone parts them
        assert apart[~far_from_edges].mean() > 2 * apart[far_from_edges].mean()


def test_only_what_a_network_saw_is_bent(frames: list[RgbdFrame]) -> None:
    x = np.linspace(-1, 1, frames[0].depth.size[1], dtype=np.float32)
    seen = [replace(f, rough=((1 + 0.4 * x) / f.depth.values + 0.2 * x)) for f in frames]
    config = replace(PLAIN, stage=2)
    for share, bent in ((0.0, False), (1.0, True)):
        sampler = LayeredSampler(
            seen, MixedMasks(), replace(config, real_edges=share, real_rough=1)
        )
        for index in range(4):
            sample = sampler.draw(0, index)
            assert bool(np.abs(sample.bend).max() > 0.05) == bent


def test_rough_depth_that_knows_nothing_is_not_used(frames: list[RgbdFrame]) -> None:
    rng = np.random.default_rng(0)
    blind = [replace(f, rough=rng.random(f.depth.size, np.float32)) for f in frames]
    config = replace(PLAIN, stage=2, real_edges=1, real_rough=1)
    for index in range(4):
        sample = LayeredSampler(blind, MixedMasks(), config).draw(0, index)
        assert np.corrcoef(sample.rough.ravel(), sample.composite.ravel())[0, 1] > 0.7


def test_a_soft_mask_has_the_inside_of_the_hard_one(rng: np.random.Generator) -> None:
    mask = (rng.random((40, 50)) > 0.5).astype(np.float32)
    soft = softened(mask, 0.7)
    assert soft.dtype == np.float32
    np.testing.assert_array_equal(soft > 0.5, mask > 0.5)
    assert ((soft > 0) & (soft < 1)).any()


def test_frames_without_instances_give_composites(frames: list[RgbdFrame]) -> None:
    bare = [replace(frame, instances=None) for frame in frames]
    sampler = LayeredSampler(bare, MixedMasks(), replace(PLAIN, real_edges=1))
    for index in range(4):
        sample = sampler.draw(0, index)
        assert sample.front_valid.all()
        assert sample.back_valid.all()


@pytest.mark.parametrize("real_edges", [0.0, 1.0])
def test_unmeasured_depth_never_enters_a_sample(real_edges: float, make_frame: FrameMaker) -> None:
    frame = make_frame(0)
    depth = frame.depth.values.copy()
    depth[::3] = np.nan
    depth[:, 50:60] = 0
    holey = replace(frame, depth=DepthMap(depth, "depth", "m"))
    sampler = LayeredSampler([holey], MixedMasks(), replace(PLAIN, real_edges=real_edges))
    farthest = 10 * 1.5 / 6
    for index in range(8):
        sample = sampler.draw(0, index)
        assert not (sample.front_valid & sample.back_valid).all()
        for name in DEPTHS:
            assert getattr(sample, name).min() >= farthest - 1e-4


def test_invalid_depth_can_mean_far(make_frame: FrameMaker) -> None:
    frame = make_frame(0)
    depth = frame.depth.values.copy()
    depth[:20] = 0
    open_air = replace(frame, depth=DepthMap(depth, "depth", "m"))
    config = replace(PLAIN, invalid_is_far=True)
    samples = [LayeredSampler([open_air], MixedMasks(), config).draw(0, i) for i in range(6)]
    assert all(sample.front_valid.all() and sample.back_valid.all() for sample in samples)
    assert min(float(sample.composite.min()) for sample in samples) == 0


def test_things_are_set_before_what_is_around_them(frames: list[RgbdFrame]) -> None:
    sampler = LayeredSampler(frames, MixedMasks(shares=(1, 0, 0)), replace(PLAIN, in_front=1))
    nearer = [
        sample.front[sample.mask > 0.5].mean() > sample.back[sample.mask > 0.5].mean()
        for sample in (sampler.draw(0, index) for index in range(20))
    ]
    assert np.mean(nearer) > 0.85


def test_no_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="no frame"):
        LayeredSampler([], MixedMasks(), PLAIN)


def test_changed_colours_stay_a_photo_of_the_same_thing(rng: np.random.Generator) -> None:
    y, x = np.mgrid[:64, :64]
    image = np.stack([4 * x, 4 * y, 128 + 0 * x], axis=2).astype(np.uint8)
    versions = [change_colours(image, rng) for _ in range(60)]
    assert len({version.tobytes() for version in versions}) == 60
    grey = [np.ptp(version.astype(int), axis=2).max() < 4 for version in versions]
    assert 1 <= sum(grey) <= 20
    for version in versions:
        assert version.shape == (64, 64, 3)
        assert version.dtype == np.uint8
        brightness = version.mean(axis=2)
        assert np.corrcoef(brightness.ravel(), image.mean(axis=2).ravel())[0, 1] > 0.8
