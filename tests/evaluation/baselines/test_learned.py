"""The ways to run a network: with layers, without, and with layers of eroded masks."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from crispdepth.evaluation.baselines import Baseline
from crispdepth.evaluation.baselines.learned import (
    direct,
    layered,
    layered_eroded,
    load,
    of_weights,
)
from crispdepth.evaluation.baselines.propagation import KERNEL, merge_by_change
from crispdepth.models.layered.export import write_weights
from crispdepth.models.presets import LAYERED, LayeredConfig, build
from crispdepth.types import Completion, Float32Map, LayerCompleter, MaskSet

Export = Callable[..., Path]


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Export]:
    """Write weights of a miniature network, with a gate that is as the network makes it or 0."""
    config = LayeredConfig(
        dims=(8, 8, 10, 16),
        depths=(1, 1, 1, 1),
        features=8,
        low_level=(4, 4),
        head=(8, 4),
        gated=True,
        anchored=True,
    )

    def write(closed: bool = False, **about: Any) -> Path:
        folder = tmp_path_factory.mktemp("weights")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = build("tiny")
        if closed:
            with torch.no_grad():
                network.get_parameter("head.last.weight")[1] = 0
                network.get_parameter("head.last.bias")[1] = -20
        write_weights(network, "tiny", folder, about=about)
        return folder

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(LAYERED, "tiny", config)
        yield write
    load.cache_clear()


class Recorder:
    """Makes the layer the mean of what is inside the mask; remembers the masks it is told."""

    name, resolution = "recorder", 64

    def __init__(self) -> None:
        self.masks: list[Float32Map] = []

    def __call__(
        self, image: NDArray[np.float32], inverse_depth: Float32Map, mask: Float32Map
    ) -> Completion:
        self.masks.append(mask)
        layer = np.full_like(inverse_depth, inverse_depth[mask >= 0.5].mean())
        return Completion(layer, np.ones_like(layer))


class Blind:
    """Does not look at the mask."""

    name, resolution = "blind", 64

    def __call__(
        self, image: NDArray[np.float32], inverse_depth: Float32Map, mask: Float32Map
    ) -> Completion:
        return Completion(10 - inverse_depth, np.full_like(inverse_depth, 0.5))


def run(method: Baseline, case: Any) -> Float32Map:
    return method(case.image, case.rough, case.masks)


def test_layered_weights_make_a_soft_and_a_hard_method(export: Export) -> None:
    assert [*of_weights("both", export(variant="layered", stage=2))] == ["both", "both-hard"]
    assert [*of_weights("old", export())] == ["old", "old-hard"]


def test_weights_of_stage_1_make_the_eroded_one_too(export: Export) -> None:
    names = [*of_weights("one", export(variant="layered", stage=1))]
    assert names == ["one", "one-hard", "one-eroded"]


def test_weights_of_a_baseline_without_layers_make_one_method(export: Export) -> None:
    assert [*of_weights("direct", export(variant="direct-composite", stage=2))] == ["direct"]


def test_missing_weights_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no weights"):
        of_weights("none", tmp_path)


@pytest.mark.parametrize("about", [{"stage": 1}, {"variant": "direct-paired"}])
def test_a_network_whose_gate_is_0_returns_its_input(
    export: Export, about: dict[str, Any], case: Any
) -> None:
    for method in of_weights("closed", export(closed=True, **about)).values():
        np.testing.assert_array_equal(run(method, case), case.rough)


def test_a_network_makes_other_maps_with_layers_than_without(export: Export, case: Any) -> None:
    stages = of_weights("one", export(stage=1))
    maps = [run(method, case) for method in stages.values()]
    maps += [run(m, case) for m in of_weights("d", export(variant="direct-composite")).values()]
    soft, hard, eroded, without = maps
    np.testing.assert_array_equal(soft, hard)  # the masks of the case are hard
    for a, b in ((soft, eroded), (soft, without), (eroded, without)):
        assert np.abs(a - b).max() > 1e-3


def test_the_eroded_one_keeps_clear_of_the_boundary_on_both_sides(case: Any) -> None:
    recorder = Recorder()
    run(layered_eroded(lambda: recorder), case)
    inside = case.inside.astype(np.float32)
    front, back = recorder.masks
    np.testing.assert_array_equal(front, cv2.erode(inside, KERNEL))
    np.testing.assert_array_equal(back, 1 - cv2.dilate(inside, KERNEL))


def test_the_eroded_one_makes_a_step_blurred_no_wider_than_the_kernel_ideal(case: Any) -> None:
    np.testing.assert_allclose(run(layered_eroded(Recorder), case), case.truth, atol=1e-5)


def test_erosion_is_the_only_difference(case: Any) -> None:
    """A completer to which it makes none gives the same map."""
    hard = layered(Blind, hard_masks=True)
    np.testing.assert_array_equal(run(layered_eroded(Blind), case), run(hard, case))


def test_without_layers_the_answer_is_the_map(case: Any) -> None:
    refined = run(direct(Blind), case)
    low, high = case.rough.min(), case.rough.max()
    np.testing.assert_allclose(refined, (low + high) / 2, rtol=1e-6)


def test_without_layers_the_network_is_asked_once_for_each_mask(case: Any) -> None:
    recorder = Recorder()
    both = MaskSet(np.stack([case.inside, np.roll(case.inside, 9, axis=1)]))
    merged = direct(lambda: recorder)(case.image, case.rough, both)
    np.testing.assert_array_equal(np.stack(recorder.masks), np.stack([both[0], both[1]]))
    alone = [direct(Recorder)(case.image, case.rough, MaskSet(both.values[[i]])) for i in (0, 1)]
    np.testing.assert_array_equal(merged, merge_by_change(case.rough, alone))


@pytest.mark.parametrize("make", [direct, layered_eroded])
def test_large_photos_come_back_in_their_size(
    make: Callable[[Callable[[], LayerCompleter]], Baseline], case: Any
) -> None:
    image, rough, inside = (
        np.kron(each, np.ones((4, 4, 1)[: each.ndim], each.dtype))
        for each in (case.image, case.rough, case.inside)
    )
    refined = make(Recorder)(image, rough, MaskSet(inside[None]))
    assert refined.shape == rough.shape
    assert np.isfinite(refined).all()
    assert not np.array_equal(refined, rough)
