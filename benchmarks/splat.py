"""Gaussians: speed and memory of the rasteriser, and quality of views that were not used.

    python benchmarks/splat.py speed
    python benchmarks/splat.py quality --data DIR

``speed`` renders random discs on a ball at 480x480, forward and backward. ``quality`` takes the
scenes of DIR/objects: Gaussians from the exact depth of every other view, with and without masks,
straight from depth, after boundary decomposition and after fitting, seen by the other views on
white. Prints tables.
"""

import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from tyro.conf import Positional

from crispdepth.evaluation.views import floater_ratio, psnr, silhouette_iou, ssim
from crispdepth.io.scenes import read_scene
from crispdepth.ops.splat import Splats, render
from crispdepth.tasks.splat import merge_gaussians, pixel_gaussians
from crispdepth.tasks.splat_boundary import Way, decompose
from crispdepth.tasks.splat_fit import FitOptions, fit_gaussians
from crispdepth.types import Gaussians, View, ViewDepth


@dataclass(frozen=True)
class Options:
    """What to measure, and on what."""

    what: Positional[Literal["speed", "quality"]]
    data: Path = Path("data")  # the folder that has objects/
    objects: tuple[str, ...] = ()  # names; without any, all
    counts: tuple[int, ...] = (10_000, 100_000)  # Gaussians of the speed test
    repeats: int = 5  # of which the fastest counts
    device: str = "cpu"
    fit: FitOptions = field(default_factory=FitOptions)


def main(options: Options) -> None:
    if options.what == "speed":
        speed(options)
    else:
        quality(options)


def speed(options: Options) -> None:
    threads = torch.get_num_threads()
    print(f"480x480 on {options.device}, {threads} threads, fastest of {options.repeats}.")
    print("| Gaussians | radius px | forward ms | backward ms | peak MB of the process |")
    print("|---:|---:|---:|---:|---:|")
    for count in options.counts:
        for radius in (1.0, 3.0):
            forward, backward = _time(count, radius, options)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            forward, backward = 1e3 * forward, 1e3 * backward
            print(f"| {count} | {radius:g} | {forward:.1f} | {backward:.1f} | {peak:.0f} |")


def _time(count: int, radius_px: float, options: Options) -> tuple[float, float]:
    rng, device = torch.Generator().manual_seed(0), torch.device(options.device)
    focal, distance, size = 660.0, 3.0, (480, 480)
    means = torch.nn.functional.normalize(torch.randn(count, 3, generator=rng), dim=1) * 0.8
    values = [
        means,
        (0.5 + torch.rand(count, 3, generator=rng)) * radius_px / 2 * distance / focal,
        torch.randn(count, 4, generator=rng),
        torch.rand(count, generator=rng) * 0.9 + 0.1,
        torch.randn(count, 1, 3, generator=rng) * 0.5,
    ]
    splats = Splats(*(value.to(device).requires_grad_() for value in values))
    K = torch.tensor([[focal, 0, 240], [0, focal, 240], [0, 0, 1]], device=device)
    pose = torch.eye(4, device=device)
    pose[2, 3] = distance
    times = []
    for _ in range(options.repeats):
        started = _now(device)
        seen = render(splats, K, pose, size)
        rendered = _now(device)
        torch.autograd.backward(seen.colour.square().sum() + seen.alpha.sum())
        times.append((rendered - started, _now(device) - rendered))
    forward, backward = zip(*times, strict=True)
    return min(forward), min(backward)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def quality(options: Options) -> None:
    folders = sorted(path for path in (options.data / "objects").iterdir() if path.is_dir())
    print("| object | Gaussians | count | s | PSNR | masked PSNR | SSIM | IoU | floaters |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for folder in folders:
        if options.objects and folder.name not in options.objects:
            continue
        views = list(read_scene(folder))
        for name, seconds, gaussians in variants(views[::2], options):
            numbers = score(gaussians, views[1::2], views, options.device)
            row = " | ".join(f"{number:.4g}" for number in numbers)
            print(
                f"| {folder.name} | {name} | {len(gaussians)} | {seconds:.0f} | {row} |", flush=True
            )


def variants(views: Sequence[View], options: Options) -> Iterator[tuple[str, float, Gaussians]]:
    """Gaussians of some views by name, with the seconds that this step took."""
    unknown = [replace(view, masks=None) for view in views]
    for name, shown in (("depth", unknown), ("depth and masks", views)):
        started = time.perf_counter()
        merged = merge_gaussians([pixel_gaussians(view, _exact(view)) for view in shown])
        yield name, time.perf_counter() - started, merged
        ways: tuple[Way, ...] = ("shrink", "split") if shown is views else ()
        for way in ways:
            started, cut = time.perf_counter(), merged
            for view in views:
                assert view.camera is not None
                assert view.masks is not None
                cut = decompose(cut, view.camera, view.masks[0], way)
            yield f"{name}, {way}", time.perf_counter() - started, cut
        started = time.perf_counter()
        fitted = fit_gaussians(merged, shown, options.fit)
        yield f"{name}, fitted", time.perf_counter() - started, fitted


def _exact(view: View) -> ViewDepth:
    assert view.depth is not None
    return ViewDepth(view.depth, view.depth.usable.astype(np.float32))


def score(
    gaussians: Gaussians, views: Sequence[View], every: Sequence[View], device: str
) -> NDArray[np.float64]:
    """Means over the views of PSNR, masked PSNR, SSIM and IoU, then the floater ratio."""
    names = ("means", "scales", "rotations", "opacities", "sh")
    splats = Splats(*(torch.tensor(getattr(gaussians, name), device=device) for name in names))
    rows = []
    for view in views:
        assert view.camera is not None
        assert view.masks is not None
        K = torch.tensor(view.camera.K, dtype=torch.float32, device=device)
        pose = torch.tensor(view.camera.cam_from_world, dtype=torch.float32, device=device)
        with torch.no_grad():
            seen = render(splats, K, pose, view.camera.size)
        alpha, mask = seen.alpha.cpu().numpy(), view.masks[0]
        image = seen.colour.cpu().numpy() + (1 - alpha)[..., None]
        truth = view.image / 255 * mask[..., None] + 1 - mask[..., None]
        rows.append(
            (psnr(image, truth), psnr(image, truth, mask), ssim(image, truth),
             silhouette_iou(alpha, mask))
        )  # fmt: skip
    cameras = [view.camera for view in every if view.camera is not None]
    masks = [view.masks[0] for view in every if view.masks is not None]
    return np.array([*np.mean(rows, axis=0), floater_ratio(gaussians, cameras, masks)])


if __name__ == "__main__":
    main(tyro.cli(Options))
