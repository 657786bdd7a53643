"""``crispdepth train layered``: train the network of layered refinement."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import OmitArgPrefixes, arg

from crispdepth.cli.errors import UsageError
from crispdepth.cli.settings import with_settings
from crispdepth.cli.train_progress import Watch, finish, interruptible
from crispdepth.training.config import FitConfig, LayeredObjective

if TYPE_CHECKING:
    from crispdepth.data.datasets import RgbdFrame
    from crispdepth.data.masks import MaskSource
    from crispdepth.data.perturb import Perturbations
    from crispdepth.data.samples import SampleConfig

Format = Literal[
    "rendered",
    "blendedmvs",
    "dtu",
    "folder",
    "hypersim",
    "middlebury",
    "nyu",
    "objaverse",
    "scannet",
    "scenes",
    "sevenscenes",
    "tartanair",
]

MESH_SUFFIXES = (".glb", ".gltf", ".obj", ".ply")


@dataclass(frozen=True)
class TrainOptions:
    """Train the network of layered refinement, or continue a training.

    `crispdepth train layered --stage 2 --data rooms.pack -o run` on this machine's CPU or GPU;
    `torchrun --nproc-per-node 4 -m crispdepth train layered ...` on several GPUs. Interrupted,
    or started again, the same command continues to the same result.
    """

    data: Annotated[tuple[Path, ...], arg(metavar="DIR [DIR ...]", help_behavior_hint="")]
    """Packs (`crispdepth train pack`), or folders of a dataset."""

    out: Annotated[Path, arg(aliases=["-o"], metavar="DIR")]
    """The run: config.json, best.safetensors, last.safetensors, log.jsonl, tensorboard."""

    stage: Literal[1, 2] = 2
    """1: complete layers of true depth. 2: make both layers from rough depth."""

    preset: str = "small"
    """The network: small, or paper."""

    size: int = 160
    """Side of the samples in pixels, a multiple of 32."""

    init: Annotated[Path | None, arg(metavar="RUN", help_behavior_hint="")] = None
    """Run whose best weights to start from, say of stage 1."""

    data_format: Format = "rendered"
    """Format of folders that are no packs."""

    objects: Annotated[tuple[Path, ...], arg(metavar="PATH [PATH ...]", help_behavior_hint="")] = ()
    """More masks of objects, besides drawn ones and the instances of the frames: folders of mask
    pictures or COCO annotations (.json)."""

    sky: Annotated[tuple[Path, ...], arg(metavar="PATH [PATH ...]", help_behavior_hint="")] = ()
    """More masks of sky, besides drawn ones."""

    people: Annotated[tuple[Path, ...], arg(metavar="PATH [PATH ...]", help_behavior_hint="")] = ()
    """More masks of people, besides drawn ones."""

    meshes: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """Meshes (GLB, glTF, OBJ, PLY) whose silhouettes are masks of objects too."""

    held_out: float = 0.05
    """Share of each dataset, its last scenes, to evaluate on: as many whole ones as that takes."""

    perturb: Literal["mixture", "paper"] = "mixture"
    """The errors of the rough depth in stage 2: the paper's, or those and more."""

    set: Annotated[
        tuple[str, ...], arg(metavar="NAME=VALUE [NAME=VALUE ...]", help_behavior_hint="")
    ] = ()
    """Chances and switches of the samples, such as human_holes=0 or colour=false; an unknown name
    lists them all."""

    objective: OmitArgPrefixes[LayeredObjective] = field(default_factory=LayeredObjective)

    fit: OmitArgPrefixes[FitConfig] = field(default_factory=FitConfig)


def run(options: TrainOptions) -> int:
    """Run ``crispdepth train layered``.

    Raises:
        UsageError: an option is out of range.
        ImportError: torch is not installed; the message names the extra.
        OSError, ValueError: the data or the run cannot be used.
    """
    from crispdepth.data.split import hold_out, open_frames

    # The workers need the cores on which torch's threads would spin while they wait.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from crispdepth.training.layered import LayeredTraining, train
    except ModuleNotFoundError as error:
        raise ImportError(
            f'Training needs {error.name}: pip install "crispdepth[torch]"'
        ) from error
    samples = _samples(options)
    training = LayeredTraining(options.preset, samples, options.objective, options.fit)
    datasets = [open_frames(folder, options.data_format) for folder in options.data]
    frames, held_out = hold_out(datasets, options.held_out)
    with interruptible() as interrupted:
        end = train(
            training,
            frames,
            held_out,
            _masks(options, frames),
            options.out,
            init=options.init,
            sources=_sources(options),
            report=Watch().show,
            stop=interrupted,
        )
    return finish(end, options.out)


