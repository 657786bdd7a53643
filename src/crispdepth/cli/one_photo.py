"""One photo of `refine`: its files read, or made by models, and refined; nothing is written."""

import os
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from crispdepth.cli.batch import Job
from crispdepth.models.engines import facts_of

if TYPE_CHECKING:
    from crispdepth.cli.refine import RefineOptions
    from crispdepth.io.images import Photo
    from crispdepth.models.monocular import DepthModel
    from crispdepth.models.salient import SalientMask
    from crispdepth.types import DepthMap, LayerCompleter, MaskSet, RefinedDepth


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
    from crispdepth.io.images import read_image
    from crispdepth.tasks.refine import RefineConfig

    if models.depth is None and job.depth is None:
        raise ValueError("no depth file matches this photo")
    if models.mask is None and options.mask and not job.masks:
        raise ValueError("no mask matches this photo")
    photo = read_image(job.photo, name="the photo")
    depth, stated = _depth(photo, job, models, options)
    masks, mask_notes = _masks(photo, job, models, options)
    config = RefineConfig(hard_masks=options.hard_masks, keep_layers=keep_layers)
    try:
        refined = refine_values(photo.rgb, depth, masks, completer=models.completer, config=config)
    except ValueError as error:
        files = [str(file) for file in (job.depth, *job.masks) if file]
        made = [maker.name for maker in (models.depth, models.mask) if maker]
        text = f"{error} The files are {', '.join(files)}." if files else str(error)
        text += f" The networks are {', '.join(made)}." if made else ""
        raise ValueError(text) from error
    notes = [stated, *mask_notes, *refined.notes]
    if options.png_scale is not None and (depth.kind, depth.unit) != ("depth", "m"):
        notes.append("--png-scale is unused: this is no depth in metres, so its PNG is stretched.")
    return replace(refined, notes=tuple(notes))


def _depth(
    photo: "Photo", job: Job, models: Models, options: "RefineOptions"
) -> tuple["DepthMap", str]:
    from crispdepth.io.depths import read_depth

    kind = None if options.depth_kind == "auto" else options.depth_kind
    unit = None if options.depth_unit == "auto" else options.depth_unit
    if models.depth is not None:
        return models.depth(photo.rgb, kind=kind, unit=unit)
    assert job.depth is not None  # `refine_photo` has looked
    return read_depth(job.depth, kind=kind, unit=unit, scale=options.depth_scale)


def _masks(
    photo: "Photo", job: Job, models: Models, options: "RefineOptions"
) -> tuple["MaskSet", tuple[str, ...]]:
    from crispdepth.io.masks import masks_from_alpha, read_masks

    role, invert = options.mask_role, options.invert_mask
    if models.mask is not None:
        found = models.mask(photo.rgb)
        masks, _ = read_masks([found], role=role, invert=invert, layout="soft")
        return masks, (f"mask from the network {models.mask.name} of rembg",)
    if job.masks:
        return read_masks(
            job.masks, role=role, white=job.white, invert=invert, layout=options.mask_layout
        )
    if photo.alpha is None:
        raise ValueError(
            "this photo has neither a mask file nor transparency; name its --mask, or --mask auto"
        )
    return masks_from_alpha(1 - photo.alpha if invert else photo.alpha, role), ()


def provenance(job: Job, models: Models, options: "RefineOptions") -> dict[str, object]:
    """What the sidecars say about the origin of a result."""
    return {
        "photo": job.name,
        "depth": job.depth.name if job.depth else None,
        "masks": [mask.name for mask in job.masks],
        "hard_masks": options.hard_masks,
        **models.facts,
    }
