"""What Gaussians of several views show, against the photos and masks they were made from."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from crispdepth.data.multiview_samples import KINDS, MOST_OBJECTS
from crispdepth.ops.splat import Splats, render
from crispdepth.training.multiview_batch import MultiviewBatch
from crispdepth.training.multiview_losses import alpha_loss, colour_loss, object_loss


def rendering_losses(
    splats: Sequence[Splats],
    batch: MultiviewBatch,
    background: Tensor,
    views: int = 0,
    *,
    objects: bool = False,
) -> dict[str, Tensor]:
    """Colour and alpha of the renderings of the last ``views`` views, each a mean over views.

    What is beside the object is empty in samples of the kind ``rgba``, and in those of the kind
    ``object`` it may be anything: the photo shows what was not asked for (2.21).

    Args:
        splats: of each sample, in the world of its cameras; those of the pixels of its first
            views, view by view and row by row.
        batch: the samples.
        background: (3,) behind the renderings and the photos; a random one shows where alpha is
            wrong.
        views: how many are rendered of each sample; 0: all.
        objects: judge also which object is seen where (2.12), in samples that show two or more:
            a Gaussian is of the object of its pixel, what is of none is one more of them. 0 if no
            sample does.
    """
    count = batch.depth.shape[1]
    size = batch.depth.shape[-2], batch.depth.shape[-1]
    losses: dict[str, list[Tensor]] = {"render_colour": [], "render_alpha": []}
    if objects:
        losses["render_objects"] = []
    for number, each in enumerate(splats):
        kind = KINDS[int(batch.kind[number])]
        apart = objects and bool(batch.objects[number].amax() > 0)
        if apart:
            labels = batch.objects[number].flatten()[: len(each.means)].long()
            each = each._replace(labels=labels)
        for view in range(max(count - views, 0) if views else 0, count):
            shown = render(
                each,
                batch.K[number, view],
                batch.cam_from_world[number, view],
                size,
                objects=(MOST_OBJECTS + 1) * apart,
            )
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
            if apart:
                true = F.one_hot(batch.objects[number, view].long(), MOST_OBJECTS + 1)
                true = true.movedim(-1, 0) * (1 - transparent)
                losses["render_objects"].append(object_loss(shown.objects, true, ignore=ignore))
    none = batch.depth.new_zeros(())
    return {name: torch.stack(parts).mean() if parts else none for name, parts in losses.items()}
