"""The channel that says how much evidence a fused signed distance has."""

import pytest
import torch

from crispdepth.models.volume.config import FusionConfig
from tests.models.volume.test_fusion import CPU, GRID, network, views


def test_evidence_is_the_sum_of_weights_and_comes_before_the_distance() -> None:
    made = network(embedding="tsdf", evidence=True, residual=True)
    accumulator = made.accumulator(GRID, CPU)
    weight = torch.full(views()[0][3].shape, 0.25)
    for view in views(3):
        accumulator.add(*view, weight)
    evidence = accumulator.evidence()
    assert evidence.max() == 0.75
    assert torch.equal(evidence > 0, accumulator.observed())
    volume = made.unify(accumulator)
    assert volume.shape == (6, *GRID.shape)
    torch.testing.assert_close(volume[4], evidence / (1 + evidence))
    torch.testing.assert_close(volume[5], accumulator.depth_channel())
    assert torch.equal(made.regress(volume), accumulator.depth_channel())  # fresh and residual


def test_evidence_is_of_signed_distances() -> None:
    with pytest.raises(ValueError, match="evidence is of the embedding tsdf"):
        FusionConfig(embedding="count", evidence=True)
