"""Masked attention: a twin written as loops, finite everywhere, and groups of heads; geometry."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from crispdepth.ops.attention import (
    DeadRows,
    HeadGroups,
    epipolar_mask,
    epipolar_object_mask,
    head_group_bias,
    head_group_mask,
    masked_attention,
    token_centres,
)

HEADS = 8

Tokens = tuple[Tensor, Tensor, Tensor]


def random(*sizes: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed)).to(dtype)


def tokens(n: int = 6, m: int = 6, dtype: torch.dtype = torch.float32) -> Tokens:
    """Queries, keys and values of two samples."""
    sizes = (2, HEADS, n, 4), (2, HEADS, m, 4), (2, HEADS, m, 5)
    query, key, value = (
        random(*size, seed=seed, dtype=dtype).requires_grad_() for seed, size in enumerate(sizes)
    )
    return query, key, value


def half_masked(n: int, m: int) -> Tensor:
    """Random (2, 1, n, m), whose second query may attend to nothing."""
    allowed = random(2, 1, n, m, seed=7) > 0
    allowed[:, :, 1] = False
    allowed[:, :, 0, 0] = True
    return allowed


def slow_attention(
    query: Tensor, key: Tensor, value: Tensor, allowed: Tensor, bias: Tensor, dead: DeadRows
) -> Tensor:
    """The formula, query by query, over the list of keys that are allowed."""
    output = query.new_zeros(*query.shape[:-1], value.shape[-1])
    allowed = allowed.expand(*query.shape[:-1], key.shape[-2])
    bias = bias.expand_as(allowed)
    for b, h, i in torch.cartesian_prod(*map(torch.arange, query.shape[:3])).tolist():
        keys = torch.nonzero(allowed[b, h, i])[:, 0]
        if len(keys) == 0:
            if dead == "zero":
                continue
            if dead == "self":
                output[b, h, i] = value[b, h, i]
                continue
            keys = torch.arange(key.shape[-2])
        scores = key[b, h, keys] @ query[b, h, i] / query.shape[-1] ** 0.5 + bias[b, h, i, keys]
        weights = scores.exp() / scores.exp().sum()
        output[b, h, i] = weights @ value[b, h, keys]
    return output


@pytest.mark.parametrize("dead", ["zero", "self", "unmask"])
def test_it_is_its_slow_twin_in_values_and_gradients(dead: DeadRows) -> None:
    query, key, value = (x.detach().double().requires_grad_() for x in tokens())
    bias = random(2, HEADS, 1, 6, seed=5).double().requires_grad_()
    inputs, allowed = (query, key, value, bias), half_masked(6, 6)
    found = masked_attention(query, key, value, allowed, bias, dead)
    expected = slow_attention(query, key, value, allowed, bias, dead)
    torch.testing.assert_close(found, expected)
    pull = random(*found.shape, seed=9).double()
    for one, other in zip(
        torch.autograd.grad((found * pull).sum(), inputs),
        torch.autograd.grad((expected * pull).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_query_without_keys_leaves_the_residual_and_finite_gradients(dtype: torch.dtype) -> None:
    inputs = tokens(6, 7, dtype)
    residual = random(2, HEADS, 6, 5, seed=4, dtype=dtype)
    output = residual + masked_attention(*inputs, half_masked(6, 7))
    assert output.dtype == dtype
    assert output.isfinite().all()
    assert torch.equal(output[:, :, 1], residual[:, :, 1])
    assert not torch.equal(output[:, :, 0], residual[:, :, 0])
    torch.autograd.backward(output.float().square().sum())
    for each in inputs:
        assert each.grad is not None
        assert each.grad.isfinite().all()
        assert each.grad.abs().max() > 0


@pytest.mark.parametrize("dead", ["zero", "self", "unmask"])
@pytest.mark.parametrize("biased", [False, True])
def test_nothing_allowed_at_all_is_finite(dead: DeadRows, biased: bool) -> None:
    inputs = tokens()
    bias = random(2, HEADS, 6, 6, seed=5).requires_grad_() if biased else None
    nothing = torch.zeros(2, 1, 1, 6, dtype=torch.bool)
    output = masked_attention(*inputs, nothing, bias, dead)
    expected = {
        "zero": torch.zeros_like(output),
        "self": inputs[2],
        "unmask": masked_attention(*inputs, None, bias),
    }[dead]
    torch.testing.assert_close(output, expected)
    torch.autograd.backward(output.square().sum())
    for each in [*inputs, bias] if bias is not None else inputs:
        assert each.grad is None or each.grad.isfinite().all()


def test_all_allowed_is_plain_attention() -> None:
    inputs = tokens(6, 7)
    everything = torch.ones(1, 1, 1, 7, dtype=torch.bool)
    plain = F.scaled_dot_product_attention(*inputs)
    torch.testing.assert_close(masked_attention(*inputs, everything), plain)
    torch.testing.assert_close(masked_attention(*inputs), plain)


def test_living_rows_are_those_of_torch() -> None:
    inputs, allowed = tokens(6, 7), half_masked(6, 7)
    found = masked_attention(*inputs, allowed)
    expected = F.scaled_dot_product_attention(*inputs, allowed)
    alive = allowed.any(dim=-1)[:, 0]
    torch.testing.assert_close(found.transpose(1, 2)[alive], expected.transpose(1, 2)[alive])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_what_is_blocked_has_no_influence(dtype: torch.dtype) -> None:
    query, key, value = tokens(6, 7, dtype)
    allowed = (torch.arange(7) < 4)[None, None, None].expand(2, 1, 6, 7).clone()
    allowed[:, :, 1] = False
    other_key, other_value = key.clone(), value.clone()
    other_key[..., 4:, :], other_value[..., 4:, :] = 30.0, -1e4
    one = masked_attention(query, key, value, allowed)
    assert torch.equal(one, masked_attention(query, other_key, other_value, allowed))


def test_masks_are_joined_by_and() -> None:
    inputs = tokens(6, 7)
    of_object, on_line, in_window = (random(2, 1, 6, 7, seed=seed) > 0.5 for seed in (3, 4, 5))
    found = masked_attention(*inputs, of_object & on_line & in_window)
    bias = torch.zeros(2, 1, 6, 7)
    for each in (of_object, on_line, in_window):
        bias = bias + torch.where(each, 0.0, -torch.inf)
    expected = F.scaled_dot_product_attention(*inputs, bias)
    alive = (of_object & on_line & in_window).any(dim=-1, keepdim=True)
    assert not alive.all()
    torch.testing.assert_close(found, torch.where(alive, expected, 0))


def test_samples_need_no_batch() -> None:
    query, key, value = tokens(6, 7)
    allowed = half_masked(6, 7)
    found = masked_attention(query[0], key[0], value[0], allowed[0])
    torch.testing.assert_close(found, masked_attention(query, key, value, allowed)[0])


def test_mistakes_are_named() -> None:
    inputs = tokens(6, 7)
    with pytest.raises(ValueError, match=r"boolean, got torch.float32; weights go into the bias"):
        masked_attention(*inputs, torch.ones(6, 7))
    with pytest.raises(ValueError, match="got 6 queries and 7 keys"):
        masked_attention(*inputs, half_masked(6, 7), None, "self")
    unknown: Any = "drop"
    with pytest.raises(ValueError, match="got 'drop'"):
        masked_attention(*inputs, None, None, unknown)


# Groups of heads


def test_groups_have_a_head_each_and_the_usual_shares() -> None:
    assert HeadGroups.of(8) == HeadGroups() == HeadGroups(5, 2, 1)
    for heads in range(3, 17):
        groups = HeadGroups.of(heads)
        assert groups.heads == heads
        assert min(groups.foreground, groups.background, groups.everywhere) >= 1
    for counts in ((0, 2, 1), (2, 0, 1), (2, 1, 0), (0, 0, 0)):
        with pytest.raises(ValueError, match="Each group needs a head"):
            HeadGroups(*counts)
    with pytest.raises(ValueError, match="Each group needs a head"):
        HeadGroups.of(2)


def test_all_heads_everywhere_is_plain_attention() -> None:
    inputs, keys = tokens(6, 7), torch.rand(2, 7)
    plain, groups = masked_attention(*inputs), HeadGroups(0, 0, HEADS)
    torch.testing.assert_close(masked_attention(*inputs, head_group_mask(keys, groups)), plain)
    soft = masked_attention(*inputs, None, head_group_bias(keys, groups))
    torch.testing.assert_close(soft, plain)


@pytest.mark.parametrize("level", [1.0, 0.3, 0.0])
def test_a_mask_that_is_the_same_everywhere_changes_nothing(level: float) -> None:
    """Ones above all: the network without masks must come out."""
    inputs, keys = tokens(6, 7), torch.full((2, 7), level)
    soft = masked_attention(*inputs, None, head_group_bias(keys, HeadGroups()))
    torch.testing.assert_close(soft, masked_attention(*inputs), atol=1e-6, rtol=0)
    hard = masked_attention(*inputs, head_group_mask(keys, HeadGroups()), dead="unmask")
    torch.testing.assert_close(hard, masked_attention(*inputs), atol=1e-6, rtol=0)
    queries = torch.rand(2, 6)
    soft = masked_attention(*inputs, None, head_group_bias(keys, HeadGroups(), queries))
    torch.testing.assert_close(soft, masked_attention(*inputs), atol=1e-6, rtol=0)


@pytest.mark.parametrize("asymmetric", [False, True])
def test_the_soft_form_becomes_the_hard_one(asymmetric: bool) -> None:
    inputs, keys = tokens(6, 7), torch.tensor([[1.0, 0, 0, 1, 1, 0, 1]]).repeat(2, 1)
    queries = torch.tensor([[1.0, 0, 1, 0, 0, 1]]).repeat(2, 1) if asymmetric else None
    hard = masked_attention(*inputs, head_group_mask(keys, HeadGroups(), queries))
    errors = [
        (
            masked_attention(
                *inputs, None, head_group_bias(keys, HeadGroups(), queries, epsilon=epsilon)
            )
            - hard
        )
        .abs()
        .max()
        .item()
        for epsilon in (1e-1, 1e-3, 1e-6)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-4


def test_heads_of_the_object_do_not_see_the_background() -> None:
    query, key, value = tokens(6, 7)
    keys = torch.tensor([1.0, 1, 0, 0, 1, 0, 0.6])
    allowed = head_group_mask(keys, HeadGroups(5, 2, 1))
    assert allowed.shape == (HEADS, 1, 7)
    one = masked_attention(query, key, value, allowed)
    changed = torch.where(keys[:, None] > 0.5, value, value + 100)
    other = masked_attention(query, key, changed, allowed)
    assert torch.equal(one[:, :5], other[:, :5])
    assert ((one - other).abs().amax(dim=(0, 2, 3)) > 1)[5:].all()
    changed = torch.where(keys[:, None] > 0.5, value + 100, value)
    other = masked_attention(query, key, changed, allowed)
    assert torch.equal(one[:, 5:7], other[:, 5:7])


def test_with_queries_only_the_object_is_restricted() -> None:
    keys, queries = torch.tensor([1.0, 0, 1, 0]), torch.tensor([1.0, 0])
    allowed = head_group_mask(keys, HeadGroups(1, 1, 1), queries)
    inside = keys > 0.5
    assert torch.equal(allowed[0, 0], inside)
    assert torch.equal(allowed[1, 0], ~inside)
    assert allowed[:, 1].all()
    assert allowed[2].all()


def test_soft_groups_have_a_gradient_to_the_mask() -> None:
    keys = torch.tensor([[1.0, 0.0, 0.5, 0.2, 0.9, 0.0, 1.0]], requires_grad=True)
    inputs = tokens(6, 7)
    torch.autograd.backward(
        masked_attention(*inputs, None, head_group_bias(keys, HeadGroups())).square().sum()
    )
    assert keys.grad is not None
    assert keys.grad.isfinite().all()
    assert (keys.grad != 0).any()


# Geometry

SIZE, STRIDE = (12, 16), 4
K = torch.tensor([[50.0, 0, 30], [0, 50, 26], [0, 0, 1]])  # the principal point off the centre
OTHER_K = torch.tensor([[40.0, 0, 34], [0, 42, 22], [0, 0, 1]])


def rigid(rotation: tuple[float, float, float], translation: tuple[float, float, float]) -> Tensor:
    x, y, z = rotation
    skew = torch.tensor([[0.0, -z, y], [z, 0, -x], [-y, x, 0]])
    matrix = torch.eye(4)
    matrix[:3, :3] = torch.linalg.matrix_exp(skew)
    matrix[:3, 3] = torch.tensor(translation)
    return matrix


WORLD = rigid((0.1, -0.2, 0.05), (0.3, 0.1, -0.2))  # the camera of the queries
MOVES = {
    "sideways": rigid((0.0, 0.0, 0.0), (0.5, 0.0, 0.0)),
    "turned": rigid((0.1, -0.15, 0.3), (0.4, 0.3, -0.2)),
    "forwards": rigid((0.0, 0.02, 0.0), (0.02, 0.0, -0.9)),  # the epipole is in the picture
    "backwards": rigid((0.02, 0.0, 0.0), (0.0, 0.03, 0.9)),
    "past the near plane": rigid((0.0, 0.0, 0.0), (0.1, 0.0, -1.4)),  # some depths are behind
}


def mask_of(move: Tensor, tolerance: float = STRIDE, near: float = 1.0, far: float = 8.0) -> Tensor:
    centres = token_centres(SIZE, STRIDE)
    depths = torch.tensor(near), torch.tensor(far)
    return epipolar_mask(centres, centres, K, OTHER_K, WORLD, move @ WORLD, *depths, tolerance)


def seen(move: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels (n, 2) where the other camera sees the queries at a depth (n,), and z (n,)."""
    centres = token_centres(SIZE, STRIDE)
    points = F.pad(centres, (0, 1), value=1.0) @ K.inverse().T * depth[:, None]
    there = (points @ move[:3, :3].T + move[:3, 3]) @ OTHER_K.T
    return there[:, :2] / there[:, 2:], there[:, 2]


