"""How fast the cost volume of the multi-view network is, beside the same with `grid_sample`.

    python benchmarks/cost_volume.py

Every view is matched with all others on random features; no data is needed. Process time, of one
thread each, so that what else runs counts little. Writes cost_volume.md.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor

from crispdepth.io.atomic import write_text
from crispdepth.ops.correlation import correlate
from crispdepth.ops.cost_volume import (
    Pair,
    aggregate,
    inverse_depth_candidates,
    other_views,
    pixel_transfer,
    project,
    source_weight,
)
from crispdepth.ops.plane_sweep import Projection

Correlate = Callable[[Tensor, Tensor, Projection, int], Tensor]


@dataclass(frozen=True)
class Options:
    """Measure the speed of cost volumes."""

    views: int = 3
    """All of them are references."""

    size: tuple[int, int] = (64, 80)
    """Of the features, (h, w)."""

    channels: int = 32
    """Of the features."""

    planes: int = 64
    """Inverse depths."""

    groups: tuple[int, ...] = (1, 4, 8)
    """Of channels."""

    repeats: int = 3
    """The best counts."""

    threads: int = 1
    """That torch may use."""

    out: Path = Path(__file__).parent / "results"
    """Where cost_volume.md goes."""


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    lines = [
        f"{options.views} views of {options.size[0]} x {options.size[1]}, {options.channels} "
        f"channels, {options.planes} planes; ms of process time, {options.threads} thread(s)",
        "",
        "| groups | all at once with grid_sample | ours | gradient, grid_sample | ours |",
        "|---|---|---|---|---|",
    ]
    for groups in options.groups:
        times = [
            each
            for learn in (False, True)
            for each in (
                milliseconds(options, naive, groups, learn),
                milliseconds(options, correlate, groups, learn),
            )
        ]
        lines.append("| " + " | ".join([str(groups), *(f"{each:.0f}" for each in times)]) + " |")
    text = "\n".join(lines) + "\n"
    print(text)
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / "cost_volume.md", text)


def naive(reference: Tensor, source: Tensor, where: Projection, groups: int) -> Tensor:
    """What networks do: one warped volume of features, multiplied and summed."""
    height, width = source.shape[2:]
    grid = torch.stack((where.x * (2 / width) - 1, where.y * (2 / height) - 1), dim=-1)
    warped = F.grid_sample(
        source, grid.flatten(1, 2), padding_mode="border", align_corners=False
    ).view(*source.shape[:2], *where.x.shape[1:])
    products = torch.unflatten(warped * reference[:, :, None], 1, (groups, -1))
    return products.sum(dim=2)


def milliseconds(options: Options, method: Correlate, groups: int, learn: bool) -> float:
    """Of the whole volume, or of a gradient through it less the volume itself."""
    rng = torch.Generator().manual_seed(0)
    shape = options.views, options.channels, *options.size
    features = torch.randn(shape, generator=rng).requires_grad_(learn)
    best = float("inf")
    for _ in range(options.repeats):
        start = time.process_time()
        volume = swept(features, options, method, groups)
        if learn:
            start = time.process_time()
            torch.autograd.grad(volume.sum(), features)
        best = min(best, time.process_time() - start)
    return 1000 * best


def swept(features: Tensor, options: Options, method: Correlate, groups: int) -> Tensor:
    """The volumes of all views; the cameras stand beside each other, turned a little."""
    (height, width), views = options.size, options.views
    K = torch.tensor([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
    K = K.expand(views, 3, 3)
    poses = torch.eye(4).repeat(views, 1, 1)
    poses[:, 0, 3] = torch.linspace(-0.3, 0.3, views)
    poses[:, 1, 3] = torch.linspace(0.1, -0.1, views)
    near = torch.ones(views)
    rho = inverse_depth_candidates(near, 8 * near, options.planes)

    def pair(view: Tensor) -> Pair:
        pixels = pixel_transfer(K, poses, K[view], poses[view])
        where = project(pixels, rho, options.size, options.size)
        return Pair(method(features, features[view], where, groups), source_weight(where, None))

    pairs = (pair(view) for view in other_views(views, features.device).t())
    size = (views, groups, options.planes, *options.size)
    return aggregate(pairs, size, features.device).cost


if __name__ == "__main__":
    main(tyro.cli(Options))
