from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from crispdepth.geometry.warp import PixelTransfer, inverse_depth_planes, transfer
from crispdepth.ops import plane_sweep
from crispdepth.ops.plane_sweep import (
    NOISE,
    Source,
    Windows,
    box_sum,
    chunks,
    compare,
    project,
    sample,
    warp,
)
from crispdepth.types import Camera

SIZE = (20, 26)
K = np.array([[24.0, 0, 13], [0, 24, 10], [0, 0, 1]])
OTHER_K = np.array([[31.0, 0, 11], [0, 29, 12], [0, 0, 1]])


def camera(x: float = 0.0, intrinsics: np.ndarray = K, angle: float = 0.0) -> Camera:
    pose = np.eye(4)
    pose[:3, :3] = [
        [np.cos(angle), 0, np.sin(angle)],
        [0, 1, 0],
        [-np.sin(angle), 0, np.cos(angle)],
    ]
    pose[0, 3] = -x
    return Camera(intrinsics, SIZE, pose)


def photo(seen_by: Camera, depth: float, seed: int = 0) -> Tensor:
    """A wall at z = depth of the world, painted with waves of about three pixels and more."""
    rng = np.random.default_rng(seed)
    waves = rng.normal(size=(12, 2)) * 6 / depth
    phases = rng.uniform(0, 2 * np.pi, 12)
    rows, columns = SIZE
    y, x = np.mgrid[:rows, :columns] + 0.5
    rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ np.linalg.inv(seen_by.K).T
    world_from_cam = np.linalg.inv(seen_by.cam_from_world)
    rays = rays @ world_from_cam[:3, :3].T
    centre = world_from_cam[:3, 3]
    on_wall = centre + rays * ((depth - centre[2]) / rays[..., 2])[..., None]
    grey = 0.5 + np.sin(on_wall[..., :2] @ waves.T + phases).sum(axis=-1) / 16
    return torch.from_numpy(grey.clip(0, 1).astype(np.float32))


def slow_similarity(
    reference: Tensor, weight: Tensor | None, warped: Tensor, radius: int
) -> Tensor:
    """One window at a time."""
    rows, columns = reference.shape
    found = torch.zeros_like(reference)
    ones = torch.ones_like(reference) if weight is None else weight
    for row in range(rows):
        for column in range(columns):
            window = (
                slice(max(row - radius, 0), row + radius + 1),
                slice(max(column - radius, 0), column + radius + 1),
            )
            w, i, j = (part[window].double() for part in (ones, reference, warped))
            total = w.sum() + (0 if weight is None else plane_sweep.EPSILON)
            mean_i, mean_j = (w * i).sum() / total, (w * j).sum() / total
            covariance = (w * (i - mean_i) * (j - mean_j)).sum() / total
            spread = (w * (i - mean_i) ** 2).sum() / total + NOISE**2
            spread = spread * ((w * (j - mean_j) ** 2).sum() / total + NOISE**2)
            found[row, column] = covariance / spread.sqrt()
    return found


def slow_sample(image: Tensor, pixels: PixelTransfer, rho: float) -> tuple[Tensor, Tensor]:
    """One pixel at a time."""
    rows, columns = SIZE
    values, inside = torch.zeros(SIZE), torch.zeros(SIZE, dtype=torch.bool)
    for row in range(rows):
        for column in range(columns):
            x = pixels.A @ [column + 0.5, row + 0.5, 1] + rho * pixels.b
            u, v = x[:2] / x[2]
            inside[row, column] = bool(0 <= u <= columns and 0 <= v <= rows)
            u, v = np.clip(u - 0.5, 0, columns - 1), np.clip(v - 0.5, 0, rows - 1)
            left, top = min(int(u), columns - 2), min(int(v), rows - 2)
            a, b = u - left, v - top
            corners = image[top : top + 2, left : left + 2]
            across = corners[:, 0] * (1 - a) + corners[:, 1] * a
            values[row, column] = across[0] * (1 - b) + across[1] * b
    return values, inside


