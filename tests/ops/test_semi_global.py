import numpy as np
import torch
from torch import Tensor

from crispdepth.ops.semi_global import Smoothness, semi_global, winner

FLAT = Smoothness(small=0.2, large=1.0, edge=0.05)


def random_cost(seed: int, depths: int = 7, rows: int = 6, columns: int = 8) -> Tensor:
    return torch.rand((depths, rows, columns), generator=torch.Generator().manual_seed(seed))


def slow_semi_global(
    cost: Tensor, grey: Tensor, side: Tensor | None, smoothness: Smoothness
) -> Tensor:
    """The recurrence of the paper, one pixel, plane and direction at a time."""
    depths, rows, columns = cost.shape
    total = torch.zeros_like(cost)
    for dy, dx in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)):
        paths = torch.zeros_like(cost)
        ys = range(rows) if dy >= 0 else range(rows - 1, -1, -1)
        xs = range(columns) if dx >= 0 else range(columns - 1, -1, -1)
        for y in ys:
            for x in xs:
                before = y - dy, x - dx
                inside = 0 <= before[0] < rows and 0 <= before[1] < columns
                if dy and dx and 0 <= before[0] < rows and not inside:
                    before, inside = (y - dy, x), True  # slanted paths go straight at the frame
                if not inside:
                    paths[:, y, x] = cost[:, y, x]
                    continue
                previous = paths[(slice(None), *before)]
                step = float((grey[y, x] - grey[before]).abs())
                large = max(smoothness.large / (1 + step / smoothness.edge), smoothness.small)
                link = 1.0 if side is None else 1 - float((side[y, x] - side[before]).abs())
                for d in range(depths):
                    ways = [previous[d], previous.min() + large]
                    ways += [
                        previous[e] + smoothness.small for e in (d - 1, d + 1) if 0 <= e < depths
                    ]
                    paths[d, y, x] = cost[d, y, x] + link * (min(ways) - previous.min())
        total += paths
    return total / 8


def test_it_equals_its_slow_twin() -> None:
    cost, grey = random_cost(0), random_cost(1)[0]
    side = (random_cost(2)[0] > 0.4).float() * random_cost(3)[0]
    for mask in (None, side):
        torch.testing.assert_close(
            semi_global(cost, grey, mask, FLAT), slow_semi_global(cost, grey, mask, FLAT)
        )


def test_without_a_price_for_change_it_is_the_cost_itself() -> None:
    cost = random_cost(0)
    free = Smoothness(small=0.0, large=0.0, edge=1.0)
    torch.testing.assert_close(semi_global(cost, cost[0], None, free), cost)


def test_flipping_the_photo_flips_the_result() -> None:
    cost, grey, side = random_cost(0), random_cost(1)[0], random_cost(2)[0]
    there = semi_global(cost, grey, side, FLAT)
    for axis in (0, 1):
        flipped = semi_global(cost.flip(axis + 1), grey.flip(axis), side.flip(axis), FLAT)
        torch.testing.assert_close(flipped.flip(axis + 1), there)


def test_what_is_inside_a_mask_does_not_depend_on_what_is_outside() -> None:
    cost, other = random_cost(0), random_cost(9)
    mask = torch.zeros(6, 8)
    mask[1:5, 2:6] = 1
    mixed = torch.where(mask > 0, cost, other)
    grey = torch.full((6, 8), 0.5)
    one, two = (semi_global(each, grey, mask, FLAT) for each in (cost, mixed))
    torch.testing.assert_close(one[:, mask > 0], two[:, mask > 0])
    assert not torch.equal(one[:, mask == 0], two[:, mask == 0])


def test_a_mask_of_ones_changes_nothing() -> None:
    cost, grey = random_cost(0), random_cost(1)[0]
    torch.testing.assert_close(
        semi_global(cost, grey, torch.ones(6, 8), FLAT), semi_global(cost, grey, None, FLAT)
    )


def test_a_pixel_without_evidence_takes_the_depth_of_its_neighbours() -> None:
    cost = torch.ones(7, 6, 8)
    cost[3] = 0.2
    cost[:, 2:4, 3:5] = 1
    assert (winner(semi_global(cost, torch.zeros(6, 8), None, FLAT)).plane == 3).all()


def test_a_parabola_finds_the_minimum_between_planes() -> None:
    at = torch.tensor([[2.3, 4.0], [0.0, 5.7]])
    cost = (torch.arange(8.0)[:, None, None] - at) ** 2
    best = winner(cost)
    torch.testing.assert_close(best.plane, at, atol=1e-5, rtol=0)


def test_flat_costs_are_finite_and_sure_of_nothing() -> None:
    best = winner(torch.ones(8, 2, 3))
    assert best.plane.isfinite().all()
    assert (best.margin == 0).all()
    assert (winner(torch.rand(3, 2, 2)).margin == 0).all()  # no plane is elsewhere


def test_a_single_dip_is_sure_and_a_second_one_less_so() -> None:
    cost = torch.ones(20, 1, 2)
    cost[5] = 0
    cost[15, 0, 1] = 0.1
    margin = winner(cost).margin[0]
    np.testing.assert_allclose(margin, [1.0, 0.1], atol=1e-6)
