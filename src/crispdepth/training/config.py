"""What a training run can be told; light enough for the command line's help."""

from dataclasses import dataclass
from typing import Literal

from crispdepth.models.volume.config import MaskSource
from crispdepth.training.schedule import Decay

VolumeStage = Literal["stereo", "fusion", "both"]
OverlapLoss = Literal["absolute", "entropy"]
Variant = Literal["layered", "direct-composite", "direct-paired"]


@dataclass(frozen=True)
class FitConfig:
    """How long and how fast to learn, whatever is learned."""

    steps: int = 30_000
    """Steps of the optimizer."""

    batch: int = 8
    """Samples per step, over all processes."""

    lr: float = 5e-4
    """Learning rate of AdamW before it falls; the paper's large network used 1e-4."""

    warmup: int = 200
    """Steps over which the learning rate rises from 0."""

    decay: Decay = "tenfold"
    """How the learning rate falls: tenfold at 60 % and at 80 % of the steps (layered refinement),
    or halved after half of them (VolumeFusion)."""

    weight_decay: float = 1e-2
    """Weight decay of AdamW."""

    clip: float = 1.0
    """Longest gradient; a longer one is scaled to this length. 0 clips nothing."""

    ema: float = 0.999
    """Decay of the running mean of the weights, which is what is evaluated and kept; 0 keeps the
    weights as they are."""

    bf16: bool = False
    """Compute in bfloat16 where that is safe (autocast): on GPUs, and on CPUs that have it."""

    every: int = 500
    """Steps between evaluations on the held-out samples; each ends with a checkpoint."""

    workers: int = 1
    """Processes that make samples; 0 makes them in the training process."""

    seed: int = 0
    """Decides the first weights and all samples."""

    cpu: bool = False
    """Use the CPU even if there is a GPU."""

    def __post_init__(self) -> None:
        for name, least in (
            ("steps", 1),
            ("batch", 1),
            ("every", 1),
            ("workers", 0),
            ("warmup", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be {least} or more, got {getattr(self, name)}.")
        if not self.lr > 0 or self.weight_decay < 0 or self.clip < 0:
            raise ValueError(
                "lr must be above 0, weight_decay and clip at least 0, got "
                f"{self.lr:g}, {self.weight_decay:g} and {self.clip:g}."
            )
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must be in [0, 1), got {self.ema:g}.")


@dataclass(frozen=True)
class LayeredObjective:
    """What a layered refinement network learns."""

    variant: Variant = "layered"
    """Both layers (the paper), or the refined map itself: from composites, or from frames with
    their own instances as masks."""

    gate_weight: float = 1.0
    """Weight of the gate's loss beside the depth losses, for presets with a gate."""

    gate_tolerance: float = 0.1
    """How much nearer to the truth, on the scale of 0 to 10, the layer must be for the gate to
    open."""

    caution: float = 0.0
    """Weight of the loss of what refining makes worse beside the depth losses; the paper has none.
    The higher, the surer the gate must be to open."""

    boundary_weight: float = 1.0
    """Weight of pixels along the mask's boundary in the loss of a layer; 1 is the paper's."""

    hidden_weight: float = 1.0
    """Weight of pixels elsewhere that the refined map does not show; 1 is the paper's."""

    def __post_init__(self) -> None:
        for name in (
            "gate_weight",
            "gate_tolerance",
            "caution",
            "boundary_weight",
            "hidden_weight",
        ):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name):g}.")


@dataclass(frozen=True)
class MultiviewStage:
    """A part of the training of the multi-view network, with samples of one size."""

    share: float
    """Of all steps, in relation to the shares of the other stages."""

    size: tuple[int, int]
    """Height and width of the views, multiples of 32."""

    views: tuple[int, int]
    """The fewest and the most views of a sample; each step draws a number for its batch."""

    batch: int
    """Samples per step, over all processes."""

    def __post_init__(self) -> None:
        if not self.share > 0 or self.batch < 1:
            raise ValueError(
                "A stage has a share above 0 and a batch of 1 or more, got "
                f"{self.share:g} and {self.batch}."
            )
        if min(self.size) < 32 or self.size[0] % 32 or self.size[1] % 32:
            raise ValueError(
                f"Height and width must be multiples of 32, got {self.size[0]} x {self.size[1]}."
            )
        if not 2 <= self.views[0] <= self.views[1]:
            raise ValueError(f"Two views or more make a sample, got {self.views}.")