def _samples(options: TrainOptions) -> "SampleConfig":
    """What the samples look like."""
    from crispdepth.data.perturb import PAPER, Perturbations
    from crispdepth.data.samples import SampleConfig

    if options.size < 32 or options.size % 32:
        raise UsageError(f"--size must be a multiple of 32, got {options.size}.")
    errors, samples = _with_settings(
        {"mixture": Perturbations(), "paper": PAPER}[options.perturb], SampleConfig(), options.set
    )
    samples = replace(samples, size=options.size, stage=options.stage, perturbations=errors)
    if options.objective.variant == "direct-paired":
        return replace(samples, real_edges=1.0)  # frames as they are, with their own masks
    return samples


def _with_settings(
    errors: "Perturbations", samples: "SampleConfig", settings: Sequence[str]
) -> "tuple[Perturbations, SampleConfig]":
    """Both with what was ``--set``."""
    own = ("size", "stage", "perturbations")  # these have options of their own
    of_errors, of_samples = ([field.name for field in fields(each)] for each in (errors, samples))
    names = [*of_errors, *(name for name in of_samples if name not in own)]
    for setting in settings:
        name = setting.partition("=")[0]
        if name not in names:
            raise UsageError(f"--set {setting}: the names are {', '.join(names)}.")
        if name in of_errors:
            errors = with_settings(errors, [setting], "--set")
        else:
            samples = with_settings(samples, [setting], "--set")
    return errors, samples


def _masks(options: TrainOptions, frames: "Sequence[RgbdFrame]") -> "MaskSource":
    """The mixture of the paper over drawn masks and those that were named."""
    from crispdepth.data.masks import (
        PEOPLE_DRAWN,
        SKY_DRAWN,
        THINGS_DRAWN,
        CocoMasks,
        FolderMasks,
        InstanceMasks,
        MaskKind,
        MaskSource,
        MixedMasks,
    )

    def named(paths: Sequence[Path], kind: MaskKind) -> list[MaskSource]:
        return [
            CocoMasks(path, kind) if path.suffix.lower() == ".json" else FolderMasks(path, kind)
            for path in paths
        ]

    objects: list[MaskSource] = [THINGS_DRAWN, *named(options.objects, "object")]
    if frames[0].instances is not None:
        objects.append(InstanceMasks(frames))
    if options.meshes is not None:
        objects.append(_silhouettes(options.meshes, options.fit.seed))
    return MixedMasks(
        tuple(objects),
        (SKY_DRAWN, *named(options.sky, "stuff")),
        (PEOPLE_DRAWN, *named(options.people, "human")),
    )


def _sources(options: TrainOptions) -> dict[str, list[str]]:
    """The names of what data and masks came from; where they lie may change."""
    meshes = (options.meshes,) if options.meshes else ()
    paths = {"data": options.data, "objects": options.objects, "meshes": meshes}
    paths |= {"sky": options.sky, "people": options.people}
    return {kind: [path.resolve().name for path in named] for kind, named in paths.items()}


def _silhouettes(folder: Path, seed: int) -> "MaskSource":
    """Masks from random views of the meshes in a folder and its subfolders."""
    import numpy as np

    from crispdepth.data.masks import SilhouetteMasks

    try:
        import trimesh
    except ModuleNotFoundError as error:
        raise ImportError('Meshes need trimesh: pip install "crispdepth[synth]"') from error
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in MESH_SUFFIXES)
    if not files:
        raise FileNotFoundError(f"There is no mesh ({', '.join(MESH_SUFFIXES)}) in {folder}.")
    meshes = [trimesh.load_mesh(path) for path in files]
    return SilhouetteMasks.of_meshes(meshes, np.random.default_rng(seed))