def test_centres_of_tokens_are_those_of_their_pixels() -> None:
    centres = token_centres((2, 3), 4)
    assert centres.tolist() == [[2, 2], [6, 2], [10, 2], [2, 6], [6, 6], [10, 6]]


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES.keys())
def test_true_matches_are_allowed(move: Tensor) -> None:
    allowed, centres = mask_of(move), token_centres(SIZE, STRIDE)
    generator = torch.Generator().manual_seed(0)
    matches = 0
    for _ in range(20):
        depth = 1 / (1 / 8 + 7 / 8 * torch.rand(len(centres), generator=generator))
        xy, z = seen(move, depth)
        height, width = SIZE[0] * STRIDE, SIZE[1] * STRIDE
        visible = (z > 1e-2) & (xy >= 0).all(dim=1) & (xy[:, 0] < width) & (xy[:, 1] < height)
        column, row = (xy[visible] / STRIDE).long().unbind(dim=1)
        assert allowed[visible, row * SIZE[1] + column].all()
        matches += int(visible.sum())
    assert matches > 500
    assert allowed.float().mean() < 0.6  # and it is a restriction


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES.keys())
def test_it_is_the_distance_to_the_segment_of_many_depths(move: Tensor) -> None:
    """The twin walks along the ray; its steps are short, but not where it passes the camera."""
    nearest = torch.full((28, 192), torch.inf)
    for rho in torch.linspace(1 / 8, 1, 400):
        xy, z = (each[::7] for each in seen(move, (1 / rho).expand(192)))
        distance = torch.cdist(xy, token_centres(SIZE, STRIDE))
        nearest = torch.minimum(nearest, distance.masked_fill(z[:, None] <= 0, torch.inf))
    allowed = mask_of(move)[::7]
    assert allowed[nearest < STRIDE - 0.01].all()
    assert not allowed[nearest > STRIDE + 1].any()


