"""Gaussians by the head of the multi-view network beside those made of the same depth by rule.

    python benchmarks/gaussian_head.py --data DIR [--held-out DIR ...] --weights RUN [--steps 100]

Of each scene every fourth view is held back; the others are looked at a few at a time. Depth is
that of the network as it is (``raw``), or of the whole program, corrected by the other views
(``whole``). Gaussians are ``by rule`` (`crispdepth.tasks.splat`) or ``by the head``, both of the
same pixels, as they are (all) or one where views show the same (merged), and these after a fit of
``--steps``. Prints, for each scene and as means over each group, PSNR, PSNR of the object's pixels
and SSIM of the views held back, before white, and seconds of process time.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_args

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from crispdepth.evaluation.views import psnr, ssim
from crispdepth.geometry.bounds import bounds_from_masks
from crispdepth.io.scenes import open_scene
from crispdepth.models.multiview.network import MultiviewNetwork
from crispdepth.ops.splat import Splats, render
from crispdepth.tasks.multiview import estimate_depths
from crispdepth.tasks.multiview_config import MultiviewConfig
from crispdepth.tasks.splat import concatenate, merge_gaussians, pixel_gaussians
from crispdepth.tasks.splat_fit import FitOptions, fit_gaussians
from crispdepth.tasks.splat_network import TOGETHER, Seen, gaussians_of, looked_at, sightings
from crispdepth.training.checkpoint import load_part
from crispdepth.training.fit import LAST
from crispdepth.types import DepthMap, Gaussians, MaskSet, Scene, View, ViewDepth

Depth = Literal["raw", "whole"]

HELD_BACK = 4
"""One view of so many is held back."""


@dataclass(frozen=True)
class Options:
    """What to measure."""

    data: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder with rooms, objects and settings."""

    weights: Path
    """A run that has trained the head."""

    groups: tuple[str, ...] = ("rooms", "objects", "settings")
    """Which of them."""

    scenes: tuple[str, ...] = ()
    """Names of scenes; without any, all."""

    held_out: tuple[Path, ...] = ()
    """Folders of scenes of one's own."""

    depths: tuple[Depth, ...] = get_args(Depth)
    """Of which depth."""

    longer: int = 256
    """Longer side of the photos, pixels."""

    steps: int = 100
    """Of the fit; 0: none."""

    threads: int = 1
    """Of torch."""


class Row(NamedTuple):
    """What one way of making Gaussians came to."""

    depth: str
    gaussians: str
    values: NDArray[np.float64]  # count, seconds, PSNR, masked PSNR, SSIM


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    network = load(options.weights)
    folders = {name: options.data / name for name in options.groups}
    folders |= {path.name: path for path in options.held_out}
    print("| scene | depth | Gaussians | count | s | PSNR | masked PSNR | SSIM |")
    print("|---|---|---|---:|---:|---:|---:|---:|")
    for group, folder in folders.items():
        found: dict[tuple[str, str], list[NDArray[np.float64]]] = {}
        for path in sorted(path for path in folder.iterdir() if path.is_dir()):
            if options.scenes and path.name not in options.scenes:
                continue
            scene = open_scene(path, longest=options.longer).scene
            for row in rows(network, scene, options):
                found.setdefault((row.depth, row.gaussians), []).append(row.values)
                show(path.name, row.depth, row.gaussians, row.values)
        for (depth, name), values in found.items():
            show(f"**{group}**", depth, name, np.mean(values, axis=0))


def show(*parts: object) -> None:
    """A line of the table."""
    *names, values = parts
    count, *figures = np.asarray(values)
    numbers = [f"{count:.0f}", *(f"{figure:.4g}" for figure in figures)]
    print(f"| {' | '.join([*map(str, names), *numbers])} |", flush=True)


def load(run: Path) -> MultiviewNetwork:
    """The averaged network of the last step of a run, in evaluation mode."""
    from crispdepth.models.presets import MULTIVIEW

    network = MultiviewNetwork(replace(MULTIVIEW["multiview-small"], gaussians=True))
    load_part(run / LAST, "ema.module", network)
    return network.eval()


