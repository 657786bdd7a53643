"""The shipped weights: whole, light, described, and worth their place beside fresh ones.

The scene is analytic, a ball on a floor, its depths spoilt; it tells a good network from a broken
one. The real figures are those of ``benchmarks/volume.py``.
"""

import pytest
import torch

from crispdepth.data.volume_config import VolumeSampleConfig
from crispdepth.data.volume_samples import VolumeSampler
from crispdepth.models.presets import VOLUME
from crispdepth.models.volume.network import VolumeNetwork
from crispdepth.models.weights import DEFAULT_VOLUME, find, load_stereo, load_volume, read_config
from crispdepth.training.config import VolumeObjective
from crispdepth.training.volume_batch import collate
from crispdepth.training.volume_held_out import held_out_figures
from crispdepth.training.volume_learner import VolumeLearner
from tests.posed import ball_frames

MOST_MB = 15.0

MOST_L1, MOST_NEAR = 0.6, 0.95
"""What the shipped network must stay below, in errors of the fused distances: of all voxels that
were seen, and of those near surfaces."""


@pytest.fixture(scope="module")
def shipped() -> VolumeNetwork:
    return load_volume()


def figures(network: VolumeNetwork) -> dict[str, float]:
    samples = VolumeSampleConfig(
        volume=(32, 32, 24), voxel=(0.08, 0.12), size=(96, 128), views=(2, 4), pose_errors=0
    )
    sampler = VolumeSampler(ball_frames("ball", 8), samples)
    batches = [collate([sampler.draw(7, index, 3)]) for index in range(6)]
    learner = VolumeLearner(network.config, VolumeObjective())
    learner.load_state_dict(network.state_dict())
    learner.eval()
    with torch.no_grad():
        return held_out_figures((learner(batch), batch) for batch in batches)


def test_the_weights_are_light_and_say_what_they_are() -> None:
    folder = find(DEFAULT_VOLUME)
    assert sum(path.stat().st_size for path in folder.iterdir()) < MOST_MB * 1e6
    config = read_config(DEFAULT_VOLUME)
    assert config["preset"] == DEFAULT_VOLUME
    assert config["held_out"]["l1"] < config["held_out"]["l1_fused"]
    card = (folder / "README.md").read_text("utf-8")
    for word in ("Data and licences", "Training", "Figures", "Limits"):
        assert f"## {word}" in card


def test_it_is_better_than_the_fused_distances_that_it_starts_from(shipped: VolumeNetwork) -> None:
    found = figures(shipped)
    assert found["l1"] < MOST_L1 * found["l1_fused"]
    assert found["l1_near"] < MOST_NEAR * found["l1_near_fused"]
    torch.manual_seed(0)
    fresh = figures(VolumeNetwork(VOLUME["volume-small"]))
    assert fresh["l1"] == fresh["l1_fused"] == found["l1_fused"]


def test_its_stereo_was_not_trained() -> None:
    with pytest.raises(ValueError, match="of a training with --stage fusion"):
        load_stereo(DEFAULT_VOLUME)
