"""Learned volumetric fusion beside the classical one of the same depths: the paper's four tables.

    python benchmarks/volume.py train --data rooms.pack --depths rooms.depths --minutes 30
    python benchmarks/volume.py measure --data DIR --held-out DIR

`train` trains every variant with the same samples for as many steps as the first one takes in
``--minutes``, with ``--seed`` 0, or another, each in a run folder of ``--work``; what is done is
not done again. `measure` fuses every scene with every variant and all seeds that it was trained
with, and writes volume.md: the 2-D metrics of the mesh rendered into the views, the 3-D metrics in
both protocols at 5 cm, and how they fall with the depths, the poses and the number of views.
``DIR`` of ``--data`` holds rooms and sevenscenes, that of ``--held-out`` scenes by `crispdepth
synth` that no training has seen.

All surfaces are cut to the triangles that some view sees, so all are single-sided. True are the
exact depths of rendered rooms, and of 7-Scenes the fused depths of the Kinect.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from crispdepth.api.scene import SCENE_CORRECTIONS
from crispdepth.data.split import hold_out, open_frames
from crispdepth.data.volume_config import VolumeSampleConfig
from crispdepth.evaluation.mesh import (
    atlas_score,
    transformerfusion_score,
    tsdf_l1,
)
from crispdepth.geometry.voxel_grid import VoxelGrid
from crispdepth.io.atomic import write_text
from crispdepth.models.presets import VOLUME, build_volume
from crispdepth.models.volume.config import VolumeNetworkConfig
from crispdepth.models.volume.network import VolumeNetwork
from crispdepth.models.weights import load_multiview, load_volume
from crispdepth.ops.atlas_tsdf import field_mesh
from crispdepth.ops.blocks import EDGE, unpack
from crispdepth.ops.rasterise import rasterise
from crispdepth.tasks.fuse import FuseConfig, integrate_view, start_volume
from crispdepth.tasks.volume_fuse import corrected
from crispdepth.training.checkpoint import load_weights
from crispdepth.training.config import FitConfig, VolumeObjective
from crispdepth.training.fit import BEST, CONFIG
from crispdepth.training.volume import VolumeTraining, train
from crispdepth.types import Mesh
from volume_places import SIZE, VOXEL, Place, Shot, arrays, camera_of, places, spoils, true_field

UNTRAINED = "fused distance, untrained"
"""A fresh network that corrects fused distances: what the shipped one started from."""

HIDDEN = "two stages, photos hidden"
"""The same trained networks, but each photo's features are their mean over it: which voxels it
has in its frame is still told, what it shows there is not."""

SHIPPED = "as shipped"
"""The shipped weights, trained for twice as long as the variants."""

SHIPPED_HIDDEN = "as shipped, photos hidden"
"""The shipped weights, hidden alike."""

TABLES = {
    "Classical, one stage, two stages": (
        "classical",
        UNTRAINED,
        SHIPPED,
        "one stage, no depth",
        "two stages",
    ),
    "Kernels that turn with the cameras": (
        "Conv3d",
        "two stages",
        "assign",
        "nearest",
        "trilinear",
        "rbf",
    ),
    "What photos show": (HIDDEN, "two stages", SHIPPED_HIDDEN, SHIPPED),
    "Overlap masks, that is confidence": ("without masks", "two stages"),
    "Embedding of depth": (
        "one stage, no depth",
        "count",
        "visible",
        "splat",
        "tsdf without its evidence",
        "two stages",
    ),
}
SEEDS = 3
"""Of the variants, at most."""

FIGURES_2D = ("AbsRel", "AbsDiff", "SqRel", "RMSE", "complete")
FIGURES_3D = ("L1", "L1 near", "Acc", "Comp", "F", "TF Acc", "TF Comp", "TF F")


class Variant(NamedTuple):
    """What a run trains."""

    network: VolumeNetworkConfig
    trust: bool = True


def variants() -> dict[str, Variant]:
    """Networks that differ in one thing from the first, by what that is.

    All answer signed distances themselves, as in the paper. One that corrects those of the depths,
    as the preset does, starts where it is hard to leave: how soon it does is chance.
    """
    preset = VOLUME["volume-small"]
    base = replace(preset, fusion=replace(preset.fusion, residual=False))

    def fusion(**changes: Any) -> Variant:
        return Variant(replace(base, fusion=replace(base.fusion, **changes)))

    return {
        "two stages": Variant(base),
        "one stage, no depth": fusion(embedding="none", evidence=False),
        "Conv3d": fusion(rotation="none"),
        "without masks": Variant(base, trust=False),
        "tsdf without its evidence": fusion(evidence=False),
        "count": fusion(embedding="count", evidence=False),
        "visible": fusion(embedding="visible", evidence=False),
        "splat": fusion(embedding="splat", evidence=False),
        "assign": fusion(rotation="assign"),
        "nearest": fusion(rotation="nearest"),
        "trilinear": fusion(rotation="trilinear"),
        "rbf": fusion(rotation="rbf"),
    }


@dataclass(frozen=True)
class TrainOptions:
    """Train all variants."""

    data: tuple[Path, ...]
    """Packs (`crispdepth train pack`) of posed frames."""

    depths: tuple[Path, ...] = ()
    """Depths of `crispdepth train depths`."""

    minutes: float = 30.0
    """That the first variant trains; the others take as many steps."""

    steps: int = 0
    """Steps instead of minutes."""

    seed: int = 0
    """Of the first weights and the samples: 0, 1 or 2."""

    only: tuple[str, ...] = ()
    """Variants whose names contain one of these; all without it."""

    samples: VolumeSampleConfig = field(default_factory=VolumeSampleConfig)

    lr: float = 1e-3

    batch: int = 1
    """Samples a step."""

    workers: int = 0
    """Processes that make samples; 0 makes them in the training process."""

    cpu: bool = True
    """Train on the CPU even if there is a GPU."""

    threads: int = 1
    """Of torch."""

    work: Path = Path("volume-runs")
    """Folder of the runs."""


@dataclass(frozen=True)
class MeasureOptions:
    """Fuse scenes with all runs."""

    data: Path | None = None
    """Folder of rooms and sevenscenes."""

    held_out: Path | None = None
    """Folder of rendered scenes that no training has seen."""

    only: tuple[str, ...] = ()
    """Variants whose names contain one of these, beside classical fusion and the shipped weights;
    all without it."""

    robust: tuple[str, ...] = (SHIPPED,)
    """Variants whose robustness is measured beside the classical one's."""

    robust_groups: tuple[str, ...] = ("rooms",)
    """Groups of scenes on which it is measured: held-out rooms, rooms, 7-Scenes."""

    weights: str = "volume-small"
    """Those that are called shipped."""

    consistent: int = 1
    """Views that must agree with a pixel's depth, as for the depths of the training."""

    every: int = 5
    """Of the frames of 7-Scenes."""

    threads: int = 2
    """Of torch."""

    work: Path = Path("volume-runs")
    """Folder of the runs; depths that were found are kept there, too."""

    out: Path = Path(__file__).parent / "results"
    """Where volume.md and volume.json go."""


