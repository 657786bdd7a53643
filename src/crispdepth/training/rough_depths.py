"""The depths that samples of volumes start from: what matching finds in the frames of a dataset.

They take a second a view, so they are found once and kept in a folder beside the data, in the
format of `crispdepth.io.view_depths`; views are named as their frames.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from crispdepth.data.datasets import RgbdFrame
from crispdepth.data.posed_scenes import PosedScene
from crispdepth.io.view_depths import has_view_depth, write_view_depth
from crispdepth.models.multiview.network import MultiviewNetwork
from crispdepth.models.volume.stereo import StereoNetwork
from crispdepth.tasks.multiview import estimate_depths
from crispdepth.tasks.multiview_config import MultiviewConfig
from crispdepth.types import Scene, View


def cache_depths(
    scenes: Iterable[PosedScene],
    frames: Sequence[RgbdFrame],
    folder: Path,
    config: MultiviewConfig,
    network: MultiviewNetwork | StereoNetwork | None = None,
    *,
    on_scene: Callable[[], object] = lambda: None,
) -> None:
    """Write the depth of every posed frame that is not there yet.

    Args:
        scenes: those that are wanted, see `posed_scenes`.
        frames: that the scenes are of.
        folder: made if need be.
        config: of the matching.
        network: see `estimate_depths`; None: classical matching.
        on_scene: called after each scene.

    Raises:
        OSError: a file cannot be written.
        ValueError: a scene cannot be matched.
    """
    for posed in scenes:
        scene = _scene(posed, frames)
        missing = [i for i, name in enumerate(scene.names) if not has_view_depth(folder, name)]
        for index, found in estimate_depths(scene, config, indices=missing, network=network):
            write_view_depth(folder, scene.names[index], found)
        on_scene()


def _scene(posed: PosedScene, frames: Sequence[RgbdFrame]) -> Scene:
    """The frames as photos alone: what they know of depth is the truth, but for its bounds."""

    def read(index: int) -> View:
        frame = frames[posed.indices[index]]
        return View(frame.image, frame.name, posed.cameras[index])

    names = tuple(frames[index].name for index in posed.indices)
    return Scene(posed.name or "scene", names, posed.cameras, read, "m", posed.bounds)
