"""One photo of `refine`: its files read, or made by models, and refined; nothing is written."""

import os
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from crispdepth.cli.batch import Job
from crispdepth.models.engines import facts_of

if TYPE_CHECKING:
    from crispdepth.cli.refine import RefineOptions
    from crispdepth.models.monocular import DepthModel
    from crispdepth.models.salient import SalientMask
    from crispdepth.types import LayerCompleter, RefinedDepth


class Models(NamedTuple):
    """What is loaded once for all photos of a run."""

    completer: "LayerCompleter"
    depth: "DepthModel | None" = None  # None: depth files are read
    mask: "SalientMask | None" = None  # None: mask files are read

    @property
    def facts(self) -> dict[str, object]:
        """What decides their answers, as JSON values."""
        makers = [maker for maker in (self.depth, self.mask) if maker]
        return facts_of(self.completer) | {k: v for each in makers for k, v in each.facts.items()}


def load_models(options: "RefineOptions") -> Models:
    """The models that the options name.

    Raises:
        UsageError: an option is not for the model.
        OSError, ValueError: a model is not there, or is damaged.
        ImportError: an extra is missing.
    """
    models = Models(options.engine.load())
    if options.depth_model is not None:
        if options.quiet:  # transformers reads it when it is imported
            os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        from crispdepth.models.monocular import load_depth_model

        pixels = None if options.depth_model_input == "auto" else options.depth_model_input
        models = models._replace(depth=load_depth_model(options.depth_model, pixels))
    if options.finds_masks:
        from crispdepth.models.salient import DEFAULT_MASK_MODEL, SalientMask

        models = models._replace(mask=SalientMask(options.mask_model or DEFAULT_MASK_MODEL))
    return models


def refine_photo(
    job: Job, models: Models, options: "RefineOptions", keep_layers: bool
) -> "RefinedDepth":
    """Read one job's files and refine; what was assumed comes first in the notes.

    Raises:
        OSError, ValueError: a file is missing, cannot be read, or is not what it should be.
    """
    from crispdepth.api import refine_values
    from crispdepth.io.depths import read_depth
    from crispdepth.io.images import read_image
    from crispdepth.io.masks import masks_from_alpha, read_masks
    from crispdepth.tasks.refine import RefineConfig

    if options.mask and not job.masks and models.mask is None:
        raise ValueError("no mask matches this photo")
    photo = read_image(job.photo, name="the photo")
    kind = None if options.depth_kind == "auto" else options.depth_kind
    unit = None if options.depth_unit == "auto" else options.depth_unit
    if models.depth is not None:
        depth, stated = models.depth(photo.rgb, kind=kind, unit=unit)
    elif job.depth is not None:
        depth, stated = read_depth(job.depth, kind=kind, unit=unit, scale=options.depth_scale)
    else:
        raise ValueError("no depth file matches this photo")
    if models.mask is not None:
        found = models.mask(photo.rgb)
        masks, mask_notes = read_masks(
            [found], role=options.mask_role, invert=options.invert_mask, layout="soft"
        )
        mask_notes = (f"mask from the network {models.mask.name} of rembg",)
    elif job.masks:
        masks, mask_notes = read_masks(
            job.masks,
            role=options.mask_role,
            white=job.white,
            invert=options.invert_mask,
            layout=options.mask_layout,
        )
    elif photo.alpha is not None:
        alpha = 1 - photo.alpha if options.invert_mask else photo.alpha
        masks, mask_notes = masks_from_alpha(alpha, options.mask_role), ()
    else:
        raise ValueError(
            "this photo has neither a mask file nor transparency; name its --mask, or --mask auto"
        )
    config = RefineConfig(hard_masks=options.hard_masks, keep_layers=keep_layers)
    try:
        refined = refine_values(photo.rgb, depth, masks, completer=models.completer, config=config)
    except ValueError as error:
        made_by = models.depth.name if models.depth else job.depth
        files = ", ".join(map(str, (made_by, *(job.masks or ["an automatic mask"]))))
        raise ValueError(f"{error} The files are {files}.") from error
    notes = [stated, *mask_notes, *refined.notes]
    if options.png_scale is not None and (depth.kind, depth.unit) != ("depth", "m"):
        notes.append("--png-scale is unused: this is no depth in metres, so its PNG is stretched.")
    return replace(refined, notes=tuple(notes))


def provenance(job: Job, models: Models, options: "RefineOptions") -> dict[str, object]:
    """What the sidecars say about the origin of a result."""
    return {
        "photo": job.name,
        "depth": job.depth.name if job.depth else None,
        "masks": [mask.name for mask in job.masks],
        "hard_masks": options.hard_masks,
        **models.facts,
    }
