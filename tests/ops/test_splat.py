"""The laws of compositing, and the slow twin in value and gradient."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import Tensor

from crispdepth.ops.splat import FAINTEST, MOST_OPAQUE, Splats, render
from crispdepth.ops.splat_projection import BLUR_PX2, rotation_matrices, sh_colours
from crispdepth.ops.splat_reference import C0, reference, rotation_of

SIZE = (21, 30)  # no multiple of the tile
K = torch.tensor([[40.0, 0.5, 11.3], [0.0, 38.0, 13.9], [0.0, 0.0, 1.0]])  # skewed, off centre


def pose() -> Tensor:
    out = torch.eye(4)
    out[:3, :3] = rotation_matrices(torch.tensor([[0.95, 0.1, -0.2, 0.15]]))[0]
    out[:3, 3] = torch.tensor([0.1, -0.05, 3.0])
    return out


def gaussians(count: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Splats:
    rng = torch.Generator().manual_seed(seed)
    values = Splats(
        torch.rand(count, 3, generator=rng) * 1.6 - 0.8,
        torch.rand(count, 3, generator=rng) * 0.12 + 0.01,
        torch.randn(count, 4, generator=rng),
        torch.rand(count, generator=rng) * 0.8 + 0.1,
        torch.randn(count, 1, 3, generator=rng),
    )
    return Splats(*(value.to(dtype).requires_grad_() for value in values[:5]))


def loss_of(parts: tuple[Tensor, ...], seed: int = 1) -> Tensor:
    """A sum in which every pixel of every part has its own weight."""
    rng = torch.Generator().manual_seed(seed)
    terms = [(part * torch.randn(part.shape, generator=rng).to(part)).sum() for part in parts]
    return torch.stack(terms).sum()


def test_the_fast_one_equals_the_slow_one_in_value_and_gradient() -> None:
    camera = K.double(), pose().double(), SIZE
    fast, slow = (gaussians(40, dtype=torch.float64) for _ in range(2))
    labels = torch.arange(40) % 3
    ours = render(fast._replace(labels=labels), *camera, objects=3)
    theirs = reference(slow._replace(labels=labels), *camera, objects=3)
    parts = ours.colour, ours.alpha, ours.depth, ours.objects
    assert ours.alpha.amax() > 0.8
    for mine, other in zip(parts, theirs, strict=True):
        torch.testing.assert_close(mine, other)
    torch.autograd.backward(loss_of(parts))
    torch.autograd.backward(loss_of(theirs))
    for mine, other in zip(fast[:5], slow[:5], strict=True):
        assert mine.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(mine.grad, other.grad)
    single = render(gaussians(40), K, pose(), SIZE)
    torch.testing.assert_close(single.colour.double(), ours.colour, atol=1e-4, rtol=0)


def test_many_opaque_layers_end_early_and_alike() -> None:
    values = gaussians(250, seed=3)
    values = values._replace(opacities=torch.full((250,), 0.95))
    with torch.no_grad():
        ours, theirs = render(values, K, pose(), SIZE), reference(values, K, pose(), SIZE)
    torch.testing.assert_close(ours.colour, theirs[0], atol=5e-4, rtol=0)
    torch.testing.assert_close(ours.alpha, theirs[1], atol=1.1e-4, rtol=0)


def test_gradients_are_those_of_finite_differences() -> None:
    values = gaussians(5, seed=5, dtype=torch.float64)[:5]
    camera = K.double(), pose().double()

    def picture(*values: Tensor) -> tuple[Tensor, ...]:
        out = render(Splats(*values), *camera, SIZE)
        return out.colour[::6, ::6], out.alpha[::6, ::6]

    # At the rim, where a Gaussian ceases to count, there is a step: no pixel may be near it.
    assert torch.autograd.gradcheck(picture, values, eps=1e-7, atol=1e-4, rtol=1e-3)


def test_the_order_of_the_gaussians_does_not_matter() -> None:
    values = gaussians(80)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(4))
    one = render(values, K, pose(), SIZE)
    other = render(Splats(*(value[order] for value in values[:5])), K, pose(), SIZE)
    torch.testing.assert_close(one.colour, other.colour)
    torch.testing.assert_close(one.depth, other.depth)


def test_opacities_of_objects_add_up_to_alpha() -> None:
    labelled = gaussians(200)._replace(labels=torch.arange(200) % 4)
    out = render(labelled, K, pose(), SIZE, objects=4)
    torch.testing.assert_close(out.objects.sum(dim=0), out.alpha, atol=2e-6, rtol=0)
    assert out.alpha.amin() >= 0
    assert out.alpha.amax() <= 1
    assert out.objects.amin() >= 0


def test_over_white_objects_add_up_to_what_is_seen() -> None:
    """Of one colour each: the sum of colours by opacity, and white where there is no object."""
    colours = torch.tensor([[0.9, 0.1, 0.2], [0.2, 0.7, 0.1], [0.4, 0.3, 1.0]])
    labels = torch.arange(200) % 3
    splats = gaussians(200)._replace(sh=((colours - 0.5) / C0)[labels][:, None], labels=labels)
    out = render(splats, K, pose(), SIZE, objects=3)
    seen = (out.objects[..., None] * colours[:, None, None]).sum(dim=0)
    torch.testing.assert_close(out.colour, seen, atol=2e-5, rtol=0)
    over_white = out.colour + (1 - out.alpha)[..., None]
    missing = (out.objects[..., None] * (1 - colours[:, None, None])).sum(dim=0)
    torch.testing.assert_close(over_white, 1 - missing, atol=2e-5, rtol=0)
    assert seen.amax() > 0.3
    assert out.alpha.amin() < 0.5


def disc(z: float, radius: float = 0.3, opacity: float = 0.9) -> tuple[list[float], ...]:
    return [0.0, 0.0, z], [radius] * 3, [1.0, 0, 0, 0], [opacity]


def test_an_object_behind_an_opaque_one_is_not_seen_but_is_alone() -> None:
    rows = [*(disc(2 + i / 100) for i in range(6)), disc(4.0, radius=0.2)]
    columns = [torch.tensor(column) for column in zip(*rows, strict=True)]
    labels = torch.tensor([0] * 6 + [1])
    means, scales, turns, opacities = columns
    splats = Splats(means, scales, turns, opacities[:, 0], torch.zeros(7, 1, 3), labels)
    centred = torch.tensor([[40.0, 0, 15], [0, 40, 10], [0, 0, 1]])
    both = render(splats, centred, torch.eye(4), SIZE, objects=2)
    last = Splats(*(value[6:] for value in splats[:5]))
    alone = render(last, centred, torch.eye(4), SIZE)
    assert alone.alpha.max() > 0.8
    assert both.objects[1].max() < 1e-3
    shown = alone.alpha > 0.5
    torch.testing.assert_close(alone.depth[shown], torch.full_like(alone.depth[shown], 4.0))


@pytest.mark.parametrize("centre", [(15.5, 10.5), (3.5, 18.5), (28.5, 0.5)])
def test_a_round_gaussian_is_the_closed_form(centre: tuple[float, float]) -> None:
    # Far away and small, where the projection is linear; any principal point.
    focal, z, sigma, opacity = 400.0, 50.0, 0.3, 0.8
    camera = torch.tensor([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]])
    sh = torch.tensor([[[0.2, 0.5, -0.1]]]) / C0
    one = Splats(
        torch.tensor([[0.0, 0, z]]), torch.full((1, 3), sigma), torch.tensor([[1.0, 0, 0, 0]]),
        torch.tensor([opacity]), sh,
    )  # fmt: skip
    out = render(one, camera, torch.eye(4), SIZE)
    y, x = torch.meshgrid(torch.arange(21) + 0.5, torch.arange(30) + 0.5, indexing="ij")
    variance = (focal * sigma / z) ** 2 + BLUR_PX2
    distance = (x - centre[0]) ** 2 + (y - centre[1]) ** 2
    alpha = opacity * torch.exp(-distance / 2 / variance)
    alpha = torch.where(alpha > FAINTEST, alpha, 0.0)
    torch.testing.assert_close(out.alpha, alpha, atol=1e-5, rtol=1e-4)
    expected = alpha[..., None] * torch.tensor([0.7, 1.0, 0.4])
    torch.testing.assert_close(out.colour, expected, atol=1e-5, rtol=1e-4)
    seen = alpha > FAINTEST
    torch.testing.assert_close(
        out.depth[seen], torch.full_like(out.depth[seen], z), rtol=1e-4, atol=0
    )


def test_what_is_behind_or_on_the_camera_plane_has_finite_gradients() -> None:
    values = gaussians(30)
    with torch.no_grad():
        values.means[:10, 2] -= 6
        values.means[10:15] = -pose()[:3, :3].T @ pose()[:3, 3]  # the camera's own place
    out = render(values, K, pose(), SIZE)
    torch.autograd.backward(loss_of((out.colour, out.alpha, out.depth)))
    for value in values[:5]:
        assert value.grad is not None
        assert value.grad.isfinite().all()
        assert (value.grad[:15] == 0).all()
    kept = render(Splats(*(value[15:] for value in values[:5])), K, pose(), SIZE)
    torch.testing.assert_close(out.colour, kept.colour)


def test_extreme_values_stay_finite() -> None:
    values = gaussians(40)
    scales = torch.cat([values.scales[:20] * 1e-6, values.scales[20:] * 1e3])
    values = values._replace(
        scales=scales.detach().requires_grad_(),
        opacities=torch.linspace(0, 1, 40).requires_grad_(),
    )
    out = render(values, K, pose(), SIZE)
    torch.autograd.backward(loss_of((out.colour, out.alpha)))
    for value in values[:5]:
        assert value.grad is not None
        assert value.grad.isfinite().all()


def test_no_gaussian_is_background() -> None:
    out = render(gaussians(0)._replace(labels=torch.zeros(0)), K, pose(), SIZE, objects=2)
    for part in (out.colour, out.alpha, out.depth, out.objects):
        assert part.shape[-2:] == SIZE or part.shape[:2] == SIZE
        assert not part.any()
    torch.autograd.backward(out.alpha.sum())


@pytest.mark.parametrize("factor", [0.1, 7.0])
def test_a_larger_world_looks_the_same(factor: float) -> None:
    values = gaussians(50)
    larger = pose()
    larger[:3, 3] *= factor
    grown = values._replace(means=values.means * factor, scales=values.scales * factor)
    one = render(values, K, pose(), SIZE)
    other = render(grown, K, larger, SIZE, near=0.01 * factor)
    torch.testing.assert_close(one.colour, other.colour, atol=1e-4, rtol=0)
    torch.testing.assert_close(one.depth * factor, other.depth, atol=1e-3 * factor, rtol=1e-4)


def test_rotations_are_those_of_quaternions() -> None:
    turns = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    for turn, matrix in zip(turns, rotation_matrices(turns), strict=True):
        torch.testing.assert_close(matrix, rotation_of(turn))


def test_harmonics_are_orthonormal_and_the_first_is_the_colour() -> None:
    # A quadrature that is exact for these degrees: Gauss-Legendre in z, equal steps around it.
    z, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(8))
    angle = torch.arange(16, dtype=torch.float64) * (2 * torch.pi / 16)
    r = torch.sqrt(1 - z * z)
    grid = torch.stack(
        [
            r[:, None] * angle.cos(), r[:, None] * angle.sin(), z[:, None].expand(8, 16),
        ],
        dim=-1,
    ).reshape(-1, 3)  # fmt: skip
    area = (weights[:, None] * (2 * torch.pi / 16)).expand(8, 16).reshape(-1)
    basis = []
    for index in range(16):
        one = torch.zeros(len(grid), 16, 3, dtype=torch.float64)
        one[:, index] = 0.1  # small, so that no colour is below 0
        basis.append((sh_colours(one, grid)[:, 0] - 0.5) / 0.1)
    stack = torch.stack(basis)
    torch.testing.assert_close((stack * area) @ stack.T, torch.eye(16, dtype=torch.float64))
    torch.testing.assert_close(stack[0], torch.full_like(stack[0], C0))
    # the order and signs of 3DGS: -y, z, -x
    directions = torch.stack([-grid[:, 1], grid[:, 2], -grid[:, 0]])
    factor = (3 / (4 * torch.pi)) ** 0.5
    torch.testing.assert_close(stack[1:4], factor * directions)


def test_the_same_twice_is_the_same() -> None:
    def gradient() -> Tensor:
        values = gaussians(100)
        torch.autograd.backward(loss_of((render(values, K, pose(), SIZE).colour,)))
        assert values[0].grad is not None
        return values[0].grad

    assert torch.equal(gradient(), gradient())


def test_a_processor_never_imports_the_backend_of_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gsplat", None)  # its import would raise
    assert render(gaussians(5), K, pose(), SIZE).alpha.any()


@pytest.mark.skipif(
    not torch.cuda.is_available() or find_spec("gsplat") is None, reason="needs CUDA and gsplat"
)
def test_the_backend_of_cuda_equals_the_tiles_in_value_and_gradient() -> None:
    straight = K.clone()
    straight[0, 1] = 0  # gsplat has no skew
    rendered = []
    for device in ("cpu", "cuda"):
        values = Splats(*(part.detach().to(device).requires_grad_() for part in gaussians(40)[:5]))
        labels = (torch.arange(40) % 3).to(device)
        camera = straight.to(device), pose().to(device), SIZE
        out = render(values._replace(labels=labels), *camera, objects=3)
        parts = out.colour, out.alpha, out.depth, out.objects
        torch.autograd.backward(loss_of(parts))
        rendered.append((parts, [value.grad for value in values[:5]]))
    (ours, our_gradients), (theirs, their_gradients) = rendered
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(other.cpu(), mine, atol=1e-4, rtol=1e-4)
    for wanted, got in zip(our_gradients, their_gradients, strict=True):
        assert wanted is not None
        assert got is not None
        assert (got.cpu() - wanted).norm() < 1e-3 * wanted.norm()


def test_no_gaussian_is_fully_opaque() -> None:
    sure = gaussians(1)._replace(means=torch.zeros(1, 3), opacities=torch.ones(1))
    out = render(sure, K, pose(), SIZE)
    assert out.alpha.max() <= MOST_OPAQUE
