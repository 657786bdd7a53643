"""Each technique of the multi-view network off or on, at the same budget, with several seeds.

    python benchmarks/multiview_ablation.py --data rooms.pack objects.pack --init RUN [--steps 120]

Every variant starts from the best weights of one run (parts that it lacks are left out, parts that
only it has start as they are made, which changes nothing), is trained on for ``--steps`` with the
same samples, and is measured on the same held-out samples. Writes multiview_ablation.md: means of
the seeds and their largest distance from it. What is done is not done again (``--work``).
"""

import json
import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro

from crispdepth.data.multiview_config import MultiviewSampleConfig
from crispdepth.data.split import hold_out, open_frames
from crispdepth.io.atomic import write_text
from crispdepth.models.multiview.config import NO_MASKS, MultiviewNetworkConfig
from crispdepth.models.presets import MULTIVIEW
from crispdepth.training.config import FitConfig, MultiviewObjective, parse_curriculum
from crispdepth.training.fit import LOG
from crispdepth.training.multiview import MultiviewTraining, train

OBJECTIVE = MultiviewObjective(planes=0.3)

FIGURES = ("scene_abs_rel", "object_abs_rel", "object_band", "rgba_abs_rel", "rgba_band")


def networks(base: MultiviewNetworkConfig) -> dict[str, MultiviewNetworkConfig]:
    """Networks that differ from the shipped one in one thing, by what that is."""

    def masks(**changes: Any) -> MultiviewNetworkConfig:
        return replace(base, masks=replace(base.masks, **changes))

    return {
        "as shipped": base,
        "no masks": replace(base, masks=NO_MASKS),
        "without weights of source pixels (2.2)": masks(sources=False),
        "without the hull": masks(hull=False),
        "without the guide of upsampling (2.15)": masks(guide=False),
        "without lateral mask features": masks(lateral=False),
        "without the mask in the U-Net": masks(regulariser=False),
        "with confidence as a sigmoid (2.1)": masks(confidence="sigmoid"),
        "with confidence by distance (2.1)": masks(confidence="distance", temperature=1),
        "with soft gating (2.14)": masks(gating=True),
        "with adaptive convolution of features (2.15)": masks(pac=True),
        "with gates of skips (2.16)": masks(skip_gates=True),
        "with head groups (2.10 b)": masks(attention="heads"),
        "with hard head groups (2.10 b)": masks(attention="hard-heads"),
        "with head groups, free background (2.10 b)": masks(
            attention="heads", free_background=True
        ),
        "with epipolar and object masks (2.11)": masks(attention="epipolar"),
        "with separable attention (2.10 a)": masks(separable=True),
        "without pixel-wise view weights (2.4)": replace(base, view_weights=False),
        "with uncertainty (2.3)": replace(base, uncertainty=True),
        "with competing views (2.5)": replace(base, competing=True),
        "with the epipolar transformer (2.6)": replace(base, epipolar_transformer=True),
        "with edges, summed (2.7)": replace(base, edge_volume="sum"),
        "with edges, convex (2.7)": replace(base, edge_volume="convex"),
        "with patch costs (2.8)": replace(base, patch_blend=True),
        "with the monocular transformer (1.8, 2.17)": replace(base, monocular="vit"),
        "with the monocular transformer, tokens of the object (2.17 b)": replace(
            masks(tokens=4), monocular="vit"
        ),
        "with the monocular transformer, background replaced (2.17 c)": replace(
            masks(background=True), monocular="vit"
        ),
        "with the monocular transformer, groups of its heads (2.17 e)": replace(
            masks(patch_heads=True), monocular="vit"
        ),
        "expectation over all planes": replace(base, peak=0),
        "one scale": replace(base, planes=(base.planes[0], 0)),
    }


