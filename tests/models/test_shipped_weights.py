"""The weights in the package: whole, light, described, and worth their place.

How good they are is measured on a frozen set of 160-pixel samples: drawn masks before analytic
scenes, rough depth from the simulated errors. It is far from photos; it tells a good network from a
broken one. The real figures are those of ``benchmarks``.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import torch

from crispdepth.data.compose import LayeredSample
from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.masks import PEOPLE_DRAWN, THINGS_DRAWN, MixedMasks
from crispdepth.data.perturb import holes
from crispdepth.data.samples import LayeredSampler, SampleConfig
from crispdepth.models.classical import ClassicalCompleter
from crispdepth.models.layered.export import TOLERANCE, largest_difference
from crispdepth.models.learned import LearnedCompleter, careful
from crispdepth.models.weights import DEFAULT, find, load_model, read_config, read_onnx
from crispdepth.ops.band import signed_distance
from crispdepth.types import BoolMap, Completion, DepthMap, Float32Map, LayerCompleter

SIZE = 160
COUNT = 24
SEED = 20_261_125  # of no training
BAND = 8  # pixels on either side of the mask's boundary

# What the errors of the shipped network must stay below, as shares of those of the rough depth and
# of the classical completer.
BAND_OF_ROUGH, BAND_OF_CLASSICAL = 0.51, 0.80
HOLES_OF_ROUGH, HOLES_OF_CLASSICAL = 0.95, 0.98


class Errors(NamedTuple):
    """Mean absolute errors, on the scale of 0 to 10."""

    band: float  # of both layers, along the boundary
    holes: float  # of the map, in enclosed holes of the masks


@pytest.fixture(scope="module")
def completer() -> LearnedCompleter:
    return LearnedCompleter(threads=1)


def analytic_frame(number: int) -> RgbdFrame:
    """A slanted, textured floor and wall with balls before them."""
    rng = np.random.default_rng([SEED, number])
    y, x = np.mgrid[-1:1:240j, -1.33:1.33:320j].astype(np.float32)
    z = np.minimum(6 + rng.uniform(-1.5, 1.5) * x, 1.5 / np.maximum(y, 0.05))
    colour = np.where(z < 6, 1.0, 0.6)[..., None] * rng.uniform(60, 200, 3)
    for _ in range(6):
        cx, cy, radius, near = *rng.uniform(-1, 1, 2), rng.uniform(0.1, 0.4), rng.uniform(1, 4)
        height = np.sqrt(np.maximum(radius**2 - (x - cx) ** 2 - (y - cy) ** 2, 0))
        seen = (height > 0) & (near - height < z)
        z = np.where(seen, near - height, z)
        colour[seen] = rng.uniform(30, 255, 3) * (0.4 + 0.6 * height / radius)[seen, None]
    image = (colour + rng.normal(0, 6, colour.shape)).clip(0, 255).astype(np.uint8)
    return RgbdFrame(
        f"analytic/{number}", image, DepthMap(z.astype(np.float32), "depth", "m"), None
    )


@pytest.fixture(scope="module", name="frozen")
def frozen_samples() -> list[LayeredSample]:
    return draw_frozen()


def draw_frozen() -> list[LayeredSample]:
    masks = MixedMasks((THINGS_DRAWN,), (THINGS_DRAWN,), (PEOPLE_DRAWN,))
    frames = [analytic_frame(number) for number in range(8)]
    sampler = LayeredSampler(frames, masks, SampleConfig(size=SIZE, real_edges=0, in_front=1))
    return [sampler.draw(SEED, index) for index in range(COUNT)]


def test_the_frozen_set_has_rough_boundaries_and_holes(frozen: Sequence[LayeredSample]) -> None:
    rough = errors(frozen, None)
    assert rough.band > 0.2
    assert rough.holes > 0.2


def errors(samples: Sequence[LayeredSample], completer: LayerCompleter | None) -> Errors:
    """Of what a completer makes of the samples; without one, of the rough depth."""
    band: list[Float32Map] = []
    enclosed: list[Float32Map] = []
    for sample in samples:
        inside = sample.mask > 0.5
        near = np.abs(signed_distance(inside)) <= BAND
        layers = [layer(sample, mask, completer) for mask in (sample.mask, 1 - sample.mask)]
        truths = ((sample.front, sample.front_valid), (sample.back, sample.back_valid))
        for values, (truth, valid) in zip(layers, truths, strict=True):
            band.append(np.abs(values - truth)[near & valid])
        refined = np.where(inside, *layers)
        shown = enclosed_by(inside) & sample.back_valid
        enclosed.append(np.abs(refined - sample.composite)[shown])
    return Errors(*(float(np.concatenate(parts).mean()) for parts in (band, enclosed)))


def layer(sample: LayeredSample, mask: Float32Map, completer: LayerCompleter | None) -> Float32Map:
    if completer is None:
        return sample.rough
    image = sample.image.astype(np.float32) / np.float32(255)
    values, gate = completer(image, sample.rough, mask)
    return sample.rough + gate * (values - sample.rough)


def enclosed_by(inside: BoolMap) -> BoolMap:
    enclosed = np.zeros_like(inside)
    for hole in holes(inside.astype(np.uint8)):
        enclosed |= hole > 0
    return enclosed


def test_they_make_better_layers_than_the_classical_completer(
    frozen: Sequence[LayeredSample], completer: LearnedCompleter
) -> None:
    learned, classical, rough = (
        errors(frozen, each) for each in (completer, ClassicalCompleter(), None)
    )
    figures = f"learned {learned}, classical {classical}, rough {rough}"
    assert learned.band < BAND_OF_ROUGH * rough.band, figures
    assert learned.band < BAND_OF_CLASSICAL * classical.band, figures
    assert learned.holes < HOLES_OF_ROUGH * rough.holes, figures
    assert learned.holes < HOLES_OF_CLASSICAL * classical.holes, figures


def test_both_files_are_whole_and_hold_the_same_network() -> None:
    """Reading checks the checksums; loading is strict."""
    assert largest_difference(read_onnx(DEFAULT), load_model(DEFAULT)) < TOLERANCE


@pytest.mark.parametrize("size", [(32, 96), (160, 160), (256, 320)])
def test_both_files_compute_the_same_on_scenes(
    size: tuple[int, int], frozen: Sequence[LayeredSample], completer: LearnedCompleter
) -> None:
    sample = frozen[0]
    image, rough, mask = (
        np.asarray(cv2.resize(each, size[::-1], interpolation=cv2.INTER_NEAREST), np.float32)
        for each in (sample.image / np.float32(255), sample.rough, sample.mask)
    )
    parts = (rough[None], image.transpose(2, 0, 1), mask[None])
    with torch.inference_mode():
        output = load_model(DEFAULT)(*(torch.from_numpy(part.copy())[None] for part in parts))
    values, gate = completer(image, rough, mask)
    network = Completion(output.layer[0, 0].clamp(0, 10).numpy(), output.gate[0, 0].numpy())
    expected = careful(network, rough, mask >= 0.5)
    np.testing.assert_allclose(values / 10, expected.layer / 10, atol=1e-3)
    np.testing.assert_allclose(gate, expected.gate, atol=1e-3)


def test_they_are_small() -> None:
    assert read_config(DEFAULT)["parameters"] <= 8_000_000
    assert sum(file.stat().st_size for file in find(DEFAULT).iterdir()) < 16_000_000


def test_their_card_names_licence_data_and_limits() -> None:
    card = (find(DEFAULT) / "README.md").read_text("utf-8").lower()
    for subject in ("licen", "data", "limit"):
        assert subject in card, subject
    assert "|---" in card.split("## figures")[1].split("\n## ")[0]  # measured, in a table
    for name in read_config(DEFAULT)["sources"]["data"]:
        assert name.lower() in card, f"the card does not mention the data {name}"


def test_they_run_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"  # any import of it fails
        "import numpy as np\n"
        "from crispdepth.models.learned import LearnedCompleter\n"
        "mask = np.zeros((64, 96), np.float32)\n"
        "mask[:, :40] = 1\n"
        "layer, gate = LearnedCompleter(threads=1)(np.zeros((64, 96, 3), np.float32), mask, mask)\n"
        "assert np.isfinite(layer).all() and np.isfinite(gate).all()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