def sweep(
    reference: Camera, sources: list[Camera], depth: float, planes: np.ndarray, sharpness: float = 2
) -> Tensor:
    windows = Windows(photo(reference, depth), None, 1)
    found = [Source(photo(each, depth), transfer(reference, each)) for each in sources]
    rho = torch.from_numpy(planes.astype(np.float32))
    return compare(windows, found, rho, SIZE, sharpness).similarity


def test_sampling_equals_its_slow_twin_in_value_and_gradient() -> None:
    source = camera(0.3, OTHER_K, angle=0.1)
    pixels = transfer(camera(), source)
    image = photo(source, 2.0).requires_grad_()
    there = project(pixels, torch.tensor([0.4]), SIZE, SIZE)
    fast = sample(image[None], there.x, there.y)[0, 0]
    slow, inside = slow_sample(image, pixels, 0.4)
    torch.testing.assert_close(fast, slow, atol=2e-5, rtol=0)
    assert (there.inside[0] == inside).all()
    (one,) = torch.autograd.grad((fast**2).sum(), image)
    (other,) = torch.autograd.grad((slow**2).sum(), image)
    torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("angle", [0.1, np.pi - 0.1])
def test_warping_is_sampling_where_the_projection_says(angle: float) -> None:
    source = camera(0.3, OTHER_K, angle)
    layers = torch.stack((photo(source, 2.0), photo(source, 3.0, seed=1)))
    pixels = transfer(camera(), source)
    rho = torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(0))
    x, y = torch.arange(SIZE[1]) + 0.5, (torch.arange(SIZE[0]) + 0.5)[:, None]
    for inverse_depth in (torch.tensor([0.0, 0.4, 0.9]), rho):
        there = project(pixels, inverse_depth, SIZE, SIZE)
        planes = inverse_depth.reshape(3, *(inverse_depth.shape[1:] or (1, 1)))
        warped, inside = warp(layers, pixels, planes, x, y)
        assert (inside == there.inside).all()
        apart = (warped - sample(layers, there.x, there.y)).abs() * inside
        assert apart.max() < 1e-4


@pytest.mark.parametrize("weighted", [False, True])
def test_similarity_equals_its_slow_twin(weighted: bool) -> None:
    reference, warped = photo(camera(), 2.0), photo(camera(0.1), 2.0)
    weight = photo(camera(), 3.0, seed=5) if weighted else None
    fast = Windows(reference, weight, 2).similarity(warped[None])[0]
    slow = slow_similarity(reference, weight, warped, 2)
    torch.testing.assert_close(fast, slow, atol=2e-3, rtol=1e-3)


def test_box_sums_count_what_is_in_the_frame() -> None:
    sums = box_sum(torch.ones(1, 5, 6), 2)
    assert sums[0, 0, 0] == 9
    assert sums[0, 2, 2] == 25


@pytest.mark.parametrize("radius", [1, 3])
def test_box_sums_are_the_same_with_a_gradient_and_without(radius: int) -> None:
    values = torch.rand(3, 9, 14, generator=torch.Generator().manual_seed(0))
    kept = values.clone()
    plain, differentiable = (
        box_sum(values, radius),
        box_sum(values.clone().requires_grad_(), radius),
    )
    torch.testing.assert_close(plain, differentiable.detach())
    torch.testing.assert_close(box_sum(values.transpose(1, 2), radius), plain.transpose(1, 2))
    assert (values == kept).all()


@pytest.mark.parametrize("depth", [1.3, 2.0, 3.1])
def test_a_wall_is_found_at_the_plane_nearest_to_it(depth: float) -> None:
    planes = inverse_depth_planes(1, 5, 24)
    found = sweep(camera(), [camera(0.25), camera(-0.25)], depth, planes).argmax(dim=0)
    right = int(np.abs(planes - 1 / depth).argmin())
    assert ((found - right).abs()[:, 8:-8] <= 1).float().mean() > 0.97
    assert found[:, 8:-8].flatten().mode().values in (right, right - 1, right + 1)