def objectives(
    base: MultiviewNetworkConfig,
) -> dict[str, tuple[MultiviewNetworkConfig, MultiviewObjective]]:
    """Losses that differ in one part, with the networks that they are for, by what that is."""
    gaussians = replace(base, gaussians=True)
    shown = replace(OBJECTIVE, rendering=0.5, rendered_views=1)
    return {
        "without gradient matching (2.18)": (base, replace(OBJECTIVE, gradient=0)),
        "without the weight at mask edges (2.19)": (base, replace(OBJECTIVE, edge=0)),
        "with the loss up to scale and shift (2.18)": (base, replace(OBJECTIVE, scale_shift=1)),
        "with uncertainty and the loss of pairs (2.3)": (
            replace(base, uncertainty=True),
            replace(OBJECTIVE, pairs=0.1),
        ),
        "with Gaussians and what they show (2.20, 2.21)": (gaussians, shown),
        "with Gaussians, what and whose they show (2.12)": (gaussians, replace(shown, objects=1)),
    }


@dataclass(frozen=True)
class Options:
    """Measure what each technique is worth."""

    data: tuple[Path, ...]
    """Packs (`crispdepth train pack`) of posed frames."""

    init: Path
    """The run to start from."""

    steps: int = 120
    """Steps of each variant."""

    seeds: int = 3
    """Trainings of each variant."""

    curriculum: str = "1 96x128 2-3 1"
    """Size, views and batch, as `crispdepth train multiview` has it."""

    held_out_samples: int = 40
    """Samples to measure on."""

    only: tuple[str, ...] = ()
    """Variants whose names contain one of these; all without it."""

    threads: int = 1
    """Of torch."""

    work: Path = Path("multiview-ablation")
    """Folder of the trainings."""

    out: Path = Path(__file__).parent / "results"
    """Where multiview_ablation.md goes."""


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    frames, held_out = hold_out([open_frames(path, "rendered") for path in options.data], 0.05)
    stages = parse_curriculum(options.curriculum)
    lines = [
        f"{options.steps} steps from the same weights, {options.seeds} seeds, samples of "
        f"{options.curriculum.split()[1]}; AbsRel in %, mean and largest distance from it.",
        "",
        "| variant | " + " | ".join(FIGURES) + " |",
        "|---|" + "---:|" * len(FIGURES),
    ]
    print("\n".join(lines), flush=True)
    base = MULTIVIEW["multiview-small"]
    variants = {name: (network, OBJECTIVE) for name, network in networks(base).items()}
    variants |= objectives(base)
    for name, (network, objective) in variants.items():
        if options.only and not any(part in name for part in options.only):
            continue
        runs = []
        for seed in range(options.seeds):
            fit = FitConfig(
                steps=options.steps,
                batch=max(stage.batch for stage in stages),
                lr=3e-4,
                warmup=20,
                ema=0.98,
                every=options.steps,
                workers=0,
                seed=seed,
                cpu=True,
            )
            training = MultiviewTraining(
                name, network, MultiviewSampleConfig(), stages, objective, fit
            )
            run = options.work / f"{''.join(c if c.isalnum() else '-' for c in name)}-{seed}"
            if not (run / LOG).is_file():
                train(
                    training,
                    frames,
                    held_out,
                    run,
                    init=options.init,
                    held_out_samples=options.held_out_samples,
                )
            runs.append(json.loads((run / LOG).read_text("utf-8").splitlines()[-1])["held_out"])
        lines.append(f"| {name} | " + " | ".join(_cell(runs, each) for each in FIGURES) + " |")
        print(lines[-1], flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / "multiview_ablation.md", "\n".join(lines) + "\n")


def _cell(runs: list[dict[str, float]], figure: str) -> str:
    values = [100 * run[figure] for run in runs if figure in run]
    if not values:
        return "–"
    mean = statistics.mean(values)
    return f"{mean:.2f} ± {max(abs(value - mean) for value in values):.2f}"


if __name__ == "__main__":
    main(tyro.cli(Options))
