"""Invented scenes, rendered: what `crispdepth synth` makes, one scene at a time."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from crispdepth.data.datasets.scene_json import SOFT_INSTANCE
from crispdepth.data.develop import choose_film, develop
from crispdepth.data.render import Renderer
from crispdepth.data.scene_folder import Frame, write_scene_folder
from crispdepth.data.scenes3d.assets import Assets
from crispdepth.data.scenes3d.licences import OWN
from crispdepth.data.scenes3d.room import draw_room
from crispdepth.data.scenes3d.tabletop import draw_tabletop
from crispdepth.data.scenes3d.views import Arrangement, choose_views
from crispdepth.types import Size

Kind = Literal["rooms", "objects"]


@dataclass(frozen=True)
class SynthSettings:
    """What decides, together with its number and the assets, every file of a scene."""

    kind: Kind
    seed: int
    size: Size  # (height, width), pixels
    samples: int  # light paths per pixel
    frames: int  # per scene
    arrangement: Arrangement


def scene_name(kind: Kind, index: int) -> str:
    """What the folder of scene number ``index`` is called."""
    return f"{kind.removesuffix('s')}_{index:06d}"


def make_scene(folder: Path, index: int, settings: SynthSettings, assets: Assets) -> Path:
    """Invent scene number ``index``, render it and write its folder into ``folder``.

    Equal settings and assets give an equal scene, whatever was made before. First comes
    `crispdepth.data.render.use_mitsuba`.

    Raises:
        OSError: it cannot be written.
    """
    rng = np.random.default_rng([settings.seed, index, settings.kind == "rooms"])
    assets, taken = assets.watched()
    scene = (draw_room if settings.kind == "rooms" else draw_tabletop)(rng, assets)
    renderer = Renderer(scene)
    cameras = choose_views(
        rng, scene, renderer.trace, settings.frames, settings.arrangement, settings.size
    )
    traced = renderer.trace(cameras)
    seeds = [int(seed) for seed in rng.integers(2**31, size=len(cameras))]
    radiance = [
        renderer.photograph(camera, settings.samples, seed)
        for camera, seed in zip(cameras, seeds, strict=True)
    ]
    film = choose_film(rng, radiance)
    frames = [
        Frame(camera, develop(rng, picture, film), *seen)
        for camera, picture, seen in zip(cameras, radiance, traced, strict=True)
    ]
    if settings.kind == "objects":
        frames = [
            frame._replace(mask=renderer.coverage(frame.camera, frame.instances, SOFT_INSTANCE))
            for frame in frames
        ]
    facts = {
        "kind": settings.kind,
        "seed": settings.seed,
        "index": index,
        "spp": settings.samples,
        "exposure": film.exposure,
        "variant": renderer.variant,
        # Also of a thing for which there was no room: its shape may have decided where others are.
        "asset_licences": {"procedural": OWN}
        | {name: assets.licences[name] for name in sorted(taken)},
    }
    mesh, _ = scene.whole()
    path = folder / scene_name(settings.kind, index)
    write_scene_folder(path, frames, mesh, scene.names, facts)
    return path