def test_each_source_needs_its_own_intrinsics() -> None:
    planes = inverse_depth_planes(1, 5, 24)
    source = camera(0.25, OTHER_K)
    right = int(np.abs(planes - 0.5).argmin())
    own = sweep(camera(), [source], 2.0, planes)
    assert own[right, 5:-5, 8:-8].mean() > 0.9
    # The reference's K in the source's place, as published code has it.
    windows = Windows(photo(camera(), 2.0), None, 1)
    mistaken = Source(photo(source, 2.0), transfer(camera(), camera(0.25)))
    rho = torch.from_numpy(planes.astype(np.float32))
    wrong = compare(windows, [mistaken], rho, SIZE, 2).similarity
    assert wrong[right, 5:-5, 8:-8].mean() < 0.7


def test_a_source_in_the_same_place_agrees_at_every_depth_alike() -> None:
    similarity = sweep(camera(), [camera()], 2.0, inverse_depth_planes(1, 5, 8))
    torch.testing.assert_close(similarity, similarity[:1].expand_as(similarity))
    assert similarity.mean() > 0.95


def test_the_order_of_the_sources_does_not_matter() -> None:
    planes, sources = inverse_depth_planes(1, 5, 8), [camera(0.2), camera(-0.3), camera(0.1)]
    forward = sweep(camera(), sources, 2.0, planes)
    torch.testing.assert_close(forward, sweep(camera(), sources[::-1], 2.0, planes))
    # And the same photo twice is no more than once where all agree equally.
    torch.testing.assert_close(
        sweep(camera(), [camera(0.2)] * 12, 2.0, planes),
        sweep(camera(), [camera(0.2)], 2.0, planes),
        atol=1e-4,
        rtol=1e-3,
    )


def one_weighted(weights: Sequence[float | None]) -> plane_sweep.Agreement:
    reference = camera()
    windows = Windows(photo(reference, 2.0), None, 1)
    sources = [
        Source(
            photo(each, 2.0, seed),
            transfer(reference, each),
            None if weight is None else torch.full(SIZE, weight),
        )
        for seed, (each, weight) in enumerate(
            zip((camera(0.2), camera(-0.2)), weights, strict=True)
        )
    ]
    rho = torch.tensor([0.3, 0.5])
    return compare(windows, sources, rho, SIZE, 0)


