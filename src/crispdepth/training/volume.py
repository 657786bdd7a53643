"""How the network of volumetric fusion is trained: its stereo, its fusion, or both end to end.

The fusion alone learns from rough depths that are known already (see
`crispdepth.data.volume_samples`), which is many times faster, and serves whatever finds depths.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.posed_scenes import PosedScene, with_views
from crispdepth.data.volume_config import VolumeSampleConfig
from crispdepth.data.volume_samples import VolumeSample, VolumeSampler
from crispdepth.io.view_depths import has_view_depth
from crispdepth.models.volume.config import VolumeNetworkConfig
from crispdepth.models.weights import load_volume, read_config
from crispdepth.training.checkpoint import load_weights
from crispdepth.training.config import FitConfig, VolumeObjective
from crispdepth.training.fit import BEST, LAST, Progress, fit
from crispdepth.training.volume_batch import VolumeBatch, collate
from crispdepth.training.volume_held_out import held_out_figures
from crispdepth.training.volume_learner import VolumeLearner, volume_losses

HELD_OUT_SEED = 2**31 - 1
"""Seed of the held-out samples; no training should use it."""


@dataclass(frozen=True)
class VolumeTraining:
    """Everything that decides what a training makes of its data.

    ``network`` is that of the preset, or what was made of it.
    """

    preset: str
    network: VolumeNetworkConfig
    samples: VolumeSampleConfig
    objective: VolumeObjective
    fit: FitConfig

    def views(self, step: int) -> int:
        """How many views the samples of a step have."""
        fewest, most = self.samples.views
        words = [self.fit.seed, step]
        return int(np.random.default_rng(words).integers(fewest, most + 1))


def train(
    training: VolumeTraining,
    frames: Sequence[RgbdFrame],
    held_out: Sequence[RgbdFrame],
    run: Path,
    *,
    depths: Sequence[Path] = (),
    init: Path | None = None,
    sources: Mapping[str, Any] | None = None,
    held_out_samples: int = 24,
    report: Callable[[Progress], None] = lambda progress: None,
    stop: Callable[[], bool] = lambda: False,
) -> Progress:
    """Train a network in the folder ``run``, or continue the training begun there.

    Args:
        training: what to train, and how.
        frames: what samples are made of.
        held_out: what the samples for evaluation are made of; of other scenes.
        run: folder for the results, see `crispdepth.training.fit`.
        depths: folders of depths that matching found, see `VolumeSampler`.
        init: folder of a run of the same network whose best weights to start from, or name or
            folder of weights.
        sources: JSON values that say what ``frames`` are; kept with the weights, and a run is
            continued only with the same.
        held_out_samples: how many to evaluate on.
        report: see `fit`.
        stop: see `fit`.

    Raises:
        OSError: a file of ``run`` or ``init`` cannot be read or written.
        ValueError: see `fit`; or no scene has as many posed views as samples ask for, ``init`` is
            of another network, or one of ``depths`` holds none of the frames.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.fit.seed)
        model = VolumeLearner(training.network, training.objective)
    if init is not None and not (run / LAST).is_file():
        _start_from(init, model)
    truncation = training.network.fusion.truncation
    sampler = VolumeSampler(frames, training.samples, depths, truncation=truncation)
    most = training.samples.views[1]
    with_views(sampler.scenes, most)  # now, not in a worker
    for folder in depths:
        _require_depths(folder, sampler.scenes, frames)
    tests = VolumeSampler(held_out, training.samples.faultless(), depths, truncation=truncation)
    longest = max(map(len, tests.scenes))
    recipe = VolumeRecipe(
        sampler,
        training,
        [
            tests.draw(HELD_OUT_SEED, index, min(training.views(index), longest))
            for index in range(held_out_samples)
        ],
    )
    settings = {
        "preset": training.preset,
        "network": asdict(training.network),
        "samples": asdict(training.samples),
        "objective": asdict(training.objective),
        "depths": [folder.name for folder in depths],
        "init": init.name if init else None,
        "frames": len(frames),
        "sources": dict(sources or {}),
    }
    return fit(model, recipe, training.fit, run, settings=settings, report=report, stop=stop)


def _require_depths(
    folder: Path, scenes: Sequence[PosedScene], frames: Sequence[RgbdFrame]
) -> None:
    """Raises ValueError: the folder has the depth of no scene's first frame."""
    names = [frames[scene.indices[0]].name for scene in scenes]
    if not any(has_view_depth(folder, name) for name in names):
        raise ValueError(
            f"{folder} has no depth of any of the {len(scenes)} scenes (such as {names[0]}): make "
            "it with `crispdepth train depths` of the same data."
        )


class SampleStream(Dataset[VolumeSample]):
    """The samples of a training by number; each step has its number of views."""

    def __init__(self, sampler: VolumeSampler, training: VolumeTraining) -> None:
        """Item ``i`` belongs to step ``i // batch``."""
        self._sampler, self._training = sampler, training

    def __getitem__(self, index: int) -> VolumeSample:
        training = self._training
        return self._sampler.draw(
            training.fit.seed, index, training.views(index // training.fit.batch)
        )


def _start_from(init: Path, model: VolumeLearner) -> None:
    """Take the best weights of a run, or those of a folder or the name of exported ones.

    Raises:
        OSError: they cannot be read.
        ValueError: they are of another network.
    """
    if (init / BEST).is_file():
        load_weights(init / BEST, model)
        return
    if (init / LAST).is_file():
        raise FileNotFoundError(
            f"The run {init} was stopped before its first evaluation, so it has no best weights "
            "to start from: continue it until then, or name another."
        )
    network = load_volume(init, part=None)
    if network.config != model.config:
        raise ValueError(
            f"The weights {init} are of the preset {read_config(init)['preset']}, and another "
            f"network is to be trained: take --preset {read_config(init)['preset']}, and no "
            "--network."
        )
    model.load_state_dict(network.state_dict())


class VolumeRecipe:
    """The training of a `VolumeLearner`, for `fit`."""

    def __init__(
        self, sampler: VolumeSampler, training: VolumeTraining, held_out: Sequence[VolumeSample]
    ) -> None:
        """Trained on the sampler's samples, evaluated on ``held_out``."""
        self._sampler, self._training, self._held_out = sampler, training, held_out

    def dataset(self) -> Dataset[VolumeSample]:
        """The samples of the seed."""
        return SampleStream(self._sampler, self._training)

    def collate(self, samples: list[VolumeSample]) -> VolumeBatch:
        """Samples as one batch of CPU tensors."""
        return collate(samples)

    def losses(self, model: nn.Module, batch: VolumeBatch) -> dict[str, Tensor]:
        """The loss of one step and its parts, each with its weight."""
        log = self._training.network.fusion.log
        return volume_losses(model(batch), batch, self._training.objective, log=log)

    def evaluate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """See `held_out_figures`."""
        batches = (
            VolumeBatch(*(part.to(device) for part in collate([sample])))
            for sample in self._held_out
        )
        with torch.no_grad():
            return held_out_figures((model(batch), batch) for batch in batches)
