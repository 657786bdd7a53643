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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_args

import cv2
import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from crispdepth.evaluation.views import psnr, ssim
from crispdepth.geometry.bounds import bounds_from_masks
from crispdepth.io.scenes import open_scene
from crispdepth.models.multiview.network import MultiviewNetwork, MultiviewPrediction
from crispdepth.ops.resample import size_within
from crispdepth.ops.splat import Splats, render
from crispdepth.tasks.multiview import estimate_depths
from crispdepth.tasks.multiview_config import MultiviewConfig
from crispdepth.tasks.multiview_network import Sighting, cut_to_mask, of_one_size, tensor
from crispdepth.tasks.multiview_photos import prepare
from crispdepth.tasks.splat import concatenate, merge_gaussians, pixel_gaussians
from crispdepth.tasks.splat_fit import FitOptions, fit_gaussians
from crispdepth.training.checkpoint import load_part
from crispdepth.training.fit import LAST
from crispdepth.types import DepthMap, Float32Map, Gaussians, MaskSet, Scene, View, ViewDepth

Depth = Literal["raw", "whole"]

HELD_BACK = 4
"""One view of so many is held back."""

TOGETHER = 6
"""Views that are looked at together; the next ones in the order of the scene."""

_LEAST_CONFIDENCE = 0.1  # below it a pixel becomes no Gaussian
_LEAST_OPACITY = 0.02  # and below this one


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


class Seen(NamedTuple):
    """Views of one size with their depth, and what the network makes of them."""

    photos: list[Sighting]
    found: MultiviewPrediction  # its depth is that of the views, if they have one
    known: Tensor  # (1, V, 1, H, W) in [0, 1]: mask, and whether there is a depth


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


def sightings(views: Sequence[View], longer: int) -> list[Sighting]:
    """The photos of views with what their masks say, in windows of one size about these."""
    photos = []
    for view in views:
        assert view.camera is not None
        photo = prepare(view, size_within(longer, view.camera.size))
        inside = photo.evidence.inside is not None
        photos.append(Sighting(photo.camera, photo.seen, photo.evidence.weight, carves=inside))
    return of_one_size([cut_to_mask(photo)[0] for photo in photos])


@torch.inference_mode()
def looked_at(
    network: MultiviewNetwork,
    photos: list[Sighting],
    near: float,
    far: float,
    device: torch.device,
    depths: Sequence[ViewDepth] | None = None,
) -> Seen:
    """What the network makes of photos of one size, all at once.

    Their depth is that of ``depths``, in any size; None: that of the network.
    """
    images, K, poses, masks = _inputs(photos, device)
    bounds = torch.full((2, 1, len(photos)), near, device=device)
    bounds[1] = far
    carve = all(photo.carves for photo in photos if photo.weight is not None)
    found = network(images, K, poses, bounds[0], bounds[1], masks, carve=carve)
    known = torch.ones_like(images[:, :, :1]) if masks is None else masks
    if depths is not None:
        given = [_in_window(*pair, far) for pair in zip(photos, depths, strict=True)]
        inverse, sure = (tensor(np.stack(parts), device) for parts in zip(*given, strict=True))
        found = found._replace(inverse_depth=inverse, probability=F.avg_pool2d(sure, 2))
        known = known * (sure >= _LEAST_CONFIDENCE)[:, :, None]
    return Seen(photos, found, known)


@torch.inference_mode()
def gaussians_of(network: MultiviewNetwork, seen: Seen) -> list[Gaussians]:
    """Of each of the views, those that can be seen at all."""
    images, K, poses, _ = _inputs(seen.photos, seen.known.device)
    return [_visible(each) for each in network.splats(images, seen.found, K, poses, seen.known)]


def _visible(splats: Splats) -> Gaussians:
    kept = splats.opacities >= _LEAST_OPACITY
    means, scales, turns, opacities, sh = (part[kept].cpu().numpy() for part in splats[:5])
    return Gaussians(means, scales, turns, opacities, sh)


def _inputs(
    photos: Sequence[Sighting], device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Images in [0, 1], K, poses and masks, each with a batch of 1."""
    weights = [photo.weight for photo in photos if photo.weight is not None]
    images = np.stack([photo.rgb for photo in photos]).transpose(0, 3, 1, 2)
    return (
        tensor(images, device) / 255,
        tensor(np.stack([photo.camera.K for photo in photos]), device),
        tensor(np.stack([photo.camera.cam_from_world for photo in photos]), device),
        tensor(np.stack(weights)[:, None], device) if weights else None,
    )


def _in_window(photo: Sighting, given: ViewDepth, far: float) -> tuple[Float32Map, Float32Map]:
    """Inverse depth in the pixels of a window on the same view, and how sure it is, 0 = unknown."""
    camera = given.depth.camera
    assert camera is not None
    height, width = photo.camera.size
    there_from_here = (camera.K @ np.linalg.inv(photo.camera.K))[:2]
    shifted = there_from_here @ np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
    shifted[:, 2] -= 0.5
    how = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    sure = np.where(given.depth.usable, given.confidence, 0)
    z, sure = (
        cv2.warpAffine(np.asarray(values, np.float32), shifted, (width, height), flags=how)
        for values in (given.depth.values, sure)
    )
    inverse = np.where(sure > 0, 1 / np.where(sure > 0, z, 1), 1 / far)
    return inverse.astype(np.float32), np.asarray(sure, np.float32)


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
    confidence = F.interpolate(seen.found.probability, scale_factor=2)[0].numpy()
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
    splats = Splats(*(torch.tensor(getattr(gaussians, name)) for name in names))
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
