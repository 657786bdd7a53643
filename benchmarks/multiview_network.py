"""The multi-view network beside the classical sweep: dense depth of every pixel that has a truth.

    python benchmarks/multiview_network.py tables --data DIR [--held-out DIR ...] [--views 4]
        [--stereo DIR] [--consistent 0]
    python benchmarks/multiview_network.py robustness --data DIR
    python benchmarks/multiview_network.py speed

``DIR`` holds rooms, objects and settings, ``--held-out`` folders of scenes by `crispdepth synth`
that no training has seen. `tables` writes multiview_network.md: AbsRel, its median, RMSE, the share
within 25 % (delta 1) and AbsRel in the band of 3 pixels inside silhouettes, means over views;
seconds of process time a view. All views of a scene are matched and corrected by each other; a
pixel without an answer gets the depth of the nearest that has one. How many another view confirms
is a column; in masks most others have the depth that other views show there.
`robustness` spoils the masks; `speed` times the network alone. Every row of a table is measured in
the same run.
"""

import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import cv2
import numpy as np
import torch
import tyro
from scipy.ndimage import distance_transform_edt

from charts import Chart, drawn
from crispdepth.data.mask_errors import spoiled
from crispdepth.geometry.bounds import bounds_from_masks
from crispdepth.io.atomic import write_text
from crispdepth.io.images import write_image
from crispdepth.io.scenes import open_scene
from crispdepth.models.multiview.network import MultiviewNetwork
from crispdepth.models.volume.stereo import StereoNetwork
from crispdepth.models.weights import load_multiview, load_stereo
from crispdepth.ops.mask_contract import erode, evidence, grow
from crispdepth.tasks.multiview import estimate_depths
from crispdepth.tasks.multiview_config import LONGER_SIDE, MultiviewConfig, Quality
from crispdepth.types import BoolMap, Float32Map, MaskSet, Scene, View

RESULTS = Path(__file__).parent / "results"

BAND = 3
"""Pixels inside a silhouette that make up its band."""

Spoil = Callable[[Float32Map, int], Float32Map | None]
"""A mask made of a mask and the number of its view; None: the view has none."""


@dataclass(frozen=True)
class Tables:
    """The table of methods and scenes."""

    data: Path
    """Folder with rooms, objects and settings."""

    groups: tuple[str, ...] = ("rooms", "objects", "settings")
    """Which of them."""

    held_out: tuple[Path, ...] = ()
    """Folders of scenes of one's own."""

    views: int = 4
    """Views measured of each scene, evenly spread; with all of them the seconds are known, too."""

    quality: Quality = "normal"
    """Size of the depth maps."""

    weights: str = "multiview-small"
    """Of the network."""

    stereo: str | None = None
    """Weights of the stereo of volumetric fusion, which is measured, too."""

    consistent: int = 1
    """Views that must agree with a depth; 0: each view alone, corrected by no other."""

    threads: int = 2
    """Of torch."""

    out: Path = RESULTS
    """Where multiview_network.md goes."""


@dataclass(frozen=True)
class Robustness:
    """The network under masks that are wrong, on the objects in settings."""

    data: Path
    """Folder with settings."""

    views: int = 3
    """Views measured of each scene."""

    weights: str = "multiview-small"
    """Of the network."""


@dataclass(frozen=True)
class Speed:
    """The network alone, on noise: it takes as long as on photos."""

    weights: str = "multiview-small"
    """Of the network."""

    threads: int = 2
    """Of torch."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Where; cuda writes files of its own."""


