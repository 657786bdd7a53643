"""From the depths of a scene's views to Gaussians that have been fitted to its photos."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch

from crispdepth.models.engines import make_completer
from crispdepth.tasks.reconstruct_config import SPLATS, ReconstructConfig
from crispdepth.tasks.refine import refine_depth
from crispdepth.tasks.splat import PixelOptions, merge_gaussians, pixel_gaussians
from crispdepth.tasks.splat_boundary import decompose
from crispdepth.tasks.splat_fit import FitOptions, fit_gaussians
from crispdepth.types import Gaussians, View, ViewDepth

_CELL = 1.5  # side of the cubes in which Gaussians become one, in distances between pixels
_FEW, _MANY = 0.7, 2.0  # of the Gaussians that were meant: fewer is too few, more too many
_OVERLAP = 4  # views that show a surface, about: so many pixels become one Gaussian


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` of ``count`` numbers, evenly spread, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [int(i) for i in np.unique(np.linspace(0, count - 1, most).round())]


def make_splats(
    views: Iterable[tuple[View, ViewDepth]],
    config: ReconstructConfig,
    *,
    device: str = "cpu",
    on_step: Callable[[], object] = lambda: None,
) -> Gaussians:
    """Gaussians on the surfaces of the depths, merged, cut at the masks and fitted to the photos.

    Where views have masks of role object, Gaussians are of the object alone, and what is outside
    of the masks is taken for empty.

    Args:
        views: a few tens at most, see `spread`; their photos stay in memory.
        config: see `ReconstructConfig`.
        device: torch's name of where to compute.
        on_step: called after each step of the fit.

    Raises:
        ValueError: no view has a depth to start from.
    """
    views = list(views)
    budget = SPLATS[config.quality]
    pixels = sum(int((depth.confidence > 0).sum()) for _, depth in views)
    if not pixels:
        raise ValueError(
            "No view has a pixel of known depth, so there is nothing to make Gaussians of."
        )
    step = max(1, round(math.sqrt(pixels / (_OVERLAP * budget.gaussians))))
    gaussians = _placed(views, step)
    while step > 1 and len(gaussians) < _FEW * budget.gaussians:  # more views overlap than thought
        step -= 1
        finer = _placed(views, step)
        if len(finer) > _MANY * budget.gaussians:
            break
        gaussians = finer
    fit = FitOptions(steps=budget.steps, size=budget.size, seed=config.seed)
    photos = [view for view, _ in views]
    gaussians = fit_gaussians(
        gaussians,
        photos,
        fit,
        device=torch.device(device),
        progress=lambda done, loss: on_step(),
    )
    return _cut_at_masks(gaussians, photos)


def refined_depth(view: View, found: ViewDepth) -> ViewDepth:
    """Matched depth after layered refinement with the masks of objects (spec B.8).

    What is valid, and how sure it is, stays, and what was only filled; a view without such masks
    stays as it is.
    """
    masks, trusted = view.masks, found.trusted
    if masks is None or masks.role != "object" or not trusted.any():
        return found
    rough = replace(found.depth, valid=trusted)
    try:
        crisp = refine_depth(view.image, rough, masks, completer=make_completer()).depth
    except ValueError:  # constant: there is nothing to refine
        return found
    values = np.where(trusted, crisp.values, found.depth.values)
    depth = replace(crisp, values=values, valid=found.depth.usable)
    return ViewDepth(depth, found.confidence)


def _placed(views: Sequence[tuple[View, ViewDepth]], step: int) -> Gaussians:
    """One Gaussian where views show the same, of every ``step``-th pixel in rows and columns."""
    options = PixelOptions(step=step)
    parts = [pixel_gaussians(view, depth, options) for view, depth in views]
    return merge_gaussians(parts, _CELL * step)


def _cut_at_masks(gaussians: Gaussians, views: Sequence[View]) -> Gaussians:
    """None reaches across the border of an object in any view."""
    for view in views:
        if view.masks is not None and view.masks.role == "object" and len(view.masks):
            assert view.camera is not None  # as `pixel_gaussians` has seen
            union = np.max([view.masks[index] for index in range(len(view.masks))], axis=0)
            gaussians = decompose(gaussians, view.camera, union)
    return gaussians
