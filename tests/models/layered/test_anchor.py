import cv2
import numpy as np
import torch
from torch import Tensor

from crispdepth.models.layered.anchor import CELL, DISTRUST, anchor
from crispdepth.ops.fill import pull_push
from crispdepth.types import Float32Map

SIZE = (96, 128)


def disk(radius: float) -> Tensor:
    y, x = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="ij")
    inside = (y + 0.5 - SIZE[0] / 2) ** 2 + (x + 0.5 - SIZE[1] / 2) ** 2 < radius**2
    return inside.float()[None, None]


def noise() -> Tensor:
    return 10 * torch.rand(1, 1, *SIZE, generator=torch.Generator().manual_seed(0))


def test_depth_far_inside_the_mask_is_kept() -> None:
    depth, far_inside = noise(), disk(20) > 0
    torch.testing.assert_close(anchor(depth, disk(36))[far_inside], depth[far_inside])


def test_what_the_mask_leaves_out_has_no_influence() -> None:
    mask = disk(30)
    depth = noise()
    other = torch.where(mask > 0, depth, 10 - depth)
    assert torch.equal(anchor(depth, mask), anchor(other, mask))


def test_a_constant_layer_is_continued_as_that_constant() -> None:
    for radius in (1.5, 12, 40):
        mask = disk(radius)
        depth = torch.where(mask > 0, 7.0, noise())
        torch.testing.assert_close(anchor(depth, mask), torch.full_like(depth, 7.0))


def test_it_stays_within_the_range_of_the_layer() -> None:
    depth, mask = noise(), disk(25)
    seen = depth[mask > 0]
    continued = anchor(depth, mask)
    assert continued.min() >= seen.min() - 1e-5
    assert continued.max() <= seen.max() + 1e-5


def test_it_follows_scale_and_shift_of_the_depth() -> None:
    depth, mask = noise(), disk(25)
    torch.testing.assert_close(anchor(3 * depth - 4, mask), 3 * anchor(depth, mask) - 4)


def test_an_empty_mask_gives_zero_and_finite_gradients() -> None:
    depth = noise().requires_grad_()
    continued = anchor(depth, torch.zeros_like(depth))
    (gradient,) = torch.autograd.grad(continued.sum(), depth)
    assert (continued == 0).all()
    assert gradient.isfinite().all()


def test_it_is_nearer_to_the_layer_than_blurred_depth_is() -> None:
    mask = disk(28)
    layer = 6 + 0.02 * torch.arange(SIZE[1]).expand(1, 1, *SIZE)
    truth = torch.where(mask > 0, layer, 2.0)
    rough = torch.from_numpy(cv2.GaussianBlur(truth[0, 0].numpy(), (0, 0), 3))[None, None]
    continued = anchor(rough, mask)
    band = (disk(34) > 0) & (disk(22) == 0)
    assert (continued - layer)[band].abs().mean() < 0.3 * (rough - layer)[band].abs().mean()


def test_it_is_pull_push_on_cells_by_their_trust() -> None:
    depth, mask = noise(), torch.zeros(1, 1, *SIZE)
    for row in range(0, SIZE[0], 32):  # full cells within every coarsest one
        for column in range(0, SIZE[1], 32):
            mask[..., row + 3 : row + 26, column + 5 : column + 27] = 1
    d, m = depth[0, 0].numpy(), mask[0, 0].numpy()

    cells = resized(m, 1 / CELL)
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(cells, 1, constant_values=np.nan), (3, 3)
    )
    fullness = np.nanmean(windows, axis=(2, 3))
    trust = (cells * np.maximum(2 * fullness - 1, DISTRUST)).astype(np.float32)
    value = np.divide(resized(d * m, 1 / CELL), cells, out=np.zeros_like(cells), where=cells > 0)
    filled = resized(pull_push(value, trust), CELL)
    expected = filled + m * resized(trust, CELL) * (d - filled)
    np.testing.assert_allclose(anchor(depth, mask)[0, 0].numpy(), expected, atol=1e-4)


def resized(x: Float32Map, factor: float) -> Float32Map:
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(x, None, fx=factor, fy=factor, interpolation=how), np.float32)
