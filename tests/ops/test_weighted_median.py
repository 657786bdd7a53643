"""The joint weighted median against a loop over pixels, and what it is for."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from crispdepth.ops.weighted_median import joint_weighted_median


def slow(
    values: Tensor, guide: Tensor, weight: Tensor, radius: int, step: int, similar: float
) -> Tensor:
    height, width = values.shape
    found = values.clone()
    for row in range(height):
        for column in range(width):
            pairs = []
            for y in range(row - radius, row + radius + 1, step):
                for x in range(column - radius, column + radius + 1, step):
                    if not (0 <= y < height and 0 <= x < width):
                        continue
                    far = ((y - row) ** 2 + (x - column) ** 2) / radius**2
                    unlike = float((guide[y, x] - guide[row, column]).square().sum())
                    counts = float(weight[y, x]) * math.exp(-far - unlike / (2 * similar**2))
                    pairs.append((float(values[y, x]), counts))
            half, below = sum(counts for _, counts in pairs) / 2, 0.0
            for value, counts in sorted(pairs):
                below += counts
                if below >= half > 0:
                    found[row, column] = value
                    break
    return found


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 2))
def test_it_is_the_loop_over_pixels(seed: int, radius: int, step: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    values, weight = (torch.rand(6, 7, generator=rng) for _ in range(2))
    guide = torch.rand(6, 7, 3, generator=rng)
    weight[:3, :3] = 0
    everywhere = torch.ones(6, 7, dtype=torch.bool)
    fast = joint_weighted_median(
        values, guide, weight, everywhere, radius=radius, step=step, similar=0.5
    )
    assert (fast == slow(values, guide, weight, radius, step, 0.5)).all()


def test_an_edge_of_depth_moves_to_the_edge_of_the_photo() -> None:
    left = torch.arange(40) < 20
    guide = torch.where(left, 0.2, 0.8)[None, :, None].expand(30, 40, 3)
    true = torch.where(left, 1.0, 2.0).expand(30, 40)
    wide = torch.where(torch.arange(40) < 22, 1.0, 2.0).expand(30, 40)
    near = torch.ones(30, 40, dtype=torch.bool)
    found = joint_weighted_median(wide, guide, torch.ones(30, 40), near, radius=9, step=3)
    assert (wide != true).any()
    assert (found == true).all()


def test_what_weighs_nothing_has_no_say_and_what_is_not_asked_for_stays() -> None:
    rng = torch.Generator().manual_seed(1)
    values, guide = torch.rand(9, 9, generator=rng), torch.full((9, 9, 3), 0.5)
    weight = (torch.rand(9, 9, generator=rng) > 0.5).float()
    where = torch.zeros(9, 9, dtype=torch.bool)
    where[4] = True
    found = joint_weighted_median(values, guide, weight, where, radius=2)
    other = torch.where(weight > 0, values, torch.rand(9, 9, generator=rng))
    again = joint_weighted_median(other, guide, weight, where, radius=2)
    assert (found[4] == again[4]).all()
    assert (found[~where] == values[~where]).all()
    nothing = torch.zeros(9, 9)
    assert (joint_weighted_median(values, guide, nothing, where, radius=2) == values).all()
