"""What wrong masks do to the depth, and whether the tool says so.

    python benchmarks/mask_robustness.py --data DIR

``DIR`` holds the dataset folders rooms and settings; the frames are those of refine_quality.py. Of
each photo the mask of the largest instance that lies wholly in it is spoiled in several ways;
photos without one are left out. Lengths are pixels of a photo whose longer side is 320. How often
right masks are advised against is counted on all masks of the photos. Writes mask_robustness.md and
mask_robustness.json.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import tyro

from crispdepth.data.datasets import Sample
from crispdepth.data.datasets.scene_json import SceneDataset
from crispdepth.data.strokes import disk, wobble
from crispdepth.evaluation.depth import rmse
from crispdepth.geometry.align import TargetNorm, fit_scale_shift, normalise_target
from crispdepth.geometry.depth import inverse_depth, scale_to_completer
from crispdepth.io.atomic import write_text
from crispdepth.models.classical import ClassicalCompleter
from crispdepth.models.learned import LearnedCompleter
from crispdepth.models.weights import DEFAULT
from crispdepth.ops.band import signed_distance
from crispdepth.tasks.mask_advice import NOT_FOLLOWED
from crispdepth.tasks.refine import RefineConfig, refine_depth
from crispdepth.types import BoolMap, LayerCompleter, MaskSet
from refine_quality import RUNS

DATASETS = ("rooms", "settings")
LONGER_SIDE = 320
BAND = 16  # on either side of the mask's boundary: there the depth may change
STRENGTHS = (4, 8, 16)  # how far masks are shifted, grown, ..., and the radius of their holes
HOLES = 12
NOISE_LENGTH = 12  # wavelength of noise along the boundary
SOFTNESS = 2  # standard deviation of the blur of soft masks
WORSE = 0.01  # share by which the error may grow before a photo counts as worse
SEED = 0
NEAREST = cv2.INTER_NEAREST

Rng = np.random.Generator
Spoil = Callable[[BoolMap, float, Rng], BoolMap]
"""The mask, how many pixels one pixel of a photo of `LONGER_SIDE` is, random numbers."""


@dataclass(frozen=True)
class Options:
    """Measure refinement with wrong masks."""

    data: Path
    """Folder with the dataset folders rooms and settings."""

    weights: str = DEFAULT
    """Weights of crispdepth: shipped ones by name, or a folder."""

    out: Path = Path(__file__).parent / "results"
    """Where mask_robustness.md and mask_robustness.json go."""


@dataclass(frozen=True)
class Outcome:
    """One photo, one mask, one method."""

    dataset: str
    sample: str
    method: str
    mask: str
    largest: float  # change outside the band, on the scale of 0 to 10
    most: float  # what 99.9 % of the pixels outside the band stay below
    rmse_initial: float
    rmse_refined: float
    noted: bool  # whether the result came with a note
    advised: bool  # whether a note said that the mask does not follow the edges of the photo

    @property
    def is_worse(self) -> bool:
        return self.rmse_refined > (1 + WORSE) * self.rmse_initial


def shifted(mask: BoolMap, scale: float, rng: Rng, *, by: float) -> BoolMap:
    """Moved in a random direction; nothing comes in from outside."""
    angle = rng.uniform(0, 2 * np.pi)
    x, y = by * scale * np.cos(angle), by * scale * np.sin(angle)
    move = np.array([[1, 0, x], [0, 1, y]])
    size = mask.shape[::-1]
    return _bool(cv2.warpAffine(mask.astype(np.uint8), move, size, flags=NEAREST))


def dilated(mask: BoolMap, scale: float, rng: Rng, *, by: float) -> BoolMap:
    return _bool(cv2.dilate(mask.astype(np.uint8), disk(by * scale)))


def eroded(mask: BoolMap, scale: float, rng: Rng, *, by: float) -> BoolMap:
    return _bool(cv2.erode(mask.astype(np.uint8), disk(by * scale)))


def with_holes(mask: BoolMap, scale: float, rng: Rng, *, by: float) -> BoolMap:
    """Discs cut out at random places of the mask."""
    holed = mask.astype(np.uint8)
    for y, x in rng.choice(np.argwhere(mask), HOLES):
        cv2.circle(holed, (int(x), int(y)), round(by * scale), 0, cv2.FILLED)
    return _bool(holed)


def with_noise(mask: BoolMap, scale: float, rng: Rng, *, by: float) -> BoolMap:
    """A boundary that wanders."""
    return _bool(wobble(mask.astype(np.uint8), rng, by * scale, NOISE_LENGTH * scale))


SPOILED: dict[str, Spoil] = {
    "right": lambda mask, scale, rng: mask,
    **{
        f"{name} {by} px": partial(spoil, by=by)
        for name, spoil in (
            ("shifted by", shifted),
            ("dilated by", dilated),
            ("eroded by", eroded),
            ("with holes of radius", with_holes),
            ("boundary noise of", with_noise),
        )
        for by in STRENGTHS
    },
    "empty": lambda mask, scale, rng: np.zeros_like(mask),
    "full": lambda mask, scale, rng: np.ones_like(mask),
    "inverted": lambda mask, scale, rng: ~mask,
}
OTHER = "of another photo"


def main(options: Options) -> None:
    completers: dict[str, LayerCompleter] = {
        "classical": ClassicalCompleter(),
        "crispdepth": LearnedCompleter(options.weights),
    }
    outcomes: list[Outcome] = []
    alarms: list[str] = []
    for run in RUNS:
        if run.dataset in DATASETS:
            dataset = run.open(options.data)
            outcomes += measure(dataset, run.gt_norm, completers)
            alarms += [false_alarms(dataset, blur) for blur in (0, SOFTNESS)]
    text = "\n".join([table(outcomes), *alarms, ""])
    print(text)
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / "mask_robustness.md", text)
    report = [asdict(outcome) for outcome in outcomes]
    write_text(options.out / "mask_robustness.json", json.dumps(report, indent=1) + "\n")


def measure(
    dataset: SceneDataset, gt_norm: TargetNorm, completers: dict[str, LayerCompleter]
) -> Iterator[Outcome]:
    """Every method on every photo with every mask."""
    found = [(frame, largest_whole(frame.read())) for frame in dataset.frames]
    usable = [(frame, mask) for frame, mask in found if mask is not None]
    for index, (frame, right) in enumerate(usable):
        sample = frame.read()
        scale = max(right.shape) / LONGER_SIDE
        masks = {
            name: spoil(right, scale, np.random.default_rng([SEED, index]))
            for name, spoil in SPOILED.items()
        }
        # From halfway through the dataset: of another scene, where there are several.
        _, other = usable[(index + len(usable) // 2) % len(usable)]
        size = right.shape[::-1]
        masks[OTHER] = _bool(cv2.resize(other.astype(np.uint8), size, None, 0, 0, NEAREST))
        for method, completer in completers.items():
            for name, mask in masks.items():
                yield outcome(dataset.name, sample, gt_norm, method, completer, name, mask)


def false_alarms(dataset: SceneDataset, blur: float) -> str:
    """How many of all right masks, as they are or softened, the tool advises against."""
    masks = advised = 0
    for sample in dataset:
        values = np.stack([sample.masks[index] for index in range(len(sample.masks))])
        if blur:
            sigma = blur * max(sample.masks.size) / LONGER_SIDE
            values = np.stack([cv2.GaussianBlur(each, (0, 0), sigma) for each in values])
        refined = refine_depth(sample.image, sample.initial, MaskSet(values.clip(0, 1)))
        masks += len(values)
        advised += sum(NOT_FOLLOWED in note for note in refined.notes)
    which = f"blurred by {blur} px" if blur else "as they are"
    return (
        f"{dataset.name}: advised against {advised} of all {masks} right masks, {which} "
        f"({advised / masks:.1%})."
    )


def largest_whole(sample: Sample) -> BoolMap | None:
    """The largest mask that does not touch the border of the photo."""
    masks = [sample.masks[index] >= 0.5 for index in range(len(sample.masks))]
    inner = (slice(1, -1), slice(1, -1))
    whole = [mask for mask in masks if np.count_nonzero(mask[inner]) == np.count_nonzero(mask)]
    return max(whole, key=np.count_nonzero, default=None)


def outcome(
    dataset: str,
    sample: Sample,
    gt_norm: TargetNorm,
    method: str,
    completer: LayerCompleter,
    name: str,
    mask: BoolMap,
) -> Outcome:
    """Refine one photo with one mask and see what changed."""
    refined = refine_depth(
        sample.image,
        sample.initial,
        MaskSet(mask[None]),
        completer=completer,
        config=RefineConfig(keep_layers=False),
    )
    before, after = inverse_depth(sample.initial), inverse_depth(refined.depth)
    outside = sample.initial.usable.copy()
    if mask.any() and not mask.all():
        outside &= np.abs(signed_distance(mask)) > BAND * max(mask.shape) / LONGER_SIDE
    gain = scale_to_completer(before, sample.initial.usable).gain
    change = gain * np.abs(after - before)[outside]

    valid = sample.depth.usable & sample.initial.usable
    truth = normalise_target(inverse_depth(sample.depth), valid, gt_norm)
    error_before, error_after = (
        rmse(fit_scale_shift(each, truth, valid).apply(each), truth, valid)
        for each in (before, after)
    )
    return Outcome(
        dataset,
        sample.name,
        method,
        name,
        float(change.max(initial=0)),
        float(np.quantile(change, 0.999)) if change.size else 0.0,
        error_before,
        error_after,
        bool(refined.notes),
        any(NOT_FOLLOWED in note for note in refined.notes),
    )


def table(outcomes: Sequence[Outcome]) -> str:
    """What happened for each dataset, mask and method."""
    photos = len({(each.dataset, each.sample) for each in outcomes})
    lines = [
        f"{photos} photos with one mask each, that of the largest instance wholly in the photo.",
        "Pixels are those of a photo whose longer side is 320. Change: of inverse depth on the",
        f"scale of 0 to 10, more than {BAND} px from the boundary of the mask that was given",
        "(everywhere, if it has none): the largest in all photos, and what 99.9 % of the pixels",
        "of a photo stay below, mean over photos. RMSE: mean over photos. Worse: photos whose RMSE",
        f"grew by more than {100 * WORSE:g} %. Noted: photos whose result came with a note;",
        "advised against: with the note that the mask does not follow the edges of the photo.",
        "",
        "| dataset | mask | method | largest change | 99.9 % | RMSE initial | RMSE refined | worse "
        "| noted | advised against |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    groups: dict[tuple[str, str, str], list[Outcome]] = {}
    for each in outcomes:
        groups.setdefault((each.dataset, each.mask, each.method), []).append(each)
    order = [*SPOILED, OTHER]
    for key, group in sorted(groups.items(), key=lambda kv: (kv[0][0], order.index(kv[0][1]))):
        lines.append(
            f"| {' | '.join(key)} | {max(each.largest for each in group):.2f} "
            f"| {np.mean([each.most for each in group]):.2f} "
            f"| {np.mean([each.rmse_initial for each in group]):.4f} "
            f"| {np.mean([each.rmse_refined for each in group]):.4f} "
            f"| {np.mean([each.is_worse for each in group]):.0%} "
            f"| {np.mean([each.noted for each in group]):.0%} "
            f"| {np.mean([each.advised for each in group]):.0%} |"
        )
    return "\n".join([*lines, ""])


def _bool(mask: object) -> BoolMap:
    return np.asarray(mask, bool)


if __name__ == "__main__":
    main(tyro.cli(Options))
