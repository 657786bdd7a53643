"""``crispdepth train depths``: the depths that the training of fusion starts from."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, arg

from crispdepth.cli.errors import ExitCode, UsageError
from crispdepth.cli.terminal import Terminal
from crispdepth.cli.torch_extra import require_network
from crispdepth.cli.train import Format
from crispdepth.tasks.multiview_config import MultiviewConfig


@dataclass(frozen=True)
class TrainDepthsOptions:
    """Find the depths of packs by matching, once, for `crispdepth train volume --depths DIR`.

    `crispdepth train depths rooms.pack -o rooms.depths`. What is there already is kept, so an
    interrupted command goes on where it stopped.
    """

    data: Annotated[Positional[tuple[Path, ...]], arg(metavar="DIR", help_behavior_hint="")]
    """Packs (`crispdepth train pack`) of posed frames, or folders of a dataset."""

    out: Annotated[Path, arg(aliases=["-o"], metavar="DIR")]
    """Folder of the depths, one for each method."""

    method: Literal["multiview", "classical", "stereo"] = "multiview"
    """The multi-view network, untrained matching, or the stereo of volumetric fusion: with
    --consistent 0 as the paper fuses it, with its overlap masks as confidence."""

    weights: str | None = None
    """Weights of the network: a folder of exported ones. Without it, the shipped ones."""

    data_format: Format = "rendered"
    """Format of folders that are no packs."""

    every: int = 1
    """Of the scenes take 0, N, 2N, ..."""

    config: OmitArgPrefixes[MultiviewConfig] = field(
        default_factory=lambda: MultiviewConfig(quality="preview", consistent=1)
    )

    no_progress: bool = False
    """Do not show progress."""


def run(options: TrainDepthsOptions) -> int:
    """Run ``crispdepth train depths``.

    Raises:
        UsageError: an option is out of range, weights are given for matching that has none, or
            datasets have scenes of the same name.
        ImportError: torch is not installed; the message names the extra.
        OSError, ValueError: the data cannot be used, or a file not be written.
    """
    from crispdepth.data.posed_scenes import posed_scenes
    from crispdepth.data.split import open_frames

    if options.every < 1:
        raise UsageError(f"--every must be 1 or more, got {options.every}.")
    require_network(options.method, options.weights)
    try:
        from crispdepth.training.rough_depths import cache_depths
    except ModuleNotFoundError as error:
        raise ImportError(
            f'Training needs {error.name}: pip install "crispdepth[torch]"'
        ) from error
    from crispdepth.api.networks import load_depth_network

    loaded = load_depth_network(options.method, options.weights)
    network = None if loaded is None else loaded.network
    terminal = Terminal(quiet=False, json=False, bar=not options.no_progress)
    owners: dict[str, Path] = {}
    opened = []
    for folder in options.data:
        frames = open_frames(folder, options.data_format)
        scenes = posed_scenes(frames)[:: options.every]
        for scene in scenes:
            if owners.setdefault(scene.name, folder) != folder:
                raise UsageError(
                    f"{owners[scene.name]} and {folder} both have a scene {scene.name!r}, whose "
                    "depths would be the same files; rename one of them."
                )
        opened.append((frames, scenes))
    for frames, scenes in opened:
        with terminal.progress(len(scenes)) as advance:
            cache_depths(scenes, frames, options.out, options.config, network, on_scene=advance)
    print(options.out)
    return ExitCode.OK
