"""``crispdepth train volume``: train the network of learned volumetric fusion."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, arg

from crispdepth.cli.errors import UsageError
from crispdepth.cli.settings import preset_with_settings
from crispdepth.cli.train import Format
from crispdepth.cli.train_progress import Watch, finish, interruptible
from crispdepth.data.volume_config import VolumeSampleConfig
from crispdepth.training.config import FitConfig, VolumeObjective


@dataclass(frozen=True)
class TrainVolumeOptions:
    """Train the network of volumetric fusion, or continue a training.

    `crispdepth train volume --data rooms.pack --depths rooms.depths -o run` on this machine's CPU
    or GPU; `torchrun --nproc-per-node 4 -m crispdepth train volume ...` on several GPUs.
    Interrupted, or started again, the same command continues to the same result.
    """

    data: Annotated[tuple[Path, ...], arg(metavar="DIR [DIR ...]", help_behavior_hint="")]
    """Packs (`crispdepth train pack`) of posed frames, or folders of a dataset. The z axis of
    their worlds is up, as in rendered rooms and in ScanNet."""

    out: Annotated[Path, arg(aliases=["-o"], metavar="DIR")]
    """The run: config.json, best.safetensors, last.safetensors, log.jsonl, tensorboard."""

    preset: str = "volume-small"
    """The network: volume-small, volume-stereo-small (for --stage stereo), or volume (the
    paper's)."""

    network: Annotated[
        tuple[str, ...], arg(metavar="NAME=VALUE [NAME=VALUE ...]", help_behavior_hint="")
    ] = ()
    """Numbers and switches of the network other than the preset's, such as fusion.rotation=rbf; an
    unknown name lists them all."""

    depths: Annotated[tuple[Path, ...], arg(metavar="DIR [DIR ...]", help_behavior_hint="")] = ()
    """Depths that matching found in the data (`crispdepth train depths`), a folder for each method.
    Frames without any are fused with true depths that errors were added to."""

    init: Annotated[Path | None, arg(metavar="RUN", help_behavior_hint="")] = None
    """Run whose best weights to start from, say of --stage stereo, or a folder of weights, or the
    name of shipped ones."""

    data_format: Format = "rendered"
    """Format of folders that are no packs."""

    held_out: float = 0.05
    """Share of each dataset, its last scenes, to evaluate on: as many whole ones as that takes."""

    held_out_samples: int = 24
    """Samples of these to evaluate on."""

    samples: OmitArgPrefixes[VolumeSampleConfig] = field(default_factory=VolumeSampleConfig)

    objective: OmitArgPrefixes[VolumeObjective] = field(default_factory=VolumeObjective)

    fit: OmitArgPrefixes[FitConfig] = field(
        default_factory=lambda: FitConfig(steps=5000, batch=1, lr=1e-3, ema=0.99)
    )


def run(options: TrainVolumeOptions) -> int:
    """Run ``crispdepth train volume``.

    Raises:
        UsageError: an option is out of range.
        ImportError: torch is not installed; the message names the extra.
        OSError, ValueError: the data or the run cannot be used.
    """
    from crispdepth.data.split import hold_out, open_frames

    if options.held_out_samples < 1:
        raise UsageError("--held-out-samples must be 1 or more.")
    # The workers need the cores on which torch's threads would spin while they wait.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from crispdepth.models.presets import VOLUME
        from crispdepth.training.volume import VolumeTraining, train
    except ModuleNotFoundError as error:
        raise ImportError(
            f'Training needs {error.name}: pip install "crispdepth[torch]"'
        ) from error
    training = VolumeTraining(
        options.preset,
        preset_with_settings(VOLUME, options.preset, options.network),
        options.samples,
        options.objective,
        options.fit,
    )
    datasets = [open_frames(folder, options.data_format) for folder in options.data]
    frames, held_out = hold_out(datasets, options.held_out)
    with interruptible() as interrupted:
        end = train(
            training,
            frames,
            held_out,
            options.out,
            depths=options.depths,
            init=options.init,
            sources={"data": [path.resolve().name for path in options.data]},
            held_out_samples=options.held_out_samples,
            report=Watch().show,
            stop=interrupted,
        )
    return finish(end, options.out)
