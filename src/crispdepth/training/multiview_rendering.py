"""What Gaussians of several views show, against the photos and masks they were made from."""

from collections.abc import Sequence

import torch
from torch import Tensor

from crispdepth.data.multiview_samples import KINDS
from crispdepth.ops.splat import Splats, render
from crispdepth.training.multiview_batch import MultiviewBatch
from crispdepth.training.multiview_losses import alpha_loss, colour_loss


def rendering_losses(
    splats: Sequence[Splats], batch: MultiviewBatch, background: Tensor, views: int = 0
) -> dict[str, Tensor]:
    """Colour and alpha of the renderings of the last ``views`` views, each a mean over views.

    What is beside the object is empty in samples of the kind ``rgba``, and in those of the kind
    ``object`` it may be anything: the photo shows what was not asked for (2.21).

    Args:
        splats: of each sample, in the world of its cameras.
        batch: the samples.
        background: (3,) behind the renderings and the photos; a random one shows where alpha is
            wrong.
        views: how many are rendered of each sample; 0: all.
    """
    count = batch.depth.shape[1]
    size = batch.depth.shape[-2], batch.depth.shape[-1]
    losses: dict[str, list[Tensor]] = {"render_colour": [], "render_alpha": []}
    for number, each in enumerate(splats):
        kind = KINDS[int(batch.kind[number])]
        for view in range(max(count - views, 0) if views else 0, count):
            shown = render(each, batch.K[number, view], batch.cam_from_world[number, view], size)
            outside = 1 - batch.alpha[number, view, 0]
            transparent = outside if kind == "rgba" else torch.zeros_like(outside)
            ignore = outside if kind == "object" else None
            colour = colour_loss(
                shown.colour.permute(2, 0, 1),
                shown.alpha,
                batch.images[number, view].float() / 255,
                transparent,
                background[:, None, None],
                ignore=ignore,
            )
            losses["render_colour"].append(colour)
            losses["render_alpha"].append(alpha_loss(shown.alpha, transparent, ignore=ignore))
    return {name: torch.stack(parts).mean() for name, parts in losses.items()}
