"""How well relative depth is aligned to sparse points of which some are wrong.

    python benchmarks/align_to_points.py --data rooms settings

Each folder holds scenes with true depth and, as ``init``, relative inverse depth of a monocular
network. Points are drawn on the true surfaces of all views together, so that a view does not see
all that are in its picture, with noise along their rays; a share of them is moved anywhere. Beside
the mean relative error of the aligned depth stands that of the best alignment there is: the least
squares fit of inverse depth to the truth of all pixels. Prints a table.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tyro
from numpy.typing import NDArray

from crispdepth.geometry.align import depth_by_points, fit_scale_shift
from crispdepth.geometry.backproject import pixel_rays
from crispdepth.geometry.depth import inverse_depth
from crispdepth.io.depths import read_depth
from crispdepth.io.scenes import read_scene
from crispdepth.types import DepthMap, View

NOISE = 0.01
"""Standard deviation of the points' depth, as a share of it."""

MOVED = (0.3, 3.0)
"""What the coordinates of wrong points are multiplied by, at least and at most."""


@dataclass(frozen=True)
class Options:
    """What to measure on."""

    data: tuple[Path, ...]
    """Folders of scenes."""

    points: int = 200
    """Drawn from each view."""

    wrong: float = 0.1
    """Share of the points that are moved."""

    every: int = 2
    """Views between those that are used."""


def main(options: Options) -> None:
    print("| scenes | views | aligned, AbsRel % | best fit % | ms a view |")
    print("|---|---:|---:|---:|---:|")
    for group in options.data:
        rows = []
        for folder in sorted(path for path in group.iterdir() if path.is_dir()):
            scene = read_scene(folder)
            views = [scene[index] for index in range(0, len(scene), options.every)]
            rng = np.random.default_rng(0)
            points = np.concatenate([on_surface(view, options.points, rng) for view in views])
            moved = rng.choice(len(points), round(options.wrong * len(points)), replace=False)
            points[moved] *= rng.uniform(*MOVED, (len(moved), 1))
            rows += [measure(view, folder / "init", points) for view in views]
        aligned, best, seconds = np.mean(rows, axis=0)
        print(
            f"| {group.name} | {len(rows)} | {100 * aligned:.1f} | {100 * best:.1f} | "
            f"{1000 * seconds:.0f} |",
            flush=True,
        )


def on_surface(view: View, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Points (count, 3), world, of pixels of the view."""
    assert view.depth is not None
    assert view.camera is not None
    pixels = rng.choice(np.flatnonzero(view.depth.usable), count)
    z = view.depth.values.ravel()[pixels] * rng.normal(1, NOISE, count)
    points = pixel_rays(view.camera).reshape(-1, 3)[pixels] * z[:, None]
    world = np.linalg.inv(view.camera.cam_from_world)
    return np.asarray(points @ world[:3, :3].T + world[:3, 3], np.float64)


def measure(view: View, folder: Path, points: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean relative errors of the aligned depth and of the best fit, and processor seconds."""
    assert view.depth is not None
    rough = read_depth(folder / f"{Path(view.name).stem}.png").depth
    rough = replace(rough, camera=view.camera)
    start = time.process_time()
    aligned = depth_by_points(rough, points, "m", np.random.default_rng(0))
    seconds = time.process_time() - start
    known = view.depth.usable & rough.usable
    fit = fit_scale_shift(rough.values, inverse_depth(view.depth), known)
    best = DepthMap(fit.apply(rough.values).astype(np.float32), "inverse_depth", "m")
    return (*(error(each, view.depth) for each in (aligned, best)), seconds)


def error(depth: DepthMap, truth: DepthMap) -> float:
    """AbsRel where both are known."""
    known = depth.usable & truth.usable & (inverse_depth(depth) > 0)
    ratio = inverse_depth(truth)[known] / inverse_depth(depth)[known]  # of depth to true depth
    return float(np.abs(ratio - 1).mean())


if __name__ == "__main__":
    main(tyro.cli(Options))
