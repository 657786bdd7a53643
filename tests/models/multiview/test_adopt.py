"""What of a network's weights another one takes, and what it refuses; that the answer stays is a
law of the network."""

from dataclasses import replace

import pytest
import torch

from crispdepth.models.multiview.adopt import ADDED, adopt
from crispdepth.models.multiview.config import NO_MASKS
from tests.models.multiview.test_network import SMALL, made


def test_parts_that_a_network_has_not_are_left_out_if_that_is_asked_for() -> None:
    whole, bare = made(SMALL), made(replace(SMALL, view_weights=False, masks=NO_MASKS))
    with pytest.raises(ValueError, match="it has no pyramid"):
        adopt(bare, whole.state_dict())
    adopt(bare, whole.state_dict(), surplus=True)
    torch.testing.assert_close(bare.merge_half.weight, whole.merge_half.weight)
    coarse = made(replace(SMALL, planes=(SMALL.planes[0], 0)))
    adopt(coarse, whole.state_dict(), surplus=True)
    torch.testing.assert_close(coarse.merge_half.weight, whole.merge_half.weight)


def test_what_is_no_part_may_not_be_missing() -> None:
    network = made(SMALL)
    state = network.state_dict()
    state.pop("merge_half.weight")
    with pytest.raises(ValueError, match=r"they lack merge_half\.weight"):
        adopt(network, state)
    with pytest.raises(ValueError, match="it has no stranger"):
        adopt(network, {**network.state_dict(), "stranger": torch.zeros(1)})
    assert any(name.startswith(ADDED) for name in state)