def test_cameras_with_one_centre_restrict_nothing() -> None:
    for turn in ((0.0, 0.0, 0.0), (0.2, -0.3, 0.1), (0.0, 3.1, 0.0)):
        assert mask_of(rigid(turn, (0.0, 0.0, 0.0))).all()
    assert not mask_of(rigid((0.2, -0.3, 0.1), (0.05, 0.0, 0.0))).all()


def test_what_the_other_camera_does_not_see_has_no_key() -> None:
    behind = mask_of(rigid((0.0, 3.14159, 0.0), (0.5, 0.0, 0.0)))
    assert not behind.any()
    beside = mask_of(rigid((0.0, 1.3, 0.0), (0.5, 0.0, 0.0)))
    assert not beside.any(dim=1).all()
    inputs = tokens(len(beside), len(beside))
    output = masked_attention(*inputs, beside)
    torch.autograd.backward(output.square().sum())
    assert all(each.grad is not None and each.grad.isfinite().all() for each in inputs)


def test_a_farthest_depth_may_be_infinite() -> None:
    centres = token_centres(SIZE, STRIDE)
    move = MOVES["turned"] @ WORLD
    depths = torch.tensor(1.0), torch.tensor(torch.inf)
    endless = epipolar_mask(centres, centres, K, OTHER_K, WORLD, move, *depths, STRIDE)
    assert not (mask_of(MOVES["turned"]) & ~endless).any()
    assert not endless.all()


