"""Learned fusion with what it puts aside in a folder, so that it can go on there."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from crispdepth.io.kept import KeptArrays
from crispdepth.tasks.fuse_config import FuseConfig
from crispdepth.types import Mesh, View, ViewDepth

if TYPE_CHECKING:
    from crispdepth.api.scene import Watch
    from crispdepth.models.volume.network import VolumeNetwork
    from crispdepth.tasks.hull import Hull


def learned_mesh(
    views: Iterable[tuple[View, ViewDepth]],
    count: int,
    network: "VolumeNetwork",
    config: FuseConfig,
    folder: str | Path,
    *,
    hull: "Hull | None" = None,
    device: str = "cpu",
    watch: "Watch",
) -> Mesh:
    """The surface that the network of volumetric fusion makes of depths and photos, with colours.

    Args:
        views: photos with cameras, and their depths in the unit of the scene.
        count: how many they are.
        network: in evaluation mode.
        config: with a voxel size.
        folder: for the features of views and the answers of tiles. Those that are there are taken
            for what an interrupted run with the same views, network and voxels has left.
        hull: see `crispdepth.tasks.fuse.fuse`.
        device: torch's name of where to compute.
        watch: is told what happens.

    Raises:
        ImportError: scikit-image is not installed.
        OSError: a file cannot be read or written.
        ValueError: as `crispdepth.tasks.fuse.fuse`, or the memory is too small.
    """
    from crispdepth.tasks.fuse import surface
    from crispdepth.tasks.volume_fuse import gather, plan, regress, volume_config

    config, kept = volume_config(config, network), KeptArrays(folder)
    with watch.progress(count) as on_view:
        volume, gathered = gather(
            views, network, config, kept, hull=hull, device=device, on_view=on_view
        )
    tiles = plan(volume, network, config)
    number = f"{len(tiles)} tile{'s' * (len(tiles) > 1)}"
    watch.say(f"learned fusion of {len(volume.store)} blocks in {number}")
    with watch.progress(len(tiles)) as on_tile:
        regress(volume, gathered, tiles, network, kept, on_tile=on_tile)
    return surface(volume, config, hull)