class Fused(NamedTuple):
    """A dense field."""

    tsdf: NDArray[np.float32]
    known: NDArray[np.bool_]


Method = Callable[[Sequence[Shot], VoxelGrid], Fused]


def train_all(options: TrainOptions) -> None:
    torch.set_num_threads(options.threads)
    frames, held_out = hold_out([open_frames(path, "rendered") for path in options.data], 0.05)
    steps = options.steps
    if not 0 <= options.seed < SEEDS:
        raise SystemExit(f"Seeds from 0 to {SEEDS - 1} are measured, got {options.seed}.")
    for name, variant in variants().items():
        if options.only and not any(part in name for part in options.only):
            continue
        run, start = folder_of(options.work, name, options.seed), time.perf_counter()

        def training(steps: int, variant: Variant = variant) -> VolumeTraining:
            fit = FitConfig(
                steps=steps,
                batch=options.batch,
                lr=options.lr,
                warmup=min(100, steps // 10),
                ema=0.99,
                every=max(1, steps // 4),
                workers=options.workers,
                seed=options.seed,
                cpu=options.cpu,
            )
            objective = VolumeObjective(trust=variant.trust)
            return VolumeTraining("volume-small", variant.network, options.samples, objective, fit)

        if not steps and (run / CONFIG).is_file():
            steps = int(json.loads((run / CONFIG).read_text("utf-8"))["fit"]["steps"])
        if not steps:
            trial = options.work / "speed"
            end = train(
                training(12), frames, held_out, trial, depths=options.depths, held_out_samples=1
            )
            steps = max(12, round(60 * options.minutes * end.steps_per_second))
        end = train(training(steps), frames, held_out, run, depths=options.depths)
        seconds = time.perf_counter() - start
        print(f"{name}: {end.held_out or 'done before'}, {seconds:.0f} s", flush=True)


def folder_of(work: Path, name: str, seed: int) -> Path:
    plain = "".join(letter if letter.isalnum() else "-" for letter in name)
    return work / f"{plain}.{seed}"


def measure_all(options: MeasureOptions) -> None:
    torch.set_num_threads(options.threads)
    methods: dict[tuple[str, int], Method] = {
        ("classical", 0): classical,
        (UNTRAINED, 0): learned(build_volume("volume-small"), planes=False),
        (SHIPPED, 0): learned(load_volume(options.weights)),
        (SHIPPED_HIDDEN, 0): learned(load_volume(options.weights), hidden=True),
    }
    for name, variant in variants().items():
        wanted = not options.only or any(part in name for part in options.only)
        for seed in range(SEEDS if wanted else 0):
            run = folder_of(options.work, name, seed)
            if (run / BEST).is_file():
                network = VolumeNetwork(variant.network)
                load_weights(run / BEST, network)
                methods[name, seed] = learned(network, trust=variant.trust)
                if name == "two stages":
                    methods[HIDDEN, seed] = learned(network, hidden=True)
    rows: list[dict[str, Any]] = []
    for place in places(
        options.data,
        options.held_out,
        options.work / f"depths-{options.consistent}-{SCENE_CORRECTIONS}",
        load_multiview(),
        consistent=options.consistent,
        every=options.every,
    ):
        here = {"group": place.group, "scene": place.name}
        for (name, seed), method in methods.items():
            row = here | {"method": name, "seed": seed, "spoilt": "nothing"}
            rows.append(row | scored(place, method, place.shots))
            print(json.dumps(rows[-1]), flush=True)
        for spoilt, shots in spoils(place.shots) if place.group in options.robust_groups else ():
            for (name, seed), method in methods.items():
                if name in ("classical", *options.robust):
                    row = here | {"method": name, "seed": seed, "spoilt": spoilt}
                    rows.append(row | scored(place, method, shots))
                    print(json.dumps(rows[-1]), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    # A mesh without a surface has no errors: null, for JSON has no NaN.
    plain = [{key: None if each != each else each for key, each in row.items()} for row in rows]
    text = json.dumps(plain, indent=1, allow_nan=False)
    write_text(options.out / "volume.json", text + "\n")
    write_text(options.out / "volume.md", tables(rows))
    print(tables(rows))


def mesh_of(fused: Fused, grid: VoxelGrid) -> Mesh:
    return field_mesh(fused.tsdf, fused.known, grid)


def classical(shots: Sequence[Shot], grid: VoxelGrid) -> Fused:
    """The product's field, put into a box."""
    config = FuseConfig(voxel=grid.voxel_size)
    volume = start_volume(grid.voxel_size, config)
    for shot in shots:
        integrate_view(volume, shot.view, shot.rough, config)
    keys = volume.store.keys
    values = volume.store.read(keys)
    steps = torch.arange(EDGE)
    voxels = unpack(keys)[:, None] * EDGE + torch.cartesian_prod(steps, steps, steps)
    place = (voxels - torch.tensor(grid.first)).numpy()
    inside = ((place >= 0) & (place < np.array(grid.shape))).all(axis=-1)
    tsdf, weight = np.full(grid.shape, -1, np.float32), np.zeros(grid.shape, np.float32)
    for target, name in ((tsdf, "tsdf"), (weight, "weight")):
        target[tuple(place[inside].T)] = values[name].numpy()[inside]
    known = weight > config.min_weight
    # It keeps a band about surfaces; what lies beyond is free or unknown.
    depths = [np.where(shot.rough.confidence > 0, shot.rough.depth.values, 0) for shot in shots]
    beyond = true_field(depths, [camera_of(shot) for shot in shots], grid).tsdf.numpy()
    return Fused(np.where(known, tsdf, beyond), known)


def learned(
    network: VolumeNetwork, *, trust: bool = True, planes: bool = True, hidden: bool = False
) -> Method:
    """Fusion by a network, from which photos may be ``hidden``.

    The classical field says where there may be a surface. A network that corrects distances has
    its corrections on those of that field, as in the product, unless ``planes`` says not to.
    """
    network.eval()

    @torch.inference_mode()
    def fuse(shots: Sequence[Shot], grid: VoxelGrid) -> Fused:
        fusion = network.fusion
        accumulator = fusion.accumulator(grid, torch.device("cpu"))
        small = SIZE[0] // 4, SIZE[1] // 4
        for shot in shots:
            photo = torch.from_numpy(np.array(shot.view.image)).permute(2, 0, 1)[None] / 255
            camera = camera_of(shot).resized(small)
            features = network.stereo.features(photo)[0]
            if hidden:
                features = features.mean((1, 2), keepdim=True).expand_as(features).contiguous()
            accumulator.add(
                features,
                torch.tensor(camera.K),
                torch.tensor(camera.cam_from_world),
                torch.from_numpy(shot.rough.depth.values),
                torch.from_numpy(shot.rough.confidence) if trust else None,
            )
        unified, field = fusion.unify(accumulator), classical(shots, grid)
        distance = fusion.regress(unified)
        if planes and fusion.config.residual:
            moved = corrected(distance, unified[-1], torch.from_numpy(field.tsdf))
            seen = accumulator.observed() & torch.from_numpy(field.known)
            distance = torch.where(seen, moved, distance)
        return Fused(distance.numpy(), field.known)

    return fuse


def scored(place: Place, method: Method, shots: Sequence[Shot]) -> dict[str, float]:
    """All figures of a method; the truth is that of the place, whatever is wrong with the shots."""
    start = time.process_time()
    fused = method(shots, place.grid)
    seconds = time.process_time() - start
    mesh = mesh_of(fused, place.grid)
    cameras = [camera_of(shot) for shot in place.shots]
    rasters = [rasterise(mesh, camera) for camera in cameras]
    figures: list[list[float]] = []
    for raster, shot in zip(rasters, place.shots, strict=True):
        both = (shot.true > 0) & (raster.depth > 0)
        complete = float((raster.depth > 0).mean())
        if both.any():
            off, true = np.abs(raster.depth - shot.true)[both], shot.true[both]
            errors = [off / true, off, off**2 / true, off**2]
            means = [float(each.mean()) for each in errors]
            figures.append([*means[:3], means[3] ** 0.5, complete])
    result = dict(zip(FIGURES_2D, np.mean(figures or [[np.nan] * 5], axis=0).tolist(), strict=True))
    faces = np.unique(np.concatenate([raster.faces[raster.faces >= 0] for raster in rasters]))
    used, number = np.unique(mesh.faces[faces], return_inverse=True)
    seen = Mesh(mesh.vertices[used], number.reshape(-1, 3).astype(np.int32))
    truth, observed = arrays(place.truth)
    result["L1"] = tsdf_l1(fused.tsdf, truth, observed)
    result["L1 near"] = tsdf_l1(fused.tsdf, truth, observed & (np.abs(truth) < 1))
    for prefix, score in (
        ("", atlas_score(seen, place.target)),
        ("TF ", transformerfusion_score(seen, place.target)),
    ):
        result[f"{prefix}Acc"], result[f"{prefix}Comp"] = score.accuracy, score.completeness
        result[f"{prefix}F"] = score.f_score
    return result | {"CPU s": seconds}


def tables(rows: list[dict[str, Any]]) -> str:
    names = (*FIGURES_2D, *FIGURES_3D)
    lines = [
        f"Voxels of {100 * VOXEL:g} cm, photos of {SIZE[1]} x {SIZE[0]}; lengths in m, L1 in "
        "truncations of 3 voxels, near: where the truth is within one of a surface; F at 5 cm, "
        "first in the protocol of Atlas (directions put right), then in that of TransformerFusion. "
        "Means over scenes, and over seeds with the largest distance from them; – where one has no "
        "surface.",
    ]

    def line(label: str, chosen: list[dict[str, Any]]) -> None:
        seeds = sorted({row["seed"] for row in chosen})
        cells = []
        for name in names:
            each = np.array(
                [np.mean([row[name] for row in chosen if row["seed"] == seed]) for seed in seeds]
            )
            apart = f" ± {np.abs(each - each.mean()).max():.3f}" if len(seeds) > 1 else ""
            cells.append("–" if np.isnan(each).any() else f"{each.mean():.3f}{apart}")
        lines.append(f"| {label} | " + " | ".join(cells) + " |")

    def head(title: str) -> None:
        lines.extend(["", title, "", "| | " + " | ".join(names) + " |"])
        lines.append("|---|" + "---:|" * len(names))

    for group in dict.fromkeys(row["group"] for row in rows):
        of_group = [row for row in rows if row["group"] == group]
        count = len({row["scene"] for row in of_group})
        lines.extend(["", f"## {group}, {count} scene{'s' * (count > 1)}"])
        whole = [row for row in of_group if row["spoilt"] == "nothing"]
        for title, methods in TABLES.items():
            there = [name for name in methods if any(row["method"] == name for row in whole)]
            if len(there) > 1:
                head(f"### {title}")
                for name in there:
                    line(name, [row for row in whole if row["method"] == name])
        if len(whole) < len(of_group):
            head("### Robustness")
        for spoilt_by in dict.fromkeys(row["spoilt"] for row in of_group):
            alike = [row for row in of_group if row["spoilt"] == spoilt_by]
            for name in dict.fromkeys(
                row["method"] for row in of_group if row["spoilt"] != "nothing"
            ):
                line(f"{spoilt_by}: {name}", [row for row in alike if row["method"] == name])
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    chosen = tyro.extras.subcommand_cli_from_dict(
        {"train": TrainOptions, "measure": MeasureOptions}
    )
    train_all(chosen) if isinstance(chosen, TrainOptions) else measure_all(chosen)