def test_weights_are_per_source_and_do_not_cancel() -> None:
    equal, first, second = (one_weighted(w) for w in ([1, 1], [1, 0], [0, 1]))
    seen = (slice(None), slice(None), slice(8, -8))
    torch.testing.assert_close(
        equal.similarity[seen], (first.similarity + second.similarity)[seen] / 2, atol=1e-4, rtol=0
    )
    assert (first.similarity - second.similarity)[seen].abs().mean() > 0.1
    half = one_weighted([0.5, 0.5])
    torch.testing.assert_close(half.similarity[seen], equal.similarity[seen], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(half.evidence[seen], equal.evidence[seen] / 2)


def test_no_evidence_is_zero_and_finite() -> None:
    nothing = one_weighted([0, 0])
    assert (nothing.similarity == 0).all()
    assert (nothing.evidence == 0).all()


def test_masks_of_ones_change_nothing() -> None:
    torch.testing.assert_close(
        one_weighted([1, 1]).similarity, one_weighted([None, None]).similarity, atol=1e-6, rtol=0
    )


def test_a_hidden_source_gets_no_gradient() -> None:
    reference = camera()
    hidden = photo(camera(0.2), 2.0).requires_grad_()
    shown = photo(camera(-0.2), 2.0).requires_grad_()
    windows = Windows(photo(reference, 2.0), None, 1)
    sources = [
        Source(hidden, transfer(reference, camera(0.2)), torch.zeros(SIZE)),
        Source(shown, transfer(reference, camera(-0.2)), torch.ones(SIZE)),
    ]
    total = compare(windows, sources, torch.tensor([0.5]), SIZE, 2).similarity.sum()
    to_hidden, to_shown = torch.autograd.grad(total, (hidden, shown))
    assert (to_hidden == 0).all()
    assert to_shown.isfinite().all()
    assert to_shown.abs().sum() > 0


def test_windows_inside_a_mask_do_not_see_what_is_beside_it() -> None:
    inside = torch.zeros(SIZE)
    inside[:, 10:] = 1
    reference, warped = photo(camera(), 2.0), photo(camera(0.1), 2.0)
    other_reference, other_warped = reference.clone(), warped.clone()
    # The mean grey value stays, because variances are taken about it.
    other_reference[:, :10] = reference[:, :10].flip(0)
    other_warped[:, :10] = torch.rand(SIZE)[:, :10]
    one = Windows(reference, inside, 2).similarity(warped[None])[0]
    other = Windows(other_reference, inside, 2).similarity(other_warped[None])[0]
    torch.testing.assert_close(one[:, 10:], other[:, 10:], atol=1e-4, rtol=1e-4)


def test_what_is_left_out_beside_a_mask_is_the_same_as_all() -> None:
    mask = torch.zeros(SIZE)
    mask[4:15, 5:12] = torch.rand(11, 7, generator=torch.Generator().manual_seed(0)) + 0.01
    reference = camera()
    sources = [
        Source(photo(each, 2.0), transfer(reference, each), photo(each, 3.0, seed=1), carves)
        for each, carves in ((camera(0.2), True), (camera(-0.2, OTHER_K), False))
    ]
    some, every = (Windows(photo(reference, 2.0), mask, 2) for _ in range(2))
    assert some.pixels is not None
    every.pixels = torch.arange(mask.numel())
    rho = torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(1))
    for inverse_depth in (torch.tensor([0.3, 0.5]), rho):
        found, whole = (compare(each, sources, inverse_depth, SIZE, 2) for each in (some, every))
        torch.testing.assert_close(found.similarity, whole.similarity, atol=1e-6, rtol=0)
        for one, other in ((found.evidence, whole.evidence), (found.outside, whole.outside)):
            torch.testing.assert_close(one[:, mask > 0], other[:, mask > 0])
    assert (found.evidence[:, 0] == 0).all()
    assert (whole.evidence[:, 0] > 0).any()


def test_a_point_beside_the_silhouettes_is_outside_and_one_out_of_frame_is_not() -> None:
    reference = camera()
    windows = Windows(photo(reference, 2.0), None, 1)
    empty = torch.zeros(SIZE)
    carving = Source(photo(camera(0.2), 2.0), transfer(reference, camera(0.2)), empty, True)
    unknown = Source(photo(camera(0.2), 2.0), transfer(reference, camera(0.2)), empty, False)
    elsewhere = Source(
        photo(camera(0.2), 2.0), transfer(reference, camera(0.2, angle=np.pi)), empty, True
    )
    rho = torch.tensor([0.5])
    outside = compare(windows, [carving], rho, SIZE, 2).outside
    assert outside[:, 5:-5, 8:-8].min() > 0.99
    for source in (unknown, elsewhere):
        assert (compare(windows, [source], rho, SIZE, 2).outside == 0).all()


def test_points_behind_a_source_are_finite_and_not_inside() -> None:
    there = project(
        transfer(camera(), camera(0.2, angle=np.pi)), torch.tensor([0.0, 0.5]), SIZE, SIZE
    )
    assert not there.inside.any()
    assert there.x.isfinite().all()
    assert there.y.isfinite().all()


def test_chunks_cover_every_plane_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plane_sweep, "_BATCH", 3 * SIZE[0] * SIZE[1])
    parts = [list(range(100))[part] for part in chunks(10, SIZE)]
    assert [len(part) for part in parts] == [3, 3, 3, 1]
    assert [plane for part in parts for plane in part] == list(range(10))
    assert len(list(chunks(2, (10_000, 10_000)))) == 2