def test_pairs_come_in_batches_and_units_do_not_matter() -> None:
    centres = token_centres(SIZE, STRIDE)
    moves = torch.stack([MOVES["sideways"], MOVES["turned"]]) @ WORLD
    near, far = torch.tensor([1.0, 1.0]), torch.tensor([8.0, 8.0])
    both = epipolar_mask(centres, centres, K, OTHER_K, WORLD, moves, near, far, STRIDE)
    assert torch.equal(both, torch.stack([mask_of(MOVES["sideways"]), mask_of(MOVES["turned"])]))
    scaled, world = moves.clone(), WORLD.clone()
    scaled[:, :3, 3] *= 1000
    world[:3, 3] *= 1000
    found = epipolar_mask(
        centres, centres, K, OTHER_K, world, scaled, 1000 * near, 1000 * far, STRIDE
    )
    assert (found != both).float().mean() < 1e-3
    with torch.autocast("cpu", torch.bfloat16):
        found = epipolar_mask(centres, centres, K, OTHER_K, WORLD, moves, near, far, STRIDE)
    assert torch.equal(found, both)


def test_on_a_scene_with_an_object_few_rows_are_dead() -> None:
    """A ball before both cameras: its pixels find it on their lines in the other view."""
    centres = token_centres(SIZE, STRIDE)
    ball, radius = torch.tensor([0.0, 0.0, 4.0]), 1.0
    for name in ("sideways", "turned", "forwards", "backwards"):
        move = MOVES[name]
        here = _shows_ball(centres, K, ball, radius)
        there = _shows_ball(centres, OTHER_K, move[:3, :3] @ ball + move[:3, 3], radius)
        epipolar = mask_of(move, near=2.5, far=6.0)
        mask = epipolar_object_mask(epipolar, there[None], counted=here)
        assert here.sum() > 20
        assert mask.dead < 0.01
        assert torch.equal(mask.allowed[here], (epipolar & there)[here])
        everything = epipolar_object_mask(epipolar, there[None])
        lost = ~(epipolar & there).any(dim=1)
        assert everything.dead == lost.float().mean()
        assert torch.equal(everything.allowed[lost], there.expand(int(lost.sum()), -1))


def _shows_ball(xy: Tensor, intrinsics: Tensor, ball: Tensor, radius: float) -> Tensor:
    """Which rays (n,) meet a ball in front of the camera."""
    rays = F.normalize(F.pad(xy, (0, 1), value=1.0) @ intrinsics.inverse().T, dim=1)
    along = rays @ ball
    return (along > 0) & (ball.square().sum() - along.square() < radius**2)


def test_ones_leave_only_the_geometry() -> None:
    epipolar = mask_of(MOVES["turned"])
    mask = epipolar_object_mask(epipolar, torch.ones(1, epipolar.shape[1], dtype=torch.bool))
    alive = epipolar.any(dim=1)
    assert torch.equal(mask.allowed[alive], epipolar[alive])
