"""``crispdepth train multiview``: train the multi-view network."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, arg

from crispdepth.cli.errors import UsageError
from crispdepth.cli.settings import preset_with_settings
from crispdepth.cli.train import Format
from crispdepth.cli.train_progress import Watch, finish, interruptible
from crispdepth.data.multiview_config import MultiviewSampleConfig
from crispdepth.training.config import FitConfig, MultiviewObjective, parse_curriculum


@dataclass(frozen=True)
class TrainMultiviewOptions:
    """Train the multi-view network, or continue a training.

    `crispdepth train multiview --data rooms.pack objects.pack -o run` on this machine's CPU or
    GPU; `torchrun --nproc-per-node 4 -m crispdepth train multiview ...` on several GPUs.
    Interrupted, or started again, the same command continues to the same result.
    """

    data: Annotated[tuple[Path, ...], arg(metavar="DIR [DIR ...]", help_behavior_hint="")]
    """Packs (`crispdepth train pack`) of posed frames, or folders of a dataset."""

    out: Annotated[Path, arg(aliases=["-o"], metavar="DIR")]
    """The run: config.json, best.safetensors, last.safetensors, log.jsonl, tensorboard."""

    preset: str = "multiview-small"
    """The network."""

    network: Annotated[
        tuple[str, ...], arg(metavar="NAME=VALUE [NAME=VALUE ...]", help_behavior_hint="")
    ] = ()
    """Numbers and switches of the network other than the preset's, such as peak=0; an unknown name
    lists them all."""

    curriculum: str = "0.6 128x160 2-4 6, 0.4 192x256 2-4 3"
    """Stages of the training: share of the steps, height x width, views of a sample (a number or
    a range), samples per step; a comma between stages. It takes the place of --batch."""

    init: Annotated[Path | None, arg(metavar="RUN", help_behavior_hint="")] = None
    """Run whose best weights to start from, or a folder of weights, or the name of shipped ones."""

    only: Annotated[tuple[str, ...], arg(metavar="PART [PART ...]", help_behavior_hint="")] = ()
    """Parts of the network that learn, such as gaussians; the others stay as they are. Without it,
    all learn."""

    data_format: Format = "rendered"
    """Format of folders that are no packs."""

    held_out: float = 0.05
    """Share of each dataset, its last scenes, to evaluate on: as many whole ones as that takes."""

    held_out_samples: int = 48
    """Samples of these to evaluate on."""

    samples: OmitArgPrefixes[MultiviewSampleConfig] = field(default_factory=MultiviewSampleConfig)

    objective: OmitArgPrefixes[MultiviewObjective] = field(default_factory=MultiviewObjective)

    fit: OmitArgPrefixes[FitConfig] = field(default_factory=lambda: FitConfig(lr=4e-4))


def run(options: TrainMultiviewOptions) -> int:
    """Run ``crispdepth train multiview``.

    Raises:
        UsageError: an option is out of range.
        ImportError: torch is not installed; the message names the extra.
        OSError, ValueError: the data or the run cannot be used.
    """
    from crispdepth.data.split import hold_out, open_frames

    try:
        stages = parse_curriculum(options.curriculum)
    except ValueError as error:
        raise UsageError(f"--curriculum: {error}") from error
    if options.held_out_samples < 1:
        raise UsageError("--held-out-samples must be 1 or more.")
    # The workers need the cores on which torch's threads would spin while they wait.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from crispdepth.models.presets import MULTIVIEW
        from crispdepth.training.multiview import MultiviewTraining, train
    except ModuleNotFoundError as error:
        raise ImportError(
            f'Training needs {error.name}: pip install "crispdepth[torch]"'
        ) from error
    training = MultiviewTraining(
        options.preset,
        preset_with_settings(MULTIVIEW, options.preset, options.network),
        options.samples,
        stages,
        options.objective,
        replace(options.fit, batch=max(stage.batch for stage in stages)),
        options.only,
    )
    datasets = [open_frames(folder, options.data_format) for folder in options.data]
    frames, held_out = hold_out(datasets, options.held_out)
    with interruptible() as interrupted:
        end = train(
            training,
            frames,
            held_out,
            options.out,
            init=options.init,
            sources={"data": [path.resolve().name for path in options.data]},
            held_out_samples=options.held_out_samples,
            report=Watch().show,
            stop=interrupted,
        )
    return finish(end, options.out)
