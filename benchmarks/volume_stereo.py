"""The stereo of volumetric fusion: expectation of depth (equation 3) against inverse depth.

    python benchmarks/volume_stereo.py RUN --data rooms.pack [--samples 32] [--views 3]

``RUN`` is a training by `crispdepth train volume`; of each pack the last scenes are measured, a
twentieth of its frames (``--held-out``), which the training holds out too. Both expectations are
of the same logits. Writes volume_stereo.md: AbsRel, its median, RMSE and the share within 25 %
(delta 1) of the pixels that truly overlap, of those the network says do, and of all; how many these
are; how well the overlap mask is found; process time.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import tyro
from torch import Tensor

from crispdepth.data.multiview_config import MultiviewSampleConfig
from crispdepth.data.multiview_samples import MultiviewSampler
from crispdepth.data.split import hold_out, open_frames
from crispdepth.io.atomic import write_text
from crispdepth.models.volume.config import Expectation, StereoConfig
from crispdepth.models.volume.features import STRIDE
from crispdepth.models.volume.stereo import OVERLAPS, StereoNetwork, expected_depth
from crispdepth.ops.cost_volume import resized_intrinsics
from crispdepth.training.checkpoint import read_weights
from crispdepth.training.fit import BEST, CONFIG
from crispdepth.training.multiview_batch import MultiviewBatch, collate
from crispdepth.training.multiview_losses import coarse_truth
from crispdepth.training.volume_losses import overlap_truth

RESULTS = Path(__file__).parent / "results"
SEED = 2**31 - 1
EXPECTATIONS: tuple[Expectation, ...] = ("depth", "inverse")


@dataclass(frozen=True)
class Options:
    """Measure the stereo of a trained run."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the training."""

    data: tuple[Path, ...]
    """Packs (`crispdepth train pack`) of posed rooms."""

    held_out: float = 0.05
    """Share of the frames of each pack, as in the training."""

    samples: int = 32
    """Samples of the packs together."""

    views: int = 3
    """Views of each; the first is the reference."""

    size: tuple[int, int] = (240, 320)
    """Height and width of the photos, multiples of 4."""

    threads: int = 1
    """Of torch."""


class Sample(NamedTuple):
    """What was found and what is true of one reference; maps (h, w)."""

    depths: dict[Expectation, Tensor]
    overlap: Tensor
    true_depth: Tensor  # 0 = unknown
    true_overlap: Tensor
    seconds: float


def main(options: Options) -> None:
    """Measure and write the table."""
    torch.set_num_threads(options.threads)
    network = load(options.run)
    _, held_out = hold_out(
        [open_frames(path, "rendered") for path in options.data], options.held_out
    )
    config = MultiviewSampleConfig(masked_objects=0, masked_others=0).faultless()
    sampler = MultiviewSampler(held_out, config)
    samples = [
        measured(network, collate([sampler.draw(SEED, index, options.size, options.views)]))
        for index in range(options.samples)
    ]
    lines = [
        "| pixels | share % | expectation of | AbsRel % | median % | RMSE m | delta 1 % |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    regions = {
        "that overlap": [each.true_overlap for each in samples],
        "in the predicted mask": [_known(each) & (each.overlap > OVERLAPS) for each in samples],
        "all that are known": [_known(each) for each in samples],
    }
    for region, where in regions.items():
        share = 100 * float(torch.cat(where).float().mean())
        for expect in EXPECTATIONS:
            lines.append(
                f"| {region} | {share:.1f} | {expect} | {_cells(samples, where, expect)} |"
            )
    size = f"{options.size[0]} x {options.size[1]}"
    lines += [
        "",
        f"{len(samples)} samples of {options.views} views at {size}. {_mask_line(samples)} "
        f"{np.median([each.seconds for each in samples]):.2f} s of process time a reference "
        f"(median, threads of torch: {options.threads}).",
    ]
    print("\n".join(lines))
    write_text(RESULTS / "volume_stereo.md", "\n".join(lines) + "\n")


def load(run: Path) -> StereoNetwork:
    """The stereo network of a run with its best weights."""
    settings: dict[str, Any] = json.loads((run / CONFIG).read_text("utf-8"))["network"]["stereo"]
    numbers: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
    }
    network = StereoNetwork(StereoConfig(**numbers))
    prefix = "stereo."
    weights = {
        name.removeprefix(prefix): tensor
        for name, tensor in read_weights(run / BEST).items()
        if name.startswith(prefix)
    }
    network.load_state_dict(weights, strict=True)
    return network.eval()


@torch.inference_mode()
def measured(network: StereoNetwork, batch: MultiviewBatch) -> Sample:
    """The first view of a batch of one sample."""
    images = batch.images.float() / 255
    began = time.process_time()
    found = network(images, batch.K, batch.cam_from_world, references=1)
    seconds = time.process_time() - began
    logits = found.logits[:, 0]
    depths = {
        expect: expected_depth(logits, network.depths(logits), expect)[0] for expect in EXPECTATIONS
    }
    depth, known = coarse_truth(batch.depth, batch.depth > 0, STRIDE)
    depth = torch.where(known, depth, 0.0)
    (height, width), (h, w) = images.shape[-2:], depth.shape[-2:]
    K = resized_intrinsics(batch.K, (height, width), (h, w))
    overlap = overlap_truth(depth, K, batch.cam_from_world, references=1)
    return Sample(depths, found.overlap[0, 0], depth[0, 0], overlap[0, 0], seconds)


def _known(sample: Sample) -> Tensor:
    return sample.true_depth > 0


def _cells(samples: Sequence[Sample], where: Sequence[Tensor], expect: Expectation) -> str:
    """Figures over all pixels of all samples."""
    found = torch.cat([each.depths[expect][at] for each, at in zip(samples, where, strict=True)])
    true = torch.cat([each.true_depth[at] for each, at in zip(samples, where, strict=True)])
    share = (found - true).abs() / true
    rmse = (found - true).square().mean().sqrt()
    close = torch.maximum(found / true, true / found) < 1.25
    return (
        f"{100 * share.mean():.2f} | {100 * share.median():.2f} | {rmse:.3f} | "
        f"{100 * close.float().mean():.1f}"
    )


def _mask_line(samples: Sequence[Sample]) -> str:
    """Of the pixels that are known; most overlap, so what does not tells how good the mask is."""
    found = torch.cat([(each.overlap <= OVERLAPS)[_known(each)] for each in samples])
    true = torch.cat([~each.true_overlap[_known(each)] for each in samples])
    both = (found & true).sum()
    return (
        f"No overlap: true of {100 * true.float().mean():.1f} %, found with a precision of "
        f"{100 * both / found.sum().clamp_min(1):.1f} % and a recall of "
        f"{100 * both / true.sum().clamp_min(1):.1f} %."
    )


if __name__ == "__main__":
    main(tyro.cli(Options))