def tables(options: Tables) -> None:
    """Measure and write the tables."""
    torch.set_num_threads(options.threads)
    network = load_multiview(options.weights)
    lines = [
        "| scenes | method | AbsRel % | median % | RMSE | delta 1 % | band % | confirmed % | "
        "s a view |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    print("\n".join(lines), flush=True)
    groups = [options.data / name for name in options.groups]
    for group in (*groups, *options.held_out):
        folders = sorted(path for path in group.iterdir() if (path / "scene.json").is_file())
        scenes = [_scene(folder, options.quality) for folder in folders]
        masked = all(scene[0].masks is not None for scene in scenes)
        methods: dict[str, tuple[MultiviewNetwork | StereoNetwork | None, bool]] = {
            "classical": (None, masked)
        }
        methods["network, no masks" if masked else "network"] = (network, False)
        if masked:
            methods["network, masks"] = (network, True)
        if options.stereo is not None:
            methods["stereo"] = (load_stereo(options.stereo), masked)
        for name, (used, told) in methods.items():
            rows = [
                row
                for scene in scenes
                for row in _errors(
                    scene,
                    used,
                    options.quality,
                    options.views,
                    told=told,
                    consistent=options.consistent,
                )
            ]
            lines.append(f"| {group.name} | {name} | {_cells(rows)} |")
            print(lines[-1], flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / "multiview_network.md", "\n".join(lines) + "\n")


def robustness(options: Robustness) -> None:
    """Measure and write the table of wrong masks."""
    torch.set_num_threads(1)
    network = load_multiview(options.weights)
    spoils: dict[str, Spoil] = {
        "true": lambda mask, view: mask,
        "eroded by 3 px": lambda mask, view: erode(mask, 3),
        "dilated by 3 px": lambda mask, view: grow(mask, 3),
        "dilated by 8 px": lambda mask, view: grow(mask, 8),
        "shifted by 4 px": lambda mask, view: np.roll(mask, (2, 3), (0, 1)),
        "noisy, as in training": lambda mask, view: spoiled(mask, np.random.default_rng(view)),
        "missing in every second view": lambda mask, view: mask if view % 2 == 0 else None,
        "missing in all": lambda mask, view: None,
    }
    lines = ["| masks | AbsRel % | band % | confirmed % |", "|---|---:|---:|---:|"]
    folders = sorted(path for path in (options.data / "settings").iterdir() if path.is_dir())
    scenes = [_scene(folder, "preview") for folder in folders]
    for name, spoil in spoils.items():
        rows = [
            row
            for scene in scenes
            for row in _errors(scene, network, "preview", options.views, told=True, spoil=spoil)
        ]
        row = _mean(rows)
        lines.append(
            f"| {name} | {100 * row.absolute:.2f} | {100 * row.band:.2f} | "
            f"{100 * row.answered:.1f} |"
        )
        print(lines[-1], flush=True)
    write_text(RESULTS / "multiview_robustness.md", "\n".join(lines) + "\n")


def speed(options: Speed) -> None:
    """Time the network, and draw how its time grows (multiview_speed.md and .png)."""
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    network = load_multiview(options.weights).to(device)
    on = (
        f"{options.threads} threads" if device.type == "cpu" else torch.cuda.get_device_name(device)
    )
    whose = "the process" if device.type == "cpu" else "its tensors"
    lines = [
        f"{on}; seconds, the least of 3, for depth of all views, each matched with the others, and "
        "of one of them alone.",
        "",
        f"| views | size | coarse planes | all | one | peak MB of {whose} |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    base = 3, (256, 320), network.config.planes[0]
    cases = [(2, (256, 256), base[2]), base]  # the first is the paper's
    cases += [(views, *base[1:]) for views in (2, 4, 6, 8)]
    cases += [(3, size, base[2]) for size in ((128, 160), (256, 256), (384, 480), (480, 640))]
    cases += [(3, base[1], planes) for planes in (24, 96)]
    rows = []
    for views, size, planes in cases:
        timed = network
        if planes != network.config.planes[0]:
            config = replace(network.config, planes=(planes, network.config.planes[1]))
            timed = MultiviewNetwork(config).eval().to(device)  # other weights take as long
        seconds, one = (
            min(_timed(timed, views, size, count, device) for _ in range(3)) for count in (views, 1)
        )
        peak = _peak_bytes(device) / 1e6
        shape = f"{size[0]} x {size[1]}"
        lines.append(f"| {views} | {shape} | {planes} | {seconds:.3f} | {one:.3f} | {peak:.0f} |")
        print(lines[-1], flush=True)
        rows.append((views, size, planes, seconds))
    stem = "multiview_speed" if device.type == "cpu" else f"multiview_speed_{device.type}"
    write_text(RESULTS / f"{stem}.md", "\n".join(lines) + "\n")
    by_views = [(v, s) for v, size, planes, s in rows if (size, planes) == base[1:]]
    by_pixels = [(h * w / 1000, s) for v, (h, w), p, s in rows if (v, p) == (base[0], base[2])]
    by_planes = [(p, s) for v, size, p, s in rows if (v, size) == base[:2]]
    picture = drawn(
        [
            Chart("seconds by views", "views of 256 x 320", {"": by_views}),
            Chart("seconds by pixels", "1000 pixels, 3 views", {"": by_pixels}),
            Chart("seconds by planes", "coarse planes, 3 views of 256 x 320", {"": by_planes}),
        ]
    )
    write_image(RESULTS / f"{stem}.png", picture)


def _peak_bytes(device: torch.device) -> int:
    """Of the process so far, or on a GPU of the tensors since the last call."""
    if device.type == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    peak = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return peak


def _timed(
    network: MultiviewNetwork,
    views: int,
    size: tuple[int, int],
    references: int,
    device: torch.device,
) -> float:
    height, width = size
    K = torch.tensor([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
    poses = torch.eye(4).repeat(1, views, 1, 1)
    poses[..., 0, 3] = 0.1 * torch.arange(views)
    bounds = torch.full((1, views), 1.0), torch.full((1, views), 5.0)
    images = torch.rand(1, views, 3, height, width)
    shown = (images, K.expand(1, views, 3, 3), poses, *bounds)
    there = [part.to(device) for part in shown]
    began = time.perf_counter()
    with torch.inference_mode():
        network(*there, references=references).inverse_depth.cpu()  # waits for a GPU
    return time.perf_counter() - began


def _scene(folder: Path, quality: Quality) -> Scene:
    return open_scene(folder, longest=LONGER_SIDE[quality]).scene


class Row(NamedTuple):
    """One view, or the mean of several."""

    absolute: float  # AbsRel
    median: float  # of the same
    rmse: float  # in the unit of the scene
    delta: float  # share of the pixels within 25 %
    band: float  # AbsRel there; NaN without masks
    answered: float  # share of the pixels
    seconds: float  # of process time


def _mean(rows: Sequence[Row]) -> Row:
    return Row(*np.mean(np.array(rows), axis=0))


def _errors(
    scene: Scene,
    network: MultiviewNetwork | StereoNetwork | None,
    quality: Quality,
    count: int,
    *,
    told: bool,
    consistent: int = 1,
    spoil: Spoil = lambda mask, view: mask,
) -> Iterator[Row]:
    """Of each measured view, over pixels of the object, or of all without masks."""
    shown = replace(scene, read=lambda index: _with_masks(scene[index], index, told, spoil))
    near, far = _range(scene)
    # What the depths of other views say is part of a method; one that agrees is enough.
    config = MultiviewConfig(quality=quality, consistent=consistent, near=near, far=far)
    every = count >= len(scene)
    # In the middle of as many equal parts.
    chosen = ((np.arange(count) + 0.5) * len(scene) / count).astype(int).tolist()
    began = time.process_time()
    indices = range(len(scene)) if every else chosen
    depths = list(estimate_depths(shown, config, indices=indices, network=network))
    seconds = (time.process_time() - began) / len(depths) if every else float("nan")
    for index, found in depths:
        view = scene[index]
        assert view.depth is not None
        true, known = view.depth.values, view.depth.usable
        inside = evidence(view.masks, view.image.shape[:2]).inside
        band = np.zeros_like(known)
        if inside is not None:
            known = known & (inside > 0.5)
            kernel = np.ones((2 * BAND + 1,) * 2, np.uint8)
            band = known & (cv2.erode((inside > 0.5).astype(np.uint8), kernel) == 0)
        answered = found.trusted
        values = _filled(found.depth.values, found.depth.usable)
        apart = np.abs(values - true)
        share = apart / np.maximum(true, 1e-9)
        within = np.maximum(values, true) < 1.25 * np.minimum(values, true)
        yield Row(
            float(share[known].mean()),
            float(np.median(share[known])),
            float(np.sqrt(np.square(apart[known]).mean())),
            float(within[known].mean()),
            float(share[band].mean()) if band.any() else float("nan"),
            float(answered[known].mean()),
            seconds,
        )


def _filled(depth: Float32Map, answered: BoolMap) -> Float32Map:
    """The map with each other pixel like the nearest that is answered; 0 if none is."""
    if answered.all() or not answered.any():
        return depth
    nearest = distance_transform_edt(~answered, return_distances=False, return_indices=True)
    return np.asarray(depth[tuple(nearest)], np.float32)


def _range(scene: Scene) -> tuple[float, float]:
    """The stated bounds for scenes without masks; masks say it by their hull, told or not."""
    assert scene.bounds is not None
    if scene[0].masks is None:
        return scene.bounds
    masks = [evidence(view.masks, view.image.shape[:2]).inside for view in scene]
    hulls = [bounds_from_masks(scene.cameras, masks, index) for index in range(len(scene))]
    ranges = [scene.bounds if hull is None else hull for hull in hulls]
    return min(near for near, _ in ranges), max(far for _, far in ranges)


def _with_masks(view: View, index: int, told: bool, spoil: Spoil) -> View:
    if view.masks is None or not told:
        return replace(view, masks=None)
    inside = evidence(view.masks, view.image.shape[:2]).inside
    if inside is None:
        return view
    mask = spoil(inside, index)
    return replace(view, masks=None if mask is None else MaskSet(mask[None]))


def _cells(rows: Sequence[Row]) -> str:
    row = _mean(rows)
    band = "–" if np.isnan(row.band) else f"{100 * row.band:.2f}"
    seconds = "–" if np.isnan(row.seconds) else f"{row.seconds:.2f}"
    return (
        f"{100 * row.absolute:.2f} | {100 * row.median:.2f} | {row.rmse:.4f} | "
        f"{100 * row.delta:.1f} | {band} | {100 * row.answered:.1f} | {seconds}"
    )


Command = (
    Annotated[Tables, tyro.conf.subcommand("tables")]
    | Annotated[Robustness, tyro.conf.subcommand("robustness")]
    | Annotated[Speed, tyro.conf.subcommand("speed")]
)

if __name__ == "__main__":
    match tyro.cli(Command):
        case Tables() as chosen:
            tables(chosen)
        case Robustness() as chosen:
            robustness(chosen)
        case Speed() as chosen:
            speed(chosen)
