"""``crispdepth multiview``: depth of every view of a posed scene."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import OmitArgPrefixes, arg

from crispdepth import __version__
from crispdepth.cli.errors import ExitCode, UsageError
from crispdepth.cli.layered import check_folder
from crispdepth.cli.scene_input import SceneOptions, open_input
from crispdepth.cli.terminal import Terminal
from crispdepth.tasks.multiview_config import MultiviewConfig

SETTINGS = "multiview.json"
"""Where a folder of depths says how they were made."""


@dataclass(frozen=True)
class MultiviewOptions(SceneOptions):
    """Write the depth of every view of a scene of posed photos, masks respected.

    `crispdepth multiview SCENE -o depths`
    For a photo sub/012.jpg: depths/sub/012.jpg.exr (depth with its meaning in the header) and
    depths/sub/012.jpg.confidence.png. Views that are there already are not
    done again, not even if photos or masks have changed: --overwrite does them.
    """

    # Folder of the depths.
    out: Annotated[Path, arg(aliases=["-o"], metavar="DIR")] = Path("depths")

    # How depth is found: classical matching, the multi-view network, or the stereo of volumetric
    # fusion.
    method: Literal["classical", "multiview", "stereo"] = "classical"

    # Weights of the network: a folder of exported ones. Without it, the shipped ones.
    weights: str | None = None

    config: OmitArgPrefixes[MultiviewConfig] = field(default_factory=MultiviewConfig)

    # Where to compute: cpu, or cuda.
    device: str = "cpu"

    # Do views again that are done.
    overwrite: bool = False


def run(options: MultiviewOptions) -> int:
    """Run ``crispdepth multiview`` and return its exit code.

    Raises:
        UsageError: weights without the method that they are for, depths, which this command
            does not read, or a file in the place of the folder.
        ImportError: torch is not installed; the message names the extra.
        OSError, ValueError: the scene cannot be read or matched, or the folder holds other depths.
    """
    from crispdepth.cli.torch_extra import require_device, require_network

    require_network(options.method, options.weights)
    if options.depths is not None:
        raise UsageError(
            "--depths: this command finds depth from the photos alone. What reads depths is "
            "`crispdepth fuse`, `splat` and `reconstruct --method given`."
        )
    check_folder(options.out)
    try:
        import torch

        from crispdepth.tasks.multiview import estimate_depths, require_matchable
    except ModuleNotFoundError as error:
        raise ImportError(
            f'Depth from several views needs {error.name}: pip install "crispdepth[torch]"'
        ) from error
    from crispdepth.api.networks import load_depth_network
    from crispdepth.io.view_depths import has_view_depth, write_view_depth
    from crispdepth.ops.mask_contract import evidence

    terminal = Terminal(options.quiet, json=False, bar=not options.no_progress)
    require_device(options.device)
    device = torch.device(options.device)
    loaded = load_depth_network(options.method, options.weights)
    scene = open_input(options).scene
    terminal.say(*scene.notes)
    require_matchable(scene)
    settings = _settings(options, None if loaded is None else loaded.sha256)
    _require_same(options, settings)
    missing = [
        index
        for index, name in enumerate(scene.names)
        if options.overwrite or not has_view_depth(options.out, name)
    ]
    confirmed = looked_for = 0.0
    with terminal.progress(len(missing)) as advance:
        depths = estimate_depths(
            scene,
            options.config,
            indices=missing,
            network=None if loaded is None else loaded.network,
            device=device,
            note=terminal.say,
        )
        for index, found in depths:
            if not looked_for:  # where nothing can be found nothing is written
                _claim(options.out, settings)
            weight = evidence(scene[index].masks, found.depth.size).weight
            looked_for += 1 if weight is None else max(float((weight >= 0.5).mean()), 1e-6)
            print(write_view_depth(options.out, scene.names[index], found))
            confirmed += float(found.trusted.mean())
            advance()
    done = len(scene) - len(missing)
    terminal.say(
        f"{len(missing)} of {len(scene)} views matched"
        + (
            f", {confirmed / looked_for:.0%} of their pixels (in masks) confirmed"
            if missing
            else ""
        )
        + (f"; {done} were done before (--overwrite does them again)" if done else "")
        + f". Depths are in {options.out}."
    )
    return ExitCode.OK


def _settings(options: MultiviewOptions, weights: Mapping[str, str] | None) -> dict[str, Any]:
    """What depths depend on, apart from photos and masks; JSON values."""
    reading = {
        "photos": options.photos and str(options.photos.resolve()),
        "masks": options.masks,
        "mask_role": options.mask_role,
        "invert_masks": options.invert_masks,
        "longest": options.longest,
    }
    settings = {
        "version": __version__,
        "method": options.method,
        **asdict(options.config),
        **reading,
    }
    return settings if weights is None else settings | {"weights": weights}


def _require_same(options: MultiviewOptions, settings: Mapping[str, Any]) -> None:
    """Depths of two settings must not stand side by side."""
    path = options.out / SETTINGS
    if path.is_file() and not options.overwrite:
        try:
            before = json.loads(path.read_text("utf-8"))
        except ValueError:
            before = None
        if before != settings:
            known = before if isinstance(before, dict) else {}
            names = [key for key in {**known, **settings} if known.get(key) != settings.get(key)]
            raise ValueError(
                f"{options.out} holds depths made with other settings than these ({path}): "
                f"{', '.join(names)} differ. Choose another folder, or replace them with "
                "--overwrite."
            )


def _claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """Record the settings in the folder."""
    from crispdepth.io.atomic import make_folder, remove_stale, write_text

    make_folder(folder)
    remove_stale(folder)
    write_text(folder / SETTINGS, json.dumps(settings, indent=2) + "\n")