def rows(network: MultiviewNetwork, scene: Scene, options: Options) -> Iterator[Row]:
    """All ways, on one scene."""
    held = [*range(HELD_BACK // 2, len(scene), HELD_BACK)]
    shown = [index for index in range(len(scene)) if index not in held]
    inputs, tests = [scene[i] for i in shown], [scene[i] for i in held]
    part = replace(
        scene,
        names=tuple(scene.names[i] for i in shown),
        cameras=tuple(scene.cameras[i] for i in shown),
        read=lambda index: inputs[index],
    )
    fit = FitOptions(steps=options.steps, size=options.longer)
    for depth in options.depths:
        groups = [*look(network, part, inputs, depth, options.longer)]
        started = time.process_time()
        by_rule = [pixel_gaussians(*pair) for seen in groups for pair in as_views(seen, scene.unit)]
        seconds = time.process_time() - started
        started = time.process_time()
        by_head = [each for seen in groups for each in gaussians_of(network, seen)]
        for name, parts, spent in (
            ("by rule", by_rule, seconds),
            ("by the head", by_head, time.process_time() - started),
        ):
            merged = merge_gaussians([degree_0(each) for each in parts])
            for how, made in (("all", concatenate(parts)), ("merged", merged)):
                yield Row(depth, f"{name}, {how}", measured(made, tests, spent))
            if options.steps:
                started = time.process_time()
                fitted = fit_gaussians(merged, inputs, fit)
                spent = time.process_time() - started
                yield Row(depth, f"{name}, merged, fitted", measured(fitted, tests, spent))


def degree_0(gaussians: Gaussians) -> Gaussians:
    """The same in one colour from all sides."""
    return replace(gaussians, sh=gaussians.sh[:, :1])


def look(
    network: MultiviewNetwork, scene: Scene, views: list[View], depth: Depth, longer: int
) -> Iterator[Seen]:
    """The views, a few at a time, with their depth."""
    device = torch.device("cpu")
    near, far = bounds_of(scene, views)
    depths: list[ViewDepth] | None = None
    if depth == "whole":
        config = MultiviewConfig(quality="preview")
        depths = [found for _, found in estimate_depths(scene, config, network=network)]
    for first in range(0, len(views), TOGETHER):
        group = slice(first, first + TOGETHER)
        photos = sightings(views[group], longer)
        yield looked_at(
            network, photos, near, far, device, None if depths is None else depths[group]
        )


def bounds_of(scene: Scene, views: list[View]) -> tuple[float, float]:
    """The range of depth: of the object, or of the scene."""
    masks = [None if view.masks is None else view.masks[0] for view in views]
    hulls = [bounds_from_masks(scene.cameras, masks, i) for i in range(0, len(views), 3)]
    known = [hull for hull in hulls if hull is not None]
    if known:
        return min(near for near, _ in known), max(far for _, far in known)
    assert scene.bounds is not None
    return scene.bounds


def as_views(seen: Seen, unit: Literal["m", "relative"]) -> Iterator[tuple[View, ViewDepth]]:
    """What was looked at as views with depth, of the same pixels."""
    confidence = torch.nn.functional.interpolate(seen.found.probability, scale_factor=2)[0].numpy()
    for number, photo in enumerate(seen.photos):
        z = (1 / seen.found.inverse_depth[0, number]).numpy()
        known = seen.known[0, number, 0].numpy()
        view = View(
            name=str(number),
            image=photo.rgb,
            camera=photo.camera,
            masks=None if photo.weight is None else MaskSet(photo.weight[None]),
        )
        depth = DepthMap(z, "depth", unit, known >= 0.5, photo.camera)
        yield view, ViewDepth(depth, confidence[number])


def measured(gaussians: Gaussians, views: list[View], seconds: float) -> NDArray[np.float64]:
    """Count, seconds, and means over the views of PSNR, masked PSNR and SSIM."""
    names = ("means", "scales", "rotations", "opacities", "sh")
    splats = Splats(*(torch.from_numpy(getattr(gaussians, name)) for name in names))
    figures = []
    for view in views:
        assert view.camera is not None
        K, pose = (
            torch.tensor(part, dtype=torch.float32)
            for part in (view.camera.K, view.camera.cam_from_world)
        )
        with torch.no_grad():
            shown = render(splats, K, pose, view.camera.size)
        image = (shown.colour + (1 - shown.alpha)[..., None]).numpy()
        truth = view.image / 255
        mask = np.ones(view.camera.size, np.float32) if view.masks is None else view.masks[0]
        truth = truth * mask[..., None] + 1 - mask[..., None]
        figures.append((psnr(image, truth), psnr(image, truth, mask), ssim(image, truth)))
    return np.array([len(gaussians), seconds, *np.mean(figures, axis=0)])


if __name__ == "__main__":
    main(tyro.cli(Options))
