"""``crispdepth scene info``: what a scene is, seen by reading all of it."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crispdepth.cli.errors import ExitCode
from crispdepth.cli.scene_input import SceneOptions, open_input
from crispdepth.cli.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable

    from crispdepth.io.scenes import OpenScene
    from crispdepth.types import View


@dataclass(frozen=True)
class SceneInfoOptions(SceneOptions):
    """Say what a scene is: views, sizes, masks, depth, unit, and what was assumed.

    `crispdepth scene info FOLDER`. Every photo, mask and depth map is read once, so a scene that
    passes is whole.
    """

    # Print the findings as JSON.
    json: bool = False


def run(options: SceneInfoOptions) -> int:
    """Run ``crispdepth scene info`` and return its exit code.

    Raises:
        UsageError: an option is out of range.
        OSError, ValueError: the scene cannot be read.
    """
    found = open_input(options)
    terminal = Terminal(options.quiet, options.json, bar=not options.no_progress)
    with terminal.progress(len(found.scene)) as advance:
        facts = describe(found, advance)
    if options.json:
        print(json.dumps(facts))
        return ExitCode.OK
    for name, text in _rows(facts):
        print(f"{name:<10}{text}")
    return ExitCode.OK


def describe(found: "OpenScene", advance: "Callable[[], object]") -> dict[str, Any]:
    """The facts of a scene as JSON values; reads every view."""
    import numpy as np

    scene = found.scene
    views = []
    for index in range(len(scene)):
        views.append(_view_facts(scene[index]))
        advance()
    centres = np.stack(
        [-c.cam_from_world[:3, :3].T @ c.cam_from_world[:3, 3] for c in scene.cameras]
    )
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    return {
        "name": scene.name,
        "format": found.format,
        "unit": scene.unit,
        "bounds": scene.bounds,
        "source_scale": float(np.cbrt(np.linalg.det(scene.source_from_world[:3, :3]))),
        "camera_extent": np.ptp(centres, axis=0).tolist(),
        "median_step": float(np.median(steps)) if len(steps) else None,
        "points": None if scene.points is None else len(scene.points),
        "mesh": scene.mesh is not None,
        "notes": list(scene.notes),
        "views": views,
    }


def _view_facts(view: "View") -> dict[str, Any]:
    import numpy as np

    assert view.camera is not None  # a scene's views have one
    coverage = None
    if view.masks is not None:
        covered = np.zeros(view.masks.size, np.float32)
        for index in range(len(view.masks)):
            np.maximum(covered, view.masks[index], out=covered)
        coverage = float(covered.mean())
    depth = None
    if view.depth is not None:
        usable = view.depth.values[view.depth.usable]
        ends = [float(usable.min()), float(usable.max())] if usable.size else None
        depth = {"valid": float(view.depth.usable.mean()), "range": ends}
    height, width = view.camera.size
    return {
        "name": view.name,
        "size": [width, height],
        "focal_px": [float(view.camera.K[0, 0]), float(view.camera.K[1, 1])],
        "masks": None if view.masks is None else len(view.masks),
        "mask_role": None if view.masks is None else view.masks.role,
        "mask_coverage": coverage,
        "depth": depth,
    }


def _rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """The facts as a table of two columns."""
    views, unit = facts["views"], "m" if facts["unit"] == "m" else "units"
    sizes = Counter(f"{width}x{height}" for width, height in (view["size"] for view in views))
    fov = [_degrees(view["size"][0], view["focal_px"][0]) for view in views]
    extent = " x ".join(f"{side:.3g}" for side in facts["camera_extent"])
    step = "" if facts["median_step"] is None else f", {facts['median_step']:.3g} {unit} apart"
    rows = [
        ("scene", f"{facts['name']} ({facts['format']})"),
        ("views", f"{len(views)}, {_counted(sizes)}, angle of view {_span(fov, '.1f')} degrees"),
        ("cameras", f"within {extent} {unit}{step}"),
        ("masks", _mask_text(views)),
        ("depth", _depth_text(views)),
        ("unit", "metres" if facts["unit"] == "m" else "relative: the source's own"),
    ]
    if facts["bounds"]:
        near, far = facts["bounds"]
        rows.append(("bounds", f"{near:.4g} to {far:.4g} {unit}"))
    if facts["points"] is not None:
        rows.append(("points", str(facts["points"])))
    if facts["mesh"]:
        rows.append(("mesh", "the true surface"))
    return rows + [("note", note) for note in facts["notes"]]


def _mask_text(views: list[dict[str, Any]]) -> str:
    with_masks = [view for view in views if view["masks"] is not None]
    if not with_masks:
        return "none: where the object is is unknown"
    covered = [100 * view["mask_coverage"] for view in with_masks]
    role = with_masks[0]["mask_role"]
    empty = sum(share == 0 for share in covered)
    text = (
        f"{len(with_masks)} of {len(views)} views, role {role}, covering {_span(covered, '.1f')} %"
    )
    return text + (f", {empty} of them empty" if empty else "")


def _depth_text(views: list[dict[str, Any]]) -> str:
    with_depth = [view["depth"] for view in views if view["depth"]]
    if not with_depth:
        return "none"
    valid = _span([100 * depth["valid"] for depth in with_depth], ".1f")
    ends = [end for depth in with_depth if depth["range"] for end in depth["range"]]
    return f"{len(with_depth)} of {len(views)} views, {_span(ends, '.3g')} m, {valid} % valid"


def _span(values: list[float], form: str) -> str:
    """The smallest and largest, or the one value they all have when rounded."""
    if not values:
        return "nothing"
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"


def _counted(sizes: Counter[str]) -> str:
    if len(sizes) == 1:
        return next(iter(sizes))
    return ", ".join(f"{count} of {size}" for size, count in sizes.most_common())


def _degrees(length: float, focal: float) -> float:
    import math

    return math.degrees(2 * math.atan(length / 2 / focal))
