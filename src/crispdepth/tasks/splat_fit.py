"""Gaussians fitted to the photos they came from, with masks as truth for what is empty.

Two kinds of mask are two kinds of evidence (spec 2.21): role ``object`` says that pixels outside
are transparent, and is learned; role ``ignore`` says that nothing is known, and counts for nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crispdepth.ops.images import eight_bit
from crispdepth.ops.resample import size_within
from crispdepth.ops.splat import Rendered, Splats, render
from crispdepth.ops.splat_projection import rotation_matrices
from crispdepth.ops.ssim import ssim_map
from crispdepth.types import Gaussians, View

Progress = Callable[[int, float], object]
"""Called after every step with the number of steps done and the loss."""


@dataclass(frozen=True)
class FitOptions:
    """How Gaussians are fitted to photos."""

    # Steps, each on one photo; 0 leaves the Gaussians as they are.
    steps: int = 200

    # Longer side of the photos in pixels, at most.
    size: int = 480

    # Degree of the spherical harmonics, 0 to 3: how colour may change with the direction.
    degree: int = 1

    # Weight of structural dissimilarity; the rest is that of the absolute difference.
    dssim: float = 0.2

    # Weight of the squared difference of opacity and mask.
    alpha: float = 1.0

    # Share of the Gaussians that is split, those that pull most in different directions, each time.
    densify: float = 0.05

    # How often during the fit Gaussians are split, and faint ones removed.
    rounds: int = 2

    # Opacity below which a Gaussian is removed.
    prune: float = 0.02

    # Of the order of photos and of the backgrounds.
    seed: int = 0


class Target(NamedTuple):
    """What a view should look like."""

    image: Tensor  # (h, w, 3) in [0, 1]
    mask: Tensor | None  # (h, w) in [0, 1]: what is opaque; None: unknown
    weight: Tensor  # (h, w) in [0, 1]: how much a pixel counts, 0 where it is ignored
    K: Tensor  # (3, 3)
    cam_from_world: Tensor  # (4, 4)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        height, width = self.weight.shape
        return height, width


def target_of(view: View, longer: int, device: torch.device, only_object: bool = True) -> Target:
    """A view as a target, no larger than ``longer`` pixels.

    Without ``only_object``, masks of role object say nothing about what is empty.

    Raises:
        ValueError: the view has no camera.
    """
    if view.camera is None:
        raise ValueError(f"View {view.name!r} has no camera, so nothing can be fitted to it.")
    size = size_within(longer, view.camera.size)
    camera = view.camera.resized(size)

    def tensor(values: NDArray[np.float32]) -> Tensor:
        small = cv2.resize(values, size[::-1], interpolation=cv2.INTER_AREA)
        return torch.from_numpy(np.ascontiguousarray(small, np.float32)).to(device)

    mask, weight = None, torch.ones(size, device=device)
    if view.masks is not None and len(view.masks):
        union = np.max([view.masks[i] for i in range(len(view.masks))], axis=0)
        if view.masks.role == "object":
            mask = tensor(union) if only_object else None
        else:
            weight = (tensor(union) < 0.5).float()
    return Target(
        tensor(np.divide(eight_bit(view.image), 255, dtype=np.float32)),
        mask,
        weight,
        torch.tensor(camera.K, dtype=torch.float32, device=device),
        torch.tensor(camera.cam_from_world, dtype=torch.float32, device=device),
    )


def photo_loss(
    rendered: Rendered, target: Target, background: Tensor, options: FitOptions
) -> Tensor:
    """How far a render is from a photo: absolute difference, dissimilarity, and opacity.

    Each is a mean over the pixels that count; ignored ones have no gradient at all.

    Args:
        rendered: of the target's camera.
        target: with a mask, the photo is laid over the background where the mask is not.
        background: (3,), what lies behind both.
        options: the weights.
    """
    keep = target.weight
    total = keep.sum().clamp_min(1)
    shown = rendered.colour + (1 - rendered.alpha)[..., None] * background
    goal = target.image
    if target.mask is not None:
        goal = background + (goal - background) * target.mask[..., None]
    shown = torch.where(keep[..., None] > 0, shown, goal)
    loss = (1 - options.dssim) * ((shown - goal).abs().mean(dim=-1) * keep).sum() / total
    if options.dssim:
        similar = ssim_map(shown.permute(2, 0, 1), goal.permute(2, 0, 1)).mean(dim=0)
        loss = loss + options.dssim * ((1 - similar) * keep).sum() / total
    if target.mask is not None and options.alpha:
        difference = torch.where(keep > 0, rendered.alpha - target.mask, 0.0)
        loss = loss + options.alpha * (difference.square() * keep).sum() / total
    return loss


def fit_gaussians(
    gaussians: Gaussians,
    views: Sequence[View],
    options: FitOptions = FitOptions(),
    *,
    device: torch.device | None = None,
    only_object: bool = True,
    progress: Progress = lambda done, loss: None,
) -> Gaussians:
    """Gaussians that look more like the photos; the same for the same seed and device.

    Adam, on one photo a step in an order drawn anew each time round, over a background of a
    random colour, so that only opacity can hide it.

    Raises:
        ValueError: there is nothing to fit or no photo to fit it to, or an option is out of range.
    """
    _check(gaussians, views, options)
    if not options.steps:
        return gaussians
    device = device or torch.device("cpu")
    targets = [target_of(view, options.size, device, only_object) for view in views]
    rng = torch.Generator().manual_seed(options.seed)
    state = _State(gaussians, options, device)
    # Nearer than a few of its own sizes, a Gaussian would fill the frame.
    near = 4 * float(np.median(gaussians.scales.max(axis=1)))
    changes = {round(options.steps * (i + 1) / (options.rounds + 1)) for i in range(options.rounds)}
    order: list[int] = []
    for step in range(options.steps):
        order = order or torch.randperm(len(targets), generator=rng).tolist()
        target = targets[order.pop()]
        background = torch.rand(3, generator=rng).to(device)
        rendered = render(state.splats(), target.K, target.cam_from_world, target.size, near=near)
        rendered.means.retain_grad()
        loss = photo_loss(rendered, target, background, options)
        state.step(loss, rendered.means, step / options.steps)
        if step + 1 in changes:
            state.densify_and_prune(options)
        progress(step + 1, float(loss.detach()))
    return state.gaussians(options.prune)


# Rates of Adam; places move in units of each Gaussian's own size at the start.
_RATES = {
    "offsets": 0.05,
    "scales": 0.02,
    "quaternions": 0.01,
    "opacities": 0.1,
    "base": 0.02,
    "more": 0.004,
}
_SLOWEST = 0.1  # what is left of the rates at the end


class _State:
    """Parameters, what Adam remembers of each, and how hard each Gaussian was pulled."""

    def __init__(self, gaussians: Gaussians, options: FitOptions, device: torch.device) -> None:
        def tensor(values: NDArray[np.float32]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)

        sh = torch.zeros(len(gaussians), (options.degree + 1) ** 2, 3, device=device)
        given = tensor(gaussians.sh)[:, : sh.shape[1]]
        sh[:, : given.shape[1]] = given
        self.start = tensor(gaussians.means)
        self.unit = tensor(gaussians.scales).amax(dim=1, keepdim=True)
        self.labels = None if gaussians.labels is None else torch.tensor(gaussians.labels)
        self.values = {
            "offsets": torch.zeros_like(self.start),
            "scales": tensor(gaussians.scales).log(),
            "quaternions": tensor(gaussians.rotations),
            "opacities": torch.logit(tensor(gaussians.opacities), eps=1e-3),
            "base": sh[:, :1],
            "more": sh[:, 1:],
        }
        self._renew()

    def splats(self) -> Splats:
        values = self.values
        return Splats(
            self.start + values["offsets"] * self.unit,
            values["scales"].exp(),
            values["quaternions"],
            values["opacities"].sigmoid(),
            torch.cat([values["base"], values["more"]], dim=1),
        )

    def step(self, loss: Tensor, places: Tensor, done: float) -> None:
        torch.autograd.backward(loss)
        assert places.grad is not None  # retained
        self.pull += places.grad.norm(dim=1)
        for group in self.adam.param_groups:
            group["lr"] = _RATES[group["name"]] * _SLOWEST**done
        self.adam.step()
        self.adam.zero_grad()

    @torch.no_grad()
    def densify_and_prune(self, options: FitOptions) -> None:
        """Split those that were pulled most along their longest axis; remove the faint."""
        kept = self.values["opacities"].sigmoid() >= options.prune
        pull = torch.where(kept, self.pull, 0.0)
        count = int(options.densify * int(kept.sum()))
        split = torch.topk(pull, count).indices if count else kept.new_zeros(0, dtype=torch.long)
        splats = self.splats()
        longest = splats.scales[split].argmax(dim=1)
        rows = torch.arange(len(split), device=longest.device)
        axes = rotation_matrices(splats.quaternions[split])[rows, :, longest]
        shift = axes * (splats.scales[split, longest] / 2)[:, None] / self.unit[split]
        chosen = torch.cat([kept.nonzero()[:, 0], split])
        for name, value in self.values.items():
            self.values[name] = value[chosen].detach()
        place = torch.full((len(kept),), -1, device=kept.device)
        place[kept] = torch.arange(int(kept.sum()), device=kept.device)
        first, second = place[split], len(chosen) - len(split) + rows
        for which, sign in ((first, 1), (second, -1)):
            self.values["offsets"][which] += sign * shift
            self.values["scales"][which, longest] += float(np.log(0.6))
        self.start, self.unit = self.start[chosen], self.unit[chosen]
        if self.labels is not None:
            self.labels = self.labels[chosen.cpu()]
        self._renew()

    @torch.no_grad()
    def gaussians(self, prune: float) -> Gaussians:
        kept = self.values["opacities"].sigmoid() >= prune
        splats = self.splats()
        turns = torch.nn.functional.normalize(splats.quaternions, dim=1)

        def array(values: Tensor) -> NDArray[np.float32]:
            return values[kept].cpu().numpy()

        return Gaussians(
            array(splats.means),
            array(splats.scales.clamp_min(1e-12)),
            array(turns),
            array(splats.opacities),
            array(splats.sh),
            None if self.labels is None else self.labels[kept.cpu()].numpy(),
        )

    def _renew(self) -> None:
        for value in self.values.values():
            value.requires_grad_()
        groups = [{"params": [v], "name": name} for name, v in self.values.items() if v.numel()]
        self.adam = torch.optim.Adam(groups, lr=0.0, eps=1e-15)
        self.pull = torch.zeros(len(self.start), device=self.start.device)


def _check(gaussians: Gaussians, views: Sequence[View], options: FitOptions) -> None:
    if not len(gaussians) or not views:
        raise ValueError(f"{len(gaussians)} Gaussians cannot be fitted to {len(views)} photos.")
    for allowed, words in (
        (options.steps >= 0, f"steps are 0 or more, got {options.steps}"),
        (options.size >= 16, f"size is 16 pixels or more, got {options.size}"),
        (options.degree in range(4), f"degree is 0 to 3, got {options.degree}"),
        (0 <= options.dssim <= 1, f"dssim is from 0 to 1, got {options.dssim:g}"),
        (options.alpha >= 0, f"alpha is 0 or more, got {options.alpha:g}"),
        (0 <= options.densify <= 1, f"densify is from 0 to 1, got {options.densify:g}"),
        (options.rounds >= 0, f"rounds are 0 or more, got {options.rounds}"),
        (0 <= options.prune < 1, f"prune is from 0 to below 1, got {options.prune:g}"),
    ):
        if not allowed:
            raise ValueError(f"Fitting: {words}.")
