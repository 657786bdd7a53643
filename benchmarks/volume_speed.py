"""How long learned fusion takes on this machine, and what the time goes into.

    python benchmarks/volume_speed.py

Cameras inside an analytic box look in all directions; features are noise, which costs the same as
any. Stage 2 of the preset for CPUs, with and without the way back: back-projection (add),
PosedConv (unify), hourglasses (regress). Times are of the processor, of all threads together, so
that what else the machine does counts for less. Writes volume_speed.md and volume_speed.json.
"""

import json
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import get_args

import numpy as np
import torch
import tyro
from torch import Tensor

from crispdepth.geometry.voxel_grid import Index, VoxelGrid
from crispdepth.io.atomic import write_text
from crispdepth.models.volume.config import FusionConfig, Rotation
from crispdepth.models.volume.fusion import FusionNetwork

SIZE = (60, 80)
FOCAL = 70.0


@dataclass(frozen=True)
class Options:
    """Measure the speed of learned fusion."""

    out: Path = Path(__file__).parent / "results"
    """Where volume_speed.md and volume_speed.json go."""

    shapes: tuple[Index, ...] = ((64, 32, 64), (96, 48, 96))
    """Voxels of the volumes, of 6 cm."""

    views: int = 20
    """Views of 80 x 60 features."""

    channels: int = 16
    """Channels of features and of hourglasses."""

    threads: int = 1
    """Of the processor."""


@dataclass(frozen=True)
class Case:
    """One measured configuration; seconds of the processor."""

    shape: Index
    rotation: str
    bins: int  # rotations that occur
    add: float
    unify: float
    regress: float
    forward: float
    backward: float  # of a forward pass with gradients, after it


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    cases = []
    for shape in options.shapes:
        for rotation in get_args(Rotation):
            cases.append(measured(shape, rotation, options))
            print(cases[-1], flush=True)
    lines = [
        f"{options.views} views, {options.channels} channels, {options.threads} thread(s); "
        "seconds of the processor.",
        "",
        "| voxels | kernels | rotations | add | unify | regress | forward | backward |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {'x'.join(map(str, case.shape))} | {case.rotation} | {case.bins} | {case.add:.2f} "
        f"| {case.unify:.2f} | {case.regress:.2f} | {case.forward:.2f} | {case.backward:.2f} |"
        for case in cases
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / "volume_speed.md", "\n".join(lines) + "\n")
    text = json.dumps([asdict(case) for case in cases], indent=1)
    write_text(options.out / "volume_speed.json", text + "\n")


def measured(shape: Index, rotation: Rotation, options: Options) -> Case:
    """The best of two runs, of each part."""
    x, y, z = (-(side // 2) for side in shape)
    grid = VoxelGrid(0.06, (x, y, z), shape)
    config = FusionConfig(
        rotation, embedding="tsdf", residual=True, width=options.channels, hourglasses=1
    )
    network = FusionNetwork(config, options.channels)
    views = inside_a_box(grid, options.views)
    features = torch.rand(options.views, options.channels, *SIZE)
    network.eval()
    with torch.inference_mode():
        bins, *once = passed(network, grid, features, views)
        _, *again = passed(network, grid, features, views)
    add, unify, regress = (min(pair) for pair in zip(once, again, strict=True))
    network.train()
    accumulator = network.accumulator(grid, features.device)
    for each, view in zip(features.requires_grad_(), views, strict=True):
        accumulator.add(each, *view)
    answer = network.regress(network.unify(accumulator))
    start = time.process_time()
    torch.autograd.backward(answer.mean())
    backward = time.process_time() - start
    forward = add + unify + regress
    return Case(shape, rotation, int(bins), add, unify, regress, forward, backward)


def passed(
    network: FusionNetwork,
    grid: VoxelGrid,
    features: Tensor,
    views: list[tuple[Tensor, Tensor, Tensor]],
) -> tuple[float, ...]:
    """How many rotations occurred, and seconds of the three parts."""
    times = [time.process_time()]
    accumulator = network.accumulator(grid, features.device)
    for each, view in zip(features, views, strict=True):
        accumulator.add(each, *view)
    times.append(time.process_time())
    volume = network.unify(accumulator)
    times.append(time.process_time())
    network.regress(volume)
    times.append(time.process_time())
    return len(accumulator.sums), *(end - start for start, end in pairwise(times))


def inside_a_box(grid: VoxelGrid, count: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """K, cam_from_world and depth of cameras in a box that nearly fills the grid; y is down."""
    rng = np.random.default_rng(0)
    half = np.array(grid.shape) * grid.voxel_size / 2 * 0.9
    K = np.array([[FOCAL, 0, SIZE[1] / 2], [0, FOCAL, SIZE[0] / 2], [0, 0, 1]])
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ np.linalg.inv(K).T
    views = []
    for turn in 2 * np.pi * np.arange(count) / count:
        eye = rng.uniform(-0.5, 0.5, 3) * half
        forward = np.array([np.cos(turn), rng.uniform(-0.3, 0.6), np.sin(turn)])
        forward /= np.linalg.norm(forward)
        right = np.cross([0, 1, 0], forward)
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(forward, right), forward])
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation, -rotation @ eye
        directions = rays @ rotation
        depth = np.maximum((half - eye) / directions, (-half - eye) / directions).min(axis=-1)
        views.append(
            (
                torch.from_numpy(K).float(),
                torch.from_numpy(pose).float(),
                torch.from_numpy(depth).float(),
            )
        )
    return views


if __name__ == "__main__":
    main(tyro.cli(Options))