def parse_curriculum(text: str) -> tuple[MultiviewStage, ...]:
    """Stages such as ``0.6 128x160 2-4 8, 0.4 192x256 3 4``: share, size, views, batch.

    Raises:
        ValueError: it is no such text, or a number is out of range.
    """
    stages = []
    for part in text.split(","):
        try:
            share, size, views, batch = part.split()
            height, width = map(int, size.split("x"))
            fewest, _, most = views.partition("-")
            numbers = float(share), (height, width), (int(fewest), int(most or fewest)), int(batch)
        except ValueError as error:
            raise ValueError(
                f"A stage reads SHARE HEIGHTxWIDTH VIEWS BATCH, such as 0.5 192x256 2-4 6; "
                f"got {part.strip()!r}."
            ) from error
        stages.append(MultiviewStage(*numbers))
    return tuple(stages)


@dataclass(frozen=True)
class MultiviewObjective:
    """What the multi-view network learns."""

    gamma: float = 0.9
    """Weight of a prediction's loss beside that of the next finer one."""

    planes: float = 0.1
    """Weight of the cross entropy of the coarse planes."""

    gradient: float = 0.5
    """Weight of gradient matching over scales."""

    edge: float = 5.0
    """How much more than other pixels those along the mask's outline count."""

    edge_radius: int = 2
    """Pixels to either side that belong to the outline."""

    outside: float = 0.2
    """How much pixels beside the object count in samples that have a mask."""

    depth: float = 1.0
    """Weight of the depth of all predictions itself, its scale included."""

    scale_shift: float = 0.0
    """Weight of depth up to scale and shift of its inverse; with --depth 0 --gradient 0 --planes 0
    in place of the others, for depth whose scale is not that of the poses."""

    pairs: float = 0.0
    """Weight of what each source alone says, beside how sure it is of it, where the network has
    uncertainty=true."""

    rendering: float = 0.0
    """Weight of what the Gaussians show, colour and alpha, where the network makes some."""

    objects: float = 0.0
    """Weight of which of several objects they show, where samples tell them apart."""

    rendered_views: int = 0
    """Views of a sample that are rendered a step, its last ones; 0: all."""

    held_back: int = 0
    """Views of a sample, its last ones, that the network is not shown: there the Gaussians of the
    others are judged by what they were not made from."""

    references: int = 0
    """Views of a sample whose depth is asked for; 0: all."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value >= 0:
                raise ValueError(f"{name} must be at least 0, got {value:g}.")


@dataclass(frozen=True)
class VolumeObjective:
    """What the network of volumetric fusion learns; the weights are the paper's."""

    stage: VolumeStage = "fusion"
    """stereo: depths and overlap masks. fusion: signed distances from depths that are known
    already. both: end to end, the depths of the stereo are fused."""

    depth: float = 1.0
    """Weight of the loss of depths (stereo, both)."""

    overlap: float = 0.5
    """Weight of the loss of overlap masks (stereo, both)."""

    overlap_loss: OverlapLoss = "absolute"
    """absolute: the mean difference, as in the paper; where most pixels overlap it soon says so of
    all, and has no gradient left. entropy: cross entropy, which always has one."""

    tsdf: float = 2.0
    """Weight of the loss of signed distances (fusion, both)."""

    mask_source: MaskSource = "truth"
    """Which overlap masks say what depths are fused (both): the true ones, those predicted, or
    these cut at 1/2, as in use."""

    trust: bool = True
    """Whether depths count by their confidence, or overlap mask, in the fusion; else all alike, to
    compare: weights of such a run are not exported, because in use confidence counts."""

    def __post_init__(self) -> None:
        for name in ("depth", "overlap", "tsdf"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name):g}.")
